"""Mean opinion scores: by model, their differences, and how sure they are when raters and items are both a sample.

Shapes: M models, R raters, I items, B resamples. Two ratings of one rater, or of one item, do not err independently:
the naive interval ignores that, the others do not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from scipy import stats

from eval.intervals import LEVEL
from human_eval.analysis.resampling import (
    RESAMPLES,
    Floats,
    Interval,
    group_weights,
    percentile_interval,
    unavailable,
)

By = Literal["raters", "items", "both"]
NAIVE = "naive t, as if all ratings were independent"
BOOTSTRAP: dict[By, str] = {
    "raters": "percentile bootstrap of raters",
    "items": "percentile bootstrap of items",
    "both": "two-way percentile bootstrap of raters and items",
}
TWO_WAY = "two-way t: variance of raters and items, Satterthwaite degrees of freedom"
BY_RATER = "t with raters as clusters, because all answers are about one item"
MOST_CATEGORIES = 11


@dataclass(frozen=True)
class Cells:
    """Sums and counts of a score by model, rater and item; a cell without a rating counts 0."""

    models: tuple[str, ...]
    raters: tuple[str, ...]
    items: tuple[str, ...]
    sums: Floats
    counts: Floats

    def means(self) -> Floats:
        """(M,) sum over count, NaN for a model without ratings."""
        return _ratio(self.sums.sum((1, 2)), self.counts.sum((1, 2)))


def cells(ratings: pd.DataFrame, models: Sequence[str] | None = None, value: str = "score") -> Cells:
    """Rating rows of one aspect, gathered. The columns are rater, item, model and `value`."""
    models = tuple(models if models is not None else sorted(ratings["model"].unique()))
    raters, rater_R = np.unique(ratings["rater"].to_numpy(str), return_inverse=True)
    items, item_I = np.unique(ratings["item"].to_numpy(str), return_inverse=True)
    place = {model: index for index, model in enumerate(models)}
    model_M = np.array([place[model] for model in ratings["model"]], dtype=np.int64)
    shape = (len(models), len(raters), len(items))
    place_N = (model_M * len(raters) + rater_R.ravel()) * len(items) + item_I.ravel()
    values_N = ratings[value].to_numpy(float)
    sums = np.bincount(place_N, weights=values_N, minlength=math.prod(shape)).astype(float).reshape(shape)
    counts = np.bincount(place_N, minlength=math.prod(shape)).astype(float).reshape(shape)
    return Cells(models, tuple(raters.tolist()), tuple(items.tolist()), sums, counts)


def bootstrap_means(data: Cells, by: By, resamples: int = RESAMPLES, seed: int = 0) -> Floats:
    """(B, M) means of resamples; every model sees the same draws, so that differences of columns are paired.

    Two-way: raters and items are drawn independently and a rating counts with the product (the pigeonhole bootstrap,
    Owen 2007). NaN where a model has no rating in a draw.
    """
    models, raters, items = data.sums.shape
    ones_BR, ones_BI = np.ones((1, raters)), np.ones((1, items))
    rater_BR = group_weights(raters, resamples, seed, "raters") if by != "items" else ones_BR
    item_BI = group_weights(items, resamples, seed, "items") if by != "raters" else ones_BI

    def total(values_MRI: Floats) -> Floats:
        by_item = rater_BR @ values_MRI.transpose(1, 0, 2).reshape(raters, models * items)
        return np.asarray((by_item.reshape(-1, models, items) * item_BI[:, None, :]).sum(-1))

    return _ratio(total(data.sums), total(data.counts))


def influence(data: Cells, weights_M: Floats) -> Floats:
    """(R, I) what each cell adds to the weighted sum of the models' means: its sum is zero, its scatter the error."""
    counts_M = data.counts.sum((1, 2))
    means_M = data.means()
    use = weights_M != 0
    parts = data.sums[use] - means_M[use][:, None, None] * data.counts[use]
    return np.asarray((weights_M[use] / counts_M[use]) @ parts.reshape(use.sum(), -1)).reshape(parts.shape[1:])


@dataclass(frozen=True)
class TwoWay:
    """Variance of an estimate from raters, from items, and the part counted twice, with degrees of freedom."""

    variance: float
    freedom: float
    rater_variance: float
    item_variance: float
    shared_variance: float

    @property
    def se(self) -> float:
        return math.sqrt(self.variance)


def two_way_variance(influence_RI: Floats, present_RI: Floats) -> TwoWay:
    """Variance of an estimate whose error is the sum of cell influences, raters and items both drawn at random.

    The scatter of rater totals plus that of item totals minus the residual scatter, which both contain. For complete
    data this is the analysis of variance, unbiased; Satterthwaite's rule gives the degrees of freedom. Never below
    the residual scatter, which is always there. Raises ValueError for fewer than two raters or items.
    """
    raters, items = influence_RI.shape
    if raters < 2 or items < 2:
        raise ValueError("a two-way interval needs at least two raters and two items")
    present = present_RI > 0
    by_rater, by_item = influence_RI.sum(1), influence_RI.sum(0)
    rater_part = raters / (raters - 1) * float(by_rater @ by_rater)
    item_part = items / (items - 1) * float(by_item @ by_item)
    n_cells = int(present.sum())
    freedom = n_cells - raters - items + 1
    rest = _without_main_effects(influence_RI, present)
    shared = float((rest * rest).sum()) * n_cells / freedom if freedom > 0 else 0.0
    variance = max(rater_part + item_part - shared, shared)
    spread = rater_part**2 / (raters - 1) + item_part**2 / (items - 1)
    if freedom > 0:
        spread += shared**2 / freedom
    return TwoWay(variance, variance**2 / spread if spread > 0 else math.inf, rater_part, item_part, shared)


def clustered_interval(value: float, influence_RI: Floats, present_RI: Floats, level: float = LEVEL) -> Interval:
    """The interval that is shown by default: covers at its level also with few items, where percentiles do not.

    Two-way where there are two items or more; by rater where all answers are about one.
    """
    raters, items = influence_RI.shape
    if raters < 2:
        return unavailable(TWO_WAY if items > 1 else BY_RATER, "it needs at least two raters", level)
    if items > 1:
        found = two_way_variance(influence_RI, present_RI)
        se, freedom, method = found.se, found.freedom, TWO_WAY
    else:
        by_rater = influence_RI.sum(1)
        se, freedom, method = math.sqrt(raters / (raters - 1) * float(by_rater @ by_rater)), raters - 1.0, BY_RATER
    half = float(stats.t.ppf((1 + level) / 2, freedom)) * se
    return Interval(value - half, value + half, method, level, se)


def naive_interval(values: Floats, level: float = LEVEL) -> Interval:
    """Student's t on all ratings as if independent; too narrow, given to be compared with."""
    if len(values) < 2:
        return unavailable(NAIVE, "it needs at least two ratings", level)
    se = float(values.std(ddof=1)) / math.sqrt(len(values))
    half = float(stats.t.ppf((1 + level) / 2, len(values) - 1)) * se
    return Interval(float(values.mean()) - half, float(values.mean()) + half, NAIVE, level, se)


@dataclass(frozen=True)
class MeanOpinion:
    """One model on one aspect. `histogram` counts the scale's steps; `top2` is the share of its two highest.

    `interval` is the two-way one. `design_effect`: its variance over the naive one; `n_effective` = n / that.
    """

    model: str
    n: int
    raters: int
    items: int
    mean: float
    sd: float
    median: float
    histogram: dict[str, int]
    top2: float | None
    interval: Interval
    naive: Interval
    by_rater: Interval
    by_item: Interval
    two_way_bootstrap: Interval
    design_effect: float | None
    n_effective: float | None


@dataclass(frozen=True)
class MeanDifference:
    """First minus second model, over all ratings of each."""

    first: str
    second: str
    difference: float
    n_first: int
    n_second: int
    interval: Interval
    by_rater: Interval
    two_way_bootstrap: Interval


def mean_opinions(
    ratings: pd.DataFrame,
    *,
    scale: tuple[float, float] | None = None,
    models: Sequence[str] | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
    level: float = LEVEL,
) -> tuple[list[MeanOpinion], list[MeanDifference]]:
    """Every model that has ratings, and every difference of two, for the rating rows of one aspect.

    `scale` is the lowest and highest score (those found, if absent). Interval ends are in score units.
    """
    models = [m for m in (models or sorted(ratings["model"].unique())) if (ratings["model"] == m).any()]
    data = cells(ratings, models)
    draws = {by: bootstrap_means(data, by, resamples, seed) for by in BOOTSTRAP}
    smallest = {
        "raters": len(data.raters),
        "items": len(data.items),
        "both": min(len(data.raters), len(data.items)),
    }
    low, high = scale or (float(ratings["score"].min()), float(ratings["score"].max()))
    means_M, opinions, differences = data.means(), [], []

    def drawn(values_B: Floats, by: By) -> Interval:
        return percentile_interval(values_B, method=BOOTSTRAP[by], seed=seed, level=level, groups=smallest[by])

    for index, model in enumerate(models):
        scores = ratings.loc[ratings["model"] == model, "score"].to_numpy(float)
        unit = np.eye(len(models))[index]
        seen = data.counts[index]
        kept = np.ix_(seen.sum(1) > 0, seen.sum(0) > 0)
        interval = clustered_interval(float(means_M[index]), influence(data, unit)[kept], seen[kept], level)
        naive = naive_interval(scores, level)
        effect = (interval.se / naive.se) ** 2 if interval.se is not None and naive.se else None
        opinions.append(
            MeanOpinion(
                model=model,
                n=len(scores),
                raters=int((seen.sum(1) > 0).sum()),
                items=int((seen.sum(0) > 0).sum()),
                mean=float(means_M[index]),
                sd=float(scores.std(ddof=1)) if len(scores) > 1 else math.nan,
                median=float(np.median(scores)),
                histogram=histogram(scores, low, high),
                top2=top_two(scores, low, high),
                interval=interval,
                naive=naive,
                by_rater=drawn(draws["raters"][:, index], "raters"),
                by_item=drawn(draws["items"][:, index], "items"),
                two_way_bootstrap=drawn(draws["both"][:, index], "both"),
                design_effect=effect,
                n_effective=len(scores) / effect if effect else None,
            )
        )
    for a, first in enumerate(models):
        for b in range(a + 1, len(models)):
            weights = np.eye(len(models))[a] - np.eye(len(models))[b]
            seen = data.counts[a] + data.counts[b]
            kept = np.ix_(seen.sum(1) > 0, seen.sum(0) > 0)
            value = float(means_M[a] - means_M[b])
            differences.append(
                MeanDifference(
                    first=first,
                    second=models[b],
                    difference=value,
                    n_first=int(data.counts[a].sum()),
                    n_second=int(data.counts[b].sum()),
                    interval=clustered_interval(value, influence(data, weights)[kept], seen[kept], level),
                    by_rater=drawn(draws["raters"][:, a] - draws["raters"][:, b], "raters"),
                    two_way_bootstrap=drawn(draws["both"][:, a] - draws["both"][:, b], "both"),
                )
            )
    return opinions, differences


def histogram(scores: Floats, low: float, high: float) -> dict[str, int]:
    """Counts of each whole score of the scale; of ten equal bins for a scale of more steps or of fractions."""
    whole = bool((scores == np.floor(scores)).all()) and float(low).is_integer() and high - low < MOST_CATEGORIES
    if whole:
        return {f"{step:g}": int((scores == step).sum()) for step in np.arange(low, high + 0.5)}
    counts, edges = np.histogram(scores, bins=10, range=(low, high))
    return {f"{a:g} to {b:g}": int(n) for a, b, n in zip(edges[:-1], edges[1:], counts, strict=True)}


def top_two(scores: Floats, low: float, high: float) -> float | None:
    """Share of the two highest steps of a scale of whole steps; None on a finer scale."""
    if high - low >= MOST_CATEGORIES or not (scores == np.floor(scores)).all():
        return None
    return float((scores >= high - 1).mean())


def _ratio(sums: Floats, counts: Floats) -> Floats:
    return np.asarray(np.divide(sums, counts, out=np.full(np.shape(sums), np.nan), where=counts > 0))


def _without_main_effects(values_RI: Floats, present_RI: np.ndarray) -> Floats:
    """What is left of the present cells after rater and item averages are taken off, by turns until nothing moves."""
    rest = np.where(present_RI, values_RI, 0.0)
    per_rater, per_item = np.maximum(present_RI.sum(1), 1), np.maximum(present_RI.sum(0), 1)
    size = float(np.abs(rest).max(initial=0.0))
    for _ in range(200):
        rater_R = rest.sum(1) / per_rater
        rest = np.where(present_RI, rest - rater_R[:, None], 0.0)
        item_I = rest.sum(0) / per_item
        rest = np.where(present_RI, rest - item_I[None, :], 0.0)
        if np.abs(item_I).max(initial=0.0) <= 1e-12 * size:
            break
    return rest
