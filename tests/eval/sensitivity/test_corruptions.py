"""Each corruption does what it says, by its strength and its seed alone, and leaves the clip itself alone."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageFilter

from eval.datasets.shapes_drawing import draw_clip
from eval.sensitivity.corruptions import CORRUPTIONS

BY_NAME = {corruption.name: corruption for corruption in CORRUPTIONS}
CLIP = draw_clip("square", "red", "left", "test/corruptions")[:16]


def made(name, strength, clip=CLIP, *, seed=0, clip_id="a"):
    return BY_NAME[name].apply(clip, strength, seed=seed, clip_id=clip_id)


def error(clip, other=CLIP):
    return np.abs(clip.astype(float) - other).mean()


@pytest.mark.parametrize("corruption", CORRUPTIONS, ids=BY_NAME)
def test_stronger_is_farther_and_repeatable(corruption):
    before = CLIP.copy()
    clips = [corruption.apply(CLIP, s, seed=0, clip_id="a") for s in corruption.strengths]
    assert np.array_equal(CLIP, before)
    assert all(clip.shape == CLIP.shape and clip.dtype == np.uint8 for clip in clips)
    errors = [error(clip) for clip in clips]
    assert errors == sorted(errors)
    assert errors[0] > 0
    again = [corruption.apply(CLIP, s, seed=0, clip_id="a") for s in corruption.strengths]
    assert all(np.array_equal(a, b) for a, b in zip(clips, again, strict=True))
    assert len({corruption.label(s) for s in corruption.strengths}) == len(corruption.strengths)


@pytest.mark.parametrize("name", ["noise", "frame-swap", "texture-drift"])
def test_what_is_drawn_follows_seed_and_clip(name):
    strength = BY_NAME[name].strengths[1]
    one = made(name, strength)
    assert not np.array_equal(one, made(name, strength, seed=1))
    assert not np.array_equal(one, made(name, strength, clip_id="b"))


@pytest.mark.parametrize("name", [c.name for c in CORRUPTIONS if c.breaks == "time"])
def test_time_alone_is_broken(name):
    """Every frame of the corrupted clip is a frame of the clip; reordering keeps each of them once."""
    whole = {frame.tobytes(): t for t, frame in enumerate(CLIP)}
    for strength in BY_NAME[name].strengths:
        order = [whole[frame.tobytes()] for frame in made(name, strength)]
        assert name == "freeze" or sorted(order) == list(range(16))


def test_orders():
    numbered = np.broadcast_to(np.arange(16, dtype=np.uint8)[:, None, None, None], (16, 4, 4, 3))

    def order(name, strength):
        return made(name, strength, numbered)[:, 0, 0, 0].tolist()

    assert order("reversed", 100) == list(range(16))[::-1]
    assert order("reversed", 25)[:8] == [3, 2, 1, 0, 7, 6, 5, 4]
    assert order("freeze", 50) == [*range(8), *[7] * 8]
    assert order("freeze", 100) == [0] * 16
    swapped = order("frame-swap", 100)
    assert all(swapped[t] != t and swapped[swapped[t]] == t for t in range(16))
    assert sum(a != b for a, b in zip(order("frame-swap", 12.5), range(16), strict=True)) == 2


def test_noise_has_its_deviation():
    grey = np.full((8, 64, 64, 3), 128, np.uint8)
    for level in (6, 20):
        noisy = made("noise", level, grey).astype(float) - 128
        assert noisy.std() == pytest.approx(level, rel=0.02)
        assert abs(noisy.mean()) < level / 50
        assert abs(np.corrcoef(noisy[0].ravel(), noisy[1].ravel())[0, 1]) < 0.03, "frames have noise of their own"


def test_blur_is_pillows():
    """3 % of 64 pixels is a deviation of 1.92; Pillow approximates the kernel by boxes."""
    frame = CLIP[0]
    expected = np.asarray(Image.fromarray(frame).filter(ImageFilter.GaussianBlur(1.92)), dtype=float)
    inner = slice(8, -8)
    assert np.abs(made("blur", 3)[0].astype(float) - expected)[inner, inner].mean() < 0.5


def test_codec_keeps_odd_sizes_and_loses_more_at_lower_rates():
    odd = CLIP[:, :63, :61]
    decoded = made("codec", 28, odd)
    assert decoded.shape == odd.shape
    assert error(decoded, odd) < error(made("codec", 48, odd), odd)


def test_drift_grows_evenly_from_nothing():
    """On a ramp along x the change of grey is the displacement: at most the strength, and in step with time."""
    ramp = np.broadcast_to(np.arange(64, dtype=np.uint8)[None, None, :, None] * 2 + 50, (16, 64, 64, 3))
    moved = made("texture-drift", 12, ramp).astype(float) - ramp
    assert not moved[0].any()
    largest = [np.abs(frame[:, 10:-10]).max() / 2 for frame in moved]
    assert largest[-1] <= 0.12 * 64 + 0.5
    assert largest[-1] > 2
    assert largest[8] == pytest.approx(largest[-1] * 8 / 15, abs=0.6)
    rows = moved[-1, :, 10:-10, 0]
    assert rows.std() > 0.5, "the surface slides in pieces and not as one"
