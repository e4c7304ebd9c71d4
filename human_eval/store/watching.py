"""How far a study is: counts by cell, raters and what was noticed, sessions an hour. Previews never count."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sqlalchemy import Connection, func, select

from human_eval.assignment import cell_count
from human_eval.running import Running
from human_eval.store.schema import (
    answer,
    audit,
    cell,
    check_result,
    decision,
    enrolment,
    rater,
    study,
    trial,
)

HOUR_MS = 3_600_000
# Faster than this, in seconds a page on average, nobody has watched anything.
FAST_SECONDS = 3.0


@dataclass(frozen=True)
class RaterLine:
    """One rater as the author sees them. `noticed` are words; they decide nothing by themselves."""

    pseudonym: str
    source: str
    state: str
    done: int
    total: int
    checks_passed: int
    checks_done: int
    minutes: float
    agreement: float | None
    noticed: tuple[str, ...]
    decisions: dict[str, str]

    @property
    def needs_decision(self) -> bool:
        return bool(self.noticed) and "analysis" not in self.decisions


@dataclass(frozen=True)
class Progress:
    """A study at one moment. `cells`: (cell, complete, live, wanted, is open)."""

    name: str
    state: str
    design_hash: str
    frozen_ms: int | None
    wanted: int
    complete: int
    live: int
    left: int
    screened: int
    answers: int
    cells: tuple[tuple[int, int, int, float, bool], ...]
    hours: tuple[int, ...]
    raters: tuple[RaterLine, ...]
    deviations: tuple[str, ...]
    now_ms: int

    @property
    def largest_gap(self) -> int:
        """Largest minus smallest number of complete sessions in a cell."""
        complete = [row[1] for row in self.cells if row[4]]
        return max(complete) - min(complete) if complete else 0

    @property
    def hours_left(self) -> float | None:
        """At the rate of the last six hours; None if nobody finished in them."""
        recent = sum(self.hours[-6:])
        missing = max(0, self.wanted - self.complete)
        return 6 * missing / recent if recent else None


def progress(connection: Connection, running: Running) -> Progress:
    """Everything that the admin page and `human status` show."""
    row = connection.execute(select(study)).one()
    now = running.clock.now_ms()
    limit = now - running.study.limits.live_minutes * 60_000
    enrolments = connection.execute(
        select(enrolment, rater.c.pseudonym, rater.c.source).join(rater).where(~rater.c.is_preview)
    ).all()
    states = {one.id: "left" if one.state == "live" and one.seen_ms < limit else one.state for one in enrolments}
    counts = Counter(states.values())
    by_cell = Counter((one.cell, states[one.id]) for one in enrolments)
    is_open = {one.cell: one.is_open for one in connection.execute(select(cell))}
    wanted = running.study.quota.raters / cell_count(running.study)
    hours = [0] * 24
    for one in enrolments:
        if one.finished_ms is not None and now - one.finished_ms < 24 * HOUR_MS:
            hours[23 - (now - one.finished_ms) // HOUR_MS] += 1
    answers = connection.execute(
        select(func.count()).select_from(
            select(answer.c.trial_id, answer.c.field)
            .join(trial, trial.c.id == answer.c.trial_id)
            .join(enrolment, enrolment.c.id == trial.c.enrolment_id)
            .join(rater)
            .where(~rater.c.is_preview, trial.c.kind == "main")
            .distinct()
            .subquery()
        )
    ).scalar_one()
    deviations = connection.execute(select(audit.c.detail).where(audit.c.what == "deviation").order_by(audit.c.id))
    return Progress(
        name=row.name,
        state=row.state,
        design_hash=row.design_hash,
        frozen_ms=row.frozen_ms,
        wanted=running.study.quota.raters,
        complete=counts["complete"],
        live=counts["live"],
        left=counts["left"],
        screened=counts["screened"],
        answers=answers,
        cells=tuple(
            (k, by_cell[k, "complete"], by_cell[k, "live"], wanted, is_open.get(k, True))
            for k in range(cell_count(running.study))
        ),
        hours=tuple(hours),
        raters=tuple(_rater_lines(connection, running, enrolments, states)),
        deviations=tuple(
            f"{detail['place']}: {json.dumps(detail['old'])} became {json.dumps(detail['new'])}"
            for detail in map(json.loads, deviations.scalars())
        ),
        now_ms=now,
    )


def _rater_lines(
    connection: Connection, running: Running, enrolments: Sequence[Any], states: dict[int, str]
) -> list[RaterLine]:
    pages: dict[int, list[Any]] = defaultdict(list)
    for one in connection.execute(select(trial).order_by(trial.c.position)):
        pages[one.enrolment_id].append(one)
    checks: dict[int, list[bool]] = defaultdict(list)
    for enrolment_id, passed in connection.execute(
        select(trial.c.enrolment_id, check_result.c.passed).join(trial, trial.c.id == check_result.c.trial_id)
    ):
        checks[enrolment_id].append(passed)
    decided: dict[int, dict[str, str]] = defaultdict(dict)
    for one in connection.execute(select(decision).order_by(decision.c.id)):
        decided[one.rater_id][one.about] = one.value
    given = _given(connection)
    means: dict[tuple[str, str], list[float]] = defaultdict(list)
    for values in given.values():
        for what, value in values.items():
            means[what].append(value)
    twins = Counter(tuple(sorted(values.items())) for values in given.values() if len(values) >= 5)
    lines = []
    for one in sorted(enrolments, key=lambda row: int(row.ordinal)):
        done = [page for page in pages[one.id] if page.done_ms is not None]
        seconds = [(page.done_ms - page.served_ms) / 1000 for page in done if page.served_ms is not None]
        values = given.get(one.id, {})
        failed = checks[one.id].count(False)
        noticed = []
        if failed >= running.study.checks.flag_from:
            noticed.append(f"{failed} checks failed")
        if len(seconds) >= 5 and np.median(seconds) < FAST_SECONDS:
            noticed.append(f"{np.median(seconds):.1f} s a page")
        if len(values) >= 10 and len(set(values.values())) == 1:
            noticed.append(f"same answer {len(values)} times")
        if twins[tuple(sorted(values.items()))] > 1:
            noticed.append("same answers as another rater")
        agreement = _agreement(values, means)
        if agreement is not None and agreement < 0.1:
            noticed.append("low agreement")
        lines.append(
            RaterLine(
                pseudonym=one.pseudonym,
                source=one.source,
                state=states[one.id],
                done=len(done),
                total=len(pages[one.id]),
                checks_passed=checks[one.id].count(True),
                checks_done=len(checks[one.id]),
                minutes=((one.finished_ms or one.seen_ms) - one.started_ms) / 60_000,
                agreement=agreement,
                noticed=tuple(noticed),
                decisions=decided[one.rater_id],
            )
        )
    return lines


def _given(connection: Connection) -> dict[int, dict[tuple[str, str], float]]:
    """Numbers that each enrolment gave on analysed pages, by (stimulus, aspect)."""
    found: dict[int, dict[tuple[str, str], float]] = defaultdict(dict)
    rows = connection.execute(
        select(trial.c.enrolment_id, trial.c.stimuli, answer.c.field, answer.c.value)
        .join(answer, answer.c.trial_id == trial.c.id)
        .where(trial.c.kind == "main")
        .order_by(answer.c.revision)
    )
    for enrolment_id, stimuli, field, value in rows:
        slot, _, aspect = field.partition(".")
        if aspect and value.lstrip("-").isdigit():
            found[enrolment_id][json.loads(stimuli)[int(slot[1:]) - 1], aspect] = float(value)
    return found


def _agreement(values: dict[tuple[str, str], float], means: dict[tuple[str, str], list[float]]) -> float | None:
    """Correlation of a rater's numbers with the mean of all others; None where it is not defined or n is under 10."""
    own, others = [], []
    for what, value in values.items():
        everybody = means[what]
        if len(everybody) > 1:
            own.append(value)
            others.append((sum(everybody) - value) / (len(everybody) - 1))
    if len(own) < 10 or np.ptp(own) == 0 or np.ptp(others) == 0:
        return None
    return float(np.corrcoef(own, others)[0, 1])
