"""The figures of a report as PDF, for papers. Needs matplotlib, which is an extra: pages do without.

The same marks as on the page: filled with a line for a value and its interval, dotted for the floor, a hollow diamond
for the value at infinite n. Vector graphics, text as text, the same bytes from the same records.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from cogvideo.errors import MissingPrerequisite
from eval.comparison_record import ComparedMetric
from eval.notation import label_of, number
from eval.records import MetricResult, whole_file
from reports.beside import shared_metrics
from reports.reading import RunRecords

ACCENT, MUTE, INK, RULE = "#0b5f78", "#78838b", "#14181c", "#dfe3e6"
COLUMN_INCHES = 3.4
ROW_INCHES = 0.24
# Text stays text and the embedded fonts are whole outlines, as journals ask; sizes are those of a caption.
STYLE = {
    "font.size": 8,
    "pdf.fonttype": 42,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
}

UNDATED = {"CreationDate": None, "Producer": None, "Creator": None}


def write_figures(records: RunRecords) -> list[Path]:
    """`figures/*.pdf` of a run: each metric among the generators of its command, and against n where that is known.

    Raises MissingPrerequisite without matplotlib.
    """
    try:
        matplotlib, figure = import_module("matplotlib"), import_module("matplotlib.figure")
    except ImportError:
        raise MissingPrerequisite(
            "figures as PDF need matplotlib; install it with pip install 'cogeval[figures]'"
        ) from None
    folder = records.folder / "figures"
    written = []
    with matplotlib.rc_context(STYLE):
        for name, height, draw in _plan(records):
            made = figure.Figure(figsize=(COLUMN_INCHES, height), layout="constrained")
            draw(made.add_subplot())
            path = folder / f"{name}.pdf"
            with whole_file(path) as temporary:
                made.savefig(temporary, format="pdf", metadata=UNDATED)
            written.append(path)
    return written


def _plan(records: RunRecords) -> list[tuple[str, float, Callable[[Any], None]]]:
    """(file name, height in inches, how it is drawn) of every figure."""
    compared = {metric.id: metric for metric in shared_metrics(records)}
    plan: list[tuple[str, float, Callable[[Any], None]]] = []
    for metric in records.result.metrics:
        if metric.value is None:
            continue
        label = label_of(metric, records.result.metrics)
        name = metric.id.replace("/", "-")
        rows = _rows(metric, compared.get(metric.id), records)
        plan.append((name, 0.65 + ROW_INCHES * len(rows), _interval_drawing(metric, label, rows)))
        if metric.extrapolated and len(metric.extrapolated.points) > 1:
            plan.append((f"{name}-by-n", 2.0, _n_drawing(metric, label)))
    return plan


Row = tuple[str, float, float | None, float | None, bool]


def _rows(metric: MetricResult, compared: ComparedMetric | None, records: RunRecords) -> list[Row]:
    """(name, value, low, high, is this run), best first."""
    if compared is None:
        ends = (metric.interval.low, metric.interval.high) if metric.interval else (None, None)
        title = records.result.generator.title or records.result.generator.spec
        return [(title, metric.value or 0.0, *ends, True)]
    return [
        (run.name, run.value, run.low, run.high, run.folder == records.name)
        for run in compared.runs
        if run.value is not None
    ]


def _interval_drawing(metric: MetricResult, label: str, rows: Sequence[Row]) -> Callable[[Any], None]:
    def draw(axes: Any) -> None:
        for y, (_, value, low, high, is_own) in enumerate(rows):
            colour = ACCENT if is_own else MUTE
            if low is not None and high is not None:
                axes.plot([low, high], [y, y], color=colour, linewidth=1.5, solid_capstyle="butt")
            axes.plot([value], [y], "o", color=colour, markersize=4)
        if metric.floor is not None:
            axes.axvline(metric.floor, color=INK, linewidth=0.8, linestyle=(0, (1, 2)))
        axes.set_yticks(
            range(len(rows)), [_plain_text(f"{name}  {number(v, metric.decimals)}") for name, v, *_ in rows]
        )
        axes.set_ylim(len(rows) - 0.5, -0.5)
        if metric.direction == "lower" and min(low if low is not None else value for _, value, low, _, _ in rows) >= 0:
            axes.set_xlim(left=0)
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.grid(axis="x", color=RULE, linewidth=0.5)
        axes.set_axisbelow(True)
        axes.set_xlabel(_plain_text(f"{label}, {metric.direction} is better\n95 % intervals, n = {metric.n_fake:,}"))

    return draw


def _n_drawing(metric: MetricResult, label: str) -> Callable[[Any], None]:
    def draw(axes: Any) -> None:
        line = metric.extrapolated
        assert line is not None
        points = sorted(line.points)
        axes.plot([1 / n for n, _ in points], [v for _, v in points], "o-", color=ACCENT, linewidth=1.2, markersize=3.5)
        last_n, last = points[-1]
        axes.plot([1 / last_n, 0], [last, line.value], "--", color=ACCENT, linewidth=1.2)
        axes.errorbar([0], [line.value], [[line.value - line.low], [line.high - line.value]], color=MUTE, linewidth=1.2)
        axes.plot([0], [line.value], "D", color=ACCENT, markerfacecolor="white", markersize=5, zorder=3, clip_on=False)
        axes.set_xticks([*(1 / n for n, _ in points), 0], [*(f"{n:,}" for n, _ in points), "∞"])
        axes.invert_xaxis()
        axes.grid(axis="y", color=RULE, linewidth=0.5)
        axes.set_xlabel("Clips n, on a scale of 1/n")
        axes.set_ylabel(_plain_text(label))

    return draw


def _plain_text(text: str) -> str:
    """Dollar signs would start a formula; control characters have no glyph."""
    return "".join(c if c.isprintable() else " " for c in text).replace("$", r"\$")
