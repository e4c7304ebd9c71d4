"""The benchmark commands on embedded data: what they write, what they print, and what a second start does."""

import json
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock

import cogeval
from cogvideo.video import read_clip, write_video
from eval.metrics.frechet import frechet
from eval.pairing import REFERENCE_FILE, ReferenceRecord
from eval.records import read_manifest, read_record, read_result, read_samples

SMALL = ("--samples", "24", "--metric", "fvd", "--workers", "0", "--quiet")


@pytest.fixture
def door(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        code = cogeval.main([str(argument) for argument in arguments])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def only_run(folder, benchmark="ucf101"):
    (run,) = (folder / "runs" / benchmark).iterdir()
    return run


def test_a_run_folder_holds_everything_and_the_number_is_that_of_its_features(door, tmp_path):
    code, out, err = door("ucf101", "--generator", "shuffled", *SMALL)
    assert code == 0, err
    assert "FVD" in out
    run = only_run(tmp_path)
    manifest, result, samples = read_manifest(run), read_result(run), read_samples(run)
    assert len(manifest.planned) == len(samples) == result.counts.ok == 24
    assert {sample.id for sample in manifest.planned} == set(samples)
    assert (run / "report.html").read_text().startswith("<!doctype html>")
    clip = read_clip(run / samples["00000"].file)
    assert clip.shape == (16, 64, 64, 3)
    reference = read_record(run / REFERENCE_FILE, ReferenceRecord)
    (folder,) = set(reference.folders.values())
    (name,) = reference.folders
    fake = np.concatenate([np.load(path)[name] for path in sorted((run / "features").glob("*.npz"))])
    real = np.concatenate([np.load(path)[name] for path in sorted(Path(folder).glob("*.npz"))])
    assert result.metrics[0].value == pytest.approx(frechet(fake, real), rel=1e-12)
    assert result.metrics[0].n_real == 640


def test_controls_come_in_the_right_order(door):
    code, out, err = door(
        *("ucf101", "--samples", "64", "--metric", "fvd", "--metric", "is", "--workers", "0", "--quiet", "--json")
    )
    assert code == 0, err
    results = {run["result"]["generator"]["title"]: run["result"] for run in json.loads(out)["runs"]}
    assert len(results) == 5
    fvd = {title: result["metrics"][0]["value"] for title, result in results.items()}
    real, shuffled, frozen, noise = (fvd[name] for name in ("Real clips", "Shuffled", "Frozen", "Noise"))
    assert real < fvd["CogVideo (cogvideo-tiny)"] < min(shuffled, frozen)
    assert max(shuffled, frozen) < noise
    score = results["Real clips"]["metrics"][1]
    assert 36 < score["value"] <= 40
    assert score["interval"]["low"] < score["value"] < score["interval"]["high"] + 1e-9
    for result in results.values():
        assert not result["comparable"]
        assert "embedded" in result["not_comparable_because"][0]
        assert result["metrics"][0]["floor"] is not None


def test_what_a_second_start_does_with_the_folder(door, tmp_path):
    assert door("ucf101", "--generator", "noise", *SMALL)[0] == 0
    run = only_run(tmp_path)
    first = (run / "result.json").stat().st_mtime_ns
    for way in ("resume", "skip"):
        assert door("ucf101", "--generator", "noise", *SMALL, "--on-existing", way)[0] == 0
        assert (run / "result.json").stat().st_mtime_ns == first
    code, _, err = door("ucf101", "--generator", "noise", *SMALL, "--on-existing", "error")
    assert code == 2
    assert "exists; use --on-existing" in err
    assert door("ucf101", "--generator", "noise", *SMALL, "--on-existing", "redo")[0] == 0
    assert (run / "result.json").stat().st_mtime_ns > first


def test_two_at_once_in_one_folder_are_refused(door, tmp_path):
    assert door("ucf101", "--generator", "noise", *SMALL)[0] == 0
    run = only_run(tmp_path)
    (run / "result.json").unlink()
    with FileLock(run / ".lock"):
        code, _, err = door("ucf101", "--generator", "noise", *SMALL)
    assert code == 2
    assert "in use by another cogeval" in err


def test_a_dry_run_checks_everything_and_writes_no_run(door, tmp_path):
    code, out, _ = door("ucf101", "--generator", "noise", *SMALL, "--dry-run")
    assert code == 0
    assert "planned" in out
    assert not (tmp_path / "runs").exists()
    assert door("ucf101", "--generator", "nosie", *SMALL, "--dry-run")[0] == 2


def test_flags_and_variables_are_on_record(door, monkeypatch, tmp_path):
    monkeypatch.setenv("COGEVAL_SEED", "7")
    assert door("ucf101", "--generator", "noise", *SMALL)[0] == 0
    run = only_run(tmp_path)
    settings = {choice.name: choice for choice in read_manifest(run).choices}
    assert (settings["seed"].value, settings["seed"].origin) == ("7", "environment")
    assert (settings["samples"].value, settings["samples"].origin) == ("24", "flag")
    assert read_result(run).seed == 7


def test_one_folder_of_videos_scores_as_the_clips_it_holds(door, tmp_path):
    """A lossless copy of the clips of `real`, named by their class, has the FVD of `real`."""
    assert door("ucf101", "--generator", "real", *SMALL)[0] == 0
    real = only_run(tmp_path)
    manifest = read_manifest(real)
    from eval.registry import datasets

    root = datasets.get("shapes").make().root
    for sample in manifest.planned:
        target = tmp_path / "copies" / sample.label / f"{sample.index:03d}.mkv"
        target.parent.mkdir(parents=True, exist_ok=True)
        write_video(target, read_clip(root / sample.source.item_id, frames=16), fps=8, codec="ffv1")
    code, _, err = door("ucf101", "--generator", "folder:copies", *SMALL)
    assert code == 0, err
    (copies,) = [run for run in (tmp_path / "runs" / "ucf101").iterdir() if run != real]
    assert read_result(copies).metrics[0].value == read_result(real).metrics[0].value
    assert read_samples(copies)["00000"].origin["file"].endswith(".mkv")


def test_kinetics600_gives_the_first_frames_and_scores_all(door, tmp_path):
    code, out, err = door(
        "kinetics600", *SMALL, "--real-samples", "24", "--json", "--generator", "real", "--generator", "frozen"
    )
    assert code == 0, err
    perfect, frozen = (run["result"] for run in json.loads(out)["runs"])
    assert perfect["metrics"][0]["value"] == pytest.approx(0, abs=1e-6)
    assert frozen["metrics"][0]["value"] > 1
    assert any("first 5 frames" in warning for warning in frozen["warnings"])


def test_prompts_score_each_text_once(door, tmp_path):
    (tmp_path / "prompts.txt").write_text("a red circle moving left\n\na blue square growing\n")
    for number, name in enumerate(("a red circle moving left", "a blue square growing")):
        rng = np.random.default_rng(number)
        clip = rng.integers(0, 256, (16, 64, 64, 3), dtype=np.uint8)
        (tmp_path / "model").mkdir(exist_ok=True)
        write_video(tmp_path / "model" / f"{name}.mp4", clip, fps=8)
    code, out, err = door(
        *("prompts", "prompts.txt", "--protocol", "prompts-shapes", "--generator", "folder:model"),
        *("--metric", "clipsim", "--workers", "0", "--quiet", "--json"),
    )
    assert code == 0, err
    (run,) = json.loads(out)["runs"]
    (clipsim,) = run["result"]["metrics"]
    scores = [sample.scores["clipsim/shapes"] for sample in read_samples(Path(run["run"])).values()]
    assert clipsim["value"] == pytest.approx(np.mean(scores))
    assert clipsim["n_fake"] == 2
