"""A metric: what it is, how it is computed, how it fails, all models under it, and how far people agree with it."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import yaml

from eval.notation import better, number
from reports.board.document import AgreementEntry, MetricColumn, TableEntry
from reports.board.names import metric_page
from reports.board.tables import protocol_of
from reports.figures import mark_of, n_curve
from reports.site.site import Site, facts_of, groups, interval_text
from reports.site.table import Cell, Column, Row, Table, absent, measured, words

PRINTED_SHOWN = 12
WORDS_FILE = Path(__file__).with_name("metrics.yaml")
UNKNOWN = "A metric of a plug-in; its author describes it."


@cache
def described(metric: str) -> tuple[str, tuple[str, ...]]:
    """What a metric is, and how it misleads, by its name in the registry."""
    found = yaml.safe_load(WORDS_FILE.read_text(encoding="utf-8")).get(metric)
    return (found["what"], tuple(found["pitfalls"])) if found else (UNKNOWN, ())


def metric_ids(site: Site) -> list[str]:
    """Every metric of the board, in the order of its tables."""
    return list(dict.fromkeys(column.id for table in site.board.tables for column in table.metrics))


def overview(site: Site) -> dict[str, Any]:
    """The list of metrics."""
    up = "../"
    columns = [
        Column("metric", "Metric"),
        Column("what", "What it is"),
        Column("better", "Better"),
        Column("models", "Models", "", "number"),
        Column("people", "Agrees with people", "Spearman by model"),
    ]
    rows = []
    for name in metric_ids(site):
        held = _held(site, name)
        column = held[0][1]
        n = sum(site.metric(site.runs[run], name) is not None for table, _ in held for run in table.runs)
        rows.append(
            Row(
                metric_page(name),
                {
                    "metric": words(column.label, two=name, href=f"{up}metric/{metric_page(name)}.html"),
                    "what": words(described(column.metric)[0]),
                    "better": words(column.direction),
                    "models": Cell(f"{n:,}", value=float(n)),
                    "people": _people_cell(site, name),
                },
            )
        )
    table = Table("metrics", "Metrics", columns, rows)
    return site.frame("Metrics", 1, "Metrics") | {"shown": table, "exports": site.export(table, up) if rows else []}


def _held(site: Site, name: str) -> list[tuple[TableEntry, MetricColumn]]:
    return [(table, column) for table in site.board.tables for column in table.metrics if column.id == name]


def _people_cell(site: Site, name: str) -> Cell:
    found = [one for one in site.board.agreement if one.metric == name]
    best = next((one for one in found if one.aspect == "overall"), found[-1] if found else None)
    if best is None:
        return absent("not in study")
    return coefficient_cell(best, "spearman", "model")


def coefficient_cell(entry: AgreementEntry, kind: str, by: str) -> Cell:
    """A coefficient with its interval and n, or why there is none. The sign is the metric's own."""
    one = next((c for c in entry.coefficients if c.kind == kind and c.by == by), None)
    if one is None:
        return absent("not in study", "the study has no answers by clip")
    if one.value is None:
        return absent("undefined", one.note)
    return measured(one.value, 2, one.low, one.high, one.n, sign=True, why=one.note)


def page(site: Site, name: str) -> dict[str, Any]:
    """Everything that the template shows."""
    up = "../"
    held = _held(site, name)
    column = held[0][1]
    about, pitfalls = described(column.metric)
    parts = [_part(site, table, one, up) for table, one in held]
    return site.frame(f"{column.label}, {name}", 1, "Metrics", "charts.css") | {
        "name": name,
        "column": column,
        "direction": better(column.direction),
        "about": about,
        "pitfalls": pitfalls,
        "sections": parts,
        "people": [_agreement_row(site, one) for one in site.board.agreement if one.metric == name],
    }


def _part(site: Site, table: TableEntry, column: MetricColumn, up: str) -> dict[str, Any]:
    """All models of one fingerprint, and how the number was made."""
    columns = [
        Column("rank", "Rank range", "95 %"),
        Column("model", "Model"),
        Column(
            "value", column.label, better(column.direction), "number", has_interval=True, direction=column.direction
        ),
        Column("floor", "Floor", "other real clips", "number"),
        Column("infinite", "At infinite n", "extrapolated", "number", has_interval=True),
    ]
    axis = site.axis(table, column)
    sign = 1 if column.direction == "lower" else -1
    runs = [site.runs[name] for name in table.runs]
    ranking = site.ranking(table, column.id)
    ranges = {one.run: (one.low, one.high) for one in ranking.ranks} if ranking else {}

    def order(place_run: tuple[int, Any]) -> tuple[bool, bool, float, int]:
        place, run = place_run
        metric = site.metric(run, column.id)
        value = metric.value if metric else None
        return run.id not in ranges, value is None, sign * (value or 0.0), place

    runs = [run for _, run in sorted(enumerate(runs), key=order)]
    edges = groups([ranges.get(run.id) for run in runs])
    rows = []
    for run, edge in zip(runs, edges, strict=True):
        metric = site.metric(run, column.id)
        line = metric.extrapolated if metric else None
        floor = metric.floor if metric else None
        cells = {
            "rank": site.rank_cell(table, run, column.id),
            "model": words(site.title(run), href=f"{up}model/{run.model}.html"),
            "value": site.value_cell(table, run, column, axis, up=up),
            "floor": measured(floor, column.decimals)
            if floor is not None
            else absent("none", metric.floor_note if metric else ""),
            "infinite": measured(
                line.value,
                column.decimals,
                line.low,
                line.high,
                mark=mark_of(axis, None, extrapolated=line.value) if axis else None,
            )
            if line
            else absent("none", "no line in 1/n"),
        }
        rows.append(Row(run.id, cells, edge))
    shown = Table(
        f"metric-{metric_page(column.id)}-{column.fingerprint}",
        f"{column.label} of {table.benchmark_title}, {table.protocol}, fingerprint {column.fingerprint}",
        columns,
        rows,
        cite=site.cites([run.model for run in runs]),
    )
    first = next((m for run in runs if (m := site.metric(run, column.id)) is not None), None)
    curves = [
        (site.title(run), curve) for run in runs[:2] if (m := site.metric(run, column.id)) and (curve := n_curve(m))
    ]
    return {
        "table": table,
        "shown": shown,
        "exports": site.export(shown, up),
        "method": ranking.method if ranking else "",
        "facts": _facts(site, table, column, first),
        "curves": curves,
        "printed": _printed(site, table, column),
        "n_printed": len(table.printed.get(column.id, [])),
    }


def _facts(site: Site, table: TableEntry, column: MetricColumn, metric: Any) -> list[tuple[str, str]]:
    """Implementation: network, weights and everything that the specification sets."""
    run = next((site.runs[name] for name in table.runs if site.runs[name].protocol), None)
    protocol = protocol_of(run) if run else None
    spec = next((s for s in protocol.metrics if s.id == column.id), None) if protocol else None
    rows = [("Fingerprint", column.fingerprint), ("Protocol", table.protocol)]
    if metric is not None:
        rows += [("Interval by", metric.interval.method if metric.interval else "none")]
        rows += [("Floor", metric.floor_note)]
        if metric.weights:
            origin = "hash publicly known" if metric.weights.is_verified else "hash not publicly known"
            rows += [
                ("Weights", f"{metric.weights.name}, sha256 {metric.weights.sha256}, {metric.weights.origin}, {origin}")
            ]
    if spec is not None:
        rows += [("Layer", spec.layer), ("Options", ", ".join(f"{name} {value}" for name, value in spec.options))]
        if spec.preprocess:
            given = spec.preprocess
            size = f"{given.size[1]} × {given.size[0]}, " if given.size else ""
            smooth = "antialias" if given.antialias else "no antialias"
            rows.append(("Pixels", f"{size}{given.kernel}, {given.geometry}, {smooth}, {given.scale}"))
    return facts_of(rows)


def _printed(site: Site, table: TableEntry, column: MetricColumn) -> list[dict[str, Any]]:
    return [
        {"row": site.board.papers[one.row], "differing": one.differing}
        for one in table.printed.get(column.id, [])[:PRINTED_SHOWN]
    ]


def _agreement_row(site: Site, one: AgreementEntry) -> dict[str, Any]:
    study = next(study for study in site.board.studies if study.id == one.study)
    return {
        "aspect": study.names.get(one.aspect, one.aspect),
        "study": study.title,
        "href": f"../agreement.html#{one.study}-{one.aspect}-{metric_page(one.metric)}",
        "model": coefficient_cell(one, "spearman", "model"),
        "kendall": coefficient_cell(one, "kendall", "model"),
        "clip": coefficient_cell(one, "spearman", "clip"),
        "accuracy": f"{number(100 * one.accuracy, 0)} % of {one.pairs:,} pairs"
        if one.accuracy is not None
        else "no pairs",
    }


__all__ = ["interval_text", "metric_ids", "overview", "page"]
