"""Streamed moments: any split gives the single pass, and a large mean costs no digits."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.metrics.moments import Moments, merge_all

SIGMA_1E3 = 1e3


def features(n=600, dim=7, offset=0.0, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, dim)) @ rng.standard_normal((dim, dim)) + offset


def in_long_double(x):
    """Two passes in extended precision."""
    rows = x.astype(np.longdouble)
    centred = rows - rows.mean(axis=0)
    return rows.mean(axis=0), centred.T @ centred / (len(rows) - 1)


def error(moments, x):
    mean, covariance = in_long_double(x)
    spread = np.sqrt(np.trace(covariance))
    wrong = np.abs(moments.covariance() - covariance).max() / np.trace(covariance)
    return float(max(wrong, np.abs(moments.mean - mean).max() / (spread + np.abs(mean).max())))


@pytest.mark.parametrize("offset", [0.0, 10.0, SIGMA_1E3, 1e5])
def test_accurate_at_any_offset(offset):
    x = features(offset=offset)
    assert error(Moments.of(x), x) < 1e-12


def test_raw_sums_would_fail():
    """What the shift is for: the plain formula loses six digits and more at the same offset."""
    x = features(offset=1e5)
    raw = (x.T @ x - len(x) * np.outer(x.mean(axis=0), x.mean(axis=0))) / (len(x) - 1)
    assert np.abs(raw - in_long_double(x)[1]).max() / np.trace(raw) > 1e-8


@settings(max_examples=40, deadline=None)
@given(
    cuts=st.lists(st.integers(0, 600), max_size=8),
    batch=st.integers(1, 700),
    offset=st.sampled_from([0.0, SIGMA_1E3]),
)
def test_any_split_is_the_single_pass(cuts, batch, offset):
    x = features(offset=offset)
    edges = [0, *sorted(cuts), len(x)]
    shards = []
    for start, stop in pairwise(edges):
        shard = Moments(x.shape[1])
        for low in range(start, stop, batch):
            shard.update(x[low : min(low + batch, stop)])
        shards.append(shard)
    whole, merged = Moments.of(x), merge_all(shards)
    assert merged.n == whole.n
    scale = np.trace(whole.covariance())
    assert np.abs(merged.covariance() - whole.covariance()).max() < 1e-13 * scale
    assert np.abs(merged.mean - whole.mean).max() <= 1e-13 * (np.sqrt(scale) + np.abs(whole.mean).max())


def test_merge_changes_neither_side():
    first, second = Moments.of(features(50)), Moments.of(features(40, seed=1))
    before = first.covariance().copy(), second.covariance().copy()
    merged = first.merge(second)
    merged.update(features(10, seed=2))
    assert (first.covariance() == before[0]).all()
    assert (second.covariance() == before[1]).all()
    assert merged.n == 100


def test_covariance_is_symmetric_and_counts_ddof():
    x = features(30)
    moments = Moments.of(x)
    assert (moments.covariance() == moments.covariance().T).all()
    assert moments.covariance(0) == pytest.approx(np.cov(x.T, ddof=0))
    assert moments.covariance(1) == pytest.approx(np.cov(x.T))


def test_state_does_not_grow():
    moments = Moments(5)
    shapes = [array.shape for array in (moments.shift_D, moments.sum_D, moments.scatter_DD)]
    for seed in range(20):
        moments.update(features(100, 5, seed=seed).astype(np.float32))
    assert [array.shape for array in (moments.shift_D, moments.sum_D, moments.scatter_DD)] == shapes
    assert moments.n == 2000


def test_wrong_use_is_refused():
    moments = Moments.of(features(1))
    with pytest.raises(ValueError, match="more than 1 samples, got 1"):
        moments.covariance()
    with pytest.raises(ValueError, match=r"shape \(N, 7\)"):
        moments.update(features(4, 5))
    with pytest.raises(ValueError, match="cannot merge"):
        moments.merge(Moments(3))
    with pytest.raises(ValueError, match="no moments"):
        merge_all([])
