"""Coefficients with weights against repeated points, their intervals, ranking accuracy, and paired differences."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from human_eval.analysis.correlation import (
    KINDS,
    coefficient,
    coefficient_difference,
    metric_agreement,
    ranking_accuracy,
    transform_interval,
    weighted_coefficient,
)

THEIRS = {"pearson": stats.pearsonr, "spearman": stats.spearmanr, "kendall": stats.kendalltau}


@pytest.mark.parametrize("kind", KINDS)
def test_weights_are_repeated_points(kind):
    rng = np.random.default_rng(0)
    x, y = np.round(rng.normal(size=25), 1), np.round(rng.normal(size=25), 1)
    weights = rng.integers(0, 4, size=(8, 25)).astype(float)
    for row, value in zip(weights.astype(int), weighted_coefficient(x, y, weights, kind), strict=True):
        assert value == pytest.approx(THEIRS[kind](np.repeat(x, row), np.repeat(y, row)).statistic)


@pytest.mark.parametrize("kind", KINDS)
def test_transform_intervals_cover(kind):
    """Normal pairs: the true coefficients are known."""
    rho = 0.6
    truth = {"pearson": rho, "spearman": 6 / np.pi * np.arcsin(rho / 2), "kendall": 2 / np.pi * np.arcsin(rho)}[kind]
    hits = 0
    for seed in range(400):
        x, e = np.random.default_rng(seed).normal(size=(2, 40))
        low, high = coefficient(x, rho * x + np.sqrt(1 - rho**2) * e, kind).interval.ends
        hits += low <= truth <= high
    assert abs(hits / 400 - 0.95) < 2.6 * np.sqrt(0.95 * 0.05 / 400)


def test_what_cannot_be_said_is_not():
    perfect = coefficient([1, 2, 3, 4, 5], [2, 4, 6, 8, 11], "spearman")
    assert perfect.value == pytest.approx(1)
    assert (perfect.n, perfect.interval.low) == (5, None)
    assert perfect.interval.reason == "the coefficient is 1: the transform gives no width"
    assert coefficient([1, 2, 3], [1, 1, 1], "pearson").interval.reason == "one side does not vary"
    assert coefficient([1, 2], [1, 2], "kendall").value is None
    assert transform_interval(0.5, 3, "pearson").reason == "n = 3 is too small"
    assert coefficient([1, 2, 3, np.nan], [1, 3, 2, 9], "pearson").n == 3


def test_ranking_accuracy_counts_ties_of_the_metric_half():
    assert ranking_accuracy([1, 2, 3], [10, 20, 20], "higher") == (pytest.approx(2.5 / 3), 3)
    assert ranking_accuracy([1, 2, 3], [9, 8, 7], "lower") == (1.0, 3)
    assert ranking_accuracy([2, 2, 3], [1, 5, 7], "higher") == (1.0, 2)
    assert ranking_accuracy([1, 1], [1, 2], "higher") == (None, 0)


@pytest.fixture
def scores():
    rng = np.random.default_rng(6)
    rows = []
    for model in range(8):
        level = rng.normal()
        for item in range(10):
            human = level + rng.normal(0, 0.5)
            rows.append((f"m{model}", f"i{item}", human, human + rng.normal(0, 0.3), rng.normal()))
    return pd.DataFrame(rows, columns=["model", "item", "human", "good", "noise"])


def test_metric_agreement_by_model_and_item(scores):
    found = metric_agreement(scores.assign(value=scores["good"]), "good", "higher", resamples=500)
    means = scores.groupby("model")[["human", "good"]].mean()
    assert found.by_model["pearson"].value == pytest.approx(stats.pearsonr(means["human"], means["good"]).statistic)
    assert (found.by_model["spearman"].n, found.by_item["spearman"].n) == (8, 80)
    clustered, plain = found.by_item["spearman"].clustered, found.by_item["spearman"].interval
    assert clustered.high - clustered.low > plain.high - plain.low


def test_a_metric_of_whole_models_has_no_item_level(scores):
    means = scores.groupby("model")[["human", "good"]].mean().reset_index()
    found = metric_agreement(means.assign(value=means["good"], item=""), "good", "higher", resamples=10)
    assert found.by_item == {}
    assert found.by_model["kendall"].n == 8


def test_difference_of_dependent_coefficients(scores):
    found = coefficient_difference(scores, ("good", "higher"), ("noise", "higher"), resamples=500)
    assert found.difference > 0.5
    assert found.interval.low > 0
    assert (found.n, found.models) == (80, 8)
    turned = scores.assign(good=-scores["good"])
    same = coefficient_difference(turned, ("good", "lower"), ("noise", "higher"), resamples=500)
    assert same.interval.ends == pytest.approx(found.interval.ends)
    nothing = coefficient_difference(scores, ("good", "higher"), ("good", "higher"), resamples=500)
    assert nothing.interval.ends == (0, 0)
