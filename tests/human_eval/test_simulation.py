"""Synthetic raters: they fill the very design, their truth is found again, and nothing but pixels tells the models."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import cogeval
from cogvideo.errors import UserError
from human_eval.analysed import analyze_study
from human_eval.blinding_audit import Seen, _hits, audit_study, balanced_accuracy, feature_matrix
from human_eval.simulate.raters import simulate
from human_eval.simulate.report import report
from human_eval.simulate.running import simulate_study
from human_eval.simulate.truth import expected_scores, plant
from human_eval.store.watching import progress


def test_the_design_is_filled_exactly_and_the_truth_is_in_the_intervals(study_folder) -> None:
    found = simulate_study(study_folder, raters=12, seed=2).found
    assert (found.complete, found.left) == (12, 0)
    assert found.answers == found.answers_planned == 12 * 6 * 13
    assert (found.largest_gap, found.position_gap) == (0, 0)
    assert found.intervals == 12
    assert found.covered >= 11
    assert found.naive_covered < found.covered
    assert found.flagged == []
    assert json.loads((study_folder / "simulated" / "report.json").read_text())["complete"] == 12
    assert not (study_folder / "study.db").exists()


def test_dropouts_are_replaced_and_careless_raters_are_noticed(site) -> None:
    truth = plant(site.running.study, 7)
    happened = asyncio.run(
        simulate(site.running, site.database, truth, raters=12, seed=7, dropout=0.3, careless=0.25, together=6)
    )
    seen = site.database.read(lambda c: progress(c, site.running))
    assert (seen.complete, seen.live) == (12, 0)
    assert seen.left == happened.left > 0
    assert seen.largest_gap <= 1
    found = report(site.running, site.database, truth, happened, 12)
    assert found.answers == found.answers_planned
    assert set(found.careless) <= set(found.flagged)
    assert len(found.careless) > 0


def test_the_same_seed_gives_the_same_study(built, tmp_path: Path) -> None:
    for name in ("one", "two"):
        shutil.copytree(built["pairwise"], tmp_path / name / "st")
        simulate_study(tmp_path / name / "st", raters=3, seed=4)
    one, two = (tmp_path / name / "st" / "simulated" / "export" for name in ("one", "two"))
    assert all((one / file.name).read_bytes() == file.read_bytes() for file in two.iterdir())


def test_real_and_simulated_raters_never_share_a_database(make_site, study_folder) -> None:
    site = make_site(study_folder)
    asyncio.run(site.enter("real"))
    site.database.close()
    with pytest.raises(UserError, match="already holds raters"):
        simulate_study(study_folder, raters=1, url=f"sqlite:///{study_folder}/study.db")
    with pytest.raises(UserError, match="places for 90 raters, 91 were asked for"):
        simulate_study(study_folder, raters=91)


def test_a_result_of_simulated_raters_says_so_first(study_folder) -> None:
    place = simulate_study(study_folder, raters=3, seed=2).folder
    result, paths = analyze_study(study_folder, tables=place / "export", resamples=50, seed=0)
    told = "All 3 raters are simulated: no person gave their answers"
    assert result.notes[0].startswith(told)
    assert told in next(path for path in paths if path.suffix == ".html").read_text(encoding="utf-8")


def test_the_planted_means_are_apart_and_rounding_is_counted(site) -> None:
    study = site.running.study
    truth = plant(study, 0)
    expected = expected_scores(study, truth)
    for aspect in study.aspects:
        values = list(expected[aspect.id].values())
        assert values == sorted(values, reverse=True)
        drawn = [
            min(
                max(round(truth.latent(study, aspect.id, f"r{k}", f"i{k}", study.models[0].id)), aspect.scale.low),
                aspect.scale.high,
            )
            for k in range(4000)
        ]
        assert np.mean(drawn) == pytest.approx(values[0], abs=4 * np.std(drawn) / 63)


@pytest.mark.slow
def test_nothing_but_pixels_tells_the_models_apart(study_folder) -> None:
    found = audit_study(study_folder, trials=100)
    assert found.hits == []
    assert found.reused_addresses == 0
    assert found.accuracy <= found.chance + 0.05
    assert found.is_blind
    assert found.unused_names == []


def test_a_name_in_the_pages_is_found(study_folder) -> None:
    path = study_folder / "study.yaml"
    path.write_text(path.read_text().replace("Which one do you like best?", "Is it the quokka?"))
    found = audit_study(study_folder, trials=12)
    assert found.hits == ["'quokka' in a page"]
    assert not found.is_blind


def test_a_name_counts_as_a_word_of_its_own_and_in_bytes_if_it_is_long() -> None:
    """Every study with a hidden reference has a model called "real", and asks for realism."""
    own, page = ("/", b"consent"), ("/t/1", b"<h2>Motion realism</h2> really unreal")
    body = b"..ReAl..quokka.."
    video = Seen("real", "/m/a.mp4", (("server", "x"),), body, 0.0, 0)
    assert _hits(["real"], [video], [own, page]) == []
    assert _hits(["real", "quokka"], [video], [own, page]) == ["'quokka' in a video"]
    assert _hits(["real"], [], [own, ("/t/2", b"<p data-model='Real'>")]) == ["'real' in a page"]
    assert _hits(["real"], [], [own, ("/t/real", b"")]) == ["'real' in a page"]
    told = Seen("real", "/m/a.mp4", (("etag", "real-1"),), b"", 0.0, 0)
    assert _hits(["real"], [told], [own]) == ["'real' in a video"]


@pytest.mark.parametrize("leak", ["header", "size", "address", "first bytes", "none"])
def test_the_classifier_sees_each_leak(leak: str) -> None:
    random = np.random.default_rng(3)
    seen = []
    for k in range(240):
        model = k % 3
        tag = random.bytes(16).hex()
        head = bytearray(5000)
        if leak == "first bytes":
            head[700] = model * 3
        seen.append(
            Seen(
                model=f"m{model}",
                address=f"/m/{'ab'[model == 1] if leak == 'address' else tag[0]}{tag}.mp4",
                headers=(("etag", tag), ("last-modified", f"0{model}:00" if leak == "header" else "00:00")),
                body=bytes(head) + bytes(model if leak == "size" else 0),
                seconds=float(random.random()),
                slot=int(random.integers(3)),
            )
        )
    accuracy = balanced_accuracy(feature_matrix(seen), [one.model for one in seen], seed=0)
    assert (accuracy > 0.6) == (leak != "none")


@pytest.mark.slow
def test_the_commands_work_from_design_to_result(
    video_folders, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = str(tmp_path / "st")
    names = [str(folder) for folder in video_folders]

    def command(*words: str) -> str:
        assert cogeval.main(["human", *words]) == 0
        return capsys.readouterr().out

    out = command("init", study, "--runs", *names, "--items", "4", "--raters", "6", "--size", "64", "--seed", "3")
    assert "3 models, 4 prompts, 4 pages a rater, 6 raters" in out
    assert "a mean is known to ±" in command("plan", study, "--simulations", "20")
    assert json.loads(command("status", study, "--json"))["complete"] == 0
    simulated = json.loads(command("simulate", study, "--json"))
    assert (simulated["complete"], simulated["largest_gap"]) == (6, 0)
    url = f"sqlite:///{study}/simulated/study.db"
    assert "6 of 6 sessions complete" in command("status", study, "--database", url)
    assert "ratings.csv" in command("export", study, "--database", url, "--out", str(tmp_path / "out"))
    found = json.loads(command("analyze", study, "--tables", str(tmp_path / "out"), "--resamples", "100", "--json"))
    assert found["n_raters"] == 6
    assert (tmp_path / "st" / "analysis" / "analysis.json").is_file()
    lines = command("analyze", study, "--database", url, "--resamples", "100")
    assert lines.count("n = 24") == 12
    assert "blind" in command("audit-blinding", study, "--trials", "24")
    (tmp_path / "out" / "raters.csv").unlink()
    rater = json.loads(command("status", study, "--database", url, "--json"))["raters"][0]["rater"]
    assert "removed one rater" in command("forget", study, rater, "--database", url)
    assert rater not in (tmp_path / "out" / "raters.csv").read_text()


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["plan", "nowhere"], "nowhere"),
        (["init", "st", "--runs", "nowhere"], "nowhere is not a folder"),
        (["serve", "nowhere"], "does not exist; make a study with"),
        (["analyze", "nowhere"], "nowhere"),
    ],
)
def test_bad_input_is_one_line(
    words: list[str], line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cogeval.main(["human", *words]) == 2
    err = capsys.readouterr().err
    assert line in err
    assert err.count("\n") == 1
