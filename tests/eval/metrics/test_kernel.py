"""Polynomial MMD against its definition written out, and its influence against weights."""

from __future__ import annotations

import numpy as np
import pytest

from cogvideo.errors import UserError
from eval.metrics.kernel import BLOCK, PolynomialKernel, mmd, mmd_influence, mmd_of_subsets


def sample(seed, n, dim=6, mean=0.0):
    return np.random.default_rng(seed).standard_normal((n, dim)) + mean


def written_out(x, y, *, degree=3, gamma=None, coef=1.0):
    """Plain loops over pairs."""
    gamma = 1 / x.shape[1] if gamma is None else gamma

    def k(a, b):
        return (gamma * float(a @ b) + coef) ** degree

    def within(rows):
        n = len(rows)
        return sum(k(rows[i], rows[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))

    across = sum(k(a, b) for a in x for b in y) / (len(x) * len(y))
    return within(x) + within(y) - 2 * across


@pytest.mark.parametrize(("n", "m"), [(2, 2), (5, 9), (17, 4)])
def test_definition(n, m):
    x, y = sample(0, n), sample(1, m, mean=0.5)
    assert mmd(x, y) == pytest.approx(written_out(x, y), rel=1e-12, abs=1e-13)
    kernel = PolynomialKernel(degree=2, gamma=0.3, coef=0.5)
    assert mmd(x, y, kernel) == pytest.approx(written_out(x, y, degree=2, gamma=0.3, coef=0.5), rel=1e-12, abs=1e-13)


def test_blocks_make_no_difference():
    """More rows than a block, against one big product."""
    x, y = sample(0, BLOCK + 37), sample(1, 2 * BLOCK + 5, mean=0.2)
    kxx, kyy, kxy = ((a @ b.T / 6 + 1) ** 3 for a, b in ((x, x), (y, y), (x, y)))
    n, m = len(x), len(y)
    expected = (kxx.sum() - np.trace(kxx)) / (n * (n - 1)) + (kyy.sum() - np.trace(kyy)) / (m * (m - 1))
    assert mmd(x, y) == pytest.approx(expected - 2 * kxy.mean(), rel=1e-10)
    assert mmd_influence(x, y).value == pytest.approx(mmd(x, y), rel=1e-12)


def test_unbiased_at_any_n():
    """Mean zero for one distribution, and negative about half of the time."""
    values = [mmd(sample(2 * seed, 10), sample(2 * seed + 1, 10)) for seed in range(400)]
    assert abs(np.mean(values)) < 4 * np.std(values) / 20
    assert min(values) < 0 < max(values)


def test_influence_is_the_derivative_by_weight():
    x, y = sample(0, 12), sample(1, 15, mean=0.4)
    found = mmd_influence(x, y)
    kxx, kxy = (x @ x.T / 6 + 1) ** 3, (x @ y.T / 6 + 1) ** 3
    np.fill_diagonal(kxx, 0)

    def value(weights):
        pairs = np.outer(weights, weights)
        np.fill_diagonal(pairs, 0)
        return (pairs * kxx).sum() / pairs.sum() - 2 * weights @ kxy.mean(axis=1) / weights.sum()

    for row in (0, 7):
        step = np.where(np.arange(12) == row, 1e-6, 0)
        slope = (value(1 + step) - value(1 - step)) / 2e-6 * 12
        # The pairs that a row makes with itself are left out, which the influence spreads over all rows: O(1/n).
        assert slope == pytest.approx(found.fake[row], rel=0.25, abs=0.3)
    order = np.argsort(found.fake)
    slopes = [value(1 + np.where(np.arange(12) == row, 1e-6, 0)) for row in order]
    assert np.corrcoef(slopes, found.fake[order])[0, 1] > 0.98


def test_subsets():
    x, y = sample(0, 300), sample(1, 250, mean=0.3)
    mean, values = mmd_of_subsets(x, y, subsets=40, size=100, seed=1)
    assert mean == values.mean()
    assert mean == pytest.approx(mmd(x, y), abs=4 * values.std() / np.sqrt(40))
    assert mmd_of_subsets(x, y, subsets=40, size=100, seed=1)[0] == mean
    assert mmd_of_subsets(x, y, subsets=40, size=100, seed=2)[0] != mean
    with pytest.raises(UserError, match="subsets of 1,000 needs that many"):
        mmd_of_subsets(x, y)


def test_bad_input():
    with pytest.raises(UserError, match="at least 2 samples a set; fake has 1"):
        mmd(sample(0, 1), sample(1, 5))
    with pytest.raises(UserError, match="one size"):
        mmd(sample(0, 4), sample(1, 5), estimator="u-statistic")
    with pytest.raises(UserError, match="fake has 6, real has 7"):
        mmd(sample(0, 4), sample(1, 5, dim=7))
    with pytest.raises(UserError, match="NaN or infinite"):
        mmd(np.full((3, 2), np.nan), sample(1, 5, dim=2))
