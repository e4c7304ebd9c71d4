"""Tidy tables: what is accepted, and the one line that says what is wrong with the rest."""

import pandas as pd
import pytest

from cogvideo.errors import UserError
from human_eval.analysis.tables import SCHEMAS, StudyTables, check_table, empty, read_tables

RATING = {"rater": "r1", "item": "i1", "model": "m1", "aspect": "motion", "score": 4}


def ratings(*rows):
    return pd.DataFrame([RATING | row for row in rows])


def test_types_and_order_are_made_whole():
    table = check_table(
        "ratings", ratings({"score": "3", "position": "2", "surplus": 1}, {"item": "i2", "position": None})
    )
    assert list(table.columns) == ["rater", "item", "model", "aspect", "score", "position"]
    assert table["score"].tolist() == [3.0, 4.0]
    assert table["position"].isna().tolist() == [False, True]


@pytest.mark.parametrize(
    ("name", "rows", "words"),
    [
        ("ratings", [{"score": "good"}], "score in row 1 must be a number, got 'good'"),
        ("ratings", [{"score": float("inf")}], "score in row 1 must be a number"),
        ("ratings", [{"position": 1.5}], "position in row 1 must be a whole number"),
        ("ratings", [{}, {"score": 2}], "row 2 answers a second time (rater r1, item i1, model m1, aspect motion)"),
        ("ratings", [{"model": ""}], "model in row 1 must be some text"),
        ("favourites", [{"shown": "m1|m2", "choice": "m3"}], "row 1 chooses 'm3', but 'm1|m2' was shown"),
        ("pairs", [{"model_a": "x", "model_b": "x", "winner": "a"}], "row 1 compares 'x' with itself"),
        ("pairs", [{"model_a": "x", "model_b": "y", "winner": "A"}], "winner in row 1 must be one of a, b, tie, none"),
        ("rankings", [{"ranking": "a>b>a"}], "row 1 must rank two or more different models"),
        ("checks", [{"check": "g", "kind": "gold", "passed": "perhaps"}], "passed in row 1 must be true or false"),
    ],
)
def test_wrong_cells_are_named_by_row(name, rows, words):
    with pytest.raises(UserError) as error:
        check_table(name, ratings(*rows))
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_missing_column():
    with pytest.raises(UserError, match=r"needs the columns rater, item, model, aspect, score; 'aspect' is missing"):
        check_table("ratings", pd.DataFrame([RATING]).drop(columns="aspect"))


def test_scores_outside_their_scale_and_unknown_models():
    with pytest.raises(UserError, match="scores of 'motion' go from 1 to 3, but 4 stands in row 1"):
        StudyTables(ratings=ratings({}), scales={"motion": (1, 3)}).checked()
    with pytest.raises(UserError, match="name model 'm1', but the study has m2"):
        StudyTables(ratings=ratings({}), models=("m2",)).checked()


def test_models_come_from_every_kind_of_answer():
    tables = StudyTables(
        ratings=ratings({}),
        favourites=pd.DataFrame([{"rater": "r", "item": "i", "shown": "m4|m2", "choice": "none"}]),
        pairs=pd.DataFrame([{"rater": "r", "item": "i", "model_a": "m9", "model_b": "m3", "winner": "tie"}]),
        rankings=pd.DataFrame([{"rater": "s", "item": "", "ranking": "m5>m1"}]),
    ).checked()
    assert tables.models == ("m1", "m2", "m3", "m4", "m5", "m9")
    assert tables.raters() == ["r", "r1", "s"]
    assert tables.without(["r", "r1"]).raters() == ["s"]


def test_files_keep_names_that_look_like_nothing(tmp_path):
    """A rater called NA, a model called None, a score with a comma inside quotes."""
    rows = ratings({"rater": "NA", "model": "None"}, {"rater": "nan", "model": "a,b"})
    rows.to_csv(tmp_path / "ratings.csv", index=False)
    found = read_tables(tmp_path)
    assert found.ratings["rater"].tolist() == ["NA", "nan"]
    assert found.models == ("None", "a,b")


def test_folder_without_tables(tmp_path):
    with pytest.raises(UserError, match=r"has none of ratings\.csv"):
        read_tables(tmp_path)


def test_unreadable_table(tmp_path):
    (tmp_path / "ratings.csv").write_text("")
    with pytest.raises(UserError, match="is no readable CSV table"):
        read_tables(tmp_path)


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_table_may_be_empty(name):
    assert len(check_table(name, empty(name))) == 0
