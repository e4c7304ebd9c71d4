"""Opinions, tests on rater means, the mixed model and the position effect of the reference ratings."""

import pytest

from human_eval.analysis.means import mean_opinions
from human_eval.analysis.mixed_model import mixed_model
from human_eval.analysis.rank_tests import friedman, pair_tests, position_effect, rater_means

RESAMPLES = 10_000


@pytest.fixture(scope="module")
def rows(human_csv):
    table = human_csv("ratings.csv")

    def one(aspect):
        return table.assign(score=table[aspect].astype(float), position=table["position"].astype(float))

    return one


@pytest.fixture(scope="module")
def ours(rows, expected):
    """Our opinions of every aspect that the set expects."""
    found = {}
    for aspect, values in expected("mos").items():
        steps = {len(one["histogram"]) for one in values["per_model"].values()}
        models = list(values["per_model"])
        found[aspect] = mean_opinions(rows(aspect), scale=(1, max(steps)), models=models, resamples=RESAMPLES, seed=1)
    return found


def test_plain_numbers_of_every_model(ours, expected):
    for aspect, (opinions, _) in ours.items():
        for one in opinions:
            value = expected("mos", aspect, "per_model", one.model)
            assert one.n == value["n"]
            assert list(one.histogram.values()) == value["histogram"]
            assert one.mean == pytest.approx(value["mean"], abs=1e-6)
            assert one.sd == pytest.approx(value["sd"], abs=1e-6)
            assert one.median == pytest.approx(value["median"], abs=1e-6)
            assert one.top2 == pytest.approx(value["top2_share"], abs=1e-6)
            assert one.naive.ends == pytest.approx(value["t_ci_naive"], abs=1e-6)


def test_bootstraps_of_every_model(ours, expected, bootstrap_agrees):
    for aspect, (opinions, _) in ours.items():
        for one in opinions:
            value = expected("mos", aspect, "per_model", one.model)
            what = (aspect, one.model)
            bootstrap_agrees(one.by_rater, value["rater_cluster_boot"], se_rel=0.08, bound_se=0.25, what=what)
            bootstrap_agrees(one.by_item, value["item_cluster_boot"], se_rel=0.08, bound_se=0.25, what=what)
            bootstrap_agrees(one.two_way_bootstrap, value["two_way_boot"], se_rel=0.10, bound_se=0.30, what=what)


def test_bootstraps_of_every_difference(ours, expected, bootstrap_agrees):
    for aspect, (_, differences) in ours.items():
        named = {f"{one.first}-{one.second}": one for one in differences}
        for name, value in expected("mos", aspect, "differences").items():
            one = named[name]
            assert one.difference == pytest.approx(value["diff"], abs=1e-6)
            by_rater = {"se": value["rater_boot_se"], "ci": value["rater_boot_ci"]}
            two_way = {"se": value["two_way_boot_se"], "ci": value["two_way_boot_ci"]}
            bootstrap_agrees(one.by_rater, by_rater, se_rel=0.08, bound_se=0.25, what=(aspect, name))
            bootstrap_agrees(one.two_way_bootstrap, two_way, se_rel=0.10, bound_se=0.30, what=(aspect, name))


def test_the_naive_interval_is_far_too_narrow(ours):
    """A fact of every such table: against the two-way bootstrap, and so against the interval that we show."""
    for opinions, _ in ours.values():
        for one in opinions:
            assert one.two_way_bootstrap.se > 1.5 * one.naive.se
            assert one.interval.se > 1.5 * one.naive.se


def p_close(value, expected):
    return value == pytest.approx(expected, rel=1e-4, abs=1e-9)


def test_tests_on_rater_means(rows, expected):
    prefix = "tests_on_rater_means_"
    for key in [key for key in expected() if key.startswith(prefix)]:
        value = expected(key)
        aspect = key.removeprefix(prefix)
        table = rows(aspect)
        models = list(expected("mos", aspect, "per_model"))
        means = rater_means(table, models)
        whole = friedman(means)
        assert whole.chi2 == pytest.approx(value["friedman_chi2"], abs=1e-6)
        assert p_close(whole.p, value["friedman_p"])
        assert whole.kendall_w == pytest.approx(value["kendall_w"], abs=1e-6)
        named = {f"{one.first}-{one.second}": one for one in pair_tests(means, models)}
        for place, name in enumerate(value["pairs"]):
            one = named[name]
            assert one.wilcoxon == pytest.approx(value["wilcoxon_stat"][place], abs=1e-6)
            assert p_close(one.wilcoxon_p, value["wilcoxon_p"][place])
            assert p_close(one.wilcoxon_p_holm, value["wilcoxon_p_holm"][place])
            assert p_close(one.wilcoxon_p_bh, value["wilcoxon_p_bh"][place])
            assert one.t == pytest.approx(value["paired_t"][place], abs=1e-6)
            assert p_close(one.t_p, value["paired_t_p"][place])
            assert p_close(one.t_p_holm, value["paired_t_p_holm"][place])
            assert one.dz == pytest.approx(value["cohen_dz"][place], abs=1e-6)


def test_mixed_model(rows, expected):
    prefix = "mixed_model_"
    keys = [key for key in expected() if key.startswith(prefix)]
    if not keys:
        pytest.skip("this reference set has no mixed model")
    for key in keys:
        value = expected(key)
        found = mixed_model(rows(key.removeprefix(prefix)))
        assert found.n == value["n_rows"]
        for term, effect in value["fixed"].items():
            name = term.removeprefix("model[T.").removesuffix("]")
            assert found.fixed[name] == pytest.approx(effect, abs=1e-4)
            assert found.se[name] == pytest.approx(value["se"][term], abs=1e-3)
        assert found.var_rater == pytest.approx(value["var_rater"], abs=2e-3)
        assert found.var_item == pytest.approx(value["var_item"], abs=2e-3)
        assert found.var_residual == pytest.approx(value["var_residual"], abs=2e-3)
        assert found.log_likelihood == pytest.approx(value["log_likelihood_reml"], abs=1e-4)


def test_position_effect(rows, expected):
    value = expected("position_effect")
    aspects = [key.removeprefix("tests_on_rater_means_") for key in expected() if key.startswith("tests_on_rater")]
    found = position_effect(rows(aspects[0] if aspects else "overall_quality"))
    for place, mean in value["mean_by_position"].items():
        assert found.mean_by_position[place] == pytest.approx(mean, abs=1e-6)
    assert found.kruskal_h == pytest.approx(value["kruskal_h"], abs=1e-6)
    assert p_close(found.kruskal_p, value["kruskal_p"])
