"""Plans: formulas against simulation and definitions, and the simulated outlook against what must hold."""

import numpy as np
import pytest
from scipy import stats

from cogvideo.errors import UserError
from human_eval.analysis.plan import outlook, raters_needed
from human_eval.analysis.planning import mean_n, paired_t_n, paired_t_power, share_n, sign_test_power, two_shares_n
from human_eval.analysis.shares import wilson
from human_eval.analysis.simulation import Design, Spread, favourites_of, simulate_latent


def test_paired_t_power_is_that_of_the_test():
    d = np.random.default_rng(0).normal(0.4, 1, size=(20_000, 30))
    t = d.mean(1) / (d.std(1, ddof=1) / np.sqrt(30))
    share = (np.abs(t) > stats.t.ppf(0.975, 29)).mean()
    assert paired_t_power(30, 0.4) == pytest.approx(share, abs=0.01)
    assert paired_t_n(-0.4) == paired_t_n(0.4)


def test_sign_test_power_counts_the_outcomes_that_reject():
    n, p = 25, 0.7
    rejecting = [k for k in range(n + 1) if 2 * min(stats.binom.cdf(k, n, 0.5), stats.binom.sf(k - 1, n, 0.5)) <= 0.05]
    assert sign_test_power(n, p) == pytest.approx(stats.binom.pmf(rejecting, n, p).sum())
    assert sign_test_power(3, 0.9) == 0


def test_sizes_reach_their_width_and_one_less_does_not():
    n = mean_n(1.3, 0.25)[1]
    assert stats.t.ppf(0.975, n - 1) * 1.3 / np.sqrt(n) <= 0.25 < stats.t.ppf(0.975, n - 2) * 1.3 / np.sqrt(n - 1)
    low, high = wilson(share_n(0.3, 0.05) * 0.3, share_n(0.3, 0.05))
    assert (high - low) / 2 == pytest.approx(0.05, abs=0.001)
    assert two_shares_n(0.5, 0.4) == two_shares_n(0.4, 0.5)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: paired_t_n(0.0), "difference of zero"),
        (lambda: paired_t_n(1e-5), "plan for a larger one"),
        (lambda: paired_t_n(0.3, power=1.2), "0 < alpha < power < 1"),
        (lambda: two_shares_n(0.4, 0.4), "equal shares"),
        (lambda: mean_n(1, 0), "above zero"),
        (lambda: outlook(Design(1, 10)), "at least 2 raters"),
        (lambda: outlook(Design(9, 10, items_each=11)), "1 to 10 items"),
        (lambda: outlook(Design(9, 10, scale=(5, 1))), "from low to high"),
        (lambda: outlook(Design(9, 10), simulations=1), "at least 2 simulated"),
        (lambda: raters_needed(Design(9, 10)), "not both"),
    ],
)
def test_impossible_plans_are_refused(call, words):
    with pytest.raises(UserError, match=words):
        call()


def test_outlook_is_repeatable_and_honest():
    design = Design(24, 10, models=3)
    found = outlook(design, simulations=100, seed=3)
    assert found == outlook(design, simulations=100, seed=3)
    assert found != outlook(design, simulations=100, seed=4)
    assert found.naive_coverage < 0.75 < 0.88 < found.coverage
    assert found.power_all_pairs <= found.power
    assert found.true_difference == pytest.approx(0.3, abs=0.02)


def test_no_difference_is_seldom_found():
    found = outlook(Design(24, 12), effect=0.0, simulations=300)
    assert found.power < 0.05 + 2.6 * np.sqrt(0.05 * 0.95 / 300)
    assert found.true_difference == 0


def test_more_raters_and_more_items_help():
    few, many = (outlook(Design(n, 20), simulations=40) for n in (10, 80))
    assert many.half_width_difference < few.half_width_difference
    narrow, wide = (outlook(Design(40, n), simulations=40) for n in (6, 60))
    assert wide.half_width_mean < narrow.half_width_mean


def test_raters_needed_is_the_threshold():
    design = Design(2, 30)
    need = raters_needed(design, half_width=0.2, simulations=40)
    assert need.outlook.half_width_difference <= 0.2
    fewer = outlook(Design(need.raters - 1, 30), simulations=40)
    assert fewer.half_width_difference > 0.2


def test_few_items_cannot_be_outweighed_by_raters():
    need = raters_needed(Design(2, 6), half_width=0.05, simulations=20, most=200)
    assert need.raters is None
    assert "show more items" in need.reason


def test_windows_of_items_come_equally_often():
    shown = Design(30, 12, items_each=4).shown()
    assert set(shown.sum(1)) == {4}
    assert set(shown.sum(0)) == {10}


def test_every_rater_has_one_favourite_an_item():
    design = Design(20, 8, models=4)
    votes = favourites_of(simulate_latent(design, [3, 3, 3, 3.5], Spread(), np.random.default_rng(0)), design)
    assert (votes.sums.sum(0) == 1).all()
    assert votes.means().argmax() == 3
