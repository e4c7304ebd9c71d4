"""What a place on the screen adds to a score, against a planted effect, and under models that stand unevenly."""

import numpy as np
import pandas as pd
import pytest

from human_eval.analysis.analyze import AnalysisSettings, analyze_tables
from human_eval.analysis.findings import Resampling
from human_eval.analysis.rank_tests import position_effect
from human_eval.analysis.tables import StudyTables
from human_eval.analysis.write import tables_of

QUALITY = np.array([4.0, 3.0, 2.0])


def placed(rng, planted, *, raters=20, items=9, noise=0.3, turn=True):
    """Three models at three places; each rater and prompt has a level of its own. `turn`: places rotate."""
    rater_R, item_I = rng.normal(0, 0.5, raters), rng.normal(0, 0.5, items)
    rows = []
    for r in range(raters):
        for i in range(items):
            for m in range(3):
                place = (m + r + i) % 3 if turn or rng.random() < 0.3 else m
                score = QUALITY[m] + rater_R[r] + item_I[i] + planted[place] + rng.normal(0, noise)
                rows.append((f"r{r:02d}", f"i{i}", f"m{m}", score, place + 1.0))
    return pd.DataFrame(rows, columns=["rater", "item", "model", "score", "position"])


def test_a_planted_effect_is_found_and_sums_to_nothing():
    planted = np.array([0.4, 0.0, -0.4])
    found = position_effect(placed(np.random.default_rng(0), planted))
    assert sum(found.effect_by_position.values()) == pytest.approx(0, abs=1e-12)
    for place, truth in zip(("1", "2", "3"), planted, strict=True):
        low, high = found.interval_by_position[place].ends
        assert low < truth < high
        assert low <= found.effect_by_position[place] <= high
    assert found.interval_by_position["1"].low > 0 > found.interval_by_position["3"].high


def test_the_interval_holds_nothing_as_often_as_it_says():
    rng = np.random.default_rng(1)
    inside = 0
    for _ in range(120):
        low, high = position_effect(placed(rng, np.zeros(3), raters=8, items=6)).interval_by_position["1"].ends
        inside += low <= 0 <= high
    assert 105 <= inside <= 120


def test_a_good_model_at_one_place_is_no_effect_of_the_place():
    table = placed(np.random.default_rng(2), np.zeros(3), turn=False)
    found = position_effect(table)
    assert found.mean_by_position["1"] - found.mean_by_position["3"] > 0.7
    assert abs(found.effect_by_position["1"]) < 0.1


def test_the_table_of_places_is_the_result():
    table = placed(np.random.default_rng(3), np.array([0.3, 0.0, 0.0]), raters=4, items=3).assign(aspect="motion")
    result = analyze_tables(StudyTables(ratings=table), AnalysisSettings(Resampling(50)))
    found = result.analysed.aspects["motion"].position
    rows = [row for row in tables_of(result)["positions"] if row["raters"] == "analysed"]
    assert [row["position"] for row in rows] == ["1", "2", "3"]
    assert [row["effect"] for row in rows] == list(found.effect_by_position.values())
    assert [row["low"] for row in rows] == [one.low for one in found.interval_by_position.values()]
    assert [row["n"] for row in rows] == list(found.n_by_position.values())
