"""From numbers to places in a figure; `templates/figures.html.j2` draws them.

Horizontal places are percentages of the width and vertical ones pixels, so that marks keep their shape at any width
without script. Every figure carries a text that says what it shows; the same numbers stand in a table beside it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache

from eval.notation import Axis, axis_of, count, interval, interval_of, label_of, number, percent
from eval.records import MetricResult

# Room at both ends of an axis for marks and the halves of labels, in percent of the width.
MARGIN = 5.0
LABEL_STEP = 18
CURVE_HEIGHT = 180
HISTORY_HEIGHT = 28
STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)


@dataclass(frozen=True)
class Mark:
    """A value on a scale: interval ends, disc, floor, extrapolated value, zero, ticks with text; "" for what is not."""

    value: str = ""
    low: str = ""
    high: str = ""
    floor: str = ""
    extrapolated: str = ""
    zero: str = ""
    ticks: tuple[tuple[str, str], ...] = ()


def place(axis: Axis, value: float | None) -> str:
    """Percent of the width; a little is left free at both ends so that marks and labels are not cut."""
    if value is None or not math.isfinite(value):
        return ""
    return f"{MARGIN + (100 - 2 * MARGIN) * axis.share(value):.2f}%"


@cache
def ticks_of(axis: Axis) -> tuple[tuple[str, str], ...]:
    """(place, text) of every tick, all with the same decimals."""
    decimals = step_decimals(axis.step)
    return tuple((place(axis, tick), number(tick, decimals)) for tick in axis.ticks())


def step_decimals(step: float) -> int:
    """Digits after the point that tell neighbouring ticks apart."""
    return max(0, -math.floor(math.log10(step) + 1e-9) + (f"{step:e}"[2] != "0"))


def mark_of(
    axis: Axis,
    value: float | None,
    low: float | None = None,
    high: float | None = None,
    *,
    floor: float | None = None,
    extrapolated: float | None = None,
    has_zero: bool = False,
) -> Mark:
    """A mark on an axis. What is None or not finite is not drawn; an extrapolated value outside the axis neither."""
    is_on_axis = extrapolated is not None and axis.low <= extrapolated <= axis.high
    return Mark(
        value=place(axis, value),
        low=place(axis, low),
        high=place(axis, high),
        floor=place(axis, floor),
        extrapolated=place(axis, extrapolated) if is_on_axis else "",
        zero=place(axis, 0.0) if has_zero else "",
        ticks=ticks_of(axis),
    )


def metric_mark(metric: MetricResult, axis: Axis | None = None) -> Mark | None:
    """A metric on its own axis or on a common one; None where it has no value."""
    axis = axis or axis_of([metric])
    if axis is None or metric.value is None:
        return None
    inside, line = metric.interval, metric.extrapolated
    low, high = (inside.low, inside.high) if inside else (None, None)
    end = line.value if line else None
    return mark_of(axis, metric.value, low, high, floor=metric.floor, extrapolated=end)


def alt_of(metric: MetricResult, among: Sequence[MetricResult] = ()) -> str:
    """`FVD 412.6, 95 % interval 398.1 – 428.0, floor 61.8, n = 2,048`: what a mark says to those who do not see it."""
    level = percent(metric.interval.level) if metric.interval else "95 %"
    floor = "none" if metric.floor is None else number(metric.floor, metric.decimals)
    words = f"{label_of(metric, among or [metric])} {number(metric.value, metric.decimals)}"
    return f"{words}, {level} interval {interval_of(metric)}, floor {floor}, n = {count(metric.n_fake)}"


def round_axis(values: Iterable[float], *, from_zero: bool = False, steps: int = 4) -> Axis:
    """An axis of round ticks round all values, from 0 if asked."""
    finite = [value for value in values if math.isfinite(value)] or [0.0]
    low, high = min(finite), max(finite)
    if from_zero:
        low, high = min(low, 0.0), max(high, 0.0)
    room = 0.05 * (high - low) or 0.5 * abs(high) or 1.0
    step = _round_up((high - low + 2 * room) / steps)
    start = low if from_zero and low == 0 else low - room
    first = step * math.floor(start / step + 1e-9)
    return Axis(first, first + step * max(1, math.ceil((high + room - first) / step - 1e-9)), step)


def difference_axis(values: Iterable[float]) -> Axis:
    """An axis that is symmetric round zero and holds all values."""
    furthest = max((abs(value) for value in values if math.isfinite(value)), default=0.0) or 1.0
    step = _round_up(1.05 * furthest / 2)
    return Axis(-2 * step, 2 * step, step)


def _round_up(value: float) -> float:
    power = 10.0 ** math.floor(math.log10(value))
    return next(power * factor for factor in STEPS if power * factor >= value * (1 - 1e-9))


@dataclass(frozen=True)
class Anchor:
    """A label under the ruler, on a line of its own."""

    place: str
    words: str
    y: int
    side: str


@dataclass(frozen=True)
class Ruler:
    """One axis from 0 to noise: this run above it, what is known below it."""

    mark: Mark
    words: str
    side: str
    anchors: tuple[Anchor, ...]
    height: int
    alt: str


def ruler(metric: MetricResult, name: str, anchors: Sequence[tuple[str, float]]) -> Ruler | None:
    """The axis that tells a newcomer what a distance means. `anchors` are (words, value); None without a value."""
    if metric.value is None or metric.direction != "lower":
        return None
    known = sorted(((words, value) for words, value in anchors if math.isfinite(value)), key=lambda pair: pair[1])
    inside = metric.interval
    ends = [inside.low, inside.high] if inside else []
    axis = round_axis([metric.value, *ends, *(value for _, value in known)], from_zero=True, steps=5)
    shown = tuple(
        Anchor(place(axis, value), f"{words} {number(value, metric.decimals)}", 58 + LABEL_STEP * i, _side(axis, value))
        for i, (words, value) in enumerate(known)
    )
    low, high = (inside.low, inside.high) if inside else (None, None)
    words = f"{name} {number(metric.value, metric.decimals)}"
    alt = f"{metric.label} on one axis: {words}" + "".join(f"; {anchor.words}" for anchor in shown)
    height = 62 + LABEL_STEP * len(shown)
    return Ruler(mark_of(axis, metric.value, low, high), words, _side(axis, metric.value, 0.2), shown, height, alt)


def _side(axis: Axis, value: float, edge: float = 0.33) -> str:
    """On which side of a mark its words have room; in the middle where there is room on both."""
    share = axis.share(value)
    return "start" if share < edge else "end" if edge == 0.33 or share > 1 - edge else "middle"


@dataclass(frozen=True)
class Row:
    """One line of a figure of rows. `kind` is own, mute, partial, paper or series-1 to series-6."""

    name: str
    value: str
    mark: Mark | None
    alt: str
    kind: str = "mute"
    note: str = ""
    href: str = ""
    more: str = ""


@dataclass(frozen=True)
class Rows:
    """Intervals under each other on one axis."""

    title: str
    rows: tuple[Row, ...]
    ticks: tuple[tuple[str, str], ...] = ()
    head: tuple[str, str, str] = ("Model", "Value", "")


def interval_row(
    axis: Axis,
    name: str,
    value: float | None,
    low: float | None,
    high: float | None,
    decimals: int,
    **more: str,
) -> Row:
    """A row with the text that its mark stands for. Source: `95 %` intervals unless the page says otherwise."""
    has_interval = low is not None and high is not None
    spread = f", interval {interval(low or 0.0, high or 0.0, decimals)}" if has_interval else ", no interval"
    shown = number(value, decimals)
    mark = mark_of(axis, value, low, high) if value is not None else None
    return Row(name, shown, mark, f"{name} {shown}{spread}", **more)


@dataclass(frozen=True)
class Point:
    """A point of a scatter with its two intervals; `href` leads to what it stands for."""

    name: str
    x: float
    y: float
    x_ends: tuple[float, float] | None = None
    y_ends: tuple[float, float] | None = None
    href: str = ""
    kind: str = "mute"
    is_named: bool = False


@dataclass(frozen=True)
class PlacedPoint:
    name: str
    x: str
    y: str
    x_ends: tuple[str, str] | None
    y_ends: tuple[str, str] | None
    href: str
    kind: str
    alt: str
    side: str
    is_named: bool


@dataclass(frozen=True)
class Scatter:
    """Two numbers of each thing against each other."""

    points: tuple[PlacedPoint, ...]
    x_label: str
    y_label: str
    x_ticks: tuple[tuple[str, str], ...]
    y_ticks: tuple[tuple[str, str], ...]
    alt: str
    height: int = 230


def scatter(
    points: Sequence[Point], x_label: str, y_label: str, *, x_decimals: int = 2, y_decimals: int = 2
) -> Scatter | None:
    """Points with intervals in both directions; None for none. Points that are not finite are left out and counted."""
    kept = [point for point in points if math.isfinite(point.x) and math.isfinite(point.y)]
    if not kept:
        return None
    across = round_axis([v for p in kept for v in (p.x, *(p.x_ends or ()))])
    up = round_axis([v for p in kept for v in (p.y, *(p.y_ends or ()))])

    def height(value: float) -> str:
        return f"{96 - 92 * up.share(value):.2f}%"

    placed = tuple(
        PlacedPoint(
            p.name,
            place(across, p.x),
            height(p.y),
            (place(across, p.x_ends[0]), place(across, p.x_ends[1])) if p.x_ends else None,
            (height(p.y_ends[0]), height(p.y_ends[1])) if p.y_ends else None,
            p.href,
            p.kind,
            f"{p.name}: {x_label} {number(p.x, x_decimals)}, {y_label} {number(p.y, y_decimals)}",
            "end" if across.share(p.x) > 0.7 else "start",
            p.is_named,
        )
        for p in kept
    )
    decimals = step_decimals(up.step)
    y_ticks = tuple((height(tick), number(tick, decimals)) for tick in up.ticks())
    missing = len(points) - len(kept)
    alt = f"{y_label} against {x_label} of {len(kept)}" + (f"; {missing} without both numbers" if missing else "")
    return Scatter(placed, x_label, y_label, ticks_of(across), y_ticks, alt)


@dataclass(frozen=True)
class Curve:
    """A line through points: `line` and `band` are paths in a box of 100 x 100 that is stretched to the figure."""

    line: str
    ahead: str
    band: str
    points: tuple[tuple[str, str], ...]
    end: tuple[str, str] | None
    x_ticks: tuple[tuple[str, str], ...]
    y_ticks: tuple[tuple[str, str], ...]
    end_words: str
    alt: str
    height: int = CURVE_HEIGHT
    rows: tuple[tuple[str, str], ...] = field(default=())


def n_curve(metric: MetricResult) -> Curve | None:
    """The metric against the number of clips, on a scale of 1/n up to infinity; None where fewer n were measured.

    The band is the interval at the full n, joined with that of the extrapolated value.
    """
    line = metric.extrapolated
    points = sorted({(n, v) for n, v in line.points if math.isfinite(v) and n > 0}) if line else []
    if line is None or len(points) < 2 or metric.value is None:
        return None
    inside = metric.interval
    ends = [line.low, line.high] + ([inside.low, inside.high] if inside else [])
    axis = round_axis([*(v for _, v in points), line.value, *ends])
    farthest = 1 / points[0][0]

    def across(n: float) -> float:
        return 97 - 90 * (1 / n) / farthest

    def up(value: float) -> float:
        return 96 - 92 * axis.share(value)

    last_n = points[-1][0]
    path = "M" + " L".join(f"{across(n):.2f} {up(v):.2f}" for n, v in points)
    ahead = f"M{across(last_n):.2f} {up(points[-1][1]):.2f} L97 {up(line.value):.2f}"
    band = ""
    if inside:
        corners = [(across(last_n), inside.low), (97, line.low), (97, line.high), (across(last_n), inside.high)]
        band = "M" + " L".join(f"{x:.2f} {up(v):.2f}" for x, v in corners) + "z"
    decimals = step_decimals(axis.step)
    shown = _spaced([(across(n), count(n)) for n, _ in points], 97)
    said = "; ".join(f"{number(v, metric.decimals)} at n = {count(n)}" for n, v in points)
    ends_at = f"{number(line.value, metric.decimals)} extrapolated to infinite n"
    return Curve(
        path,
        ahead,
        band,
        tuple((f"{across(n):.2f}%", f"{up(v):.2f}%") for n, v in points),
        ("97%", f"{up(line.value):.2f}%"),
        (*((f"{x:.2f}%", words) for x, words in shown), ("97%", "∞")),
        tuple((f"{up(tick):.2f}%", number(tick, decimals)) for tick in axis.ticks()),
        f"{number(line.value, metric.decimals)} extrapolated",
        f"{metric.label} against the number of clips: {said}; {ends_at}",
        rows=(*((count(n), number(v, metric.decimals)) for n, v in points), ("∞", number(line.value, metric.decimals))),
    )


def _spaced(ticks: list[tuple[float, str]], last: float, least: float = 11) -> list[tuple[float, str]]:
    """Labels that do not touch: from the right, each at least `least` percent from the one before."""
    kept: list[tuple[float, str]] = []
    limit = last
    for x, words in sorted(ticks, reverse=True):
        if limit - x >= least:
            kept.append((x, words))
            limit = x
    return kept[::-1]


def history(points: Sequence[tuple[str, float | None, float | None, float | None]], decimals: int) -> Curve | None:
    """A small line over versions: (label, value, low, high), oldest first. None where fewer than two have a value."""
    found = [p for p in points if p[1] is not None and math.isfinite(p[1])]
    if len(found) < 2:
        return None
    axis = round_axis([v for _, *three in found for v in three if v is not None and math.isfinite(v)])
    step = 94 / (len(found) - 1)

    def up(value: float | None) -> float:
        return 92 - 84 * axis.share(value or 0.0)

    places = [(3 + step * i, up(value)) for i, (_, value, _, _) in enumerate(found)]
    band = ""
    if all(low is not None and high is not None for _, _, low, high in found):
        lows = [(3 + step * i, up(low)) for i, (_, _, low, _) in enumerate(found)]
        highs = [(3 + step * i, up(high)) for i, (_, _, _, high) in enumerate(found)]
        band = "M" + " L".join(f"{x:.2f} {y:.2f}" for x, y in [*lows, *highs[::-1]]) + "z"
    said = "; ".join(f"{label} {number(value, decimals)}" for label, value, _, _ in found)
    return Curve(
        "M" + " L".join(f"{x:.2f} {y:.2f}" for x, y in places),
        "",
        band,
        tuple((f"{x:.2f}%", f"{y:.2f}%") for x, y in places),
        None,
        (),
        (),
        "",
        f"Over versions: {said}",
        height=HISTORY_HEIGHT,
        rows=tuple((label, number(value, decimals)) for label, value, _, _ in found),
    )


@dataclass(frozen=True)
class Share:
    """A part of a bar that is parted in a few: win, no difference, loss."""

    name: str
    n: int
    x: str
    width: str
    kind: str


def shares(parts: Sequence[tuple[str, int, str]]) -> tuple[Share, ...]:
    """Parts of a whole as places on a bar; `parts` are (name, count, kind), kind as of marks or "none"."""
    total = sum(n for _, n, _ in parts)
    found, before = [], 0
    for name, n, kind in parts:
        left = 100 * before / total if total else 0.0
        found.append(Share(name, n, f"{left:.3f}%", f"{100 * n / total if total else 0.0:.3f}%", kind))
        before += n
    return tuple(found)
