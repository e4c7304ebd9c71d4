"""`report.html` of one run: one file, nothing from elsewhere; numbers as the terminal prints them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from eval.notation import (
    cautions,
    clip_words,
    cost_words,
    count,
    duration,
    fingerprint,
    interval,
    label_of,
    number,
    percent,
    title_of,
    verdicts,
)
from eval.records import MetricResult, Result, whole_file
from reports.beside import Beside, anchors, beside, standing_words
from reports.downloads import Shown, downloads, schema_link
from reports.figures import Ruler, n_curve, ruler
from reports.media import media_cache
from reports.page import environment, script, script_hash, stylesheet
from reports.printed import printed_numbers
from reports.reading import RunRecords, read_run
from reports.samples import REPORT_BYTES, choose, films
from reports.tables import (
    audit_rows,
    class_figures,
    command,
    data_rows,
    generator_rows,
    metric_rows,
    protocol_rows,
)

GIBIBYTE = 1024**3
TABLES_BYTES = 100_000
FILES = ("result.json", "manifest.json", "samples.jsonl", "comparison.json")


def write_report(run: Path) -> Path:
    """Write `report.html` into a run folder from its records, whole, and the same bytes from the same records.

    Works from `result.json` alone; the manifest adds the protocol, `samples.jsonl` and the videos add the samples,
    `comparison.json` the other generators. Raises UserError if the records cannot be read.
    """
    records = read_run(run)
    path = records.folder / "report.html"
    page = render(records)
    with whole_file(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return path


def render(records: RunRecords) -> str:
    """The page as text, at most 1.5 MB of it."""
    result, protocol = records.result, records.protocol
    ours = script()
    rule, chosen = choose(result, records.samples)
    others = beside(records)
    printed = printed_numbers(result, protocol)
    curves = [(label_of(m, result.metrics), curve) for m in result.metrics if (curve := n_curve(m))]
    classes, audit = class_figures(result, records.samples), audit_rows(result)
    files = downloads(result, Shown(others, printed, curves, classes, audit))
    # The page has one budget: what tables take beyond a small part of it, videos leave.
    weight = sum(len(address) for links in files.values() for _, _, address in links)
    values: dict[str, Any] = {
        "title": title_of(result),
        "home": "",
        "nav": [],
        "current": "",
        "sample": "Embedded data" if protocol and protocol.embedded else "",
        "css": stylesheet(),
        "css_href": [],
        "js": ours,
        "js_href": [],
        "policy": _policy(ours),
        "footer": [],
        "result": result,
        "folder": records.name,
        "lead": lead(result, others),
        "is_partial": result.status == "partial" or result.counts.ok < result.counts.planned,
        "counts": f"{count(result.counts.ok)} of {count(result.counts.planned)}",
        "fingerprint": fingerprint(result.fingerprint),
        "verdicts": verdicts(result),
        "missing": records.missing,
        "ruler": _ruler(records),
        "metrics": metric_rows(result),
        "downloads": files,
        "schema": schema_link(),
        "cautions": [_headed(text) for text in cautions(result)],
        "beside": others,
        "printed": printed,
        "n_printed": sum(len(block.apart) for block in printed.blocks),
        "curves": curves,
        "rule": rule,
        "films": films(
            records.folder,
            chosen,
            _glosses(records),
            cache=media_cache(),
            total=REPORT_BYTES - max(0, weight - TABLES_BYTES),
        ),
        "classes": classes,
        "audit": audit,
        "data": data_rows(result),
        "generator": generator_rows(result.generator),
        "protocol": protocol_rows(protocol) if protocol else [("Protocol", result.protocol_name)],
        "command": command(result),
        "costs": costs(result),
        "environment": sorted(result.environment.items()),
        "files": [
            name for name in ("result.json", "manifest.json", "samples.jsonl") if (records.folder / name).exists()
        ],
    }
    return environment().get_template("run.html.j2").render(values)


def _policy(ours: str) -> str:
    """What a browser may do with the page: nothing but our script, and pictures and videos of this folder."""
    return (
        f"default-src 'none'; script-src {script_hash(ours)}; style-src 'unsafe-inline'; img-src 'self' file: data:; "
        "media-src 'self' file: data:; base-uri 'none'; form-action 'none'"
    )


def lead(result: Result, others: Beside | None = None) -> list[tuple[str, str]]:
    """The verdict as three sentences that can be quoted, in pieces of (text, "strong" or ""): the value, what real
    clips score, and how it stands."""
    metric = next((m for m in result.metrics if m.value is not None), None)
    if metric is None:
        return [("No metric of this run has a value.", "")]
    pieces = [(f"{label_of(metric, result.metrics)} {number(metric.value, metric.decimals)}", "strong")]
    pieces.append((f", {_spread(metric)}, from {_clips(result, metric)}.", ""))
    if metric.floor is not None:
        floor = number(metric.floor, metric.decimals)
        if metric.direction == "lower":
            pieces.append((f" Two real sets of the same size differ by {floor}.", ""))
        else:
            pieces.append((f" Held-out real clips score {floor}.", ""))
    if words := standing_words(others):
        pieces.append((f" {words}", ""))
    return pieces


def _spread(metric: MetricResult) -> str:
    if metric.interval is None:
        return metric.interval_note or "n too small for an interval"
    words = interval(metric.interval.low, metric.interval.high, metric.decimals).replace(" – ", " to ")
    return f"{percent(metric.interval.level)} interval {words}"


def _clips(result: Result, metric: MetricResult) -> str:
    words = [f"{count(metric.n_fake)} generated {'clip' if metric.n_fake == 1 else 'clips'}"]
    described = clip_words(result).split(", ")
    frames = next((part for part in described if part.endswith(("frame", "frames"))), "")
    size = next((part for part in described if "×" in part), "")
    words += [f"of {frames}"] if frames else []
    words += [f"at {size}"] if size else []
    return " ".join(words)


def costs(result: Result) -> str:
    """Time, memory and GPU-seconds in a sentence; of an older record, what it has."""
    words = []
    if "total" in result.timing:
        words.append(duration(result.timing["total"]))
    parts = [f"{name} {duration(value)}" for name, value in result.timing.items() if name != "total"]
    if parts:
        words.append(", ".join(parts))
    if each := cost_words(result):
        words.append(each)
    elif each_s := result.cost.get("generate_seconds_per_sample"):
        words.append(f"{each_s:.3g} s of generation a clip")
    if peak := result.cost.get("peak_memory_bytes"):
        words.append(f"peak memory {peak / GIBIBYTE:.1f} GiB")
    return "; ".join(words)


def _ruler(records: RunRecords) -> Ruler | None:
    """The first distance of the run on an axis with everything that is known of that axis."""
    result = records.result
    for metric in result.metrics:
        known = anchors(records, metric)
        if metric.direction == "lower" and metric.value is not None and known:
            return ruler(metric, result.generator.title or result.generator.spec, known)
    return None


def _headed(text: str) -> tuple[str, str]:
    """A warning as title and note, where it begins with a short claim."""
    claim, colon, rest = text.partition(": ")
    return (claim, rest) if colon and len(claim) <= 60 else ("Note", text)


def _glosses(records: RunRecords) -> dict[str, str]:
    """The English caption of each sample whose prompt is another text."""
    planned = records.manifest.planned if records.manifest else ()
    return {p.id: p.caption for p in planned if p.caption and p.caption != p.prompt}
