"""`report.html` of one run: one file, no script, nothing from elsewhere; numbers as the terminal prints them."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from eval.notation import (
    cautions,
    clip_words,
    count,
    duration,
    fingerprint,
    interval,
    label_of,
    number,
    percent,
    plural,
    title_of,
    verdicts,
)
from eval.protocol import Protocol, protocol_from
from eval.records import MetricResult, Result, read_manifest, read_result, read_samples, whole_file
from reports.tables import (
    audit_rows,
    class_rows,
    command,
    data_rows,
    metric_rows,
    printed_numbers,
    protocol_rows,
    sample_cards,
)

TEMPLATES = Path(__file__).with_name("templates")
GIBIBYTE = 1024**3


def write_report(run: Path) -> Path:
    """Write `report.html` into a run folder from its records, whole, and the same bytes from the same records.

    Works from `result.json` alone; the manifest adds the protocol, `samples.jsonl` adds the samples. Raises UserError
    if the result cannot be read.
    """
    path = run / "report.html"
    page = render(run)
    with whole_file(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return path


def render(run: Path) -> str:
    """The page as text."""
    result = read_result(run)
    protocol = _protocol(run)
    rule, cards = sample_cards(result, run, list(read_samples(run).values()))
    class_metric, classes = class_rows(result)
    values: dict[str, Any] = {
        "result": result,
        "is_embedded": bool(protocol and protocol.embedded),
        "folder": run.resolve().name,
        "title": title_of(result),
        "lead": lead(result),
        "clips": clip_words(result),
        "verdicts": verdicts(result),
        "is_partial": result.status == "partial" or result.counts.ok < result.counts.planned,
        "counts": f"{count(result.counts.ok)} of {count(result.counts.planned)}",
        "fingerprint": fingerprint(result.fingerprint),
        "metrics": metric_rows(result),
        "cautions": [_headed(text) for text in cautions(result)],
        "printed": printed_numbers(result, protocol),
        "rule": rule,
        "cards": cards,
        "class_metric": class_metric,
        "classes": classes,
        "audit": audit_rows(result),
        "data": data_rows(result),
        "protocol": protocol_rows(protocol) if protocol else [("Protocol", result.protocol_name)],
        "command": command(result),
        "costs": costs(result),
        "environment": sorted(result.environment.items()),
        "has_manifest": (run / "manifest.json").exists(),
        "has_samples": (run / "samples.jsonl").exists(),
    }
    return _environment().get_template("run.html.j2").render(values)


def lead(result: Result) -> list[tuple[str, str]]:
    """The answer as a sentence that can be quoted, in pieces of (text, "strong" or "")."""
    metric = next((m for m in result.metrics if m.value is not None), None)
    if metric is None:
        return [("No metric of this run has a value.", "")]
    pieces = [(f"{label_of(metric, result.metrics)} {number(metric.value, metric.decimals)}", "strong")]
    pieces.append((f", {_spread(metric)}, from {_clips(result, metric)}. ", ""))
    if metric.floor is not None:
        floor = number(metric.floor, metric.decimals)
        if metric.direction == "lower":
            pieces.append((f"Two real sets of the same size differ by {floor}.", ""))
        else:
            pieces.append((f"Held-out real clips score {floor}.", ""))
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
    """Time and memory in a sentence."""
    words = []
    if "total" in result.timing:
        words.append(duration(result.timing["total"]))
    parts = [f"{name} {duration(value)}" for name, value in result.timing.items() if name != "total"]
    if parts:
        words.append(", ".join(parts))
    if peak := result.cost.get("peak_memory_bytes"):
        words.append(f"peak memory {peak / GIBIBYTE:.1f} GiB")
    return "; ".join(words)


def _headed(text: str) -> tuple[str, str]:
    """A warning as title and note, where it begins with a short claim."""
    claim, colon, rest = text.partition(": ")
    return (claim, rest) if colon and len(claim) <= 60 else ("Note", text)


def _protocol(run: Path) -> Protocol | None:
    if not (run / "manifest.json").exists():
        return None
    try:
        return protocol_from(read_manifest(run).protocol)
    except TypeError:
        return None


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_showable,
    )
    environment.globals["plural"] = plural
    environment.globals["language_of"] = language_of
    return environment


def language_of(text: str) -> str:
    """`zh` for text with Chinese characters, so that a browser takes the right face; else no claim."""
    return "zh" if any("\u4e00" <= character <= "\u9fff" for character in text) else ""


def _showable(value: Any) -> Any:
    """Text without control characters, which no page may hold, and without halves of characters."""
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    clean = value.encode("utf-8", "replace").decode()
    return "".join("\N{REPLACEMENT CHARACTER}" if _is_control(c) else c for c in clean)


def _is_control(character: str) -> bool:
    return (ord(character) < 32 and character not in "\t\n") or 127 <= ord(character) < 160
