"""Conversion to safetensors: the same numbers, one tensor at a time, whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import cogeval
from cogvideo.checkpoint.cards import read_card
from cogvideo.checkpoint.convert import convert
from cogvideo.checkpoint.loading import load_network
from cogvideo.checkpoint.native import write_tensors
from cogvideo.checkpoint.opening import network_shapes
from cogvideo.checkpoint.tensors import spec_of
from cogvideo.config import ModelConfig
from cogvideo.errors import UserError
from cogvideo.network import Network

Make = Callable[..., Path]


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("part", ["image", "stage1", "stage2", "superres", "iterative"])
def test_another_library_reads_the_same_bits(
    part: str, make_released: Make, make_network: Callable[..., Network], tmp_path: Path
) -> None:
    converted = convert(make_released(part), tmp_path / "out")
    expected = make_network(part).state_dict()
    found = load_file(tmp_path / "out" / "model.safetensors")
    assert set(found) == set(expected)
    assert all(found[name].dtype == torch.float16 and torch.equal(found[name], expected[name]) for name in expected)
    assert (converted.card.kind, converted.unused) == (part, ())
    assert names(tmp_path / "out") == ["card.json", "model.safetensors"]


def test_the_card_says_what_it_is_and_where_it_came_from(
    make_released: Make, tmp_path: Path, small: ModelConfig
) -> None:
    source = make_released("stage2")
    card = convert(source, tmp_path / "out").card
    assert read_card(tmp_path / "out") == card
    assert card.files["model.safetensors"].sha256 == sha256(tmp_path / "out" / "model.safetensors")
    assert card.files["model.safetensors"].size_bytes == (tmp_path / "out" / "model.safetensors").stat().st_size
    rank = "27000/mp_rank_00_model_states.pt"
    assert card.source.name == "cogvideo-stage2"
    assert card.source.url.endswith("cogvideo-stage2.zip")
    assert {name: file.sha256 for name, file in card.source.files.items()} == {
        name: sha256(source / name) for name in (rank, "model_config.json")
    }
    assert (card.iteration, card.window_size, card.dtype) == ("27000", 2, "float16")
    assert card.licence == "CogVideo model licence"
    assert card.sizes["num_layers"] == small.num_layers
    assert card.sizes["window"] == 2


@pytest.mark.parametrize("dtype", ["bfloat16", "float32", "float16"])
def test_the_type_is_changed_as_torch_does(
    dtype: str, make_released: Make, make_network: Callable[..., Network], tmp_path: Path
) -> None:
    card = convert(make_released(dtype=torch.float32), tmp_path / "out", dtype=dtype).card
    expected = make_network("stage1", dtype=torch.float32).to(getattr(torch, dtype)).state_dict()
    found = load_network(tmp_path / "out", "stage1", device="cpu").state_dict()
    assert card.dtype == dtype
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_converted_weights_are_converted_again(make_released: Make, tmp_path: Path) -> None:
    first = convert(make_released(), tmp_path / "half").card
    second = convert(tmp_path / "half", tmp_path / "single", dtype="float32").card
    back = convert(tmp_path / "single", tmp_path / "again", dtype="float16").card
    assert second.source == first.source
    assert second.files != first.files
    assert back.files == first.files


def test_numbers_that_half_precision_cannot_hold_are_told_of(make_released: Make, tmp_path: Path) -> None:
    name = "transformer.layers.0.mlp.dense_h_to_4h.bias"
    large = make_released(dtype=torch.float32, change={name: torch.full((128,), 70000.0)})
    with pytest.raises(UserError, match=f"{name} has numbers that float16 cannot hold; take bfloat16 or float32"):
        convert(large, tmp_path / "out", dtype="float16")
    assert names(tmp_path) == ["cogvideo-stage1"]
    convert(large, tmp_path / "out", dtype="bfloat16")


def test_large_networks_go_into_several_files(
    make_released: Make, make_network: Callable[..., Network], tmp_path: Path
) -> None:
    card = convert(make_released(), tmp_path / "out", shard_bytes=90_000).card
    files = sorted(card.files)
    assert files[0] == "model-00001-of-00002.safetensors"
    assert len(files) == 2
    index = json.loads((tmp_path / "out" / "model.safetensors.index.json").read_text())
    found = {}
    for file in files:
        tensors = load_file(tmp_path / "out" / file)
        assert sum(tensor.nbytes for tensor in tensors.values()) <= 90_000
        assert {name for name, where in index["weight_map"].items() if where == file} == set(tensors)
        found |= tensors
    expected = make_network("stage1").state_dict()
    assert index["metadata"]["total_size"] == sum(tensor.nbytes for tensor in expected.values())
    loaded = load_network(tmp_path / "out", device="cpu").state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
    assert all(torch.equal(loaded[name], tensor) for name, tensor in expected.items())
    (tmp_path / "out" / files[1]).unlink()
    with pytest.raises(UserError, match=f"{files[1]} is missing, the card beside it names it"):
        load_network(tmp_path / "out", device="cpu")


def test_every_type_and_form_of_tensor_reads_back(tmp_path: Path) -> None:
    """Against the library: views, single numbers, empty tensors, odd widths, all types; tensors start aligned."""
    grid = torch.arange(60).reshape(3, 4, 5)
    tensors = {
        "view": grid.float()[:, 1:3].transpose(0, 2),
        "single": torch.tensor(2.5, dtype=torch.float64),
        "empty": torch.empty(0, 3),
        "bytes": torch.arange(7, dtype=torch.uint8),
        "flags": torch.tensor([True, False, True]),
        "half": torch.randn(5).half(),
        "brain": torch.randn(3).bfloat16(),
        "long": grid,
        "ü": torch.arange(3, dtype=torch.int16),
    }
    specs = {name: spec_of(tensor) for name, tensor in tensors.items()}
    records = write_tensors(tmp_path, specs, tensors.__getitem__)
    found = load_file(tmp_path / "model.safetensors")
    assert set(found) == set(tensors)
    assert all(torch.equal(found[name], tensors[name]) and found[name].dtype == tensors[name].dtype for name in found)
    assert all(found[name].data_ptr() % found[name].element_size() == 0 for name in found if name != "empty")
    assert records["model.safetensors"].sha256 == sha256(tmp_path / "model.safetensors")


def test_a_destination_that_is_there_is_kept(make_released: Make, tmp_path: Path) -> None:
    source, out = make_released(), tmp_path / "out"
    convert(source, out)
    with pytest.raises(UserError, match="is there already; give --overwrite to replace it"):
        convert(source, out, dtype="float32")
    assert read_card(out).dtype == "float16"
    convert(source, out, dtype="float32", overwrite=True)
    assert read_card(out).dtype == "float32"
    with pytest.raises(UserError, match="would be written over while it is read"):
        convert(out, out, dtype="float16", overwrite=True)
    assert names(tmp_path) == ["cogvideo-stage1", "out"]


def test_overwriting_removes_nothing_of_others(make_released: Make, tmp_path: Path) -> None:
    source = make_released()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("x")
    (tmp_path / "file").write_text("x")
    for taken in ("mine", "file", source.name):
        with pytest.raises(UserError, match="is no folder of converted weights, so --overwrite does not remove it"):
            convert(source, tmp_path / taken, overwrite=True)
    (tmp_path / "empty").mkdir()
    convert(source, tmp_path / "empty", overwrite=True)


def test_nothing_is_left_of_an_interrupted_conversion(make_released: Make, tmp_path: Path) -> None:
    def interrupt(what: str, done: int, total: int) -> None:
        if what.startswith("writing") and done > total / 2:
            raise KeyboardInterrupt

    source, out = make_released(), tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        convert(source, out, progress=interrupt)
    assert names(tmp_path) == ["cogvideo-stage1"]
    convert(source, out)
    with pytest.raises(KeyboardInterrupt):
        convert(source, out, dtype="float32", overwrite=True, progress=interrupt)
    assert read_card(out).dtype == "float16"
    load_network(out, device="cpu")


KILLED = """
import os, signal, sys
from cogvideo.checkpoint.convert import convert

stopped = []

def stop(what, done, total):
    if what.startswith("writing") and done > total / 2 and not stopped:
        stopped.append(done)
        os.kill(os.getpid(), signal.{signal})

convert(sys.argv[1], sys.argv[2], progress=stop)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_a_killed_conversion_leaves_no_destination_and_is_cleared_by_the_next(
    make_released: Make, tmp_path: Path
) -> None:
    source, out = make_released(), tmp_path / "out"
    killed = subprocess.run([sys.executable, "-c", KILLED.format(signal="SIGKILL"), source, out], env=with_path())
    assert killed.returncode == -signal.SIGKILL
    assert not out.exists()
    assert ".out.unfinished" in names(tmp_path)
    convert(source, out)
    assert names(tmp_path) == ["cogvideo-stage1", "out"]


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_two_conversions_do_not_write_one_folder(make_released: Make, tmp_path: Path) -> None:
    source, out = make_released(), tmp_path / "out"
    other = subprocess.Popen([sys.executable, "-c", KILLED.format(signal="SIGSTOP"), source, out], env=with_path())
    try:
        os.waitid(os.P_PID, other.pid, os.WSTOPPED | os.WNOWAIT)
        with pytest.raises(UserError, match="another process is writing"):
            convert(source, out)
    finally:
        other.send_signal(signal.SIGCONT)
        other.wait(60)
    assert other.returncode == 0
    load_network(out, device="cpu")
    assert names(tmp_path) == ["cogvideo-stage1", "out"]


def with_path() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}


PEAK = """
import sys
import torch
from cogvideo.checkpoint.convert import convert
from cogvideo.checkpoint.tensors import spec_of

def peak():
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) * 1024

convert(sys.argv[1], sys.argv[2] + ".small", dtype=sys.argv[4])
before = peak()
convert(sys.argv[3], sys.argv[2], dtype=sys.argv[4])
print(peak() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak from /proc")
@pytest.mark.parametrize("dtype", ["keep", pytest.param("bfloat16", marks=pytest.mark.slow)])
def test_two_copies_are_never_held(
    make_released: Make,
    settings_of: Callable[..., dict[str, Any]],
    write_rank: Callable[..., None],
    tmp_path: Path,
    small: ModelConfig,
    dtype: str,
) -> None:
    """Peak of a process of its own above the peak of a small conversion: the mapped source once, and little else."""
    large = make_released(folder=tmp_path / "large-stage1")
    wide = replace(small, hidden_size=1024, num_layers=8, num_image_tokens=40000, vocab_size=40060)
    shapes = network_shapes(wide, "video")
    (large / "model_config.json").write_text(json.dumps(settings_of("stage1", wide)))
    module = {name: torch.zeros(shape, dtype=torch.float16) for name, shape in shapes.items()}
    write_rank(large / "27000" / "mp_rank_00_model_states.pt", module)
    size = (large / "27000" / "mp_rank_00_model_states.pt").stat().st_size
    assert size > 350_000_000
    run = subprocess.run(
        [sys.executable, "-c", PEAK, make_released(), tmp_path / "out", large, dtype],
        env=with_path(),
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    assert int(run.stdout) < 1.2 * size


def test_the_command_says_what_it_wrote(
    make_released: Make,
    make_network: Callable[..., Network],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    parameters = sum(parameter.numel() for parameter in make_network("stage1").parameters())
    source = make_released(change={"mixins.mask": torch.ones(2)})
    assert cogeval.main(["convert", str(source), str(tmp_path / "out"), "--dtype", "float32"]) == 0
    out, err = capsys.readouterr()
    size = (tmp_path / "out" / "model.safetensors").stat().st_size
    assert out.splitlines() == [
        f"stage1  {tmp_path / 'out'}",
        f"  68 tensors, {parameters:,} parameters, float32, {size / 1000:.1f} kB",
        f"  model.safetensors  sha256 {sha256(tmp_path / 'out' / 'model.safetensors')}",
    ]
    lines = err.splitlines()
    assert lines[0] == f"warning: {source} has 1 tensors that are not used (mixins.mask)"
    assert [line.split(",")[0] for line in lines[1:]] == ["hashing the source", "writing stage1"]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["{source}"], 2, "Missing argument 'DEST'"),
        (["{source}", "{out}", "--kind", "stage2"], 2, "holds stage1, expected stage2"),
        (["{source}", "{out}", "--dtype", "float8"], 2, "'float8' is not one of"),
        (
            ["{out}-none", "{out}"],
            2,
            "expected a released folder, its .zip, ice_image.pt, or one of the names cogvideo-",
        ),
        (
            ["coglm", "{out}"],
            3,
            "coglm (CogView2, images from text) is not on this machine: run `cogeval weights fetch",
        ),
    ],
)
def test_bad_usage_of_the_command_is_one_line(
    make_released: Make,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    code: int,
    words: str,
) -> None:
    monkeypatch.setenv("COGEVAL_HOME", str(tmp_path / "cache"))
    source = make_released()
    filled = [argument.format(source=source, out=tmp_path / "out") for argument in arguments]
    assert cogeval.main(["convert", *filled]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert words in err
    assert names(tmp_path) == ["cogvideo-stage1"]
