"""The leaderboard itself: one page a protocol, complete without script, with what the filters read in the rows."""

from __future__ import annotations

from typing import Any

from eval.notation import better
from reports.board.document import RunEntry, TableEntry
from reports.board.tables import protocol_of
from reports.figures import mark_of
from reports.site.markup import common_n
from reports.site.people_cells import human_columns
from reports.site.site import MOST_BARS, Site, day, groups, metric_href, spelt
from reports.site.table import Cell, Column, Row, Table, absent, words
from reports.tables import protocol_rows

# With script, more rows than these wait for a button: a browser lays out the table anew whenever it is sorted.
MOST_ROWS = 100
TYPE_UNKNOWN = "type not stated"


def board_table(site: Site, table: TableEntry, up: str = "") -> Table:
    """Every current run of a table: rank range, model, all metrics, human scores, who measured it."""
    study = site.studies.get(table.id)
    people = human_columns(study) if study else []
    columns = [Column("rank", "Rank range", f"95 %, by {table.metrics[0].label}" if table.metrics else "")]
    columns.append(Column("model", "Model", "type, parameters"))
    columns += metric_columns(table, up)
    columns += [one.column for one in people]
    columns.append(Column("measured", "Measured", "by whom, when"))
    axes = {column.id: site.axis(table, column) for column in table.metrics}
    human_axes = [one.axis for one in people]
    is_drawn = len(table.runs) * (len(table.metrics) + len(people)) <= MOST_BARS
    ranges: list[tuple[int, int] | None] = []
    rows = []
    keys = {column.id: key for column, key in zip(table.metrics, [c.key for c in columns[2:]], strict=False)}
    for name in table.runs:
        run = site.runs[name]
        rank = site.rank_cell(table, run, table.metrics[0].id) if table.metrics else absent("not ranked", "no metric")
        ranges.append(None if rank.missing else (int(rank.low or 0), int(rank.high or 0)))
        cells = {"rank": rank, "model": _model_cell(site, run, up)}
        for column in table.metrics:
            cells[keys[column.id]] = site.value_cell(table, run, column, axes[column.id], up=up, is_drawn=is_drawn)
        for one, axis in zip(people, human_axes, strict=True):
            assert study is not None
            cells[one.column.key] = one.cell(study, run, axis, is_drawn=is_drawn)
        kind, label, who = site.state(run)
        cells["measured"] = Cell(label, two=who, kind=kind, href=f"{up}run/{run.id}.html")
        rows.append(Row(run.model, cells, data=_filters(site, run)))
    edges = groups(ranges)
    return Table(
        name=f"board-{table.id}",
        title=f"{table.benchmark_title}, {table.protocol}, fingerprint {table.fingerprint}",
        columns=columns,
        rows=[Row(row.id, row.cells, edge, row.href, row.data) for row, edge in zip(rows, edges, strict=True)],
        note="Rank ranges hold together at 95 %. Intervals are 95 %.",
        cite=site.cites([site.runs[name].model for name in table.runs]),
    )


def metric_columns(table: TableEntry, up: str = "") -> list[Column]:
    """A column a metric; a label that several share names its variant too. Keys are unique."""
    labels = [column.label for column in table.metrics]
    found = []
    for column in table.metrics:
        label = column.label
        if labels.count(label) > 1:
            label = f"{label} ({column.id.partition('/')[2] or column.id})"
        note = better(column.direction)
        href = metric_href(up, column.id)
        found.append(Column(column.id, label, note, "number", True, column.direction, href))
    return found


def _model_cell(site: Site, run: RunEntry, up: str) -> Cell:
    model = site.models[run.model]
    card = model.card
    closed = {True: "", False: "closed", None: ""}[card.open_weights]
    two = ", ".join(word for word in (card.type, card.parameters, closed) if word)
    return words(model.title, two=two or TYPE_UNKNOWN, href=f"{up}model/{model.id}.html")


def _filters(site: Site, run: RunEntry) -> dict[str, str]:
    """What the filters of a row read: folded title, type, open weights, measured here."""
    model = site.models[run.model]
    return {
        "name": model.title.casefold(),
        "type": model.card.type or TYPE_UNKNOWN,
        "open": "1" if model.card.open_weights else "",
        "here": "1" if run.label == "measured here" and run.state == "complete" else "",
    }


def lead(site: Site, table: TableEntry) -> list[tuple[str, bool]]:
    """The answer as a sentence: how many, one protocol, who cannot be told apart. (text, is it the claim)."""
    n = len(table.runs)
    if not table.metrics:
        return [("No run of this protocol has a metric yet.", False)]
    pieces = [(f"{spelt(n).capitalize()} model{'' if n == 1 else 's'}, measured with one protocol. ", False)]
    first, ranking = table.metrics[0], site.ranking(table, table.metrics[0].id)
    leading = [one.run for one in ranking.ranks if one.low == 1] if ranking else []
    if ranking is None or not ranking.ranks:
        return [*pieces, (f"None can be ranked on {first.label}", True), (".", False)]
    at = f" at n = {table.facts['Clips per model']}" if "Clips per model" in table.facts else ""
    if len(ranking.ranks) == 1:
        return [*pieces, ("There is nothing to rank it with", True), (f" on {first.label}.", False)]
    if len(leading) == len(ranking.ranks):
        return [*pieces, ("No two of them can be told apart", True), (f" on {first.label}{at}.", False)]
    if len(leading) == 1:
        title = site.title(site.runs[leading[0]])
        return [*pieces, (f"{title} is {first.direction} than all others", True), (f" on {first.label}{at}.", False)]
    is_top = set(leading) == set(table.runs[: len(leading)])
    who = f"The first {spelt(len(leading))}" if is_top else f"{spelt(len(leading)).capitalize()} of them"
    return [*pieces, (f"{who} cannot be told apart", True), (f" on {first.label}{at}.", False)]


def last_change(site: Site) -> tuple[str, str]:
    """(day, text) of the newest change, for the lead."""
    if not site.board.publishes:
        return "", ""
    newest = site.board.publishes[-1]
    return day(newest.date), newest.changes[0].text if newest.changes else ""


def printed_rows(site: Site, table: TableEntry) -> tuple[list[dict[str, Any]], int]:
    """Printed numbers of the same setting as rows, and how many of other settings there are."""
    same: list[dict[str, Any]] = []
    others = 0
    for column in table.metrics:
        found = table.printed.get(column.id, [])
        others += sum(bool(one.differing) for one in found)
        rows = [site.board.papers[one.row] for one in found if not one.differing]
        if not rows:
            continue
        axis = site.axis(table, column)
        for row in rows:
            mark = mark_of(axis, float(row.value)) if axis else None
            same.append({"row": row, "column": column, "mark": mark})
    return same, others


def page(site: Site, table: TableEntry, depth: int) -> dict[str, Any]:
    """Everything that the template shows."""
    up = "../" * depth
    shown = board_table(site, table, up)
    same, others = printed_rows(site, table)
    study = site.studies.get(table.id)
    facts = dict(table.facts)
    if study:
        votes = sum(len(part.rows) for part in study.votes.values())
        raters = f"{study.analysis['analysed'].get('raters', 0)} raters, {votes:,} answers"
        facts["Human study"] = f"{raters} (simulated)" if study.is_simulated else raters
    else:
        facts["Human study"] = "none"
    is_big = len(shown.rows) * (len(shown.columns) - 3) > MOST_BARS
    types = sorted({row.data["type"] for row in shown.rows})
    failed = [run for name in (*table.runs, *table.older) if (run := site.runs[name]).state == "unfinished"]
    rejected = sum(len(site.runs[name].samples.rejected) for name in table.runs)
    is_first = site.board.tables[0].id == table.id
    heading = site.board.title if is_first and depth == 0 else f"{table.benchmark_title}, {table.protocol}"
    return site.frame(heading, depth, "Leaderboard", "board.css", "board.js") | {
        "table": table,
        "heading": heading,
        "shown": shown,
        "exports": site.export(shown, up),
        "lead": lead(site, table),
        "is_big": is_big,
        "common_n": common_n(shown) if is_big else {},
        "most_rows": MOST_ROWS,
        "change": last_change(site),
        "facts": facts,
        "protocol": _protocol(site, table),
        "types": types,
        "same": same,
        "n_others": others,
        "failed": failed,
        "rejected": rejected,
        "n_ranked": len(table.rankings[0].ranks) if table.rankings else 0,
        "paper_exports": _paper_exports(site, table, same, up),
        "others": [one for one in site.board.tables if one.id != table.id],
        "id_of": {row.id: run for row, run in zip(shown.rows, table.runs, strict=True)},
    }


def _protocol(site: Site, table: TableEntry) -> list[tuple[str, str]]:
    """Everything of the protocol that a number depends on, from the first run that recorded it."""
    found = next((one for name in (*table.runs, *table.older) if (one := protocol_of(site.runs[name]))), None)
    return protocol_rows(found) if found else []


def _paper_exports(site: Site, table: TableEntry, same: list[dict[str, Any]], up: str) -> list[tuple[str, str]]:
    if not same:
        return []
    columns = [Column(key, key.capitalize()) for key in ("model", "metric", "value", "setting", "source")]
    rows = [
        Row(
            f"paper-{place}",
            {
                "model": words(one["row"].name),
                "metric": words(one["column"].label),
                "value": words(f"{one['row'].value:,}"),
                "setting": words(one["row"].facts),
                "source": words(one["row"].source_text),
            },
        )
        for place, one in enumerate(same)
    ]
    cites = site.paper_cites([site.board.papers.index(one["row"]) for one in same])
    return site.export(Table(f"papers-{table.id}", "From papers, same setting", columns, rows, cite=cites), up)
