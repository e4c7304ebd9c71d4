"""The tracker: it finds motions that the test makes, and its histograms are those of the true vectors."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from cogvideo.errors import UserError
from eval.detectors import tracks
from eval.detectors.tracks import FRAMES, SCALE, SIDE, flow, sample, track
from eval.metrics.fvmd import motion_features


@pytest.fixture(scope="module")
def picture():
    """A smooth random picture of 200 x 200, larger than what a shot of it shows."""
    noise = torch.rand((1, 1, 25, 25), generator=torch.Generator().manual_seed(0)) * 255
    return functional.interpolate(noise, (200, 200), mode="bicubic").clamp(0, 255)


def shot(picture, x, y, size=64, turn=0.0, zoom=1.0):
    """What a camera at (x, y) sees, turned by radians and zoomed: a grey frame (size, size)."""
    at = torch.arange(size) - (size - 1) / 2
    v, u = torch.meshgrid(at, at, indexing="ij")
    turned = torch.stack([u * np.cos(turn) - v * np.sin(turn), u * np.sin(turn) + v * np.cos(turn)], dim=-1) / zoom
    places = (turned + torch.tensor([x, y]) + 99.5) / 99.5 - 1
    return functional.grid_sample(picture, places[None].float(), align_corners=True)[0, 0]


def colour(grey_THW):
    """Grey frames as one clip (1, 3, T, H, W)."""
    return grey_THW[None, None].repeat(1, 3, 1, 1, 1)


@pytest.mark.parametrize("motion", [(0.0, 0.0), (0.3, -0.7), (2.0, 1.0), (-4.0, 3.0), (6.0, 0.0)], ids=str)
def test_flow_of_a_moving_camera(picture, motion):
    """The camera moves by (x, y), so everything in its picture moves by (-x, -y)."""
    found = flow(shot(picture, 0, 0)[None], shot(picture, *motion)[None])[0, 8:-8, 8:-8]
    error = (found + torch.tensor(motion)).norm(dim=-1)
    assert error.median() < 0.1
    assert error.quantile(0.9) < 0.25


def test_flow_of_a_turn(picture):
    """Turning by a radians moves a pixel at r from the centre by 2 r sin(a / 2), at right angles."""
    angle = 0.05
    found = flow(shot(picture, 0, 0)[None], shot(picture, 0, 0, turn=angle)[None])[0]
    at = torch.arange(64) - 31.5
    v, u = torch.meshgrid(at, at, indexing="ij")
    expected = torch.stack([u * np.cos(angle) + v * np.sin(angle) - u, -u * np.sin(angle) + v * np.cos(angle) - v], -1)
    # A window is taken to move as one, which a turn does not; its pixels move by 0.9 on average here.
    assert (found - expected)[8:-8, 8:-8].norm(dim=-1).median() < 0.2


def test_sample_reads_between_pixels():
    ramp = torch.arange(8.0).repeat(8, 1)[None, None]
    moved = sample(ramp, torch.tensor([0.25, 0.0]).reshape(1, 2, 1, 1).repeat(1, 1, 8, 8))
    assert moved[0, 0, 3].tolist() == pytest.approx([*(np.arange(7) + 0.25), 7])


def test_points_follow_the_picture(picture):
    """A steady pan: each point that stays in view goes on with the same step."""
    clip = colour(torch.stack([shot(picture, 1.5 * t, -0.5 * t) for t in range(FRAMES)]))
    places = track(clip)[0]
    assert places.shape == (FRAMES, SIDE * SIDE, 2)
    grid = places[0].reshape(SIDE, SIDE, 2)
    assert grid[0, 0].tolist() == [2, 2]
    assert grid[0, -1].tolist() == [62, 2]
    assert grid[-1, 0].tolist() == [2, 62]
    inside = (places > 8).all(dim=2) & (places < 55).all(dim=2)
    step = places.diff(dim=0)[inside[1:] & inside[:-1]]
    assert step.median(dim=0).values.tolist() == pytest.approx([-1.5, 0.5], abs=0.05)


def test_histograms_are_those_of_the_vectors(picture):
    """A pan by (-1.2, 0.5) pixels a frame on 64 is one by (-4.8, 2) on 256; there is no acceleration."""
    clip = colour(torch.stack([shot(picture, 1.2 * t, -0.5 * t) for t in range(FRAMES)]))
    detector = tracks.load(None)
    layers = detector(clip)
    assert {name: values.shape[1] for name, values in layers.items()} == dict(detector.layers)
    true = np.zeros((1, FRAMES, SIDE * SIDE, 2))
    true[:, 1:] = np.array([-1.2, 0.5]) * SCALE / 64
    expected = motion_features(true, np.zeros_like(true), cell=SIDE)[0]
    found = layers["whole"][0].numpy()
    # Points that leave the picture on the left have no true place any more, nearly a third of them in the end.
    assert np.abs(found[:32] - expected[:32]).sum() < 0.4 * expected.sum()
    assert (found[:32] * (expected[:32] > 0)).sum() > 0.6 * expected.sum()
    assert found[32:].sum() < 0.2 * expected.sum()
    # FVMD's cells add up to the whole.
    assert layers["cells"][0, :512].sum().item() == pytest.approx(found[:32].sum())


def test_nothing_moves_in_a_frozen_or_an_empty_clip(picture):
    still = colour(shot(picture, 0, 0).repeat(FRAMES, 1, 1))
    empty = torch.full((1, 3, FRAMES, 64, 64), 128.0)
    for layers in map(tracks.load(None), (still, empty)):
        assert not any(values.any() for values in layers.values())


def test_time_turned_round_is_seen(picture):
    clip = colour(torch.stack([shot(picture, 1.25 * t, 0) for t in range(FRAMES)]))
    detector = tracks.load(None)
    forth, back = (detector(c)["whole"][0, :32].reshape(4, 8).sum(0) for c in (clip, clip.flip(2)))
    # Bins go round from -pi; sine is the first coordinate, so left is -pi / 2 and right is pi / 2.
    assert forth[1:3].sum() > 5 * forth[5:7].sum()
    assert back[5:7].sum() > 5 * back[1:3].sum()


def test_every_clip_by_itself_and_bad_input(picture):
    clips = torch.cat(
        [colour(torch.stack([shot(picture, k * t, 0) for t in range(FRAMES)])) for k in (0, 0.5, 1, 2, 3)]
    )
    detector = tracks.load(None)
    together = detector(clips)["whole"]
    assert torch.equal(together[4:], detector(clips[4:])["whole"])
    with pytest.raises(UserError, match="16 frames"):
        detector(clips[:, :, :15])
    with pytest.raises(UserError, match="at least 16 pixels, got 16 of 64x12"):
        detector(clips[:, :, :, :12])
