"""FVMD: Frechet distance of histograms of motion, from the tracks of points on a square grid.

Shapes: B clips, S steps, P points (side by side in rows of a square grid), 2 coordinates. The tracker is not here:
velocity and acceleration are its output.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cogvideo.errors import UserError
from eval.metrics.features import refuse_not_finite
from eval.metrics.frechet import frechet

Floats = NDArray[np.float64]
LARGEST = 256
CELL_STEPS = 4


def motion_histogram(
    vectors_BSP2: ArrayLike, *, cell: int = 5, cell_steps: int = CELL_STEPS, angle_bins: int = 8
) -> Floats:
    """Histogram of directions in every cell of cell_steps x cell x cell vectors, (B, cells * angle_bins).

    A vector counts ceil(log2(1 + length)) / 8 in the bin of its direction, lengths cut at 255. The first coordinate
    is the sine of the direction. Steps and points that fill no whole cell are left out.
    Raises UserError if P is no square, or not finite. Source: fvmd 1.0.0, Liu et al. 2024.
    """
    vectors = np.asarray(vectors_BSP2, dtype=np.float64)
    side = math.isqrt(vectors.shape[2]) if vectors.ndim == 4 else 0
    if vectors.ndim != 4 or vectors.shape[3] != 2 or side * side != vectors.shape[2]:
        raise UserError(f"expected tracks of shape (B, S, square number of points, 2), got {vectors.shape}")
    refuse_not_finite(vectors, "track")
    clips, across = len(vectors), side // cell
    steps = vectors.shape[1] // cell_steps
    grid = vectors.reshape(clips, -1, side, side, 2)[:, : steps * cell_steps, : across * cell, : across * cell]
    sine, cosine = grid[..., 0], grid[..., 1]
    bins = ((np.arctan2(sine, cosine) + np.pi) // (2 * np.pi / angle_bins)).astype(np.int64).clip(0, angle_bins - 1)
    length = np.hypot(sine, cosine).clip(0, LARGEST - 1)
    weight = np.ceil(np.log2(1 + length)) / math.log2(LARGEST)
    step, row, column = (
        np.arange(n) // size for n, size in zip(grid.shape[1:4], (cell_steps, cell, cell), strict=True)
    )
    cells = (step[:, None, None] * across + row[:, None]) * across + column
    n_bins = steps * across * across * angle_bins
    place = np.arange(clips)[:, None, None, None] * n_bins + cells * angle_bins + bins
    counts = np.bincount(place.ravel(), weights=weight.ravel(), minlength=clips * n_bins).astype(np.float64)
    return counts.reshape(clips, n_bins)


def motion_features(velocity_BSP2: ArrayLike, acceleration_BSP2: ArrayLike, *, cell: int = 5) -> Floats:
    """Histograms of velocity, then of acceleration, (B, 1024) for 16 steps of 400 points in cells of 5 x 5."""
    both = (motion_histogram(vectors, cell=cell) for vectors in (velocity_BSP2, acceleration_BSP2))
    return np.concatenate([*both], axis=1)


def fvmd(fake_features_BD: ArrayLike, real_features_BD: ArrayLike, *, ddof: int = 1) -> float:
    """Frechet distance of `motion_features`. It needs many more than 1,024 clips to mean anything."""
    return frechet(fake_features_BD, real_features_BD, ddof=ddof)
