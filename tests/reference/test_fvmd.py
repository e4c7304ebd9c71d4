"""Motion histograms of tracks that the rule makes, against fvmd 1.0.0."""

from __future__ import annotations

import pytest

from eval.metrics.fvmd import fvmd, motion_features

STEPS, POINTS = 16, 400
# name -> (clips, factor on a velocity of 6); README of the reference numbers.
TRACKS = {"vg": (6, 6.0), "vt": (8, 6.0 * 1.5), "ag": (6, 6.0), "at": (8, 6.0 * 0.5)}


@pytest.fixture(scope="module")
def expected(reference_json):
    return reference_json("fvmd.json")


@pytest.fixture(scope="module")
def features(rule, inputs):
    """Features of the generated and of the real tracks. A set may name its own clips and factors."""
    sizes = {name: tuple(value) for name, value in inputs.get("fvmd", TRACKS).items()}

    def tracks(name):
        clips, factor = sizes[name]
        return factor * rule.unit(name, clips * STEPS * POINTS * 2).reshape(clips, STEPS, POINTS, 2)

    return motion_features(tracks("vg"), tracks("ag")), motion_features(tracks("vt"), tracks("at"))


def test_histograms_are_exact(expected, features):
    fake, real = features
    assert fake.shape[1] == real.shape[1] == expected["feature_dim"]
    assert fake[0, : len(expected["hist_gen_first16"])].tolist() == expected["hist_gen_first16"]
    assert fake.sum() == expected["hist_gen_sum"]
    assert real.sum() == expected["hist_real_sum"]


def test_distance(expected, features):
    assert fvmd(*features) == pytest.approx(expected["frechet_exact_ddof1"], rel=1e-8)
    # The peer adds 1e-5 to the diagonal and takes the root of a singular product.
    assert fvmd(*features) == pytest.approx(expected["frechet_peer"], rel=1e-4)
