"""What a place does to favourites and pairs: exact shares of a planted choice model, coverage, and uneven designs."""

import json
from itertools import permutations

import numpy as np
import pandas as pd
import pytest

from human_eval.analysis.analyze import AnalysisSettings, analyze_tables
from human_eval.analysis.findings import Resampling
from human_eval.analysis.places import favourite_places, pair_places
from human_eval.analysis.tables import StudyTables
from human_eval.analysis.write import tables_of

QUALITY = np.array([0.8, 0.0, -0.6])
PLACE = np.array([0.7, 0.0, -0.4])
ORDERS = list(permutations(range(3)))


def exact(quality, place) -> np.ndarray:
    """Share of each place when a model is chosen as exp(quality + place), over all orders equally often."""
    k = len(quality)
    weights = np.array([np.exp(quality[list(order)] + place) for order in permutations(range(k))])
    return (weights / weights.sum(1, keepdims=True)).mean(0)


def favourites(rng, place, *, raters=30, items=12, lean=0.0, none=0.0) -> pd.DataFrame:
    """Every order equally often. `lean`: how far raters, and prompts, differ in their liking for the first place."""
    rater_R, item_I = rng.normal(0, lean, raters) if lean else np.zeros(raters), rng.normal(0, lean or 1e-9, items)
    rows = []
    for r in range(raters):
        for i in range(items):
            order = ORDERS[(r + i) % 6]
            liking = QUALITY[list(order)] + place + np.array([rater_R[r] + item_I[i], 0.0, 0.0])
            chosen = order[int(np.argmax(liking + rng.gumbel(size=3)))]
            choice = "none" if rng.random() < none else f"m{chosen}"
            rows.append((f"r{r:02d}", f"i{i:02d}", "|".join(f"m{m}" for m in order), choice))
    return pd.DataFrame(rows, columns=["rater", "item", "shown", "choice"])


def pairs(rng, first, *, raters=30, items=12, ties=0.0) -> pd.DataFrame:
    """Each of the six ordered pairs of three models equally often; the first is better by `first` on the logit."""
    ordered = list(permutations(range(3), 2))
    rows = []
    for r in range(raters):
        for i in range(items):
            a, b = ordered[(r + i) % 6]
            wins = rng.random() < 1 / (1 + np.exp(-(QUALITY[a] - QUALITY[b] + first)))
            winner = str(rng.choice(["tie", "none"])) if rng.random() < ties else "a" if wins else "b"
            rows.append((f"r{r:02d}", f"i{i:02d}", f"m{a}", f"m{b}", winner))
    return pd.DataFrame(rows, columns=["rater", "item", "model_a", "model_b", "winner"])


def test_the_planted_bias_of_favourites_is_found():
    truth = exact(QUALITY, PLACE)
    found = favourite_places(favourites(np.random.default_rng(0), PLACE))
    assert (found.n, found.left_out) == (360, 0)
    assert sum(one.share for one in found.places) == pytest.approx(1)
    for one, share in zip(found.places, truth, strict=True):
        assert one.chance == pytest.approx(1 / 3)
        low, high = one.interval.ends
        assert low < share < high
        assert one.effect == pytest.approx(one.share - 1 / 3, abs=1e-12)
        low, high = one.effect_interval.ends
        assert low < share - 1 / 3 < high
    assert found.places[0].interval.low > 1 / 3
    assert found.places[0].effect_interval.low > 0
    assert found.places[2].effect_interval.high < 0


def test_the_planted_bias_of_pairs_is_found():
    truth = np.mean([1 / (1 + np.exp(-(QUALITY[a] - QUALITY[b] + 0.9))) for a, b in permutations(range(3), 2)])
    votes = pairs(np.random.default_rng(1), 0.9, ties=0.25)
    found = pair_places(votes)
    decided = votes[votes["winner"].isin(["a", "b"])]
    first, second = found.places
    assert (found.n, found.left_out) == (len(decided), 360 - len(decided))
    assert (first.count, first.n) == (int((decided["winner"] == "a").sum()), len(decided))
    assert first.share + second.share == pytest.approx(1)
    assert first.effect == pytest.approx(-second.effect)
    assert first.interval.low < truth < first.interval.high
    assert first.effect_interval.low > 0
    assert first.effect_interval.low < truth - 0.5 < first.effect_interval.high


@pytest.mark.parametrize("kind", ["favourites", "pairs"])
def test_intervals_hold_chance_as_often_as_they_say(kind):
    """Without a bias the closed form is chance. With raters and prompts who lean, a plain interval falls short."""
    rng, inside, plain, studies = np.random.default_rng(2), 0, 0, 200
    for _ in range(studies):
        if kind == "pairs":
            place = pair_places(pairs(rng, 0.0, raters=12, items=12)).places[0]
        else:
            place = favourite_places(favourites(rng, np.zeros(3), raters=12, items=12)).places[0]
        inside += place.effect_interval.low <= 0 <= place.effect_interval.high
        plain += place.interval.low <= place.chance <= place.interval.high
    # Three standard errors of 200 studies: 0.95 +- 0.046.
    assert abs(inside / studies - 0.95) < 0.047
    assert plain / studies > 0.95 - 0.047


def test_raters_who_lean_widen_the_interval():
    """Whoever always takes the first place is one vote for it, not twelve."""
    wide = favourite_places(favourites(np.random.default_rng(3), np.zeros(3), lean=2.0)).places[0]
    width = wide.interval.high - wide.interval.low
    assert width > 1.8 * (wide.wilson[1] - wide.wilson[0])


def test_a_good_model_that_stood_first_more_often_is_no_bias():
    """A model that always wins, first in three of four pages: first is chosen three times of four, by nobody's lean."""
    rows = [(f"r{r:02d}", f"i{i}", "m0|m1" if (r + i) % 4 else "m1|m0", "m0") for r in range(8) for i in range(8)]
    found = favourite_places(pd.DataFrame(rows, columns=["rater", "item", "shown", "choice"]))
    assert found.places[0].share == pytest.approx(0.75)
    assert found.places[0].effect == pytest.approx(0, abs=1e-12)


def test_a_model_that_never_moved_cannot_be_told_from_its_place():
    rows = [(f"r{r}", f"i{i}", "m0|m1", "m0" if (r + i) % 3 else "m1") for r in range(6) for i in range(6)]
    found = favourite_places(pd.DataFrame(rows, columns=["rater", "item", "shown", "choice"]))
    assert found.places[0].share == pytest.approx(24 / 36)
    assert found.places[0].effect is None
    assert "cannot be told apart" in found.places[0].effect_interval.reason


def test_pages_of_different_sizes_have_their_own_chance():
    rows = [("r0", "i0", "a|b", "a"), ("r0", "i1", "b|a|c", "b"), ("r1", "i0", "c|a|b", "b"), ("r1", "i1", "c|b", "b")]
    first, second, third = favourite_places(pd.DataFrame(rows, columns=["rater", "item", "shown", "choice"])).places
    assert [one.n for one in (first, second, third)] == [4, 4, 2]
    assert first.chance == second.chance == pytest.approx((1 / 2 + 1 / 3 + 1 / 3 + 1 / 2) / 4)
    assert third.chance == pytest.approx(1 / 3)


def test_votes_for_none_choose_no_place():
    rows = [("r0", "i0", "a|b", "none"), ("r1", "i0", "b|a", "none")]
    assert favourite_places(pd.DataFrame(rows, columns=["rater", "item", "shown", "choice"])) is None
    found = favourite_places(favourites(np.random.default_rng(4), np.zeros(3), none=0.3))
    assert found.n + found.left_out == 360
    assert found.left_out > 60


def test_the_table_of_places_is_the_result():
    rng = np.random.default_rng(5)
    data = StudyTables(favourites=favourites(rng, PLACE), pairs=pairs(rng, 0.5))
    result = analyze_tables(data, AnalysisSettings(Resampling(20)))
    found = json.loads(json.dumps(result.to_json()))["analysed"]
    rows = [row for row in tables_of(result)["choice_positions"] if row["raters"] == "analysed"]
    assert [(row["kind"], row["position"]) for row in rows] == [
        *(("favourite", place) for place in (1, 2, 3)),
        *(("pair", place) for place in (1, 2)),
    ]
    places = [*found["favourites"][""]["position"]["places"], *found["pairs"][""]["position"]["places"]]
    for row, one in zip(rows, places, strict=True):
        assert [row[name] for name in ("share", "chance", "count", "n", "effect")] == [
            one[name] for name in ("share", "chance", "count", "n", "effect")
        ]
        assert (row["low"], row["high"]) == (one["interval"]["low"], one["interval"]["high"])
        assert (row["effect_low"], row["effect_high"]) == (
            one["effect_interval"]["low"],
            one["effect_interval"]["high"],
        )
