"""Inception Score on probabilities that the rule makes, in the estimators of four tools."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest

from eval.metrics.inception_score import inception_score, softmax

CLASSES = 101


@pytest.fixture(scope="module")
def expected(reference_json):
    return reference_json("inception_score.json")


@pytest.fixture(scope="module")
def probabilities(rule, inputs, item):
    """The softmax of every entry, float64."""
    made = {}
    for name, entry in item(inputs, "inception_score").items():
        n = entry["N"]
        logits = 2 * rule.unit(f"is{name}/l", n * CLASSES).reshape(n, CLASSES)
        classes = np.floor(CLASSES * rule.uniform(f"is{name}/c", n)).astype(int)
        logits[np.arange(n), classes] += entry["peak"]
        made[name] = softmax(logits)
    return made


def ours(probs, estimator, splits):
    """Our score in the tool's estimator."""
    if estimator.startswith("torch_fidelity_shuffle"):
        probs = probs[
            np.random.RandomState(int(estimator.removeprefix("torch_fidelity_shuffle"))).permutation(len(probs))
        ]
    seed = re.fullmatch(r"styleganv_shuffle(\d+)", estimator)
    eps = float(estimator.removeprefix("eps")) if estimator.startswith("eps") else 0.0
    return inception_score(probs, splits=splits, shuffle=int(seed[1]) if seed else None, eps=eps)


def test_every_estimator(expected, probabilities):
    compared = 0
    for name, probs in probabilities.items():
        for key, value in expected.get(name, {}).items():
            if found := re.fullmatch(r"(.+)_splits(\d+)", key):
                score = ours(probs, found[1], int(found[2]))
                assert score.mean == pytest.approx(value[0], rel=1e-9), (name, key)
                assert score.std == pytest.approx(value[1], rel=1e-9, abs=1e-12), (name, key)
                compared += 1
    if not compared:
        pytest.skip("this reference set has no score of a known estimator")


def test_probabilities_follow_the_rule(expected, probabilities):
    for name, probs in probabilities.items():
        if name in expected:
            assert probs[0].sum() == pytest.approx(expected[name]["prob_sum0"], rel=1e-12)
            assert probs[0, 0] == pytest.approx(expected[name]["prob00"], rel=1e-12)


def test_hard_zeros_have_the_true_score(expected):
    """One-hot rows: tools without an epsilon give NaN, the truth is the number of classes."""
    for key, entry in expected.items():
        if key.startswith("onehot"):
            rows = int(key.removeprefix("onehot"))
            onehot = np.eye(CLASSES)[np.arange(rows) % CLASSES]
            for eps in (0.0, 1e-20):
                assert inception_score(onehot, eps=eps).mean == pytest.approx(entry["truth"], rel=1e-9)
        if key.startswith("uniform"):
            rows = int(key.removeprefix("uniform"))
            flat = np.full((rows, CLASSES), 1 / CLASSES)
            assert inception_score(flat, splits=10).mean == pytest.approx(entry["truth"], rel=1e-9)


def test_bias_falls_with_n(expected, probabilities):
    """The reference curve rises to its limit; ours on nested prefixes of the largest entry does the same."""
    curve = {int(n): value for n, value in expected.get("curve_N_splits1", {}).items()}
    if not curve or not probabilities:
        pytest.skip("this reference set has no curve")
    sizes = sorted(curve)
    assert curve[sizes[0]] < 0.6 * curve[sizes[-1]]
    probs = max(probabilities.values(), key=len)
    assert inception_score(probs[: sizes[0]]).mean < 0.6 * inception_score(probs).mean
    assert math.isfinite(inception_score(probs[:1]).mean)
