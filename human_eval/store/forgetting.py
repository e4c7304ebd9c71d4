"""Removing a rater everywhere, and the outside identifiers of everybody after the promised time."""

from __future__ import annotations

import hmac

from sqlalchemy import Connection, delete, select, update

from human_eval.running import Running
from human_eval.store.enrolling import pseudonyms
from human_eval.store.opening import note
from human_eval.store.schema import enrolment, rater

DAY_MS = 86_400_000


def forget(connection: Connection, running: Running, *, pseudonym: str = "", withdrawal_key: str = "") -> str:
    """Delete the rater of this name or key, with everything that hangs on it. Returns the name, "" if nobody fits.

    What stays is a line in the audit trail that one rater was removed, without a name. Call `Database.scrub` after
    the commit, so that the file keeps no byte either.
    """
    if withdrawal_key:
        for name in pseudonyms(connection):
            if hmac.compare_digest(running.withdrawal_key(name).encode(), withdrawal_key.encode()):
                pseudonym = name
    row = connection.execute(select(rater.c.id).where(rater.c.pseudonym == pseudonym)).scalar_one_or_none()
    if row is None:
        return ""
    connection.execute(delete(rater).where(rater.c.id == row))
    note(connection, running, "forgotten", by="rater" if withdrawal_key else "author")
    return pseudonym


def expire(connection: Connection, running: Running) -> int:
    """Empty the personal columns of raters whose promised time is over. Returns how many there were."""
    limit = running.clock.now_ms() - running.study.limits.retention_days * DAY_MS
    old = select(enrolment.c.rater_id).where(enrolment.c.seen_ms < limit)
    has_some = rater.c.outside_hash.is_not(None) | rater.c.environment.is_not(None)
    result = connection.execute(
        update(rater).where(rater.c.id.in_(old), has_some).values(outside_hash=None, environment=None)
    )
    if result.rowcount:
        note(connection, running, "expired", raters=result.rowcount)
    return result.rowcount
