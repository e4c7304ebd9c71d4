"""Motion distance: blind to looks, and sees what breaks motion, on drawn clips whose motion is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from eval.datasets.shapes_drawing import MOTIONS, draw_clip
from eval.detectors import tracks
from eval.generators.reference import freeze, reverse, shuffle
from eval.metrics import motion_distance
from eval.metrics.frechet import frechet
from eval.preprocess import RAW_255, apply
from eval.protocol import MetricSpec
from eval.scoring import FeatureSet, ScoreInput

SPEC = MetricSpec(id="motion-distance/test", metric="motion-distance", layer="whole")
N = 36


def drawn(colour, seed):
    moves = [MOTIONS[k % len(MOTIONS)] for k in range(N)]
    return [draw_clip("square", colour, move, f"test/{seed}/{k}")[:16] for k, move in enumerate(moves)]


@pytest.fixture(scope="module")
def detector():
    return tracks.load(None)


@pytest.fixture(scope="module")
def real(detector):
    return features(detector, drawn("red", "real"), "r")


def features(detector, clips, name="f"):
    pixels = torch.stack([apply(clip, RAW_255) for clip in clips])
    ids = tuple(f"{name}{k}" for k in range(len(clips)))
    return FeatureSet(ids, ids, ("",) * len(ids), detector(pixels)["whole"].numpy())


def test_what_breaks_motion_is_far_and_another_colour_is_near(detector, real):
    clips = drawn("blue", "fake")
    scores = {
        name: motion_distance.score(SPEC, ScoreInput(features(detector, made), real)).value
        for name, made in {
            "same": clips,
            "brighter": [np.clip(clip.astype(int) + 40, 0, 255).astype(np.uint8) for clip in clips],
            "reversed": [reverse(clip, None, 0) for clip in clips],
            "shuffled": [shuffle(clip, None, k) for k, clip in enumerate(clips)],
            "frozen": [freeze(clip, None, 0) for clip in clips],
        }.items()
    }
    assert scores["brighter"] == pytest.approx(scores["same"], rel=0.2)
    assert scores["frozen"] > 2 * scores["same"]
    assert scores["shuffled"] > 2 * scores["same"]


def test_it_is_the_frechet_distance(detector, real):
    fake = features(detector, drawn("green", "fake"))
    found = motion_distance.score(SPEC, ScoreInput(fake, real, real))
    assert found.value == pytest.approx(frechet(fake.values, real.values), rel=1e-9)
    assert found.floor == pytest.approx(0, abs=1e-6)
    assert "the covariance is singular" in found.warnings[0]
    same = motion_distance.difference(SPEC, ScoreInput(fake, real), ScoreInput(fake, real))
    assert same.value == 0
