"""Precision, recall, density and coverage against plain loops and hand-made sets."""

from __future__ import annotations

import math

import numpy as np
import pytest

from cogvideo.errors import UserError
from eval.metrics.precision_recall import BLOCK, precision_recall, score
from eval.protocol import MetricSpec
from eval.scoring import FeatureSet, ScoreInput


def sample(seed, n, dim=4, spread=1.0):
    return np.random.default_rng(seed).standard_normal((n, dim)) * spread


def written_out(fake, real, k):
    """Balls to the k-th neighbour, one distance at a time."""

    def radius(rows, i):
        return sorted(math.dist(rows[i], rows[j]) for j in range(len(rows)) if j != i)[k - 1]

    real_radii, fake_radii = ([radius(rows, i) for i in range(len(rows))] for rows in (real, fake))
    inside = [[math.dist(x, y) <= r for y, r in zip(real, real_radii, strict=True)] for x in fake]
    return {
        "precision": np.mean([any(row) for row in inside]),
        "recall": np.mean([any(math.dist(y, x) <= r for x, r in zip(fake, fake_radii, strict=True)) for y in real]),
        "density": np.sum(inside) / (k * len(fake)),
        "coverage": np.mean([any(row[j] for row in inside) for j in range(len(real))]),
    }


@pytest.mark.parametrize("k", [1, 3, 5])
def test_written_out(k):
    fake, real = sample(0, 40, spread=1.3), sample(1, 50)
    assert precision_recall(fake, real, k=k).values() == pytest.approx(written_out(fake, real, k), rel=1e-12)


def test_blocks_make_no_difference(monkeypatch):
    fake, real = sample(0, 70), sample(1, 90)
    whole = precision_recall(fake, real).values()
    assert BLOCK > 90
    monkeypatch.setattr("eval.metrics.precision_recall.BLOCK", 16)
    assert precision_recall(fake, real).values() == whole


def test_known_sets():
    x = sample(0, 100)
    same = precision_recall(x, x).values()
    assert (same["precision"], same["recall"], same["coverage"]) == (1, 1, 1)
    apart = precision_recall(x + 1000, x).values()
    assert set(apart.values()) == {0.0}
    # All fakes at one real place: precise, and they cover nothing else.
    spot = x[:1] + 1e-4 * sample(2, 50)
    collapsed = precision_recall(spot, x).values()
    assert collapsed["precision"] == 1
    assert collapsed["recall"] < 0.05
    assert collapsed["coverage"] < 0.2


def test_offset_costs_no_digits():
    fake, real = sample(0, 60), sample(1, 60)
    assert precision_recall(fake + 1e4, real + 1e4).values() == precision_recall(fake, real).values()


def feature_set(values, name):
    ids = tuple(f"{name}{i}" for i in range(len(values)))
    return FeatureSet(ids, ids, ("",) * len(values), values.astype(np.float32))


def spec(**options):
    return MetricSpec(id="prdc/test", metric="precision-recall", options=tuple(options.items()))


@pytest.mark.parametrize("wanted", ["precision", "recall", "density", "coverage"])
def test_score(wanted):
    given = ScoreInput(*(feature_set(sample(i, 60, spread=1 + 0.2 * (i == 0)), f"s{i}-") for i in range(3)))
    found = score(spec(value=wanted), given)
    expected = precision_recall(given.fake.values, given.real.values).values()
    assert found.value == expected[wanted]
    assert {name: found.details[name] for name in expected} == expected
    assert found.interval.low < found.value < found.interval.high
    assert found.floor == precision_recall(given.heldout.values, given.real.values).values()[wanted]


def test_not_defined_for_few_samples():
    given = ScoreInput(feature_set(sample(0, 3), "f"), feature_set(sample(1, 50), "r"))
    found = score(spec(), given)
    assert math.isnan(found.value)
    assert "more than 3 samples, there are 3 and 50" in found.warnings[0]
    with pytest.raises(UserError, match="fake has 3, real 50"):
        precision_recall(given.fake.values, given.real.values)


def test_unknown_value_is_refused():
    given = ScoreInput(feature_set(sample(0, 9), "f"), feature_set(sample(1, 9), "r"))
    with pytest.raises(UserError, match="one of precision, recall, density, coverage; not 'f1'"):
        score(spec(value="f1"), given)
