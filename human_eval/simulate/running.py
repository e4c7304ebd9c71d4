"""`human simulate`: a study of its own beside the real one, filled by synthetic raters."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sqlalchemy import func, select

from cogvideo.errors import UserError
from eval.records import whole_file
from human_eval.copies import Copy, begun_ms, remember
from human_eval.export import export_study
from human_eval.serving import opened
from human_eval.simulate.raters import simulate
from human_eval.simulate.report import SimulationReport, report
from human_eval.simulate.truth import plant
from human_eval.store.clock import StillClock
from human_eval.store.schema import rater


@dataclass(frozen=True)
class SimulatedStudy:
    """The report and where the files are."""

    found: SimulationReport
    folder: Path

    def to_json(self) -> dict[str, Any]:
        return {**self.found.to_json(), "folder": str(self.folder)}

    def lines(self) -> list[str]:
        """The same in words."""
        found = self.found
        lines = [
            f"{found.complete} of {found.raters} sessions complete, {found.left} left early, "
            f"{found.requests:,} requests",
            f"{found.answers:,} answers of {found.answers_planned:,} planned; cells differ by {found.largest_gap}, "
            f"models at a place by {found.position_gap}",
        ]
        if found.careless:
            caught = len(set(found.careless) & set(found.flagged))
            lines.append(f"{caught} of {len(found.careless)} careless raters were noticed")
        lines += [
            f"{row['aspect']:<14} {row['model']:<24} truth {row['truth']:.2f}   {row['mean']:.2f}   "
            + (f"{row['low']:.2f} – {row['high']:.2f}" if row["low"] is not None else "n too small")
            + ("" if row["holds"] else "   misses")
            for row in found.means
        ]
        if found.intervals:
            lines.append(
                f"{found.covered} of {found.intervals} intervals hold the truth; of naive ones {found.naive_covered}"
            )
        lines.append(f"data    {self.folder}")
        return lines


def simulate_study(
    folder: Path,
    *,
    raters: int = 0,
    dropout: float = 0.0,
    careless: float = 0.0,
    url: str = "",
    seed: int = 0,
    say: Callable[[str], None] = lambda line: None,
) -> SimulatedStudy:
    """Fill STUDY/simulated with `raters` sessions (the study's quota if 0), export it, and hold it against the truth.

    Raises UserError for a database that already has raters.
    """
    place = folder / "simulated"
    place.mkdir(parents=True, exist_ok=True)
    if not url:
        for old in place.glob("study.db*"):
            old.unlink()
        url = f"sqlite:///{(place / 'study.db').resolve()}"
    with opened(folder, url, StillClock()) as (real, database):
        running = replace(real, is_simulated=True)
        if database.read(lambda connection: connection.execute(select(func.count()).select_from(rater)).scalar()):
            raise UserError("--database already holds raters; give an empty one, simulated raters never join real ones")
        wanted = raters or running.study.quota.raters
        if wanted > running.study.quota.raters + running.study.quota.slack:
            raise UserError(f"the study has places for {running.study.quota.raters} raters, {wanted} were asked for")
        truth = plant(running.study, seed)
        happened = asyncio.run(
            simulate(
                running,
                database,
                truth,
                raters=wanted,
                seed=seed,
                dropout=dropout,
                careless=careless,
                say=lambda complete: say(f"{complete} of {wanted} sessions") if complete % 10 == 0 else None,
            )
        )
        names = tuple(path.name for path in export_study(running, database, place / "export"))
        remember(folder, Copy("export", str((place / "export").resolve()), names, database.read(begun_ms)))
        found = report(running, database, truth, happened, wanted)
    with whole_file(place / "report.json") as temporary:
        temporary.write_text(json.dumps(found.to_json(), indent=1) + "\n", encoding="utf-8")
    return SimulatedStudy(found, place)
