"""One run: what was asked, on what machine it ran, what it took, every sample, and the hash of every file."""

from __future__ import annotations

from typing import Any

from eval.notation import cautions, count, duration, fingerprint, number, verdicts
from reports.board.document import RunEntry
from reports.board.names import metric_page
from reports.board.tables import protocol_of
from reports.site.sample_table import SampleTable
from reports.site.site import Site, day, facts_of, metric_href
from reports.site.table import Cell, Column, Row, Table, words
from reports.tables import generator_rows, protocol_rows

REJECTED_SHOWN = 100


def page(site: Site, run: RunEntry) -> dict[str, Any]:
    """Everything that the template shows."""
    up = "../"
    table = site.tables[run.table]
    samples = SampleTable(site, run)
    result = run.result
    metrics = _metrics(site, run, up)
    return site.frame(f"{site.title(run)}, run {run.id}", 1, "Data") | {
        "run": run,
        "table": table,
        "model": site.models[run.model],
        "title": site.title(run),
        "state": site.state(run),
        "date": day(run.date) or "not recorded",
        "verdicts": verdicts(result) if result else [],
        "cautions": cautions(result) if result else [],
        "metrics": metrics,
        "exports": site.export(metrics, up) if metrics.rows else [],
        "is_current": run.id in table.runs,
        "config": _config(run),
        "protocol": protocol_rows(protocol) if (protocol := protocol_of(run)) else [],
        "generator": generator_rows(result.generator) if result else [],
        "environment": sorted(result.environment.items()) if result else [],
        "timings": [(name, duration(seconds)) for name, seconds in sorted(result.timing.items())] if result else [],
        "settings": [
            (one.name, one.value, ", ".join(w for w in (one.origin, one.reason) if w)) for one in result.settings
        ]
        if result
        else [],
        "samples": samples.shown,
        "n_samples": samples.n,
        "sample_exports": site.export(samples.shown, up, samples.texts) if samples.n else [],
        "rejected": run.samples.rejected[:REJECTED_SHOWN],
        "n_rejected": len(run.samples.rejected),
        "inputs": run.inputs,
        "licences": sorted(result.licences.items()) if result else [],
        "spec": run.result.generator.spec if run.result else "",
        "fingerprint": fingerprint(table.fingerprint),
    }


def _metrics(site: Site, run: RunEntry, up: str) -> Table:
    table = site.tables[run.table]
    columns = [
        Column("metric", "Metric"),
        Column("value", "Value", "95 % interval", "number", has_interval=True),
        Column("n", "n", "", "number"),
        Column("fingerprint", "Fingerprint"),
        Column("details", "How it was made"),
    ]
    rows = []
    for metric in run.result.metrics if run.result else []:
        column = next(one for one in table.metrics if one.id == metric.id)
        value = site.value_cell(table, run, column, site.axis(table, column))
        value.href = f"#{metric_page(metric.id)}"  # the number is at home here
        details = [f"{name.replace('_', ' ')} {_plain(value)}" for name, value in metric.details.items()]
        rows.append(
            Row(
                metric_page(metric.id),
                {
                    "metric": words(metric.label, two=metric.id, href=metric_href(up, metric.id)),
                    "value": value,
                    "n": Cell(count(metric.n_fake), value=float(metric.n_fake)),
                    "fingerprint": words(metric.fingerprint),
                    "details": words("; ".join(details) or "nothing more was recorded"),
                },
            )
        )
    title = f"Run {run.id}, metrics"
    return Table(f"run-{run.id}", title, columns, rows, cite=site.cites([run.model]), has_ids=True)


def _plain(value: float | int | str) -> str:
    return f"{value:,.6g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else value


def _config(run: RunEntry) -> list[tuple[str, str]]:
    result = run.result
    rows = [("Run", run.id), ("Folder", run.folder), ("Who", run.by or "not stated"), ("Status", run.state)]
    if result:
        rows += [
            ("Generator", result.generator.spec),
            ("Benchmark", result.benchmark_title or result.benchmark),
            ("Protocol", result.protocol_name),
            ("Seed", str(result.seed)),
            ("Clips", f"{count(result.counts.ok)} of {count(result.counts.planned)} scored"),
            ("Data", f"{result.data.title or result.data.name} {result.data.split}".strip()),
            ("List of videos", f"sha256 {result.data.list_sha256}"),
        ]
        if peak := result.cost.get("peak_memory_bytes"):
            rows.append(("Peak memory", f"{peak / 1024**3:.1f} GiB"))
    return facts_of(rows)


__all__ = ["number", "page"]
