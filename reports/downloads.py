"""The results of a run as files inside its page: CSV, JSON, LaTeX, Markdown, BibTeX, with the digits of the page."""

from __future__ import annotations

import base64

from eval.notation import better, label_of
from eval.records import MetricResult, Result
from reports.site.exports import CITE_COGEVAL, FORMATS, export
from reports.site.table import Cell, Column, Row, Table, absent, measured, words

KINDS = {"csv": "text/csv", "json": "application/json", "tex": "text/plain", "md": "text/markdown", "bib": "text/plain"}
COLUMNS = (
    Column("metric", "Metric"),
    Column("better", "Better"),
    Column("value", "Value", kind="number", has_interval=True),
    Column("floor", "Floor", kind="number"),
    Column("id", "Id"),
    Column("fingerprint", "Fingerprint"),
)


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


def downloads(result: Result) -> list[tuple[str, str, str]]:
    """(file name, label, address with the data in it) of every format; nothing where no metric was scored."""
    if not result.metrics:
        return []
    texts = export(result_table(result))
    return [
        (f"results.{suffix}", label, f"data:{KINDS[suffix]};base64,{base64.b64encode(texts[suffix].encode()).decode()}")
        for suffix, label in FORMATS
    ]
