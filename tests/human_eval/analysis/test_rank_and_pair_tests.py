"""Tests on rater means against scipy, adjusted p against their definitions, the mixed model against variances."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from human_eval.analysis.corrections import adjust
from human_eval.analysis.mixed_model import mixed_model
from human_eval.analysis.rank_tests import friedman, pair_tests, position_effect, rater_means, wilcoxon


def test_wilcoxon_is_scipys_without_continuity():
    rng = np.random.default_rng(0)
    for _ in range(5):
        d = np.round(rng.normal(0.3, 1, 80), 1)
        theirs = stats.wilcoxon(d[d != 0])  # above 50 values it takes the normal approximation by itself
        statistic, p, effect = wilcoxon(d)
        assert statistic == pytest.approx(theirs.statistic)
        assert p == pytest.approx(theirs.pvalue)
        assert -1 <= effect <= 1
    assert wilcoxon([1, 2, 3])[2] == 1
    assert all(np.isnan(wilcoxon([0.0, 0.0])))


def test_paired_t_is_scipys_and_families_are_adjusted():
    table = np.random.default_rng(1).normal([0.0, 0.3, 0.6], size=(30, 3))
    found = pair_tests(table, ["a", "b", "c"])
    assert [(one.first, one.second) for one in found] == [("a", "b"), ("a", "c"), ("b", "c")]
    theirs = stats.ttest_rel(table[:, 0], table[:, 1])
    assert (found[0].t, found[0].t_p) == pytest.approx((theirs.statistic, theirs.pvalue))
    assert found[0].dz == pytest.approx(found[0].t / np.sqrt(30))
    assert [one.t_p_holm for one in found] == pytest.approx(adjust([one.t_p for one in found], "holm"))


def test_means_that_differ_in_their_last_digit_are_equal():
    table = np.array([[0.1 + 0.2, 0.3], [0.3, 0.3], [1.0, 2.0]])
    assert pair_tests(table, ["a", "b"])[0].wilcoxon_p == pytest.approx(wilcoxon([-1.0])[1])


def test_friedman_needs_three_models_and_variation():
    table = np.random.default_rng(1).normal(size=(10, 4))
    assert friedman(table).chi2 == pytest.approx(stats.friedmanchisquare(*table.T).statistic)
    assert friedman(table[:, :2]) is None
    assert friedman(np.ones((10, 3))) is None


@pytest.mark.parametrize("correction", ["bonferroni", "holm", "bh", "by"])
def test_adjusted_p_decide_as_the_steps_do(correction):
    rng = np.random.default_rng(4)
    p = rng.random(12) ** 3
    n = len(p)
    order = np.argsort(p)
    factor = sum(1 / k for k in range(1, n + 1)) if correction == "by" else 1
    for alpha in (0.01, 0.05, 0.2):
        if correction == "bonferroni":
            wanted = p <= alpha / n
        elif correction == "holm":
            passed = [p[order[k]] <= alpha / (n - k) for k in range(n)]
            wanted = np.isin(np.arange(n), order[: passed.index(False) if False in passed else n])
        else:
            last = max((k + 1 for k in range(n) if p[order[k]] <= alpha * (k + 1) / (n * factor)), default=0)
            wanted = np.isin(np.arange(n), order[:last])
        assert (adjust(p, correction) <= alpha).tolist() == wanted.tolist()


def test_a_test_that_is_not_possible_is_no_member_of_the_family():
    assert adjust([0.01, np.nan, 0.04], "holm") == pytest.approx([0.02, np.nan, 0.04], nan_ok=True)
    assert len(adjust([], "bh")) == 0


def rows(scores_MRI):
    return pd.DataFrame(
        [(f"r{r:02}", f"i{i:02}", f"m{m}", v) for (m, r, i), v in np.ndenumerate(scores_MRI)],
        columns=["rater", "item", "model", "score"],
    )


def crossed(seed, raters=20, items=12, models=2, rater=0.8, item=1.2):
    rng = np.random.default_rng(seed)
    shape = (models, raters, items)
    out = rng.normal(size=shape) + rater * rng.normal(size=(1, raters, 1)) + item * rng.normal(size=(1, 1, items))
    return out + np.arange(models)[:, None, None] * 0.5


def test_balanced_mixed_model_is_the_analysis_of_variance():
    scores = crossed(7)
    models, raters, items = scores.shape
    found = mixed_model(rows(scores))
    rest = scores - scores.mean((1, 2), keepdims=True)
    by_rater, by_item = rest.mean((0, 2)), rest.mean((0, 1))
    ms_rater = models * items * (by_rater**2).sum() / (raters - 1)
    ms_item = models * raters * (by_item**2).sum() / (items - 1)
    rest = rest - by_rater[None, :, None] - by_item
    ms_rest = (rest**2).sum() / (models * raters * items - models - (raters - 1) - (items - 1))
    assert found.var_residual == pytest.approx(ms_rest, rel=1e-5)
    assert found.var_rater == pytest.approx((ms_rater - ms_rest) / (models * items), rel=1e-4)
    assert found.var_item == pytest.approx((ms_item - ms_rest) / (models * raters), rel=1e-4)
    assert found.fixed["m1"] == pytest.approx(scores[1].mean() - scores[0].mean())
    assert found.se["m1"] == pytest.approx(np.sqrt(2 * ms_rest / (raters * items)), rel=1e-5)
    assert found.rater_share + found.item_share < 1


def test_mixed_model_without_rater_variance_stays_at_the_edge():
    scores = crossed(3, rater=0.0)
    scores -= scores.mean((0, 2), keepdims=True)
    found = mixed_model(rows(scores))
    assert found.var_rater == pytest.approx(0, abs=1e-8)
    assert found.converged


def test_mixed_model_holds_holes_and_refuses_too_little():
    table = rows(crossed(1))
    holed = table.sample(frac=0.7, random_state=0)
    found = mixed_model(holed)
    assert found.n == len(holed)
    assert found.fixed["m1"] == pytest.approx(mixed_model(table).fixed["m1"], abs=0.2)
    plain = mixed_model(table, restricted=False)
    assert plain.var_residual < mixed_model(table).var_residual
    assert mixed_model(table[table["rater"] == "r00"]) is None


def test_position_effect_needs_positions():
    table = rows(crossed(1))
    assert position_effect(table) is None
    placed = table.assign(position=np.arange(len(table)) % 3 + 1.0)
    found = position_effect(placed)
    groups = [one["score"] for _, one in placed.groupby("position")]
    assert found.kruskal_p == pytest.approx(stats.kruskal(*groups).pvalue)
    assert sum(found.n_by_position.values()) == len(table)


def test_rater_means_have_holes_where_nothing_was_rated():
    table = rows(crossed(1, raters=3))
    table = table[~((table["rater"] == "r01") & (table["model"] == "m1"))]
    means = rater_means(table, ["m0", "m1"])
    assert np.isnan(means).tolist() == [[False, False], [False, True], [False, False]]
