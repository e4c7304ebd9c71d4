"""Draws of raters and items, and what an interval is: its ends, its level, how it was made, or why there is none.

Shapes: B resamples, G groups that are drawn (raters or items).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eval.intervals import LEVEL, uniform

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
RESAMPLES = 4000
# A resample may have no estimate (a model never drawn, separated votes). More of them than this share and the rest
# no longer stands for all: then there is no interval.
MOST_LOST = 0.01


@dataclass(frozen=True)
class Interval:
    """An interval as it is printed. Without ends, `reason` says why it is not available."""

    low: float | None
    high: float | None
    method: str
    level: float = LEVEL
    se: float | None = None
    resamples: int = 0
    seed: int | None = None
    lost: int = 0
    reason: str = ""

    @property
    def ends(self) -> tuple[float, float]:
        """(low, high). Raises ValueError where the interval is not available."""
        if self.low is None or self.high is None:
            raise ValueError(f"no interval: {self.reason}")
        return self.low, self.high


def unavailable(method: str, reason: str, level: float = LEVEL) -> Interval:
    """The interval that cannot be given, with the reason in words."""
    return Interval(None, None, method, level, reason=reason)


def group_weights(groups: int, resamples: int, seed: int, name: str) -> Floats:
    """(B, G): how often each group is drawn when as many groups as there are, are drawn with replacement."""
    drawn = (uniform(seed, name, resamples * groups) * groups).astype(np.int64).reshape(resamples, groups)
    flat = np.bincount((drawn + groups * np.arange(resamples)[:, None]).ravel(), minlength=resamples * groups)
    return flat.reshape(resamples, groups).astype(np.float64)


def percentile_interval(
    replicates: ArrayLike, *, method: str, seed: int, level: float = LEVEL, groups: int | None = None
) -> Interval:
    """The middle `level` of the replicates and their standard deviation.

    Replicates that are not finite had no estimate: they are counted in `lost`; above 1 % there is no interval.
    `groups` is the smallest number of groups drawn: below two nothing can be said.
    """
    values = np.asarray(replicates, dtype=np.float64)
    good = values[np.isfinite(values)]
    lost = len(values) - len(good)
    if groups is not None and groups < 2:
        return unavailable(method, "it needs at least two groups to draw from", level)
    if lost > MOST_LOST * len(values) or len(good) < 2:
        return unavailable(method, f"{lost:,} of {len(values):,} resamples had no finite estimate", level)
    tail = (1 - level) / 2
    low, high = np.quantile(good, [tail, 1 - tail])
    return Interval(float(low), float(high), method, level, float(good.std(ddof=1)), len(values), seed, lost)
