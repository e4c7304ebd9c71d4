"""Temporal flickering as in VBench: 1 minus the mean absolute difference of neighbouring frames, without optical flow.

It cannot tell flicker from motion: VBench uses it on prompts of things that stand still. A frozen clip scores 1.
Shapes: N samples.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cogvideo.errors import UserError
from eval.metrics.averages import score_average
from eval.metrics.distance import first_of
from eval.metrics.features import checked
from eval.protocol import MetricSpec
from eval.registry import metrics
from eval.scoring import Score, ScoreInput

Floats = NDArray[np.float64]
LEVELS = 255.0
# Under a hundredth of a level on average nothing moves: no codec and no noise is that quiet.
FROZEN = 0.01


def temporal_flickering(neighbours_N: ArrayLike) -> Floats:
    """(255 - change) / 255 of every clip, (N,), from its mean absolute change between frames in levels of 0..255.

    Raises UserError for changes that are no levels. Source: VBench (Huang et al. 2024), temporal flickering.
    """
    return steadiness(neighbours_N)


def steadiness(changes: ArrayLike) -> Floats:
    """(255 - change) / 255 for changes (N,) or (N, 1) in levels of 0..255."""
    values = np.asarray(changes, dtype=np.float64)
    if values.ndim not in (1, 2) or values.shape[1:] not in ((), (1,)):
        raise UserError(f"expected one change for each clip, shape (N,) or (N, 1), got {values.shape}")
    if not ((values >= 0) & (values <= LEVELS)).all():
        raise UserError("changes must lie in 0..255 levels: read the clips with the pixels raw-0-255")
    return (LEVELS - values.reshape(-1)) / LEVELS


def score_steadiness(spec: MetricSpec, data: ScoreInput) -> Score:
    """Mean steadiness over samples, with that of held-out real clips beside it and the share of frozen clips."""
    fake = first_of(checked(data.fake, "fake"), spec.n_fake)
    values = steadiness(fake.values)
    frozen = float((fake.values.reshape(-1) < FROZEN).mean())
    floor, note = None, "no held-out real clips"
    if data.heldout is not None and len(data.heldout):
        real = first_of(checked(data.heldout, "held-out real"), len(fake))
        floor, note = float(steadiness(real.values).mean()), f"{len(real):,} held-out real clips"
    warnings = (f"{frozen:.0%} of the clips stand still, which this metric rewards",) if frozen else ()
    details: dict[str, float | int | str] = {"mean_change_levels": float(fake.values.mean()), "share_frozen": frozen}
    return score_average(values, fake, data, floor=floor, floor_note=note, details=details, warnings=warnings)


@metrics.register(
    "temporal-flickering",
    "1 - mean change of pixels between frames (VBench); a frozen clip scores 1, motion counts as flicker",
    direction="higher",
    label="Flickering",
    decimals="4",
    needs="clips; no network",
)
def score(spec: MetricSpec, data: ScoreInput) -> Score:
    """Temporal flickering of the layer `neighbours` of the detector `changes`."""
    return score_steadiness(spec, data)
