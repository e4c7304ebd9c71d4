"""Rank ranges: equal models share 1 to k, told ones do not, and the ranges hold a simulated truth as often as said."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from eval.intervals import paired_mean_difference
from reports.board.ranking import Entrant, Moved, holm, rank


def means(scores_NK: np.ndarray, key: str = "same") -> list[Entrant]:
    """Entrants whose value is the mean of their column."""
    units = [f"{i:05d}" for i in range(len(scores_NK))]
    return [
        Entrant(f"m{j}", float(column.mean()), len(column), moved=Moved(key, units, column - column.mean()))
        for j, column in enumerate(scores_NK.T)
    ]


@pytest.mark.parametrize("k", [2, 3, 7])
def test_permuted_equal_models_share_all_places(k) -> None:
    random = np.random.default_rng(k)
    scores = random.normal(size=120)
    entrants = means(np.stack([random.permutation(scores) for _ in range(k)], axis=1))
    assert rank(entrants, "lower").ranges == [(1, k)] * k


def test_the_very_same_scores_are_one_model() -> None:
    scores = np.random.default_rng(0).normal(size=50)
    assert rank(means(np.stack([scores, scores, scores + 5], axis=1)), "higher").ranges == [(2, 3), (2, 3), (1, 1)]


@pytest.mark.parametrize("direction", ["lower", "higher"])
def test_models_far_apart_have_one_place_each(direction) -> None:
    scores = np.random.default_rng(1).normal(size=(200, 4)) + np.array([30.0, 0.0, 10.0, 20.0])
    places = [1 + sorted([30, 0, 10, 20], reverse=direction == "higher").index(v) for v in (30, 0, 10, 20)]
    assert rank(means(scores), direction).ranges == [(p, p) for p in places]


def test_order_of_entrants_changes_no_range() -> None:
    scores = np.random.default_rng(2).normal(size=(60, 4)) + np.array([0.0, 0.2, 0.9, 1.0])
    entrants = means(scores)
    by_name = {e.id: r for e, r in zip(entrants, rank(entrants, "lower").ranges, strict=True)}
    for order in permutations(entrants):
        assert {e.id: r for e, r in zip(order, rank(order, "lower").ranges, strict=True)} == by_name


def test_pairing_tells_what_two_intervals_cannot() -> None:
    """A difference of 0.05 under a common effect of sd 1: told on the same prompts, not from separate intervals."""
    random = np.random.default_rng(3)
    prompts = random.normal(size=(300, 1))
    scores = prompts + 0.05 * random.normal(size=(300, 2)) + np.array([0.0, 0.05])
    half = 1.96 * scores.std(axis=0) / np.sqrt(300)
    alone = [Entrant(f"m{j}", float(scores[:, j].mean()), 300, half_width=float(half[j])) for j in range(2)]
    assert rank(means(scores), "lower").ranges == [(1, 1), (2, 2)]
    assert rank(alone, "lower").ranges == [(1, 2), (1, 2)]


def test_a_pair_is_that_of_the_paired_bootstrap() -> None:
    scores = np.random.default_rng(4).gamma(2.0, size=(400, 2))
    (pair,) = rank(means(scores), "lower").pairs
    ids = [f"{i:05d}" for i in range(400)]
    expected = paired_mean_difference(*(dict(zip(ids, column, strict=True)) for column in scores.T))
    assert pair.is_paired
    assert pair.difference == pytest.approx(expected.value)
    assert (pair.low, pair.high) == pytest.approx((expected.low, expected.high), abs=0.02)
    assert pair.p == pytest.approx(stats.ttest_rel(*scores.T).pvalue, rel=1e-6)


def test_clips_of_one_source_count_once() -> None:
    """Ten copies of each sample are no more evidence."""
    scores = np.random.default_rng(5).normal(size=(12, 2)) + np.array([0.0, 0.5])
    copied = np.repeat(scores, 10, axis=0)
    units = [str(i // 10) for i in range(120)]
    entrants = [
        Entrant(f"m{j}", float(c.mean()), 120, moved=Moved("same", units, c - c.mean())) for j, c in enumerate(copied.T)
    ]
    one, many = rank(means(scores), "lower").pairs[0], rank(entrants, "lower").pairs[0]
    assert (many.low, many.high) == pytest.approx((one.low, one.high))


def test_nothing_known_of_the_spread_is_refused() -> None:
    assert rank([], "lower").ranges == []
    assert rank([Entrant("a", 1.0, 5, half_width=0.1)], "lower").ranges == [(1, 1)]
    with pytest.raises(ValueError, match="neither"):
        rank([Entrant("a", 1.0, 5)], "lower")


def test_holm_against_scipy_free_definition() -> None:
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03}) == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06})
    assert holm({}) == {}


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(-5, 5), min_size=1, max_size=6), st.integers(0, 99))
def test_ranges_always_make_sense(centres, seed) -> None:
    scores = np.random.default_rng(seed).normal(size=(20, len(centres))) + np.array(centres)
    found = rank(means(scores), "lower", seed=seed)
    order = np.argsort(scores.mean(axis=0), kind="stable")
    for place, i in enumerate(order, start=1):
        low, high = found.ranges[i]
        assert 1 <= low <= place <= high <= len(centres)


def test_ranges_hold_a_simulated_truth() -> None:
    """Groups of equal models on shared prompts; benchmarks/rank_coverage.py repeats this 2,000 times a setting."""
    truth = np.array([0.0, 0.0, 0.0, 2.0, 2.0, 4.0])
    low = 1 + (truth[None, :] < truth[:, None]).sum(axis=1)
    high = len(truth) - (truth[None, :] > truth[:, None]).sum(axis=1)
    hits = 0
    for repetition in range(300):
        random = np.random.default_rng([80, repetition])
        prompts = random.normal(size=(80, 1))
        ranges = rank(means(truth + prompts + random.normal(size=(80, 6))), "lower", seed=repetition).ranges
        hits += all(a <= lo and hi <= b for (a, b), lo, hi in zip(ranges, low, high, strict=True))
    # 95 % less and plus three standard errors of 300 repetitions.
    assert 0.91 <= hits / 300 <= 0.985


@pytest.mark.parametrize(("gap", "expected"), [(0.0, 0.95), (0.01, 0.9756), (0.5, 0.9930)])
def test_ranges_of_two_models_hold_as_often_as_the_formula_says(gap, expected) -> None:
    """With a gap of g standard errors only the wrong direction misses: 1 - Phi(-1.96 - g); at a tie both directions."""
    repetitions, units = 1500, 200
    hits = 0
    for repetition in range(repetitions):
        random = np.random.default_rng([11, repetition])
        scores = random.normal(size=(units, 2)) + random.normal(size=(units, 1)) + [0, gap * np.sqrt(2 / units)]
        first, second = rank(means(scores), "lower", seed=repetition, with_pairs=False).ranges
        hits += first[0] == 1 and second[1] == 2 and (gap > 0 or first == second == (1, 2))
    share, error = hits / repetitions, np.sqrt(expected * (1 - expected) / repetitions)
    assert abs(share - expected) < 4 * error
