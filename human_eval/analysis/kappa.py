"""Chance-corrected agreement on categories: Fleiss, Randolph, Cohen (plain and weighted), and Kendall's W.

Shapes: U units, V categories, R raters. Source: Fleiss 1971, Randolph 2005, Cohen 1960 and 1968, Kendall and
Babington Smith 1939.
"""

from __future__ import annotations

import math
from itertools import combinations
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from eval.intervals import LEVEL
from human_eval.analysis.resampling import RESAMPLES, Floats, Interval, group_weights, percentile_interval

Chance = Literal["fleiss", "randolph"]
Weighting = Literal["none", "linear", "quadratic"]


def fleiss_kappa(counts_UV: ArrayLike, chance: Chance = "fleiss") -> float:
    """Agreement of several raters beyond chance, from the count of each category a unit.

    `randolph`: chance is the same for all categories, so that it does not depend on how often each was used. Units
    with fewer than two ratings are left out. NaN where chance alone explains everything.
    """
    counts = np.asarray(counts_UV, dtype=float)
    return float(_kappa(np.ones((1, len(counts))), counts, chance)[0])


def kappa_interval(
    counts_UV: ArrayLike, chance: Chance = "fleiss", *, resamples: int = RESAMPLES, seed: int = 0, level: float = LEVEL
) -> Interval:
    """Percentile bootstrap of units."""
    counts = np.asarray(counts_UV, dtype=float)
    drawn = _kappa(group_weights(len(counts), resamples, seed, "units"), counts, chance)
    return percentile_interval(
        drawn, method="percentile bootstrap of units", seed=seed, level=level, groups=len(counts)
    )


def _kappa(weights_BU: Floats, counts_UV: Floats, chance: Chance) -> Floats:
    sizes = counts_UV.sum(1)
    rated = sizes >= 2
    counts, sizes, weights = counts_UV[rated], sizes[rated], weights_BU[:, rated]
    if not rated.any():
        return np.full(len(weights_BU), np.nan)
    agree_U = ((counts * (counts - 1)).sum(1)) / (sizes * (sizes - 1))
    total = weights.sum(1)
    agree = np.divide(weights @ agree_U, total, out=np.full(len(total), np.nan), where=total > 0)
    if chance == "randolph":
        by_chance = np.full(len(total), 1 / counts.shape[1])
    else:
        use_BV = weights @ counts
        share = use_BV / np.maximum(use_BV.sum(1, keepdims=True), 1e-300)
        by_chance = (share**2).sum(1)
    return np.asarray(np.divide(agree - by_chance, 1 - by_chance, out=np.full(len(total), np.nan), where=by_chance < 1))


def cohen_kappa(first: ArrayLike, second: ArrayLike, weighting: Weighting = "none") -> float:
    """Agreement of two raters on the units that both rated; the weights count how many categories apart they are.

    Categories are the different values that the two used, in their order. NaN where nothing varies.
    """
    a, b = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    both = np.isfinite(a) & np.isfinite(b)
    values, codes = np.unique(np.r_[a[both], b[both]], return_inverse=True)
    n, size = int(both.sum()), len(values)
    if n == 0 or size < 2:
        return float("nan")
    table = np.bincount(codes[:n] * size + codes[n:], minlength=size * size).reshape(size, size) / n
    apart = np.abs(np.subtract.outer(np.arange(size), np.arange(size))).astype(float)
    cost = {"none": (apart > 0).astype(float), "linear": apart, "quadratic": apart**2}[weighting]
    expected = np.outer(table.sum(1), table.sum(0))
    return float(1 - (cost * table).sum() / (cost * expected).sum())


def mean_pairwise_spearman(ratings_RU: ArrayLike) -> float:
    """Mean rank correlation over all pairs of raters, each on the units that both rated; NaN if no pair varies."""
    table = np.asarray(ratings_RU, dtype=float)
    holes = not np.isfinite(table).all()
    ranks = table if holes else stats.rankdata(table, axis=1)
    found = []
    for a, b in combinations(range(len(table)), 2):
        x, y = ranks[a], ranks[b]
        if holes:
            both = np.isfinite(x) & np.isfinite(y)
            x, y = stats.rankdata(x[both]), stats.rankdata(y[both])
        x, y = x - x.mean() if len(x) else x, y - y.mean() if len(y) else y
        bottom = float(x @ x) * float(y @ y)
        if bottom > 0:
            found.append(float(x @ y) / math.sqrt(bottom))
    return float(np.mean(found)) if found else float("nan")


def kendall_w(scores_RM: ArrayLike) -> float:
    """Concordance of complete rows (raters x models), corrected for ties: 0 none, 1 perfect."""
    table = np.asarray(scores_RM, dtype=float)
    raters, models = table.shape
    ranks = stats.rankdata(table, axis=1)
    ties = sum(float((n**3 - n).sum()) for row in ranks for n in [np.unique(row, return_counts=True)[1]])
    scatter = float(((ranks.sum(0) - raters * (models + 1) / 2) ** 2).sum())
    bottom = raters**2 * (models**3 - models) - raters * ties
    return 12 * scatter / bottom if bottom > 0 else float("nan")
