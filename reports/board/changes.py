"""What moved between two publishes, and why: rows added, removed, replaced; ranges that moved because of them."""

from __future__ import annotations

from collections.abc import Iterator

from eval.notation import plural
from reports.board.document import Board, Change, Publish


def publish(board: Board, before: Board | None, *, date: str = "", reason: str = "") -> bool:
    """Append a publish with everything that changed; False, and nothing appended, where nothing did."""
    ranks = ranks_of(board)
    changes = _first(board) if before is None or not before.publishes else _changes(board, before, ranks)
    if not changes:
        return False
    number = (board.publishes[-1].number if board.publishes else 0) + 1
    day = date or max((run.date for run in board.runs), default="")
    for stone in board.tombstones:
        if stone.publish == number and not stone.date:
            stone.date = day
    board.publishes.append(Publish(number=number, date=day, reason=reason, changes=changes, ranks=ranks))
    return True


def ranks_of(board: Board) -> dict[str, tuple[int, int]]:
    """`table/model` -> rank range by the table's first metric."""
    models = {run.id: run.model for run in board.runs}
    return {
        f"{table.id}/{models[one.run]}": (one.low, one.high)
        for table in board.tables
        if table.rankings
        for one in table.rankings[0].ranks
    }


def range_words(low: int, high: int) -> str:
    """`1–3`, or `7` where there is one place.

    >>> range_words(1, 3), range_words(7, 7)
    ('1–3', '7')
    """
    return f"{low}" if low == high else f"{low}–{high}"


def _first(board: Board) -> list[Change]:
    if not board.runs and not board.studies:
        return []
    words = [plural(len({run.model for run in board.runs}), "model"), plural(len(board.runs), "run")]
    if board.studies:
        words.append(f"{len(board.studies)} human {'study' if len(board.studies) == 1 else 'studies'}")
    return [Change(kind="first", text=f"First publish: {', '.join(words)}")]


class _Comparison:
    """Two boards, and in each table the reasons for a range to move."""

    def __init__(self, board: Board, before: Board) -> None:
        self.board, self.before = board, before
        self.titles = {one.id: one.title for one in (*before.models, *board.models)}
        self.tables = {table.id: f"{table.benchmark} / {table.protocol}" for table in (*before.tables, *board.tables)}
        self.old = {run.id: run for run in before.runs}
        self.causes: dict[str, list[str]] = {}

    def removed(self) -> Iterator[Change]:
        stones = self.board.tombstones[len(self.before.tombstones) :]
        models = {stone.id for stone in stones if stone.kind == "model"}
        for stone in stones:
            run = self.old.get(stone.id)
            if run is not None:
                what = self.titles[run.model] if run.model in models else f"a run of {self.titles[run.model]}"
                self.causes.setdefault(run.table, []).append(f"{what} was removed")
            if run is None or run.model not in models:
                text = f"{stone.title} removed: {stone.reason}"
                yield Change(kind="removed", text=text, link=f"{stone.kind}/{stone.id}")

    def added(self) -> Iterator[Change]:
        rows = {(run.table, run.model) for run in self.old.values()}
        for run in self.board.runs:
            if run.id in self.old:
                continue
            title, is_new = self.titles[run.model], (run.table, run.model) not in rows
            self.causes.setdefault(run.table, []).append(f"{title} was {'added' if is_new else 'measured again'}")
            text = f"{title} {'added to' if is_new else 'measured again on'} {self.tables[run.table]}"
            yield Change(kind="added" if is_new else "replaced", text=text, link=f"run/{run.id}")

    def studies(self) -> Iterator[Change]:
        held = {one.id: one for one in self.before.studies}
        for study in self.board.studies:
            if held.get(study.id) != study:
                what = "analysed again" if study.id in held else "added"
                yield Change(kind="study", text=f"Human study {study.title} {what}", link="human")

    def moved(self, ranks: dict[str, tuple[int, int]]) -> Iterator[Change]:
        was = ranks_of(self.before)
        for key, now in ranks.items():
            if key in was and was[key] != now:
                table, _, model = key.partition("/")
                why = "; ".join(dict.fromkeys(self.causes.get(table, []))) or "the computation changed"
                text = (
                    f"{self.titles[model]} moved from {range_words(*was[key])} to {range_words(*now)}"
                    f" on {self.tables[table]}: {why}"
                )
                yield Change(kind="moved", text=text, link=f"model/{model}")

    def cards(self) -> Iterator[Change]:
        for old, new in self.board.redirects.items():
            if old not in self.before.redirects:
                name, kind = old.partition("/")[2], new.partition("/")[2]
                text = f"{self.titles.get(name, name)} is now {self.titles.get(kind, kind)}"
                yield Change(kind="fixed", text=text, link=new)
        held = {one.id: one.card for one in self.before.models}
        for model in self.board.models:
            if model.id in held and held[model.id] != model.card:
                yield Change(kind="fixed", text=f"Card of {model.title} changed", link=f"model/{model.id}")


def _changes(board: Board, before: Board, ranks: dict[str, tuple[int, int]]) -> list[Change]:
    both = _Comparison(board, before)
    return [*both.removed(), *both.added(), *both.studies(), *both.moved(ranks), *both.cards()]
