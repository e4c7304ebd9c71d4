"""From records to the rows of a page: every number as text with the metric's digits, and its mark on a scale."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from eval.intervals import linearised
from eval.notation import (
    axis_of,
    better,
    count,
    interval,
    interval_of,
    label_of,
    missing_words,
    number,
    percent,
)
from eval.protocol import Protocol
from eval.records import GeneratorFacts, MetricResult, Result, SampleLine
from reports.figures import Mark, Rows, alt_of, interval_row, metric_mark, round_axis

CLASSES_SHOWN = 5
# Below this Student's quantile is only a rough one, and a class says little anyway.
FEWEST_FOR_INTERVAL = 5
# Said elsewhere in the command, or about a place of one machine and not about a number.
NOT_REPEATED = frozenset(
    {"generator", "generators", "protocol", "protocol-name", "seed", "out", "on-existing", "dry-run", "json", "quiet"}
)


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
    return [metric_row(metric, result.metrics) for metric in result.metrics]


def metric_row(metric: MetricResult, among: Sequence[MetricResult]) -> MetricRow:
    """One metric with its label among those of its run."""
    return MetricRow(
        label=label_of(metric, among),
        id=metric.id,
        better=better(metric.direction),
        value=number(metric.value, metric.decimals),
        interval=interval_of(metric),
        level=percent(metric.interval.level) if metric.interval else "95 %",
        floor="none" if metric.floor is None else number(metric.floor, metric.decimals),
        n=count(metric.n_fake),
        mark=metric_mark(metric, axis_of([metric])),
        alt=alt_of(metric, among),
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
        ("Size", size + (", antialias" if clip.size and clip.antialias else "")),
        ("Generated", f"{count(protocol.n_fake)} clips, prompts by {protocol.prompts}"),
        ("Real", f"{count(protocol.n_real)} clips" if protocol.n_real is not None else "every clip"),
        ("Split", protocol.split + (f"; held out: {protocol.heldout}" if protocol.heldout else "")),
        ("Source", protocol.source),
        ("Changed here", "; ".join(protocol.changes)),
    ]
    return [(term, value) for term, value in rows if value]


def generator_rows(facts: GeneratorFacts) -> list[tuple[str, str]]:
    """What a generator says of itself: sampling settings, weights with their hashes, sizes of its networks."""
    rows = []
    for name, value in facts.description.items():
        if name in ("kind", "argument", "name"):  # the generator's name on the page says these
            continue
        inner = value if name == "settings" and isinstance(value, dict) else {name: value}
        rows += [(_spaced(key).capitalize(), _in_line(part)) for key, part in inner.items()]
    return [(term, value) for term, value in rows if value]


def _spaced(name: object) -> str:
    return str(name).replace("_", " ")


def _in_line(value: Any) -> str:
    """Nested settings as one line: `temperature 0.9, top k clusters 6`."""
    if isinstance(value, dict):
        return ", ".join(f"{_spaced(name)} {text}" for name, part in value.items() if (text := _in_line(part)))
    if isinstance(value, list | tuple):
        return ", ".join(filter(None, map(_in_line, value)))
    if value is None or isinstance(value, bool):
        return {None: "none", True: "yes", False: "no"}[value]
    return f"{value:g}" if isinstance(value, float) else str(value)


@dataclass(frozen=True)
class Classes:
    """The mean of one metric's scores in every class: five highest and five lowest as a figure, all as a table."""

    label: str
    shown: Rows
    every: tuple[tuple[str, str, str, str], ...]
    note: str


def class_figures(result: Result, samples: Sequence[SampleLine]) -> Classes | None:
    """By class, for the first metric that has values of classes; intervals from the scores of single samples."""
    metric = next((m for m in result.metrics if m.per_class), None)
    if metric is None:
        return None
    scores: dict[str, dict[str, float]] = {}
    for sample in samples:
        if sample.ok and metric.id in sample.scores:
            scores.setdefault(sample.label, {})[sample.id] = sample.scores[metric.id]
    ranked = sorted(metric.per_class.items(), key=lambda pair: (-pair[1], pair[0]))
    known = {name: _class_interval(value, scores.get(name, {})) for name, value in ranked}
    shown = ranked if len(ranked) <= 2 * CLASSES_SHOWN else ranked[:CLASSES_SHOWN] + ranked[-CLASSES_SHOWN:]
    ends = [end for name, _ in shown for end in known[name] or ()]
    axis = round_axis([*(value for _, value in shown), *ends])
    rows = tuple(
        interval_row(axis, name, value, low, high, metric.decimals, kind="own")
        for name, value in shown
        for low, high in [known[name] or (None, None)]
    )
    every = tuple(
        (name, number(value, metric.decimals), _spread(known[name], metric.decimals), count(len(scores.get(name, {}))))
        for name, value in ranked
    )
    where = "" if len(shown) == len(ranked) else f" Five highest and five lowest of {len(ranked)}."
    has_all = all(known.values())
    what = "95 % interval from the clips of the class." if any(known.values()) else ""
    few = "" if has_all else " Where a class has fewer than five scored clips, n is too small for an interval."
    label = label_of(metric, result.metrics)
    return Classes(label, Rows(label, rows, head=("Class", label, "")), every, f"{label}.{where} {what}{few}".strip())


def _class_interval(value: float, scores: dict[str, float]) -> tuple[float, float] | None:
    if len(scores) < FEWEST_FOR_INTERVAL:
        return None
    return linearised(value, [([score - value for score in scores.values()], list(scores))])


def _spread(ends: tuple[float, float] | None, decimals: int) -> str:
    return interval(*ends, decimals) if ends else "n too small"


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
