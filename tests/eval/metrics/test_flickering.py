"""Flickering and smoothness: from pixels to the score, against numpy and in cases whose value is known."""

from __future__ import annotations

import numpy as np
import pytest

from cogvideo.errors import UserError
from eval.detectors import changes
from eval.generators.reference import freeze, shuffle
from eval.metrics import flickering, smoothness
from eval.metrics.flickering import temporal_flickering
from eval.metrics.smoothness import motion_smoothness
from eval.preprocess import RAW_255, apply
from eval.protocol import MetricSpec
from eval.scoring import FeatureSet, ScoreInput

CASES = [(flickering, "temporal-flickering", "neighbours"), (smoothness, "motion-smoothness", "deviation")]


def moving(n=5, T=8, seed=0):
    """Clips in which a bright square goes one pixel a frame."""
    start = np.random.default_rng(seed).integers(2, 6, n)
    clips = np.full((n, T, 20, 20, 3), 50, np.uint8)
    for clip, x in zip(clips, start, strict=True):
        for t, frame in enumerate(clip):
            frame[5:11, x + t : x + t + 6] = 200
    return clips


def features(clips, layer, name="f"):
    detector = changes.load(None)
    values = np.concatenate([detector(apply(clip, RAW_255)[None])[layer].numpy() for clip in clips])
    ids = tuple(f"{name}{i}" for i in range(len(clips)))
    return FeatureSet(ids, ids, ("a",) * len(ids), values.astype(np.float32))


@pytest.mark.parametrize(("module", "name", "layer"), CASES)
def test_from_pixels(module, name, layer):
    clips = moving()
    spec = MetricSpec(id=f"{name}/test", metric=name, layer=layer)
    found = module.score(spec, ScoreInput(features(clips, layer), heldout=features(moving(3, seed=1), layer, "r")))
    x = clips.astype(np.float64)
    change = x[:, 1:] - x[:, :-1] if layer == "neighbours" else x[:, 1:-1] - (x[:, 2:] + x[:, :-2]) / 2
    expected = 1 - np.abs(change).mean(axis=(1, 2, 3, 4)) / 255
    assert list(found.per_sample.values()) == pytest.approx(expected, abs=1e-7)
    assert found.value == pytest.approx(expected.mean(), abs=1e-7)
    assert found.floor == pytest.approx(found.value, abs=1e-7), "all these clips move alike"
    assert found.warnings == ()


@pytest.mark.parametrize(("module", "name", "layer"), CASES)
def test_frozen_is_best_and_told_and_shuffled_is_worse(module, name, layer):
    spec = MetricSpec(id=f"{name}/test", metric=name, layer=layer)
    clips = moving()
    frozen = module.score(spec, ScoreInput(features([freeze(clip, None, 0) for clip in clips], layer)))
    as_is = module.score(spec, ScoreInput(features(clips, layer)))
    shuffled = module.score(spec, ScoreInput(features([shuffle(clip, None, 1) for clip in clips], layer)))
    assert frozen.value == 1
    assert "100% of the clips stand still" in frozen.warnings[0]
    assert frozen.value > as_is.value > shuffled.value


def test_values_of_known_changes():
    assert temporal_flickering([0, 51, 255]).tolist() == [1, 0.8, 0]
    assert motion_smoothness([[25.5]]).tolist() == [0.9]


@pytest.mark.parametrize("bad", [[-1.0], [256.0], [np.nan]])
def test_what_is_no_level_is_refused(bad):
    with pytest.raises(UserError, match=r"0\.\.255"):
        temporal_flickering(bad)


def test_wrong_shape_is_refused():
    with pytest.raises(UserError, match=r"got \(2, 3\)"):
        motion_smoothness(np.zeros((2, 3)))
