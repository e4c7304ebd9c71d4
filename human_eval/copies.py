"""Exports and analyses that were made of a study: where they lie, so that a removed rater is in none of them.

STUDY/copies.json lists each with its folder and the names of its files. Only those files are ever touched.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import Connection, select

from eval.records import whole_file
from human_eval.store.schema import study

LIST = "copies.json"


@dataclass(frozen=True)
class Copy:
    """One export or analysis. `database`: when its database was begun, which tells two of them apart (see `begun_ms`).

    `tables`: the folder of the export that an analysis was made of, "" if it was made of the database.
    """

    kind: Literal["export", "analysis"]
    folder: str
    files: tuple[str, ...]
    database: int = 0
    tables: str = ""
    resamples: int = 0
    seed: int = 0

    @property
    def paths(self) -> list[Path]:
        return [Path(self.folder) / name for name in self.files]


def begun_ms(connection: Connection) -> int:
    """When a study's database was begun, milliseconds since 1970."""
    return int(connection.execute(select(study.c.created_ms)).scalar_one())


def copies(folder: Path) -> list[Copy]:
    """Every copy that is known of a study, in the order in which they were first made."""
    path = folder / LIST
    if not path.exists():
        return []
    return [Copy(**{**row, "files": tuple(row["files"])}) for row in json.loads(path.read_text(encoding="utf-8"))]


def remember(folder: Path, copy: Copy) -> None:
    """Put a copy on the list. Files that an earlier one left in the same place, and this one has not written, go."""
    known = copies(folder)
    for old in known:
        if _place(old) == _place(copy):
            _remove(path for path in old.paths if path.name not in copy.files)
    _write(folder, [*(old for old in known if _place(old) != _place(copy)), copy])


def drop(folder: Path, copy: Copy) -> list[Path]:
    """Remove a copy's files, and its folder if that leaves it empty. Returns the files that were there."""
    there = [path for path in copy.paths if path.exists()]
    _remove(there)
    place = Path(copy.folder)
    if place.is_dir() and not any(place.iterdir()):
        place.rmdir()
    _write(folder, [old for old in copies(folder) if _place(old) != _place(copy)])
    return there


def _place(copy: Copy) -> tuple[str, str]:
    return copy.kind, copy.folder


def _remove(paths: Any) -> None:
    for path in paths:
        path.unlink(missing_ok=True)


def _write(folder: Path, known: list[Copy]) -> None:
    with whole_file(folder / LIST) as temporary:
        temporary.write_text(json.dumps([asdict(copy) for copy in known], indent=1) + "\n", encoding="utf-8")
