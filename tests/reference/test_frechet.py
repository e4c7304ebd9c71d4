"""Frechet distance on features that the rule makes, against the exact values and what seven tools print."""

from __future__ import annotations

import math

import numpy as np
import pytest

from cogvideo.errors import UserError
from eval.metrics.frechet import frechet, frechet_from_moments, frechet_influence
from eval.metrics.moments import Moments

# How far each tool is from the exact value by its own arithmetic, relative to the sum of the two traces.
TOOLS = {
    "pytorch_fid_0.3.0": (1, 1e-6),
    "eigvals_complex (torch-fidelity formula)": (1, 1e-6),
    "torchmetrics_eigvals_f64": (1, 1e-6),
    "tats_svd_float32": (1, 1e-3),
    "tats_svd_float64": (1, 1e-12),
    "styleganv_cdfvd (1/N cov + sqrtm)": (0, 1e-6),
}


@pytest.fixture(scope="module")
def entries(reference_json):
    return reference_json("frechet.json")


@pytest.fixture(scope="module")
def sets(rule):
    """The two sets of an entry; drawing them is the slow part, so each is kept."""
    kept = {}

    def features(name, shape):
        name, _, offset = name.partition(" + ")
        if name in ("zeros", "ones"):
            return np.full(shape, float(name == "ones"), dtype=np.float32)
        key = (name, *shape)
        if key not in kept:
            kept[key] = rule.features(name, *shape)
        return kept[key] + np.float32(offset.split()[0]) if offset else kept[key]

    return lambda entry: [
        features(name, entry[shape]) for name, shape in zip(entry["names"], ("shape_a", "shape_b"), strict=True)
    ]


@pytest.fixture(scope="module")
def distance(entries, sets):
    """Our value of an entry, computed once."""
    kept = {}

    def value(name, ddof):
        if (name, ddof) not in kept:
            kept[name, ddof] = frechet(*sets(entries[name]), ddof=ddof, allow_single=True)
        return kept[name, ddof]

    return value


def is_identical(entry):
    return entry["names"][0] == entry["names"][1]


@pytest.mark.parametrize("ddof", [1, 0])
def test_exact_values(ddof, entries, distance):
    wanted = {name: entry for name, entry in entries.items() if f"exact_ddof{ddof}" in entry}
    if not wanted:
        pytest.skip(f"this reference set has no value with ddof {ddof}")
    for name, entry in wanted.items():
        value = distance(name, ddof)
        assert value >= 0
        if is_identical(entry):
            assert value < 1e-6, name
        else:
            assert value == pytest.approx(entry[f"exact_ddof{ddof}"], rel=1e-8), name


def test_what_tools_print(entries, sets, distance):
    compared = 0
    for name, entry in entries.items():
        for tool, (ddof, tolerance) in TOOLS.items():
            if math.isfinite(float(entry.get(tool, "nan"))):
                first, second = sets(entry)
                traces = first.var(axis=0, dtype=np.float64).sum() + second.var(axis=0, dtype=np.float64).sum()
                value = distance(name, ddof)
                assert value == pytest.approx(entry[tool], rel=1e-12, abs=tolerance * traces), (name, tool)
                compared += 1
    if not compared:
        pytest.skip("this reference set prints no tool's value")


def test_moments_give_the_same_where_there_are_enough_samples(entries, sets):
    for name, entry in entries.items():
        (n, dim), (m, _) = entry["shape_a"], entry["shape_b"]
        if min(n, m) > 2 * dim and dim <= 1024 and not is_identical(entry) and "exact_ddof1" in entry:
            fake, real = (Moments.of(features) for features in sets(entry))
            assert frechet_from_moments(fake, real) == pytest.approx(entry["exact_ddof1"], rel=1e-8), name


def test_influence_carries_the_same_value(entries, sets, distance):
    for name, entry in entries.items():
        if min(entry["shape_a"][0], entry["shape_b"][0]) > 1 and entry["shape_a"][1] <= 1024:
            found = frechet_influence(*sets(entry))
            assert found.value == pytest.approx(distance(name, 1), rel=1e-11, abs=1e-8), name
            assert np.isfinite(found.fake).all()
            assert np.isfinite(found.real).all()


def test_one_sample_is_refused_unless_asked_for(entries, sets):
    singles = [entry for entry in entries.values() if 1 in (entry["shape_a"][0], entry["shape_b"][0])]
    if not singles:
        pytest.skip("this reference set has no set of one sample")
    for entry in singles:
        with pytest.raises(UserError, match="at least 2 samples"):
            frechet(*sets(entry))
