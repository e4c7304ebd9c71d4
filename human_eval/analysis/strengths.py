"""Strengths of models from contests: Bradley-Terry, Davidson, Plackett-Luce, with clustered intervals and rank ranges.

Shapes: M models, K parameters, L cells (one rater on one item), R raters, I items, B resamples. `theta` is a natural
logarithm, centred over models. Source: Bradley and Terry 1952, Davidson 1970, Plackett 1975, Hunter 2004.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import combinations
from typing import Literal

import numpy as np
from scipy.sparse import csgraph, csr_array

from eval.intervals import LEVEL
from human_eval.analysis.choice_model import bread, components, fit, scores, separation
from human_eval.analysis.contests import Votes
from human_eval.analysis.means import BOOTSTRAP, By, clustered_interval
from human_eval.analysis.resampling import (
    RESAMPLES,
    Floats,
    Interval,
    group_weights,
    percentile_interval,
    unavailable,
)

Status = Literal["ok", "no votes", "no ranking", "no finite estimate"]
ELO_SCALE = 400 / math.log(10)
ELO_CENTRE = 1000.0
CHUNK_CELLS = 2_000_000


@dataclass(frozen=True)
class Strength:
    """One model. `interval` (two-way where items vary) and the bootstrap ones are about theta.

    `rank_low` to `rank_high`: places that cannot be told apart, from simultaneous intervals of all differences.
    """

    model: str
    theta: float
    elo: float
    elo_low: float | None
    elo_high: float | None
    se_model: float
    se_by_rater: float
    interval: Interval
    by_rater: Interval
    two_way_bootstrap: Interval
    rank: int
    rank_low: int
    rank_high: int


@dataclass(frozen=True)
class StrengthDifference:
    """First minus second theta; `votes` is how many contests held both (0: compared through others only)."""

    first: str
    second: str
    difference: float
    interval: Interval
    votes: float


@dataclass(frozen=True)
class StrengthResult:
    """All strengths of one table. With a status other than `ok` there are none, and `reason` says why in words."""

    method: str
    status: Status
    reason: str
    n: int
    ties: int
    left_out: dict[str, int]
    raters: int
    items: int
    strengths: list[Strength] = field(default_factory=list)
    differences: list[StrengthDifference] = field(default_factory=list)
    log_likelihood: float | None = None
    nu: float | None = None
    nu_interval: Interval | None = None
    groups: list[list[str]] = field(default_factory=list)
    resamples: int = 0
    seed: int = 0

    @property
    def theta(self) -> dict[str, float]:
        return {one.model: one.theta for one in self.strengths}


def bootstrap_params(votes: Votes, by: By, resamples: int = RESAMPLES, seed: int = 0) -> Floats:
    """(B, K) parameters of resamples of raters, items or both; NaN where a resample has no finite estimate."""
    raters, items = len(votes.raters), len(votes.items)
    rater_BR = group_weights(raters, resamples, seed, "raters") if by != "items" else np.ones((resamples, raters))
    item_BI = group_weights(items, resamples, seed, "items") if by != "raters" else np.ones((resamples, items))
    chunk = max(1, CHUNK_CELLS // max(1, len(votes.rater)))
    out = np.full((resamples, votes.contests.features.shape[1]), np.nan)
    for start in range(0, resamples, chunk):
        part = slice(start, start + chunk)
        counts_BO = (rater_BR[part][:, votes.rater] * item_BI[part][:, votes.item]) @ votes.counts
        found = fit(votes.contests, counts_BO)
        out[part][found.finite] = found.params[found.finite]
    return out


def strengths(
    votes: Votes, method: str, *, resamples: int = RESAMPLES, seed: int = 0, level: float = LEVEL
) -> StrengthResult:
    """Fit, standard errors, intervals and rank ranges; or the reason why there are none.

    Disconnected votes have no ranking; separated votes (a model, or a group, that never lost to the others) have no
    finite estimate: neither is ever printed as a large number.
    """
    base = {
        "method": method,
        "n": votes.n,
        "ties": votes.ties,
        "left_out": votes.left_out,
        "raters": len(votes.raters),
        "items": len(votes.items),
        "seed": seed,
    }
    counts_O = votes.totals
    if votes.n == 0 or not counts_O.any():
        return StrengthResult(status="no votes", reason="no vote compares two models", **base)  # type: ignore[arg-type]
    parts = components(votes.contests, counts_O)
    if len(parts) > 1:
        words = "; ".join(", ".join(part) for part in parts)
        reason = f"no votes join these groups of models: {words}"
        return StrengthResult(status="no ranking", reason=reason, groups=parts, **base)  # type: ignore[arg-type]
    found = fit(votes.contests, counts_O)
    if not found.finite[0]:
        reason = _why_infinite(votes, counts_O)
        return StrengthResult(status="no finite estimate", reason=reason, **base)  # type: ignore[arg-type]
    params_K = found.params[0]
    drawn = {by: bootstrap_params(votes, by, resamples, seed) for by in _ways(votes)}
    one, extra = _strengths(votes, params_K, drawn, seed, level)
    nu, nu_interval = None, None
    if votes.contests.more:
        nu = math.exp(params_K[-1])
        nu_interval = _drawn(np.exp(drawn["raters"][:, -1]), "raters", votes, seed, level)
    return StrengthResult(
        status="ok",
        reason="",
        strengths=one,
        differences=extra,
        log_likelihood=float(found.log_likelihood[0]),
        nu=nu,
        nu_interval=nu_interval,
        resamples=resamples,
        **base,  # type: ignore[arg-type]
    )


def cluster_se(votes: Votes, params_K: Floats) -> tuple[Floats, Floats]:
    """(K,) standard errors: the model's own, and the sandwich with raters as clusters.

    The sandwich has the usual factor for few clusters and votes, G / (G - 1) x (n - 1) / (n - free parameters).
    """
    inverse = bread(votes.contests, votes.totals, params_K)
    by_rater = np.zeros((len(votes.raters), votes.counts.shape[1]))
    np.add.at(by_rater, votes.rater, votes.counts)
    pull_RK = scores(votes.contests, by_rater, params_K) @ inverse
    raters = len(votes.raters)
    n, free = float(votes.totals.sum()), len(params_K) - 1
    factor = raters / (raters - 1) * (n - 1) / (n - free) if raters > 1 and n > free else math.nan
    return np.sqrt(np.diag(inverse)), np.sqrt(factor * (pull_RK**2).sum(0))


def rank_by_interval(intervals: dict[str, tuple[float, float]]) -> dict[str, int]:
    """Place of each model: one more than the models whose whole interval lies above its own."""
    return {
        model: 1 + sum(low > intervals[model][1] for other, (low, _) in intervals.items() if other != model)
        for model in intervals
    }


def elo(theta: float) -> float:
    """A strength on the scale on which 400 points are odds of ten to one."""
    return ELO_CENTRE + ELO_SCALE * theta


def _ways(votes: Votes) -> tuple[By, ...]:
    return ("raters", "both") if len(votes.items) > 1 else ("raters",)


def _strengths(
    votes: Votes, params_K: Floats, drawn: dict[By, Floats], seed: int, level: float
) -> tuple[list[Strength], list[StrengthDifference]]:
    models = votes.contests.models
    theta_M = params_K[: len(models)]
    se_model, se_rater = cluster_se(votes, params_K)
    pull_LK = scores(votes.contests, votes.counts, params_K) @ bread(votes.contests, votes.totals, params_K)
    best: By = "both" if "both" in drawn else "raters"
    above = _surely_above(theta_M, drawn[best][:, : len(models)], level)
    order = np.argsort(np.argsort(-theta_M, kind="stable"), kind="stable")
    one = []
    for m, model in enumerate(models):
        interval = _clustered(float(theta_M[m]), pull_LK[:, m], votes, level)
        one.append(
            Strength(
                model=model,
                theta=float(theta_M[m]),
                elo=elo(float(theta_M[m])),
                elo_low=None if interval.low is None else elo(interval.low),
                elo_high=None if interval.high is None else elo(interval.high),
                se_model=float(se_model[m]),
                se_by_rater=float(se_rater[m]),
                interval=interval,
                by_rater=_drawn(drawn["raters"][:, m], "raters", votes, seed, level),
                two_way_bootstrap=_drawn(drawn["both"][:, m], "both", votes, seed, level)
                if "both" in drawn
                else unavailable(BOOTSTRAP["both"], "all votes are about one item", level),
                rank=int(order[m]) + 1,
                rank_low=1 + int(above[:, m].sum()),
                rank_high=len(models) - int(above[m].sum()),
            )
        )
    extra = []
    for a, b in combinations(range(len(models)), 2):
        value = float(theta_M[a] - theta_M[b])
        interval = _clustered(value, pull_LK[:, a] - pull_LK[:, b], votes, level)
        extra.append(StrengthDifference(models[a], models[b], value, interval, _met(votes, a, b)))
    return one, extra


def _clustered(value: float, pull_L: Floats, votes: Votes, level: float) -> Interval:
    """The same interval as that of a mean, from what each cell adds to the strength."""
    pull_RI, seen_RI = np.zeros((2, len(votes.raters), len(votes.items)))
    pull_RI[votes.rater, votes.item] = pull_L
    seen_RI[votes.rater, votes.item] = 1
    return clustered_interval(value, pull_RI, seen_RI, level)


def _drawn(values_B: Floats, by: By, votes: Votes, seed: int, level: float) -> Interval:
    groups = len(votes.raters) if by == "raters" else min(len(votes.raters), len(votes.items))
    return percentile_interval(values_B, method=BOOTSTRAP[by], seed=seed, level=level, groups=groups)


def _surely_above(theta_M: Floats, drawn_BM: Floats, level: float) -> np.ndarray:
    """(M, M) whether the first is above the second for all pairs at once: differences against their largest |t|."""
    models = len(theta_M)
    good = drawn_BM[np.isfinite(drawn_BM).all(1)]
    if len(good) < (1 - 0.01) * len(drawn_BM) or models < 2 or len(good) < 2:
        return np.zeros((models, models), dtype=bool)
    a, b = np.triu_indices(models, 1)
    scatter = good[:, a] - good[:, b]
    gap = theta_M[a] - theta_M[b]
    se = np.maximum(scatter.std(0, ddof=1), 1e-12)
    limit = float(np.quantile((np.abs(scatter - gap) / se).max(1), level))
    above = np.zeros((models, models), dtype=bool)
    above[a, b] = gap / se > limit
    above[b, a] = -gap / se > limit
    return above


def _met(votes: Votes, a: int, b: int) -> float:
    """Contests in which both models stood."""
    x_OK, contest_O = votes.contests.features, votes.contests.contest
    inside = [
        contest
        for contest in np.unique(contest_O)
        if x_OK[contest_O == contest][:, a].any() and x_OK[contest_O == contest][:, b].any()
    ]
    return float(votes.totals[np.isin(contest_O, inside)].sum())


def _why_infinite(votes: Votes, counts_O: Floats) -> str:
    models, contests = votes.contests.models, votes.contests
    if votes.contests.more and votes.ties == votes.n:
        return "all votes are ties, so the tie parameter nu has no limit"
    won = np.zeros((len(models), len(models)))
    for outcome in np.flatnonzero(counts_O > 0):
        ahead = contests.features[outcome, : len(models)]
        inside = contests.features[contests.contest == contests.contest[outcome]][:, : len(models)].any(0)
        won += np.outer(ahead > 0, inside)
    number, group = csgraph.connected_components(csr_array(won), connection="strong")
    words = []
    for one in range(number):
        inside, outside = group == one, group != one
        names = ", ".join(model for model, within in zip(models, inside, strict=True) if within)
        if number > 1 and not won[np.ix_(outside, inside)].any():
            words.append(f"{names} never lost to any other model")
        elif number > 1 and not won[np.ix_(inside, outside)].any():
            words.append(f"{names} never won against any other model")
    if words:
        return "; ".join(words)
    direction = separation(contests, counts_O)
    if direction is None:
        return "the likelihood has no single maximum"
    if contests.more and not votes.ties:
        return "no vote is a tie, so the tie parameter nu goes to zero; Bradley-Terry says the same"
    up = ", ".join(model for model in models if direction[model] > 1e-6)
    return f"the votes are separated: apart from ties, nothing counts against {up}"
