"""Rejection of raters after ITU-R BT.500: who is often far from the mean on both sides. It misses most bad raters.

Shapes: R raters, U units. Standard deviation with ddof 0 and non-excess kurtosis, as the recommendation has them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike


@dataclass(frozen=True)
class Bt500:
    """How often a rater was far above (p) or below (q) the mean; rejected if often (ratio1) and on both (ratio2)."""

    p: int
    q: int
    ratio1: float
    ratio2: float | None
    rejected: bool


def bt500(scores_RU: ArrayLike) -> list[Bt500]:
    """The rule for each rater. Far: 2 standard deviations where the scores of a unit look normal, else sqrt(20).

    Scores of one unit look normal with a kurtosis of 2 to 4. A unit where all agree rejects nobody.
    """
    table = np.asarray(scores_RU, dtype=float)
    seen = np.isfinite(table)
    n = np.maximum(seen.sum(0), 1)
    mean = np.where(seen, table, 0.0).sum(0) / n
    away = np.where(seen, table - mean, 0.0)
    second, fourth = (away**2).sum(0) / n, (away**4).sum(0) / n
    kurtosis = np.divide(fourth, second**2, out=np.zeros_like(second), where=second > 0)
    far = np.where((kurtosis >= 2) & (kurtosis <= 4), 2.0, math.sqrt(20)) * np.sqrt(second)
    varied = seen & (second > 0)
    above, below = ((away >= far) & varied).sum(1), ((away <= -far) & varied).sum(1)
    found = []
    for row in range(len(table)):
        p, q, rated = int(above[row]), int(below[row]), int(seen[row].sum())
        ratio1 = (p + q) / rated if rated else 0.0
        ratio2 = abs(p - q) / (p + q) if p + q else None
        found.append(Bt500(p, q, ratio1, ratio2, ratio1 > 0.05 and ratio2 is not None and ratio2 < 0.3))
    return found
