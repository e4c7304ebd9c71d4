"""Favourite shares, pairwise strengths and rankings of the reference votes."""

import math

import pytest

from human_eval.analysis.contests import head_to_head, pair_votes, ranking_votes
from human_eval.analysis.elo_order import elo_order
from human_eval.analysis.kappa import kendall_w
from human_eval.analysis.rank_tests import friedman
from human_eval.analysis.resampling import percentile_interval
from human_eval.analysis.shares import shares, vote_tests
from human_eval.analysis.strengths import bootstrap_params, elo, rank_by_interval, strengths
from human_eval.analysis.tables import RANKING_SEPARATOR

RESAMPLES = 4000


def p_close(value, expected):
    return value == pytest.approx(expected, rel=1e-4, abs=1e-9)


@pytest.mark.parametrize(
    ("table", "key"), [("favourites.csv", "favourite_votes"), ("overall_favourite.csv", "overall_favourite")]
)
def test_shares(table, key, human_csv, expected, bootstrap_agrees):
    value = expected(key)
    votes = human_csv(table).rename(columns={"favourite": "choice"})
    if "item" not in votes:
        votes = votes.assign(item="")
    found = shares(votes, options=list(value["options"]), resamples=10_000, seed=1)
    assert {one.n for one in found} == {value["n"]}
    for one in found:
        want = value["options"][one.option]
        assert one.count == want["count"]
        assert one.share == pytest.approx(want["share"], abs=1e-6)
        assert one.wilson == pytest.approx(want["wilson"], abs=1e-6)
        assert one.clopper_pearson == pytest.approx(want["clopper_pearson"], abs=1e-6)
        assert one.jeffreys == pytest.approx(want["jeffreys"], abs=1e-6)
        assert one.goodman == pytest.approx(want["goodman_simultaneous"], abs=1e-6)
        if "rater_cluster_boot" in want:
            bootstrap_agrees(one.by_rater, want["rater_cluster_boot"], se_rel=0.08, bound_se=0.25, what=one.option)
    tests = vote_tests(found)
    assert tests.chi2 == pytest.approx(value["chi2_equal_models"]["stat"], abs=1e-6)
    assert p_close(tests.chi2_p, value["chi2_equal_models"]["p"])
    if "top_two_exact_binomial" in value:
        top = value["top_two_exact_binomial"]
        assert list(tests.top_two) == top["models"]
        assert list(tests.top_two_counts) == top["counts"]
        assert p_close(tests.top_two_p, top["p"])


@pytest.fixture(scope="module")
def pairs(human_csv):
    return human_csv("pairwise.csv")


def test_counts_of_pairs(pairs, expected):
    value = expected("pairwise")
    found = head_to_head(pairs, value["models"])
    assert len(pairs) == value["n"]
    assert found.wins == value["wins"]
    assert found.ties == value["ties"]
    assert found.win_rate == pytest.approx(value["win_rate_ties_half"], abs=1e-6)


@pytest.fixture(scope="module")
def fitted(pairs):
    return {
        ties: strengths(pair_votes(pairs, ties), ties, resamples=RESAMPLES, seed=1)
        for ties in ("half", "dropped", "davidson")
    }


@pytest.mark.parametrize("ties", ["half", "dropped"])
def test_bradley_terry(ties, fitted, expected):
    value = expected("pairwise", f"bt_ties_{ties}")
    found = fitted[ties]
    for key in ("theta", "evalica", "choix_opt_pairwise", "statsmodels_logit"):
        if key in value:
            assert found.theta == pytest.approx(value[key], abs=1e-5)
    for one in found.strengths:
        if "elo_scale" in value:
            assert one.elo == pytest.approx(value["elo_scale"][one.model], abs=1e-5 * 400)
        if "se_model" in value:
            assert one.se_model == pytest.approx(value["se_model"][one.model], abs=1e-5)
        if "se_rater_cluster_sandwich" in value:
            assert one.se_by_rater == pytest.approx(value["se_rater_cluster_sandwich"][one.model], abs=1e-5)


def test_bradley_terry_bootstraps(pairs, fitted, expected, bootstrap_agrees):
    value = expected("pairwise", "bt_ties_half")
    by_rows = pair_votes(pairs.drop(columns=["rater", "item"]), "half")
    rows = bootstrap_params(by_rows, "raters", RESAMPLES, seed=1)
    for place, one in enumerate(fitted["half"].strengths):
        wanted = {
            kind: {part: value[kind][part][one.model] for part in ("se", "ci")}
            for kind in ("rater_cluster_boot", "row_boot")
        }
        row = percentile_interval(rows[:, place], method="rows", seed=1)
        bootstrap_agrees(one.by_rater, wanted["rater_cluster_boot"], se_rel=0.08, bound_se=0.25, what=one.model)
        bootstrap_agrees(row, wanted["row_boot"], se_rel=0.08, bound_se=0.25, what=one.model)


def test_ranks_by_interval(fitted, expected):
    value = expected("pairwise", "bt_ties_half")
    theirs = {model: tuple(ends) for model, ends in value["rater_cluster_boot"]["ci"].items()}
    assert rank_by_interval(theirs) == value["rank_by_cluster_ci"]
    se = value["rater_cluster_boot"]["se"]
    ours = {one.model: one.by_rater.ends for one in fitted["half"].strengths}
    for model, rank in rank_by_interval(ours).items():
        # Ends nearer to each other than the noise of resampling may change places.
        near = [o for o in ours if o != model and abs(theirs[o][0] - theirs[model][1]) < 0.25 * (se[o] + se[model])]
        assert abs(rank - value["rank_by_cluster_ci"][model]) <= len(near)


def test_davidson(fitted, expected):
    value = expected("pairwise", "davidson")
    found = fitted["davidson"]
    for key in ("theta", "statsmodels_poisson", "evalica_newman"):
        if key in value:
            assert found.theta == pytest.approx(value[key], abs=1e-4)
    assert found.nu == pytest.approx(value["nu"], abs=1e-4)
    assert found.nu == pytest.approx(value.get("statsmodels_nu", value["nu"]), abs=1e-4)
    assert found.nu / 2 == pytest.approx(value.get("evalica_newman_v", value["nu"] / 2), abs=1e-4)
    assert found.log_likelihood == pytest.approx(value["log_likelihood"], abs=1e-4)
    for one in found.strengths:
        assert one.se_model == pytest.approx(value["se_model"][one.model], abs=1e-4)
        assert one.by_rater.se == pytest.approx(value["rater_cluster_boot"]["se"][one.model], rel=0.15)
    assert found.nu_interval.se == pytest.approx(value["rater_cluster_boot"]["se"]["nu"], rel=0.15)


def test_elo_depends_on_the_order_and_bradley_terry_does_not(pairs, fitted, expected):
    value = expected("pairwise", "elo_order_dependence")
    found = elo_order(pairs, value["k"])
    assert found.forward == pytest.approx(value["forward"], abs=1e-3)
    assert found.backward == pytest.approx(value["reversed"], abs=1e-3)
    assert found.largest_change == pytest.approx(value["max_abs_change"], abs=1e-3)
    turned = strengths(pair_votes(pairs.iloc[::-1].reset_index(drop=True), "half"), "turned", resamples=2)
    assert turned.theta == pytest.approx(fitted["half"].theta, abs=1e-9)


@pytest.mark.parametrize("ties", ["half", "dropped", "davidson"])
def test_degenerate_pairs(ties, human_csv, expected):
    for name in expected("pairwise_degenerate"):
        votes = pair_votes(human_csv(name), ties)
        found = strengths(votes, ties, resamples=50)
        if "separated" in name:
            assert found.status == "no finite estimate", name
        elif "disconnected" in name:
            assert found.status == "no ranking"
            assert len(found.groups) > 1
        elif ties == "half":
            assert found.theta == pytest.approx(dict.fromkeys(votes.contests.models, 0.0), abs=1e-9)
        else:
            assert found.status == {"dropped": "no votes", "davidson": "no finite estimate"}[ties]
        if found.status != "ok":
            assert found.reason
            assert found.strengths == []


def test_rankings(human_csv, expected):
    value = expected("rankings")
    table = human_csv("rankings.csv").assign(item="")
    found = strengths(ranking_votes(table), "Plackett-Luce", resamples=200)
    for key in ("plackett_luce", "choix_ilsr"):
        if key in value:
            assert found.theta == pytest.approx(value[key], abs=1e-5)
    models = list(value["mean_rank"])
    ranks = [[text.split(RANKING_SEPARATOR).index(model) + 1 for model in models] for text in table["ranking"]]
    means = {model: math.fsum(row[place] for row in ranks) / len(ranks) for place, model in enumerate(models)}
    assert means == pytest.approx(value["mean_rank"], abs=1e-6)
    assert kendall_w(ranks) == pytest.approx(value["kendall_w"], abs=1e-6)
    whole = friedman(ranks)
    assert whole.chi2 == pytest.approx(value["friedman_chi2"], abs=1e-6)
    assert p_close(whole.p, value["friedman_p"])
    assert elo(0.0) == 1000
