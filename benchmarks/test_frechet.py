"""Frechet distance from moments and from few samples, against the square root of the product that most tools take.

`pytest benchmarks/test_frechet.py --benchmark-group-by=param:dim` shows both in one group; set OMP_NUM_THREADS=1.
"""

from __future__ import annotations

import time
from functools import cache

import numpy as np
import pytest
import scipy.linalg

from eval.metrics.distance import score_distance
from eval.metrics.frechet import frechet, frechet_from_moments, frechet_influence
from eval.metrics.fvd import frechet_of
from eval.metrics.moments import Moments
from eval.protocol import MetricSpec
from eval.scoring import FeatureSet, ScoreInput

# Targets: how many times faster than sqrtm. CPU seconds, because the machine may be shared.
ENOUGH_SAMPLES = [(400, 3.0), (768, 4.0), (1024, 5.0), (2048, 8.0)]
FEW_SAMPLES = [(2048, 512, 100.0)]


@cache
def features(seed: int, n: int, dim: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    spread = np.linspace(0.2, 1.8, dim)
    return rng.standard_normal((n, dim)) * spread + 0.5 * rng.standard_normal((n, 8)) @ rng.standard_normal((8, dim))


@cache
def moments(seed: int, n: int, dim: int) -> Moments:
    return Moments.of(features(seed, n, dim))


def by_square_root(fake: Moments, real: Moments) -> float:
    """The usual arithmetic: trace of the real part of sqrtm(S1 S2)."""
    first, second = fake.covariance(), real.covariance()
    root = scipy.linalg.sqrtm(first @ second).real
    gap = fake.mean - real.mean
    return float(gap @ gap + np.trace(first) + np.trace(second) - 2 * np.trace(root))


def cpu_seconds(call, rounds: int) -> tuple[float, float]:
    """(median CPU seconds, the value) of some rounds."""
    taken = []
    for _ in range(rounds):
        start = time.process_time()
        value = call()
        taken.append(time.process_time() - start)
    return float(np.median(taken)), value


def compare(benchmark, ours, usual, target: float, dim: int) -> None:
    rounds = 5 if dim <= 1024 else 1
    usual_s, expected = cpu_seconds(usual, rounds)
    ours_s, value = cpu_seconds(ours, 5)
    benchmark.extra_info.update(ours_cpu_s=ours_s, sqrtm_cpu_s=usual_s, ratio=usual_s / ours_s, target=target)
    assert value == pytest.approx(expected, rel=1e-4)
    benchmark.pedantic(ours, rounds=5)
    print(f"\nD {dim}: sqrtm {usual_s:.4f} cpu s, ours {ours_s:.4f}, {usual_s / ours_s:.1f}x (target {target}x)")


@pytest.mark.parametrize(("dim", "target"), ENOUGH_SAMPLES)
def test_more_samples_than_features(benchmark, dim, target):
    fake, real = moments(1, 3 * dim, dim), moments(2, 2 * dim + 100, dim)
    compare(benchmark, lambda: frechet_from_moments(fake, real), lambda: by_square_root(fake, real), target, dim)


@pytest.mark.parametrize(("dim", "n", "target"), FEW_SAMPLES)
def test_fewer_samples_than_features(benchmark, dim, n, target):
    fake, real = features(1, n, dim), features(2, n, dim)
    compare(
        benchmark,
        lambda: frechet(fake, real),
        lambda: by_square_root(moments(1, n, dim), moments(2, n, dim)),
        target,
        dim,
    )


@pytest.mark.parametrize(("n", "dim"), [(256, 64), (2048, 400), (2048, 2048), (6144, 2048)])
def test_influence_values(benchmark, n, dim):
    """What an interval costs: no replicates."""
    benchmark.pedantic(lambda: frechet_influence(features(1, n, dim), features(2, n, dim)), rounds=1)


@pytest.mark.parametrize(("n", "dim"), [(256, 64), (2048, 400), (2048, 2048), (6144, 2048)])
def test_whole_score(benchmark, n, dim):
    """Value, interval, floor and extrapolation together; D = 2048 at n = 2048 is to stay under two minutes."""

    def of(name: str, seed: int) -> FeatureSet:
        ids = tuple(f"{name}{i}" for i in range(n))
        return FeatureSet(ids, ids, ("",) * n, features(seed, n, dim).astype(np.float32))

    spec = MetricSpec(id="fvd/benchmark", metric="fvd")
    given = ScoreInput(of("f", 1), of("r", 2), of("h", 3))
    score = benchmark.pedantic(lambda: score_distance(spec, given, frechet_of(spec)), rounds=1)
    assert score.interval is not None
