"""Elo, only to show that it depends on the order of the votes, which Bradley-Terry does not."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from human_eval.analysis.tables import NONE

START = 1000.0


@dataclass(frozen=True)
class EloOrder:
    """Ratings after the votes in their order, and in the reverse order; no result of a study."""

    k: float
    forward: dict[str, float]
    backward: dict[str, float]
    largest_change: float


def elo_ratings(pairs: pd.DataFrame, k: float = 32.0, start: float = START) -> dict[str, float]:
    """Ratings after all rows, in their order. A tie is half a win."""
    rating = dict.fromkeys(sorted(set(pairs["model_a"]) | set(pairs["model_b"])), start)
    for a, b, winner in zip(pairs["model_a"], pairs["model_b"], pairs["winner"], strict=True):
        if winner == NONE:
            continue
        expected = 1 / (1 + 10 ** ((rating[b] - rating[a]) / 400))
        gain = k * ({"a": 1.0, "b": 0.0, "tie": 0.5}[winner] - expected)
        rating[a] += gain
        rating[b] -= gain
    return rating


def elo_order(pairs: pd.DataFrame, k: float = 32.0) -> EloOrder:
    """How far a mere change of the order of the rows moves a rating."""
    forward, backward = elo_ratings(pairs, k), elo_ratings(pairs.iloc[::-1], k)
    return EloOrder(k, forward, backward, max((abs(forward[m] - backward[m]) for m in forward), default=0.0))
