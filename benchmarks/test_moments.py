"""Streamed moments: CPU time against raw sums, and the error that each has at a large offset."""

from __future__ import annotations

import time

import numpy as np
import pytest

from eval.metrics.moments import Moments

N, DIM, BATCH = 20_000, 400, 32


def batches(offset: float) -> list[np.ndarray]:
    rows = np.random.default_rng(0).standard_normal((N, DIM)).astype(np.float32) + np.float32(offset)
    return [rows[start : start + BATCH] for start in range(0, N, BATCH)]


def shifted(given: list[np.ndarray]) -> np.ndarray:
    moments = Moments(DIM)
    for batch in given:
        moments.update(batch)
    return moments.covariance()


def raw(given: list[np.ndarray]) -> np.ndarray:
    """Sum of x and of x x^T in float64, as most tools keep them."""
    total, products, n = np.zeros(DIM), np.zeros((DIM, DIM)), 0
    for batch in given:
        rows = batch.astype(np.float64)
        total += rows.sum(axis=0)
        products += rows.T @ rows
        n += len(rows)
    mean = total / n
    return (products - n * np.outer(mean, mean)) / (n - 1)


def error(covariance: np.ndarray, given: list[np.ndarray]) -> float:
    """Relative to two passes in float64, of which the second is exact to rounding."""
    rows = np.concatenate(given).astype(np.float64)
    centred = rows - rows.mean(axis=0)
    centred -= centred.mean(axis=0)
    exact = centred.T @ centred / (len(rows) - 1)
    return float(np.abs(covariance - exact).max() / np.abs(exact).max())


@pytest.mark.parametrize("offset", [0.0, 1e3])
def test_shifted_against_raw_sums(benchmark, offset):
    given = batches(offset)
    taken = {shifted: [], raw: []}
    for _ in range(5):
        for route, seconds in taken.items():
            start = time.process_time()
            route(given)
            seconds.append(time.process_time() - start)
    ours, usual = float(np.median(taken[shifted])), float(np.median(taken[raw]))
    ours_error, raw_error = error(shifted(given), given), error(raw(given), given)
    benchmark.extra_info.update(cpu_ratio=ours / usual, error=ours_error, raw_error=raw_error, target_ratio=1.2)
    benchmark.pedantic(lambda: shifted(given), rounds=3)
    print(f"\noffset {offset:g}: {ours:.3f} against {usual:.3f} cpu s ({ours / usual:.2f}x, target 1.2x), ", end="")
    print(f"error {ours_error:.1e} against {raw_error:.1e}")
    assert ours_error < 1e-12


def test_merging_shards(benchmark):
    given = batches(10.0)
    shards = [Moments.of(np.concatenate(given[start::8])) for start in range(8)]

    def merge() -> Moments:
        total = shards[0]
        for shard in shards[1:]:
            total = total.merge(shard)
        return total

    assert benchmark(merge).n == N
