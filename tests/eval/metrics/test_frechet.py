"""Frechet distance against closed forms, fifty-digit arithmetic, and what must hold for any features."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mpmath import mp

from cogvideo.errors import UserError
from eval.metrics.frechet import frechet, frechet_from_moments, frechet_influence
from eval.metrics.moments import Moments


def sample(seed, n, dim, spread=1.0, mean=0.0):
    return np.random.default_rng(seed).standard_normal((n, dim)) * spread + mean


def total_variance(x):
    return np.square(x - x.mean(axis=0)).sum() / (len(x) - 1)


def rotation(seed, dim):
    return np.linalg.qr(sample(seed, dim, dim))[0]


def whitened(seed, n, dim):
    """Rows with mean zero and covariance (ddof 1) one, to the last digit but one."""
    q = np.linalg.qr(np.hstack([np.ones((n, 1)), sample(seed, n, dim)]))[0][:, 1:]
    return q * np.sqrt(n - 1)


def by_mpmath(x, y, ddof):
    """The definition in fifty digits, with eigenvalues of S1^(1/2) S2 S1^(1/2)."""
    mp.dps = 50

    def stats(rows):
        rows = mp.matrix(rows.tolist())
        n, dim = rows.rows, rows.cols
        mean = mp.matrix([mp.fsum(rows[i, j] for i in range(n)) / n for j in range(dim)])
        centred = mp.matrix(n, dim)
        for i in range(n):
            for j in range(dim):
                centred[i, j] = rows[i, j] - mean[j]
        return mean, centred.T * centred / (n - ddof)

    (m1, s1), (m2, s2) = stats(x), stats(y)
    values, vectors = mp.eigsy(s1)
    root = vectors * mp.diag([mp.sqrt(max(v, 0)) for v in values]) * vectors.T
    product = root * s2 * root
    inner = mp.eigsy((product + product.T) / 2, eigvals_only=True)
    gap = sum((m1[i] - m2[i]) ** 2 for i in range(len(m1)))
    trace = sum(s1[i, i] + s2[i, i] for i in range(s1.rows))
    return float(gap + trace - 2 * sum(mp.sqrt(max(v, 0)) for v in inner)), float(trace)


DIM = 12
SPECTRA = {
    "flat": (60, 50, np.ones(DIM)),
    "power 4": (60, 50, np.arange(1.0, DIM + 1) ** -2),
    "power 10": (60, 50, np.arange(1.0, DIM + 1) ** -5),
    "few samples": (DIM // 2, DIM // 3, np.ones(DIM)),
    "few against many": (DIM // 2, 50, np.ones(DIM)),
    "singular, many samples": (60, 50, np.r_[np.ones(DIM // 2), np.zeros(DIM - DIM // 2)]),
}


@pytest.mark.parametrize("ddof", [0, 1])
@pytest.mark.parametrize("name", SPECTRA)
def test_fifty_digits(name, ddof):
    n, m, spread = SPECTRA[name]
    turn = rotation(3, DIM)
    x, y = sample(1, n, DIM, spread) @ turn, sample(2, m, DIM, 1.3 * spread, 0.1) @ turn
    exact, trace = by_mpmath(x, y, ddof)
    assert frechet(x, y, ddof=ddof) == pytest.approx(exact, rel=0, abs=1e-12 * trace)


@pytest.mark.parametrize(("n", "dim"), [(400, 20), (20, 60)])
def test_equal_covariance_leaves_the_squared_gap_of_means(n, dim):
    x, gap = sample(0, n, dim), np.linspace(-1, 2, dim)
    assert frechet(x, x + gap) == pytest.approx(gap @ gap, rel=1e-12)


@pytest.mark.parametrize(("n", "dim"), [(400, 20), (20, 60)])
def test_scaled_covariance(n, dim):
    """S2 = c S1: tr S1 (1 - sqrt c)^2."""
    x = sample(0, n, dim, np.linspace(0.1, 2, dim))
    x -= x.mean(axis=0)
    assert frechet(x, 3 * x) == pytest.approx(4 * total_variance(x), rel=1e-12)


def test_commuting_covariances():
    """Same axes: the squared distance of the standard deviations."""
    first, second = np.linspace(0.5, 2, 15), np.linspace(3, 0.2, 15)
    turn = rotation(5, 15)
    x, y = (whitened(1, 80, 15) * first) @ turn, (whitened(2, 70, 15) * second) @ turn
    assert frechet(x, y) == pytest.approx(np.square(first - second).sum(), rel=1e-12)


@pytest.mark.parametrize(("n", "dim"), [(300, 40), (40, 300), (40, 40), (41, 40), (2, 5)])
def test_identical_sets(n, dim):
    x = sample(0, n, dim, np.linspace(0.01, 5, dim), 10)
    value = frechet(x, x.copy())
    assert 0 <= value <= 1e-12 * total_variance(x) * 2


def test_identical_singular_sets_with_many_samples():
    x = sample(0, 500, 10) @ sample(1, 10, 30)
    assert 0 <= frechet(x, x.copy()) <= 1e-12 * total_variance(x) * 2


def test_constant_features():
    assert frechet(np.zeros((16, 8)), np.ones((20, 8))) == 8.0
    assert frechet(np.zeros((5, 8)), np.ones((4, 8))) == 8.0


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(2, 40), m=st.integers(2, 40), dim=st.integers(1, 20), seed=st.integers(0, 99), scale=st.floats(0.1, 9)
)
def test_properties(n, m, dim, seed, scale):
    """Symmetric, never negative, blind to order and rotation, quadratic in scale; both routes agree."""
    x, y = sample(seed, n, dim), sample(seed + 100, m, dim, 1.5, 0.2)
    value, trace = frechet(x, y), total_variance(x) + total_variance(y)
    close = {"rel": 1e-10, "abs": 1e-11 * trace}
    assert value >= 0
    assert frechet(y, x) == pytest.approx(value, **close)
    assert frechet(x[::-1], np.roll(y, 3, axis=0)) == pytest.approx(value, **close)
    turn = rotation(seed, dim)
    assert frechet(x @ turn, y @ turn) == pytest.approx(value, **close)
    assert frechet(scale * x, scale * y) == pytest.approx(scale**2 * value, rel=1e-10, abs=1e-11 * scale**2 * trace)
    if min(n, m) > 2 * dim:
        assert frechet_from_moments(Moments.of(x), Moments.of(y)) == pytest.approx(value, **close)


def test_large_offset_loses_nothing():
    x, y = sample(0, 500, 20).round(4), sample(1, 400, 20, 1.2).round(4)
    assert frechet(x + 1024, y + 1024) == pytest.approx(frechet(x, y), rel=1e-11)


def test_float32_features_are_computed_in_float64():
    x, y = sample(0, 300, 30).astype(np.float32), sample(1, 300, 30).astype(np.float32)
    assert frechet(x, y) == frechet(x.astype(np.float64), y.astype(np.float64))


def test_moments_of_singular_features_stay_near():
    x, y = sample(0, 200, 5) @ sample(9, 5, 12), sample(1, 150, 5, 1.4) @ sample(9, 5, 12)
    assert frechet_from_moments(Moments.of(x), Moments.of(y)) == pytest.approx(frechet(x, y), rel=1e-6)


@pytest.mark.parametrize(("n", "m", "dim"), [(200, 150, 10), (8, 150, 10), (8, 9, 10)])
@pytest.mark.parametrize("ddof", [0, 1])
def test_influence_is_the_derivative_by_weight(n, m, dim, ddof):
    """Every row repeated k times and one row once more is a weight change that the influence must predict."""
    x, y = sample(0, n, dim), sample(1, m, dim, 1.3, 0.2)
    found = frechet_influence(x, y)
    assert found.value == pytest.approx(frechet(x, y), rel=1e-11)
    assert abs(found.fake.mean()) + abs(found.real.mean()) < 1e-9
    found = frechet_influence(x, y, ddof=0)
    k = 2000
    for row in (0, n // 2):
        moved = frechet_of_weights(x, y, np.where(np.arange(n) == row, 1 + 1 / k, 1.0))
        change = (moved - frechet(x, y, ddof=0)) * k * n
        assert change == pytest.approx(found.fake[row], rel=0.02, abs=0.05)
        moved = frechet_of_weights(y, x, np.where(np.arange(m) == row, 1 + 1 / k, 1.0))
        change = (moved - frechet(x, y, ddof=0)) * k * m
        assert change == pytest.approx(found.real[row], rel=0.02, abs=0.05)


def frechet_of_weights(x, y, weights):
    """Independent of the code: weighted covariance with divisor N, nuclear norm of the cross-Gram."""
    weights = weights / weights.sum()
    mean = weights @ x
    a, b = (x - mean) * np.sqrt(weights)[:, None], (y - y.mean(axis=0)) / np.sqrt(len(y))
    cross = np.linalg.svd(a @ b.T, compute_uv=False).sum()
    return np.square(mean - y.mean(axis=0)).sum() + np.square(a).sum() + np.square(b).sum() - 2 * cross


def test_one_sample():
    one, many = sample(0, 1, 6), sample(1, 9, 6)
    with pytest.raises(UserError, match="at least 2 samples; the fake set has 1"):
        frechet(one, many)
    with pytest.raises(UserError, match="the real set has 1"):
        frechet(many, one, ddof=0)
    gap = np.square(one[0] - many.mean(axis=0)).sum()
    assert frechet(one, many, allow_single=True) == pytest.approx(gap)
    assert frechet(one, many, ddof=0, allow_single=True) == pytest.approx(gap + total_variance(many) * 8 / 9)


def test_not_finite_is_refused_with_names():
    x, y = sample(0, 20, 4), sample(1, 20, 4)
    y[[3, 5], 1] = np.nan, np.inf
    with pytest.raises(UserError, match="2 of 20 real samples have NaN or infinite features: row 3, row 5"):
        frechet(x, y)


def test_other_widths_are_refused():
    with pytest.raises(UserError, match="fake has 4, real has 5"):
        frechet(sample(0, 20, 4), sample(1, 20, 5))
    with pytest.raises(UserError, match=r"shape \(N, D\), got \(20,\)"):
        frechet(np.zeros(20), sample(1, 20, 5))
