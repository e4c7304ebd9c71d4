"""Motion histograms: hand-made motions fall into the bins that they must."""

from __future__ import annotations

import math

import numpy as np
import pytest

from cogvideo.errors import UserError
from eval.metrics.fvmd import fvmd, motion_features, motion_histogram


def still(clips=1, steps=16, side=20):
    return np.zeros((clips, steps, side * side, 2))


def test_shape_and_zero_motion():
    assert motion_histogram(still(3)).shape == (3, 4 * 4 * 4 * 8)
    assert motion_features(still(2), still(2)).shape == (2, 1024)
    assert not motion_histogram(still()).any()


@pytest.mark.parametrize(("length", "weight"), [(0.5, 1), (1, 1), (3, 2), (3.5, 3), (200, 8), (1e6, 8)])
def test_weight_of_a_length(length, weight):
    """ceil(log2(1 + length)) / 8, lengths cut at 255; all 100 vectors of a cell in one bin."""
    vectors = still()
    vectors[..., 1] = length
    histogram = motion_histogram(vectors).reshape(64, 8)
    assert (histogram[:, 4] == 100 * weight / 8).all()
    assert not histogram[:, [0, 1, 2, 3, 5, 6, 7]].any()


def test_every_direction_has_its_bin():
    for expected in range(8):
        angle = -math.pi + (expected + 0.5) * math.pi / 4
        vectors = still()
        vectors[..., 0], vectors[..., 1] = math.sin(angle), math.cos(angle)
        assert motion_histogram(vectors).reshape(64, 8).argmax(axis=1).tolist() == [expected] * 64


def test_cells_are_ordered_by_time_row_and_column():
    vectors = still().reshape(1, 16, 20, 20, 2)
    vectors[0, 9, 16, 7, 1] = 1.0
    filled = np.flatnonzero(motion_histogram(vectors.reshape(1, 16, 400, 2)))
    assert filled.tolist() == [((9 // 4) * 16 + (16 // 5) * 4 + 7 // 5) * 8 + 4]


def test_rest_that_fills_no_cell_is_left_out():
    vectors = np.ones((1, 18, 22 * 22, 2))
    assert motion_histogram(vectors).shape == (1, 512)
    assert motion_histogram(vectors).sum() == 1600 * 4 * 2 / 8


def test_distance_and_bad_input():
    rng = np.random.default_rng(0)
    tracks = rng.standard_normal((5, 16, 400, 2))
    features = motion_features(tracks, tracks)
    assert fvmd(features, features) == pytest.approx(0, abs=1e-8)
    assert fvmd(features, motion_features(4 * tracks, tracks)) > 100
    with pytest.raises(UserError, match="square number of points"):
        motion_histogram(np.zeros((1, 16, 399, 2)))
    tracks[1, 0, 0, 0] = np.nan
    with pytest.raises(UserError, match="1 of 5 track samples"):
        motion_histogram(tracks)
