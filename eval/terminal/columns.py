"""A table without a box: one rule under the head, numbers right, and columns that go in order when space is short."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.text import Text

from eval.notation import Axis
from eval.records import MetricResult
from eval.terminal.console import Line, Signs, signs_for, writable

SCALE_CELLS = 30
GAP = 3
NARROW = 60


@dataclass(frozen=True)
class Cell:
    text: str
    role: str = ""
    paint: Callable[[Line], None] | None = None


@dataclass(frozen=True)
class Column:
    """A head and its cells. Columns with `drop` > 0 go when the table is too wide, the highest first."""

    head: str
    cells: Sequence[Cell]
    right: bool = False
    drop: int = 0

    def width(self, encoding: str | None) -> int:
        return max(cell_len(writable(text, encoding)) for text in (self.head, *(cell.text for cell in self.cells)))


def table_width(columns: Sequence[Column], encoding: str | None) -> int:
    return sum(column.width(encoding) for column in columns) + GAP * (len(columns) - 1)


def fitting(columns: Sequence[Column], width: int, encoding: str | None) -> list[Column] | None:
    """The columns that there is room for; None if even those that must stay need more (then use blocks)."""
    kept = list(columns)
    while table_width(kept, encoding) > width:
        droppable = [column for column in kept if column.drop]
        if not droppable:
            return None
        kept.remove(max(droppable, key=lambda column: column.drop))
    return kept


def table_lines(columns: Sequence[Column], width: int, encoding: str | None) -> list[Text]:
    """Head, rule, rows. `columns` are those that fit."""
    widths = [column.width(encoding) for column in columns]
    last = len(columns) - 1
    head = Line(encoding)
    for i, column in enumerate(columns):
        head.add(column.head, "dim", width=widths[i], right=column.right).add(" " * (GAP if i < last else 0))
    lines = [head.fit(width), Line(encoding).add(signs_for(encoding).rule * table_width(columns, encoding)).fit(width)]
    for row in range(len(columns[0].cells)):
        line = Line(encoding)
        for i, column in enumerate(columns):
            cell = column.cells[row]
            if cell.paint is not None:
                cell.paint(line)
            else:
                line.add(cell.text, cell.role, width=widths[i], right=column.right)
            line.add(" " * (GAP if i < last else 0))
        lines.append(line.fit(width))
    return lines


def scale_cell(metric: MetricResult, axis: Axis | None, encoding: str | None, *, is_leading: bool = True) -> Cell:
    """The interval mark on the row's scale: a track, the floor, a line from low to high, a disc at the value."""
    signs = signs_for(encoding)
    if axis is None or metric.value is None:
        return Cell(" " * SCALE_CELLS)
    places = [(signs.track, "dim")] * SCALE_CELLS
    if metric.floor is not None:
        places[axis.cell(metric.floor, SCALE_CELLS)] = (signs.floor, "dim")
    role = "accent" if is_leading else "dim"
    if metric.interval is not None:
        for i in range(axis.cell(metric.interval.low, SCALE_CELLS), axis.cell(metric.interval.high, SCALE_CELLS) + 1):
            places[i] = (signs.line, role)
    places[axis.cell(metric.value, SCALE_CELLS)] = (signs.disc, role)
    return Cell(" " * SCALE_CELLS, paint=lambda line: _paint(line, places))


def _paint(line: Line, places: Sequence[tuple[str, str]]) -> None:
    """Runs of one style go in together, so that copied text and logs stay small."""
    start = 0
    for i in range(1, len(places) + 1):
        if i == len(places) or places[i][1] != places[start][1]:
            line.add("".join(sign for sign, _ in places[start:i]), places[start][1])
            start = i


def mark_of(kind: str, signs: Signs) -> tuple[str, str]:
    """The first sign of a verdict line, and its role."""
    return {
        "comparable": (signs.disc, "ok"),
        "from-paper": (signs.ring, ""),
        "not-comparable": (signs.barred, "warn"),
        "partial": (signs.half, "warn"),
        "failed": (signs.cross, "bad"),
        "caution": (signs.caution, "warn"),
    }[kind]
