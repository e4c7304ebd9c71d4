"""Several runs in one table at the end: ours in order inside a fingerprint, printed numbers below, never mixed in."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from eval.compare import Comparison, Group, Pair, difference_words, pairs_to_show, reading_words
from eval.notation import (
    axis_of,
    better,
    cautions,
    count,
    fingerprint,
    interval_of,
    level_of,
    missing_words,
    number,
    verdicts,
)
from eval.terminal.columns import NARROW, Cell, Column, fitting, mark_of, scale_cell, table_lines
from eval.terminal.console import Line, encoding_of, signs_for, wrapped
from eval.terminal.printed import PrintedNumbers
from eval.terminal.results import floor_of, sentence_lines

LONGEST_NAME = 36
SHOWN_ROWS = 6
SHOWN_CAUTIONS = 12


class BenchmarkTable:
    """The renderable of a comparison: a block a metric, then printed numbers, verdicts, and what is not ranked."""

    def __init__(self, comparison: Comparison, *, printed: int | None = SHOWN_ROWS, has_pairs: bool = False) -> None:
        self.comparison = comparison
        self.printed = printed
        self.has_pairs = has_pairs

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width, encoding = options.max_width, encoding_of(console, options)
        yield self._title(encoding).fit(width)
        for group in self.comparison.groups:
            yield Text("")
            yield from self._group(group, width, encoding)
        yield from PrintedNumbers(self.comparison, self.printed).lines(width, encoding)
        yield Text("")
        yield from self._verdicts(width, encoding)

    def _title(self, encoding: str) -> Line:
        runs = self.comparison.runs
        names = list(dict.fromkeys(run.result.benchmark_title or run.result.benchmark for run in runs))
        line = Line(encoding).add(", ".join(names), "title")
        return line.add(f"  {len(runs)} runs" if len(runs) > 1 else f"  {runs[0].name}", "dim")

    def _group(self, group: Group, width: int, encoding: str) -> list[Text]:
        head = Line(encoding).add(group.label, "title").add(f"  {better(group.direction)}", "dim")
        head.add(f"  {group.id}", "accent").add(f"  fingerprint {fingerprint(group.fingerprint)}", "dim")
        lines = [head.fit(width)]
        columns = fitting(self._columns(group, encoding), width, encoding) if width >= NARROW else None
        lines += table_lines(columns, width, encoding) if columns else self._blocks(group, width, encoding)
        for i in group.order():
            if words := [w for w in missing_words(group.members[i]) if not w.startswith("no floor")]:
                sentence = f"{self.comparison.runs[i].name}: {'; '.join(words)}"
                lines += wrapped(sentence, Text(""), 0, width, encoding, "dim")
        if self.has_pairs and len(group.members) > 1:
            lines += self._pairs(group, width, encoding)
        return lines

    def _columns(self, group: Group, encoding: str) -> list[Column]:
        order = group.order()
        members = [group.members[i] for i in order]
        leading = [i in group.leading and len(order) > 1 for i in order]
        axis = axis_of(members)
        columns = [
            Column(
                "  Run",
                [self._name_cell(i, is_leading, encoding) for i, is_leading in zip(order, leading, strict=True)],
            ),
            Column(
                "Value",
                [
                    Cell(number(m.value, m.decimals), "leading" if is_leading else "")
                    for m, is_leading in zip(members, leading, strict=True)
                ],
                right=True,
            ),
            Column(f"{level_of(members)} interval", [Cell(interval_of(m)) for m in members], right=True),
            Column("Floor", [Cell(floor_of(m)) for m in members], right=True, drop=2),
            Column("n", [Cell(count(m.n_fake)) for m in members], right=True, drop=1),
            Column(
                "Scale",
                [
                    scale_cell(m, axis, encoding, is_leading=is_leading or len(order) == 1)
                    for m, is_leading in zip(members, leading, strict=True)
                ],
                drop=3,
            ),
        ]
        if len(order) > 1:
            columns.insert(0, Column("Rank", [Cell(rank_words(group, i)) for i in order], right=True))
        return columns

    def _name_cell(self, run: int, is_leading: bool, encoding: str) -> Cell:
        """The sign says measured here (filled) or measured on part of the samples (half)."""
        signs, result = signs_for(encoding), self.comparison.runs[run].result
        sign = signs.half if result.status == "partial" else signs.disc
        name = self.comparison.runs[run].name
        shown = name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"
        return Cell(f"{sign} {shown}", "leading" if is_leading else "")

    def _blocks(self, group: Group, width: int, encoding: str) -> list[Text]:
        lines: list[Text] = []
        for i in group.order():
            metric, cell = group.members[i], self._name_cell(i, i in group.leading, encoding)
            lines.append(Line(encoding).add(cell.text, cell.role).fit(width))
            facts = [("rank", rank_words(group, i))] if len(group.members) > 1 else []
            facts += [("value", number(metric.value, metric.decimals)), ("interval", interval_of(metric))]
            facts += [("floor", floor_of(metric)), ("n", count(metric.n_fake))]
            lines += [Line(encoding).add("  ").add(t, "dim", width=10).add(v).fit(width) for t, v in facts]
        return lines

    def _pairs(self, group: Group, width: int, encoding: str) -> list[Text]:
        """Every difference with its interval, then how the intervals were made."""
        shown = pairs_to_show(self.comparison, group)
        runs = self.comparison.runs
        columns = [
            Column(
                "Difference", [Cell(f"{_short(runs[p.first].name)} − {_short(runs[p.second].name)}") for p in shown]
            ),
            Column("Value", [Cell(difference_words(group, p)[0]) for p in shown], right=True),
            Column(f"{_level(shown)} interval", [Cell(difference_words(group, p)[1]) for p in shown], right=True),
            Column("Reading", [Cell(reading_words(self.comparison, group, p), _role(p)) for p in shown]),
        ]
        lines = [Text("")]
        if (fit := fitting(columns, width, encoding)) is not None:
            lines += table_lines(fit, width, encoding)
        else:
            for pair in shown:
                value, spread = difference_words(group, pair)
                name = f"{_short(runs[pair.first].name)} − {_short(runs[pair.second].name)}"
                sentence = f"{name}: {value}, {spread}. {reading_words(self.comparison, group, pair)}"
                lines += wrapped(sentence, Text(""), 2, width, encoding)
        methods = dict.fromkeys(p.difference.method for p in shown if p.difference)
        for method in methods:
            lines += wrapped(f"Intervals: {method}.", Text(""), 0, width, encoding, "dim")
        return lines

    def _verdicts(self, width: int, encoding: str) -> list[Text]:
        """Each verdict and warning once, with the runs that it is true of where it is not true of all."""
        runs, signs = self.comparison.runs, signs_for(encoding)
        lines: list[Text] = []
        told: dict[tuple[str, str, str], list[int]] = {}
        for i, run in enumerate(runs):
            for verdict in verdicts(run.result):
                told.setdefault((verdict.kind, verdict.claim, verdict.rest), []).append(i)
            for caution in cautions(run.result):
                told.setdefault(("caution", "", caution), []).append(i)
        for split in self.comparison.splits:
            told[("not-comparable", "", split.sentence(runs))] = list(range(len(runs)))
        items = list(told.items())
        for (kind, claim, rest), who in [x for x in items if x[0][0] != "caution"] + [
            x for x in items if x[0][0] == "caution"
        ][:SHOWN_CAUTIONS]:
            sign, role = mark_of(kind, signs)
            of = "" if len(who) == len(runs) else f" ({', '.join(runs[i].name for i in who)})"
            lines += sentence_lines(sign, role, claim, rest + of, width, encoding)
        hidden = sum(key[0] == "caution" for key, _ in items) - SHOWN_CAUTIONS
        if hidden > 0:
            lines.append(Line(encoding).add(f"  {hidden} more warnings are in the runs' reports", "dim").fit(width))
        if len(runs) > 1 and any(len(group.leading) > 1 for group in self.comparison.groups):
            words = "Bold, with a range of ranks: cannot be told apart from the best."
            lines.append(Line(encoding).add(words, "dim").fit(width))
        return lines


def benchmark_table(
    comparison: Comparison, *, printed: int | None = SHOWN_ROWS, has_pairs: bool = False
) -> BenchmarkTable:
    """Runs in one table, from `eval.compare.compare_runs`. `printed` rows from papers a metric; None shows all.

    Runs are in order only inside one fingerprint, with the range of ranks that the paired differences allow.
    """
    return BenchmarkTable(comparison, printed=printed, has_pairs=has_pairs)


def rank_words(group: Group, run: int) -> str:
    """`1`, `1–3`, or "not ranked" for a value that is undefined."""
    if run not in group.ranks:
        return "not ranked"
    low, high = group.ranks[run]
    return str(low) if low == high else f"{low}–{high}"


def _short(name: str) -> str:
    return name if len(name) <= LONGEST_NAME // 2 else f"{name[: LONGEST_NAME // 2 - 1]}…"


def _level(pairs: Sequence[Pair]) -> str:
    return next((f"{p.difference.level * 100:g} %" for p in pairs if p.difference), "95 %")


def _role(pair: Pair) -> str:
    return "value" if pair.reading in ("lower", "higher") else "dim"
