"""What `cogeval generate` refuses: one line that says what, where and how to mend it, and nothing left behind."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import cogeval
from cogvideo.checkpoint.convert import convert
from cogvideo.checkpoint.loading import save_network
from cogvideo.pipeline import CogVideo
from cogvideo.video import write_video

PROMPT = "a red circle moving left"
# Five frames, key frames alone.
SHORT = ("--frames", 5, "--fps", 1, "--no-super-resolution")


@pytest.fixture
def door(capsys, monkeypatch, tmp_path, tmp_path_factory):
    """Runs the command in an empty folder; gives (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    # No file that another test has fetched.
    monkeypatch.setenv("COGEVAL_HOME", str(tmp_path_factory.mktemp("home")))

    def run(*arguments):
        code = cogeval.main(["generate", *map(str, arguments)])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


@pytest.fixture
def short(door, weights):
    """The command with small networks and few frames."""
    return lambda *arguments: door("--checkpoint", weights, *SHORT, *arguments)


def refused(answer, code, *parts):
    """One line on stderr with every part, the exit code, and no traceback."""
    got, out, err = answer
    assert got == code, err
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert not out
    for part in parts:
        assert part in err


def prompts_file(text, name="prompts.txt"):
    Path(name).write_bytes(text.encode() if isinstance(text, str) else text)
    return name


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ((), ("PROMPT", "--file")),
        ((PROMPT, "--file", "prompts.txt"), ("PROMPT", "--file")),
        (("",), ("the prompt is empty",)),
        (("  ",), ("the prompt is empty",)),
        (("prompts.txt",), ("name of a file", "--file prompts.txt")),
        (("a red\ncircle",), ("several lines", "--file")),
        (("a red \udce9",), ("udce9", "UTF-8")),
        (("--file", "empty.txt"), ("empty.txt has no prompt",)),
        (("--file", "nowhere.txt"), ("nowhere.txt", "No such file")),
        (("--file", "."), ("cannot read .", "directory")),
        (("--file", "latin.txt"), ("latin.txt", "UTF-8")),
        (("--file", "nul.txt"), ("prompt 1", r"\x00")),
        (("a red elefant",), ("unknown word 'elefant'", "circle")),
        (("a red sircle",), ("did you mean circle",)),
        (("a red circle a blue square moving left up",), ("10 tokens", "at most 8")),
    ],
    ids=str,
)
def test_prompts_that_cannot_be(short, tmp_path, arguments, parts):
    prompts_file("a red circle\n")
    prompts_file("\n  \n", "empty.txt")
    prompts_file("ein K\xe4fer".encode("latin-1"), "latin.txt")
    prompts_file(b"a\x00b\n", "nul.txt")
    refused(short(*arguments), 2, *parts)
    assert not (tmp_path / "videos").exists()


def test_every_prompt_is_checked_before_the_first_is_made(short, tmp_path):
    prompts_file("a red circle\nblue square\na green cros\n")
    refused(short("--file", "prompts.txt", "--batch-size", 1), 2, "cros")
    assert not (tmp_path / "videos").exists()


# --- bad usage; nothing is left behind


@pytest.mark.parametrize(
    ("arguments", "code", "parts"),
    [
        (("--size", "tiny", "--checkpoint", "x"), 2, ("--size",)),
        (("--size", "tny"), 2, ("unknown size 'tny'", "did you mean tiny")),
        (("--size", "small"), 3, ("ice-text-model", "cogeval weights fetch ice-text-model")),
        (("--size", "small", "--text-model", "nowhere.model"), 3, ("nowhere.model", "cogeval weights fetch")),
        (("--size", "small", "--text-model", "broken.png"), 2, ("broken.png", "no SentencePiece model")),
        (("--checkpoint", "x", "--text-model", "y"), 2, ("--text-model goes with --size",)),
        (("--checkpoint", "nowhere"), 2, ("nowhere", "nothing")),
        (("--checkpoint", "."), 2, ("no folder of CogVideo networks", "broken.png")),
        (("--size", "tiny", "--frames", 33, "--fps", 3), 2, ("33 frames at 3", "2, 4, 8")),
        (("--size", "tiny", "--frames", 0), 2, ("--frames",)),
        (("--size", "tiny", "--frames", 1000), 2, ("at most 129 frames",)),
        (("--size", "tiny", "--temperature", 0), 2, ("above 0",)),
        (("--size", "tiny", "--temperature", "nan"), 2, ("above 0",)),
        (("--size", "tiny", "--guidance-scale", "inf"), 2, ("finite",)),
        (("--size", "tiny", "--refine", "--no-super-resolution"), 2, ("--refine",)),
        (("--size", "tiny", "--device", "tpu"), 2, ("unknown device 'tpu'", "auto, cpu, cuda")),
        (("--size", "tiny", "--device", "meta"), 2, ("unknown device",)),
        (("--size", "tiny", "--device", "cuda:99"), 3, ("cuda:99 is not here", "--device cpu")),
        (("--size", "tiny", "--given", "nowhere.png"), 2, ("nowhere.png", "No such file")),
        (("--size", "tiny", "--given", "nowhere.mp4"), 2, ("nowhere.mp4",)),
        (("--size", "tiny", "--given", "broken.png"), 2, ("broken.png", "no picture")),
        (("--size", "tiny", "--given", "half.png"), 2, ("half.png", "damaged")),
        (("--size", "tiny", "--given", "half.mp4", "--given-frames", 2), 2, ("half.mp4",)),
        (("--size", "tiny", "--given", "good.png", "--given-frames", 2), 2, ("one picture",)),
        (("--size", "tiny", "--given", "good.mp4", "--given-frames", 9), 2, ("good.mp4", "8")),
        (("--size", "tiny", "--given", "good.mp4", "--given-frames", 5, "--frames", 5), 2, ("nothing to make of 5",)),
        (("--size", "tiny", "--given-frames", 2), 2, ("--given",)),
        (("--size", "tiny", "--out", "good.png"), 2, ("good.png is no folder", "--out")),
        (("--size", "tiny", "--out", "good.png/videos"), 2, ("good.png is no folder", "--out")),
        (("--size", "tiny", "--weights-seed", 2**40), 2, ("--weights-seed",)),
    ],
    ids=str,
)
def test_bad_usage_is_one_line(door, tmp_path, arguments, code, parts):
    (tmp_path / "broken.png").write_bytes(b"no picture at all")
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    picture.save(tmp_path / "good.png")
    (tmp_path / "half.png").write_bytes((tmp_path / "good.png").read_bytes()[:5000])
    clip = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), dtype=np.uint8)
    write_video(tmp_path / "good.mp4", clip, fps=8, codec="h264")
    (tmp_path / "half.mp4").write_bytes((tmp_path / "good.mp4").read_bytes()[:2500])
    before = sorted(tmp_path.rglob("*"))
    refused(door("a red circle", *arguments), code, *parts)
    assert sorted(tmp_path.rglob("*")) == before


def test_no_permission_is_told_before_weights_are_read(door, tmp_path, monkeypatch):
    monkeypatch.setattr("os.access", lambda *_: False)
    monkeypatch.setattr(CogVideo, "random", lambda *_, **__: pytest.fail("work has begun"))
    refused(door("a red circle", "--size", "tiny", "--out", "videos/new"), 2, "no permission", "--out")


# --- checkpoints that do not fit


@pytest.fixture
def spoiled(weights, tmp_path):
    """A copy of the weights to spoil, made of links."""

    def copy(*without):
        folder = tmp_path / "spoiled"
        folder.mkdir()
        for part in weights.iterdir():
            if part.name not in without:
                (folder / part.name).symlink_to(part)
        return folder

    return copy


def idle(monkeypatch):
    monkeypatch.setattr("cogvideo.assembly.network_of", lambda *_: pytest.fail("a network was read"))


def test_the_network_of_another_stage(door, weights, spoiled, monkeypatch, tmp_path):
    folder = spoiled("stage1")
    (folder / "stage1").symlink_to(weights / "stage2")
    idle(monkeypatch)
    refused(door(PROMPT, "--checkpoint", folder), 2, "stage1 holds stage2, expected stage1")
    assert not (tmp_path / "videos").exists()


@pytest.mark.parametrize("role", ["stage2", "superres"])
def test_a_network_of_another_size(door, weights, spoiled, make_pipeline, monkeypatch, role):
    folder = spoiled(role)
    other = getattr(make_pipeline(superres=True, hidden_size=48).networks, role)
    save_network(other, folder / role, role, source="random")
    idle(monkeypatch)
    refused(door(PROMPT, "--checkpoint", folder), 2, role, "hidden_size is 48, expected 32")


@pytest.mark.parametrize("role", ["stage1", "superres", "image_tokenizer"])
def test_a_file_cut_short(door, weights, spoiled, role):
    folder = spoiled(role)
    (folder / role).mkdir()
    (folder / role / "card.json").symlink_to(weights / role / "card.json")
    whole = (weights / role / "model.safetensors").read_bytes()
    (folder / role / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    refused(door(PROMPT, "--checkpoint", folder), 2, "model.safetensors", "cut short")


def test_an_image_tokenizer_of_other_codes(door, spoiled, make_pipeline, tmp_path):
    folder = spoiled("image_tokenizer")
    other = make_pipeline(num_image_tokens=30, vocab_size=90).networks.image_tokenizer
    torch.save({"module": other.state_dict()}, tmp_path / "ice_image.pt")
    convert(tmp_path / "ice_image.pt", folder / "image_tokenizer", notify=lambda _line: None)
    refused(door(PROMPT, "--checkpoint", folder), 2, "30 codes", "24 image tokens")


def test_absent_networks_are_named_where_they_are_needed(door, spoiled):
    folder = spoiled("superres", "stage2", "iterative")
    refused(door(PROMPT, "--checkpoint", folder), 3, "superres", "super-resolution is on", "cogeval weights fetch")
    plain = ("--checkpoint", folder, "--no-super-resolution")
    refused(door(PROMPT, *plain), 2, "33 frames need the network of stage 2", "at most 5")
    assert door(PROMPT, *plain, "--frames", 5)[0] == 0


def test_too_little_memory_is_told_before_a_network_is_read(door, weights, monkeypatch, tmp_path):
    """What is needed is the sum of the networks that are used."""
    idle(monkeypatch)
    monkeypatch.setattr("cogvideo.checkpoint.memory.available_memory", lambda _device: 200_000)
    answer = door(PROMPT, "--checkpoint", weights)
    roles = ("stage1", "stage2", "superres")
    count = sum(json.loads((weights / role / "card.json").read_text())["parameters"] for role in roles)
    refused(answer, 2, "not enough memory", f"{count * 4 / 1000:.1f} kB are needed on cpu", "200.0 kB are free")
    half = f"{count * 2 / 1000:.1f} kB are needed on cpu"
    refused(door(PROMPT, "--checkpoint", weights, "--dtype", "bfloat16"), 2, half)
    refused(door(PROMPT, "--size", "tiny"), 2, "not enough memory for the networks of random-tiny in float32")
    assert not (tmp_path / "videos").exists()
