"""Screening of planted raters, the two decisions, BT.500, and the rater model on ratings with known truth."""

import numpy as np
import pandas as pd
import pytest

from human_eval.analysis.bt500 import bt500
from human_eval.analysis.rater_model import p910, p913
from human_eval.analysis.screening import ScreeningRules, correlations, screen


@pytest.fixture
def scores():
    """Twelve honest raters on 40 units, scores 1 to 5."""
    rng = np.random.default_rng(2)
    latent = 3 + rng.normal(size=40) + 0.3 * rng.normal(size=(12, 1)) + 0.5 * rng.normal(size=(12, 40))
    return pd.DataFrame(np.clip(np.round(latent), 1, 5), index=[f"r{n:02}" for n in range(12)])


def test_honest_raters_stay(scores):
    assert screen(scores).excluded == {}


def test_planted_raters_go_by_their_rule(scores):
    scores.loc["flat"] = 3.0
    scores.loc["upside"] = 6 - scores.loc["r00"]
    scores.loc["copy"] = scores.loc["r01"]
    checks = pd.DataFrame(
        [(name, name != "r02" or n == 0) for name in scores.index for n in range(3)], columns=["rater", "passed"]
    )
    timing = pd.DataFrame(
        [(name, 1.0 if name == "r03" else 9.0, 4.0) for name in scores.index for _ in range(5)],
        columns=["rater", "response_seconds", "video_seconds"],
    )
    found = screen(scores, checks=checks, timing=timing)
    assert found.excluded == {
        "flat": ("straightliner",),
        "r02": ("gold",),
        "r03": ("speeder",),
        "upside": ("correlation",),
    }
    assert found.duplicates == [["copy", "r01"]]
    assert found.raters["copy"].use
    assert found.raters["copy"].flags == ("duplicate",)


def test_payment_depends_on_checks_alone(scores):
    """Disagreeing is no breach; one failed check is not enough to refuse."""
    scores.loc["upside"] = 6 - scores.loc["r00"]
    checks = pd.DataFrame([("r01", False), ("r02", False), ("r02", False), ("r02", True)], columns=["rater", "passed"])
    found = screen(scores, checks=checks).raters
    assert (found["upside"].use, found["upside"].accept) == (False, True)
    assert (found["r01"].use, found["r01"].accept) == (False, True)
    assert (found["r02"].use, found["r02"].accept) == (False, False)


def test_rules_can_be_set(scores):
    scores.loc["flat"] = 3.0
    assert screen(scores, rules=ScreeningRules(excluding=())).excluded == {}
    assert "limit" not in ScreeningRules().words()["gold"]
    strict = screen(scores, rules=ScreeningRules(least_correlation=0.999))
    assert len(strict.excluded) == 13


def test_answering_by_aspect_alone_is_straight_lining(scores):
    """Threes for one aspect and fives for the other vary, but say nothing."""
    both = pd.concat([scores.add_prefix("a"), (scores.clip(1, 4) + 1).add_prefix("b")], axis=1)
    aspects = ["a"] * 40 + ["b"] * 40
    both.loc["flat"] = [2.0] * 40 + [5.0] * 40
    assert screen(both, aspects=aspects).excluded == {"flat": ("straightliner",)}
    assert "straightliner" not in screen(both).raters["flat"].flags


def test_leave_one_out_leaves_the_rater_out(scores):
    table = scores.to_numpy(copy=True)
    alone, together = correlations(table)
    assert alone[4] == pytest.approx(np.corrcoef(table[4], np.delete(table, 4, 0).mean(0))[0, 1])
    assert together[4] == pytest.approx(np.corrcoef(table[4], table.mean(0))[0, 1])
    table[4, 7] = np.nan
    seen = np.isfinite(table[4])
    others = np.nanmean(np.delete(table, 4, 0), axis=0)
    assert correlations(table)[0][4] == pytest.approx(np.corrcoef(table[4][seen], others[seen])[0, 1])


def test_raters_without_scores_are_listed(scores):
    found = screen(pd.DataFrame(), raters=["late"])
    assert found.raters["late"].use
    assert found.raters["late"].variance is None
    assert screen(scores, raters=["late"]).raters["late"].n == 0


def test_bt500_rejects_the_erratic_and_not_the_strict():
    rng = np.random.default_rng(0)
    table = rng.normal(size=(100, 60))
    erratic, strict = table.copy(), table.copy()
    erratic[0] = np.where(np.arange(60) % 2, -3, 3)
    strict[0] = -3
    assert bt500(erratic)[0].rejected
    assert sum(one.rejected for one in bt500(erratic)[1:]) <= sum(one.rejected for one in bt500(table))
    assert not bt500(strict)[0].rejected
    assert bt500(strict)[0].ratio2 == 1
    assert all(one.p == one.q == 0 for one in bt500(np.full((4, 5), 3.0)))


def test_rater_model_finds_what_was_planted():
    rng = np.random.default_rng(1)
    quality, bias = rng.normal(3, 1, 300), rng.normal(0, 0.5, 15)
    noise = np.linspace(0.2, 1.5, 15)
    table = quality + bias[:, None] + noise[:, None] * rng.normal(size=(15, 300))
    found = p910(table)
    bias -= bias.mean()
    assert found.converged
    assert found.corrected
    assert found.inconsistency == pytest.approx(noise, rel=0.15)
    assert found.bias == pytest.approx(bias, abs=0.2)
    error = found.quality - quality
    plain = table.mean(0) - quality
    assert (error - error.mean()).std() < 0.6 * (plain - plain.mean()).std()
    assert (error - error.mean()).std() == pytest.approx(found.quality_se.mean(), rel=0.15)


def test_rater_model_with_holes_takes_bias_off_the_units_that_a_rater_saw():
    quality = np.array([1.0, 2, 3, 4, 5, 6])
    table = np.tile(quality, (3, 1)) + np.array([[1.0], [0], [-1]])
    table[0, :3] = np.nan
    found = p910(table)
    assert np.diff(found.quality) == pytest.approx(np.ones(5), abs=1e-3)
    assert found.bias == pytest.approx([1, 0, -1], abs=1e-3)
    plain, _ = p913(table)
    assert np.isfinite(plain).all()
    assert np.isnan(p910(np.array([[1.0, np.nan], [2.0, np.nan]])).quality[1])
