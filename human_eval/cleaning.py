"""What was made of a study's answers, made again without a rater who was removed, or taken away."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import NamedTuple

from cogvideo.errors import UserError
from human_eval.copies import Copy, begun_ms, copies, drop, remember
from human_eval.export import export_study
from human_eval.running import Running
from human_eval.store.database import Database

_one_at_a_time = threading.Lock()


class Cleaned(NamedTuple):
    """Files that were made again without the rater, and files that are gone."""

    again: list[Path]
    removed: list[Path]


def clean_copies(running: Running, database: Database, pseudonym: str, *, analyses_again: bool = True) -> Cleaned:
    """After a rater's rows are deleted: leave no byte of them in the database's files, nor in any copy.

    Exports are made again. Analyses too, or are only removed: they take a minute that a serving process may not have.
    """
    database.scrub()
    folder, begun = running.folder, database.read(begun_ms)
    found = Cleaned([], [])
    with _one_at_a_time:
        known = copies(folder)
        exports = [copy for copy in known if copy.kind == "export" and copy.database == begun]
        for copy in exports:
            old = drop(folder, copy)
            if not old:  # the author has moved or deleted it
                continue
            has_parquet = any(path.suffix == ".parquet" for path in old)
            paths = export_study(running, database, Path(copy.folder), has_parquet=has_parquet)
            remember(folder, Copy("export", copy.folder, tuple(path.name for path in paths), begun))
            found.again.extend(paths)
        renewed = {copy.folder for copy in exports}
        for copy in known:
            is_ours = copy.tables in renewed if copy.tables else copy.database == begun
            if copy.kind == "analysis" and (is_ours or _names(copy, pseudonym)):
                old = drop(folder, copy)
                again = _analysed_again(folder, running, database, copy) if old and is_ours and analyses_again else []
                found.again.extend(again)
                found.removed.extend(path for path in old if path not in again)
    return found


def _names(copy: Copy, pseudonym: str) -> bool:
    """Whether a copy, of an export that is not on the list, has the rater in it."""
    return any(path.exists() and pseudonym.encode() in path.read_bytes() for path in copy.paths)


def _analysed_again(folder: Path, running: Running, database: Database, copy: Copy) -> list[Path]:
    """The analysis without the rater; nothing if too little is left to analyse."""
    from human_eval.analysed import analyze_database, analyze_folder

    how = {"resamples": copy.resamples, "seed": copy.seed}
    try:
        if copy.tables:
            return analyze_folder(folder, Path(copy.folder), Path(copy.tables), **how)[1]
        return analyze_database(running, database, Path(copy.folder), **how)[1]
    except UserError:
        return []
