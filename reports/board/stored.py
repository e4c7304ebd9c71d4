"""`board.json` read, checked and written: whole, the same text from the same board, never two protocols in one ranking.

A newer schema is refused with one line; an older one is brought up to this one by `_UPGRADES`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from cogvideo.errors import UserError
from eval.records import whole_file
from reports.board.document import BOARD_VERSION, Board, Ranking, RunEntry, TableEntry

_UPGRADES: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {}


def read_board(path: Path) -> Board:
    """A checked board. Raises UserError for a file that is absent, damaged, newer, or ranks two protocols together."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"), parse_constant=_no_constant)
        if not isinstance(values, dict) or not isinstance(values.get("schema_version"), int):
            raise UserError(f"{path} is no board: it has no schema_version; expected the board.json of a leaderboard")
        version = values["schema_version"]
        if version > BOARD_VERSION:
            raise UserError(
                f"{path} has schema {version}, this cogeval reads up to {BOARD_VERSION}; upgrade cogeval to read it"
            )
        while version in _UPGRADES:
            values = _UPGRADES[version](values)
            version = values["schema_version"]
        board = Board.model_validate(values)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}; expected a board.json") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise UserError(f"{path} is damaged ({where}: {first['msg']}); build it again from its runs") from None
    except (UnicodeDecodeError, ValueError, RecursionError) as error:
        raise UserError(f"{path} is damaged ({error}); build it again from its runs") from None
    check_board(board, str(path))
    return board


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no number of JSON")


def board_text(board: Board) -> str:
    """The document as it is written: the same text from the same board."""
    return json.dumps(board.model_dump(mode="json"), ensure_ascii=True, separators=(",", ":"), allow_nan=False) + "\n"


def write_board(board: Board, path: Path) -> None:
    """Checked, then written whole."""
    check_board(board, "the board")
    with whole_file(path) as temporary:
        temporary.write_text(board_text(board), encoding="utf-8")


def json_schema() -> dict[str, Any]:
    """The JSON schema of the document."""
    return Board.model_json_schema() | {"$id": f"board-{BOARD_VERSION}.schema.json", "title": "cogeval leaderboard"}


def check_board(board: Board, where: str) -> None:
    """Everything that a schema cannot say: ids that exist and are unique, one fingerprint a ranking, sane ranges.

    Raises UserError.
    """
    for trouble in _troubles(board):
        raise UserError(f"{where}: {trouble}")


def _troubles(board: Board) -> Iterator[str]:
    models = {one.id for one in board.models}
    runs = {one.id: one for one in board.runs}
    tables = {one.id for one in board.tables}
    for kind, names in (
        ("model", board.models),
        ("run", board.runs),
        ("table", board.tables),
        ("study", board.studies),
    ):
        seen: set[str] = set()
        for one in names:
            if one.id in seen:
                yield f"two entries have the {kind} id {one.id}; each needs its own"
            seen.add(one.id)
    for run in board.runs:
        if run.model not in models or run.table not in tables:
            yield f"run {run.id} belongs to no model or no table of this board"
    for table in board.tables:
        for name in (*table.runs, *table.older):
            if name not in runs:
                yield f"table {table.id} names the run {name}, which is not there"
            elif (result := runs[name].result) is not None and result.fingerprint != table.fingerprint:
                yield (
                    f"table {table.id} (fingerprint {table.fingerprint}) holds run {name} of fingerprint"
                    f" {result.fingerprint}: two protocols are never ranked together"
                )
        for ranking in table.rankings:
            yield from _troubles_of_ranking(table, ranking, runs)
    if any(prompt.page and not _is_id(prompt.page) for prompt in board.prompts):
        yield "a prompt's page has a name that cannot be a file"
    for run in board.runs:
        columns = run.samples
        lengths = {len(columns.ids), len(columns.prompts), len(columns.seeds), *map(len, columns.scores.values())}
        lengths |= {len(one.fake) for one in run.influence.values()}
        if len(lengths) > 1 or any(not 0 <= place < len(board.prompts) for place in columns.prompts):
            yield f"run {run.id} has columns of samples that do not fit together"
    for old, new in board.redirects.items():
        if not all(_is_id(part) for part in (*old.split("/"), *new.split("/"))):
            yield f"a redirect from {old!r} to {new!r} names no page"
    if any(not _is_id(name) for name in board.media):
        yield "a media file has a name that cannot be a file"


def _troubles_of_ranking(table: TableEntry, ranking: Ranking, runs: dict[str, RunEntry]) -> Iterator[str]:
    for rank in ranking.ranks:
        if rank.fingerprint != ranking.fingerprint:
            yield (
                f"table {table.id}, {ranking.metric}: fingerprints {ranking.fingerprint} and {rank.fingerprint}"
                " in one ranking; two protocols are never ranked together"
            )
        if not 1 <= rank.low <= rank.high <= len(ranking.ranks):
            yield f"table {table.id}, {ranking.metric}: rank range {rank.low} to {rank.high} of {len(ranking.ranks)}"
        result = runs[rank.run].result if rank.run in runs else None
        metric = next((m for m in result.metrics if m.id == ranking.metric), None) if result else None
        if metric is None or metric.value is None or not math.isfinite(metric.value):
            yield f"table {table.id}, {ranking.metric}: run {rank.run} is ranked without a value"
        elif metric.fingerprint != ranking.fingerprint:
            yield (
                f"table {table.id}, {ranking.metric}: run {rank.run} has fingerprint {metric.fingerprint}, the ranking"
                f" {ranking.fingerprint}; two protocols are never ranked together"
            )


def _is_id(text: str) -> bool:
    return bool(text) and all(c in "abcdefghijklmnopqrstuvwxyz0123456789._-" for c in text) and text[0] not in ".-_"
