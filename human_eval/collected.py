"""Everything that a study's database holds about real raters, read in one go and in an order of its own."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, select

from human_eval.running import Running
from human_eval.store.schema import (
    answer,
    audit,
    check_result,
    decision,
    enrolment,
    event,
    rater,
    remark,
    study,
    trial,
)

Row = dict[str, Any]


@dataclass
class CollectedPage:
    """One trial of one rater, with the answers that count."""

    rater: str
    position: int
    kind: str
    item: str
    stimuli: tuple[str, ...]
    served_ms: int | None
    done_ms: int | None
    passed: bool | None = None
    reason: str = ""
    answers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Collected:
    """`answers` has every revision; `forgotten` counts raters that were removed."""

    pages: list[CollectedPage]
    answers: list[Row]
    raters: list[Row]
    remarks: list[Row]
    events: list[Row]
    deviations: list[Row]
    forgotten: int
    frozen_ms: int | None


def collect(connection: Connection, running: Running) -> Collected:
    """Read all tables. Rows are in the order of pseudonym, page, field, revision."""
    people = {
        row.enrolment_id: row
        for row in connection.execute(
            select(
                enrolment.c.id.label("enrolment_id"),
                enrolment.c.cell,
                enrolment.c.state,
                enrolment.c.started_ms,
                enrolment.c.finished_ms,
                rater.c.id.label("rater_id"),
                rater.c.pseudonym,
                rater.c.source,
                rater.c.language,
                rater.c.consent_version,
                rater.c.consent_hash,
                rater.c.environment,
            )
            .join(rater)
            .where(~rater.c.is_preview)
        )
    }
    pages = {
        row.id: CollectedPage(
            people[row.enrolment_id].pseudonym,
            row.position,
            row.kind,
            row.item,
            tuple(json.loads(row.stimuli)),
            row.served_ms,
            row.done_ms,
        )
        for row in connection.execute(select(trial))
        if row.enrolment_id in people
    }
    for row in connection.execute(select(check_result)):
        if row.trial_id in pages:
            pages[row.trial_id].passed, pages[row.trial_id].reason = row.passed, row.reason
    answers = _answers(connection, pages)
    ordered = sorted(pages.values(), key=lambda page: (page.rater, page.position))
    trail = [(row.what, row.detail) for row in connection.execute(select(audit).order_by(audit.c.server_ms))]
    return Collected(
        pages=ordered,
        answers=answers,
        raters=_raters(connection, list(people.values())),
        remarks=sorted(
            (
                {"rater": people[row.enrolment_id].pseudonym, "words": row.words, "at_ms": row.server_ms}
                for row in connection.execute(select(remark))
                if row.enrolment_id in people
            ),
            key=lambda row: (row["rater"], row["at_ms"], row["words"]),
        ),
        events=_events(connection, pages),
        deviations=[json.loads(detail) for what, detail in trail if what == "deviation"],
        forgotten=sum(what == "forgotten" for what, _ in trail),
        frozen_ms=connection.execute(select(study.c.frozen_ms)).scalar(),
    )


def _answers(connection: Connection, pages: dict[int, CollectedPage]) -> list[Row]:
    rows = []
    for row in connection.execute(select(answer).order_by(answer.c.revision)):
        page = pages.get(row.trial_id)
        if page is None:
            continue
        page.answers[row.field] = row.value
        rows.append(
            {
                "rater": page.rater,
                "trial": page.position,
                "kind": page.kind,
                "item": page.item,
                "stimuli": list(page.stimuli),
                "field": row.field,
                "value": row.value,
                "revision": row.revision,
                "client_ms": row.client_ms,
                "server_ms": row.server_ms,
            }
        )
    return sorted(rows, key=lambda row: (row["rater"], row["trial"], row["field"], row["revision"]))


def _raters(connection: Connection, people: list[Any]) -> list[Row]:
    decided: dict[int, Row] = defaultdict(dict)
    for row in connection.execute(select(decision).order_by(decision.c.id)):
        decided[row.rater_id][row.about] = row.value
    rows = [
        {
            "rater": row.pseudonym,
            "source": row.source,
            "language": row.language,
            "state": row.state,
            "cell": row.cell + 1,
            "started_ms": row.started_ms,
            "finished_ms": row.finished_ms,
            "consent_version": row.consent_version,
            "consent_sha256": row.consent_hash,
            "screen": row.environment or "",
            "analysis": decided[row.rater_id].get("analysis", ""),
            "payment": decided[row.rater_id].get("payment", ""),
        }
        for row in people
    ]
    return sorted(rows, key=lambda row: str(row["rater"]))


def _events(connection: Connection, pages: dict[int, CollectedPage]) -> list[Row]:
    rows = [
        {
            "rater": pages[row.trial_id].rater,
            "trial": pages[row.trial_id].position,
            "page": row.page,
            "seq": row.seq,
            "kind": row.kind,
            "slot": row.slot,
            "client_ms": row.client_ms,
            "value": row.value,
        }
        for row in connection.execute(select(event))
        if row.trial_id in pages
    ]
    return sorted(rows, key=lambda row: (row["rater"], row["trial"], row["page"], row["seq"]))
