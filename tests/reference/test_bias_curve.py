"""How the distance of two samples of one distribution falls with n, and where its line in 1/n ends."""

from __future__ import annotations

import re

import numpy as np
import pytest

from eval.intervals import fit_inverse_n
from eval.metrics.frechet import frechet

CURVE = "frechet(N,N)"


@pytest.fixture(scope="module")
def expected(reference_json):
    return reference_json("bias_curve.json")


@pytest.fixture(scope="module")
def rows(rule, inputs, expected):
    """The whole sample; the second half is the other set. The public set is 16384 x 400."""
    largest = max(int(n) for n in expected[CURVE])
    title = next(key for key in expected if "total variance" in key)
    dim = int(re.search(r"D=(\d+)", title)[1])
    features = rule.features("bias", *inputs.get("bias", (2 * largest, dim)))
    assert features.var(axis=0, dtype=np.float64).sum() == pytest.approx(expected[title], rel=0.05)
    return features


@pytest.fixture(scope="module")
def values(expected, rows):
    half = len(rows) // 2
    return {int(n): frechet(rows[: int(n)], rows[half : half + int(n)]) for n in expected[CURVE]}


def test_curve(expected, values):
    for n, value in expected[CURVE].items():
        assert values[int(n)] == pytest.approx(value, rel=1e-8), n


def test_line_in_one_over_n(expected, values):
    title = next((key for key in expected if key.startswith("linear fit in 1/N")), None)
    if title is None:
        pytest.skip("this reference set has no fit")
    low, high = (int(n) for n in re.search(r"over (\d+)\.\.(\d+)", title).groups())
    sizes = [n for n in sorted(values) if low <= n <= high]
    intercept, slope = fit_inverse_n(sizes, [values[n] for n in sizes])
    assert intercept == pytest.approx(expected[title], rel=1e-8)
    assert slope == pytest.approx(expected["slope"], rel=1e-8)
    assert abs(intercept) < 0.1 * values[sizes[-1]]
