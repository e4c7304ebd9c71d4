"""What a simulated study shows: is the design filled and balanced, and do the intervals hold the planted truth."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from human_eval.export import study_tables
from human_eval.running import Running
from human_eval.simulate.raters import Simulated
from human_eval.simulate.truth import Truth, expected_scores
from human_eval.store.database import Database
from human_eval.store.watching import progress


@dataclass(frozen=True)
class SimulationReport:
    """`coverage`: of how many intervals, how many hold the truth; `naive` the same for intervals over all ratings."""

    raters: int
    complete: int
    left: int
    pages: int
    requests: int
    answers: int
    answers_planned: int
    largest_gap: int
    position_gap: int
    flagged: list[str]
    careless: list[str]
    means: list[dict[str, Any]]
    covered: int
    naive_covered: int
    intervals: int

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def report(running: Running, database: Database, truth: Truth, happened: Simulated, raters: int) -> SimulationReport:
    """Counts, balance, and each mean with its interval beside the truth."""
    study = running.study
    seen = database.read(lambda connection: progress(connection, running))
    tables = study_tables(running, database)
    complete = {line.pseudonym for line in seen.raters if line.state == "complete"}
    rows = tables.ratings[tables.ratings["rater"].isin(complete)] if len(tables.ratings) else tables.ratings
    means = _means(running, rows, expected_scores(study, truth))
    return SimulationReport(
        raters=raters,
        complete=happened.complete,
        left=happened.left,
        pages=happened.pages,
        requests=happened.requests,
        answers=_answers(tables, complete),
        answers_planned=happened.complete * study.trials * len(study.fields),
        largest_gap=seen.largest_gap,
        position_gap=_position_gap(rows),
        flagged=[line.pseudonym for line in seen.raters if line.needs_decision],
        careless=happened.careless,
        means=means,
        covered=sum(row["holds"] for row in means),
        naive_covered=sum(row["naive_holds"] for row in means),
        intervals=len(means),
    )


def _answers(tables: Any, complete: set[str]) -> int:
    parts = (tables.ratings, tables.favourites, tables.pairs, tables.rankings)
    return sum(int(part["rater"].isin(complete).sum()) for part in parts if len(part))


def _position_gap(rows: Any) -> int:
    """Largest minus smallest count of a model at a place on the page."""
    if not len(rows) or "position" not in rows.columns:
        return 0
    first = rows[rows["aspect"] == rows["aspect"].iloc[0]]
    counts = Counter(zip(first["model"], first["position"], strict=True))
    return max(counts.values()) - min(counts.values())


def _means(running: Running, rows: Any, truth: Mapping[str, Mapping[str, float]]) -> list[dict[str, Any]]:
    from human_eval.analysis.means import mean_opinions

    found = []
    for aspect in running.study.aspects:
        part = rows[rows["aspect"] == aspect.id]
        if not len(part):
            continue
        opinions, _ = mean_opinions(part, scale=(aspect.scale.low, aspect.scale.high), resamples=200)
        for one in opinions:
            value = truth[aspect.id][one.model]
            row = {"aspect": aspect.id, "model": one.model, "n": one.n, "truth": value, "mean": one.mean}
            row |= {"low": one.interval.low, "high": one.interval.high, "holds": _holds(one.interval, value)}
            found.append(row | {"naive_holds": _holds(one.naive, value)})
    return found


def _holds(interval: Any, value: float) -> bool:
    return interval.low is not None and interval.low <= value <= interval.high
