"""What every page of the site needs of the board: entries by id, addresses, and words for states and labels."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, TypeVar

from eval.notation import Axis, axis_of, number
from eval.records import MetricResult
from reports.board.changes import range_words
from reports.board.document import (
    Board,
    MetricColumn,
    ModelEntry,
    Ranking,
    RankRecord,
    RunEntry,
    StudyEntry,
    TableEntry,
)
from reports.board.names import metric_page
from reports.figures import mark_of
from reports.page import json_island
from reports.site.exports import CITE_COGEVAL, FORMATS, bibtex_note, export, safe_bibtex
from reports.site.table import Cell, Row, Table, absent, measured

T = TypeVar("T")
NAV = (
    ("index.html", "Leaderboard"),
    ("compare.html", "Compare"),
    ("human.html", "Human study"),
    ("metric/index.html", "Metrics"),
    ("history.html", "History"),
    ("data.html", "Data"),
    ("method.html", "Method"),
)
# Every page has the first three; the others come with the pages that use them, so that none loads more than 25 KiB.
EVERYWHERE = ("page.css", "site.css", "page.js")
PLAYERS = ("players.css", "players.js")
ASSETS = (*EVERYWHERE, *PLAYERS, "charts.css", "board.css", "board.js", "compare.css", "compare.js")
# No page asks for anything but files of its own folder; a file:// page has no 'self', so its scheme is named.
POLICY = (
    "default-src 'none'; img-src 'self' data: file:; media-src 'self' file:; style-src 'self' file:;"
    " script-src 'self' file:; base-uri 'none'; form-action 'none'"
)
MOST_BARS = 4000


@dataclass
class Site:
    """The board, and the tables that were exported while its pages were made: file name -> title.

    `take_exports` gives the files of those since the last call, so that no more than a page's tables are held at once.
    """

    board: Board
    exported: dict[str, str] = field(default_factory=dict)
    _pending: list[tuple[str, Callable[[], dict[str, str]]]] = field(default_factory=list)
    _kept: dict[Hashable, Any] = field(default_factory=dict)

    def once(self, key: Hashable, make: Callable[[], T]) -> T:
        """What `make` gives, made once a site."""
        if key not in self._kept:
            self._kept[key] = make()
        found: T = self._kept[key]
        return found

    @cached_property
    def models(self) -> dict[str, ModelEntry]:
        return {one.id: one for one in self.board.models}

    @cached_property
    def runs(self) -> dict[str, RunEntry]:
        return {one.id: one for one in self.board.runs}

    @cached_property
    def tables(self) -> dict[str, TableEntry]:
        return {one.id: one for one in self.board.tables}

    @cached_property
    def studies(self) -> dict[str, StudyEntry]:
        """Table -> the study of its models."""
        return {one.table: one for one in self.board.studies if one.table}

    @cached_property
    def prompts_shown(self) -> dict[str, list[int]]:
        """Table -> places of prompts that have a page, in the order of their samples."""
        found: dict[str, list[int]] = {}
        for table in self.board.tables:
            held = {place for name in table.runs for place in self.runs[name].samples.prompts}
            pages = [place for place in held if self.board.prompts[place].page]
            found[table.id] = sorted(pages, key=lambda place: self.board.prompts[place].sample)
        return found

    @cached_property
    def _places(self) -> dict[str, dict[str, int]]:
        return {run.id: {name: place for place, name in enumerate(run.samples.ids)} for run in self.board.runs}

    def score(self, run: RunEntry, metric: str, sample: str) -> float | None:
        """The score of one sample of a run, or None."""
        place = self._places[run.id].get(sample)
        scores = run.samples.scores.get(metric)
        return scores[place] if scores is not None and place is not None else None

    def seed(self, run: RunEntry, sample: str) -> int | None:
        """The seed of one sample of a run, or None where it has none of this id."""
        place = self._places[run.id].get(sample)
        return run.samples.seeds[place] if place is not None else None

    def title(self, run: RunEntry) -> str:
        return self.models[run.model].title

    @cached_property
    def _metrics(self) -> dict[str, dict[str, MetricResult]]:
        return {run.id: {m.id: m for m in run.result.metrics} if run.result else {} for run in self.board.runs}

    def metric(self, run: RunEntry, metric: str) -> MetricResult | None:
        """A metric of a run; None where it has none of this id."""
        return self._metrics[run.id].get(metric)

    @cached_property
    def _rankings(self) -> dict[tuple[str, str], Ranking]:
        return {(table.id, one.metric): one for table in self.board.tables for one in table.rankings}

    def ranking(self, table: TableEntry, metric: str) -> Ranking | None:
        return self._rankings.get((table.id, metric))

    @cached_property
    def _ranks(self) -> dict[tuple[str, str], dict[str, RankRecord]]:
        return {key: {one.run: one for one in ranking.ranks} for key, ranking in self._rankings.items()}

    def rank(self, table: TableEntry, run: RunEntry, metric: str) -> RankRecord | None:
        """The places that a run may have by a metric of its table; None where it is not ranked."""
        return self._ranks.get((table.id, metric), {}).get(run.id)

    def frame(self, title: str, depth: int, current: str = "", *assets: str) -> dict[str, Any]:
        """What the base page reads; `depth` is how many folders down the page lies, `assets` what it needs of ours."""
        up = "../" * depth
        needed = [f"{up}assets/{name}" for name in (*EVERYWHERE, *assets)]
        published = self.board.publishes[-1] if self.board.publishes else None
        footer = [(f"{up}data.html#checksums", f"Built from {len(self.board.runs):,} runs: checksums")]
        footer.append((f"{up}data.html#verify", "Verify this site: one command"))
        if self.board.data_licence:
            footer.append(("", f"Data {self.board.data_licence}"))
        if published:
            footer.append((f"{up}history.html", f"Publish {published.number}, {day(published.date) or 'no date'}"))
        return {
            "title": title,
            "home": f"{up}index.html",
            "nav": [(up + href, label) for href, label in NAV],
            "current": current,
            "sample": self.board.sample,
            "css": "",
            "js": "",
            "css_href": [href for href in needed if href.endswith(".css")],
            "js_href": [href for href in needed if href.endswith(".js")],
            "policy": POLICY,
            "footer": footer,
            "up": up,
            "json_island": json_island,
            "board": self.board,
        }

    def export(self, table: Table, up: str, texts: Callable[[], dict[str, str]] | None = None) -> list[tuple[str, str]]:
        """Remember a table for its files; the links to them from a page. `texts` makes them, if not from the cells."""
        if table.name not in self.exported:
            self.exported[table.name] = table.title
            self._pending.append((table.name, texts or partial(export, table)))
        return [(f"{up}data/{table.name}.{suffix}", name) for suffix, name in FORMATS]

    def take_exports(self) -> Iterator[tuple[str, str]]:
        """(path, text) of every file of the tables that were remembered since the last call."""
        pending, self._pending = self._pending, []
        for name, texts in pending:
            for suffix, text in texts().items():
                yield f"data/{name}.{suffix}", text

    def cites(self, models: Sequence[str]) -> list[str]:
        """BibTeX of the tool and of every model that has an entry of its own."""
        cards = [self.models[name].card.bibtex for name in models if name in self.models]
        return [CITE_COGEVAL, *(entry for text in cards if (entry := safe_bibtex(text)))]

    def paper_cites(self, rows: Sequence[int]) -> list[str]:
        return [bibtex_note(one.source, one.source, one.source_text) for one in (self.board.papers[r] for r in rows)]

    def axis(self, table: TableEntry, column: MetricColumn) -> Axis | None:
        """The common scale of a column, over its current runs."""

        def make() -> Axis | None:
            found = [self.metric(self.runs[name], column.id) for name in table.runs]
            return axis_of([one for one in found if one is not None])

        return self.once(("axis", table.id, column.id), make)

    def value_cell(
        self,
        table: TableEntry,
        run: RunEntry,
        column: MetricColumn,
        axis: Axis | None,
        *,
        up: str = "",
        is_drawn: bool = True,
    ) -> Cell:
        """A metric of a run, or the word for why it is not there."""
        metric = self.metric(run, column.id)
        card = self.models[run.model].card
        if metric is None:
            if column.id in card.not_allowed:
                return absent("not allowed", card.not_allowed[column.id])
            if run.result is None:
                return absent("failed", "the run has not ended", f"{up}run/{run.id}.html")
            return absent("not run", "nobody tried")
        if metric.value is None:
            return absent("failed", metric.note or "no reason was recorded", f"{up}run/{run.id}.html")
        ranking, place = self.ranking(table, column.id), self.rank(table, run, column.id)
        leading = place is not None and place.low == 1 and len(ranking.ranks if ranking else ()) > 1
        kind = "partial" if run.state == "partial" else "own" if leading else "mute"
        inside = metric.interval
        low, high = (inside.low, inside.high) if inside else (None, None)
        mark = mark_of(axis, metric.value, low, high) if axis and is_drawn else None
        why = "" if inside else metric.interval_note or "n too small for an interval"
        return measured(
            metric.value,
            column.decimals,
            low,
            high,
            metric.n_fake,
            mark=mark,
            kind=kind,
            leading=leading,
            why=why,
            href=number_href(up, run, column.id),
        )

    def rank_cell(self, table: TableEntry, run: RunEntry, metric: str) -> Cell:
        """The rank range in figures, or `not ranked` and why."""
        one = self.rank(table, run, metric)
        if one is not None:
            return Cell(range_words(one.low, one.high), value=float(one.low), low=one.low, high=one.high)
        ranking = self.ranking(table, metric)
        why = ranking.unranked.get(run.id, "") if ranking else ""
        return absent("not ranked", why or "it has no value")

    def state(self, run: RunEntry) -> tuple[str, str, str]:
        """(badge kind, words, second line): who vouches for a run and when, or what is missing."""
        who = ", ".join(word for word in (run.by, day(run.date)) if word)
        if run.state == "unfinished":
            return "bad", "Not finished", f"{len(run.samples.ids):,} of {run.planned:,}"
        if run.state == "partial":
            ok = run.result.counts.ok if run.result else 0
            return "partial", "Partial", f"{ok:,} of {run.planned:,}" + (f", {who}" if who else "")
        label = "Measured here" if run.label == "measured here" else "Self-reported"
        return ("plain" if run.label == "measured here" else "paper"), label, who


def groups(rows: Sequence[tuple[int, int] | None]) -> list[bool]:
    """Where a rule stands under a row: no rank range crosses there, or the ranked rows end there."""
    found = []
    for place, row in enumerate(rows):
        after = [one for one in rows[place + 1 :] if one is not None]
        before = [one for one in rows[: place + 1] if one is not None]
        is_edge = row is not None and place + 1 < len(rows)
        found.append(is_edge and (not after or max(high for _, high in before) < min(low for low, _ in after)))
    return found


MONTHS = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)


def day(date: str) -> str:
    """`2026-10-30` -> `30 October 2026`: the year always, since a page outlives it."""
    if len(date) != 10 or not 1 <= int(date[5:7]) <= 12:
        return ""
    return f"{int(date[8:])} {MONTHS[int(date[5:7]) - 1]} {date[:4]}"


def number_href(up: str, run: RunEntry, metric_id: str) -> str:
    """The address of one number: its row on the page of its run."""
    return f"{up}run/{run.id}.html#{metric_page(metric_id)}"


def metric_href(up: str, metric_id: str) -> str:
    return f"{up}metric/{metric_page(metric_id)}.html"


def interval_text(low: float | None, high: float | None, decimals: int) -> str:
    """`326.1–351.0`, or "none"."""
    if low is None or high is None:
        return "none"
    cell = measured(low, decimals, low, high)
    return cell.interval


def join_words(words: Sequence[str]) -> str:
    """`A, B and C`."""
    return " and ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else "".join(words)


NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")


def spelt(n: int) -> str:
    """Small numbers as words, as a sentence begins with them."""
    return NUMBERS[n] if n < len(NUMBERS) else f"{n:,}"


def facts_of(pairs: Mapping[str, str] | Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Rows of a list of facts, empty ones left out."""
    items = pairs.items() if isinstance(pairs, Mapping) else pairs
    return [(term, value) for term, value in items if value]


__all__ = ["NAV", "Row", "Site", "day", "facts_of", "groups", "join_words", "number", "spelt"]
