"""Raters come, leave, come back and finish. A seat is drawn in the transaction that makes the enrolment."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import JSON, Connection, Row, Text, bindparam, cast, column, exists, func, insert, or_, select, update

from human_eval.assignment import Seat, draw_seat, plan_trials
from human_eval.running import Running
from human_eval.store.database import lock_seats
from human_eval.store.opening import freeze
from human_eval.store.schema import cell, enrolment, rater, study, trial
from human_eval.study.design import consent_hash

LIVE, COMPLETE, LEFT, SCREENED = "live", "complete", "left", "screened"

# An enrolment with all its trials, in one statement: every request of a rater asks it.
PLACE = (
    select(
        enrolment.c.ordinal,
        enrolment.c.state,
        enrolment.c.checked,
        rater.c.pseudonym,
        rater.c.language,
        rater.c.is_preview,
        trial.c.position,
        trial.c.kind,
        trial.c.token,
        trial.c.done_ms,
    )
    .join(rater, rater.c.id == enrolment.c.rater_id)
    .outerjoin(trial, trial.c.enrolment_id == enrolment.c.id)
    .where(enrolment.c.id == bindparam("of"))
    .order_by(trial.c.position)
)

# What enrolling has to know of the study, in one statement: people may come by the hundred.
STATE = select(
    study,
    select(enrolment.c.id)
    .join(rater, rater.c.id == enrolment.c.rater_id)
    .where(rater.c.outside_hash == bindparam("hash"))
    .scalar_subquery()
    .label("known"),
    exists().where(~cell.c.is_open).label("closed"),
)

_FIELDS = ("enrolment_id", "position", "kind", "item", "stimuli", "expected", "token", "revision")
_GIVEN = func.json_to_recordset(cast(bindparam("rows", type_=Text), JSON)).table_valued(
    *(column(name, trial.c[name].type) for name in _FIELDS)
)
# All trials of a rater as one value: PostgreSQL takes them in a third of the time of as many rows of values.
TRIALS = insert(trial).from_select(_FIELDS, select(*_GIVEN.render_derived(with_types=True).c))


class StudyFullError(Exception):
    """Every place is taken."""


class StudyPausedError(Exception):
    """Intake is paused, or every cell is closed."""


class PlaceGoneError(Exception):
    """A rater who had left comes back, and somebody else has the place."""


class Place(NamedTuple):
    """A rater's enrolment as the pages need it. `token` is of the first page that is not done, "" after the last."""

    enrolment_id: int
    ordinal: int
    pseudonym: str
    language: str
    state: str
    checked: bool
    is_preview: bool
    position: int
    done: int
    total: int
    practice: int
    token: str


def enrol(
    connection: Connection,
    running: Running,
    *,
    source: str,
    outside_id: str,
    language: str,
    is_preview: bool = False,
) -> int:
    """Consent was given: a rater, an enrolment and its trials, or the enrolment that this identifier already has.

    Raises StudyFullError or StudyPausedError; nothing is stored then.
    """
    hashed = running.outside_hash(source, outside_id) if outside_id else None
    now = running.clock.now_ms()
    row = connection.execute(STATE, {"hash": hashed}).one()
    if row.known is not None:
        return int(row.known)
    if row.state != "open" and not is_preview:
        raise StudyPausedError
    taken = [] if is_preview else seats_taken(connection, running)
    quota = running.study.quota
    if not is_preview and len(taken) >= quota.raters + quota.slack:
        raise StudyFullError
    ordinal = _preview_ordinal(connection) if is_preview else row.next_ordinal
    is_any_closed = row.closed and not is_preview
    closed = connection.execute(select(cell.c.cell).where(~cell.c.is_open)).scalars().all() if is_any_closed else []
    seat = draw_seat(running.study, taken, closed, ordinal)
    if seat is None:
        raise StudyPausedError
    if not is_preview:
        connection.execute(update(study).values(next_ordinal=ordinal + 1))
        if row.frozen_ms is None:
            freeze(connection, running)
    values = {
        "pseudonym": running.pseudonym(ordinal),
        "source": source,
        "outside_hash": hashed,
        "language": language,
        "consent_version": running.study.consent.version,
        "consent_hash": consent_hash(running.study, language),
        "consent_ms": now,
        "is_preview": is_preview,
    }
    rater_id = connection.execute(insert(rater).values(values)).inserted_primary_key
    assert rater_id is not None
    enrolment_id = connection.execute(
        insert(enrolment).values(
            rater_id=rater_id[0],
            ordinal=ordinal,
            cell=seat.cell,
            item_row=seat.row,
            state=LIVE,
            checked=not running.study.environment_check,
            started_ms=now,
            seen_ms=now,
        )
    ).inserted_primary_key
    assert enrolment_id is not None
    rows = [
        {
            "enrolment_id": enrolment_id[0],
            "position": planned.position,
            "kind": planned.kind,
            "item": planned.item,
            "stimuli": json.dumps(planned.stimuli),
            "expected": json.dumps(planned.expected, sort_keys=True),
            "token": running.trial_token(ordinal, planned.position),
            "revision": 0,
        }
        for planned in plan_trials(running.study, seat, ordinal)
    ]
    if connection.dialect.name == "sqlite":
        connection.execute(insert(trial), rows)
    else:
        connection.execute(TRIALS, {"rows": json.dumps(rows)})
    return int(enrolment_id[0])


def seats_taken(connection: Connection, running: Running) -> list[Seat]:
    """Seats of complete and live raters, after those who have not been seen for too long have been marked as left."""
    limit = running.clock.now_ms() - running.study.limits.live_minutes * 60_000
    is_gone = (enrolment.c.state == LIVE) & (enrolment.c.seen_ms < limit)
    rows = connection.execute(
        select(enrolment.c.cell, enrolment.c.item_row, rater.c.is_preview, is_gone.label("is_gone"))
        .join(rater)
        .where(or_(enrolment.c.state == LIVE, enrolment.c.state == COMPLETE))
    ).all()
    if any(row.is_gone for row in rows):
        connection.execute(update(enrolment).where(is_gone).values(state=LEFT))
    return [Seat(row.cell, row.item_row) for row in rows if not row.is_gone and not row.is_preview]


def touch(connection: Connection, running: Running, enrolment_id: int, known: Row[Any] | None = None) -> None:
    """The rater is here. One who had left gets the place back if there is still one. Raises PlaceGoneError.

    `known`: a row with `state` and `is_preview`, if this transaction has read one.
    """
    query = select(enrolment.c.state, rater.c.is_preview).join(rater).where(enrolment.c.id == enrolment_id)
    row = connection.execute(query).one() if known is None else known
    values: dict[str, Any] = {"seen_ms": running.clock.now_ms()}
    if row.state == LEFT:
        quota = running.study.quota
        lock_seats(connection)
        if not row.is_preview and len(seats_taken(connection, running)) >= quota.raters + quota.slack:
            raise PlaceGoneError
        values["state"] = LIVE
    connection.execute(update(enrolment).where(enrolment.c.id == enrolment_id).values(values))


def leave(connection: Connection, enrolment_id: int) -> None:
    """The rater stops; the answers stay and the place is free."""
    connection.execute(
        update(enrolment).where(enrolment.c.id == enrolment_id, enrolment.c.state == LIVE).values(state=LEFT)
    )


def place_of(connection: Connection, enrolment_id: int) -> Place | None:
    """Where a rater is; None for an enrolment that is not there (any more)."""
    rows = connection.execute(PLACE, {"of": enrolment_id}).all()
    if not rows:
        return None
    row, trials = rows[0], [one for one in rows if one.position is not None]
    waiting = next((one for one in trials if one.done_ms is None), None)
    return Place(
        enrolment_id,
        row.ordinal,
        row.pseudonym,
        row.language,
        row.state,
        row.checked,
        row.is_preview,
        waiting.position if waiting else len(trials) + 1,
        sum(one.done_ms is not None for one in trials),
        len(trials),
        sum(one.kind == "training" for one in trials),
        waiting.token if waiting else "",
    )


def finish(connection: Connection, running: Running, enrolment_id: int) -> None:
    """Every trial is done: mark the enrolment complete."""
    now = running.clock.now_ms()
    connection.execute(
        update(enrolment)
        .where(enrolment.c.id == enrolment_id, enrolment.c.state != COMPLETE)
        .values(state=COMPLETE, finished_ms=now, seen_ms=now)
    )


def record_environment(connection: Connection, enrolment_id: int, facts: dict[str, object], passed: bool) -> None:
    """What the device can show, and whether the video of the check was seen."""
    rater_id = connection.execute(select(enrolment.c.rater_id).where(enrolment.c.id == enrolment_id)).scalar_one()
    text = json.dumps(facts, ensure_ascii=False, sort_keys=True)
    connection.execute(update(rater).where(rater.c.id == rater_id).values(environment=text))
    if passed:
        connection.execute(update(enrolment).where(enrolment.c.id == enrolment_id).values(checked=True))


def rater_by_pseudonym(connection: Connection, pseudonym: str) -> Row[Any] | None:
    return connection.execute(select(rater).where(rater.c.pseudonym == pseudonym)).one_or_none()


def pseudonyms(connection: Connection) -> Sequence[str]:
    return connection.execute(select(rater.c.pseudonym).order_by(rater.c.pseudonym)).scalars().all()


def _preview_ordinal(connection: Connection) -> int:
    return min(0, connection.execute(select(func.min(enrolment.c.ordinal))).scalar() or 0) - 1
