"""`human status`: the admin page's facts in the terminal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from human_eval.app.admin import as_json
from human_eval.export import study_tables
from human_eval.precision import half_widths
from human_eval.serving import opened
from human_eval.store.watching import progress


def status_json(folder: Path, url: str) -> dict[str, Any]:
    """Counts, cells, raters and precision."""
    with opened(folder, url) as (running, database):
        found = database.read(lambda connection: progress(connection, running))
        widths = half_widths(study_tables(running, database), running.study) if found.complete >= 3 else []
    return {**as_json(found), "half_widths": dict(widths), "hours_left": found.hours_left}


def status_lines(folder: Path, url: str) -> list[str]:
    """The same in words."""
    found = status_json(folder, url)
    lines = [
        f"{found['study']}: {found['complete']} of {found['wanted']} sessions complete, {found['live']} live, "
        f"{found['left']} left early, intake {found['state']}",
        f"design  {found['design_hash'][:8]}, {len(found['deviations']) or 'no'} deviations",
        "cells   "
        + ", ".join(f"{row['cell'] + 1}: {row['complete']}{'' if row['open'] else ' closed'}" for row in found["cells"])
        + f" (largest gap {found['largest_gap']})",
    ]
    lines += [f"± {width:.2f}  {name}" for name, width in found["half_widths"].items()]
    if not found["half_widths"]:
        lines.append("n too small for an interval")
    waiting = [row for row in found["raters"] if row["noticed"] and "analysis" not in row["decisions"]]
    lines += [f"decide  {row['rater']}: {', '.join(row['noticed'])}" for row in waiting]
    if found["hours_left"] is not None and found["complete"] < found["wanted"]:
        lines.append(f"about {found['hours_left']:.1f} h left at the rate of the last six hours")
    return lines
