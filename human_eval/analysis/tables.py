"""The tidy tables that a study hands over to the analysis: their columns, read and checked in one place.

One row an answer. `item` is what was rated (a prompt or class), `model` who made it; ids are text.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, NoReturn, cast

import numpy as np
import pandas as pd

from cogvideo.errors import UserError

Kind = Literal["text", "number", "whole", "truth"]
NONE = "none"
SHOWN_SEPARATOR = "|"
RANKING_SEPARATOR = ">"
# The pseudonyms that `human simulate` gives.
SIMULATED = re.compile(r"s-[0-9a-f]{10}")


@dataclass(frozen=True)
class Column:
    """One column: what it holds, whether it may be missing, and the only values it may have (if any)."""

    name: str
    kind: Kind
    meaning: str
    required: bool = True
    values: tuple[str, ...] = ()


RATER = Column("rater", "text", "pseudonym of the rater")
ITEM = Column("item", "text", "what was rated: a prompt or class; empty for a question about the whole study")
MODEL = Column("model", "text", "model that made the video")
QUESTION = Column("question", "text", "which question of the study; absent where there is one", required=False)
TRIAL = Column("trial", "whole", "place of the trial in the rater's session, from 1", required=False)

SCHEMAS: dict[str, tuple[Column, ...]] = {
    "ratings": (
        RATER,
        ITEM,
        MODEL,
        Column("aspect", "text", "what was judged, e.g. motion_realism"),
        Column("score", "number", "the answer on the aspect's scale"),
        Column("position", "whole", "place on the screen or in the order, from 1", required=False),
        TRIAL,
    ),
    "favourites": (
        RATER,
        ITEM,
        Column("shown", "text", "models on the screen in their order, parted by |"),
        Column("choice", "text", "the chosen model, or none"),
        QUESTION,
        TRIAL,
    ),
    "pairs": (
        RATER,
        ITEM,
        Column("model_a", "text", "model shown first"),
        Column("model_b", "text", "model shown second"),
        Column("winner", "text", "a, b or tie; none if both were called bad", values=("a", "b", "tie", NONE)),
        Column("strength", "number", "strength of the preference for a, negative for b", required=False),
        QUESTION,
        TRIAL,
    ),
    "rankings": (
        RATER,
        ITEM,
        Column("ranking", "text", "models from best to worst, parted by >"),
        QUESTION,
        TRIAL,
    ),
    "checks": (
        RATER,
        Column("check", "text", "id of the check"),
        Column("kind", "text", "gold, trap, instructed or repeat", values=("gold", "trap", "instructed", "repeat")),
        Column("passed", "truth", "whether the rater passed it"),
    ),
    "timing": (
        RATER,
        ITEM,
        Column("response_seconds", "number", "from the start of the trial to the answer"),
        Column("video_seconds", "number", "length of one video of the trial"),
        Column("played_fraction", "number", "share of the videos that was played", required=False),
        TRIAL,
    ),
    "metrics": (
        MODEL,
        Column("item", "text", "the item that the value is about; empty for a value of the whole model"),
        Column("metric", "text", "name of the automatic metric"),
        Column("value", "number", "its value"),
        Column("direction", "text", "higher or lower: which is better", values=("higher", "lower")),
        Column("low", "number", "low end of the value's 95 % interval in the run", required=False),
        Column("high", "number", "high end of it", required=False),
    ),
}
KEYS: dict[str, tuple[str, ...]] = {
    "ratings": ("rater", "item", "model", "aspect"),
    "checks": ("rater", "check"),
    "metrics": ("model", "item", "metric"),
}


@dataclass(frozen=True)
class StudyTables:
    """All answers of one study; a table that the study does not have is empty.

    `scales`: lowest and highest score of each aspect. `models`: their order in every result (found in the tables if
    empty).
    """

    ratings: pd.DataFrame = field(default_factory=lambda: empty("ratings"))
    favourites: pd.DataFrame = field(default_factory=lambda: empty("favourites"))
    pairs: pd.DataFrame = field(default_factory=lambda: empty("pairs"))
    rankings: pd.DataFrame = field(default_factory=lambda: empty("rankings"))
    checks: pd.DataFrame = field(default_factory=lambda: empty("checks"))
    timing: pd.DataFrame = field(default_factory=lambda: empty("timing"))
    metrics: pd.DataFrame = field(default_factory=lambda: empty("metrics"))
    scales: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    models: tuple[str, ...] = ()

    def checked(self) -> StudyTables:
        """The same tables, each column checked and in its type, rows sorted, models listed. Raises UserError."""
        tables = {name: check_table(name, getattr(self, name)) for name in SCHEMAS}
        for aspect, (low, high) in self.scales.items():
            scores = tables["ratings"].loc[tables["ratings"]["aspect"] == aspect, "score"]
            outside = scores[(scores < low) | (scores > high)]
            if len(outside):
                raise UserError(
                    f"table ratings: scores of {aspect!r} go from {low:g} to {high:g}, but {outside.iloc[0]:g} stands "
                    f"in row {outside.index[0] + 1}; correct the score or the scale in the study"
                )
        seen = _models(tables)
        strangers = [model for model in seen if self.models and model not in self.models]
        if strangers:
            raise UserError(f"the answers name model {strangers[0]!r}, but the study has {', '.join(self.models)}")
        # Sums depend on their order in the last digit. Pairs keep theirs: Elo shows what it would change.
        for name in tables.keys() - {"pairs"}:
            columns = [column.name for column in SCHEMAS[name] if column.name in tables[name].columns]
            tables[name] = tables[name].sort_values(columns, kind="stable", ignore_index=True)
        return replace(self, models=self.models or tuple(seen), **cast(dict[str, Any], tables))

    def raters(self) -> list[str]:
        """Everybody who answered anything, sorted."""
        names: set[str] = set()
        for name, columns in SCHEMAS.items():
            if columns[0] is RATER:
                names.update(getattr(self, name)["rater"].tolist())
        return sorted(names)

    @property
    def n_simulated(self) -> int:
        """How many of them are no persons: `human simulate` names them so."""
        return sum(SIMULATED.fullmatch(name) is not None for name in self.raters())

    def without(self, raters: Sequence[str]) -> StudyTables:
        """The tables without the rows of these raters."""
        kept = {
            name: getattr(self, name)[~getattr(self, name)["rater"].isin(list(raters))].reset_index(drop=True)
            for name, columns in SCHEMAS.items()
            if columns[0] is RATER
        }
        return replace(self, **kept)


TABLES = tuple(f.name for f in fields(StudyTables) if f.name in SCHEMAS)


def empty(name: str) -> pd.DataFrame:
    """A table without rows, with its required columns."""
    return pd.DataFrame({column.name: [] for column in SCHEMAS[name] if column.required})


def check_table(name: str, table: pd.DataFrame, where: str = "") -> pd.DataFrame:
    """The known columns of a table in their types; more columns are left out.

    Raises UserError, in one line, for a missing column, a value that its column cannot hold, or an answer given twice.
    """
    place = where or f"table {name}"
    missing = [column.name for column in SCHEMAS[name] if column.required and column.name not in table.columns]
    if missing:
        wanted = ", ".join(column.name for column in SCHEMAS[name] if column.required)
        raise UserError(f"{place} needs the columns {wanted}; {missing[0]!r} is missing")
    known = {
        column.name: _typed(place, column, table[column.name])
        for column in SCHEMAS[name]
        if column.name in table.columns
    }
    out = pd.DataFrame(known)
    keys = list(KEYS.get(name, ()))
    if keys:
        again = out.duplicated(keys)
        if again.any():
            row = int(np.flatnonzero(again)[0])
            answer = ", ".join(f"{key} {out[key].iloc[row]}" for key in keys)
            raise UserError(f"{place}: row {row + 1} answers a second time ({answer}); keep the answer that counts")
    _check_choices(place, name, out)
    return out


def read_tables(folder: Path, *, scales: Mapping[str, tuple[float, float]] | None = None) -> StudyTables:
    """The tables of a folder: `ratings.csv`, `favourites.csv` and so on, those that are there. Raises UserError."""
    found = {}
    for name in TABLES:
        path = folder / f"{name}.csv"
        if path.is_file():
            try:
                raw = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8")
            except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
                raise UserError(f"{path} is no readable CSV table: {error}; export it again") from None
            found[name] = check_table(name, raw, str(path))
    if not found:
        raise UserError(f"{folder} has none of {', '.join(f'{name}.csv' for name in TABLES)}; export the study first")
    return StudyTables(scales=dict(scales or {}), **cast(dict[str, Any], found)).checked()


def _typed(place: str, column: Column, values: pd.Series) -> pd.Series:
    """The column in its type. One cell at a time, so that it means the same in every version of pandas."""
    cells = values.tolist()
    if column.kind == "text":
        made: list[object] = [_text(place, column, row, cell) for row, cell in enumerate(cells)]
        return pd.Series(made, dtype=object)
    if column.kind == "truth":
        return pd.Series([_truth(place, column, row, cell) for row, cell in enumerate(cells)], dtype=bool)
    return pd.Series([_number(place, column, row, cell) for row, cell in enumerate(cells)], dtype=float)


def _text(place: str, column: Column, row: int, cell: object) -> str:
    text = "" if _blank(cell) else str(cell)
    if column.values and text not in column.values:
        _refuse(place, column, row, cell, f"one of {', '.join(column.values)}")
    if not text and column.required and column.name != "item":
        _refuse(place, column, row, cell, "some text")
    return text


def _truth(place: str, column: Column, row: int, cell: object) -> bool:
    known = {"true": True, "1": True, "false": False, "0": False}
    text = str(cell).lower()
    if text not in known:
        _refuse(place, column, row, cell, "true or false")
    return known[text]


def _number(place: str, column: Column, row: int, cell: object) -> float:
    if _blank(cell) and not column.required:
        return math.nan
    try:
        number = float(str(cell))
    except ValueError:
        number = math.nan
    if not math.isfinite(number) or (column.kind == "whole" and not number.is_integer()):
        _refuse(place, column, row, cell, "a whole number" if column.kind == "whole" else "a number")
    return number


def _blank(cell: object) -> bool:
    return cell is None or cell is pd.NA or cell == "" or (isinstance(cell, float) and math.isnan(cell))


def _refuse(place: str, column: Column, row: int, cell: object, wanted: str) -> NoReturn:
    raise UserError(f"{place}: {column.name} in row {row + 1} must be {wanted}, got {str(cell)!r}")


def _check_choices(place: str, name: str, table: pd.DataFrame) -> None:
    """Choices and rankings must be about the models that were shown."""
    if name == "favourites":
        for row, (shown, choice) in enumerate(zip(table["shown"], table["choice"], strict=True)):
            if choice != NONE and choice not in shown.split(SHOWN_SEPARATOR):
                raise UserError(f"{place}: row {row + 1} chooses {choice!r}, but {shown!r} was shown")
    elif name == "pairs":
        same = table["model_a"] == table["model_b"]
        if same.any():
            row = int(np.flatnonzero(same.to_numpy())[0])
            raise UserError(f"{place}: row {row + 1} compares {table['model_a'].iloc[row]!r} with itself")
    elif name == "rankings":
        for row, ranking in enumerate(table["ranking"]):
            names = ranking.split(RANKING_SEPARATOR)
            if len(names) < 2 or len(set(names)) != len(names) or "" in names:
                raise UserError(f"{place}: row {row + 1} must rank two or more different models, got {ranking!r}")


def _models(tables: Mapping[str, pd.DataFrame]) -> list[str]:
    """Models in the order of their names, from every kind of answer (metrics may know more models than the study)."""
    names: set[str] = set(tables["ratings"]["model"])
    for shown in tables["favourites"]["shown"].unique():
        names.update(shown.split(SHOWN_SEPARATOR))
    names.update(tables["pairs"]["model_a"], tables["pairs"]["model_b"])
    for ranking in tables["rankings"]["ranking"].unique():
        names.update(ranking.split(RANKING_SEPARATOR))
    return sorted(names)
