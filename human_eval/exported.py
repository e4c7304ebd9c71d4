"""`human export` and `human forget`: where exports lie, and that a removed rater is in none of them."""

from __future__ import annotations

import shutil
from pathlib import Path

from sqlalchemy import Connection

from cogvideo.errors import UserError
from human_eval.export import export_study
from human_eval.serving import opened
from human_eval.store.enrolling import rater_by_pseudonym
from human_eval.store.forgetting import forget
from human_eval.store.opening import note

LIST = "exports.txt"


def export_folder(folder: Path, url: str = "", out: Path | None = None, *, has_parquet: bool = False) -> list[Path]:
    """Export into STUDY/export or another folder, which is remembered so that `forget` finds it."""
    target = out or folder / "export"
    with opened(folder, url) as (running, database):
        paths = export_study(running, database, target, has_parquet=has_parquet)
        _remember(folder, target)
        database.write(lambda connection: note(connection, running, "exported", files=len(paths)))
    return paths


def forget_rater(folder: Path, url: str, name: str) -> list[Path]:
    """Remove the rater of a pseudonym or withdrawal key from the database and from every remembered export.

    Returns what was written again. Raises UserError if there is no such rater.
    """
    with opened(folder, url) as (running, database):

        def job(connection: Connection) -> str:
            if rater_by_pseudonym(connection, name) is not None:
                return forget(connection, running, pseudonym=name)
            return forget(connection, running, withdrawal_key=name.strip().upper())

        if not database.write(job):
            raise UserError(f"{name} is no rater of this study; cogeval human status {folder} --json lists them")
        database.scrub()
        again: list[Path] = []
        for target in _remembered(folder):
            has_parquet = (target / "ratings.parquet").exists()
            if target.is_dir():
                again += export_study(running, database, target, has_parquet=has_parquet)
        # An analysis of before counts the rater, perhaps by name: it has to be made again.
        if (folder / "analysis").is_dir():
            shutil.rmtree(folder / "analysis")
    return again


def _remember(folder: Path, target: Path) -> None:
    known = _remembered(folder)
    if target.resolve() not in known:
        lines = [str(path) for path in (*known, target.resolve())]
        (folder / LIST).write_text("\n".join(lines) + "\n", encoding="utf-8")


def _remembered(folder: Path) -> list[Path]:
    path = folder / LIST
    return [Path(line) for line in path.read_text(encoding="utf-8").splitlines() if line] if path.exists() else []
