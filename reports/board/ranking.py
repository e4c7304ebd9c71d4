"""Rank ranges and paired differences of one metric, from one bootstrap that draws the same samples for every model.

Ranges hold for the whole table at once: in 95 of 100 repetitions no model's true place is outside its range. A place
is given away only where the difference is larger than what the largest of all differences shows by chance (step-down
largest |t|, Romano and Wolf 2005; confidence sets for ranks, Mogstad and others 2024). Equal models all share 1 to k.

Shapes: K models, R replicates, N samples, M real clips.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from statistics import NormalDist
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from eval.intervals import bootstrap_counts, group_codes, student_quantile, uniform

Floats = NDArray[np.float64]
Direction = Literal["lower", "higher"]
LEVEL = 0.95
ROUNDING = 1e-9
REPLICATES = 2000
FEWEST_REPLICATES = 300
MOST_PRODUCTS = 60_000_000
METHOD = "paired bootstrap of all models together, step-down largest |t|, {:,} replicates"


@dataclass(frozen=True)
class Moved:
    """How samples move a value: `fake` (N,) by unit of `units`, `real` (M,) by unit of `real_units`.

    Two values are paired where `key` is the same: the same samples of the same prompts, against the same real clips.
    """

    key: str
    units: Sequence[str]
    fake: Floats
    real: Floats = field(default_factory=lambda: np.zeros(0))
    real_units: Sequence[int] = ()


@dataclass(frozen=True)
class Entrant:
    """One value of the metric. Without `moved` its own interval stands in, as if it were independent of the others."""

    id: str
    value: float
    n: int
    half_width: float | None = None
    moved: Moved | None = None


@dataclass(frozen=True)
class PairFound:
    """First minus second: pointwise interval and p of this pair alone."""

    first: int
    second: int
    difference: float
    low: float
    high: float
    p: float
    is_paired: bool


@dataclass(frozen=True)
class Ranks:
    """`ranges` in the order of the entrants. `ahead[i, j]`: i was told to be better than j."""

    ranges: list[tuple[int, int]]
    ahead: NDArray[np.bool_]
    pairs: list[PairFound]
    replicates: int

    @property
    def method(self) -> str:
        return METHOD.format(self.replicates)


@dataclass(frozen=True)
class _Spread:
    """What varies together: deviations of replicates (R, K), variances of differences (K, K), degrees of freedom."""

    deviations: Floats
    variances: Floats
    freedom: float
    paired: NDArray[np.bool_]


def rank(entrants: Sequence[Entrant], direction: Direction, *, seed: int = 0, with_pairs: bool = True) -> Ranks:
    """Rank ranges of entrants that may be compared. Each needs a half width or influence values (ValueError else)."""
    k = len(entrants)
    if k == 0:
        return Ranks([], np.zeros((0, 0), dtype=np.bool_), [], 0)
    spread = _spread(entrants, _replicates(k), seed)
    values = np.array([one.value for one in entrants])
    difference = values[:, None] - values[None, :]
    scale = np.maximum(abs(values[:, None]), abs(values[None, :]))
    # The same features in another order of summation, as frame metrics of shuffled frames have: no difference.
    difference[abs(difference) <= ROUNDING * scale] = 0.0
    errors = np.sqrt(spread.variances)
    told = _step_down(difference, errors, spread)
    better = difference < 0 if direction == "lower" else difference > 0
    ahead = told & better
    behind_of, ahead_of = ahead.sum(axis=0), ahead.sum(axis=1)
    ranges = [(int(1 + behind_of[i]), int(k - ahead_of[i])) for i in range(k)]
    pairs = _pairs(difference, errors, spread) if with_pairs else []
    return Ranks(ranges, ahead, pairs, len(spread.deviations))


def _replicates(k: int) -> int:
    """Fewer where there are very many pairs: a quantile needs hundreds, not thousands."""
    return max(FEWEST_REPLICATES, min(REPLICATES, MOST_PRODUCTS // max(1, k * k)))


def _spread(entrants: Sequence[Entrant], replicates: int, seed: int) -> _Spread:
    k = len(entrants)
    deviations = np.zeros((replicates, k))
    covariance = np.zeros((k, k))
    paired = np.zeros((k, k), dtype=np.bool_)
    freedom = math.inf
    clusters: dict[str, list[int]] = {}
    for i, one in enumerate(entrants):
        if one.moved is not None:
            clusters.setdefault(one.moved.key, []).append(i)
        elif one.half_width is None:
            raise ValueError(f"{one.id} has neither an interval nor influence values")
        else:
            error = one.half_width / NormalDist().inv_cdf((1 + LEVEL) / 2)
            deviations[:, i] = error * _alone(seed, one.id, replicates)
            covariance[i, i] = error**2
    for key, members in clusters.items():
        paired[np.ix_(members, members)] = True
        for part in ("fake", "real"):
            moved, units = _side(entrants, members, part)
            if not moved.size:
                continue
            drawn, block, groups = _drawn(moved, units, replicates, seed, f"{part}/{key}")
            deviations[:, members] += drawn
            covariance[np.ix_(members, members)] += block
            freedom = min(freedom, groups - 1)
    diagonal = np.diagonal(covariance)
    variances = np.maximum(diagonal[:, None] + diagonal[None, :] - 2 * covariance, 0.0)
    variances[variances <= ROUNDING**2 * (diagonal[:, None] + diagonal[None, :])] = 0.0
    return _Spread(deviations, variances, freedom, paired)


def _side(entrants: Sequence[Entrant], members: Sequence[int], part: str) -> tuple[Floats, Sequence[object]]:
    """(N, members) influence values of one side, and the unit of each row."""
    sides = [entrants[i].moved for i in members]
    first = sides[0]
    assert first is not None
    rows = [getattr(one, part) for one in sides]
    return np.stack(rows, axis=1), first.units if part == "fake" else first.real_units


def _drawn(
    moved_NK: Floats, units: Sequence[object], replicates: int, seed: int, name: str
) -> tuple[Floats, Floats, int]:
    """Deviations (R, K) of a bootstrap of whole units, their covariance (K, K), and how many units there are."""
    codes, n_groups = group_codes(units)
    centred = moved_NK - moved_NK.mean(axis=0)
    sums = np.zeros((n_groups, centred.shape[1]))
    np.add.at(sums, codes, centred)
    sums /= len(centred)
    stretch = n_groups / max(1, n_groups - 1)
    counts = bootstrap_counts(range(n_groups), replicates, seed, name)
    return math.sqrt(stretch) * (counts @ sums), stretch * (sums.T @ sums), n_groups


@lru_cache(maxsize=1024)
def _alone(seed: int, name: str, replicates: int) -> Floats:
    """Normal draws of an entrant whose samples are not known: the same for every metric of it."""
    from scipy.special import ndtri

    return np.asarray(ndtri(np.clip(uniform(seed, f"alone/{name}", replicates), 1e-12, 1 - 1e-12)))


def _step_down(difference: Floats, errors: Floats, spread: _Spread) -> NDArray[np.bool_]:
    """Which differences are told from zero, all of them together at the level."""
    k = len(difference)
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.where(errors > 0, abs(difference) / errors, np.where(difference != 0, np.inf, 0.0))
        inverse = np.where(errors > 0, 1 / errors, 0.0)
    told = np.zeros((k, k), dtype=np.bool_)
    open_ = ~np.eye(k, dtype=np.bool_)
    while open_.any():
        largest = _largest(spread.deviations, np.where(open_, inverse, 0.0))
        limit = _wider(float(np.quantile(largest, LEVEL)), spread.freedom)
        new = open_ & (t > limit)
        if not new.any():
            break
        told |= new
        open_ &= ~new
    return told


def _largest(deviations_RK: Floats, inverse_KK: Floats) -> Floats:
    """(R,): the largest |difference| over its error in each replicate; a pair that does not count has inverse 0.

    One buffer serves all models: with very many of them, fresh memory would cost more than the arithmetic.
    """
    largest = np.zeros(len(deviations_RK))
    by_model = np.ascontiguousarray(deviations_RK.T)
    buffer = np.empty_like(by_model)
    for i in range(len(by_model) - 1):
        wanted = np.flatnonzero(inverse_KK[i, i + 1 :]) + i + 1
        if len(wanted):
            gaps = np.subtract(by_model[wanted], by_model[i], out=buffer[: len(wanted)])
            gaps *= inverse_KK[i, wanted, None]
            np.abs(gaps, out=gaps)
            np.maximum(largest, gaps.max(axis=0), out=largest)
    return largest


def _wider(limit: float, freedom: float) -> float:
    """The limit on Student's scale at the same tail: the errors, too, are known from few units only."""
    if math.isinf(freedom) or limit > 8:
        return limit
    return student_quantile(NormalDist().cdf(limit), freedom)


def _pairs(difference: Floats, errors: Floats, spread: _Spread) -> list[PairFound]:
    first, second = np.triu_indices(len(difference), 1)
    gaps, error = difference[first, second], errors[first, second]
    halves = student_quantile((1 + LEVEL) / 2, spread.freedom) * error
    with np.errstate(divide="ignore", invalid="ignore"):
        ps = np.where(error > 0, two_sided(gaps / error, spread.freedom), gaps == 0)
    columns = (first, second, gaps, gaps - halves, gaps + halves, ps, spread.paired[first, second])
    return [PairFound(*row) for row in zip(*(column.tolist() for column in columns), strict=True)]


def two_sided(t: Floats, freedom: float) -> Floats:
    """Two-sided p-values of Student's t (of the normal for infinite degrees of freedom)."""
    from scipy.special import ndtr, stdtr

    tail = ndtr(-abs(t)) if math.isinf(freedom) else stdtr(freedom, -abs(t))
    return np.asarray(2 * tail, dtype=np.float64)


def holm(ps: Mapping[str, float]) -> dict[str, float]:
    """Holm's adjustment of a family of p-values, by name."""
    order = sorted(ps, key=lambda name: (ps[name], name))
    found: dict[str, float] = {}
    worst = 0.0
    for place, name in enumerate(order):
        worst = max(worst, min(1.0, (len(order) - place) * ps[name]))
        found[name] = worst
    return {name: found[name] for name in ps}
