"""Intervals: repeatable, right where the answer is known, and covering what they promise."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

from eval.intervals import (
    basic,
    bootstrap_counts,
    bootstrap_rows,
    centred,
    fit_inverse_n,
    group_codes,
    intercept_weights,
    linearised,
    mean_interval,
    paired_bootstrap,
    paired_mean_difference,
    partition,
    percentile,
    permutation,
    student_quantile,
    uniform,
)
from eval.metrics.frechet import frechet, frechet_influence


def test_streams_are_pinned():
    """Numbers that must never change: published intervals depend on them."""
    assert uniform(0, "x", 3).tolist() == [0.8470425086586146, 0.5615420098101929, 0.27062625664592543]
    assert permutation(7, "a", 6).tolist() == [5, 4, 1, 2, 3, 0]
    assert uniform(1, "x", 3).tolist() != uniform(0, "x", 3).tolist()


def test_counts_draw_whole_groups():
    groups = ["a", "a", "b", "c", "c", "c"]
    counts = bootstrap_counts(groups, 500, seed=1)
    assert (counts[:, 0] == counts[:, 1]).all()
    assert (counts[:, 3] == counts[:, 5]).all()
    assert (counts[:, [0, 2, 3]].sum(axis=1) == 3).all()
    assert counts.mean(axis=0) == pytest.approx(np.ones(6), abs=0.15)
    assert (bootstrap_counts(groups, 500, seed=1) == counts).all()
    assert (bootstrap_counts(groups, 500, seed=2) != counts).any()


def test_order_of_rows_changes_nothing():
    values, groups = np.arange(12.0), np.array(list("aabbccddeeff"))
    turned = np.random.default_rng(0).permutation(12)
    assert mean_interval(values, groups) == pytest.approx(mean_interval(values[turned], groups[turned]))
    codes, n = group_codes(groups[turned])
    assert n == 6
    assert (codes == group_codes(groups)[0][turned]).all()


def test_rows_repeat_as_the_counts_say():
    groups = list("abcde")
    counts = bootstrap_counts(groups, 4, seed=3)
    for row, rows in zip(counts, bootstrap_rows(groups, 4, seed=3), strict=True):
        assert np.bincount(rows, minlength=5).tolist() == row.tolist()


def test_kinds_of_interval():
    replicates = np.linspace(10, 12, 1001)
    assert percentile(replicates) == pytest.approx((10.05, 11.95))
    assert basic(10.5, replicates) == pytest.approx((9.05, 10.95))
    assert centred(10.5, replicates) == pytest.approx((9.55, 11.45))


def test_student_quantile():
    for freedom in (4, 7, 20, 300):
        assert student_quantile(0.975, freedom) == pytest.approx(scipy.stats.t.ppf(0.975, freedom), rel=0.01)
    assert student_quantile(0.975, np.inf) == pytest.approx(1.959964, rel=1e-6)


def test_linearised_mean_is_the_t_interval():
    """The influence of a mean is the value itself, so the textbook interval must come out."""
    x = np.random.default_rng(0).standard_normal(40)
    expected = scipy.stats.t.interval(0.95, 39, loc=x.mean(), scale=x.std(ddof=1) / np.sqrt(40))
    assert linearised(x.mean(), [(x, range(40))]) == pytest.approx(expected, rel=1e-4)


def test_linearised_counts_groups_not_rows():
    """Every sample four times says no more than once."""
    x = np.random.default_rng(0).standard_normal(30)
    once = linearised(0.0, [(x, range(30))])
    assert linearised(0.0, [(np.repeat(x, 4), np.repeat(np.arange(30), 4))]) == pytest.approx(once)
    with pytest.raises(ValueError, match="two independent groups"):
        linearised(0.0, [(x, ["a"] * 30)])


def coverage(interval, draw, truth, rounds):
    hits = 0
    for seed in range(rounds):
        low, high = interval(draw(np.random.default_rng(seed)))
        hits += low <= truth <= high
    return hits / rounds


def test_bootstrap_of_a_mean_covers():
    share = coverage(lambda x: mean_interval(x, range(60)), lambda rng: rng.exponential(size=60), 1.0, 400)
    assert 0.90 < share < 0.97


@pytest.mark.parametrize("shift", [0.0, 0.4])
def test_interval_of_a_distance_covers_what_is_expected_at_this_n(shift):
    """95 % or more: near the nominal share for distances well above the floor, wider at the floor itself."""
    n, dim = 150, 8

    def draw(rng):
        return rng.standard_normal((n, dim)), rng.standard_normal((n, dim)) * (1 + shift) + shift

    expected = np.mean([frechet(*draw(np.random.default_rng(10_000 + seed))) for seed in range(600)])

    def interval(pair):
        found = frechet_influence(*pair)
        return linearised(found.value, [(found.fake, range(n)), (found.real, range(n))])

    share = coverage(interval, draw, expected, 300)
    assert 0.92 < share < (0.99 if shift else 1.01)


def test_resampling_with_replacement_lies_above_the_value():
    """Why no distance here gets a percentile interval: all of it may lie above the value."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((100, 16)), rng.standard_normal((100, 16))
    draws = zip(bootstrap_rows(range(100), 60, 0, "x"), bootstrap_rows(range(100), 60, 0, "y"), strict=True)
    replicates = [frechet(x[a], y[b]) for a, b in draws]
    assert percentile(replicates)[0] > frechet(x, y)
    low, high = centred(frechet(x, y), replicates)
    assert low < frechet(x, y) < high


def test_paired_difference_of_means():
    rng = np.random.default_rng(0)
    hard = rng.standard_normal(200) * 5
    first = {f"id{i}": hard[i] + 0.5 + 0.1 * rng.standard_normal() for i in range(200)}
    second = {f"id{i}": hard[i] + 0.1 * rng.standard_normal() for i in range(200)} | {"other": 1e6}
    found = paired_mean_difference(first, second)
    assert found.n == 200
    assert found.differs
    assert found.low < 0.5 < found.high < 0.6
    assert not paired_mean_difference(second, second).differs
    # Samples of one prompt err together: five groups say less than two hundred.
    groups = {name: str(int(name[2:]) % 5) for name in first}
    noisy = {name: value + int(groups[name]) for name, value in first.items()}
    assert not paired_mean_difference(noisy, second, groups=groups).low > 1.5
    with pytest.raises(ValueError, match="two independent groups"):
        paired_mean_difference({"a": 1.0}, {"a": 2.0})


def test_paired_bootstrap_sees_through_common_noise():
    rng = np.random.default_rng(0)
    real = rng.standard_normal((80, 4))
    common = rng.standard_normal((80, 4))
    near, far = common * 1.2, common * 1.5
    found = paired_bootstrap(
        lambda fake, other: frechet(far[fake], real[other]),
        lambda fake, other: frechet(near[fake], real[other]),
        range(80),
        range(80),
    )
    assert found.value == pytest.approx(frechet(far, real) - frechet(near, real))
    assert found.differs
    assert found.low < found.value < found.high


def test_partition_keeps_groups_whole_and_balanced():
    groups = np.repeat([f"v{i}" for i in range(22)], 3)
    parts = partition(groups, 4, seed=1)
    assert sorted(np.concatenate(parts).tolist()) == list(range(66))
    assert sorted(len(part) for part in parts) == [15, 15, 18, 18]
    assert sum(len(set(groups[part])) for part in parts) == 22
    assert [part.tolist() for part in partition(groups, 4, seed=1)] == [part.tolist() for part in parts]


def test_line_in_one_over_n():
    sizes = [100, 200, 400, 800]
    values = [3 + 50 / n for n in sizes]
    assert fit_inverse_n(sizes, values) == pytest.approx((3, 50))
    weights = intercept_weights(sizes)
    assert weights.sum() == pytest.approx(1)
    noisy = np.array(values) + np.array([0.1, -0.2, 0.3, 0.1])
    assert weights @ noisy == pytest.approx(fit_inverse_n(sizes, noisy)[0])
    assert noisy @ weights == pytest.approx(np.polyfit(1 / np.array(sizes), noisy, 1)[1])
    with pytest.raises(ValueError, match="at least two sizes"):
        fit_inverse_n([5, 5], [1, 2])
