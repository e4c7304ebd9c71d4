"""A study with known truth through the whole analysis, what is written, and what is refused."""

import csv
import io
import json

import numpy as np
import pandas as pd
import pytest

from cogvideo.errors import UserError
from human_eval.analysis.analyze import AnalysisSettings, analyze_tables
from human_eval.analysis.findings import Resampling
from human_eval.analysis.screening import ScreeningRules
from human_eval.analysis.simulation import Design, Spread, expected_score, scores_of, simulate_latent
from human_eval.analysis.tables import StudyTables
from human_eval.analysis.write import csv_text, write_analysis

MODELS = ("alpha", "beta", "=gamma()")
MEANS = {"motion": (3.6, 3.2, 2.4), "overall": (7.0, 6.1, 4.6)}
SCALES = {"motion": (1.0, 5.0), "overall": (1.0, 10.0)}
SPREADS = {"motion": Spread(residual=0.5), "overall": Spread(0.6, 0.6, 0.4, 0.2, 0.9)}
FAST = AnalysisSettings(Resampling(resamples=200, seed=5))


def study(raters=30, items=12, seed=0):
    """Ratings of two aspects on two scales, favourites, pairs with ties, rankings and checks, all from one truth."""
    rating_rows, favourite_rows, pair_rows, ranking_rows, check_rows, metric_rows = [], [], [], [], [], []
    rng = np.random.default_rng(seed)
    for aspect, means in MEANS.items():
        design = Design(raters, items, 3, scale=SCALES[aspect])
        latent = simulate_latent(design, means, SPREADS[aspect], rng)
        data = scores_of(latent, design)
        for (m, r, i), score in np.ndenumerate(data.sums):
            rating_rows.append((data.raters[r], data.items[i], MODELS[m], aspect, score, 1 + (m + r + i) % 3))
    for r, rater in enumerate(data.raters):
        for i, item in enumerate(data.items):
            order = np.argsort(-latent[:, r, i])
            favourite_rows.append((rater, item, "|".join(MODELS), MODELS[order[0]] if rng.random() < 0.9 else "none"))
            a, b = rng.choice(3, 2, replace=False)
            gap = latent[a, r, i] - latent[b, r, i]
            pair_rows.append((rater, item, MODELS[a], MODELS[b], "tie" if abs(gap) < 0.3 else "a" if gap > 0 else "b"))
        ranking_rows.append((rater, "", ">".join(MODELS[m] for m in np.argsort(-latent[:, r].mean(1)))))
        check_rows += [(rater, f"g{n}", "gold", rater != "r001") for n in range(3)]
    for m, model in enumerate(MODELS):
        metric_rows += [
            (model, item, "clip-sim", 0.3 - 0.02 * m + 0.01 * rng.random(), "higher") for item in data.items
        ]
        metric_rows += [(model, "", "fvd", 300.0 + 90 * m, "lower")]
    frame = pd.DataFrame
    return StudyTables(
        ratings=frame(rating_rows, columns=["rater", "item", "model", "aspect", "score", "position"]),
        favourites=frame(favourite_rows, columns=["rater", "item", "shown", "choice"]),
        pairs=frame(pair_rows, columns=["rater", "item", "model_a", "model_b", "winner"]),
        rankings=frame(ranking_rows, columns=["rater", "item", "ranking"]),
        checks=frame(check_rows, columns=["rater", "check", "kind", "passed"]),
        metrics=frame(metric_rows, columns=["model", "item", "metric", "value", "direction"]),
        scales=SCALES,
        models=MODELS,
    )


@pytest.fixture(scope="module")
def result():
    return analyze_tables(study(), FAST)


def test_truth_is_inside_the_intervals(result):
    for aspect, found in result.analysed.aspects.items():
        for one, mean in zip(found.opinions, MEANS[aspect], strict=True):
            truth = expected_score(mean, SPREADS[aspect], SCALES[aspect])
            low, high = one.interval.ends
            assert low < truth < high, (aspect, one.model)
            assert one.interval.se > 1.5 * one.naive.se


def test_every_kind_of_answer_gives_the_same_order(result):
    found = result.analysed
    assert result.models == MODELS
    for aspect in found.aspects.values():
        assert sorted(aspect.opinions, key=lambda one: -one.mean) == aspect.opinions
        assert aspect.rater_model.converged
        assert list(aspect.rater_model.quality_by_model) == list(MODELS)
    (pairs,), (favourites,), (rankings,) = (list(x.values()) for x in (found.pairs, found.favourites, found.rankings))
    for one in (pairs.bradley_terry, pairs.davidson, pairs.bradley_terry_ties_dropped, favourites.plackett_luce):
        assert one.status == "ok"
        assert list(one.theta) == list(MODELS)
        assert sorted(one.theta.values(), reverse=True) == list(one.theta.values())
    assert [one.option for one in favourites.shares] == [*MODELS, "none"]
    assert sum(one.count for one in favourites.shares) == favourites.n
    assert rankings.mean_rank["alpha"] < rankings.mean_rank["=gamma()"]
    metrics = found.metrics["motion"].metrics
    assert {one.metric: one.ranking_accuracy for one in metrics} == {"clip-sim": 1.0, "fvd": 1.0}


def test_who_is_left_out_is_said_and_shown_both_ways(result):
    assert result.excluded == {"r001": ("gold",)}
    assert result.refused_payment == ["r001"]
    assert (result.n_raters, result.analysed.raters, result.everybody.raters) == (30, 29, 30)
    n = result.everybody.aspects["motion"].opinions[0].n
    assert n - result.analysed.aspects["motion"].opinions[0].n == 12
    assert any("r001 (gold)" in note for note in result.notes)
    assert any("times too narrow" in note for note in result.notes)


def test_nobody_left_out_means_one_set_of_results():
    found = analyze_tables(study(6, 4), AnalysisSettings(Resampling(20), ScreeningRules(excluding=())))
    assert found.excluded == {}
    assert found.everybody is None


def test_scales_are_brought_together_before_raters_are_screened(result):
    """A tenth of the way is as much on 1 to 10 as on 1 to 5: variances stay those of a five-point scale."""
    assert max(one.variance for one in result.screening.raters.values()) < 3


def test_a_rule_that_leaves_out_too_many_is_called_out():
    settings = AnalysisSettings(Resampling(20), ScreeningRules(least_correlation=0.75))
    notes = analyze_tables(study(20, 6), settings).notes
    assert any("limit may be too strict" in note for note in notes)


def test_the_same_answers_give_the_same_bytes_in_any_order(result, tmp_path):
    """But for pairs, whose order is part of what they show."""
    tables = study()
    for name in ("ratings", "favourites", "rankings", "checks", "metrics"):
        object.__setattr__(tables, name, getattr(tables, name).sample(frac=1, random_state=3))
    first = write_analysis(result, tmp_path / "a")
    second = write_analysis(analyze_tables(tables, FAST), tmp_path / "b")
    assert [path.name for path in first] == [path.name for path in second]
    assert [path.name for path in first if path.read_bytes() != (tmp_path / "b" / path.name).read_bytes()] == []


def test_files_are_whole_and_plain(result, tmp_path):
    paths = write_analysis(result, tmp_path / "new" / "folder")
    assert sorted(path.name for path in paths) == sorted(path.name for path in (tmp_path / "new/folder").iterdir())
    content = json.loads(paths[0].read_text(), parse_constant=lambda text: pytest.fail(f"{text} is no JSON"))
    assert content["schema"] == 1
    assert content["excluded"] == {"r001": ["gold"]}
    interval = content["analysed"]["pairs"][""]["bradley_terry"]["strengths"][0]["by_rater"]
    assert (interval["resamples"], interval["seed"]) == (200, 5)
    with (tmp_path / "new/folder/opinions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 2 * 3
    assert {row["raters"] for row in rows} == {"analysed", "everybody"}
    assert "'=gamma()" in {row["model"] for row in rows}
    assert float(rows[0]["mean"]) == result.analysed.aspects["motion"].opinions[0].mean


def test_no_cell_is_a_formula():
    text = csv_text([{"name": start + "cmd", "value": -1.5} for start in "=+-@\t\r"])
    cells = [row["name"] for row in csv.DictReader(io.StringIO(text, newline=""))]
    assert cells == [f"'{start}cmd" for start in "=+-@\t "]
    assert "-1.5" in text


def test_a_failed_write_leaves_nothing(result, tmp_path, monkeypatch):
    def full(_):
        raise OSError("disk full")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="disk full"):
        write_analysis(result, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_study_without_answers_is_refused():
    with pytest.raises(UserError, match="no answers yet"):
        analyze_tables(StudyTables())


def test_rules_that_leave_nobody_are_refused():
    tables = study(4, 4)
    checks = tables.checks.assign(passed=False)
    with pytest.raises(UserError, match="leave none of 4 raters"):
        analyze_tables(StudyTables(ratings=tables.ratings, checks=checks, scales=SCALES), FAST)


@pytest.mark.parametrize("keep", ["favourites", "pairs", "rankings", "ratings"])
def test_a_study_may_have_one_kind_of_question(keep):
    tables = StudyTables(**{keep: getattr(study(8, 4), keep)})
    found = analyze_tables(tables, AnalysisSettings(Resampling(50), ScreeningRules(excluding=())))
    assert found.analysed.raters == 8
    assert json.dumps(found.to_json(), allow_nan=False)


def test_one_rater_one_vote():
    tables = StudyTables(
        ratings=pd.DataFrame([("r", "i", "m", "motion", 3)], columns=["rater", "item", "model", "aspect", "score"]),
        favourites=pd.DataFrame([("r", "", "m|n", "m")], columns=["rater", "item", "shown", "choice"]),
    )
    found = analyze_tables(tables, FAST).analysed
    assert found.aspects["motion"].opinions[0].interval.low is None
    assert found.favourites[""].shares[0].interval.low is None
    assert found.favourites[""].plackett_luce.status == "no finite estimate"
