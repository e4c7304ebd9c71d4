"""Numbers from papers below ours: hollow, each with setting, confidence, disputes and source, never silently ranked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.text import Text

from eval.compare import Comparison
from eval.notation import count
from eval.published import PublishedRow, dataset_of, matches, printed_name, printed_value, rows_for
from eval.terminal.columns import mark_of
from eval.terminal.console import Line, signs_for, wrapped, writable

LONGEST_NAME = 34
WIDE = 93
UNKNOWN = "the run's protocol is not recorded"


@dataclass(frozen=True)
class Told:
    """A printed number with what may be said of it here: `is_same` setting, or the fields that differ."""

    row: PublishedRow
    is_same: bool
    differing: tuple[str, ...]


class PrintedNumbers:
    """All that papers printed for the metrics of a comparison; at most `limit` rows a metric (None: every row).

    Rows of the same setting come first, then CogVideo's, then the newest. Sources and disputes are footnotes, because
    many rows share them.
    """

    def __init__(self, comparison: Comparison, limit: int | None) -> None:
        self.blocks: dict[tuple[str, str], list[Told]] = {}
        for group in comparison.groups:
            run = comparison.runs[next(iter(group.members))]
            metric = next(iter(group.members.values()))
            key = (dataset_of(run.result), printed_name(metric))
            protocol = run.protocol
            for row in rows_for(run.result, metric):
                is_same, differing = matches(row, protocol, run.spec(group.id)) if protocol else (False, [UNKNOWN])
                self._keep(key, Told(row, is_same, tuple(differing)))
        self.limit = limit

    def _keep(self, key: tuple[str, str], told: Told) -> None:
        """A row counts as the same setting if it is so for one of the protocols that are shown."""
        block = self.blocks.setdefault(key, [])
        for i, known in enumerate(block):
            if known.row == told.row:
                block[i] = known if known.is_same or not told.is_same else told
                return
        block.append(told)

    def lines(self, width: int, encoding: str) -> list[Text]:
        """Every block, then the footnotes of what is shown."""
        if self.limit == 0 or not any(self.blocks.values()):
            return []
        lines: list[Text] = []
        disputes: list[str] = []
        sources: dict[str, str] = {}
        for (_, name), block in self.blocks.items():
            ordered = sorted(block, key=lambda told: not told.is_same)
            shown = ordered if self.limit is None else ordered[: self.limit]
            for told in shown:
                sources[told.row.source] = told.row.source_text
                disputes += [text for text in told.row.disputes if text not in disputes]
            lines += [Text(""), self._head(name, block, encoding).fit(width)]
            common = [words for words in block[0].differing if all(words in told.differing for told in block)]
            lines += self._rows(shown, common, disputes, width, encoding)
            if len(shown) < len(block):
                rest = f"{count(len(block) - len(shown))} more: `cogeval list published`, or the run's report.html"
                lines.append(Line(encoding).add(f"  {rest}", "dim").fit(width))
        lines.append(Text(""))
        for number, text in enumerate(disputes, start=1):
            lines += wrapped(text, Line(encoding).add(f"({number}) disputed: ", "warn").text, 2, width, encoding, "dim")
        for key, text in sorted(sources.items()):
            lines += wrapped(text, Line(encoding).add(f"[{key}] ", "dim").text, 2, width, encoding, "dim")
        return lines

    def _head(self, name: str, block: Sequence[Told], encoding: str) -> Line:
        same = sum(told.is_same for told in block)
        said = f"{count(same)} with the same setting" if same else "none with the same setting, so none is ranked"
        line = Line(encoding).add(f"{name} from papers", "title")
        return line.add(f"  {count(len(block))} numbers, {said}", "dim")

    def _rows(
        self, shown: Sequence[Told], common: Sequence[str], disputes: Sequence[str], width: int, encoding: str
    ) -> list[Text]:
        lines: list[Text] = []
        if common:
            sign, role = mark_of("not-comparable", signs_for(encoding))
            mark = Line(encoding).add(f"{sign} ", role).text
            lines += wrapped(f"All of them differ: {'; '.join(common)}", mark, 2, width, encoding)
        names = [_cut(told.row.name) for told in shown]
        margin = max(cell_len(writable(name, encoding)) for name in names)
        digits = max(len(printed_value(told.row)) for told in shown)
        for name, told in zip(names, shown, strict=True):
            sign, _ = mark_of("from-paper", signs_for(encoding))
            first = Line(encoding).add(f"{sign} ").add(name, width=margin).add("  ")
            first.add(printed_value(told.row), width=digits, right=True)
            words = self._words(told, common, disputes)
            if width >= WIDE:
                lines += wrapped(words, first.add("  ").text, margin + digits + 6, width, encoding, "dim")
            else:
                lines += [first.fit(width), *wrapped(words, Text("    "), 4, width, encoding, "dim")]
        return lines

    def _words(self, told: Told, common: Sequence[str], disputes: Sequence[str]) -> str:
        row = told.row
        words = [row.facts]
        if row.std is not None:
            words.append(f"± {row.std} as printed")
        if row.note:
            words.append(row.note)
        words.append(f"{row.confidence} confidence [{row.source}]")
        if row.disputes:
            words.append("disputed " + " ".join(f"({disputes.index(text) + 1})" for text in row.disputes))
        own = dict.fromkeys(words.partition(":")[0] for words in told.differing if words not in common)
        words.append("same setting" if told.is_same else f"differs in {', '.join(own)}" if own else "")
        return "; ".join(word for word in words if word)


def _cut(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"
