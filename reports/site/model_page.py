"""A model: its card, all its numbers over protocols and time, where it is strong, its samples, failures and cost."""

from __future__ import annotations

from collections import Counter
from typing import Any

from eval.notation import axis_of, better, cost_words, duration, number, percent
from eval.records import MetricResult
from reports.board.document import ModelEntry, RunEntry, TableEntry
from reports.board.places import spec_of
from reports.figures import history, mark_of
from reports.site.exports import safe_bibtex
from reports.site.films import film
from reports.site.people_cells import human_columns
from reports.site.site import PLAYERS, Site, day, facts_of, metric_href
from reports.site.table import Cell, Column, Row, Table, absent, measured, whole, words
from reports.tables import generator_rows

GIBIBYTE = 1024**3
FILMS_SHOWN = 6
CATEGORIES_SHOWN = 5


def page(site: Site, model: ModelEntry) -> dict[str, Any]:
    """Everything that the template shows."""
    up = "../"
    held = [
        (table, site.runs[name])
        for table in site.board.tables
        for name in table.runs
        if site.runs[name].model == model.id
    ]
    older = [
        site.runs[name] for table in site.board.tables for name in table.older if site.runs[name].model == model.id
    ]
    numbers = _numbers(site, model, held, up)
    runs = _runs(site, model, [run for _, run in held] + older, up)
    own = [paper for paper in site.board.papers if _is_same_model(model.title, paper.model)]
    return site.frame(model.title, 1, "Leaderboard", *PLAYERS, "charts.css") | {
        "model": model,
        "lead": _lead(site, held),
        "card": _card(model),
        "sampling": _sampling(held),
        "numbers": numbers,
        "exports": site.export(numbers, up) if held else [],
        "histories": _histories(site, model, held, older),
        "people": _people(site, held, up),
        "papers": _papers(site, model, held, own, up),
        "categories": [one for table, run in held if (one := _categories(table, run)) is not None],
        "films": _films(site, held, up),
        "failures": _failures([run for _, run in held] + older),
        "costs": _costs(site, [run for _, run in held]),
        "runs": runs,
        "run_exports": site.export(runs, up) if runs.rows else [],
        "bibtex": safe_bibtex(model.card.bibtex),
        "state": site.state(held[0][1]) if held else None,
    }


def _lead(site: Site, held: list[tuple[TableEntry, RunEntry]]) -> list[tuple[str, bool]]:
    """Value, interval, n and place on the first protocol."""
    if not held:
        return [("No run of this model is on the board.", False)]
    table, run = held[0]
    metric = next((m for m in run.result.metrics if m.value is not None), None) if run.result else None
    if metric is None:
        return [("None of its metrics has a value.", False)]
    spread = ", n too small for an interval"
    if inside := metric.interval:
        low, high = number(inside.low, metric.decimals), number(inside.high, metric.decimals)
        spread = f", {percent(inside.level)} interval {low} to {high}"
    rank = site.rank_cell(table, run, metric.id)
    n_ranked = len(ranking.ranks) if (ranking := site.ranking(table, metric.id)) else 0
    place = f"Not ranked: {rank.why}." if rank.missing else f"Place {rank.text} of {n_ranked} by {metric.label}."
    return [
        (f"{metric.label} {number(metric.value, metric.decimals)}", True),
        (f"{spread}, n = {metric.n_fake:,}, on {table.benchmark_title} under {table.protocol}. {place}", False),
    ]


def _card(model: ModelEntry) -> list[tuple[str, str]]:
    card = model.card
    return [
        ("Type", card.type or "not stated"),
        ("Parameters", card.parameters or "not stated"),
        ("Weights", {True: "open", False: "closed", None: "not stated"}[card.open_weights]),
        ("Licence", card.licence or "not stated"),
        ("Checkpoint", f"sha256 {card.checkpoint_sha256}" if card.checkpoint_sha256 else "not stated"),
        ("Training data", card.training_data or "not stated"),
        ("Overlap with test data", card.overlap or "not stated"),
        ("Who paid", card.funding or "not stated"),
        *facts_of([("Generator", ", ".join(map(spec_of, model.keys))), ("Former ids", ", ".join(model.aliases))]),
    ]


def _sampling(held: list[tuple[TableEntry, RunEntry]]) -> list[tuple[str, str]]:
    """How the model was asked, by the first run that recorded it."""
    return next((rows for _, run in held if run.result and (rows := generator_rows(run.result.generator))), [])


def _numbers(site: Site, model: ModelEntry, held: list[tuple[TableEntry, RunEntry]], up: str) -> Table:
    columns = [
        Column("metric", "Metric"),
        Column("protocol", "Protocol"),
        Column("value", "Value", "95 % interval", "number", has_interval=True),
        Column("floor", "Floor", "other real clips", "number"),
        Column("n", "n", "", "number"),
        Column("rank", "Rank range"),
    ]
    rows = []
    for table, run in held:
        for column in table.metrics:
            metric = site.metric(run, column.id)
            axis = site.axis(table, column)
            rows.append(
                Row(
                    f"{table.id}-{column.id}",
                    {
                        "metric": words(column.label, two=better(column.direction), href=metric_href(up, column.id)),
                        "protocol": words(table.protocol, href=f"{up}table/{table.id}.html"),
                        "value": site.value_cell(table, run, column, axis, up=up),
                        "floor": _floor(metric, column.decimals),
                        "n": whole(metric.n_fake) if metric else absent("not run"),
                        "rank": site.rank_cell(table, run, column.id),
                    },
                )
            )
    return Table(f"model-{model.id}", f"{model.title}, all numbers", columns, rows, cite=site.cites([model.id]))


def _floor(metric: MetricResult | None, decimals: int) -> Cell:
    if metric is None:
        return absent("not run")
    if metric.floor is None:
        return absent("none", metric.floor_note or "not measured")
    return measured(metric.floor, decimals)


def _histories(
    site: Site, model: ModelEntry, held: list[tuple[TableEntry, RunEntry]], older: list[RunEntry]
) -> list[dict[str, Any]]:
    """A line over versions for every metric that was measured more than once under one fingerprint."""
    found = []
    for table, run in held:
        runs = sorted([one for one in older if one.table == table.id] + [run], key=lambda one: (one.date, one.id))
        for column in table.metrics:
            points = []
            for one in runs:
                metric = site.metric(one, column.id)
                if metric is not None and metric.value is not None:
                    inside = metric.interval
                    ends = (inside.low, inside.high) if inside else (None, None)
                    points.append((day(one.date) or one.id, metric.value, *ends))
            curve = history(points, column.decimals)
            if curve is not None:
                found.append({"label": column.label, "protocol": table.protocol, "curve": curve})
    return found


def _people(site: Site, held: list[tuple[TableEntry, RunEntry]], up: str) -> list[dict[str, Any]]:
    found = []
    for table, run in held:
        study = site.studies.get(table.id)
        if study is None:
            continue
        for one in human_columns(study):
            cell = one.cell(study, run, one.axis)
            if not cell.missing:
                found.append(
                    {
                        "label": one.column.label,
                        "note": one.column.note,
                        "cell": cell,
                        "href": f"{up}human.html#{study.id}",
                    }
                )
    return found


def _is_same_model(title: str, printed: str) -> bool:
    """Whether a paper's name is the model's title, brackets aside: never a guess beyond that."""
    return title.casefold() == printed.partition("(")[0].strip().casefold()


def _papers(
    site: Site, model: ModelEntry, held: list[tuple[TableEntry, RunEntry]], own: list[Any], up: str
) -> list[dict[str, Any]]:
    """Printed numbers of this very model beside ours, with the difference and what the settings differ in."""
    found = []
    for table, run in held:
        for column in table.metrics:
            metric = site.metric(run, column.id)
            for one in table.printed.get(column.id, []):
                row = site.board.papers[one.row]
                if row not in own or metric is None or metric.value is None:
                    continue
                gap = metric.value - float(row.value)
                inside = metric.interval
                low, high = (inside.low, inside.high) if inside else (None, None)
                holds = low is not None and high is not None and low <= row.value <= high
                found.append(
                    {
                        "row": row,
                        "label": column.label,
                        "ours": number(metric.value, column.decimals),
                        "gap": number(gap, column.decimals, sign=True),
                        "reading": "inside our interval" if holds else "outside our interval",
                        "differing": one.differing,
                    }
                )
    return found


def _categories(table: TableEntry, run: RunEntry) -> dict[str, Any] | None:
    """The highest and lowest classes of the first metric that has classes."""
    metric = next((m for m in run.result.metrics if m.per_class), None) if run.result else None
    if metric is None:
        return None
    ranked = sorted(metric.per_class.items(), key=lambda pair: (-pair[1], pair[0]))
    shown = ranked if len(ranked) <= 2 * CATEGORIES_SHOWN else ranked[:CATEGORIES_SHOWN] + ranked[-CATEGORIES_SHOWN:]
    axis = axis_of([metric], [value for _, value in shown])
    rows = [(name, number(value, metric.decimals), mark_of(axis, value) if axis else None) for name, value in shown]
    return {"label": metric.label, "protocol": table.protocol, "rows": rows, "n": len(ranked)}


def _films(site: Site, held: list[tuple[TableEntry, RunEntry]], up: str) -> list[Any]:
    """Clips of the prompts that have a page: chosen by rule, the same for every model."""
    found: list[Any] = []
    for table, run in held:
        for place in site.prompts_shown[table.id]:
            prompt = site.board.prompts[place]
            if prompt.sample in run.clips and len(found) < FILMS_SHOWN:
                found.append(film(site, run, prompt, up, name="", caption_href=f"{up}prompt/{prompt.page}.html"))
    return found


def _failures(runs: list[RunEntry]) -> list[tuple[str, str]]:
    """What was rejected, by reason, and runs that did not end."""
    reasons = Counter(kind or "no reason recorded" for run in runs for _, kind, _ in run.samples.rejected)
    planned = sum(run.planned for run in runs)
    rows = [(f"rejected: {kind}", f"{n:,} of {planned:,} clips") for kind, n in sorted(reasons.items())]
    ended = sum(run.state == "unfinished" for run in runs)
    if ended:
        rows.append(("runs that did not end", f"{ended:,} of {len(runs):,}"))
    undefined = [(run, m) for run in runs if run.result for m in run.result.metrics if m.value is None]
    rows += [(f"{m.label} failed", m.note or "no reason was recorded") for _, m in undefined]
    return rows


def _costs(site: Site, runs: list[RunEntry]) -> list[tuple[str, str]]:
    rows = []
    for run in runs:
        if run.result is None:
            continue
        result, parts = run.result, []
        seconds = result.timing.get("samples") or result.timing.get("generate")
        if each := cost_words(result):
            parts.append(each)
        elif seconds and result.counts.made:
            parts.append(f"{seconds / result.counts.made:.2g} s a clip")
        if total := result.timing.get("total"):
            parts.append(f"{duration(total)} in all")
        if peak := result.cost.get("peak_memory_bytes"):
            parts.append(f"peak memory {peak / GIBIBYTE:.1f} GiB")
        device = result.environment.get("device") or result.environment.get("gpu") or ""
        if device:
            parts.append(device)
        if parts:
            rows.append((site.tables[run.table].protocol, ", ".join(parts)))
    return rows


def _runs(site: Site, model: ModelEntry, runs: list[RunEntry], up: str) -> Table:
    columns = [
        Column("run", "Run"),
        Column("protocol", "Protocol"),
        Column("date", "Date"),
        Column("state", "State"),
        Column("clips", "Clips", "", "number"),
    ]
    rows = []
    for run in sorted(runs, key=lambda one: (one.date, one.id), reverse=True):
        _, label, who = site.state(run)
        rows.append(
            Row(
                run.id,
                {
                    "run": words(run.id, href=f"{up}run/{run.id}.html"),
                    "protocol": words(site.tables[run.table].protocol),
                    "date": words(day(run.date) or "not recorded"),
                    "state": words(label, two=who),
                    "clips": whole(run.result.counts.ok if run.result else len(run.samples.ids)),
                },
            )
        )
    return Table(f"runs-{model.id}", f"{model.title}, runs", columns, rows, cite=site.cites([model.id]))
