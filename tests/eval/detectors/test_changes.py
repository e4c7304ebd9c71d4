"""Changes of pixels against plain loops, and in cases whose value is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cogvideo.errors import UserError
from eval.detectors import changes
from eval.preprocess import RAW_255, apply


def found(clip_THWC, **options):
    detector = changes.load(None, **options)
    layers = detector(apply(clip_THWC, RAW_255)[None])
    return {name: values.item() for name, values in layers.items()}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_against_loops(dtype):
    clip = np.random.default_rng(0).integers(0, 256, (7, 5, 6, 3), dtype=np.uint8)
    frames = clip.astype(np.float64)
    neighbours = [np.abs(frames[t + 1] - frames[t]).mean() for t in range(6)]
    deviation = [np.abs(frames[t] - (frames[t - 1] + frames[t + 1]) / 2).mean() for t in range(1, 6)]
    values = found(clip, dtype=dtype)
    assert values["neighbours"] == pytest.approx(np.mean(neighbours), rel=1e-6)
    assert values["deviation"] == pytest.approx(np.mean(deviation), rel=1e-6)


def test_frozen_fading_and_blinking():
    still = np.full((8, 4, 4, 3), 90, np.uint8)
    assert found(still) == {"neighbours": 0, "deviation": 0}
    fade = still + 10 * np.arange(8, dtype=np.uint8)[:, None, None, None]
    assert found(fade) == {"neighbours": 10, "deviation": 0}
    blink = still + 40 * (np.arange(8, dtype=np.uint8)[:, None, None, None] % 2)
    assert found(blink) == {"neighbours": 40, "deviation": 40}


def test_every_clip_by_itself():
    clips = torch.randint(0, 256, (11, 3, 5, 4, 4), generator=torch.Generator().manual_seed(0)).float()
    detector = changes.load(None)
    together = detector(clips)
    for name in detector.layers:
        apart = torch.cat([detector(clip[None])[name] for clip in clips])
        assert together[name].shape == (11, 1)
        assert torch.equal(together[name], apart)


def test_bad_input():
    with pytest.raises(UserError, match="frames"):
        changes.load(None)(torch.zeros(1, 3, 2, 4, 4))
    with pytest.raises(UserError, match="has no option 'frames'"):
        changes.load(None, options={"frames": 3})
