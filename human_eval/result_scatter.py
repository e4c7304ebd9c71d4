"""Automatic metrics against people as figures, and the metrics' values as a table, on the result page.

Across are percent of the figure's width, down pixels, so that marks keep their shape at any width without a script.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from eval.notation import interval as ends_text
from eval.notation import number
from human_eval.analysis.correlation import Coefficient
from human_eval.analysis.findings import Findings, MetricFindings
from human_eval.analysis.metric_points import OVER_PROMPTS, MetricPoint, MetricPoints
from human_eval.result_names import Names
from human_eval.result_tables import Column, Group, Row, Scale, Section, scale_round, several, words_of

HEIGHT = 230
# More models than there are marks: all are discs then.
MOST_MARKS = 6
LINE = 14
MOST_LETTERS = 24
Ends = tuple[float, float]


@dataclass(frozen=True)
class Dot:
    """A point: `mark` 1 to 6 is its model's shape, 0 a plain disc. `label` is empty where there is no room for it."""

    x: float
    y: float
    x_ends: Ends | None
    y_ends: Ends | None
    mark: int
    label: str = ""
    side: str = "start"


@dataclass(frozen=True)
class Plot:
    """One figure: metric across, mean score by people up. `words` say what it shows to those who do not see it."""

    title: str
    caption: str
    x_label: str
    y_label: str
    dots: tuple[Dot, ...]
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]
    words: str
    is_of_videos: bool


@dataclass(frozen=True)
class PlotGroup:
    """The figures of one aspect; `legend` is mark and name of each model."""

    name: str
    plots: tuple[Plot, ...]
    legend: tuple[tuple[int, str], ...]


def plot_groups(found: Findings, names: Names) -> tuple[PlotGroup, ...]:
    """Figures by aspect, two for a metric with a value a video. Empty without metrics."""
    groups = []
    for aspect, one in found.metrics.items():
        shown = {point.model for points in one.points for point in points.models}
        order = [opinion.model for opinion in found.aspects[aspect].opinions if opinion.model in shown]
        marks = {model: place if len(order) <= MOST_MARKS else 0 for place, model in enumerate(order, start=1)}
        plots = []
        for points, agreed in zip(one.points, one.metrics, strict=True):
            if points.models:
                plots.append(_plot(points, points.models, agreed.by_model["spearman"], aspect, names, marks))
            if len(points.items) > len(points.models):
                plots.append(_plot(points, points.items, agreed.by_item.get("spearman"), aspect, names, marks))
        if plots:
            legend = tuple((marks[model], names.model(model)) for model in order if marks[model])
            groups.append(PlotGroup(names.aspect(aspect), tuple(plots), legend))
    return tuple(groups)


def _plot(
    points: MetricPoints,
    shown: list[MetricPoint],
    coefficient: Coefficient | None,
    aspect: str,
    names: Names,
    marks: dict[str, int],
) -> Plot:
    across = scale_round([v for p in shown for v in (p.value, p.value_low, p.value_high)])
    up = scale_round([v for p in shown for v in (p.human, p.human_low, p.human_high)])
    is_of_videos = bool(shown[0].item)
    dots = [_dot(point, across, up, marks[point.model]) for point in shown]
    if not is_of_videos:
        dots = _labelled(dots, [names.model(point.model) for point in shown])
    what = several(len(shown), "video" if is_of_videos else "model")
    caption = f"{what}, {_coefficient_words(coefficient)}"
    better = f"{points.metric}, {points.direction} is better"
    words = f"{names.aspect(aspect)} against {better}, {caption}."
    if is_of_videos:
        words += " A point a video; its numbers are in analysis.json."
    else:
        words += "".join(f" {_point_words(point, names)}." for point in shown)
    return Plot(
        title=f"{points.metric} by {'video' if is_of_videos else 'model'}",
        caption=caption,
        x_label=better,
        y_label=names.aspect(aspect),
        dots=tuple(dots),
        x_ticks=across.ticks(),
        y_ticks=tuple((_down(at), words) for at, words in up.ticks()),
        words=words,
        is_of_videos=is_of_videos,
    )


def _dot(point: MetricPoint, across: Scale, up: Scale, mark: int) -> Dot:
    x, y = across.at(point.value) or 0.0, _down(up.at(point.human))
    x_ends = y_ends = None
    if point.value_low is not None and point.value_high is not None:
        x_ends = (across.at(point.value_low) or 0.0, across.at(point.value_high) or 0.0)
    if point.human_low is not None and point.human_high is not None:
        y_ends = (_down(up.at(point.human_low)), _down(up.at(point.human_high)))
    return Dot(x, y, x_ends, y_ends, mark)


def _down(at: float | None) -> float:
    return round(HEIGHT * (1 - (at or 0.0) / 100), 2)


def _labelled(dots: list[Dot], names: list[str]) -> list[Dot]:
    """Each with its name on the side that has more room, where no other name stands on that line."""
    out: list[Dot] = []
    for dot, name in zip(dots, names, strict=True):
        side = "end" if dot.x > 50 else "start"
        is_free = all(not other.label or abs(other.y - dot.y) >= LINE for other in out)
        short = name if len(name) <= MOST_LETTERS else name[: MOST_LETTERS - 1].rstrip() + "…"
        out.append(Dot(dot.x, dot.y, dot.x_ends, dot.y_ends, dot.mark, short if is_free else "", side))
    return out


def _coefficient_words(one: Coefficient | None) -> str:
    if one is None or one.value is None:
        return "no coefficient: one side does not vary" if one is not None and one.n >= 3 else "too few for Spearman"
    clustered = one.clustered
    inside = clustered if clustered is not None and clustered.low is not None else one.interval
    value = number(one.value, 2, sign=True)
    if inside.low is None:
        return f"Spearman {value}, no interval ({words_of(inside, 2)})"
    return f"Spearman {value}, 95 % interval {words_of(inside, 2, sign=True)}"


def _point_words(point: MetricPoint, names: Names) -> str:
    decimals = decimals_of([point.value])
    value = f"{number(point.value, decimals)}, {_ends(point.value_low, point.value_high, decimals)}"
    human = f"mean score {number(point.human, 2)}, {_ends(point.human_low, point.human_high, 2)}"
    return f"{names.model(point.model)}: {value}; {human}, n = {point.n:,}"


def _ends(low: float | None, high: float | None, decimals: int) -> str:
    return "no interval" if low is None or high is None else f"interval {ends_text(low, high, decimals)}"


def decimals_of(values: list[float]) -> int:
    """Enough digits for four significant ones of the largest value, at most four."""
    largest = max((abs(value) for value in values if math.isfinite(value)), default=0.0)
    return max(0, min(4, 3 - math.floor(math.log10(largest)))) if largest > 0 else 2


def values_section(found: Findings, names: Names) -> Section | None:
    """What each metric is for each model: the places across of the figures."""
    first: MetricFindings | None = next((one for one in found.metrics.values() if one.points), None)
    if first is None:
        return None
    groups = []
    for points in first.points:
        decimals = decimals_of([point.value for point in points.models])
        rows = []
        for point in points.models:
            ends = _ends(point.value_low, point.value_high, decimals).removeprefix("interval ")
            items = sum(one.model == point.model for one in points.items)
            over = several(items, "video") + " of the study" if items else "the whole run"
            rows.append(Row(names.model(point.model), (number(point.value, decimals), ends, over)))
        groups.append(Group(f"{points.metric}, {points.direction} is better", rows))
    runs = {points.value_interval for points in first.points}
    return Section(
        "metric-values",
        "What the metrics are",
        f"{several(len(groups), 'metric')} of {several(len({r.name for g in groups for r in g.rows}), 'model')}.",
        "A metric with a value a video is the mean over the prompts of the study, with Student's t over them."
        if OVER_PROMPTS in runs
        else "Values and intervals are those of the runs that the study was made from.",
        "Model",
        (Column("Value", kind="right"), Column("95 % interval", kind="right"), Column("Over")),
        groups,
    )
