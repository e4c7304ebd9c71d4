"""Strengths against closed forms for two models, properties, and votes that have no answer."""

import math
from itertools import permutations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from human_eval.analysis.choice_model import fit, information, separation
from human_eval.analysis.contests import favourite_votes, head_to_head, pair_votes, ranking_votes
from human_eval.analysis.elo_order import elo_order
from human_eval.analysis.strengths import elo, rank_by_interval, strengths


def pairs(counts, raters=10):
    """Rows of (model_a, model_b, winner) with their counts; raters take turns."""
    rows = [(a, b, winner) for (a, b, winner), n in counts.items() for _ in range(n)]
    return pd.DataFrame(
        [(f"r{place % raters}", f"i{place % 7}", *row) for place, row in enumerate(rows)],
        columns=["rater", "item", "model_a", "model_b", "winner"],
    )


TWO = {("x", "y", "a"): 30, ("x", "y", "b"): 10, ("x", "y", "tie"): 20}


def gap(votes, **options):
    found = strengths(votes, "test", resamples=20, **options)
    assert found.status == "ok", found.reason
    return found.theta["x"] - found.theta["y"], found


def test_two_models_have_closed_forms():
    assert gap(pair_votes(pairs(TWO), "dropped"))[0] == pytest.approx(math.log(3))
    assert gap(pair_votes(pairs(TWO), "half"))[0] == pytest.approx(math.log(40 / 20))
    difference, found = gap(pair_votes(pairs(TWO), "davidson"))
    assert difference == pytest.approx(math.log(3))
    assert found.nu == pytest.approx(20 / math.sqrt(30 * 10))
    assert found.log_likelihood == pytest.approx(sum(n * math.log(n / 60) for n in (30, 10, 20)))


def test_two_models_have_the_binomial_standard_error():
    found = gap(pair_votes(pairs(TWO), "dropped"))[1]
    # var(log odds) = 1/30 + 1/10 is that of the difference; a centred strength is half the difference.
    assert found.strengths[0].se_model == pytest.approx(math.sqrt(1 / 30 + 1 / 10) / 2)


def test_sides_do_not_matter():
    swapped = {(b, a, {"a": "b", "b": "a"}.get(w, w)): n for (a, b, w), n in TWO.items()}
    for ties in ("half", "dropped", "davidson"):
        assert gap(pair_votes(pairs(swapped), ties))[0] == pytest.approx(gap(pair_votes(pairs(TWO), ties))[0])


def test_votes_of_expected_size_give_back_the_strengths():
    theta = dict(zip("wxyz", (0.9, 0.2, -0.3, -0.8), strict=True))
    counts = {}
    for a, b in permutations(theta, 2):
        if a < b:
            share = 1 / (1 + math.exp(theta[b] - theta[a]))
            counts[a, b, "a"], counts[a, b, "b"] = round(2000 * share), round(2000 * (1 - share))
    found = strengths(pair_votes(pairs(counts), "half"), "test", resamples=50)
    assert found.theta == pytest.approx(theta, abs=2e-3)
    assert [one.rank for one in found.strengths] == [1, 2, 3, 4]
    assert [(one.rank_low, one.rank_high) for one in found.strengths] == [(1, 1), (2, 2), (3, 3), (4, 4)]
    assert found.strengths[0].elo == pytest.approx(elo(found.theta["w"]))


def test_rankings_of_two_are_pairs_and_favourites_of_two_too():
    table = pairs({key: n for key, n in TWO.items() if key[2] != "tie"})
    ranked = table.assign(ranking=["x>y" if w == "a" else "y>x" for w in table["winner"]])
    chosen = table.assign(shown="y|x", choice=["x" if w == "a" else "y" for w in table["winner"]])
    plain = gap(pair_votes(table, "half"))[1]
    for votes in (ranking_votes(ranked), favourite_votes(chosen)):
        found = gap(votes)[1]
        assert found.theta == pytest.approx(plain.theta)
        assert found.strengths[0].interval.ends == pytest.approx(plain.strengths[0].interval.ends)
        assert found.strengths[0].by_rater.ends == pytest.approx(plain.strengths[0].by_rater.ends)


def test_first_choice_of_three_is_the_share():
    rows = [(f"r{i}", "", "a|b|c", choice) for i, choice in enumerate(["a"] * 6 + ["b"] * 3 + ["c"] * 2 + ["none"] * 4)]
    votes = favourite_votes(pd.DataFrame(rows, columns=["rater", "item", "shown", "choice"]))
    found = strengths(votes, "test", resamples=20)
    odds = {model: math.exp(value) for model, value in found.theta.items()}
    assert {m: odds[m] / sum(odds.values()) for m in odds} == pytest.approx({"a": 6 / 11, "b": 3 / 11, "c": 2 / 11})
    assert (found.n, found.left_out) == (11, {"none": 4})


def test_sandwich_grows_with_raters_who_repeat_themselves():
    """Ten raters who give one opinion sixty times know no more than ten votes."""
    rows = [(f"r{r}", f"i{i}", "x", "y", "a" if r < 6 else "b") for r in range(10) for i in range(60)]
    table = pd.DataFrame(rows, columns=["rater", "item", "model_a", "model_b", "winner"])
    one = strengths(pair_votes(table, "half"), "test", resamples=200).strengths[0]
    alone = math.sqrt((1 / 6 + 1 / 4) / 4)
    assert one.se_model == pytest.approx(alone / math.sqrt(60))
    assert one.se_by_rater == pytest.approx(alone * math.sqrt(10 / 9) * math.sqrt(599 / 599), rel=1e-3)
    assert one.interval.se == pytest.approx(alone * math.sqrt(10 / 9), rel=1e-3)


def test_disconnected_votes_have_no_ranking():
    found = strengths(pair_votes(pairs({("a", "b", "a"): 3, ("a", "b", "b"): 2, ("c", "d", "a"): 3}), "half"), "t")
    assert found.status == "no ranking"
    assert found.reason == "no votes join these groups of models: a, b; c, d"
    assert found.theta == {}


@pytest.mark.parametrize(
    ("counts", "ties", "words"),
    [
        ({("x", "y", "a"): 5, ("y", "z", "a"): 5, ("y", "z", "b"): 2}, "half", "x never lost to any other model"),
        ({("x", "y", "a"): 5, ("x", "y", "tie"): 5}, "davidson", "apart from ties, nothing counts against x"),
        ({("x", "y", "tie"): 5}, "davidson", "all votes are ties"),
        ({("x", "y", "a"): 5, ("x", "y", "b"): 5}, "davidson", "no vote is a tie"),
    ],
)
def test_separated_votes_have_no_finite_estimate(counts, ties, words):
    found = strengths(pair_votes(pairs(counts), ties), "test", resamples=20)
    assert found.status == "no finite estimate"
    assert words in found.reason


def test_votes_of_none_compare_nothing():
    found = strengths(pair_votes(pairs({("x", "y", "none"): 5}), "half"), "test")
    assert (found.status, found.left_out["none"]) == ("no votes", 5)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from([(a, b, w) for a, b in ("xy", "xz", "yz") for w in ("a", "b", "tie")]), min_size=4))
def test_newton_and_the_linear_programme_agree_on_what_is_finite(rows):
    table = pairs({row: rows.count(row) for row in rows})
    if set(table["model_a"]) | set(table["model_b"]) != set("xyz"):
        return
    for ties in ("half", "davidson"):
        votes = pair_votes(table, ties)
        finite = bool(fit(votes.contests, votes.totals).finite[0])
        connected = strengths(votes, "test", resamples=2).status != "no ranking"
        assert finite == (connected and separation(votes.contests, votes.totals) is None)


def test_information_is_minus_the_second_derivative():
    votes = pair_votes(pairs(TWO | {("y", "z", "a"): 9, ("y", "z", "b"): 4, ("y", "z", "tie"): 3}), "davidson")
    at, step = np.array([0.3, -0.1, -0.2, 0.4]), 1e-4

    def likelihood(params):
        logits = votes.contests.features @ params
        total = np.bincount(votes.contests.contest, np.exp(logits))
        return float(votes.totals @ (logits - np.log(total)[votes.contests.contest]))

    eye = step * np.eye(4)
    numeric = [
        [
            -(likelihood(at + a + b) - likelihood(at + a - b) - likelihood(at - a + b) + likelihood(at - a - b))
            / (4 * step**2)
            for b in eye
        ]
        for a in eye
    ]
    assert information(votes.contests, votes.totals, at) == pytest.approx(np.array(numeric), abs=1e-4)


def test_lost_resamples_are_counted_and_too_many_leave_no_interval():
    counts = {("x", "y", "a"): 30, ("x", "y", "b"): 1}
    found = strengths(pair_votes(pairs(counts, raters=31), "half"), "test", resamples=400)
    interval = found.strengths[0].by_rater
    assert interval.low is None
    assert "had no finite estimate" in interval.reason
    assert found.strengths[0].interval.low is not None


def test_head_to_head_counts():
    found = head_to_head(pairs(TWO))
    assert found.wins["x"]["y"] == 30
    assert found.ties["y"]["x"] == 20
    assert found.win_rate == {"x": 40 / 60, "y": 20 / 60}


def test_elo_moves_with_the_order():
    table = pairs(TWO)
    found = elo_order(table)
    assert found.largest_change > 1
    assert sum(found.forward.values()) == pytest.approx(2000)


def test_rank_by_interval():
    intervals = {"a": (3, 4), "b": (1, 3.5), "c": (0, 2), "d": (-3, -1)}
    assert rank_by_interval(intervals) == {"a": 1, "b": 1, "c": 2, "d": 4}
