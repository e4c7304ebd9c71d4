"""How much pixels change from frame to frame: no network, no weights, no optical flow.

Shapes: B clips, C channels, T frames, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from eval.detectors.engine import Engine, VideoDetector
from eval.detectors.state import known_options
from eval.registry import detectors

LAYERS = {"neighbours": 1, "deviation": 1}
MIN_FRAMES = 3


class Changes(nn.Module):
    """Mean absolute changes of pixels, in levels of 0..255, over all pixels, channels and times.

    `neighbours` (B, 1): |x(t+1) - x(t)|. `deviation` (B, 1): |x(t) - (x(t-1) + x(t+1)) / 2|, what a frame is away from
    the mean of both its neighbours.
    """

    def forward(self, clips_BCTHW: Tensor) -> dict[str, Tensor]:
        clips = clips_BCTHW.float()
        step = clips[:, :, 1:] - clips[:, :, :-1]
        bend = (step[:, :, 1:] - step[:, :, :-1]) / 2
        # Sums in double precision: a clip has millions of pixels.
        means = [change.abs().flatten(1).mean(1, keepdim=True, dtype=torch.float64) for change in (step, bend)]
        return dict(zip(LAYERS, means, strict=True))


@detectors.register(
    "changes",
    "mean absolute change of pixels from frame to frame, for flickering and smoothness; no network",
    layers="neighbours 1, deviation 1",
    weights="none",
)
def load(
    path: Path | None,
    *,
    device: str = "cpu",
    dtype: str = "float32",
    backend: str = "eager",
    options: Mapping[str, Any] | None = None,
) -> VideoDetector:
    """The arithmetic as a detector of pixels on 0..255, exact for whole levels in any dtype; no options, no weights."""
    known_options("changes", options)
    engine = Engine(Changes(), device=device, dtype=dtype, backend=backend, piece=8)
    return VideoDetector("changes", engine, LAYERS, min_frames=MIN_FRAMES)
