"""Agreement, screening, BT.500, P.910 and P.913 of the reference raters, and metrics against people."""

import numpy as np
import pandas as pd
import pytest

from human_eval.analysis.agreement import krippendorff_alpha, unit_counts
from human_eval.analysis.bt500 import bt500
from human_eval.analysis.correlation import metric_agreement
from human_eval.analysis.icc import intra_class
from human_eval.analysis.kappa import cohen_kappa, fleiss_kappa, mean_pairwise_spearman
from human_eval.analysis.rater_model import p910, p913
from human_eval.analysis.screening import screen


@pytest.fixture(scope="module")
def with_holes(human_csv):
    return human_csv("agreement.csv", dtype=None, keep_default_na=True, index_col=0).to_numpy(float)


@pytest.fixture(scope="module")
def complete(human_csv):
    return human_csv("agreement_full.csv", dtype=None, keep_default_na=True, index_col=0).to_numpy(float)


def test_alpha_of_every_scale(with_holes, expected):
    for scale, values in expected("agreement", "krippendorff_alpha").items():
        found = krippendorff_alpha(with_holes, scale, resamples=0)
        for value in values.values():
            assert found.value == pytest.approx(value, abs=1e-6)


def test_alpha_interval_resamples_units(with_holes, expected, bootstrap_agrees):
    """The set does not say of which scale its interval is; its ends fit the interval scale."""
    value = expected("agreement", "alpha_interval_unit_bootstrap")
    found = krippendorff_alpha(with_holes, "interval", resamples=10_000, seed=1)
    bootstrap_agrees(found.interval, value, se_rel=0.08, bound_se=0.25, what="alpha")
    low, high = expected("agreement", "alpha_interval_evalica_kalpha_ci")
    ours = found.interval.ends
    assert ours[1] - ours[0] > 1.5 * (high - low)


def test_intra_class_family(complete, expected):
    value = expected("agreement", "icc_mcgraw_wong")
    found = intra_class(complete.T)
    squares = value["mean_squares"]
    for name, want in squares.items():
        assert getattr(found.mean_squares, name) == pytest.approx(want, abs=1e-6)
    names = {"ICC_A1": "ICC(A,1)", "ICC_C1": "ICC(C,1)", "ICC_1": "ICC(1,1)"}
    for key, name in names.items():
        if key in value:
            assert found.coefficients[name].value == pytest.approx(value[key], abs=1e-6)
        if f"{key}_ci" in value:
            assert found.coefficients[name].interval.ends == pytest.approx(value[f"{key}_ci"], abs=1e-6)
    for name, want in expected("agreement", "icc").items():
        one = found.coefficients[name]
        assert one.value == pytest.approx(want["value"], abs=1e-6)
        assert one.f_ratio == pytest.approx(want["F"], abs=1e-6)
        # That library rounds its ends to two decimals.
        assert one.interval.ends == pytest.approx(want["ci"], abs=0.005 + 1e-9), name


def test_kappas(complete, expected):
    value = expected("agreement")
    _, counts = unit_counts(complete)
    assert fleiss_kappa(counts) == pytest.approx(value["fleiss_kappa"], abs=1e-6)
    assert fleiss_kappa(counts, "randolph") == pytest.approx(value["randolph_kappa"], abs=1e-6)
    two = value["first_two_raters"]
    assert cohen_kappa(complete[0], complete[1]) == pytest.approx(two["cohen"], abs=1e-6)
    assert cohen_kappa(complete[0], complete[1], "linear") == pytest.approx(two["cohen_linear"], abs=1e-6)
    assert cohen_kappa(complete[0], complete[1], "quadratic") == pytest.approx(two["cohen_quadratic"], abs=1e-6)
    assert mean_pairwise_spearman(complete) == pytest.approx(value["mean_pairwise_spearman"], abs=1e-6)


@pytest.fixture(scope="module")
def screened(human_csv):
    rows = human_csv("screening.csv")
    for name in ("score", "video_seconds", "response_seconds"):
        rows[name] = rows[name].astype(float)
    gold = human_csv("screening_gold.csv")
    checks = pd.DataFrame(
        [
            (one.rater, place < int(one.gold_correct))
            for one in gold.itertuples()
            for place in range(int(one.gold_shown))
        ],
        columns=["rater", "passed"],
    )
    scores = rows.pivot(index="rater", columns="video", values="score").sort_index()
    return scores, screen(scores, checks=checks, timing=rows)


def maybe(value):
    return None if value is None else pytest.approx(value, abs=1e-6)


def test_five_rules(screened, expected):
    value = expected("screening")
    found = screened[1]
    assert found.raters.keys() == value["flags"].keys()
    for name, one in found.raters.items():
        assert list(one.flags) == value["flags"][name]
        assert one.correlation_with_self == maybe(value["pearson_with_mos_incl_self"][name])
        assert one.correlation == maybe(value["pearson_leave_one_out"][name])
        assert one.variance == maybe(value["variance"][name])
        assert one.median_response_seconds == maybe(value["median_response_seconds"][name])
    assert found.duplicates == value["identical_response_vectors"]


def test_planted_raters_are_caught(screened, human_json):
    for name, role in human_json("screening_plan.json").items():
        if role != "good":
            assert screened[1].raters[name].flags, (name, role)


def test_bt500_of_screened_raters(screened, expected):
    scores = screened[0]
    for name, one in zip(scores.index, bt500(scores), strict=True):
        value = expected("screening", "bt500")[name]
        assert (one.p, one.q, one.rejected) == (value["p"], value["q"], value["rejected"])
        assert one.ratio1 == pytest.approx(value["ratio1"], abs=1e-6)
        assert one.ratio2 == maybe(value["ratio2"])


def test_rater_models(human_json, human_csv):
    value = human_json("expected_p910.json")
    rows = human_csv("ratings.csv")
    rows = rows.assign(score=rows[value["aspect"]].astype(float), unit=rows["item"] + "|" + rows["model"])
    table = rows.pivot(index="rater", columns="unit", values="score").loc[value["raters"], value["pvs"]]
    found, want = p910(table), value["p910_mle"]
    assert found.converged
    assert np.abs(found.quality - want["quality"]).max() < 2e-3
    assert np.abs(found.quality_se - want["quality_se"]).max() < 2e-3
    assert np.abs(found.bias - want["rater_bias"]).max() < 2e-3
    assert np.abs(found.inconsistency - want["rater_inconsistency"]).max() < 2e-3
    quality, bias = p913(table)
    assert np.abs(quality - value["p913_bias_removed"]["quality"]).max() < 2e-3
    assert np.abs(bias - value["p913_bias_removed"]["rater_bias"]).max() < 2e-3
    assert [one.rejected for one in bt500(table)] == value["bt500_rejected"]


def test_metrics_against_people(human_csv, expected, bootstrap_agrees):
    wanted = expected("metric_correlation")
    table = human_csv("human_vs_metrics.csv", dtype={"system": str, "item": str}, keep_default_na=True)
    (human,) = set(table.columns) - {"system", "item"} - set(wanted)
    table = table.rename(columns={"system": "model", human: "human"})
    keys = {
        "pearson": ("pearson", "pearson_p", "pearson_fisher_ci"),
        "spearman": ("spearman", "spearman_p", "spearman_bonett_wright_ci"),
        "kendall": ("kendall_tau_b", "kendall_p", "kendall_fieller_ci"),
    }
    for metric, value in wanted.items():
        direction = value["system"]["direction"].split()[0]
        found = metric_agreement(table.assign(value=table[metric]), metric, direction, resamples=10_000, seed=1)
        for level, ours in (("system", found.by_model), ("item", found.by_item)):
            want = value[level]
            for kind, (name, p_name, ends_name) in keys.items():
                one = ours[kind]
                assert one.n == want["n"]
                assert one.value == pytest.approx(want[name], abs=1e-6), (metric, level, kind)
                assert one.p == pytest.approx(want[p_name], rel=1e-4, abs=1e-9)
                if abs(want[name]) == 1:
                    assert one.interval.low is None
                    assert "the coefficient is" in one.interval.reason
                else:
                    assert one.interval.ends == pytest.approx(want[ends_name], abs=1e-6)
        assert found.ranking_accuracy == pytest.approx(value["system"]["pairwise_ranking_accuracy"], abs=1e-6)
        cluster = value["item"]["spearman_system_cluster_boot"]
        bootstrap_agrees(found.by_item["spearman"].clustered, cluster, se_rel=0.08, bound_se=0.25, what=metric)
