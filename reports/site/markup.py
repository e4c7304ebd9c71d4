"""Cells of tables as HTML, in Python: a large board has hundreds of thousands, and a macro takes far longer for each.

Everything that comes from a record is escaped here, as the templates do it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache

from markupsafe import Markup, escape

from reports.figures import Mark
from reports.page import showable
from reports.site.table import Cell, Column, Row, Table

# Letters of a text that needs some width where a table is wider than the screen.
LONG = 40
# An interval that stands alone: no line may end inside it.
_INTERVAL = re.compile(r"[−+\d.,]+(–| to )[−+\d.,]+").fullmatch


@lru_cache(maxsize=1 << 16)
def safe(text: str) -> str:
    """Text as HTML, without what no page may hold."""
    return str(escape(showable(text)))


def bar(mark: Mark | None, kind: str) -> Markup:
    """The interval of a cell on its column's scale; the cell says the same in figures."""
    return Markup(_bar(mark, kind) if mark else "")  # noqa: S704 - places and kinds are ours


def _bar(mark: Mark, kind: str) -> str:
    span = f'<line class="span" x1="{mark.low}" x2="{mark.high}" y1="6" y2="6"/>' if mark.low and mark.high else ""
    disc = f'<circle class="disc" cx="{mark.value}" cy="6" r="3"/>' if mark.value else ""
    return (
        '<svg class="fig thin" aria-hidden="true" height="12"><line class="track" x2="100%" y1="6" y2="6"/>'
        f'<g class="k k-{kind}">{span}{disc}</g></svg>'
    )


def inside(cell: Cell) -> Markup:
    """What stands in a cell: a word for what is missing, a number with interval, n and bar, or text."""
    return Markup(_inside(cell))  # noqa: S704 - every text of a record went through `safe`


def _inside(cell: Cell, *, has_interval: bool = True, is_linked: bool = False) -> str:
    text = safe(cell.text)
    if cell.missing:
        word = f'<a href="{safe(cell.href)}">{text}</a>' if cell.href else text
        why = f'<span class="visually-hidden">: {safe(cell.why)}</span>' if cell.why else ""
        found = f'<span class="absent">{word}</span>{why}'
    elif cell.low_text or cell.mark or (cell.n is not None and has_interval):
        leading = " leading" if cell.leading else ""
        n = f'<span class="visually-hidden"> n = {cell.n:,}</span>' if cell.n is not None else ""
        drawn = _bar(cell.mark, cell.kind) if cell.mark else ""
        spread = safe(cell.interval) or "no interval"
        if cell.href and is_linked:
            text = f'<a href="{safe(cell.href)}">{text}</a>'
        found = f'<span class="cell{leading}"><b>{text}</b> <span class="small">{spread}</span></span>{n}{drawn}'
    elif cell.href:
        found = f'<a href="{safe(cell.href)}"><bdi>{text}</bdi></a>'
    else:
        found = f"<bdi>{text}</bdi>"
    return f'{found}<span class="two">{safe(cell.two)}</span>' if cell.two else found


def rows(table: Table) -> Markup:
    """The rows of a plain table; the first column is the head of its row."""
    return Markup("\n".join(_row(table.columns, row, has_id=table.has_ids) for row in table.rows))  # noqa: S704 - cells are escaped above


def _row(columns: Sequence[Column], row: Row, *, has_id: bool) -> str:
    cells = []
    for place, column in enumerate(columns):
        cell = row.cells[column.key]
        is_bare = column.kind == "number" and not column.has_interval
        look = "right" if is_bare else "long" if len(cell.text) > LONG else "whole" if _INTERVAL(cell.text) else ""
        name, scope = ("td", "") if place else ("th", " scope=row")
        held = f' class="{look}"' if look else ""
        inner = _inside(cell, has_interval=not is_bare, is_linked=True)
        cells.append(f"<{name}{scope}{held}>{inner}</{name}>")
    group = ' class="group"' if row.group else ""
    own = f' id="{safe(row.id)}"' if has_id else ""
    return f"<tr{own}{group}>{''.join(cells)}</tr>"


def sortable(row: Row, columns: Sequence[Column], common_n: Mapping[str, int] | None = None) -> Markup:
    """Cells of a row of the leaderboard, with the value that sorting reads.

    With `common_n` they are without bars and as small as can be, for tables of many thousand: n stands in the head of a
    column where all its cells have the same, and in a cell that has another.
    """
    found = []
    for column in columns:
        cell = row.cells[column.key]
        value = f' data-v="{cell.value}"' if cell.value is not None and not cell.missing else ""
        inner = _inside(cell) if common_n is None or cell.missing else _bare(cell, common_n.get(column.key))
        found.append(f"<td{value}>{inner}</td>")
    return Markup(("\n" if common_n is None else "").join(found))  # noqa: S704 - cells are escaped above


def _bare(cell: Cell, usual: int | None) -> str:
    text = f'<b class="said">{safe(cell.text)}</b>' if cell.leading else safe(cell.text)
    n = f", n = {cell.n:,}" if cell.n is not None and cell.n != usual else ""
    return f"{text} <small>{safe(cell.interval) or 'no interval'}{n}</small>"


def common_n(table: Table) -> dict[str, int]:
    """Column -> n, where all its cells have the same."""
    found = {}
    for column in table.columns:
        numbers = {cell.n for row in table.rows if not (cell := row.cells[column.key]).missing}
        if len(numbers) == 1 and (n := numbers.pop()) is not None:
            found[column.key] = n
    return found
