"""How numbers and verdicts are written, once for the terminal, the pages and the tables. Standard library only.

The same digits stand everywhere: `decimals` of the metric's record, a thousands comma, a true minus sign.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from eval.records import IntervalRecord, MetricResult, Result

MINUS = "\N{MINUS SIGN}"
TIMES = "\N{MULTIPLICATION SIGN}"
GIBIBYTE = 1 << 30
NICE_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)
SHARES = frozenset({"r-precision", "precision-recall", "precision", "recall", "density", "coverage"})


def number(value: float | None, decimals: int, *, sign: bool = False) -> str:
    """`1,209.0`; with `sign`, `+10.9`. What is not a finite number is said in words.

    >>> number(1209, 1), number(-0.04, 1), number(10.9, 1, sign=True), number(None, 2)
    ('1,209.0', '0.0', '+10.9', 'undefined')
    """
    if value is None or not math.isfinite(value):
        return "undefined"
    text = f"{abs(value):,.{decimals}f}"
    if not any(digit in text for digit in "123456789"):
        return text
    return (MINUS if value < 0 else "+" if sign else "") + text


def interval(low: float, high: float, decimals: int, *, sign: bool = False) -> str:
    """`398.1 – 428.0`; where signs occur (or `sign` asks for them), `−38.0 to +10.9`."""
    if sign or low < 0:
        return f"{number(low, decimals, sign=True)} to {number(high, decimals, sign=True)}"
    return f"{number(low, decimals)} – {number(high, decimals)}"


def interval_of(metric: MetricResult) -> str:
    """The metric's interval, or "none"."""
    if metric.interval is None:
        return "none"
    return interval(metric.interval.low, metric.interval.high, metric.decimals)


def percent(level: float) -> str:
    """0.95 -> `95 %`."""
    return f"{level * 100:g} %"


def level_of(metrics: Iterable[MetricResult]) -> str:
    """The level that all intervals share, as `95 %`; the first one's where they differ (the cells then say theirs)."""
    return next((percent(m.interval.level) for m in metrics if m.interval is not None), "95 %")


def count(value: int) -> str:
    return f"{value:,}"


def plural(value: int, noun: str) -> str:
    """`1 clip`, `2,048 clips`."""
    return f"{count(value)} {noun}{'' if value == 1 else 's'}"


def duration(seconds: float) -> str:
    """`0.4 s`, `38 s`, `4 min 10 s`, `58 min`, `1 h 12 min`."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 600:
        return f"{whole // 60} min" + (f" {whole % 60} s" if whole % 60 else "")
    minutes = round(whole / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def fingerprint(value: str) -> str:
    """Groups of four, `b41e 09d7`."""
    return " ".join(value[i : i + 4] for i in range(0, len(value), 4))


def better(direction: str) -> str:
    return f"{direction} is better"


@dataclass(frozen=True)
class Axis:
    """A scale from `low` to `high` with a tick every `step`."""

    low: float
    high: float
    step: float

    def share(self, value: float) -> float:
        """Where the value lies, 0 at the low end and 1 at the high end, held inside."""
        return min(1.0, max(0.0, (value - self.low) / (self.high - self.low)))

    def cell(self, value: float, cells: int) -> int:
        """The same as one of `cells` places, from 0."""
        return round(self.share(value) * (cells - 1))

    def ticks(self) -> list[float]:
        return [self.low + i * self.step for i in range(round((self.high - self.low) / self.step) + 1)]


def axis_of(metrics: Sequence[MetricResult], more: Sequence[float] = ()) -> Axis | None:
    """The common scale of rows of one metric, floors and `more` values included; None if no row has a value.

    Distances start at 0 and leave 5 % of room. Shares run from 0 to 1. A score without a natural zero is centred and
    its scale is about twelve intervals wide, so that the interval can be seen; it is never cut short of a row.
    """
    points = [m.value for m in metrics if m.value is not None] + list(more)
    if not points:
        return None
    intervals = [m.interval for m in metrics if m.interval is not None]
    points += [end for i in intervals for end in (i.low, i.high)]
    points += [m.floor for m in metrics if m.floor is not None]
    low, high = min(points), max(points)
    if metrics and metrics[0].metric in SHARES and low >= 0 and high <= 1:
        return Axis(0.0, 1.0, 0.25)
    if metrics and metrics[0].direction == "lower":
        return _from_zero(low, high)
    return _centred(low, high, intervals)


def _from_zero(low: float, high: float) -> Axis:
    step = _nice(1.05 * max(high, -low, 1e-12) / 5, up=True)
    return Axis(step * math.floor(low / step) if low < 0 else 0.0, 5 * step, step)


def _centred(low: float, high: float, intervals: Sequence[IntervalRecord]) -> Axis:
    widths = sorted(i.high - i.low for i in intervals if i.high > i.low)
    width = widths[len(widths) // 2] if widths else 0.0
    wanted = max(12 * width, 1.1 * (high - low))
    if wanted <= 0:
        wanted = abs(high) or 1.0
    step = _nice(wanted / 4)
    start = step * round(((low + high) / 2 - 2 * step) / step)
    while start > low:
        start -= step
    if low >= 0:
        start = max(start, 0.0)
    return Axis(start, start + step * max(4, math.ceil((high - start) / step - 1e-9)), step)


def _nice(value: float, *, up: bool = False) -> float:
    power = 10.0 ** math.floor(math.log10(value))
    steps = [power * factor for factor in NICE_STEPS]
    if up:
        return next(step for step in steps if step >= value * (1 - 1e-9))
    return min(steps, key=lambda step: abs(math.log(step / value)))


@dataclass(frozen=True)
class Verdict:
    """One line on how far a result may be trusted: its kind, the claim, and the rest of the sentence."""

    kind: str
    claim: str
    rest: str

    @property
    def text(self) -> str:
        return self.claim + self.rest


def verdicts(result: Result) -> list[Verdict]:
    """Comparable, or not and each reason; then what is missing if the run is partial."""
    found: list[Verdict] = []
    if result.comparable:
        found.append(Verdict("comparable", "Comparable", f" with numbers of protocol {result.protocol_name}"))
    else:
        reasons = result.not_comparable_because or ["the run does not say why"]
        found += [Verdict("not-comparable", "Not comparable", f" with published numbers: {r}") for r in reasons]
    counts = result.counts
    if result.status == "partial" or counts.ok < counts.planned:
        rest = f": {count(counts.ok)} of {plural(counts.planned, 'clip')} scored"
        if counts.reasons:
            named = sorted(counts.reasons.items(), key=lambda pair: (-pair[1], pair[0]))
            rest += f"; {count(counts.rejected)} rejected: " + ", ".join(f"{why} ({count(n)})" for why, n in named)
        found.append(Verdict("partial", "Partial", rest))
    return found


def cautions(result: Result) -> list[str]:
    """Everything that can change a number: the run's warnings, the metrics', and values that still move with n.

    A warning that several metrics share is said once, with all their names.
    """
    named: dict[str, list[str]] = {}
    for metric in result.metrics:
        for warning in metric.warnings:
            named.setdefault(warning, []).append(label_of(metric, result.metrics))
    lines = list(result.warnings)
    lines += [f"{', '.join(dict.fromkeys(names))}: {warning}" for warning, names in named.items()]
    for metric in result.metrics:
        if moved := still_moving(metric):
            lines.append(f"{label_of(metric, result.metrics)} {moved}")
    return list(dict.fromkeys(lines))


def still_moving(metric: MetricResult) -> str:
    """`still falls with n: 439 at 1,024, 412.6 at 2,048, 391 extrapolated`, or "" where the line in 1/n is flat."""
    line = metric.extrapolated
    if line is None or metric.value is None or line.low <= metric.value <= line.high or not line.points:
        return ""
    verb = "falls" if line.value < metric.value else "rises"
    points = sorted({(n, v) for n, v in line.points if n < metric.n_fake})[-1:]
    steps = [f"{number(v, metric.decimals)} at n = {count(n)}" for n, v in points]
    steps.append(f"{number(metric.value, metric.decimals)} at n = {count(metric.n_fake)}")
    return f"still {verb} with n: {', '.join(steps)}, {number(line.value, metric.decimals)} extrapolated"


def label_of(metric: MetricResult, among: Sequence[MetricResult]) -> str:
    """The short label, with the variant where two metrics of a run share it."""
    if sum(m.label == metric.label for m in among) > 1:
        return f"{metric.label} ({metric.id.partition('/')[2] or metric.id})"
    return metric.label


def missing_words(metric: MetricResult) -> list[str]:
    """Why a value, an interval or a floor is not there, in words: a blank would hide it."""
    notes = []
    if metric.value is None:
        notes.append(f"undefined: {metric.note or 'no reason was recorded'}")
    elif metric.interval is None:
        notes.append(f"no interval: {metric.interval_note or 'n too small for an interval'}")
    if metric.floor is None and metric.direction == "lower":
        notes.append(f"no floor: {metric.floor_note or 'not measured'}")
    return notes


def clip_words(result: Result) -> str:
    """`2,048 clips, 16 frames, 128 × 128, 1 h 12 min`: what was scored, and how long it took."""
    words = [plural(result.counts.ok, "clip")]
    frames = result.clip.get("frames")
    if isinstance(frames, int):
        words.append(f"{count(frames)} frame{'' if frames == 1 else 's'}")
    size = result.clip.get("size")
    if not size and "height" in result.clip and "width" in result.clip:
        size = (result.clip["height"], result.clip["width"])
    if isinstance(size, list | tuple) and len(size) == 2:
        words.append(f"{size[1]} {TIMES} {size[0]}")
    elif isinstance(size, str) and (both := re.fullmatch(r"(\d+)\s*[x×]\s*(\d+)", size)):
        words.append(f"{both[1]} {TIMES} {both[2]}")
    seconds = next((result.timing[key] for key in ("total_s", "total") if key in result.timing), None)
    if seconds is not None:
        words.append(duration(seconds))
    return ", ".join(words)


def cost_words(result: Result) -> str:
    """`a clip: 1.2 s and at most 3.4 GiB to make, 0.1 s and 1.6 GiB to score; 120 GPU-seconds`; empty if unknown."""
    parts = []
    for stage, verb in (("generate", "make"), ("score", "score")):
        seconds = result.cost.get(f"{stage}_seconds_per_sample")
        memory = result.cost.get(f"{stage}_peak_memory_bytes")
        if seconds is not None and memory:
            parts.append(f"{seconds:.3g} s and at most {memory / GIBIBYTE:.1f} GiB to {verb}")
    if not parts:
        return ""
    gpu = sum(result.cost.get(f"{stage}_gpu_seconds", 0.0) for stage in ("generate", "score"))
    return f"a clip: {', '.join(parts)}" + (f"; {gpu:,.0f} GPU-seconds in all" if gpu else "")


def title_of(result: Result) -> str:
    """`Model A on UCF-101`."""
    return f"{result.generator.title or result.generator.spec} on {result.benchmark_title or result.benchmark}"
