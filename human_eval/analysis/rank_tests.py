"""Tests on rater means: Friedman over all models, Wilcoxon and paired t for each pair, with adjusted p and effect size.

Shapes: R raters, M models, N pairs. A rater counts once, so ratings of one rater are never taken as independent.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats

from eval.intervals import LEVEL
from human_eval.analysis.corrections import adjust
from human_eval.analysis.kappa import kendall_w
from human_eval.analysis.means import cells, clustered_interval, influence
from human_eval.analysis.resampling import Floats, Interval


@dataclass(frozen=True)
class Friedman:
    """Whether all models could be alike, over the raters who rated each of them."""

    raters: int
    models: int
    chi2: float
    p: float
    kendall_w: float


@dataclass(frozen=True)
class PairTest:
    """One pair of models on rater means: first minus second. `wilcoxon` is the smaller sum of signed ranks.

    `dz` is the mean difference over its standard deviation; `rank_biserial` the share of favourable minus
    unfavourable rank sums.
    """

    first: str
    second: str
    raters: int
    difference: float
    wilcoxon: float
    wilcoxon_p: float
    wilcoxon_p_holm: float
    wilcoxon_p_bh: float
    t: float
    t_p: float
    t_p_holm: float
    dz: float
    rank_biserial: float


@dataclass(frozen=True)
class PositionEffect:
    """Mean score by place on the screen; Kruskal-Wallis takes all ratings as independent, so its p is too small.

    `effect_by_position`, in score units, with its two-way interval: what a place adds to a score. Each score is taken
    without the mean of its model, so that a model which stood at one place more often is no effect of the place.
    """

    mean_by_position: dict[str, float]
    n_by_position: dict[str, int]
    kruskal_h: float
    kruskal_p: float
    effect_by_position: dict[str, float]
    interval_by_position: dict[str, Interval]


def rater_means(ratings: pd.DataFrame, models: Sequence[str]) -> Floats:
    """(R, M) mean score of each rater for each model, in the order of the raters' names; NaN without a rating."""
    wide = ratings.pivot_table(index="rater", columns="model", values="score", aggfunc="mean")
    return wide.sort_index().reindex(columns=list(models)).to_numpy(float)


def friedman(means_RM: ArrayLike) -> Friedman | None:
    """Friedman's test with ties; None for fewer than three models or two complete raters, or where nothing varies."""
    table = np.asarray(means_RM, dtype=float)
    table = table[np.isfinite(table).all(1)]
    if table.ndim != 2 or table.shape[1] < 3 or len(table) < 2 or not (np.ptp(table, axis=1) > 0).any():
        return None
    found = stats.friedmanchisquare(*table.T)
    return Friedman(len(table), table.shape[1], float(found.statistic), float(found.pvalue), kendall_w(table))


def wilcoxon(differences: ArrayLike) -> tuple[float, float, float]:
    """(smaller rank sum, two-sided p, rank-biserial effect): zeros dropped, normal approximation, no continuity."""
    d = np.asarray(differences, dtype=float)
    d = d[np.isfinite(d) & (d != 0)]
    n = len(d)
    if n == 0:
        return math.nan, math.nan, math.nan
    ranks = stats.rankdata(np.abs(d))
    plus, minus = float(ranks[d > 0].sum()), float(ranks[d < 0].sum())
    ties = np.unique(ranks, return_counts=True)[1].astype(float)
    variance = n * (n + 1) * (2 * n + 1) / 24 - float((ties**3 - ties).sum()) / 48
    smaller = min(plus, minus)
    z = (smaller - n * (n + 1) / 4) / math.sqrt(variance)
    return smaller, min(1.0, 2 * float(stats.norm.cdf(z))), (plus - minus) / (plus + minus)


def pair_tests(means_RM: ArrayLike, models: Sequence[str]) -> list[PairTest]:
    """Every pair of models; adjusted p-values are over all of these pairs."""
    table = np.asarray(means_RM, dtype=float)
    raw = []
    for a, b in combinations(range(len(models)), 2):
        d = table[:, a] - table[:, b]
        d = d[np.isfinite(d)]
        # Means of the same scores in another order differ in their last bits; that is no difference.
        d = np.where(np.abs(d) < 1e-12 * max(1.0, float(np.abs(table[np.isfinite(table)]).max(initial=0))), 0.0, d)
        sd = float(d.std(ddof=1)) if len(d) > 1 else math.nan
        mean = float(d.mean()) if len(d) else math.nan
        t = mean / (sd / math.sqrt(len(d))) if sd > 0 else math.nan
        t_p = 2 * float(stats.t.sf(abs(t), len(d) - 1)) if sd > 0 else math.nan
        raw.append((models[a], models[b], len(d), mean, wilcoxon(d), t, t_p, mean / sd if sd > 0 else math.nan))
    rank_p, t_p_all = [one[4][1] for one in raw], [one[6] for one in raw]
    holm, bh, t_holm = adjust(rank_p, "holm"), adjust(rank_p, "bh"), adjust(t_p_all, "holm")
    return [
        PairTest(
            first=first,
            second=second,
            raters=n,
            difference=mean,
            wilcoxon=ranks[0],
            wilcoxon_p=ranks[1],
            wilcoxon_p_holm=float(holm[row]),
            wilcoxon_p_bh=float(bh[row]),
            t=t,
            t_p=t_p,
            t_p_holm=float(t_holm[row]),
            dz=dz,
            rank_biserial=ranks[2],
        )
        for row, (first, second, n, mean, ranks, t, t_p, dz) in enumerate(raw)
    ]


def position_effect(ratings: pd.DataFrame, level: float = LEVEL) -> PositionEffect | None:
    """Mean score at each screen position, and what the position adds; None without positions or with a single one."""
    if "position" not in ratings.columns:
        return None
    known = ratings[ratings["position"].notna()]
    groups = {f"{place:g}": rows["score"].to_numpy(float) for place, rows in known.groupby("position")}
    if len(groups) < 2 or np.ptp(known["score"].to_numpy(float)) == 0:
        return None
    found = stats.kruskal(*groups.values())
    effects, intervals = _place_effects(known, list(groups), level)
    return PositionEffect(
        {place: float(values.mean()) for place, values in groups.items()},
        {place: len(values) for place, values in groups.items()},
        float(found.statistic),
        float(found.pvalue),
        effects,
        intervals,
    )


def _place_effects(
    known: pd.DataFrame, places: list[str], level: float
) -> tuple[dict[str, float], dict[str, Interval]]:
    """Each place's mean of scores without their model's mean, minus the average of the places."""
    rest = known["score"] - known.groupby("model")["score"].transform("mean")
    data = cells(known.assign(model=known["position"].map("{:g}".format), rest=rest), places, "rest")
    means = data.means()
    effects, intervals = {}, {}
    for index, place in enumerate(places):
        weights = np.eye(len(places))[index] - 1 / len(places)
        seen = data.counts.sum(0)
        effects[place] = float(weights @ means)
        intervals[place] = clustered_interval(effects[place], influence(data, weights), seen, level)
    return effects, intervals
