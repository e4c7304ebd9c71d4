"""One result as the answer on stdout: title, table, verdict, warnings, paths."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from eval.notation import (
    axis_of,
    better,
    cautions,
    clip_words,
    cost_words,
    count,
    interval_of,
    label_of,
    level_of,
    missing_words,
    number,
    title_of,
    verdicts,
)
from eval.records import MetricResult, Result
from eval.terminal.columns import NARROW, Cell, Column, fitting, mark_of, scale_cell, table_lines
from eval.terminal.console import Line, encoding_of, signs_for, wrapped

LONGEST_CLAIM = 60


class ResultsTable:
    """The renderable of one result; `paths` are named places to look at next, e.g. {"data": run / "result.json"}."""

    def __init__(self, result: Result, paths: Mapping[str, Path | str] | None = None) -> None:
        self.result = result
        self.paths = dict(paths or {})

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width, encoding = options.max_width, encoding_of(console, options)
        title = Line(encoding).add(title_of(self.result), "title").add(f"  {clip_words(self.result)}", "dim")
        yield title.fit(width)
        if self.result.metrics:
            columns = fitting(self._columns(encoding), width, encoding) if width >= NARROW else None
            yield from table_lines(columns, width, encoding) if columns else self._blocks(width, encoding)
        else:
            yield Line(encoding).add("No metric was scored.", "warn").fit(width)
        yield from self._missing(width, encoding)
        yield Text("")
        yield from verdict_lines(self.result, width, encoding)
        if cost := cost_words(self.result):
            yield from wrapped(f"Cost {cost}", Text(""), 0, width, encoding, "dim")
        if self.paths:
            yield Text("")
            longest = max(map(len, self.paths)) + 2
            for name, path in self.paths.items():
                # A path is folded and never cut: it is there to be copied.
                line = Line(encoding).add(name, "dim", width=longest).add(str(path)).text
                line.no_wrap, line.overflow = False, "fold"
                yield line

    def _columns(self, encoding: str) -> list[Column]:
        metrics = self.result.metrics
        return [
            Column("Metric", [Cell(label_of(m, metrics)) for m in metrics]),
            Column("Better", [Cell(m.direction) for m in metrics], drop=1),
            Column("Value", [Cell(number(m.value, m.decimals), "value") for m in metrics], right=True),
            Column(f"{level_of(metrics)} interval", [Cell(interval_of(m)) for m in metrics], right=True),
            Column("Floor", [Cell(floor_of(m)) for m in metrics], right=True, drop=2),
            Column("n", [Cell(count(m.n_fake)) for m in metrics], right=True),
            Column("Scale", [scale_cell(m, axis_of([m]), encoding) for m in metrics], drop=3),
        ]

    def _blocks(self, width: int, encoding: str) -> list[Text]:
        """One block a metric, for terminals under 60 columns."""
        lines: list[Text] = []
        for metric in self.result.metrics:
            name = Line(encoding).add(label_of(metric, self.result.metrics), "title")
            lines.append(name.add(f"  {better(metric.direction)}", "dim").fit(width))
            facts = [("value", number(metric.value, metric.decimals)), ("interval", interval_of(metric))]
            facts += [("floor", floor_of(metric)), ("n", count(metric.n_fake))]
            for term, value in facts:
                role = "value" if term == "value" else ""
                lines.append(Line(encoding).add("  ").add(term, "dim", width=10).add(value, role).fit(width))
        return lines

    def _missing(self, width: int, encoding: str) -> list[Text]:
        lines: list[Text] = []
        for metric in self.result.metrics:
            if words := missing_words(metric):
                first = Text("")
                sentence = f"{label_of(metric, self.result.metrics)}: {'; '.join(words)}"
                lines += wrapped(sentence, first, 0, width, encoding, "dim")
        return lines


def results_table(result: Result, paths: Mapping[str, Path | str] | None = None) -> ResultsTable:
    """One result as a renderable for `make_console().print(...)`.

    The scale column goes first where the terminal is narrow, then Floor, then Better; under 60 columns there is one
    block a metric. Numbers have the digits of the metric's record.
    """
    return ResultsTable(result, paths)


def floor_of(metric: MetricResult) -> str:
    return "none" if metric.floor is None else number(metric.floor, metric.decimals)


def verdict_lines(result: Result, width: int, encoding: str) -> list[Text]:
    """Whether the numbers may be compared and why not, what is missing, then every warning, each with its sign."""
    signs = signs_for(encoding)
    lines: list[Text] = []
    for verdict in verdicts(result):
        sign, role = mark_of(verdict.kind, signs)
        lines += sentence_lines(sign, role, verdict.claim, verdict.rest, width, encoding)
    for caution in cautions(result):
        claim, colon, rest = caution.partition(": ")
        if not colon or len(claim) > LONGEST_CLAIM:
            claim, colon, rest = "", "", caution
        sign, role = mark_of("caution", signs)
        lines += sentence_lines(sign, role, claim, colon + rest, width, encoding)
    return lines


def sentence_lines(sign: str, role: str, claim: str, rest: str, width: int, encoding: str) -> list[Text]:
    """A sign, a coloured claim and the rest of the sentence, broken under the claim."""
    style = f"cogeval.{role}" if role else ""
    lines = wrapped(f"{claim}{rest}", Text(f"{sign} ", style), 2, width, encoding)
    if claim:
        lines[0].stylize(style, 2, 2 + len(claim))
    return lines
