"""Named things as a list: name, summary under one margin, and facts on a line of their own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from eval.terminal.console import Line, encoding_of, wrapped, writable

LONGEST_MARGIN = 30
SHOWN_FACTS = (
    *("argument", "options", "label", "direction", "needs", "licence", "responds", "layers", "metrics", "protocols"),
    *("default", "source", "note", "disputes"),
)


class Listing:
    """The renderable of one kind. Each row has `name`, `summary`, and facts of which some are shown."""

    def __init__(self, kind: str, rows: Sequence[dict[str, Any]]) -> None:
        self.kind = kind
        self.rows = rows

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width, encoding = options.max_width, encoding_of(console, options)
        yield Line(encoding).add(self.kind.capitalize(), "title").add(f"  {len(self.rows)}", "dim").fit(width)
        names = [cell_len(writable(row["name"], encoding)) for row in self.rows]
        margin = min(max(names, default=0) + 4, LONGEST_MARGIN, max(width // 2, 8))
        for row in self.rows:
            first = Line(encoding).add("  ").add(row["name"], "accent", width=margin - 4).add("  ").text
            if cell_len(first.plain) > margin:
                yield first
                first = Text(" " * margin)
            yield from wrapped(row["summary"], first, margin, width, encoding)
            for fact in SHOWN_FACTS:
                if value := row.get(fact):
                    words = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
                    if not (fact == "source" and "source_text" in row):
                        yield from wrapped(f"{fact}: {words}", Text(" " * margin), margin, width, encoding, "dim")
