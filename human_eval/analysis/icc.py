"""Intra-class correlation: one-way, agreement and consistency, of one rater and of the mean of all, with intervals.

Shapes: U units (targets), R raters; no holes. Source: McGraw and Wong 1996; their ICC(A,1) is ICC(2,1) of Shrout and
Fleiss 1979, ICC(C,1) is ICC(3,1).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from eval.intervals import LEVEL
from human_eval.analysis.resampling import Interval, unavailable

METHOD = "McGraw-Wong F interval"


@dataclass(frozen=True)
class MeanSquares:
    """Between units (rows), between raters (columns), what is left (error), and within units."""

    rows: float
    columns: float
    error: float
    within: float


@dataclass(frozen=True)
class IntraClass:
    """One coefficient with its F ratio and interval."""

    name: str
    value: float
    f_ratio: float
    interval: Interval


@dataclass(frozen=True)
class IntraClassFamily:
    """All six coefficients over the units that every rater rated; `reason` says why there are none."""

    units: int
    raters: int
    left_out_units: int
    mean_squares: MeanSquares | None
    coefficients: dict[str, IntraClass]
    reason: str = ""


def intra_class(ratings_UR: ArrayLike, level: float = LEVEL) -> IntraClassFamily:
    """The family of ratings (units x raters, NaN where not rated). Units with a hole are left out and counted."""
    table = np.asarray(ratings_UR, dtype=float)
    complete = np.isfinite(table).all(1)
    left_out = int((~complete).sum())
    x_UR = table[complete]
    n, k = x_UR.shape
    if n < 2 or k < 2:
        return IntraClassFamily(n, k, left_out, None, {}, "it needs two units that the same two raters rated")
    grand, unit_U, rater_R = x_UR.mean(), x_UR.mean(1), x_UR.mean(0)
    rows = k * float(((unit_U - grand) ** 2).sum()) / (n - 1)
    columns = n * float(((rater_R - grand) ** 2).sum()) / (k - 1)
    error = float(((x_UR - unit_U[:, None] - rater_R + grand) ** 2).sum()) / ((n - 1) * (k - 1))
    within = float(((x_UR - unit_U[:, None]) ** 2).sum()) / (n * (k - 1))
    squares = MeanSquares(rows, columns, error, within)
    if within == 0 or error == 0:
        return IntraClassFamily(n, k, left_out, squares, {}, "the raters do not differ at all")
    return IntraClassFamily(n, k, left_out, squares, _coefficients(squares, n, k, level))


def _coefficients(ms: MeanSquares, n: int, k: int, level: float) -> dict[str, IntraClass]:
    high = (1 + level) / 2

    def quantile(first: float, second: float) -> float:
        return float(stats.f.ppf(high, first, second))

    found: dict[str, IntraClass] = {}

    def put(name: str, value: float, ratio: float, low: float, top: float) -> None:
        interval = Interval(low, top, METHOD, level)
        if not np.isfinite([low, top]).all():
            interval = unavailable(METHOD, "its F bounds are not finite", level)
        found[name] = IntraClass(name, value, ratio, interval)

    ratio = ms.rows / ms.within
    low = ratio / quantile(n - 1, n * (k - 1))
    top = ratio * quantile(n * (k - 1), n - 1)
    put(
        "ICC(1,1)",
        (ms.rows - ms.within) / (ms.rows + (k - 1) * ms.within),
        ratio,
        (low - 1) / (low + k - 1),
        (top - 1) / (top + k - 1),
    )
    put("ICC(1,k)", (ms.rows - ms.within) / ms.rows if ms.rows else np.nan, ratio, 1 - 1 / low, 1 - 1 / top)

    ratio = ms.rows / ms.error
    low = ratio / quantile(n - 1, (n - 1) * (k - 1))
    top = ratio * quantile((n - 1) * (k - 1), n - 1)
    put(
        "ICC(C,1)",
        (ms.rows - ms.error) / (ms.rows + (k - 1) * ms.error),
        ratio,
        (low - 1) / (low + k - 1),
        (top - 1) / (top + k - 1),
    )
    put("ICC(C,k)", (ms.rows - ms.error) / ms.rows if ms.rows else np.nan, ratio, 1 - 1 / low, 1 - 1 / top)

    single = (ms.rows - ms.error) / (ms.rows + (k - 1) * ms.error + k * (ms.columns - ms.error) / n)
    a = k * single / (n * (1 - single))
    b = 1 + k * single * (n - 1) / (n * (1 - single))
    freedom = (a * ms.columns + b * ms.error) ** 2 / (
        (a * ms.columns) ** 2 / (k - 1) + (b * ms.error) ** 2 / ((n - 1) * (k - 1))
    )
    rest = k * ms.columns + (k * n - k - n) * ms.error
    f_low, f_high = quantile(n - 1, freedom), quantile(freedom, n - 1)
    low = n * (ms.rows - f_low * ms.error) / (f_low * rest + n * ms.rows)
    top = n * (f_high * ms.rows - ms.error) / (rest + n * f_high * ms.rows)
    put("ICC(A,1)", single, ratio, low, top)
    put(
        "ICC(A,k)",
        (ms.rows - ms.error) / (ms.rows + (ms.columns - ms.error) / n),
        ratio,
        low * k / (1 + low * (k - 1)),
        top * k / (1 + top * (k - 1)),
    )
    return found
