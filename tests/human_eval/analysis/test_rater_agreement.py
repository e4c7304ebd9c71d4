"""Agreement coefficients: exact cases, invariances, known variance shares, weights against repeated units."""

import numpy as np
import pytest
from scipy import stats

from human_eval.analysis.agreement import SCALES, krippendorff_alpha, unit_counts
from human_eval.analysis.icc import intra_class
from human_eval.analysis.kappa import cohen_kappa, fleiss_kappa, kappa_interval, kendall_w, mean_pairwise_spearman
from human_eval.analysis.resampling import group_weights


@pytest.fixture
def ratings():
    rng = np.random.default_rng(5)
    table = np.clip(np.round(3 + rng.normal(size=30) + 0.7 * rng.normal(size=(6, 30))), 1, 5)
    table[rng.random(table.shape) < 0.2] = np.nan
    return table


@pytest.mark.parametrize("scale", SCALES)
def test_alpha_of_perfect_agreement_is_one_and_of_noise_near_zero(scale):
    same = np.tile(np.arange(1, 11.0), (4, 1))
    assert krippendorff_alpha(same, scale, resamples=0).value == pytest.approx(1)
    noise = np.random.default_rng(0).integers(1, 6, size=(8, 2000)).astype(float)
    assert abs(krippendorff_alpha(noise, scale, resamples=0).value) < 0.02


def test_interval_alpha_is_one_minus_pairs_within_over_pairs_anywhere(ratings):
    """Straight from the definition, pair by pair."""
    columns = [column[np.isfinite(column)] for column in ratings.T if np.isfinite(column).sum() > 1]
    every = np.concatenate(columns)
    within = sum(((c[:, None] - c) ** 2).sum() / (len(c) - 1) for c in columns) / len(every)
    anywhere = ((every[:, None] - every) ** 2).sum() / (len(every) * (len(every) - 1))
    found = krippendorff_alpha(ratings, "interval", resamples=0)
    assert found.value == pytest.approx(1 - within / anywhere)
    assert found.ratings == len(every)


def test_alpha_invariances(ratings):
    turned = ratings[::-1, ::-1]
    for scale in SCALES:
        same = krippendorff_alpha(ratings, scale, resamples=0).value
        assert krippendorff_alpha(turned, scale, resamples=0).value == pytest.approx(same)
    for scale, change in (("interval", lambda x: 10 - 2 * x), ("ordinal", np.exp), ("ratio", lambda x: 3 * x)):
        same = krippendorff_alpha(ratings, scale, resamples=0).value
        assert krippendorff_alpha(change(ratings), scale, resamples=0).value == pytest.approx(same)


@pytest.mark.parametrize("scale", SCALES)
def test_alpha_bootstrap_is_alpha_of_drawn_units(ratings, scale):
    found = krippendorff_alpha(ratings, scale, resamples=6, seed=2)
    weights = group_weights(found.units, 6, 2, "units").astype(int)
    pairable = ratings[:, np.isfinite(ratings).sum(0) > 1]
    drawn = [krippendorff_alpha(np.repeat(pairable, w, axis=1), scale, resamples=0).value for w in weights]
    assert found.interval.se == pytest.approx(np.std(drawn, ddof=1))


def test_alpha_without_anything_to_compare():
    assert krippendorff_alpha([[1, np.nan], [np.nan, 2]]).reason == "no unit has two ratings"
    assert krippendorff_alpha([[2, 2], [2, 2]]).reason == "all ratings are the same"


def test_icc_finds_the_shares_it_is_made_of():
    """Units 1, raters 0.5, rest 0.25 of variance: agreement 1/1.75, consistency 1/1.25, in most intervals."""
    inside = {"ICC(A,1)": 0, "ICC(C,1)": 0, "ICC(A,k)": 0}
    truth = {"ICC(A,1)": 1 / 1.75, "ICC(C,1)": 1 / 1.25, "ICC(A,k)": 1 / (1 + 0.75 / 12)}
    for seed in range(200):
        rng = np.random.default_rng(seed)
        table = rng.normal(size=(40, 1)) + 0.5**0.5 * rng.normal(size=(1, 12)) + 0.5 * rng.normal(size=(40, 12))
        found = intra_class(table).coefficients
        for name, value in truth.items():
            low, high = found[name].interval.ends
            inside[name] += low <= value <= high
    assert all(0.9 < hits / 200 <= 1 for hits in inside.values()), inside


def test_icc_leaves_out_units_with_holes():
    table = np.random.default_rng(0).normal(size=(20, 3)) + np.arange(20)[:, None]
    holed = np.vstack([table, [1, np.nan, 2]])
    found = intra_class(holed)
    assert (found.units, found.left_out_units) == (20, 1)
    assert found.coefficients == intra_class(table).coefficients
    assert intra_class(np.ones((5, 3))).reason == "the raters do not differ at all"
    assert intra_class([[1, 2]]).coefficients == {}


def test_fleiss_of_two_raters_is_scotts_pi():
    rng = np.random.default_rng(1)
    first = rng.integers(0, 3, 200)
    second = np.where(rng.random(200) < 0.6, first, rng.integers(0, 3, 200))
    _, counts = unit_counts(np.array([first, second], dtype=float))
    share = np.bincount(np.r_[first, second]) / 400
    chance = (share**2).sum()
    assert fleiss_kappa(counts) == pytest.approx(((first == second).mean() - chance) / (1 - chance))
    assert fleiss_kappa(counts, "randolph") == pytest.approx(((first == second).mean() - 1 / 3) / (2 / 3))
    low, high = kappa_interval(counts, resamples=500).ends
    assert low < fleiss_kappa(counts) < high


def test_cohen_of_the_same_and_of_nothing():
    assert cohen_kappa([1, 2, 3], [1, 2, 3], "quadratic") == pytest.approx(1)
    assert np.isnan(cohen_kappa([1, 1], [1, 1]))
    assert cohen_kappa([1, 2, np.nan], [1, 2, 3]) == pytest.approx(1)


def test_kendall_w_and_mean_spearman_say_the_same_without_ties():
    table = np.random.default_rng(3).normal(size=(5, 8)) + np.arange(8)
    w = kendall_w(table)
    assert mean_pairwise_spearman(table) == pytest.approx((5 * w - 1) / 4)
    pairs = [stats.spearmanr(table[a], table[b]).statistic for a in range(5) for b in range(a)]
    assert mean_pairwise_spearman(table) == pytest.approx(np.mean(pairs))
    table[0, 0] = np.nan
    pairs = [stats.spearmanr(table[a], table[b], nan_policy="omit").statistic for a in range(5) for b in range(a)]
    assert mean_pairwise_spearman(table) == pytest.approx(np.mean(pairs))
    assert kendall_w(np.tile([1, 2, 3], (4, 1))) == pytest.approx(1)
