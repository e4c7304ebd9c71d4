"""From records to the rows of a page: every number as text with the metric's digits, and its place on a scale.

Positions are percentages of a cell's width; the template only places them.
"""

from __future__ import annotations

import hashlib
import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from eval.notation import (
    Axis,
    axis_of,
    better,
    count,
    interval_of,
    label_of,
    missing_words,
    number,
    percent,
)
from eval.protocol import Protocol
from eval.published import PublishedRow, matches, printed_name, printed_value, rows_for
from eval.records import MetricResult, Result, SampleLine

SAMPLES_SHOWN = 4
FIRST_ROWS = 8
CLASSES_SHOWN = 5
# Said elsewhere in the command, or about a place of one machine and not about a number.
NOT_REPEATED = frozenset(
    {"generator", "generators", "protocol", "protocol-name", "seed", "out", "on-existing", "dry-run", "json", "quiet"}
)


@dataclass(frozen=True)
class Mark:
    """A value on a scale, in percent of the width: interval ends, disc, floor, extrapolated value, ticks with text."""

    value: str = ""
    low: str = ""
    high: str = ""
    floor: str = ""
    extrapolated: str = ""
    ticks: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class MetricRow:
    """One line of the table of results."""

    label: str
    id: str
    better: str
    value: str
    interval: str
    level: str
    floor: str
    n: str
    mark: Mark | None
    alt: str
    missing: str
    facts: tuple[tuple[str, str], ...]


def metric_rows(result: Result) -> list[MetricRow]:
    """Every metric of the result, in its order."""
    return [_metric_row(metric, result.metrics) for metric in result.metrics]


def _metric_row(metric: MetricResult, among: Sequence[MetricResult]) -> MetricRow:
    label = label_of(metric, among)
    level = percent(metric.interval.level) if metric.interval else "95 %"
    floor = "none" if metric.floor is None else number(metric.floor, metric.decimals)
    axis = axis_of([metric])
    alt = f"{label} {number(metric.value, metric.decimals)}, {level} interval {interval_of(metric)}"
    return MetricRow(
        label=label,
        id=metric.id,
        better=better(metric.direction),
        value=number(metric.value, metric.decimals),
        interval=interval_of(metric),
        level=level,
        floor=floor,
        n=count(metric.n_fake),
        mark=_mark(metric, axis) if axis and metric.value is not None else None,
        alt=f"{alt}, floor {floor}, n = {count(metric.n_fake)}",
        missing="; ".join(missing_words(metric)),
        facts=tuple(_metric_facts(metric)),
    )


def _metric_facts(metric: MetricResult) -> list[tuple[str, str]]:
    facts = [("Fingerprint", metric.fingerprint), ("Generated clips", count(metric.n_fake))]
    if metric.n_real is not None:
        facts.append(("Real clips", count(metric.n_real)))
    if metric.interval:
        facts.append(("Interval by", metric.interval.method))
    if metric.floor is not None and metric.floor_note:
        facts.append(("Floor", metric.floor_note))
    if line := metric.extrapolated:
        shown = f"{number(line.value, metric.decimals)} ({number(line.low, metric.decimals)} to "
        facts.append(("At infinite n", f"{shown}{number(line.high, metric.decimals)})"))
        points = ", ".join(f"{number(v, metric.decimals)} at {count(n)}" for n, v in line.points)
        facts.append(("By number of clips", points))
    if weights := metric.weights:
        kind = "hash publicly known" if weights.is_verified else "hash not publicly known"
        facts.append(("Weights", f"{weights.name}, sha256 {weights.sha256}, {weights.origin}, {kind}"))
    facts += [(name.replace("_", " ").capitalize(), _plain(value)) for name, value in metric.details.items()]
    return facts


def _plain(value: float | int | str) -> str:
    return f"{value:,.6g}" if isinstance(value, float) else count(value) if isinstance(value, int) else value


def _mark(metric: MetricResult, axis: Axis) -> Mark:
    decimals = _step_decimals(axis.step)
    inside = metric.interval
    line = metric.extrapolated
    return Mark(
        value=_place(axis, metric.value),
        low=_place(axis, inside.low) if inside else "",
        high=_place(axis, inside.high) if inside else "",
        floor=_place(axis, metric.floor),
        extrapolated=_place(axis, line.value) if line and axis.low <= line.value <= axis.high else "",
        ticks=tuple((_place(axis, tick), number(tick, decimals)) for tick in axis.ticks()),
    )


def _place(axis: Axis, value: float | None) -> str:
    """Percent of the width; 5 % are left free at both ends so that marks and labels are not cut."""
    return "" if value is None else f"{5 + 90 * axis.share(value):.2f}%"


def _step_decimals(step: float) -> int:
    return max(0, -math.floor(math.log10(step) + 1e-9) + (f"{step:e}"[2] != "0"))


@dataclass(frozen=True)
class PrintedRow:
    """A number from a paper, beside the run's own: hollow, and never in one order with it unless the setting is."""

    name: str
    value: str
    std: str
    place: str
    setting: str
    confidence: str
    source: str
    note: str
    disputes: tuple[int, ...]
    is_same: bool
    differing: str


@dataclass(frozen=True)
class PrintedBlock:
    """All printed numbers of one metric, the run's own mark, and their common scale."""

    label: str
    own: MetricRow
    own_place: Mark
    first: tuple[PrintedRow, ...]
    rest: tuple[PrintedRow, ...]
    n_same: int
    common: str
    ticks: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Printed:
    """A block for each metric that papers printed, and footnotes that many rows share: disputes, (key, source)."""

    blocks: tuple[PrintedBlock, ...]
    disputes: tuple[str, ...]
    sources: tuple[tuple[str, str], ...]


def printed_numbers(result: Result, protocol: Protocol | None) -> Printed:
    """Everything that papers printed for the metrics of a run."""
    blocks = []
    disputes: list[str] = []
    sources: dict[str, str] = {}
    for metric in result.metrics:
        rows = rows_for(result, metric)
        axis = axis_of([metric], [float(row.value) for row in rows])
        if rows and axis is not None:
            disputes += [text for row in rows for text in row.disputes if text not in disputes]
            sources |= {row.source: row.source_text for row in rows}
            blocks.append(_printed_block(metric, result, rows, axis, protocol, disputes))
    return Printed(tuple(blocks), tuple(dict.fromkeys(disputes)), tuple(sorted(sources.items())))


def _printed_block(
    metric: MetricResult,
    result: Result,
    rows: Sequence[PublishedRow],
    axis: Axis,
    protocol: Protocol | None,
    disputes: list[str],
) -> PrintedBlock:
    spec = next((s for s in protocol.metrics if s.id == metric.id), None) if protocol else None
    unknown = (False, ["the run's protocol is not recorded"])
    held = [(row, *(matches(row, protocol, spec) if protocol else unknown)) for row in rows]
    held.sort(key=lambda item: not item[1])
    common = [words for words in held[0][2] if all(words in differing for _, _, differing in held)]
    notes = list(dict.fromkeys(disputes))
    printed = [_printed_row(row, is_same, differing, common, axis, notes) for row, is_same, differing in held]
    own = _mark(metric, axis) if metric.value is not None else Mark()
    return PrintedBlock(
        label=printed_name(metric),
        own=_metric_row(metric, result.metrics),
        own_place=own,
        first=tuple(printed[:FIRST_ROWS]),
        rest=tuple(printed[FIRST_ROWS:]),
        n_same=sum(row.is_same for row in printed),
        common="; ".join(common),
        ticks=tuple((_place(axis, tick), number(tick, _step_decimals(axis.step))) for tick in axis.ticks()),
    )


def _printed_row(
    row: PublishedRow,
    is_same: bool,
    differing: Sequence[str],
    common: Sequence[str],
    axis: Axis,
    disputes: Sequence[str],
) -> PrintedRow:
    fields = dict.fromkeys(words.partition(":")[0] for words in differing if words not in common)
    return PrintedRow(
        name=row.name,
        value=printed_value(row),
        std=f"± {row.std}" if row.std is not None else "",
        place=_place(axis, float(row.value)),
        setting=row.facts,
        confidence=row.confidence,
        source=row.source,
        note=row.note,
        disputes=tuple(disputes.index(text) + 1 for text in row.disputes),
        is_same=is_same,
        differing=", ".join(fields),
    )


@dataclass(frozen=True)
class SampleCard:
    """A sample by rule. `href` is a relative address inside the run folder, or "" where the video is not there."""

    rule: str
    score: str
    prompt: str
    id: str
    href: str
    file: str


def sample_cards(result: Result, run: Path, samples: Sequence[SampleLine]) -> tuple[str, list[SampleCard]]:
    """The rule, and the samples that it gives: never by hand.

    Best, median and worst by the first metric that scores single samples, then random ones in the order of SHA-256
    of the run's seed and their id.
    """
    accepted = [sample for sample in samples if sample.ok]
    by_chance = sorted(accepted, key=lambda s: hashlib.sha256(f"{result.seed}/{s.id}".encode()).digest())
    scored = next((m for m in result.metrics if sum(m.id in s.scores for s in accepted) > 2), None)
    chosen: list[tuple[str, str, SampleLine]] = []
    rule = f"Random samples, seed {result.seed}; never chosen by hand."
    if scored is not None:
        sign = 1 if scored.direction == "lower" else -1
        ranked = sorted(
            (s for s in accepted if scored.id in s.scores), key=lambda s: (sign * s.scores[scored.id], s.id)
        )
        for name, sample in (("Best", ranked[0]), ("Median", ranked[len(ranked) // 2]), ("Worst", ranked[-1])):
            chosen.append((name, number(sample.scores[scored.id], scored.decimals), sample))
        rule = f"Chosen by rule from {scored.label}, and at random with seed {result.seed}; never by hand."
    taken = {sample.id for _, _, sample in chosen}
    rest = [sample for sample in by_chance if sample.id not in taken][: SAMPLES_SHOWN - len(chosen)]
    chosen += [(f"Random, seed {result.seed}", "", sample) for sample in rest]
    return rule, [
        SampleCard(name, score, sample.prompt, sample.id, _href(run, sample.file), sample.file)
        for name, score, sample in chosen
    ]


def _href(run: Path, file: str) -> str:
    """The video's address relative to the page, if it lies inside the run folder."""
    path = run / file
    try:
        is_inside = bool(file) and path.resolve().is_relative_to(run.resolve()) and path.is_file()
    except (OSError, ValueError):
        return ""
    return quote(path.resolve().relative_to(run.resolve()).as_posix()) if is_inside else ""


def audit_rows(result: Result) -> list[tuple[str, str, str]]:
    """(reason, clips, share) of everything that was planned."""
    counts = result.counts
    rows = [("Accepted", counts.ok)]
    rows += sorted(counts.reasons.items(), key=lambda pair: (-pair[1], pair[0]))
    named = sum(counts.reasons.values())
    if counts.rejected > named:
        rows.append(("Rejected, reason not recorded", counts.rejected - named))
    if counts.made < counts.planned:
        rows.append(("Not made", counts.planned - counts.made))
    total = max(counts.planned, 1)
    return [
        (name, count(n), f"{100 * n / total:.0f} %" if n in (0, total) else f"{100 * n / total:.1f} %")
        for name, n in rows
    ]


def data_rows(result: Result) -> list[tuple[str, str]]:
    """What was found of the data set."""
    data = result.data
    rows = [("Data set", data.title or data.name), ("Folder", data.root), ("Split", data.split)]
    rows += [("Videos in the list", count(data.n_items)), ("Reference clips", count(data.n_reference))]
    rows += [("Held-out clips", count(data.n_heldout)), ("Missing videos", count(data.n_missing))]
    rows += [("Videos in no list", count(data.n_extra)), ("Broken or too short", count(data.n_broken))]
    rows.append(("Hash of the list", f"sha256 {data.list_sha256}"))
    return [(term, value) for term, value in rows if value]


def protocol_rows(protocol: Protocol) -> list[tuple[str, str]]:
    """The protocol in words; all of it is in manifest.json."""
    clip = protocol.clip
    fps = "every decoded frame" if clip.fps is None else f"{clip.fps:g} frames a second"
    size = f"{clip.size[1]} × {clip.size[0]}, {clip.resize}" if clip.size else "as it is"
    window = f"{clip.choice} window, {clip.per_video} a video"
    rows = [
        ("Protocol", protocol.title or protocol.name),
        ("Clip", f"{clip.frames} frames, stride {clip.stride}, {fps}"),
        ("Cut", f"{window}, first {clip.given} frames given" if clip.given else window),
        ("Size before the networks", size + (", antialias" if clip.size and clip.antialias else "")),
        ("Generated", f"{count(protocol.n_fake)} clips, prompts by {protocol.prompts}"),
        ("Real", f"{count(protocol.n_real)} clips" if protocol.n_real is not None else "every clip"),
        ("Split", protocol.split + (f"; held out: {protocol.heldout}" if protocol.heldout else "")),
        ("Source", protocol.source),
        ("Changed here", "; ".join(protocol.changes)),
    ]
    return [(term, value) for term, value in rows if value]


def class_rows(result: Result) -> tuple[str, list[tuple[str, str]]]:
    """Label of the metric, and its five highest and five lowest classes."""
    for metric in result.metrics:
        if metric.per_class:
            ranked = sorted(metric.per_class.items(), key=lambda pair: (-pair[1], pair[0]))
            shown = ranked if len(ranked) <= 2 * CLASSES_SHOWN else ranked[:CLASSES_SHOWN] + ranked[-CLASSES_SHOWN:]
            return metric.label, [(name, number(value, metric.decimals)) for name, value in shown]
    return "", []


def command(result: Result) -> str:
    """The command that makes the run again, quoted for a shell."""
    words = ["cogeval", result.benchmark, "--generator", result.generator.spec]
    words += ["--protocol", result.protocol_name, "--seed", str(result.seed)]
    for choice in result.settings:
        if choice.origin in ("flag", "environment") and choice.name not in NOT_REPEATED:
            words += _flag(choice.name, choice.value)
    return shlex.join(words)


def _flag(name: str, value: Any) -> list[str]:
    text = str(value)
    if text in ("True", "False"):
        return [f"--{name}" if text == "True" else f"--no-{name}"]
    return [] if text in ("None", "") else [f"--{name}", text]
