"""`human analyze`: the collected tables through the analysis, with the author's decisions about raters."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from human_eval.analysis.analyze import AnalysisResult, AnalysisSettings, analyze_tables
from human_eval.analysis.findings import Resampling
from human_eval.analysis.tables import StudyTables, read_tables
from human_eval.analysis.write import write_analysis
from human_eval.collected import collect
from human_eval.copies import Copy, begun_ms, remember
from human_eval.export import study_tables
from human_eval.result_page import result_html, write_page
from human_eval.running import Running
from human_eval.serving import opened
from human_eval.store.database import Database
from human_eval.study.design import Study
from human_eval.study.reading import read_study


def analyze_study(
    folder: Path, url: str = "", out: Path | None = None, tables: Path | None = None, *, resamples: int, seed: int
) -> tuple[AnalysisResult, list[Path]]:
    """Analyse the database, or the tables of an export, and write the result. Raises UserError without answers.

    Raters that the author has decided to leave out are not in it; those that the rules screen out are shown both ways.
    """
    target = out or folder / "analysis"
    if tables is not None:
        return analyze_folder(folder, target, tables, resamples=resamples, seed=seed)
    with opened(folder, url) as (running, database):
        return analyze_database(running, database, target, resamples=resamples, seed=seed)


def analyze_folder(
    folder: Path, target: Path, tables: Path, *, resamples: int, seed: int
) -> tuple[AnalysisResult, list[Path]]:
    """The same from the tables of an export."""
    study = read_study(folder)
    found = replace(read_tables(tables, scales=scales_of(study)), models=tuple(m.id for m in study.models))
    result, paths = _written(study, found, target, resamples, seed)
    names = tuple(path.name for path in paths)
    remember(folder, Copy("analysis", str(target.resolve()), names, 0, str(tables.resolve()), resamples, seed))
    return result, paths


def analyze_database(
    running: Running, database: Database, target: Path, *, resamples: int, seed: int
) -> tuple[AnalysisResult, list[Path]]:
    """The same from a database that is open."""
    found = study_tables(running, database).without(_left_out(running, database))
    result, paths = _written(running.study, found, target, resamples, seed)
    names, begun = tuple(path.name for path in paths), database.read(begun_ms)
    remember(running.folder, Copy("analysis", str(target.resolve()), names, begun, "", resamples, seed))
    return result, paths


def analysis_page(running: Running, database: Database, *, resamples: int, seed: int) -> str:
    """The page of the result from the answers so far, for the author; nothing is written. Raises UserError."""
    found = study_tables(running, database).without(_left_out(running, database))
    result = analyze_tables(found, AnalysisSettings(resampling=Resampling(resamples=resamples, seed=seed)))
    return result_html(running.study, result, is_served=True)


def _left_out(running: Running, database: Database) -> list[str]:
    """Raters that the author has decided to leave out."""
    raters = database.read(lambda connection: collect(connection, running)).raters
    return [row["rater"] for row in raters if row["analysis"] == "leave out"]


def _written(
    study: Study, tables: StudyTables, target: Path, resamples: int, seed: int
) -> tuple[AnalysisResult, list[Path]]:
    settings = AnalysisSettings(resampling=Resampling(resamples=resamples, seed=seed))
    result = analyze_tables(tables, settings)
    paths = write_analysis(result, target)
    return result, [*paths, write_page(study, result, target / "analysis.html")]


def scales_of(study: Study) -> dict[str, tuple[float, float]]:
    return {aspect.id: (float(aspect.scale.low), float(aspect.scale.high)) for aspect in study.aspects}


def opinion_lines(result: AnalysisResult) -> list[str]:
    """Each mean, share or strength with its interval and n, for the terminal."""
    lines = [f"{result.n_raters} raters, {len(result.excluded)} screened out by the rules"]
    for aspect in result.analysed.aspects.values():
        for one in aspect.opinions:
            low, high = one.interval.low, one.interval.high
            interval = f"{low:.2f} – {high:.2f}" if low is not None and high is not None else "n too small"
            lines.append(f"{aspect.aspect:<14} {one.model:<24} {one.mean:.2f}   {interval}   n = {one.n:,}")
    return lines + [f"! {note}" for note in result.notes]
