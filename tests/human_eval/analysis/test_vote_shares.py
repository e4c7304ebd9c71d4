"""Shares against what defines their intervals, and the clustered ones against simulated voters."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from cogvideo.errors import UserError
from human_eval.analysis.shares import (
    clopper_pearson,
    denominators,
    goodman,
    options_of,
    printed_counts,
    shares,
    vote_tests,
    wilson,
)


@given(st.integers(1, 400), st.data())
def test_wilson_ends_are_where_the_score_test_turns(n, data):
    count = data.draw(st.integers(0, n))
    z = stats.norm.ppf(0.975)
    for end in wilson(count, n):
        assert (count / n - end) ** 2 == pytest.approx(z * z * end * (1 - end) / n, abs=1e-9)


@given(st.integers(1, 400), st.data())
def test_clopper_pearson_ends_are_where_the_tails_hold(n, data):
    count = data.draw(st.integers(0, n))
    low, high = clopper_pearson(count, n)
    assert low == 0 if count == 0 else stats.binom.sf(count - 1, n, low) == pytest.approx(0.025, abs=1e-9)
    assert high == 1 if count == n else stats.binom.cdf(count, n, high) == pytest.approx(0.025, abs=1e-9)


def test_goodman_is_wider_than_wilson_and_equal_for_one_question_of_one():
    counts = [30, 50, 20]
    for one, count in zip(goodman(counts), counts, strict=True):
        alone = wilson(count, 100)
        assert one[0] < alone[0] < alone[1] < one[1]
    assert goodman([7])[0] == pytest.approx(wilson(7, 7))


def votes(rows):
    return pd.DataFrame(rows, columns=["rater", "item", "shown", "choice"])


def test_none_stays_in_the_denominator_and_last():
    rows = [(f"r{r}", "", "a|b", ["a", "b", "none", "a"][r % 4]) for r in range(20)]
    found = shares(votes(rows), resamples=100)
    assert [(one.option, one.count, one.n) for one in found] == [("a", 10, 20), ("b", 5, 20), ("none", 5, 20)]
    assert options_of(votes(rows)) == ["a", "b", "none"]
    tests = vote_tests(found)
    assert tests.chi2 == pytest.approx(stats.chisquare([10, 5]).statistic)
    assert tests.top_two_p == pytest.approx(stats.binomtest(10, 15).pvalue)


def test_one_vote_a_rater_is_wilson_but_for_students_quantile():
    rows = [(f"r{r}", "", "a|b", "a" if r < 12 else "b") for r in range(30)]
    one = shares(votes(rows), resamples=100)[0]
    quantile = stats.t.ppf(0.975, 29)
    # The clustered variance has n - 1 where the binomial one has n.
    assert one.interval.ends == pytest.approx(wilson(0.4 * 29, 29, quantile=quantile))


def test_raters_who_always_vote_alike_count_once():
    rows = [(f"r{r}", f"i{i}", "a|b", "a" if r < 12 else "b") for r in range(30) for i in range(20)]
    one = shares(votes(rows), resamples=400)[0]
    low, high = one.interval.ends
    assert one.n == 600
    assert low < wilson(12, 30)[0] + 0.02
    assert high > wilson(12, 30)[1] - 0.02
    assert one.wilson[1] - one.wilson[0] < 0.3 * (high - low)


def test_votes_that_all_agree_are_not_certain():
    rows = [(f"r{r}", f"i{i}", "a|b", "a") for r in range(10) for i in range(20)]
    found = {one.option: one for one in shares(votes(rows), resamples=100)}
    assert found["a"].interval.ends == pytest.approx(clopper_pearson(10, 10))
    assert found["b"].interval.ends == pytest.approx(clopper_pearson(0, 10))


def test_clustered_share_covers():
    """Voters with a leaning of their own, items with one too: 200 studies, true share in closed form."""
    hits = 0
    truth = stats.norm.cdf(-0.5 / np.sqrt(1 + 0.5**2 + 0.5**2))
    for seed in range(200):
        rng = np.random.default_rng(seed)
        leaning = -0.5 + 0.5 * rng.normal(size=(40, 1)) + 0.5 * rng.normal(size=(1, 15)) + rng.normal(size=(40, 15))
        rows = [(f"r{r:02}", f"i{i:02}", "a|b", "a" if v > 0 else "b") for (r, i), v in np.ndenumerate(leaning)]
        low, high = shares(votes(rows), resamples=2)[0].interval.ends
        hits += low <= truth <= high
    assert 0.95 - 2.6 * np.sqrt(0.95 * 0.05 / 200) < hits / 200


def test_printed_shares():
    assert denominators(["50", "25"]) == (4, [2, 1])
    assert printed_counts(["33.3", "33.3", "33.3"], 3) == [1, 1, 1]
    assert printed_counts(["60", "60"], 5) is None
    assert denominators(["33.33"], most=2) is None
    with pytest.raises(UserError, match=r"looks like 49\.53"):
        denominators(["half"])


def test_no_votes():
    assert shares(votes([])) == []
    with pytest.raises(ValueError, match="0 <= count <= n"):
        wilson(3, 2)
