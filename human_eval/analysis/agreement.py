"""Krippendorff's alpha: agreement of any number of raters, with holes, on four kinds of scale, and its interval.

Shapes: R raters, U units, V values, B resamples. Source: Krippendorff 2011, Computing Krippendorff's alpha-reliability.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from eval.intervals import LEVEL
from human_eval.analysis.resampling import RESAMPLES, Floats, Interval, group_weights, percentile_interval

Scale = Literal["nominal", "ordinal", "interval", "ratio"]
SCALES: tuple[Scale, ...] = ("nominal", "ordinal", "interval", "ratio")
METHOD = "percentile bootstrap of units"
CHUNK_FLOATS = 8_000_000


@dataclass(frozen=True)
class Alpha:
    """Alpha of one scale. `value` is None, with a reason, where the ratings do not vary or no unit has two."""

    scale: Scale
    value: float | None
    units: int
    raters: int
    ratings: int
    interval: Interval | None
    reason: str = ""


def krippendorff_alpha(
    ratings_RU: ArrayLike, scale: Scale = "ordinal", *, resamples: int = RESAMPLES, seed: int = 0, level: float = LEVEL
) -> Alpha:
    """Alpha of ratings (raters x units, NaN where not rated). Units with one rating are left out, as alpha does.

    The interval draws whole units again. Drawing single disagreements instead gives one a third as wide, which does
    not hold what it claims. No interval with `resamples` 0.
    """
    table_RU = np.asarray(ratings_RU, dtype=float)
    pairable = np.isfinite(table_RU).sum(0) >= 2
    used = table_RU[:, pairable]
    raters = int(np.isfinite(used).any(1).sum())
    sizes = (int(pairable.sum()), raters, int(np.isfinite(used).sum()))
    if not pairable.any():
        return Alpha(scale, None, *sizes, None, "no unit has two ratings")
    values, counts_UV = unit_counts(used)
    if len(values) < 2:
        return Alpha(scale, None, *sizes, None, "all ratings are the same")
    value = float(_alpha(np.ones((1, sizes[0])), counts_UV, values, scale)[0])
    interval = None
    if resamples:
        weights_BU = group_weights(sizes[0], resamples, seed, "units")
        drawn = _alpha(weights_BU, counts_UV, values, scale)
        interval = percentile_interval(drawn, method=METHOD, seed=seed, level=level, groups=sizes[0])
    return Alpha(scale, value, *sizes, interval)


def unit_counts(ratings_RU: Floats) -> tuple[Floats, Floats]:
    """(V,) the different values, and (U, V) how often each unit got each."""
    values = np.unique(ratings_RU[np.isfinite(ratings_RU)])
    return values, np.stack([(ratings_RU == value).sum(0) for value in values], axis=1).astype(float)


def _alpha(weights_BU: Floats, counts_UV: Floats, values_V: Floats, scale: Scale) -> Floats:
    """(B,) alpha with units weighted: 1 - observed over expected disagreement; NaN where nothing varies."""
    units, n_values = counts_UV.shape
    sizes_U = counts_UV.sum(1)
    margin_BV = weights_BU @ counts_UV
    out = np.full(len(weights_BU), np.nan)
    pairs_UVV = counts_UV[:, :, None] * counts_UV[:, None, :] - counts_UV[:, :, None] * np.eye(n_values)
    pairs_UVV /= (sizes_U - 1)[:, None, None]
    flat = pairs_UVV.reshape(units, -1)
    chunk = max(1, CHUNK_FLOATS // n_values**2)
    for start in range(0, len(weights_BU), chunk):
        part = slice(start, start + chunk)
        coincidence = (weights_BU[part] @ flat).reshape(-1, n_values, n_values)
        margin = margin_BV[part]
        distance = _distance(values_V, margin, scale)
        observed = (coincidence * distance).sum((1, 2))
        expected = np.einsum("bv,bvw,bw->b", margin, distance, margin, optimize=True)
        total = margin.sum(1)
        np.divide(observed * (total - 1), expected, out=out[part], where=expected > 0)
        out[part] = 1 - out[part]
    return out


def _distance(values_V: Floats, margin_BV: Floats, scale: Scale) -> Floats:
    """(B or 1, V, V) squared difference of two values; on an ordinal scale, by how many ratings lie between."""
    first, second = values_V[:, None], values_V[None, :]
    if scale == "nominal":
        return np.asarray((first != second).astype(float)[None])
    if scale == "interval":
        return np.asarray((first - second) ** 2)[None]
    if scale == "ratio":
        total = first + second
        share = np.divide(first - second, total, out=np.zeros(total.shape), where=total != 0)
        return np.asarray(share**2)[None]
    middle = np.cumsum(margin_BV, axis=1) - margin_BV / 2
    return np.asarray((middle[:, :, None] - middle[:, None, :]) ** 2)
