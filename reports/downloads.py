"""Every table of a run report as files inside its page: CSV, JSON, LaTeX, Markdown, BibTeX, digits as on the page.

Tables are made of the very texts that the page prints. Numbers of the results keep their full length in JSON; of the
other tables JSON holds the printed digits as numbers.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from eval.notation import better, label_of
from eval.records import MetricResult, Result
from reports.beside import Beside, Differences
from reports.figures import Curve
from reports.printed import Printed, PrintedBlock
from reports.site.exports import CITE_COGEVAL, FORMATS, bibtex_note, export, plain, table_schema
from reports.site.table import Cell, Column, Row, Table, absent, measured, words
from reports.tables import Classes

KINDS = {"csv": "text/csv", "json": "application/json", "tex": "text/plain", "md": "text/markdown", "bib": "text/plain"}
COLUMNS = (
    Column("metric", "Metric"),
    Column("better", "Better"),
    Column("value", "Value", kind="number", has_interval=True),
    Column("floor", "Floor", kind="number"),
    Column("id", "Id"),
    Column("fingerprint", "Fingerprint"),
)
# `398.1 – 428.0`, `−38.0 to +10.9`, `0.20–0.31`: two printed numbers and what stands between them.
ENDS = re.compile(r"([-−+]?[\d,]+(?:\.\d+)?)\s*(?:–|to)\s*([-−+]?[\d,]+(?:\.\d+)?)")
Link = tuple[str, str, str]


@dataclass(frozen=True)
class Shown:
    """What the page shows beside its results."""

    others: Beside | None = None
    printed: Printed | None = None
    curves: Sequence[tuple[str, Curve]] = ()
    classes: Classes | None = None
    audit: Sequence[tuple[str, str, str]] = ()


def result_table(result: Result) -> Table:
    """A row a metric: value with interval and n, floor, and what names the number."""
    rows = [Row(metric.id, _cells(metric, result)) for metric in result.metrics]
    return Table("results", f"Results, protocol {result.protocol_name}", COLUMNS, rows, cite=(CITE_COGEVAL,))


def _cells(metric: MetricResult, result: Result) -> dict[str, Cell]:
    inside, digits = metric.interval, metric.decimals
    low, high = (inside.low, inside.high) if inside else (None, None)
    is_there = metric.value is not None
    return {
        "metric": words(label_of(metric, result.metrics)),
        "better": words(better(metric.direction)),
        "value": measured(metric.value or 0.0, digits, low, high, metric.n_fake) if is_there else absent("undefined"),
        "floor": measured(metric.floor, digits) if metric.floor is not None else absent("none"),
        "id": words(metric.id),
        "fingerprint": words(metric.fingerprint),
    }


def printed_cell(text: str, spread: str = "", *, leading: bool = False) -> Cell:
    """A printed number with its printed interval; text that is no number stays text."""
    digits = plain(text)
    if not re.fullmatch(r"-?\d+(\.\d+)?", digits):
        return words(text)
    ends = ENDS.fullmatch(spread)
    low, high = ends.groups() if ends else ("", "")
    return Cell(
        text,
        value=float(digits),
        low=float(plain(low)) if low else None,
        high=float(plain(high)) if high else None,
        low_text=low,
        high_text=high,
        leading=leading,
    )


def generator_table(others: Beside) -> Table:
    """The generators of the command, as they stand on the page."""
    heads = list(enumerate(others.heads))
    columns = [Column("generator", "Generator"), Column("rank", f"Rank by {others.ranked_by}")]
    columns += [Column(f"{label} {place}", label, note, "number", has_interval=True) for place, (label, note) in heads]
    rows = []
    for standing in others.standings:
        cells = {"generator": words(standing.name), "rank": words(standing.cells[0].rank)}
        for (place, (label, _)), cell in zip(heads, standing.cells, strict=True):
            cells[f"{label} {place}"] = (
                absent(cell.words) if cell.words else printed_cell(cell.value, cell.interval, leading=cell.is_leading)
            )
        rows.append(Row(standing.name, cells))
    return Table("generators", "Generators of one command", columns, rows, cite=(CITE_COGEVAL,))


def difference_table(name: str, block: Differences) -> Table:
    """This run minus each other generator, by one metric."""
    columns = [
        Column("other", "This run minus"),
        Column("difference", "Difference", f"{block.level} interval", "number", has_interval=True),
        Column("reading", "Reading"),
    ]
    rows = [
        Row(
            row.other,
            {
                "other": words(row.other),
                "difference": printed_cell(row.value, row.interval) if row.mark else absent("cannot be compared"),
                "reading": words(row.reading),
            },
        )
        for row in block.rows
    ]
    return Table(name, f"Differences, {block.label}", columns, rows, cite=(CITE_COGEVAL,))


def paper_table(name: str, block: PrintedBlock, printed: Printed) -> Table:
    """Printed numbers of other settings and what differs."""
    columns = [Column("model", "Model"), Column("value", "Value", kind="number"), Column("setting", "Setting")]
    columns += [Column(key, key.capitalize()) for key in ("note", "differs", "confidence", "source")]
    rows = [
        Row(
            f"{name}-{place}",
            {
                "model": words(row.name),
                "value": printed_cell(row.value),
                "setting": words(row.setting),
                "note": words("; ".join([row.note, *(printed.disputes[n - 1] for n in row.disputes)]).strip("; ")),
                "differs": words(row.differing or "nothing else"),
                "confidence": words(row.confidence),
                "source": words(row.source),
            },
        )
        for place, row in enumerate(block.apart)
    ]
    sources = dict(printed.sources)
    cited = [
        bibtex_note(key, key, sources[key]) for key in sorted({row.source for row in block.apart}) if key in sources
    ]
    return Table(name, f"{block.label} from papers, other settings", columns, rows, block.common, cited)


def same_table(name: str, block: PrintedBlock, printed: Printed) -> Table:
    """The run between the papers of its own setting."""
    rows_ = block.same.rows if block.same else ()
    rows = [
        Row(
            f"{name}-{place}",
            {
                "model": words(f"{row.name} {row.more}".strip()),
                "value": printed_cell(row.value),
                "origin": words(row.note),
            },
        )
        for place, row in enumerate(rows_)
    ]
    columns = [Column("model", "Model"), Column("value", "Value", kind="number"), Column("origin", "Origin")]
    sources = dict(printed.sources)
    used = [key for key in sources if any(f"[{key}]" in row.note for row in rows_)]
    cited = [CITE_COGEVAL, *(bibtex_note(key, key, sources[key]) for key in used)]
    return Table(name, f"{block.label}, this run and papers of the same setting", columns, rows, cite=cited)


def text_table(name: str, title: str, heads: Sequence[str], rows: Iterable[Sequence[str]], numbers: str) -> Table:
    """A table of texts; `numbers` names the columns (by their heads, with | between) that hold numbers."""
    held = numbers.split("|")
    columns = [Column(head.lower(), head, kind="number" if head in held else "text") for head in heads]
    made = [
        Row(
            row[0],
            {
                column.key: printed_cell(text) if column.kind == "number" else words(text)
                for column, text in zip(columns, row, strict=True)
            },
        )
        for row in rows
    ]
    return Table(name, title, columns, made, cite=(CITE_COGEVAL,))


def class_table(classes: Classes) -> Table:
    """Every class with its mean."""
    columns = [Column("class", "Class"), Column("value", classes.label, "95 % interval", "number", has_interval=True)]
    columns.append(Column("n", "n", kind="number"))
    rows = [
        Row(name, {"class": words(name), "value": printed_cell(value, spread), "n": printed_cell(n)})
        for name, value, spread, n in classes.every
    ]
    return Table("classes", f"{classes.label} by class", columns, rows, cite=(CITE_COGEVAL,))


def tables(result: Result, shown: Shown) -> list[Table]:
    """Every table of the page, in its order; names are those of the files."""
    found = [result_table(result)] if result.metrics else []
    if others := shown.others:
        found.append(generator_table(others))
        found += [difference_table(f"differences-{k}", block) for k, block in enumerate(others.differences)]
    if printed := shown.printed:
        found += [same_table(f"same-{k}", block, printed) for k, block in enumerate(printed.blocks) if block.same]
        found += [paper_table(f"papers-{k}", block, printed) for k, block in enumerate(printed.blocks) if block.apart]
    for k, (label, curve) in enumerate(shown.curves):
        found.append(text_table(f"by-n-{k}", f"{label} by n", ("n", label), curve.rows, f"n|{label}"))
    if shown.classes:
        found.append(class_table(shown.classes))
    if shown.audit:
        found.append(text_table("audit", "Audit", ("Reason", "Clips", "Share"), shown.audit, "Clips"))
    return found


def downloads(result: Result, shown: Shown | None = None) -> dict[str, list[Link]]:
    """Table -> (file name, label, address with the data in it) of every format. An empty table has none."""
    return {
        table.name: [
            (f"{table.name}.{suffix}", label, _address(KINDS[suffix], texts[suffix])) for suffix, label in FORMATS
        ]
        for table in tables(result, shown or Shown())
        if table.rows
        for texts in [export(table)]
    }


def schema_link() -> Link:
    """The schema that every JSON of `downloads` holds to."""
    text = json.dumps(table_schema(), indent=1, sort_keys=True) + "\n"
    return "table-1.schema.json", "schema of the JSON tables", _address(KINDS["json"], text)


def _address(kind: str, text: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(text.encode()).decode()}"
