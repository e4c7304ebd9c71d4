"""Metrics that are an average over samples: value, bootstrap interval, per-sample and per-class values.

Shapes: N samples.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from eval.intervals import LEVEL, group_codes, mean_interval
from eval.scoring import FeatureSet, Interval, Score, ScoreInput

Floats = NDArray[np.float64]


def score_average(
    values_N: Floats,
    fake: FeatureSet,
    data: ScoreInput,
    *,
    floor: float | None = None,
    floor_note: str = "",
    details: Mapping[str, float | int | str] | None = None,
    warnings: tuple[str, ...] = (),
) -> Score:
    """The mean over samples with a percentile bootstrap over their groups, and the mean of every label."""
    interval, note = None, ""
    if group_codes(fake.groups)[1] < 2:
        note = "all samples come from one source, so nothing says how much the value varies"
    else:
        low, high = mean_interval(values_N, fake.groups, replicates=data.replicates, seed=data.seed)
        interval = Interval(low, high, LEVEL, f"bootstrap over samples, {data.replicates:,} replicates")
    return Score(
        value=float(values_N.mean()),
        n_fake=len(fake),
        interval=interval,
        interval_note=note,
        floor=floor,
        floor_note=floor_note,
        per_sample=dict(zip(fake.ids, values_N.tolist(), strict=True)),
        per_class=class_means(values_N, fake.labels),
        details=details or {},
        warnings=warnings,
    )


def class_means(values_N: Floats, labels: tuple[str, ...]) -> dict[str, float]:
    """Mean of each label, in the order of the labels' names; samples without a label are left out."""
    wanted = np.asarray(labels)
    return {str(label): float(values_N[wanted == label].mean()) for label in np.unique(wanted) if label}
