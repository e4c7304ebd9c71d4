"""The benchmarks on a few real clips, with networks whose weights follow the rule: to the end, twice the same.

The numbers mean nothing, and the runs have to say so.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from eval.records import read_result, stable_view

REPO = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def clips_dir():
    folder = Path(os.environ.get("COGEVAL_CLIPS_DIR") or REPO.parent / "shared" / "clips")
    if not (folder / "ucf101").is_dir():
        pytest.skip(f"no real clips at {folder}; set COGEVAL_CLIPS_DIR")
    return folder


@pytest.fixture(scope="module")
def home(rule, reference_json, tmp_path_factory):
    """A cache with rule-made weights, added as a user adds files: `cogeval weights add NAME FILE`."""
    place = tmp_path_factory.mktemp("rule-weights")

    def tensors(shapes):
        return {name: torch.from_numpy(np.array(value)) for name, value in rule.state(shapes).items()}

    torch.save(tensors(reference_json("i3d/param_shapes.json")), place / "i3d.pt")
    c3d = rule.state(reference_json("c3d/param_shapes.json"))
    c3d["conv1a/W"] = c3d["conv1a/W"] / np.float32(64)
    np.savez(place / "c3d.npz", **c3d)
    mean = 100 + 20 * rule.unit("c3d_mean", 3 * 16 * 128 * 171).reshape(3, 16, 128, 171)
    np.savez(place / "mean.npz", mean=mean.astype(np.float32))
    files = {"i3d-tats": "i3d.pt", "c3d-tgan2": "c3d.npz", "c3d-tgan2-mean": "mean.npz"}
    for name, file in files.items():
        done = cogeval("weights", "add", name, str(place / file), home=place / "home")
        assert done.returncode == 0, done.stderr
    return place / "home"


def cogeval(*arguments, home):
    environment = {**os.environ, "COGEVAL_HOME": str(home), "COGEVAL_OFFLINE": "1"}
    command = [sys.executable, "-m", "cogeval", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900, cwd=home.parent)


def run_twice(home, tmp_path, *arguments):
    """The same command in two places; the second decodes and computes everything again."""
    results = []
    for attempt in ("first", "second"):
        shutil.rmtree(home / "features", ignore_errors=True)
        done = cogeval(*arguments, "--out", str(tmp_path / attempt), "--json", "--quiet", home=home)
        assert done.returncode == 0, done.stderr
        results.append([read_result(Path(entry["run"])) for entry in json.loads(done.stdout)["runs"]])
    for one, other in zip(*results, strict=True):
        assert stable_view(one) == stable_view(other)
    return results[0]


@pytest.mark.slow
def test_ucf101(home, clips_dir, tmp_path):
    real, noise = run_twice(
        home,
        tmp_path,
        *("ucf101", "--data", str(clips_dir / "ucf101"), "--split", "test", "--clips-per-video", "4"),
        *("--samples", "4", "--real-samples", "4", "--metric", "fvd", "--metric", "inception-score"),
        *("--generator", "real", "--generator", "noise"),
    )
    assert real.data.n_items == 2
    assert real.data.n_missing == 13_320 - 2
    assert real.data.n_reference == real.data.n_heldout == 4
    assert not real.comparable
    reasons = " ".join(real.not_comparable_because)
    assert "4 samples instead of 2,048" in reasons
    assert "13,318 videos of the official list are missing" in reasons
    assert "weights i3d-tats were added by hand" in reasons
    assert noise.metrics[0].value > real.metrics[0].value > 0
    assert real.metrics[0].value == pytest.approx(real.metrics[0].floor)


@pytest.mark.slow
def test_kinetics600(home, clips_dir, tmp_path):
    folder = tmp_path / "kinetics"
    folder.mkdir()
    rows = ["label,youtube_id,time_start,time_end,split"]
    names = {
        "mmaction2_demo_k400_arm_wrestling.mp4": "arm wrestling",
        "decord_flipping_a_pancake.mkv": "flipping pancake",
    }
    for number, (file, label) in enumerate(names.items()):
        clip_id = f"-clip_{number:05d}"
        shutil.copy(clips_dir / "kinetics" / file, folder / f"{clip_id}_000010_000020{Path(file).suffix}")
        rows.append(f"{label},{clip_id},10,20,test")
    rows.append('"dancing, ballet",missing0001,0,10,test')
    (tmp_path / "test.csv").write_text("\n".join(rows) + "\n")
    frozen, noise = run_twice(
        home,
        tmp_path,
        *("kinetics600", "--data", str(folder), "--annotations", str(tmp_path / "test.csv")),
        *("--samples", "4", "--real-samples", "4", "--clips-per-video", "2", "--metric", "fvd"),
        *("--generator", "frozen", "--generator", "noise"),
    )
    assert frozen.data.n_missing == 1
    assert frozen.data.missing == ["missing0001_000000_000010"]
    assert frozen.clip["given"] == 5
    assert not frozen.comparable
    assert noise.metrics[0].value > frozen.metrics[0].value > 0
