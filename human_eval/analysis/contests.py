"""Answers to contests: pairs for Bradley-Terry and Davidson, rankings and best-of-N votes for Plackett-Luce.

Shapes: L cells (one rater on one item), O outcomes, K parameters.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np
import pandas as pd

from human_eval.analysis.choice_model import Contests, contests_of
from human_eval.analysis.resampling import Floats, Ints
from human_eval.analysis.tables import NONE, RANKING_SEPARATOR, SHOWN_SEPARATOR

TiePolicy = Literal["half", "dropped", "davidson"]


@dataclass(frozen=True)
class Votes:
    """Outcome counts by rater and item. `n` votes count; `left_out` says how many do not, and why."""

    contests: Contests
    counts: Floats
    rater: Ints
    item: Ints
    raters: tuple[str, ...]
    items: tuple[str, ...]
    n: int
    ties: int
    left_out: dict[str, int]

    @property
    def totals(self) -> Floats:
        return np.asarray(self.counts.sum(0))


@dataclass(frozen=True)
class HeadToHead:
    """Who won how often against whom. `win_rate` counts a tie as half a win; None for a model without a vote."""

    wins: dict[str, dict[str, int]]
    ties: dict[str, dict[str, int]]
    win_rate: dict[str, float | None]


def head_to_head(pairs: pd.DataFrame, models: Sequence[str] | None = None) -> HeadToHead:
    """Plain counts of pairwise votes, before any model of them."""
    names = list(models or sorted(set(pairs["model_a"]) | set(pairs["model_b"])))
    wins = {a: dict.fromkeys(names, 0) for a in names}
    ties = {a: dict.fromkeys(names, 0) for a in names}
    for a, b, winner in zip(pairs["model_a"], pairs["model_b"], pairs["winner"], strict=True):
        if winner == "tie":
            ties[a][b] += 1
            ties[b][a] += 1
        elif winner != NONE:
            first, second = (a, b) if winner == "a" else (b, a)
            wins[first][second] += 1
    rate: dict[str, float | None] = {}
    for a in names:
        won, tied = sum(wins[a].values()), sum(ties[a].values())
        met = won + tied + sum(wins[b][a] for b in names)
        rate[a] = (won + tied / 2) / met if met else None
    return HeadToHead(wins, ties, rate)


def pair_votes(pairs: pd.DataFrame, ties: TiePolicy, models: Sequence[str] | None = None) -> Votes:
    """Pairwise votes. Ties count half for each (`half`), not at all (`dropped`), or as an outcome (`davidson`).

    A vote `none` (both bad) compares nothing and is left out. Without rater or item columns, each row is its own.
    """
    found = sorted(set(pairs["model_a"]) | set(pairs["model_b"]))
    names = [model for model in (models or found) if model in found]
    place = {model: index for index, model in enumerate(names)}
    unit = np.eye(len(names) + (ties == "davidson"))
    groups: list[list[Floats]] = []
    start: dict[tuple[int, int], int] = {}
    for a, b in combinations(range(len(names)), 2):
        start[a, b] = sum(len(group) for group in groups)
        tie = [(unit[a] + unit[b]) / 2 + unit[-1]] if ties == "davidson" else []
        groups.append([unit[a], unit[b], *tie])
    contests = contests_of(names, groups, ("log nu",) if ties == "davidson" else ())
    entries: list[tuple[int, int, float]] = []
    left_out = {"none": 0, "ties": 0}
    n_ties = 0
    for row, (first, second, winner) in enumerate(
        zip(pairs["model_a"], pairs["model_b"], pairs["winner"], strict=True)
    ):
        a, b = place[first], place[second]
        at, flipped = start[min(a, b), max(a, b)], a > b
        if winner == NONE:
            left_out["none"] += 1
        elif winner != "tie":
            entries.append((row, at + ((winner == "b") != flipped), 1.0))
        else:
            n_ties += 1
            if ties == "half":
                entries += [(row, at, 0.5), (row, at + 1, 0.5)]
            elif ties == "davidson":
                entries.append((row, at + 2, 1.0))
            else:
                left_out["ties"] += 1
    n = len(pairs) - sum(left_out.values())
    return _gather(pairs, contests, entries, n, n_ties, left_out)


def ranking_votes(rankings: pd.DataFrame, models: Sequence[str] | None = None) -> Votes:
    """Rankings as a row of choices: the best of all, then the best of the rest, and so on."""
    rows = [ranking.split(RANKING_SEPARATOR) for ranking in rankings["ranking"]]
    stages = [
        (row, frozenset(names[place:]), names[place])
        for row, names in enumerate(rows)
        for place in range(len(names) - 1)
    ]
    return _choices(rankings, stages, models, len(rows), {})


def favourite_votes(favourites: pd.DataFrame, models: Sequence[str] | None = None) -> Votes:
    """Best-of-N votes as one choice each; `none` compares nothing and is left out."""
    left_out = {"none": int((favourites["choice"] == NONE).sum())}
    stages = [
        (row, frozenset(shown.split(SHOWN_SEPARATOR)), choice)
        for row, (shown, choice) in enumerate(zip(favourites["shown"], favourites["choice"], strict=True))
        if choice != NONE
    ]
    return _choices(favourites, stages, models, len(stages), left_out)


def _choices(
    table: pd.DataFrame,
    stages: Iterable[tuple[int, frozenset[str], str]],
    models: Sequence[str] | None,
    n: int,
    left_out: dict[str, int],
) -> Votes:
    stages = list(stages)
    found = sorted({name for _, shown, _ in stages for name in shown})
    names = [model for model in (models or found) if model in found]
    unit = dict(zip(names, np.eye(len(names)), strict=True))
    sets = sorted({tuple(sorted(shown)) for _, shown, _ in stages})
    outcome: dict[tuple[tuple[str, ...], str], int] = {}
    for shown in sets:
        for name in shown:
            outcome[shown, name] = len(outcome)
    contests = contests_of(names, [[unit[name] for name in shown] for shown in sets])
    entries = [(row, outcome[tuple(sorted(shown)), chosen], 1.0) for row, shown, chosen in stages]
    return _gather(table, contests, entries, n, 0, left_out)


def _gather(
    table: pd.DataFrame,
    contests: Contests,
    entries: Sequence[tuple[int, int, float]],
    n: int,
    ties: int,
    left_out: dict[str, int],
) -> Votes:
    own = np.arange(len(table)).astype(str)
    raters, rater_N = np.unique(table["rater"].to_numpy(str) if "rater" in table else own, return_inverse=True)
    items, item_N = np.unique(table["item"].to_numpy(str) if "item" in table else own, return_inverse=True)
    cells, cell_N = np.unique(rater_N * max(1, len(items)) + item_N, return_inverse=True)
    counts = np.zeros((len(cells), len(contests.features)))
    for row, outcome, weight in entries:
        counts[cell_N[row], outcome] += weight
    divisor = max(1, len(items))
    return Votes(contests, counts, cells // divisor, cells % divisor, tuple(raters), tuple(items), n, ties, left_out)
