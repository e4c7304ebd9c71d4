"""Pages are served and answers are saved: in order, once, and never over somebody's head.

A page is known by a random name made when it was rendered, and counts its saves. The same save again is answered as it
was the first time; a save from a page that has not seen the latest revision is a conflict and changes nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, bindparam, func, insert, select, update

from human_eval.checks import judge
from human_eval.running import Running
from human_eval.store.enrolling import COMPLETE, Place, finish, place_of, touch
from human_eval.store.schema import answer, check_result, enrolment, event, rater, submission, trial

EVENT_KINDS = ("play", "pause", "end", "stall", "seek", "blur", "focus", "error", "ready", "spread", "blocked")
MOST_EVENTS = 2000

_other = trial.alias()
# A trial with what decides whether its rater may be on it: one statement, as every request about a page begins with it.
ROW = (
    select(
        trial,
        enrolment.c.state,
        rater.c.is_preview,
        select(func.min(_other.c.position))
        .where(_other.c.enrolment_id == bindparam("of"), _other.c.done_ms.is_(None))
        .scalar_subquery()
        .label("ahead"),
    )
    .join(enrolment, enrolment.c.id == trial.c.enrolment_id)
    .join(rater, rater.c.id == enrolment.c.rater_id)
    .where(trial.c.token == bindparam("behind"), trial.c.enrolment_id == bindparam("of"))
)


class NotYoursError(Exception):
    """A page of somebody else, or of nobody."""


class NotYetError(Exception):
    """A page ahead of the rater's place."""


class FinishedError(Exception):
    """The session is complete; nothing can be changed any more."""


class BadAnswerError(Exception):
    """A field or value that the page does not have."""


class ConflictError(Exception):
    """Another window saved something else in the meantime."""

    def __init__(self, saved: dict[str, str], revision: int) -> None:
        super().__init__("saved elsewhere")
        self.saved, self.revision = saved, revision


class TooFastError(Exception):
    """Less time than it takes to watch."""


class Save(NamedTuple):
    """One save of a page. `base`: the revision that the page was rendered with; `seq` counts the page's saves."""

    page: str
    seq: int
    base: int
    values: Mapping[str, str]
    is_final: bool
    client_ms: int | None = None


@dataclass(frozen=True)
class Page:
    """A trial as it is shown."""

    trial_id: int
    token: str
    position: int
    kind: str
    item: str
    stimuli: tuple[str, ...]
    expected: dict[str, Any]
    revision: int
    is_done: bool
    answers: dict[str, str] = field(default_factory=dict)


class Saved(NamedTuple):
    """What a save left behind, and where the rater is now. `missing`: fields without an answer, only told when the page
    was to be finished."""

    revision: int
    answers: dict[str, str]
    missing: tuple[str, ...]
    is_done: bool
    place: Place


def serve(connection: Connection, running: Running, enrolment_id: int, token: str) -> Page:
    """The page behind a token, marked as served. Raises NotYoursError, NotYetError, PlaceGoneError."""
    row = _row(connection, enrolment_id, token)
    touch(connection, running, enrolment_id, row)
    if row.served_ms is None:
        connection.execute(update(trial).where(trial.c.id == row.id).values(served_ms=running.clock.now_ms()))
    return _page(connection, row)


def peek(connection: Connection, enrolment_id: int, token: str, ahead: int = 0) -> Page:
    """The page behind a token, without a trace; up to `ahead` pages after the rater's place."""
    return _page(connection, _row(connection, enrolment_id, token, ahead))


def save(connection: Connection, running: Running, enrolment_id: int, token: str, given: Save) -> Saved:
    """Store what is new in a save. Raises the errors above; nothing is stored then."""
    row = _row(connection, enrolment_id, token)
    values = _checked(running, given.values)
    digest = hashlib.sha256(json.dumps([sorted(values.items()), given.is_final]).encode()).hexdigest()[:32]
    same_page = (submission.c.trial_id == row.id, submission.c.page == given.page)
    before = connection.execute(select(submission).where(*same_page).order_by(submission.c.revision)).all()
    if any(old.seq == given.seq and old.digest == digest for old in before):
        return _saved(connection, running, row, given)
    if any(old.seq > given.seq for old in before):
        return _saved(connection, running, row, given)
    if row.state == COMPLETE:
        raise FinishedError
    touch(connection, running, enrolment_id, row)
    answers = latest(connection, row.id)
    changed = {name: value for name, value in values.items() if answers.get(name) != value}
    seen = max([given.base, *(old.revision for old in before)])
    if changed and seen != row.revision:
        raise ConflictError(answers, row.revision)
    missing = _missing(running, answers | values) if given.is_final else ()
    is_final = given.is_final and not missing
    now = running.clock.now_ms()
    if is_final and row.done_ms is None and now - (row.served_ms or now) < running.study.limits.watch_seconds * 1000:
        raise TooFastError
    revision = row.revision
    if changed:
        revision += 1
        rows = [
            {
                "trial_id": row.id,
                "field": name,
                "value": value,
                "revision": revision,
                "client_ms": given.client_ms,
                "server_ms": now,
            }
            for name, value in changed.items()
        ]
        connection.execute(insert(answer), rows)
    connection.execute(
        insert(submission).values(
            trial_id=row.id, page=given.page, seq=given.seq, digest=digest, revision=revision, is_final=is_final
        )
    )
    done_ms = now if is_final and row.done_ms is None else row.done_ms
    connection.execute(
        update(trial)
        .where(trial.c.id == row.id)
        .values(revision=revision, done_ms=done_ms, served_ms=row.served_ms if row.served_ms is not None else now)
    )
    if done_ms is not None:
        _judge(connection, running, row, answers | values, now)
    place = _place(connection, enrolment_id)
    if is_final and not place.token:
        finish(connection, running, enrolment_id)
        place = place._replace(state=COMPLETE)
    return Saved(revision, answers | values, missing, done_ms is not None, place)


def record_events(
    connection: Connection, running: Running, enrolment_id: int, token: str, page: str, events: Sequence[Any]
) -> int:
    """Keep what happened on a page, once each; what is none of ours is left out. Returns how many were new."""
    row = _row(connection, enrolment_id, token)
    known = set(
        connection.execute(select(event.c.seq).where(event.c.trial_id == row.id, event.c.page == page)).scalars()
    )
    total = connection.execute(select(func.count()).select_from(event).where(event.c.trial_id == row.id)).scalar_one()
    now = running.clock.now_ms()
    rows: list[dict[str, Any]] = []
    for one in events:
        if not isinstance(one, list) or len(one) != 5 or one[1] not in EVENT_KINDS:
            continue
        numbers = [value for at, value in enumerate(one) if at != 1]
        if not all(isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**40 for value in numbers):
            continue
        seq, kind, slot, client_ms, value = one
        if seq in known or slot > 16 or total + len(rows) >= MOST_EVENTS:
            continue
        known.add(seq)
        rows.append(
            {
                "trial_id": row.id,
                "page": page,
                "seq": seq,
                "kind": kind,
                "slot": slot,
                "client_ms": client_ms,
                "value": value,
                "server_ms": now,
            }
        )
    if rows:
        connection.execute(insert(event), rows)
    return len(rows)


def latest(connection: Connection, trial_id: int) -> dict[str, str]:
    """The answers that count: the last revision of each field."""
    rows = connection.execute(
        select(answer.c.field, answer.c.value)
        .where(answer.c.trial_id == trial_id)
        .order_by(answer.c.revision, answer.c.id)
    )
    return {row.field: row.value for row in rows}


def _row(connection: Connection, enrolment_id: int, token: str, further: int = 0) -> Row[Any]:
    row = connection.execute(ROW, {"of": enrolment_id, "behind": token}).one_or_none()
    if row is None:
        raise NotYoursError
    if row.ahead is not None and row.position > row.ahead + further:
        raise NotYetError
    return row


def _place(connection: Connection, enrolment_id: int) -> Place:
    place = place_of(connection, enrolment_id)
    assert place is not None
    return place


def _page(connection: Connection, row: Row[Any]) -> Page:
    return Page(
        row.id,
        row.token,
        row.position,
        row.kind,
        row.item,
        tuple(json.loads(row.stimuli)),
        json.loads(row.expected),
        row.revision,
        row.done_ms is not None,
        latest(connection, row.id),
    )


def _saved(connection: Connection, running: Running, row: Row[Any], given: Save) -> Saved:
    now = connection.execute(select(trial.c.revision, trial.c.done_ms).where(trial.c.id == row.id)).one()
    answers = latest(connection, row.id)
    missing = _missing(running, answers) if given.is_final else ()
    return Saved(now.revision, answers, missing, now.done_ms is not None, _place(connection, row.enrolment_id))


def _checked(running: Running, values: Mapping[str, str]) -> dict[str, str]:
    fields = set(running.study.fields)
    for name, value in values.items():
        if name not in fields or value not in running.study.allowed(name):
            raise BadAnswerError(name)
    return dict(values)


def _missing(running: Running, answers: Mapping[str, str]) -> tuple[str, ...]:
    missing = [name for name in running.study.fields if name not in answers]
    if answers.get("choice") in ("tie", "bad") and "strength" in missing:
        missing.remove("strength")
    ranks = [name for name in running.study.fields if name.endswith(".rank")]
    if not missing and len({answers[name] for name in ranks}) != len(ranks):
        return tuple(ranks)
    return tuple(missing)


def _judge(connection: Connection, running: Running, row: Row[Any], answers: dict[str, str], now: int) -> None:
    """Keep whether a check page was passed, by the answers that count."""
    if row.kind in ("main", "training"):
        return
    expected = json.loads(row.expected)
    earlier: dict[str, str] | None = None
    if "repeat" in expected:
        item, *stimuli = expected["repeat"]
        first = connection.execute(
            select(trial.c.id).where(
                trial.c.enrolment_id == row.enrolment_id,
                trial.c.kind == "main",
                trial.c.item == item,
                trial.c.stimuli == json.dumps(stimuli),
            )
        ).scalar()
        earlier = latest(connection, first) if first is not None else None
    reason = judge(expected, answers, earlier)
    connection.execute(check_result.delete().where(check_result.c.trial_id == row.id))
    connection.execute(insert(check_result).values(trial_id=row.id, passed=not reason, reason=reason, server_ms=now))
