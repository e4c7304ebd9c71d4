"""Checkpoints that cannot be used: one line each, that says what is wrong, where, and what to do."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cogvideo.checkpoint import loading
from cogvideo.checkpoint.loading import load_network, save_network
from cogvideo.config import SIZES, ModelConfig
from cogvideo.errors import UserError
from cogvideo.network import Network

RANK = "27000/mp_rank_00_model_states.pt"
WORDS = "transformer.word_embeddings.weight"


def refusal(path: Path, *arguments: object, **options: object) -> str:
    """The line that loading gives."""
    with pytest.raises(UserError) as caught:
        load_network(path, *arguments, device="cpu", **options)
    line = str(caught.value)
    assert caught.value.exit_code == 2
    assert len(line) < 600 + 3 * len(str(path))
    return line


def spoil(folder: Path, name: str, do: Callable[[bytes], bytes]) -> None:
    (folder / name).write_bytes(do((folder / name).read_bytes()))


@pytest.mark.parametrize("is_old", [False, True])
@pytest.mark.parametrize("share", [0.0001, 0.02, 0.3, 0.7, 0.99, 0.99999])
def test_a_pickle_cut_short(make_released: Callable[..., Path], share: float, is_old: bool) -> None:
    folder = make_released(_use_new_zipfile_serialization=not is_old)
    spoil(folder, RANK, lambda content: content[: int(len(content) * share)])
    line = refusal(folder)
    assert str(folder / RANK) in line
    assert "fetch it again" in line


def test_an_empty_pickle(make_released: Callable[..., Path]) -> None:
    folder = make_released()
    spoil(folder, RANK, lambda content: b"")
    assert refusal(folder) == f"{folder / RANK} is empty; fetch it again"


@pytest.mark.parametrize(
    "content", [b"<!doctype html><html>log in</html>", b"version https://git-lfs", os.urandom(5000)]
)
def test_something_else_than_a_pickle(make_released: Callable[..., Path], content: bytes) -> None:
    folder = make_released()
    spoil(folder, RANK, lambda _: content)
    assert str(folder / RANK) in refusal(folder)


@pytest.mark.parametrize(
    ("latest", "words"),
    [
        ("", "latest is empty: expected an iteration number or the word release"),
        ("  \n", "latest is empty"),
        ("../../elsewhere", "latest says '../../elsewhere': expected an iteration number"),
        ("38000", "latest names 38000, and there is no folder"),
        ("release", "latest names release, and there is no folder"),
    ],
)
def test_latest_that_leads_nowhere(make_released: Callable[..., Path], latest: str, words: str) -> None:
    folder = make_released()
    (folder / "latest").write_text(latest)
    line = refusal(folder)
    assert words in line
    assert "27000" in line


def test_no_latest(make_released: Callable[..., Path]) -> None:
    folder = make_released()
    (folder / "latest").unlink()
    assert "has no readable `latest`" in refusal(folder)


def test_no_file_of_rank_0(make_released: Callable[..., Path]) -> None:
    folder = make_released()
    (folder / RANK).rename(folder / "27000" / "model.pt")
    line = refusal(folder)
    assert "has no mp_rank_00_model_states.pt (in it: model.pt)" in line


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "cannot read"),
        ("", "is damaged"),
        ('{"num_layers": 3', "is damaged"),
        ("[1]", "has to hold an object with the sizes, it holds a list"),
    ],
)
def test_model_config_absent_or_damaged(make_released: Callable[..., Path], content: str | None, words: str) -> None:
    folder = make_released()
    (folder / "model_config.json").unlink()
    if content is not None:
        (folder / "model_config.json").write_text(content)
    line = refusal(folder)
    assert words in line
    assert str(folder / "model_config.json") in line


@pytest.mark.parametrize(
    ("settings_", "words"),
    [
        ({"num_layers": "three"}, "num_layers in model_config.json has to be a whole number, it is 'three'"),
        ({"num_attention_heads": None}, "has to give num_attention_heads"),
        ({"num_attention_heads": 5}, "hidden_size must be a multiple of num_attention_heads"),
        ({"layout": [6, 22]}, "the layout [6, 22] in model_config.json is none of stage1"),
        ({"layout": "6,x,86"}, "layout in model_config.json has to be rising numbers, it is '6,x,86'"),
        ({"layout": [6, 6, 86]}, "has to be rising numbers"),
        ({"num_layers": 2}, "gives num_layers 2, the tensors go up to layer 2"),
        ({"num_layers": 4}, "missing (transformer.layers.3.input_layernorm.weight"),
        ({"hidden_size": 64}, "transformer.word_embeddings.weight is 60x32, expected 60x64"),
        ({"additional_seqlen": 70}, "is 80x32, expected 70x32"),
        ({"model_parallel_size": 2}, "has no mp_rank_01_model_states.pt"),
    ],
)
def test_settings_that_do_not_fit(make_released: Callable[..., Path], settings_: dict[str, object], words: str) -> None:
    assert words in refusal(make_released(settings=settings_))


def test_missing_and_misshapen_tensors_are_named_with_both_shapes(make_released: Callable[..., Path]) -> None:
    line = refusal(
        make_released(
            change={
                "mixins.attention_plus.dense.1.bias": None,
                "transformer.final_layernorm.weight": torch.ones(31).half(),
            }
        )
    )
    assert "1 missing (mixins.attention_plus.dense.1.bias)" in line
    assert "1 of another shape (transformer.final_layernorm.weight is 31, expected 32)" in line


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({}, "expected the key `module` with the tensors, saw a table with"),
        ({"module": {}}, "its key `module` holds no tensors"),
        (
            {"module": {"conv.weight": torch.ones(2)}},
            "expected tensors such as transformer.word_embeddings.weight, saw conv",
        ),
        ({"module": torch.ones(2)}, "expected the key `module` with the tensors, saw a table with module"),
        ([1, 2], "expected the key `module` with the tensors, saw a list"),
    ],
)
def test_a_pickle_of_something_else(make_released: Callable[..., Path], content: object, words: str) -> None:
    folder = make_released(settings={"cogvideo_stage": None})
    torch.save(content, folder / RANK)
    assert words in refusal(folder)


def test_another_stage(make_released: Callable[..., Path]) -> None:
    folder = make_released("stage2")
    assert refusal(folder, "stage1") == f"{folder} holds stage2, expected stage1; give the checkpoint of stage1"
    assert "holds stage2, expected superres" in refusal(folder, "superres")
    assert "unknown kind 'stage3'" in refusal(folder, "stage3")
    image = make_released("image")
    assert "holds image, expected video" in refusal(image, "video")


@pytest.mark.parametrize("is_native", [False, True])
def test_another_size(
    make_released: Callable[..., Path],
    make_network: Callable[..., Network],
    tmp_path: Path,
    larger: ModelConfig,
    is_native: bool,
) -> None:
    folder = tmp_path / "native"
    if is_native:
        save_network(make_network("stage1"), folder, "stage1", source="drawn")
    else:
        folder = make_released()
    line = refusal(folder, "stage1", expect=larger)
    assert "num_layers is 3, expected 4, hidden_size is 32, expected 64" in line
    assert "of another size than the size 'release': " in refusal(folder, expect=SIZES["release"])
    assert "and 7 more" in refusal(folder, expect=SIZES["release"])


def test_paths_that_are_no_checkpoint(make_released: Callable[..., Path], tmp_path: Path) -> None:
    folder = make_released()
    assert f"there is no checkpoint at {tmp_path / 'none'}" in refusal(tmp_path / "none")
    assert "expected `latest` (as released) or card.json (converted), saw cogvideo-stage1" in refusal(tmp_path)
    assert "is one file of a released folder: give the folder" in refusal(folder / RANK)
    archive = Path(shutil.make_archive(str(tmp_path / "cogvideo-stage1"), "zip", tmp_path, "cogvideo-stage1"))
    assert "is an archive: run `cogeval convert" in refusal(archive)
    archive.rename(tmp_path / "renamed.bin")
    assert "is an archive: run `cogeval convert" in refusal(tmp_path / "renamed.bin")


@pytest.fixture
def native(make_network: Callable[..., Network], tmp_path: Path) -> Path:
    save_network(make_network("stage1"), tmp_path / "native", "stage1", source="drawn")
    return tmp_path / "native"


@pytest.mark.parametrize("share", [0.0, 0.0001, 0.1, 0.6, 0.99999])
def test_converted_weights_cut_short(native: Path, share: float) -> None:
    spoil(native, "model.safetensors", lambda content: content[: int(len(content) * share)])
    assert f"{native / 'model.safetensors'} is cut short or damaged" in refusal(native)


def test_converted_weights_with_a_spoilt_header(native: Path) -> None:
    spoil(native, "model.safetensors", lambda content: content[:8] + b"?" + content[9:])
    assert f"{native / 'model.safetensors'} is cut short or damaged" in refusal(native)


def test_converted_weights_that_are_gone(native: Path) -> None:
    (native / "model.safetensors").unlink()
    assert "is missing, the card beside it names it" in refusal(native)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"kind": "stage9"}, "card.json is no card that can be used here: kind: "),
        ({"format": "cogeval-checkpoint-2"}, "card.json is no card that can be used here: format: "),
        ({"sizes": {"num_layers": 3, "depth": 4}}, "its sizes are not of this version of cogeval"),
        ({"files": {"../native/model.safetensors": {"sha256": "", "size_bytes": 1}}}, "that can be used here: files."),
    ],
)
def test_cards_that_do_not_fit(native: Path, change: dict[str, object], words: str) -> None:
    card = json.loads((native / "card.json").read_text())
    (native / "card.json").write_text(json.dumps(card | change))
    assert words in refusal(native)


def test_a_card_cut_short(native: Path) -> None:
    spoil(native, "card.json", lambda content: content[:-9])
    assert f"{native / 'card.json'} is damaged" in refusal(native)


def test_too_little_memory_is_told_before_work_starts(
    make_released: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from cogvideo.checkpoint import memory

    folder = make_released()
    monkeypatch.setattr(memory, "available_memory", lambda device: 1000)
    monkeypatch.setattr(loading, "Network", None)  # whoever builds one fails
    line = refusal(folder)
    assert "not enough memory for stage1 in float16: " in line
    assert "114.2 kB are needed on cpu, 1.0 kB are free" in line


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.floats(0, 1), flips=st.binary(min_size=1, max_size=12), is_native=st.booleans(), at_end=st.booleans())
def test_no_damage_gives_anything_but_a_line(
    make_released: Callable[..., Path], native: Path, place: float, flips: bytes, is_native: bool, at_end: bool
) -> None:
    """Bytes changed where the structure of a file is: its first and last few kilobytes."""
    folder = native if is_native else make_released()
    path = folder / ("model.safetensors" if is_native else RANK)
    content = bytearray(path.read_bytes())
    reach = min(len(content), 12000)
    start = len(content) - reach if at_end else 0
    for offset, flip in enumerate(flips):
        content[(start + int(place * (reach - 1)) + offset) % len(content)] ^= flip
    damaged = folder.with_name("damaged")
    shutil.rmtree(damaged, ignore_errors=True)
    shutil.copytree(folder, damaged)
    (damaged / path.relative_to(folder)).write_bytes(content)
    with suppress(UserError):
        load_network(damaged, "stage1", device="cpu", notify=lambda line: None)
