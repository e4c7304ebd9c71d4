"""`human export`: the tables as files, in a place that is remembered so that `human forget` finds them."""

from __future__ import annotations

from pathlib import Path

from human_eval.copies import Copy, begun_ms, remember
from human_eval.export import export_study
from human_eval.serving import opened
from human_eval.store.opening import note


def export_folder(folder: Path, url: str = "", out: Path | None = None, *, has_parquet: bool = False) -> list[Path]:
    """Export into STUDY/export or another folder."""
    target = (out or folder / "export").resolve()
    with opened(folder, url) as (running, database):
        paths = export_study(running, database, target, has_parquet=has_parquet)
        names = tuple(path.name for path in paths)
        remember(folder, Copy("export", str(target), names, database.read(begun_ms)))
        database.write(lambda connection: note(connection, running, "exported", files=len(paths)))
    return [(out or folder / "export") / name for name in names]
