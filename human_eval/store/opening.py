"""Joining a study's files with its database: the same key, the same frozen design, deviations on record."""

from __future__ import annotations

import json

from sqlalchemy import Connection, func, insert, select, update

from cogvideo.errors import UserError
from human_eval.assignment import cell_count
from human_eval.running import Running
from human_eval.store.schema import answer, audit, cell, enrolment, event, stimulus, study, trial
from human_eval.study.design import breaks_data, canonical, changes, design_hash


def open_collection(connection: Connection, running: Running) -> list[str]:
    """Register the study on first use; later hold its design against the frozen one.

    Returns the deviations recorded now, as lines. Raises UserError for another key or another study, and for a change
    that would give old answers another meaning.
    """
    running.clock.not_before(last_ms(connection))
    row = connection.execute(select(study)).one_or_none()
    if row is None:
        _register(connection, running)
        return []
    if row.key_check != running.key_check:
        raise UserError(
            f"the database belongs to the study {row.name!r} with another key than {running.folder / 'key'}; "
            "restore that key, or give another --database"
        )
    if row.design_hash == design_hash(running.study):
        return []
    if row.frozen_ms is None:
        connection.execute(study.delete())
        for table in (cell, stimulus):
            connection.execute(table.delete())
        _register(connection, running)
        return []
    return _deviate(connection, running, row.design)


def last_ms(connection: Connection) -> int:
    """The latest time in the database, 0 if there is none."""
    columns = (enrolment.c.seen_ms, answer.c.server_ms, audit.c.server_ms, trial.c.served_ms, event.c.server_ms)
    return max(connection.execute(select(func.max(column))).scalar() or 0 for column in columns)


def note(connection: Connection, running: Running, what: str, **detail: object) -> None:
    """A line in the audit trail. It never names a rater by more than the pseudonym."""
    text = json.dumps(detail, ensure_ascii=False, sort_keys=True)
    connection.execute(insert(audit).values(server_ms=running.clock.now_ms(), what=what, detail=text))


def freeze(connection: Connection, running: Running) -> None:
    """The first real rater is in: from now on the design is the one that was promised."""
    connection.execute(update(study).where(study.c.frozen_ms.is_(None)).values(frozen_ms=running.clock.now_ms()))
    note(connection, running, "frozen", design_hash=design_hash(running.study))


def _register(connection: Connection, running: Running) -> None:
    connection.execute(
        insert(study).values(
            id=1,
            name=running.study.name,
            design_hash=design_hash(running.study),
            design=canonical(running.study),
            key_check=running.key_check,
            state="open",
            created_ms=running.clock.now_ms(),
            next_ordinal=0,
        )
    )
    connection.execute(insert(cell), [{"cell": k, "is_open": True} for k in range(cell_count(running.study))])
    rows = [
        {"id": s.id, "item": s.item, "model": s.model, "kind": s.kind, "sha256": s.sha256}
        for s in running.stimuli.values()
    ]
    connection.execute(insert(stimulus), rows)


def _deviate(connection: Connection, running: Running, frozen: str) -> list[str]:
    found = changes(json.loads(frozen), json.loads(canonical(running.study)))
    if broken := next((change for change in found if breaks_data(change[0])), None):
        place, old, new = broken
        raise UserError(
            f"study.yaml: {place} was frozen as {old[:80]} when the first rater entered and is now {new[:80]}; old "
            "answers would change their meaning: take the change back, or make a new study"
        )
    for place, old, new in found:
        note(connection, running, "deviation", place=place, old=json.loads(old), new=json.loads(new))
    connection.execute(update(study).values(design_hash=design_hash(running.study), design=canonical(running.study)))
    return [f"{place}: {old} is now {new}" for place, old, new in found]
