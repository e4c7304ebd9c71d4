"""`cogeval tokenize` as a person runs it: drawn shapes, a random image tokenizer, a kill in the middle."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import save_file

import cogeval
from cogvideo.checkpoint.loading import save_network
from cogvideo.config import get_size
from cogvideo.data.fingerprint import image_fingerprint
from cogvideo.data.records import Records
from cogvideo.network import Network
from cogvideo.video import read_clip, write_video
from cogvideo.vqvae import IMAGE_TOKENIZERS, ImageTokenizer, clip_to_frames
from eval.datasets.shapes_drawing import draw_clip


@pytest.fixture(scope="module")
def image_tokenizer():
    torch.manual_seed(0)
    return ImageTokenizer(IMAGE_TOKENIZERS["tiny"]).eval()


@pytest.fixture(scope="module")
def place(tmp_path_factory, image_tokenizer):
    """Eight drawn clips in their layout, one broken file, and the image tokenizer in a file."""
    root = tmp_path_factory.mktemp("tokenize")
    for n in range(8):
        shape, motion, name = ("square", "left", "MovingLeft") if n % 2 else ("circle", "growing", "Growing")
        label = f"Red{shape.title()}{name}"
        path = root / "shapes" / label / f"v_{label}_g01_c{n:02d}.avi"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_video(path, draw_clip(shape, "red", motion, n), fps=8, codec="ffv1")
    (root / "shapes" / "RedCircleGrowing" / "v_RedCircleGrowing_g02_c01.avi").write_bytes(b"RIFF")
    save_file({k: v.contiguous() for k, v in image_tokenizer.state_dict().items()}, root / "tokenizer.safetensors")
    return root


def command(place, out, *flags):
    given = ["--image-tokenizer", str(place / "tokenizer.safetensors"), "--workers", "0", "--device", "cpu"]
    return ["tokenize", str(place / "shapes"), str(out), *given, *flags]


def test_tokens_are_those_of_the_tokenizer(place, tmp_path, image_tokenizer, capsys):
    assert cogeval.main(command(place, tmp_path / "out", "--rates", "8", "--frames", "17", "--json", "--quiet")) == 0
    card = json.loads(capsys.readouterr().out)
    assert card == json.loads((tmp_path / "out" / "card.json").read_text())
    assert (card["records"], card["rates"], card["size"]) == (8, {"8": 8}, "tiny")
    assert sum(card["skipped"].values()) == 1
    assert card["image_tokenizer"]["sha256"] == image_fingerprint(image_tokenizer)
    records = Records.open(tmp_path / "out", get_size("tiny"), image_tokenizer=image_fingerprint(image_tokenizer))
    same = 0
    for index in range(8):
        told = records.where(index)
        clip = read_clip(place / "shapes" / told["file"])
        ids = image_tokenizer.encode(clip_to_frames(clip), 8).flatten().numpy()
        same += int((ids == records.rows([index])[0, 8:]).sum())
        assert told["caption"] == ("a red square moving left" if "Square" in told["file"] else "a red circle growing")
    # Another batch may round another way where two codes are equally near.
    assert same >= 0.999 * 8 * 17 * 64


def test_what_is_said(place, tmp_path, capsys):
    assert cogeval.main(command(place, tmp_path / "out")) == 0
    said = capsys.readouterr()
    assert said.out.splitlines()[1:] == [
        "  8 of 5 frames in 1 file: 8 at 2 fps",
        "  left out, see skipped.jsonl: 1 truncated",
    ]
    assert said.err.splitlines()[0] == "9 videos of shapes (ucf) on cpu, 0 decoding"
    assert said.err.splitlines()[-1] == "9 of 9 videos"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--rates", "0.25,1"], "0.25 frames a second need the duration 16.0s"),
        (["--rates", "often"], "expected frame rates such as"),
        (["--rates", "1,2", "--min-rate", "4"], "no frame rate is left: the lowest allowed is 4, the list is 1, 2"),
        (["--size", "release"], "needs the SentencePiece model"),
        (["--size", "huge"], "unknown size 'huge'"),
        (["--checkpoint", "x"], "expected --checkpoint DIR"),
        (["--captions", "absent.csv"], "absent.csv cannot be read"),
        (["--split", "train"], "has no splits of its own"),
        (["--device", "tpu"], "unknown device"),
    ],
)
def test_bad_usage(place, tmp_path, flags, message, capsys):
    assert cogeval.main(command(place, tmp_path / "out", *flags)) in (2, 3)
    said = capsys.readouterr().err.strip()
    assert message in said
    assert said.startswith("error: ")
    assert "\n" not in said
    assert not (tmp_path / "out").exists()


def test_without_tokenizer_or_source(place, tmp_path, capsys):
    assert cogeval.main(["tokenize", str(place / "shapes"), str(tmp_path / "out")]) == 2
    assert "expected --checkpoint DIR" in capsys.readouterr().err
    assert cogeval.main(command(tmp_path / "absent", tmp_path / "out")) == 2
    assert "there is nothing at" in capsys.readouterr().err


@pytest.mark.slow
def test_killed_and_gone_on(place, tmp_path):
    """SIGKILL, which nothing can handle, once the first of nine shards is there; then to the end with other workers."""
    flags = ["--shard-videos", "1", "--clips-per-video", "3", "--rates", "8", "--quiet"]
    whole, out = tmp_path / "whole", tmp_path / "out"
    assert cogeval.main(command(place, whole, *flags)) == 0
    arguments = command(place, out, *flags, "--workers", "1")
    environment = os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    running = subprocess.Popen([sys.executable, "-m", "cogeval", *arguments], env=environment, start_new_session=True)
    while not list(out.glob("*.jsonl")) and running.poll() is None:
        time.sleep(0.01)
    running.send_signal(signal.SIGKILL)
    running.wait()
    finished = len(list(out.glob("*.bin")))
    assert not (out / "card.json").exists()
    assert 1 <= finished < 8
    assert cogeval.main([*arguments[:-1], "2"]) == 0
    names = sorted(path.name for path in whole.iterdir())
    assert names == sorted(path.name for path in out.iterdir())
    assert all((whole / name).read_bytes() == (out / name).read_bytes() for name in names)


def test_a_folder_of_networks(place, tmp_path, image_tokenizer):
    """Sizes, tokenizers and language come from the networks that the records are for."""
    networks, config = tmp_path / "networks", get_size("tiny")
    save_network(Network(config), networks / "stage1", "stage1", source="made by a test")
    torch.save({"module": image_tokenizer.state_dict()}, networks / "image_tokenizer")
    arguments = ["tokenize", str(place / "shapes"), str(tmp_path / "out"), "--workers", "0", "--quiet"]
    assert cogeval.main([*arguments, "--checkpoint", str(networks), "--device", "cpu"]) == 0
    assert cogeval.main(command(place, tmp_path / "other", "--quiet")) == 0
    assert (tmp_path / "out" / "card.json").read_bytes() == (tmp_path / "other" / "card.json").read_bytes()
    assert cogeval.main([*arguments, "--checkpoint", str(networks), "--size", "tiny"]) == 2
