"""Inception Score: known answers, runs and splits as the protocols name them, and an interval that fits."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import softmax as scipy_softmax
from scipy.stats import entropy

from cogvideo.errors import UserError
from eval.metrics.inception_score import difference, inception_score, score, softmax
from eval.protocol import MetricSpec
from eval.scoring import FeatureSet, ScoreInput


def logits(n, classes=10, peak=4.0, seed=0):
    rng = np.random.default_rng(seed)
    values = rng.standard_normal((n, classes))
    values[np.arange(n), rng.integers(classes, size=n)] += peak
    return values.astype(np.float32)


def features(values, name="fake"):
    ids = tuple(f"{name}{i:05d}" for i in range(len(values)))
    return FeatureSet(ids, ids, ("",) * len(values), values)


def spec(n_fake=None, **options):
    return MetricSpec(id="is/test", metric="inception-score", options=tuple(options.items()), n_fake=n_fake)


def by_scipy(probs):
    """exp(H(marginal) - mean H(conditional))."""
    return float(np.exp(entropy(probs.mean(axis=0)) - entropy(probs, axis=1).mean()))


def test_softmax_is_float64_and_takes_large_logits():
    values = np.array([[1e4, 0.0], [-800.0, -801.0], [3.0, 3.0]], dtype=np.float32)
    assert softmax(values) == pytest.approx(scipy_softmax(values.astype(np.float64), axis=1), rel=1e-14)
    assert softmax(values).dtype == np.float64


def test_entropies():
    probs = softmax(logits(500))
    assert inception_score(probs).mean == pytest.approx(by_scipy(probs), rel=1e-12)
    assert inception_score(probs).std == 0
    parts = [by_scipy(probs[i * 500 // 7 : (i + 1) * 500 // 7]) for i in range(7)]
    found = inception_score(probs, splits=7)
    assert found.parts == pytest.approx(parts, rel=1e-12)
    assert (found.mean, found.std) == pytest.approx((np.mean(parts), np.std(parts)), rel=1e-12)


def test_ends_of_the_scale():
    assert inception_score(np.eye(8)[np.arange(80) % 8]).mean == pytest.approx(8, rel=1e-12)
    assert inception_score(np.full((40, 8), 1 / 8)).mean == pytest.approx(1, rel=1e-12)
    assert inception_score(np.tile([1.0, 0, 0], (5, 1))).mean == 1


def test_shuffled_order_is_the_legacy_one():
    probs = softmax(logits(300))
    order = np.arange(300)
    np.random.RandomState(42).shuffle(order)
    assert inception_score(probs, splits=10, shuffle=42) == inception_score(probs[order], splits=10)


def test_plain_score():
    given = features(logits(400))
    found = score(spec(eps=1e-20), ScoreInput(given, heldout=features(logits(300, peak=8, seed=1), "real")))
    assert found.value == pytest.approx(by_scipy(softmax(given.values)), rel=1e-12)
    assert found.interval.low < found.value < found.interval.high
    assert found.floor > found.value
    assert "300 held-out real clips, fewer than the 400" in found.floor_note
    assert found.details["std_over_scores"] == 0


def test_runs_are_independent_sets_of_samples():
    values = logits(1000)
    found = score(spec(splits=1, runs=4, per_run=250), ScoreInput(features(values)))
    parts = [by_scipy(softmax(values[i : i + 250])) for i in range(0, 1000, 250)]
    assert found.value == pytest.approx(np.mean(parts), rel=1e-12)
    assert found.details["std_over_scores"] == pytest.approx(np.std(parts))
    assert found.warnings == ()
    fewer = score(spec(splits=1, runs=4, per_run=300), ScoreInput(features(values)))
    assert fewer.value == pytest.approx(np.mean([by_scipy(softmax(values[i : i + 300])) for i in (0, 300, 600)]))
    assert "3 of 4 runs of 300" in fewer.warnings[0]
    one = score(spec(splits=1, runs=10), ScoreInput(features(values)))
    assert one.value == pytest.approx(by_scipy(softmax(values)))
    assert "1 of 10 runs of 2,048" in one.warnings[0]


def test_splits_are_biased_low_and_say_so():
    values = logits(400, classes=50)
    whole, split = (
        score(spec(**options), ScoreInput(features(values))) for options in ({}, {"splits": 10, "shuffle": 42})
    )
    assert split.value < whole.value
    assert any("40 samples a score for 50 classes" in fact for fact in split.warnings)
    assert split.interval.low < split.value < split.interval.high


def test_interval_covers_what_is_expected_at_this_n():
    def value(seed):
        return inception_score(softmax(logits(150, seed=1000 + seed))).mean

    expected = np.mean([value(seed) for seed in range(500)])
    hits = 0
    for seed in range(150):
        interval = score(spec(), ScoreInput(features(logits(150, seed=seed)))).interval
        hits += interval.low <= expected <= interval.high
    assert 0.89 < hits / 150 <= 0.99


def test_bad_input():
    with pytest.raises(UserError, match="at least 10 samples for its 10 splits, got 4"):
        score(spec(splits=10), ScoreInput(features(logits(4))))
    with pytest.raises(UserError, match="at least as many samples, got 2"):
        inception_score(np.full((2, 3), 1 / 3), splits=3)
    broken = logits(5)
    broken[2, 1] = np.inf
    with pytest.raises(UserError, match="'fake00002'"):
        score(spec(), ScoreInput(features(broken)))
    alone = score(spec(), ScoreInput(features(logits(1))))
    assert alone.interval is None
    assert alone.value == pytest.approx(1)
    assert any("protocol says 50" in fact for fact in score(spec(n_fake=50), ScoreInput(features(logits(20)))).warnings)


def test_paired_difference():
    """A change that all samples share is seen far below the width of one interval."""
    values = logits(200)
    blurred, other = features(values * np.float32(0.97)), features(logits(200, seed=9))
    first, second = ScoreInput(features(values)), ScoreInput(blurred)
    found = difference(spec(), first, second)
    assert found.value == pytest.approx(score(spec(), first).value - score(spec(), second).value, rel=1e-12)
    assert found.differs
    whole = score(spec(), first).interval
    assert found.high - found.low < 0.2 * (whole.high - whole.low)
    same = difference(spec(), first, first)
    assert (same.value, same.low, same.high) == (0, 0, 0)
    unlike = difference(spec(), first, ScoreInput(other))
    assert not unlike.differs
    with pytest.raises(UserError, match="share 0"):
        difference(spec(), first, ScoreInput(features(values, "stranger")))
