"""`cogeval train` from records to weights that load, and every line that a person gets when something is wrong."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

import cogeval
from cogvideo.checkpoint.loading import load_network, save_network
from cogvideo.config import SIZES
from cogvideo.data.records import write_records
from cogvideo.network import Network, initialise_
from cogvideo.training.log import read_log
from cogvideo.training.recipes import RECIPES

TINY = SIZES["tiny"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Records of the tiny size, and an image network of it."""
    place = tmp_path_factory.mktemp("train")
    generator = np.random.Generator(np.random.Philox(3))
    texts = np.full((12, TINY.text_len), TINY.pad_id)
    texts[:, :4] = generator.integers(TINY.num_image_tokens + 5, TINY.boi_id, (12, 4))
    images = generator.integers(0, TINY.num_image_tokens, (12, TINY.frames * TINY.frame_len))
    write_records(place / "records.bin", np.concatenate([texts, images], 1), TINY)
    save_network(initialise_(Network(TINY, "image"), 0), place / "image", "image", source="test")
    save_network(initialise_(Network(TINY), 0), place / "stage1", "stage1", source="test")
    return place


def arguments(folder, out, recipe="ucf101-stage1", **flags):
    """A run of two rows a step; `init` is the start that the recipe wants."""
    flags = {"size": "tiny", "init": folder / "stage1", "steps": 3, "batch_size": 2, "log_every": 1} | flags
    flags = {"data": folder / "records.bin", "out": out, "device": "cpu", "dropout": 0.0} | flags
    named = [(f"--{name.replace('_', '-')}", str(value)) for name, value in flags.items() if value is not None]
    return ["train", recipe, "--quiet", *(part for pair in named for part in pair)]


def test_the_list_shows_every_recipe(capsys):
    assert cogeval.main(["train", "--list"]) == 0
    shown = capsys.readouterr().out
    lines = shown.splitlines()
    assert [line.split()[0] for line in lines[1:]] == list(RECIPES)
    assert "76,000 + 15,000" in next(line for line in lines if line.startswith("release-stage1"))
    assert cogeval.main(["train", "--list", "--json"]) == 0
    recipes = json.loads(capsys.readouterr().out)["recipes"]
    assert {recipe["name"]: recipe["batch_size"] for recipe in recipes}["kinetics600-stage1"] == 640


def test_the_papers_numbers():
    """CogVideo, section 4: iterations, batches, and what the scripts say."""
    for name, steps, batch in (
        ("release-stage1", 91_000, 416),
        ("release-stage2", 78_500, 416),
        ("ucf101-stage1", 10_000, 192),
        ("kinetics600-stage2", 12_000, 640),
        ("ablation-random", 11_000, 160),
    ):
        recipe = RECIPES[name]
        assert (recipe.steps, recipe.batch_size) == (steps, batch)
        assert (recipe.lr, recipe.betas, recipe.eps, recipe.weight_decay) == (2e-4, (0.9, 0.95), 1e-8, 1e-4)
        assert (recipe.clip, recipe.warm_up, recipe.settling, recipe.dropout) == (0.1, 500, 100, 0.1)
    phases = RECIPES["release-stage1"]
    assert [phases.phases[phases.phase_of(step)].min_fps for step in (1, 76_000, 76_001, 91_000)] == [0.25, 0.25, 1, 1]


def test_phases_shrink_together():
    short = RECIPES["release-stage1"].with_steps(910)
    assert [phase.steps for phase in short.phases] == [760, 150]
    assert short.warm_up == 5
    assert [phase.steps for phase in RECIPES["release-stage1"].with_steps(2).phases] == [1, 1]


def test_the_smallest_numbers_are_there_again_afterwards(folder, tmp_path, capsys):
    """A step drops them for speed; who calls the command from Python must not lose them for everything else."""
    assert cogeval.main(arguments(folder, tmp_path / "run")) == 0
    assert float(np.float64(2.0**-1060) * np.float64(0.5)) == 2.0**-1061


def test_weights_that_load(folder, tmp_path, capsys):
    assert cogeval.main([*arguments(folder, tmp_path / "run"), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["is_finished"]
    assert answer["step"] == 3
    found = load_network(answer["weights"], "stage1", device="cpu", expect=TINY).state_dict()
    start = load_network(folder / "stage1", "stage1", device="cpu").state_dict()
    for name, tensor in start.items():
        is_frozen = name.startswith("transformer.")
        assert torch.equal(found[name], tensor) == is_frozen or name.endswith("position_embeddings.weight")
    assert [entry["step"] for entry in read_log(tmp_path / "run")] == [1, 2, 3]
    written = json.loads((tmp_path / "run" / "training.json").read_text())
    assert written["recipe"]["lr"] == 2e-4


@pytest.mark.parametrize("recipe", ["embedded-base", "ablation-no-video", "embedded-random"])
def test_starts(recipe, folder, tmp_path, capsys):
    """Random, from an image network, and everything trained; records without a card serve where no words are needed."""
    needs_words = RECIPES[recipe].task == "base" or RECIPES[recipe].only_fps
    init = None if RECIPES[recipe].start == "random" else folder / "image"
    code = cogeval.main(arguments(folder, tmp_path / "run", recipe, init=init, precision="float32"))
    if needs_words:
        assert code == 2
        assert "\n" not in capsys.readouterr().err.strip()
        return
    assert code == 0


def test_it_stops_and_goes_on(folder, tmp_path, capsys):
    """In two calls, or with a checkpoint between: the same weights."""
    assert cogeval.main([*arguments(folder, tmp_path / "parts"), "--stop-after", "2"]) == 0
    assert "stopped at step 2 of 3, saved" in capsys.readouterr().out
    assert cogeval.main(arguments(folder, tmp_path / "parts")) == 0
    assert cogeval.main(arguments(folder, tmp_path / "whole")) == 0
    one, two = (load_network(tmp_path / part / "stage1", "stage1", device="cpu") for part in ("whole", "parts"))
    assert all(torch.equal(one.state_dict()[name], tensor) for name, tensor in two.state_dict().items())


def test_sigterm_exits_with_0(folder, tmp_path):
    command = [sys.executable, "-m", "cogeval", *arguments(folder, tmp_path, steps=100_000)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env=os.environ | {"OMP_NUM_THREADS": "1"}, text=True)
    while not read_log(tmp_path) and process.poll() is None:
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    saved = [path.name for path in (tmp_path / "checkpoints").iterdir()]
    step = int(saved[0].removeprefix("step-"))
    assert len(saved) == 1
    assert f"stopped at step {step:,} of 100,000, saved" in said


@pytest.mark.parametrize(
    ("changes", "code", "message"),
    [
        ({"recipe": "ucf101-stage3"}, 2, "unknown recipe 'ucf101-stage3'; did you mean ucf101-stage"),
        ({"data": None}, 2, "expected a RECIPE and --data DIR"),
        ({"init": None}, 3, "starts from a network of the kind stage1: give its folder with --init DIR"),
        ({"recipe": "embedded-random"}, 2, "starts from random weights: leave --init out"),
        ({"recipe": "ablation-no-video"}, 2, "expected"),
        ({"size": "small"}, 2, "small"),
        ({"size": "huge"}, 2, "unknown size 'huge'"),
        ({"accumulate": 4}, 2, "batch of 2 rows cannot be shared evenly by 1 processes in 4 parts"),
        ({"steps": 1, "recipe": "release-stage1"}, 2, "2 phases, so at least as many steps; got 1"),
        ({"recipe": "release-stage2", "init": "image"}, 2, "records"),
        ({"recipe": "embedded"}, 2, "several trainings: leave --init out"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(changes, code, message, folder, tmp_path, capsys):
    changes = dict(changes)
    if changes.get("init") == "image":
        changes["init"] = folder / "image"
    assert cogeval.main(arguments(folder, tmp_path / "run", **changes)) == code
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: ")
    assert message in error
    assert "\n" not in error


def test_another_run_in_the_same_folder(folder, tmp_path, capsys):
    assert cogeval.main([*arguments(folder, tmp_path), "--stop-after", "1"]) == 0
    capsys.readouterr()
    assert cogeval.main(arguments(folder, tmp_path, lr=0.1)) == 2
    assert "holds another training: settings" in capsys.readouterr().err
    assert cogeval.main([*arguments(folder, tmp_path), "--no-resume"]) == 2
    assert "holds a training already" in capsys.readouterr().err
