"""Human scores against an automatic metric: three coefficients by model and by item, intervals, ranking accuracy.

Shapes: N points, B resamples. A coefficient is always given with its n. Source of intervals: Fisher 1921, Bonett and
Wright 2000, Fieller et al. 1957.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
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

Kind = Literal["pearson", "spearman", "kendall"]
KINDS: tuple[Kind, ...] = ("pearson", "spearman", "kendall")
TRANSFORM: dict[Kind, str] = {
    "pearson": "Fisher's z",
    "spearman": "Fisher's z with Bonett and Wright's variance",
    "kendall": "Fisher's z with Fieller's variance",
}
CLUSTERED = "percentile bootstrap of models, each with all its items"
PERFECT = 1 - 1e-12


@dataclass(frozen=True)
class Coefficient:
    """One coefficient over n points; None, with a reason in the interval, where one side does not vary."""

    kind: Kind
    value: float | None
    p: float | None
    n: int
    interval: Interval
    clustered: Interval | None = None


@dataclass(frozen=True)
class MetricAgreement:
    """One metric against human scores. Coefficients keep the metric's own sign: a distance should give a negative one.

    `ranking_accuracy`: share of the pairs of models that the metric orders as people do (a tie on either side counts
    half), over `model_pairs`.
    """

    metric: str
    direction: str
    by_model: dict[Kind, Coefficient]
    by_item: dict[Kind, Coefficient]
    ranking_accuracy: float | None
    model_pairs: int


@dataclass(frozen=True)
class CoefficientDifference:
    """First minus second metric's coefficient with the same human scores, each turned so that larger is better."""

    kind: Kind
    first: str
    second: str
    difference: float
    n: int
    models: int
    interval: Interval


def coefficient(x: ArrayLike, y: ArrayLike, kind: Kind, level: float = LEVEL) -> Coefficient:
    """A coefficient of the points where both are known, its p-value and its interval by a transform."""
    a, b = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    both = np.isfinite(a) & np.isfinite(b)
    a, b, n = a[both], b[both], int(both.sum())
    method = TRANSFORM[kind]
    if n < 3 or np.ptp(a) == 0 or np.ptp(b) == 0:
        reason = "it needs three points" if n < 3 else "one side does not vary"
        return Coefficient(kind, None, None, n, unavailable(method, reason, level))
    if kind == "pearson":
        value, p = stats.pearsonr(a, b)
    elif kind == "spearman":
        value, p = stats.spearmanr(a, b)
    else:
        value, p = stats.kendalltau(a, b)
    return Coefficient(kind, float(value), float(p), n, transform_interval(float(value), n, kind, level))


def transform_interval(value: float, n: int, kind: Kind, level: float = LEVEL) -> Interval:
    """The interval on the scale of atanh. Not available for a perfect coefficient, where it would have no width."""
    method = TRANSFORM[kind]
    if abs(value) >= PERFECT:
        return unavailable(method, f"the coefficient is {value:.0f}: the transform gives no width", level)
    spare = n - 4 if kind == "kendall" else n - 3
    if spare <= 0:
        return unavailable(method, f"n = {n} is too small", level)
    variance = {"pearson": 1.0, "spearman": 1 + value**2 / 2, "kendall": 0.437}[kind] / spare
    half = float(stats.norm.ppf((1 + level) / 2)) * math.sqrt(variance)
    return Interval(math.tanh(math.atanh(value) - half), math.tanh(math.atanh(value) + half), method, level)


def ranking_accuracy(human: ArrayLike, metric: ArrayLike, direction: str) -> tuple[float | None, int]:
    """(share of pairs in the same order, pairs): pairs that people tie are left out, a metric's tie counts half."""
    x, y = np.asarray(human, dtype=float), np.asarray(metric, dtype=float) * (-1 if direction == "lower" else 1)
    a, b = np.triu_indices(len(x), 1)
    sides = np.sign(x[a] - x[b]) * np.sign(y[a] - y[b])
    told = np.sign(x[a] - x[b]) != 0
    if not told.any():
        return None, 0
    return float(((sides[told] + 1) / 2).mean()), int(told.sum())


def weighted_coefficient(x: Floats, y: Floats, weights_BN: Floats, kind: Kind) -> Floats:
    """(B,) coefficients where point n counts weights_BN times; NaN where nothing varies."""
    if kind == "kendall":
        sign_x, sign_y = np.sign(np.subtract.outer(x, x)), np.sign(np.subtract.outer(y, y))
        both = _form(weights_BN, sign_x * sign_y)
        return _over(both, np.sqrt(_form(weights_BN, sign_x**2) * _form(weights_BN, sign_y**2)))
    if kind == "spearman":
        left, right = _weighted_ranks(x, weights_BN), _weighted_ranks(y, weights_BN)
    else:
        left, right = np.broadcast_to(x, weights_BN.shape), np.broadcast_to(y, weights_BN.shape)
    total = weights_BN.sum(1)
    left = left - (((weights_BN * left).sum(1)) / total)[:, None]
    right = right - (((weights_BN * right).sum(1)) / total)[:, None]
    bottom = (weights_BN * left**2).sum(1) * (weights_BN * right**2).sum(1)
    return _over((weights_BN * left * right).sum(1), np.sqrt(bottom))


def metric_agreement(
    scores: pd.DataFrame,
    metric: str,
    direction: str,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
    level: float = LEVEL,
) -> MetricAgreement:
    """One metric. `scores` has model, item, human and value, a row a model and item; models are means over items.

    Items of one model do not err independently, so the item-level interval to trust draws whole models.
    """
    points = scores.dropna(subset=["human", "value"])
    means = points.groupby("model", sort=True)[["human", "value"]].mean()
    by_model = {kind: coefficient(means["human"], means["value"], kind, level) for kind in KINDS}
    by_item = {}
    single = points.groupby("model").size().max() if len(points) else 0
    for kind in KINDS if single > 1 else ():
        plain = coefficient(points["human"], points["value"], kind, level)
        by_item[kind] = Coefficient(
            kind, plain.value, plain.p, plain.n, plain.interval, _clustered(points, kind, resamples, seed, level)
        )
    accuracy, pairs = ranking_accuracy(means["human"], means["value"], direction)
    return MetricAgreement(metric, direction, by_model, by_item, accuracy, pairs)


def coefficient_difference(
    scores: pd.DataFrame,
    first: tuple[str, str],
    second: tuple[str, str],
    kind: Kind = "spearman",
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
    level: float = LEVEL,
) -> CoefficientDifference:
    """Whether one metric goes with people better than another: both on the same rows and the same draws of models.

    `scores` has model, item, human and a column for each metric; `first` and `second` are (column, direction).
    """
    points = scores.dropna(subset=["human", first[0], second[0]])
    names, weights = _model_weights(points, resamples, seed)
    human = points["human"].to_numpy(float)
    one_row = np.ones((1, len(points)))
    values, drawn = [], []
    for column, direction in (first, second):
        turned = points[column].to_numpy(float) * (-1 if direction == "lower" else 1)
        values.append(float(weighted_coefficient(human, turned, one_row, kind)[0]))
        drawn.append(weighted_coefficient(human, turned, weights, kind))
    interval = percentile_interval(drawn[0] - drawn[1], method=CLUSTERED, seed=seed, level=level, groups=len(names))
    return CoefficientDifference(kind, first[0], second[0], values[0] - values[1], len(points), len(names), interval)


def _clustered(points: pd.DataFrame, kind: Kind, resamples: int, seed: int, level: float) -> Interval:
    names, weights = _model_weights(points, resamples, seed)
    drawn = weighted_coefficient(points["human"].to_numpy(float), points["value"].to_numpy(float), weights, kind)
    return percentile_interval(drawn, method=CLUSTERED, seed=seed, level=level, groups=len(names))


def _model_weights(points: pd.DataFrame, resamples: int, seed: int) -> tuple[Sequence[str], Floats]:
    names, codes = np.unique(points["model"].to_numpy(str), return_inverse=True)
    return names.tolist(), group_weights(len(names), resamples, seed, "models")[:, codes]


def _weighted_ranks(x: Floats, weights_BN: Floats) -> Floats:
    """(B, N) mid-ranks of the points as if each stood there as often as it weighs."""
    values, codes = np.unique(x, return_inverse=True)
    member = np.zeros((len(x), len(values)))
    member[np.arange(len(x)), codes] = 1
    at_BV = weights_BN @ member
    return np.asarray((np.cumsum(at_BV, axis=1) - at_BV / 2 + 0.5)[:, codes])


def _form(weights_BN: Floats, square_NN: Floats) -> Floats:
    return np.asarray(((weights_BN @ square_NN) * weights_BN).sum(1))


def _over(top: Floats, bottom: Floats) -> Floats:
    return np.asarray(np.divide(top, bottom, out=np.full(top.shape, np.nan), where=bottom > 0))
