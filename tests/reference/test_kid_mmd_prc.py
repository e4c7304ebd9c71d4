"""Polynomial MMD and precision/recall on features that the rule makes, against four tools."""

from __future__ import annotations

import re

import numpy as np
import pytest

from eval.metrics.kernel import mmd, mmd_influence, mmd_of_subsets
from eval.metrics.precision_recall import precision_recall

# key -> (estimator, factor, relative tolerance); float32 tools are only near.
MMD_KEYS = {
    "torch_fidelity_unbiased": ("unbiased", 1, 1e-10),
    "torch_fidelity_biased": ("biased", 1, 1e-10),
    "torch_fidelity_u-statistic": ("u-statistic", 1, 1e-10),
    "tats_polynomial_mmd_f64": ("unbiased", 1, 1e-10),
    "torchmetrics_poly_mmd_f64": ("unbiased", 1, 1e-10),
    "torchmetrics_poly_mmd_f32": ("unbiased", 1, 1e-5),
    "styleganv_kid_x1000_fullsubset": ("unbiased", 1000, 1e-10),
}
SELF = "self_unbiased (x vs x, must be about 0 or below)"
FULL_SET_PRC = re.compile(r"torch_fidelity_precision_recall_k(\d+) ")


@pytest.fixture(scope="module")
def expected(reference_json):
    return reference_json("kid_mmd_prc.json")


@pytest.fixture(scope="module")
def pairs(rule, inputs, item):
    """The two sets of every KID entry."""
    return {
        name: (rule.features(f"kx{name}", *shape), rule.features(f"ky{name}", *shape))
        for name, shape in item(inputs, "kid").items()
    }


def test_mmd(expected, pairs):
    compared = 0
    for name, (x, y) in pairs.items():
        entry = expected.get(name, {})
        for key, (estimator, factor, tolerance) in MMD_KEYS.items():
            if key in entry:
                assert factor * mmd(x, y, estimator=estimator) == pytest.approx(entry[key], rel=tolerance), (name, key)
                compared += 1
        if SELF in entry:
            assert mmd(x, x) == pytest.approx(entry[SELF], rel=1e-10)
    if not compared:
        pytest.skip("this reference set has no MMD of a known tool")


def test_influence_and_full_subsets_carry_the_same_value(expected, pairs):
    for name, (x, y) in pairs.items():
        if "torch_fidelity_unbiased" in expected.get(name, {}):
            value = expected[name]["torch_fidelity_unbiased"]
            assert mmd_influence(x, y).value == pytest.approx(value, rel=1e-10)
            assert mmd_of_subsets(x, y, subsets=2, size=len(x))[0] == pytest.approx(value, rel=1e-10)


def test_precision_and_recall_of_the_kid_sets(expected, pairs):
    for name, (x, y) in pairs.items():
        for key, value in expected.get(name, {}).items():
            if found := FULL_SET_PRC.match(key):
                assert_precision_recall(x, y, int(found[1]), value)


def test_precision_and_recall(expected, rule, inputs, item):
    (fake, fake_shape), (real, real_shape) = item(inputs, "prc").items()
    entries = {key: entry for key, entry in expected.items() if "real_scale" in entry}
    if not entries:
        pytest.skip("this reference set has no precision and recall")
    for entry in entries.values():
        x = rule.features(fake, *fake_shape)
        y = np.float32(entry["real_scale"]) * rule.features(real, *real_shape)
        ks = {
            int(key.rpartition("_k")[2]): value for key, value in entry.items() if key.startswith("precision_recall_k")
        }
        assert ks
        for k, value in ks.items():
            assert_precision_recall(x, y, k, value)


def assert_precision_recall(fake, real, k, value):
    """Exact: the share has the same numerator; the reference wrote it in float32."""
    found = precision_recall(fake, real, k=k).values()
    assert [float(np.float32(found[key])) for key in ("precision", "recall")] == value


def test_kvd_of_i3d_features(reference_json, reference_npz, item):
    entries, features = reference_json("i3d/fvd.json"), reference_npz("i3d/features.npz")
    compared = 0
    for name, entry in entries.items():
        if "kvd_poly3_unbiased" in entry:
            fake, real = (item(features, f"{name}__{side}__logits") for side in ("fake", "real"))
            assert mmd(fake, real) == pytest.approx(entry["kvd_poly3_unbiased"], rel=1e-8), name
            compared += 1
    if not compared:
        pytest.skip("this reference set has no KVD")
