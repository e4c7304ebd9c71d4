"""What a place on the screen does to a choice: favourites by place, and how often the first of a pair is chosen.

Shapes: K places. Chance is one over the number of videos on the page.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from eval.intervals import LEVEL
from human_eval.analysis.means import Cells, cells, clustered_interval, influence
from human_eval.analysis.resampling import Interval, unavailable
from human_eval.analysis.shares import clustered_share, wilson
from human_eval.analysis.tables import NONE, SHOWN_SEPARATOR

EFFECT = "two-way interval of the share against chance, each choice without the share of its model"
CONFOUNDED = "no two places showed the same model, so the place and the model cannot be told apart"


@dataclass(frozen=True)
class PlaceShare:
    """One place: `count` of the `n` votes that could have chosen it did. `interval` is the two-way one of the share.

    `effect` is what the place adds to the share that chance gives it, after the share of the models that stood there is
    taken off; where every model stood at every place equally often, it is exactly `share - chance`.
    """

    place: int
    count: int
    n: int
    chance: float
    share: float
    interval: Interval
    wilson: tuple[float, float]
    effect: float | None
    effect_interval: Interval


@dataclass(frozen=True)
class ChoicePlaces:
    """All places of one question. `left_out` counts the votes that choose no place: ties, and votes for none."""

    n: int
    left_out: int
    places: list[PlaceShare]


def favourite_places(favourites: pd.DataFrame, level: float = LEVEL) -> ChoicePlaces | None:
    """Share of favourites by place (columns rater, item, shown, choice); None without a vote for a video."""
    return _choice_places(favourites, [shown.split(SHOWN_SEPARATOR) for shown in favourites["shown"]], level)


def pair_places(pairs: pd.DataFrame, level: float = LEVEL) -> ChoicePlaces | None:
    """How often the first and the second of a pair win; ties, and votes that call both bad, choose neither."""
    shown = [list(two) for two in zip(pairs["model_a"], pairs["model_b"], strict=True)]
    chosen = [{"a": two[0], "b": two[1]}.get(winner, NONE) for two, winner in zip(shown, pairs["winner"], strict=True)]
    return _choice_places(pairs.assign(choice=chosen), shown, level)


def _choice_places(votes: pd.DataFrame, shown: Sequence[Sequence[str]], level: float) -> ChoicePlaces | None:
    rows = [
        (rater, item, model, place, len(models), float(model == choice))
        for rater, item, choice, models in zip(votes["rater"], votes["item"], votes["choice"], shown, strict=True)
        if choice != NONE and len(models) > 1
        for place, model in enumerate(models, start=1)
    ]
    if not rows:
        return None
    # A row a video that was on the page: whether it was chosen.
    table = pd.DataFrame(rows, columns=["rater", "item", "model", "place", "videos", "chosen"])
    n = int(table["chosen"].sum())
    names = [f"{place}" for place in range(1, int(table["place"].max()) + 1)]
    effects = _effects(table, names, level)
    places = []
    for name, (effect, effect_interval) in zip(names, effects, strict=True):
        here = table[table["place"] == int(name)]
        count, possible = int(here["chosen"].sum()), len(here)
        places.append(
            PlaceShare(
                place=int(name),
                count=count,
                n=possible,
                chance=float((1 / here["videos"]).mean()),
                share=count / possible,
                interval=clustered_share(_cells(here, [name], "chosen"), 0, level),
                wilson=wilson(count, possible, level),
                effect=effect,
                effect_interval=effect_interval,
            )
        )
    return ChoicePlaces(n, len(votes) - n, places)


def _effects(table: pd.DataFrame, names: list[str], level: float) -> list[tuple[float | None, Interval]]:
    """Each place's mean of choices without the share of their model, minus the average of the places."""
    if not _can_be_told_apart(table):
        return [(None, unavailable(EFFECT, CONFOUNDED, level))] * len(names)
    # A model is chosen less often on a page of more videos, so its share is taken over pages of one size.
    share = table.groupby(["model", "videos"])["chosen"].transform("mean")
    data = _cells(table.assign(rest=table["chosen"] - share), names, "rest")
    means = data.means()
    found: list[tuple[float | None, Interval]] = []
    for index in range(len(names)):
        weights = np.eye(len(names))[index] - 1 / len(names)
        effect = float(weights @ means)
        interval = clustered_interval(effect, influence(data, weights), data.counts.sum(0), level)
        found.append((effect, interval))
    return found


def _cells(table: pd.DataFrame, names: list[str], value: str) -> Cells:
    return cells(table.assign(model=table["place"].map("{:d}".format)), names, value)


def _can_be_told_apart(table: pd.DataFrame) -> bool:
    """Whether the places are joined by models that stood at more than one of them: else a place is a model."""
    joined = {place: place for place in table["place"].unique()}

    def root(place: int) -> int:
        while joined[place] != place:
            place = joined[place]
        return place

    for _, rows in table.groupby("model"):
        places = rows["place"].unique()
        for place in places[1:]:
            joined[root(place)] = root(places[0])
    return len({root(place) for place in joined}) == 1
