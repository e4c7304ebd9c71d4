"""Tracks of points by optical flow without a network, and the histograms of their motion that FVMD takes.

Shapes: B clips, C channels, T frames, H x W pixels, R pairs of frames, P points (rows of a square grid), 2 coordinates
(x, y) in pixels.
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
from eval.detectors.state import known_options
from eval.metrics.fvmd import CELL_STEPS, motion_features
from eval.registry import detectors

FRAMES = 16
SIDE = 20
# FVMD tracks on frames of 256 pixels, 8 away from their edges; lengths are brought to that scale.
SCALE = 256
MARGIN = 8
# A vector below half a pixel of 256 stands still: the noise of a flow points anywhere, and each length above 0 counts.
STILL = 0.5
LUMA = (0.299, 0.587, 0.114)

SMALLEST = 16
WINDOW = 9
STEPS = 3
# What a window's gradients have to add up to before its flow is believed, in squared levels of 0..255.
TEXTURE = 4.0


def flow(first_RHW: Tensor, second_RHW: Tensor) -> Tensor:
    """Where each pixel of the first frame is in the second: displacements (R, H, W, 2), x first, in pixels.

    Lucas and Kanade 1981 on a pyramid (Bouguet 2000): in every window the displacement whose linear model leaves the
    least squares, refined by warping, from coarse to fine. Windows without texture do not move.
    """
    pyramid = [(first_RHW[:, None], second_RHW[:, None])]
    while min(pyramid[-1][0].shape[2:]) >= 2 * SMALLEST:
        pyramid.append(
            tuple(functional.avg_pool2d(frame, 2, ceil_mode=True, count_include_pad=False) for frame in pyramid[-1])  # type: ignore[arg-type]
        )
    found = torch.zeros_like(pyramid[-1][0]).repeat(1, 2, 1, 1)
    for first, second in reversed(pyramid):
        size = first.shape[2:]
        if found.shape[2:] != size:
            ratio = torch.tensor([size[1] / found.shape[3], size[0] / found.shape[2]]).to(found).reshape(1, 2, 1, 1)
            found = functional.interpolate(found, tuple(size), mode="bilinear", align_corners=False) * ratio
        found = _refined(first, second, found)
    return found.permute(0, 2, 3, 1)


def _refined(first: Tensor, second: Tensor, found: Tensor) -> Tensor:
    """Some steps of Gauss and Newton at one size: frames (R, 1, H, W), displacements (R, 2, H, W).

    Each step solves for the whole displacement and not for what is missing: the mean over the window then keeps
    neighbours together, without which more steps made them fly apart.
    """
    dx, dy = _gradients(first)
    xx, xy, yy = (_window(product) for product in (dx * dx, dx * dy, dy * dy))
    xx, yy = xx + TEXTURE, yy + TEXTURE
    determinant = xx * yy - xy * xy
    for _ in range(STEPS):
        wanted = dx * found[:, :1] + dy * found[:, 1:] + first - sample(second, found)
        bx, by = (_window(d * wanted) + TEXTURE * found[:, c : c + 1] for c, d in enumerate((dx, dy)))
        found = torch.cat([yy * bx - xy * by, xx * by - xy * bx], dim=1) / determinant
    return found


def _gradients(frame: Tensor) -> tuple[Tensor, Tensor]:
    wide = functional.pad(frame, (1, 1, 1, 1), mode="replicate")
    return (wide[..., 1:-1, 2:] - wide[..., 1:-1, :-2]) / 2, (wide[..., 2:, 1:-1] - wide[..., :-2, 1:-1]) / 2


def _window(values: Tensor) -> Tensor:
    """The mean over the window round every pixel, as far as it lies in the frame; rows and columns in turn."""
    for kernel, padding in (((1, WINDOW), (0, WINDOW // 2)), ((WINDOW, 1), (WINDOW // 2, 0))):
        values = functional.avg_pool2d(values, kernel, stride=1, padding=padding, count_include_pad=False)
    return values


def sample(images: Tensor, displacement: Tensor) -> Tensor:
    """Images (R, C, H, W) read bilinearly at every pixel's place plus its displacement (R, 2, H, W); edges repeat."""
    H, W = displacement.shape[2:]
    y, x = torch.meshgrid(torch.arange(H).to(images), torch.arange(W).to(images), indexing="ij")
    places = torch.stack([x + displacement[:, 0], y + displacement[:, 1]], dim=-1)
    return functional.grid_sample(images, _relative(places, H, W), padding_mode="border", align_corners=True)


def _relative(places: Tensor, H: int, W: int) -> Tensor:
    """Pixels as `grid_sample` wants them: -1 is the first pixel's centre and 1 the last one's."""
    return 2 * places / torch.tensor([max(W - 1, 1), max(H - 1, 1)]).to(places) - 1


def track(clips_BCTHW: Tensor) -> Tensor:
    """Places (B, T, P, 2) of a grid of SIDE x SIDE points of the first frame, in pixels, on clips of 0..255."""
    weights = torch.tensor(LUMA).to(clips_BCTHW).reshape(1, 3, 1, 1, 1)
    grey_BTHW = (clips_BCTHW * weights).sum(1)
    B, T, H, W = grey_BTHW.shape
    pairs = flow(grey_BTHW[:, :-1].reshape(-1, H, W), grey_BTHW[:, 1:].reshape(-1, H, W))
    flows = pairs.reshape(B, T - 1, H, W, 2).permute(1, 0, 4, 2, 3)
    shares = torch.linspace(MARGIN / SCALE, 1 - MARGIN / SCALE, SIDE).to(grey_BTHW)
    y, x = shares * H, shares * W
    at = torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], dim=-1).reshape(1, -1, 2).repeat(B, 1, 1)
    places = [at]
    for step in flows:
        moved = functional.grid_sample(step, _relative(at, H, W)[:, None], padding_mode="border", align_corners=True)
        at = at + moved[:, :, 0].transpose(1, 2)
        places.append(at)
    return torch.stack(places, dim=1)


class Tracks(nn.Module):
    """Histograms of the velocities and accelerations of tracked points, lengths in pixels of a frame of 256.

    `cells` (B, 1024): FVMD's, in cells of 4 steps x 5 x 5 points. `whole` (B, 64): of all points in 4 steps, for sets
    of some hundred clips. Velocities are 0 in the first step and accelerations in the first two, as in FVMD.
    """

    def forward(self, clips_BCTHW: Tensor) -> dict[str, Tensor]:
        H, W = clips_BCTHW.shape[3:]
        places = track(clips_BCTHW.float()) * torch.tensor([SCALE / W, SCALE / H]).to(clips_BCTHW.device)
        velocity = functional.pad(_moving(places.diff(dim=1)), (0, 0, 0, 0, 1, 0))
        acceleration = functional.pad(_moving(places.diff(n=2, dim=1)), (0, 0, 0, 0, 2, 0))
        vectors = [moved.cpu().numpy() for moved in (velocity, acceleration)]
        cells, whole = (torch.from_numpy(motion_features(*vectors, cell=cell)) for cell in (5, SIDE))
        return {"cells": cells.to(clips_BCTHW.device), "whole": whole.to(clips_BCTHW.device)}


def _moving(vectors: Tensor) -> Tensor:
    return torch.where(vectors.norm(dim=-1, keepdim=True) < STILL, 0.0, vectors)


class TrackDetector(VideoDetector):
    """A `VideoDetector` that reads clips of exactly FRAMES frames, as its histograms have their length."""

    def __call__(self, clips_BCTHW: Tensor) -> dict[str, Tensor]:
        """Layers by name, (B, D). Raises UserError for another number of frames or frames that are too small."""
        T, H, W = clips_BCTHW.shape[2:]
        if T != FRAMES or min(H, W) < SMALLEST:
            raise UserError(
                f"detector {self.name} reads clips of {FRAMES} frames of at least {SMALLEST} pixels, got {T} of"
                f" {W}x{H}: use a protocol of {FRAMES} frames"
            )
        return super().__call__(clips_BCTHW)


@detectors.register(
    "tracks",
    "20 x 20 points followed by optical flow (Lucas-Kanade, no network): FVMD's histograms of their motion",
    layers="cells 1024, whole 64",
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
    """The tracker as a detector of pixels on 0..255; no options and no weights, always in float32."""
    known_options("tracks", options)
    engine = Engine(Tracks(), device=device, dtype="float32", backend="eager", piece=4)
    per_bin = 2 * (FRAMES // CELL_STEPS) * 8
    layers = {"cells": per_bin * (SIDE // 5) ** 2, "whole": per_bin}
    return TrackDetector("tracks", engine, layers, min_frames=FRAMES)
