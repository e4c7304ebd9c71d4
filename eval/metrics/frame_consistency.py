"""Frame consistency: mean cosine of neighbouring frames' embeddings, with a measure of motion beside it.

A frozen clip scores 1, so the value says nothing alone. Shapes: N samples, T frames, D dimensions of the embedding.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cogvideo.errors import UserError
from eval.metrics.averages import score_average
from eval.metrics.clipsim import unit
from eval.metrics.distance import first_of
from eval.metrics.features import checked
from eval.protocol import MetricSpec
from eval.registry import metrics
from eval.scoring import Score, ScoreInput

Floats = NDArray[np.float64]
FROZEN = 1 - 1e-6


def frame_consistency(frames_NTD: ArrayLike) -> Floats:
    """Mean cosine of neighbouring frames of every clip, (N,). Raises UserError under two frames."""
    return np.asarray(_neighbours(frames_NTD).mean(axis=1))


def frame_travel(frames_NTD: ArrayLike) -> Floats:
    """1 - cosine of the first and the last frame of every clip, (N,): how far a clip gets from where it began."""
    frames = unit(frames_NTD, "frame")
    return np.asarray(1 - (frames[:, 0] * frames[:, -1]).sum(axis=1))


def _neighbours(frames_NTD: ArrayLike) -> Floats:
    frames = unit(frames_NTD, "frame")
    if frames.ndim != 3 or frames.shape[1] < 2:
        raise UserError(f"frame consistency needs at least 2 frames of shape (N, T, D), got {frames.shape}")
    return np.asarray((frames[:, 1:] * frames[:, :-1]).sum(axis=2))


@metrics.register(
    "frame-consistency",
    "Cosine of neighbouring frames (CLIP); a frozen clip scores 1",
    direction="higher",
    label="Frame consistency",
    decimals="4",
    needs="clips, CLIP",
)
def score(spec: MetricSpec, data: ScoreInput) -> Score:
    """Frame consistency with held-out real clips beside it; `details` has the travel and the share of frozen clips."""
    fake = first_of(checked(data.fake, "fake"), spec.n_fake)
    values, travel = frame_consistency(fake.values), frame_travel(fake.values)
    frozen = float((_neighbours(fake.values).min(axis=1) > FROZEN).mean())
    details: dict[str, float | int | str] = {
        "motion_first_to_last": float(travel.mean()),
        "share_frozen": frozen,
        "frames": fake.values.shape[1],
    }
    floor, note = None, "no held-out real clips"
    if data.heldout is not None and len(data.heldout):
        real = first_of(checked(data.heldout, "held-out real"), len(fake))
        floor, note = float(frame_consistency(real.values).mean()), f"{len(real):,} held-out real clips"
        details["motion_first_to_last_real"] = float(frame_travel(real.values).mean())
    warnings = (f"{frozen:.0%} of the clips stand still, which this metric rewards",) if frozen else ()
    return score_average(values, fake, data, floor=floor, floor_note=note, details=details, warnings=warnings)
