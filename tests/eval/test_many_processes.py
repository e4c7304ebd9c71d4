"""`torchrun` on one, two and three processes (CPU): one result, whoever made what, whoever was killed."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from eval.records import SampleLine, read_result, read_samples, stable_view

# Two samples repeat each other, and different processes make them; `kill` and `fail` are done by the one that is named.
FUNCTION = """
import os, signal
from pathlib import Path
import numpy as np

def make(prompts, seeds, *, frames, height, width, ids):
    for name in ids:
        if Path("kill").exists() and (name, os.environ["RANK"]) == tuple(Path("kill").read_text().split()):
            os.kill(os.getpid(), signal.SIGKILL)
        if Path("fail").exists() and name == "00021":
            raise ValueError("no more memory")
    seeds = [7 if name in ("00007", "00022") else seed for name, seed in zip(ids, seeds)]
    coarse = [np.random.default_rng(s).integers(0, 256, (frames, height // 8, width // 8, 3), np.uint8) for s in seeds]
    return [clip.repeat(8, axis=1).repeat(8, axis=2) for clip in coarse]
"""
COMMAND = [
    *("ucf101", "--generator", "python:mine.py:make", "--samples", "40", "--real-samples", "48", "--batch-size", "2"),
    *("--metric", "fvd", "--metric", "clipsim", "--workers", "0", "--replicates", "20", "--partial", "--json"),
]
pytestmark = pytest.mark.slow


def start(place: Path, size: int, *more: str, home: Path | None = None) -> subprocess.CompletedProcess[str]:
    (place / "mine.py").write_text(FUNCTION)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COGEVAL_HOME": str(home or place / "home")}
    several = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(size)]
    launch = several if size > 1 else []
    command = [sys.executable, *launch, "-m", "cogeval", *COMMAND, *more]
    return subprocess.run(command, env=environment, cwd=place, capture_output=True, text=True, timeout=300, check=False)


def codes(done: subprocess.CompletedProcess[str]) -> list[int]:
    """How the processes ended that did not end well, by torchrun's report."""
    return [int(code) for code in re.findall(r"exitcode\s*:\s*(-?\d+)", done.stderr)]


def only_run(place: Path) -> Path:
    (run,) = (place / "runs" / "ucf101").iterdir()
    return run


def cheap(line: SampleLine) -> dict[str, object]:
    """The line without what it cost."""
    cost = {"seconds", "peak_memory_bytes", "gpu_seconds", "gpu_peak_bytes"}
    return line.model_dump(exclude=cost)


def features(run: Path) -> dict[str, np.ndarray]:
    return {
        f"{path.name}/{name}": values
        for path in sorted((run / "features").glob("*.npz"))
        for name, values in np.load(path).items()
    }


def is_same(run: Path, other: Path) -> None:
    assert run.name == other.name
    assert stable_view(read_result(run)) == stable_view(read_result(other))
    assert [*map(cheap, read_samples(run).values())] == [*map(cheap, read_samples(other).values())]
    one, two = features(run), features(other)
    assert one.keys() == two.keys()
    for name, values in one.items():
        np.testing.assert_array_equal(values, two[name])


def is_tidy(run: Path) -> None:
    assert not list(run.rglob("*.tmp"))
    assert not (run / "spool").exists()
    assert not (run / "parts").exists()


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> Path:
    """The run of one process, and its place: data and real features are in `home` from then on."""
    place = tmp_path_factory.mktemp("alone")
    done = start(place, 1)
    assert done.returncode == 4, done.stderr
    result = read_result(only_run(place))
    assert (result.status, result.counts.ok, result.counts.reasons) == ("partial", 39, {"duplicate": 1})
    return place


@pytest.mark.parametrize("size", [2, 3])
def test_the_number_of_processes_changes_no_number(alone, tmp_path, size):
    # A place of its own for the real features: all processes share in making them.
    done = start(tmp_path, size)
    assert set(codes(done)) == {4}, done.stderr
    run = only_run(tmp_path)
    is_same(only_run(alone), run)
    is_tidy(run)
    assert (run / "report.html").exists()
    assert read_result(run).environment["processes"] == str(size)
    assert json.loads(done.stdout)["runs"][0]["run"].endswith(run.name)
    # One process speaks: one JSON object, and each stage once.
    assert len(json.loads(done.stdout)["runs"]) == 1
    assert done.stderr.count("  score ") == 1


def test_a_killed_process_leaves_a_run_that_others_finish(alone, tmp_path):
    (tmp_path / "kill").write_text("00019 1")
    done = start(tmp_path, 3, home=alone / "home")
    assert -9 in codes(done), done.stderr
    run = only_run(tmp_path)
    assert not (run / "result.json").exists()
    before = read_samples(run)
    assert 0 < len(before) < 40
    assert len(list((run / "parts").glob("*.jsonl"))) > 1
    (tmp_path / "kill").unlink()
    done = start(tmp_path, 2, home=alone / "home")
    assert set(codes(done)) == {4}, done.stderr
    is_same(only_run(alone), run)
    is_tidy(run)
    # What was there was not made again.
    after = read_samples(run)
    assert {name: line.seconds for name, line in before.items()} == {name: after[name].seconds for name in before}


def test_an_error_of_one_process_is_one_line_and_ends_all(alone, tmp_path):
    (tmp_path / "fail").touch()
    done = start(tmp_path, 2, home=alone / "home")
    assert set(codes(done)) == {2}, done.stderr
    assert done.stdout == ""
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert "raised ValueError: no more memory" in line
    # torchrun has a traceback of its own; ours would show the line that raised.
    assert 'raise ValueError("no more memory")' not in done.stderr
    assert only_run(tmp_path).joinpath("parts").exists()
