"""I3D, the network behind FVD: 400 Kinetics logits averaged over time, before softmax.

Shapes: B clips, C channels, T frames, H x W pixels, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from cogvideo.errors import UserError
from eval.detectors.engine import Engine, VideoDetector
from eval.detectors.layers import SamePool3d, Unit3D, fold_batch_norm, scaled
from eval.detectors.state import fit_state, known_options, read_state
from eval.registry import detectors

# Channels of the four branches of each block: 1x1; 1x1 then 3x3; 1x1 then 3x3; pool then 1x1.
BLOCKS = {
    "Mixed_3b": (64, 96, 128, 16, 32, 32),
    "Mixed_3c": (128, 128, 192, 32, 96, 64),
    "Mixed_4b": (192, 96, 208, 16, 48, 64),
    "Mixed_4c": (160, 112, 224, 24, 64, 64),
    "Mixed_4d": (128, 128, 256, 24, 64, 64),
    "Mixed_4e": (112, 144, 288, 32, 64, 64),
    "Mixed_4f": (256, 160, 320, 32, 128, 128),
    "Mixed_5b": (256, 160, 320, 32, 128, 128),
    "Mixed_5c": (384, 192, 384, 48, 128, 128),
}
MIN_FRAMES = 9


class Mixed(nn.Module):
    """One inception block: four branches side by side."""

    def __init__(self, c_in: int, channels: tuple[int, ...], bn_eps: float) -> None:
        super().__init__()
        one, reduce3, three, reduce5, five, pool = channels
        self.b0 = Unit3D(c_in, one, bn_eps=bn_eps)
        self.b1a = Unit3D(c_in, reduce3, bn_eps=bn_eps)
        self.b1b = Unit3D(reduce3, three, kernel=3, bn_eps=bn_eps)
        self.b2a = Unit3D(c_in, reduce5, bn_eps=bn_eps)
        self.b2b = Unit3D(reduce5, five, kernel=3, bn_eps=bn_eps)
        self.b3a = SamePool3d((3, 3, 3), (1, 1, 1))
        self.b3b = Unit3D(c_in, pool, bn_eps=bn_eps)

    def forward(self, x_BCTHW: Tensor) -> Tensor:
        branches = (
            self.b0(x_BCTHW),
            self.b1b(self.b1a(x_BCTHW)),
            self.b2b(self.b2a(x_BCTHW)),
            self.b3b(self.b3a(x_BCTHW)),
        )
        return torch.cat(branches, dim=1)


class Logits(nn.Module):
    """The classifier, a 1x1x1 convolution with a bias; its weight is kept in that shape as checkpoints have it."""

    def __init__(self, c_in: int, n_classes: int) -> None:
        super().__init__()
        self.conv3d = nn.Conv3d(c_in, n_classes, 1)

    def forward(self, pooled_BC: Tensor) -> Tensor:
        return functional.linear(pooled_BC, self.conv3d.weight.flatten(1), self.conv3d.bias)


class I3D(nn.Module):
    """Inflated Inception v1 on RGB clips in [-1, 1].

    `width` scales every channel count (1 is the published network); `pool` is the window of the last average pool,
    frames x height x width, None for two frames and whatever height and width are left: 7 x 7 at 224 pixels.
    State dict: the names of piergiaj/pytorch-i3d, which TATS, VideoGPT and cd-fvd share.

    Source: Carreira and Zisserman 2017 (arXiv 1705.07750). Differs: the classifier runs after the mean over time,
    which is the same number, as it is linear.
    """

    def __init__(
        self,
        n_classes: int = 400,
        width: float = 1.0,
        bn_eps: float = 1e-5,
        pool: tuple[int, int, int] | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.pool = pool
        stem = [scaled(channels, width) for channels in (64, 64, 192)]
        self.Conv3d_1a_7x7 = Unit3D(3, stem[0], kernel=7, stride=2, bn_eps=bn_eps)
        self.MaxPool3d_2a_3x3 = SamePool3d((1, 3, 3), (1, 2, 2))
        self.Conv3d_2b_1x1 = Unit3D(stem[0], stem[1], bn_eps=bn_eps)
        self.Conv3d_2c_3x3 = Unit3D(stem[1], stem[2], kernel=3, bn_eps=bn_eps)
        self.MaxPool3d_3a_3x3 = SamePool3d((1, 3, 3), (1, 2, 2))
        self.MaxPool3d_4a_3x3 = SamePool3d((3, 3, 3), (2, 2, 2))
        self.MaxPool3d_5a_2x2 = SamePool3d((2, 2, 2), (2, 2, 2))
        c_in = stem[2]
        for name, table in BLOCKS.items():
            channels = tuple(scaled(c, width) for c in table)
            self.add_module(name, Mixed(c_in, channels, bn_eps))
            c_in = channels[0] + channels[2] + channels[4] + channels[5]
        self.dropout = nn.Dropout(dropout)
        self.logits = Logits(c_in, n_classes)
        self.n_features, self.n_classes = c_in, n_classes

    def pooled(self, clips_BCTHW: Tensor) -> Tensor:
        """Features (B, n_features) before the classifier, averaged over time. Raises UserError if T < 9."""
        if clips_BCTHW.shape[2] < MIN_FRAMES:
            raise UserError(
                f"I3D needs clips of at least {MIN_FRAMES} frames, got {clips_BCTHW.shape[2]}: "
                "generate longer clips or use a protocol with another network"
            )
        x = self.MaxPool3d_2a_3x3(self.Conv3d_1a_7x7(clips_BCTHW))
        x = self.MaxPool3d_3a_3x3(self.Conv3d_2c_3x3(self.Conv3d_2b_1x1(x)))
        for name in BLOCKS:
            if name == "Mixed_4b":
                x = self.MaxPool3d_4a_3x3(x)
            elif name == "Mixed_5b":
                x = self.MaxPool3d_5a_2x2(x)
            x = getattr(self, name)(x)
        return self._average(x)

    def forward(self, clips_BCTHW: Tensor) -> dict[str, Tensor]:
        """Layers `logits` (B, n_classes) and `pooled` (B, n_features), both averaged over time."""
        pooled = self.pooled(clips_BCTHW)
        return {"logits": self.logits(self.dropout(pooled)), "pooled": pooled}

    def _average(self, x_BCTHW: Tensor) -> Tensor:
        """The last average pool, then the mean over its positions."""
        if self.pool is not None:
            return functional.avg_pool3d(x_BCTHW, self.pool, stride=1).mean((2, 3, 4))
        # Written with means, as the pooling kernel lacks bfloat16 on CPU; in float32, whatever the network runs in.
        steps_BCT = x_BCTHW.float().mean((3, 4))
        return ((steps_BCT[..., :-1] + steps_BCT[..., 1:]) / 2).mean(2).to(x_BCTHW.dtype)


@detectors.register(
    "i3d",
    "I3D on RGB clips of 9 frames or more: 400 Kinetics logits averaged over time, the features of FVD",
    layers="logits 400, pooled 1024",
    weights="a state dict with piergiaj's names: .pt or .safetensors",
)
def load(
    path: Path | None,
    *,
    device: str = "cpu",
    dtype: str = "float32",
    backend: str = "eager",
    options: Mapping[str, Any] | None = None,
) -> VideoDetector:
    """I3D with the weights of `path`. Options: `bn_eps` (1e-5 as TATS, 1e-3 as piergiaj), `n_classes`, `width`."""
    network = I3D(**known_options("i3d", options, bn_eps=1e-5, n_classes=400, width=1.0))
    fit_state(network, read_state(path, "i3d"), "i3d", path)
    return as_detector("i3d", network, device=device, dtype=dtype, backend=backend)


def as_detector(
    name: str, network: I3D, *, device: str = "cpu", dtype: str = "float32", backend: str = "eager"
) -> VideoDetector:
    """A trained I3D as a detector, batch norm folded. On a CPU two clips a pass: more only costs memory."""
    piece = 2 if torch.device(device).type == "cpu" else 8
    engine = Engine(
        fold_batch_norm(network),
        device=device,
        dtype=dtype,
        backend=backend,
        piece=piece,
        layout=torch.channels_last_3d,
    )
    layers = {"logits": network.n_classes, "pooled": network.n_features}
    return VideoDetector(name, engine, layers, min_frames=MIN_FRAMES, chunk=8)
