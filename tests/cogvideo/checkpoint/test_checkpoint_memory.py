"""What networks take and what machines have left."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from cogvideo.checkpoint import memory
from cogvideo.checkpoint.memory import (
    available_memory,
    linux_available,
    network_bytes,
    parameter_count,
    readable_bytes,
    require_memory,
)
from cogvideo.config import SIZES, ModelConfig
from cogvideo.errors import UserError
from cogvideo.network import Network

GB = 10**9


@pytest.mark.parametrize("kind", ["image", "video", "superres", "iterative"])
def test_parameters_are_counted_without_building(kind: str, small: ModelConfig, larger: ModelConfig) -> None:
    for config in (small, larger, SIZES["tiny"], SIZES["small"]):
        with torch.device("meta"):
            built = sum(parameter.numel() for parameter in Network(config, kind).parameters())
        assert parameter_count(config, kind) == built
        assert network_bytes(config, kind, torch.bfloat16) == 2 * built


def test_the_release_takes_what_its_authors_say() -> None:
    """7.7 billion parameters a stage, 6 billion of them in the image network (CogVideo, section 4)."""
    counts = {kind: parameter_count(SIZES["release"], kind) for kind in ("image", "video")}
    assert counts == {"image": 5_902_307_328, "video": 7_721_127_936}


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


MEMINFO = "MemTotal:       16000000 kB\nMemFree:         1000000 kB\nMemAvailable:    8000000 kB\n"
STAT = "anon 123\ninactive_file 300000000\nactive_file 200000000\n"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"proc/meminfo": MEMINFO}, 8_192_000_000),
        ({}, None),
        (
            {
                "proc/meminfo": MEMINFO,
                "proc/self/cgroup": "0::/user/job\n",
                "sys/fs/cgroup/user/job/memory.max": "4000000000\n",
                "sys/fs/cgroup/user/job/memory.current": "3000000000\n",
                "sys/fs/cgroup/user/job/memory.stat": STAT,
            },
            1_500_000_000,
        ),
        (
            {
                "proc/meminfo": MEMINFO,
                "proc/self/cgroup": "0::/user/job\n",
                "sys/fs/cgroup/user/job/memory.max": "max\n",
                "sys/fs/cgroup/user/job/memory.current": "3000000000\n",
                "sys/fs/cgroup/user/memory.max": "2000000000\n",
                "sys/fs/cgroup/user/memory.current": "1900000000\n",
            },
            100_000_000,
        ),
        (
            {
                "proc/meminfo": MEMINFO,
                "proc/self/cgroup": "5:cpu:/a\n4:memory:/docker/abc\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "1000000000\n",
                "sys/fs/cgroup/memory/memory.usage_in_bytes": "1200000000\n",
            },
            0,
        ),
        (
            {
                "proc/meminfo": MEMINFO,
                "proc/self/cgroup": "4:memory:/\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
                "sys/fs/cgroup/memory/memory.usage_in_bytes": "1200000000\n",
            },
            8_192_000_000,
        ),
    ],
    ids=["plain", "unknown", "own group", "group above", "first version, over its limit", "first version, unlimited"],
)
def test_what_linux_leaves(tmp_path: Path, files: dict[str, str], expected: int | None) -> None:
    assert linux_available(write(tmp_path, files)) == expected


def test_this_machine_has_some_memory_left() -> None:
    left = available_memory("cpu")
    assert left is None or 10_000_000 < left < 2**50
    fallback = memory._posix_available()
    assert fallback is None or fallback > 0


def test_too_much_is_one_line_with_both_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "available_memory", lambda device: 8 * GB)
    require_memory(8 * GB, "cpu", "stage1")
    with pytest.raises(UserError) as caught:
        require_memory(8 * GB + 50_000_000, "cpu", "stage1 in float32")
    assert str(caught.value).startswith(
        "not enough memory for stage1 in float32: 8.1 GB are needed on cpu, 8.0 GB are free; "
    )
    with pytest.raises(UserError, match=r"on cuda:1, .* another GPU"):
        require_memory(9 * GB, "cuda:1", "stage1")


def test_a_system_that_does_not_tell_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "available_memory", lambda device: None)
    require_memory(10**18, "cpu", "everything")
    assert available_memory("meta") is None


@pytest.mark.parametrize(
    ("size", "words"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (15_442_255_872, "15.4 GB"), (3 * 10**15, "3000.0 TB")],
)
def test_sizes_in_words(size: int, words: str) -> None:
    assert readable_bytes(size) == words
