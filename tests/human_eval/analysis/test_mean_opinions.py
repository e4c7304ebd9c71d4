"""Means and their intervals against the analysis of variance, the plain formula, and simulated truth."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from human_eval.analysis.means import (
    BY_RATER,
    TWO_WAY,
    bootstrap_means,
    cells,
    clustered_interval,
    histogram,
    influence,
    mean_opinions,
    top_two,
    two_way_variance,
)
from human_eval.analysis.simulation import Design, Spread, expected_score, simulate_scores


def table(scores_MRI):
    return pd.DataFrame(
        [(f"r{r}", f"i{i}", f"m{m}", value) for (m, r, i), value in np.ndenumerate(scores_MRI) if np.isfinite(value)],
        columns=["rater", "item", "model", "score"],
    )


@pytest.fixture
def scores():
    rng = np.random.default_rng(3)
    rater, item = rng.normal(size=(1, 7, 1)), 2 * rng.normal(size=(1, 1, 5))
    return rater + item + rng.normal(size=(2, 7, 5)) + np.array([0, 1])[:, None, None]


def test_two_way_variance_is_the_analysis_of_variance(scores):
    one, (_, raters, items) = scores[0], scores.shape
    grand, by_rater, by_item = one.mean(), one.mean(1), one.mean(0)
    ms_rater = items * ((by_rater - grand) ** 2).sum() / (raters - 1)
    ms_item = raters * ((by_item - grand) ** 2).sum() / (items - 1)
    rest = one - by_rater[:, None] - by_item + grand
    ms_rest = (rest**2).sum() / ((raters - 1) * (items - 1))
    data = cells(table(scores))
    found = two_way_variance(influence(data, np.array([1.0, 0.0])), data.counts[0])
    assert found.variance == pytest.approx((ms_rater + ms_item - ms_rest) / (raters * items))
    bottom = ms_rater**2 / (raters - 1) + ms_item**2 / (items - 1) + ms_rest**2 / ((raters - 1) * (items - 1))
    assert found.freedom == pytest.approx((ms_rater + ms_item - ms_rest) ** 2 / bottom)


def test_difference_is_the_interval_of_the_paired_differences(scores):
    _, (difference,) = mean_opinions(table(scores), resamples=50)
    paired = table((scores[0] - scores[1])[None])
    data = cells(paired)
    alone = clustered_interval(float(data.means()[0]), influence(data, np.ones(1)), data.counts[0])
    assert difference.interval.ends == pytest.approx(alone.ends)
    assert difference.difference == pytest.approx((scores[0] - scores[1]).mean())


def test_one_item_falls_back_on_raters(scores):
    rows = table(scores[:1, :, :1])
    (opinion,), _ = mean_opinions(rows, resamples=50)
    plain = stats.t.interval(0.95, 6, rows["score"].mean(), stats.sem(rows["score"]))
    assert opinion.interval.method == BY_RATER
    assert opinion.interval.ends == pytest.approx(plain)
    assert opinion.two_way_bootstrap.low is None


def test_one_rater_has_no_interval(scores):
    (opinion,), _ = mean_opinions(table(scores[:1, :1]), resamples=50)
    assert opinion.interval.low is None
    assert "two raters" in opinion.interval.reason


def test_order_of_rows_and_names_changes_nothing(scores):
    rows = table(scores)
    shuffled = rows.sample(frac=1, random_state=1).reset_index(drop=True)
    (first, _), _ = mean_opinions(rows, resamples=100)
    (again, _), _ = mean_opinions(shuffled, resamples=100)
    assert again.interval.ends == pytest.approx(first.interval.ends)
    assert again.by_rater.ends == pytest.approx(first.by_rater.ends)
    assert mean_opinions(rows, resamples=100, seed=1) != mean_opinions(rows, resamples=100, seed=2)


def test_bootstrap_is_that_of_drawn_rows(scores):
    """One resample, done by hand: rows repeated as often as their rater was drawn."""
    rows = table(scores)
    data = cells(rows)
    from human_eval.analysis.resampling import group_weights

    drawn = bootstrap_means(data, "raters", 5, seed=9)
    weights = group_weights(len(data.raters), 5, 9, "raters")
    for resample, means in zip(weights, drawn, strict=True):
        times = rows["rater"].map(dict(zip(data.raters, resample.astype(int), strict=True)))
        again = rows.loc[rows.index.repeat(times)]
        assert again.groupby("model")["score"].mean().to_numpy() == pytest.approx(means)


def test_a_model_that_a_resample_misses_is_counted_not_guessed():
    scores = np.full((2, 6, 6), np.nan)
    scores[0] = np.random.default_rng(0).normal(size=(6, 6))
    scores[1, 0] = [1, 2, 3, 4, 5, 6]
    opinions, _ = mean_opinions(table(scores), resamples=500)
    rare = opinions[1].by_rater
    assert rare.low is None
    assert "had no finite estimate" in rare.reason


def test_incomplete_design_is_close_to_the_truth_of_its_scatter():
    """Each rater sees a third of the items: the two-way standard error matches the scatter over many studies."""
    design, spread = Design(30, 24, items_each=8), Spread()
    means, errors = [], []
    for seed in range(300):
        data = simulate_scores(design, [3.2], spread, np.random.default_rng(seed))
        means.append(data.means()[0])
        errors.append(two_way_variance(influence(data, np.ones(1)), data.counts[0]).variance)
    assert np.sqrt(np.mean(errors)) == pytest.approx(np.std(means, ddof=1), rel=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("design", [Design(90, 30), Design(24, 10)])
def test_two_way_intervals_cover_and_naive_ones_do_not(design):
    """Within the error of 300 studies; `benchmarks/human_coverage.py` is the larger measurement."""
    means, spread, studies = (3.7, 3.2), Spread(), 300
    truth = [expected_score(mean, spread, design.scale) for mean in means]
    hits = np.zeros((studies, 3))
    for seed in range(studies):
        data = simulate_scores(design, means, spread, np.random.default_rng([seed, 5]))
        found, seen = data.means(), data.counts[0]
        for place, (weights, value, wanted) in enumerate(
            (
                ((1.0, 0.0), found[0], truth[0]),
                ((1.0, -1.0), found[0] - found[1], truth[0] - truth[1]),
            )
        ):
            low, high = clustered_interval(value, influence(data, np.array(weights)), seen).ends
            hits[seed, place] = low <= wanted <= high
        scores = data.sums[0].ravel()
        low, high = stats.t.interval(0.95, scores.size - 1, scores.mean(), stats.sem(scores))
        hits[seed, 2] = low <= truth[0] <= high
    mean, difference, naive = hits.mean(0)
    error = 2.6 * np.sqrt(0.95 * 0.05 / studies)
    assert 0.95 - error < mean < 0.95 + error
    assert 0.95 - error < difference < 0.95 + error
    assert naive < 0.7


def test_true_score_is_the_mean_of_many():
    spread, scale = Spread(), (1, 5)
    latent = np.random.default_rng(0).normal(4.4, spread.total, 200_000)
    clicked = np.clip(np.floor(latent + 0.5), *scale).mean()
    assert expected_score(4.4, spread, scale) == pytest.approx(clicked, abs=0.01)


def test_histogram_and_top_two():
    scores = np.array([1.0, 4, 5, 5])
    assert histogram(scores, 1, 5) == {"1": 1, "2": 0, "3": 0, "4": 1, "5": 2}
    assert top_two(scores, 1, 5) == 0.75
    assert sum(histogram(np.array([0.0, 33.3, 100]), 0, 100).values()) == 3
    assert top_two(np.array([0.0, 33.3]), 0, 100) is None


def test_methods_are_named(scores):
    (first, _), _ = mean_opinions(table(scores), resamples=50, seed=4)
    assert first.interval.method == TWO_WAY
    assert "naive" in first.naive.method
    assert (first.by_rater.resamples, first.by_rater.seed) == (50, 4)
    assert first.design_effect == pytest.approx((first.interval.se / first.naive.se) ** 2)
    assert first.n_effective == pytest.approx(first.n / first.design_effect)
