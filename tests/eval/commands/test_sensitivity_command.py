"""`cogeval sensitivity`: a small run from clips to record and page, resumed after a kill, and its refusals."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

import cogeval
from cogvideo.video import write_video
from eval.datasets.shapes_drawing import MOTIONS, draw_clip
from eval.features import ShardFolder
from eval.responses import read_sensitivity

FLAGS = ("--workers", "0", "--quiet", "--json")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Four videos of 40 frames, one that is too short, and one that is none."""
    place = tmp_path_factory.mktemp("videos")
    for k in range(4):
        there = draw_clip("square", "red", MOTIONS[k], f"test/{k}")
        write_video(place / f"v{k}.avi", np.concatenate([there, there[::-1], there])[:40], fps=8, codec="ffv1")
    write_video(place / "short.avi", there[:5], fps=8, codec="ffv1")
    (place / "broken.mp4").write_bytes(b"")
    return place


def run(capsys, *arguments, code=0):
    assert cogeval.main(["sensitivity", *arguments]) == code
    return capsys.readouterr()


@pytest.fixture
def flags(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("COGEVAL_HOME", str(tmp_path / "home"))
    clips = ("--clips", str(folder), "--windows", "4", "--out", str(tmp_path / "runs"))
    return (*clips, "--metric", "temporal-flickering", "--metric", "motion-smoothness", *FLAGS)


def test_from_clips_to_page_and_again(capsys, flags, tmp_path, monkeypatch):
    chosen = (*flags, "--corruption", "freeze", "--corruption", "reversed", "--corruption", "noise")
    found = json.loads(run(capsys, *chosen).out)
    place = tmp_path / "runs" / "sensitivity"
    (made,) = place.iterdir()
    assert found["run"] == str(made)
    record = read_sensitivity(made)
    assert found["sensitivity"] == record.model_dump(mode="json")
    assert (record.n_clips, record.n_reference, record.n_sources) == (8, 8, 4)
    assert record.data.broken[0] == ("broken.mp4", "zero bytes")
    assert "short.avi" in dict(record.data.broken)
    assert "windows of the same 4 videos" in record.notes[0]
    smooth = next(metric for metric in record.metrics if metric.metric == "motion-smoothness")
    whole = {curve.corruption: curve.points[-1] for curve in smooth.curves}
    assert whole["freeze"].value == 1, "a frozen clip is perfectly smooth"
    assert whole["reversed"].change == pytest.approx(0, abs=1e-9), "backwards is as smooth as forwards"
    assert whole["noise"].change < whole["noise"].high < 0
    page = (made / "report.html").read_text()
    assert "Does not see motion" in page
    assert "rewards freeze" in page

    # A kill: the record is gone, and one shard of one condition.
    (made / "sensitivity.json").unlink()
    (made / "features" / "freeze-1" / "00000.npz").unlink()
    written, write = [], ShardFolder.write

    def noted(self, *rest):
        written.append(self.path.name)
        write(self, *rest)

    monkeypatch.setattr(ShardFolder, "write", noted)
    again = json.loads(run(capsys, *chosen).out)["sensitivity"]
    assert written == ["freeze-1"]
    for volatile in ("timing", "created", "environment"):
        again.pop(volatile)
        found["sensitivity"].pop(volatile)
    assert again == found["sensitivity"]


def test_finished_is_read_and_not_measured_again(capsys, flags, monkeypatch):
    chosen = (*flags, "--corruption", "freeze")
    first = run(capsys, *chosen).out
    monkeypatch.setattr(ShardFolder, "write", lambda *_: pytest.fail("measured again"))
    assert run(capsys, *chosen).out == first
    assert "exists; use --on-existing" in run(capsys, *chosen, "--on-existing", "error", code=2).err


def test_table(capsys, flags):
    words = [flag for flag in flags if flag != "--json"]
    shown = run(capsys, *words, "--corruption", "freeze").out
    assert "Flickering" in shown
    assert "rewards freeze" in shown
    assert "+ is worse" in " ".join(shown.split())


def test_metrics_without_weights_or_captions_are_left_out_and_named(capsys, folder, tmp_path, monkeypatch):
    monkeypatch.setenv("COGEVAL_HOME", str(tmp_path / "home"))
    clips = ("--clips", str(folder), "--windows", "4", "--out", str(tmp_path / "runs"), *FLAGS, "--offline")
    record = json.loads(run(capsys, *clips, "--corruption", "freeze").out)["sensitivity"]
    reasons = {entry["id"]: entry["reason"] for entry in record["left_out"]}
    assert "cogeval weights" in reasons["fvd/sensitivity-16f"]
    assert "needs more than its 64 features, there are 8 rows" in reasons["motion-distance/whole-16f"]
    assert [metric["metric"] for metric in record["metrics"]] == ["temporal-flickering", "motion-smoothness"]
    assert "cogeval weights" in run(capsys, *clips, "--metric", "fvd/sensitivity-16f", code=3).err
    assert "needs more than its 64" in run(capsys, *clips, "--metric", "motion-distance", code=2).err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--data", "a", "--clips", "b"), "two sources"),
        (("--clips", "no-such-folder"), "no such folder"),
        (("--corruption", "frezee"), "did you mean freeze"),
        (("--metric", "fvdd"), "did you mean"),
        (("--windows", "4"), "--windows is for a folder"),
        (("--protocol", "tats-16f-2048"), "belongs to `cogeval ucf101`"),
    ],
)
def test_bad_usage_is_one_line(capsys, arguments, words):
    told = run(capsys, *arguments, code=2).err
    assert words in told
    assert told.count("\n") == 1


def test_a_folder_with_too_few_windows_is_refused(capsys, folder, tmp_path):
    one = tmp_path / "one"
    one.mkdir()
    shutil.copy(folder / "v0.avi", one)
    told = run(capsys, "--clips", str(one), "--samples", "99", *FLAGS, code=2).err
    assert "two sides of 99" in told
