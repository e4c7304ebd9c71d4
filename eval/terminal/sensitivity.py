"""The table of responses: a row a metric, a column a corruption, and in words what each metric sees of time."""

from __future__ import annotations

from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from eval.notation import count, fingerprint
from eval.responses import MetricResponse, Sensitivity, in_words, reading, sees_motion, share
from eval.terminal.columns import Cell, Column, fitting, table_lines
from eval.terminal.console import Line, encoding_of, wrapped

SIGNS = {"punished": "+", "rewarded": "−"}
ROLES = {"punished": "accent", "rewarded": "warn", "unseen": "dim", "unknown": "dim"}
MOTION = {"yes": "ok", "partly": "", "no": "warn"}


class ResponseTable:
    """The renderable of one record."""

    def __init__(self, record: Sensitivity) -> None:
        self.record = record

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width, encoding = options.max_width, encoding_of(console, options)
        record = self.record
        line = Line(encoding).add(record.title, "title").add(f"  {record.protocol_name}", "accent")
        yield line.add(f"  fingerprint {fingerprint(record.fingerprint)}", "dim").fit(width)
        said = (
            f"{count(record.n_clips)} clips of {count(record.n_sources)} sources, against {count(record.n_reference)}"
            " others. Response to the strongest corruption, in % of the metric's largest; + is worse, − is better than"
            " the same clips undamaged, · is not told from chance."
        )
        yield from wrapped(said, Text(), 0, width, encoding, "dim")
        columns = [
            Column("Metric", [Cell(metric.label) for metric in record.metrics]),
            Column("Motion", [self._motion(metric) for metric in record.metrics]),
        ]
        for place, facts in enumerate(record.corruptions):
            cells = [response_cell(metric, facts.name) for metric in record.metrics]
            # The pictures' columns go first where it is narrow: the question is motion.
            drop = 0 if facts.breaks == "time" else 10 + place
            columns.append(Column(facts.title, cells, right=True, drop=drop))
        kept = fitting(columns, width, encoding)
        if kept is not None:
            yield from table_lines(kept, width, encoding)
        for metric in record.metrics:
            first = Line(encoding).add("  ").add(metric.label, "value").add("  ").text
            yield from wrapped(in_words(metric, record.corruptions), first, 4, width, encoding)
        for entry in record.left_out:
            yield from wrapped(f"left out: {entry.id}: {entry.reason}", Text("~ "), 2, width, encoding, "dim")
        for note in record.notes:
            yield from wrapped(note, Text("! "), 2, width, encoding)

    def _motion(self, metric: MetricResponse) -> Cell:
        found = sees_motion(metric, self.record.corruptions)
        return Cell(found, MOTION[found])


def response_cell(metric: MetricResponse, corruption: str) -> Cell:
    """`+100 %` where it is punished, `−12 %` where it is rewarded, `·` where nothing is seen."""
    curve = next(curve for curve in metric.curves if curve.corruption == corruption)
    kind, part = reading(metric, curve).kind, share(metric, curve)
    if kind == "unknown" or part is None:
        return Cell("undefined", "dim")
    if kind == "unseen":
        return Cell("·", "dim")
    size = 100 * abs(part)
    return Cell(f"{SIGNS[kind]}{size:.0f} %" if size >= 0.5 else f"{SIGNS[kind]}<1 %", ROLES[kind])
