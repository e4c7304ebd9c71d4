"""Clips as decoded (uint8, T x H x W x 3) to frames as the tokenizer takes them (float in [0, 1], T x 3 x H x W)."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional


def clip_to_frames(clip_THWC: NDArray[np.uint8], size: int | None = None) -> Tensor:
    """Frames (T, 3, size, size), float32 in [0, 1]: the short side is resized to `size`, the centre is cropped.

    Bilinear, with antialiasing where it shrinks. Without `size` nothing is resized or cropped.
    Raises ValueError for anything but uint8 RGB frames.
    """
    if clip_THWC.ndim != 4 or clip_THWC.shape[3] != 3 or clip_THWC.dtype != np.uint8:
        raise ValueError(f"expected a clip (T, H, W, 3) in uint8, got {clip_THWC.shape} in {clip_THWC.dtype}")
    frames_T3HW = torch.from_numpy(np.array(clip_THWC, order="C")).permute(0, 3, 1, 2).float().div_(255)
    if size is None:
        return frames_T3HW
    high, wide = frames_T3HW.shape[2:]
    short = min(high, wide)
    if short != size:
        resized = (max(size, round(high * size / short)), max(size, round(wide * size / short)))
        frames_T3HW = functional.interpolate(frames_T3HW, resized, mode="bilinear", antialias=True)
    top, left = ((side - size) // 2 for side in frames_T3HW.shape[2:])
    return frames_T3HW[:, :, top : top + size, left : left + size].contiguous()


def frames_to_clip(frames_T3HW: Tensor) -> NDArray[np.uint8]:
    """The clip (T, H, W, 3), uint8, of frames; values outside [0, 1] are clipped, the others rounded to the nearest."""
    rounded_T3HW = frames_T3HW.detach().float().clamp(0, 1).mul(255).round_().to(torch.uint8)
    clip_THWC: NDArray[np.uint8] = rounded_T3HW.permute(0, 2, 3, 1).contiguous().cpu().numpy()
    return clip_THWC
