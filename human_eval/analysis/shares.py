"""Shares of votes: counts with their denominators and every interval that is in use for them.

Shapes: K options, R raters, I items, B resamples. Source: Wilson 1927, Clopper and Pearson 1934, Goodman 1965.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from cogvideo.errors import UserError
from eval.intervals import LEVEL
from human_eval.analysis.means import BOOTSTRAP, Cells, bootstrap_means, influence, two_way_variance
from human_eval.analysis.resampling import RESAMPLES, Interval, percentile_interval, unavailable
from human_eval.analysis.tables import NONE, SHOWN_SEPARATOR

TWO_WAY_SHARE = "Wilson with the effective number of votes, from the variance of raters and items"
BY_RATER_SHARE = "Wilson with the effective number of votes, from the variance of raters"


def wilson(count: float, n: float, level: float = LEVEL, quantile: float | None = None) -> tuple[float, float]:
    """Wilson's score interval of count / n; `quantile` replaces the normal one. Raises ValueError for n <= 0."""
    _check_count(count, n)
    z = float(stats.norm.ppf((1 + level) / 2)) if quantile is None else quantile
    share, z2 = count / n, z * z
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = z / (1 + z2 / n) * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    return (0.0 if count == 0 else max(0.0, centre - half)), (1.0 if count == n else min(1.0, centre + half))


def clopper_pearson(count: int, n: int, level: float = LEVEL) -> tuple[float, float]:
    """The exact interval: at least its level, always."""
    _check_count(count, n)
    tail = (1 - level) / 2
    low = 0.0 if count == 0 else float(stats.beta.ppf(tail, count, n - count + 1))
    high = 1.0 if count == n else float(stats.beta.ppf(1 - tail, count + 1, n - count))
    return low, high


def jeffreys(count: int, n: int, level: float = LEVEL) -> tuple[float, float]:
    """Equal tails of the posterior under Jeffreys' prior."""
    _check_count(count, n)
    tail = (1 - level) / 2
    low, high = (float(stats.beta.ppf(p, count + 0.5, n - count + 0.5)) for p in (tail, 1 - tail))
    return low, high


def goodman(counts: Sequence[int], level: float = LEVEL) -> list[tuple[float, float]]:
    """Simultaneous intervals of all shares of one question: together they hold at the level."""
    n, options = sum(counts), len(counts)
    quantile = float(stats.chi2.ppf(1 - (1 - level) / options, 1))
    found = []
    for count in counts:
        _check_count(count, n)
        centre = quantile + 2 * count
        half = math.sqrt(quantile * (quantile + 4 * count * (n - count) / n))
        low, high = ((centre + sign * half) / (2 * (n + quantile)) for sign in (-1, 1))
        found.append((max(0.0, low), min(1.0, high)))
    return found


@dataclass(frozen=True)
class Share:
    """One option of one question. `interval` is the two-way one, or by rater where there is one vote a rater."""

    option: str
    count: int
    n: int
    raters: int
    share: float
    interval: Interval
    wilson: tuple[float, float]
    clopper_pearson: tuple[float, float]
    jeffreys: tuple[float, float]
    goodman: tuple[float, float]
    by_rater: Interval
    two_way_bootstrap: Interval


@dataclass(frozen=True)
class VoteTests:
    """Whether the models' votes could be equal; `none` is left out. Only right where each vote is independent."""

    chi2: float
    chi2_p: float
    top_two: tuple[str, str]
    top_two_counts: tuple[int, int]
    top_two_p: float


def shares(
    votes: pd.DataFrame,
    *,
    options: Sequence[str] | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
    level: float = LEVEL,
) -> list[Share]:
    """Shares of the votes (columns rater, item, choice) for the options, `none` among them and last.

    Denominator: all votes of the question, `none` included. The default options are those shown or chosen.
    """
    if len(votes) == 0:
        return []
    options = list(options) if options is not None else options_of(votes)
    raters, rater_R = np.unique(votes["rater"].to_numpy(str), return_inverse=True)
    items, item_I = np.unique(votes["item"].to_numpy(str), return_inverse=True)
    n_raters, n_items, n = len(raters), len(items), len(votes)
    grid = np.bincount(rater_R * n_items + item_I, minlength=n_raters * n_items).reshape(n_raters, n_items)
    chosen = [votes["choice"].to_numpy(str) == option for option in options]
    sums = np.stack(
        [
            np.bincount(rater_R * n_items + item_I, weights=one, minlength=grid.size).astype(float).reshape(grid.shape)
            for one in chosen
        ]
    )
    data = Cells(tuple(options), tuple(raters), tuple(items), sums, np.broadcast_to(grid, sums.shape).astype(float))
    counts = [int(one.sum()) for one in chosen]
    drawn = {by: bootstrap_means(data, by, resamples, seed) for by in BOOTSTRAP}
    together = goodman(counts, level) if sum(counts) == n else [(math.nan, math.nan)] * len(options)
    return [
        Share(
            option=option,
            count=counts[index],
            n=n,
            raters=n_raters,
            share=counts[index] / n,
            interval=clustered_share(data, index, level),
            wilson=wilson(counts[index], n, level),
            clopper_pearson=clopper_pearson(counts[index], n, level),
            jeffreys=jeffreys(counts[index], n, level),
            goodman=together[index],
            by_rater=percentile_interval(
                drawn["raters"][:, index], method=BOOTSTRAP["raters"], seed=seed, level=level, groups=n_raters
            ),
            two_way_bootstrap=percentile_interval(
                drawn["both"][:, index],
                method=BOOTSTRAP["both"],
                seed=seed,
                level=level,
                groups=min(n_raters, n_items),
            ),
        )
        for index, option in enumerate(options)
    ]


def options_of(votes: pd.DataFrame) -> list[str]:
    """Every model that was shown or chosen, sorted, and `none` at the end if anybody chose it."""
    names = {name for shown in votes.get("shown", pd.Series(dtype=object)).unique() for name in shown.split("|")}
    names |= set(votes["choice"])
    return sorted(names - {NONE, ""}) + ([NONE] if NONE in names else [])


def vote_tests(found: Sequence[Share]) -> VoteTests | None:
    """Chi-square of equal votes over the models and the exact binomial test of the two first; None below two models."""
    models = [one for one in found if one.option != NONE]
    if len(models) < 2 or sum(one.count for one in models) == 0:
        return None
    chi2 = stats.chisquare([one.count for one in models])
    first, second = sorted(models, key=lambda one: -one.count)[:2]
    both = first.count + second.count
    p = float(stats.binomtest(first.count, both).pvalue)
    names, counts = (first.option, second.option), (first.count, second.count)
    return VoteTests(float(chi2.statistic), float(chi2.pvalue), names, counts, p)


def denominators(shown_percent: Sequence[str], most: int = 100_000) -> tuple[int, list[int]] | None:
    """The smallest number of votes, and the counts, that print as these percentages (`49.53`, as text, as printed).

    A check on published numbers: shares of one question share their denominator. None if there is none up to `most`.
    """
    for n in range(1, most + 1):
        counts = printed_counts(shown_percent, n)
        if counts is not None:
            return n, counts
    return None


def printed_counts(shown_percent: Sequence[str], n: int) -> list[int] | None:
    """Counts out of n that print as these percentages, or None where n votes cannot give them."""
    counts = []
    for text in shown_percent:
        try:
            value = float(text)
        except ValueError:
            raise UserError(f"a printed percentage looks like 49.53, got {text!r}") from None
        decimals = len(text.partition(".")[2])
        half = 0.5 * 10.0**-decimals
        near = round(value * n / 100)
        fitting = [k for k in (near - 1, near, near + 1) if 0 <= k <= n and abs(100 * k / n - value) <= half + 1e-9]
        if not fitting:
            return None
        counts.append(fitting[0] if near not in fitting else near)
    return counts if sum(counts) <= n else None


def clustered_share(data: Cells, index: int, level: float = LEVEL) -> Interval:
    """Wilson's interval with as many votes as the clustered variance says that they are worth."""
    n = float(data.counts[index].sum())
    share = float(data.means()[index])
    n_raters, n_items = data.counts.shape[1:]
    method = TWO_WAY_SHARE if n_items > 1 else BY_RATER_SHARE
    if n_raters < 2:
        return unavailable(method, "it needs at least two raters", level)
    if share in (0.0, 1.0):
        # Nothing scatters, so nothing is known of the clusters: a rater counts as one vote, the most careful reading.
        low, high = clopper_pearson(round(share * n_raters), n_raters, level)
        return Interval(low, high, "Clopper-Pearson with one vote a rater, because all votes agree", level)
    cell_RI = influence(data, np.eye(len(data.models))[index])
    if n_items > 1:
        found = two_way_variance(cell_RI, data.counts[index])
        variance, freedom = found.variance, found.freedom
    else:
        by_rater = cell_RI.sum(1)
        variance, freedom = n_raters / (n_raters - 1) * float(by_rater @ by_rater), n_raters - 1
    effective = min(n, share * (1 - share) / variance) if variance > 0 else n
    low, high = wilson(share * effective, effective, level, float(stats.t.ppf((1 + level) / 2, freedom)))
    return Interval(low, high, method, level, math.sqrt(variance))


def _check_count(count: float, n: float) -> None:
    if n <= 0 or not 0 <= count <= n:
        raise ValueError(f"a share needs 0 <= count <= n and n > 0, got {count:g} of {n:g}")


def shown_models(shown: str) -> tuple[str, ...]:
    """The models of one screen, in their order."""
    return tuple(shown.split(SHOWN_SEPARATOR))
