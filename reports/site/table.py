"""A table as the pages show it and the exports write it: one printed text a cell, so that all of them say the same."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from eval.notation import MINUS, number
from reports.figures import Mark

Kind = Literal["text", "number"]


# Frozen in all but name: a large board makes a million, and a frozen one takes several times as long.
@dataclass(eq=False)
class Cell:
    """One cell. `text` is what is printed; `value`, `low` and `high` are at full length. `missing` says why in words.

    `two` is a second line; `kind` how the mark is drawn; `leading`: cannot be told apart from the best of its column.
    """

    text: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    low_text: str = ""
    high_text: str = ""
    n: int | None = None
    missing: str = ""
    why: str = ""
    two: str = ""
    href: str = ""
    mark: Mark | None = None
    kind: str = "mute"
    leading: bool = False

    @cached_property
    def interval(self) -> str:
        """`326–351`, `−38.0 to +10.9`, or "" where there is none."""
        if not self.low_text:
            return ""
        signed = MINUS in self.low_text + self.high_text or "+" in self.low_text + self.high_text
        return f"{self.low_text}{' to ' if signed else '–'}{self.high_text}"

    @property
    def spoken(self) -> str:
        """Value, interval and n for those who do not see the bar."""
        words = [self.text]
        if self.low_text:
            words.append(f"95 % interval {self.low_text} to {self.high_text}")
        return ", ".join(words + ([f"n = {self.n:,}"] if self.n is not None else []))


@dataclass(frozen=True)
class Column:
    """A column: the key is its name in CSV and JSON, `note` its second line (direction or unit)."""

    key: str
    label: str
    note: str = ""
    kind: Kind = "text"
    has_interval: bool = False
    direction: str = ""
    href: str = ""


@dataclass(frozen=True)
class Row:
    """Cells by column key. `group`: a rule under it; `data`: what the filters read."""

    id: str
    cells: Mapping[str, Cell]
    group: bool = False
    href: str = ""
    data: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Table:
    """`name` is the file name of its exports; `cite` are BibTeX entries of what stands in it.

    `has_ids`: ids of rows are ids on the page, so that each row has an address.
    """

    name: str
    title: str
    columns: Sequence[Column]
    rows: Sequence[Row]
    note: str = ""
    cite: Sequence[str] = ()
    has_ids: bool = False


def words(text: object, *, two: str = "", href: str = "") -> Cell:
    """A cell of plain text."""
    return Cell(str(text), two=two, href=href)


def absent(reason: str, why: str = "", href: str = "") -> Cell:
    """`not run`, `failed`, `not allowed`, `not in study`: never blank, never zero."""
    return Cell(reason, missing=reason, why=why, href=href)


def measured(
    value: float,
    decimals: int,
    low: float | None = None,
    high: float | None = None,
    n: int | None = None,
    *,
    sign: bool = False,
    **more: object,
) -> Cell:
    """A number with its interval, printed with the metric's digits."""
    return Cell(
        number(value, decimals, sign=sign),
        value=value,
        low=low,
        high=high,
        low_text=number(low, decimals, sign=sign or low < 0) if low is not None else "",
        high_text=number(high, decimals, sign=sign or (low is not None and low < 0)) if high is not None else "",
        n=n,
        **more,  # type: ignore[arg-type]
    )


def whole(value: int) -> Cell:
    """A count."""
    return Cell(f"{value:,}", value=float(value))


def missing_kinds(tables: Iterable[Table]) -> list[str]:
    """Every word for a missing value that occurs, for the legend."""
    return sorted(
        {cell.missing for table in tables for row in table.rows for cell in row.cells.values() if cell.missing}
    )
