"""The tables. Times are whole milliseconds of the study's clock; answers, events and audit are only ever added to.

Everything that belongs to a rater hangs on `rater` and goes with it. Outside identifiers are kept as keyed hashes only.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
)

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    }
)


def _rater() -> Column[int]:
    return Column("rater_id", ForeignKey("rater.id", ondelete="CASCADE"), nullable=False)


def _enrolment() -> Column[int]:
    return Column("enrolment_id", ForeignKey("enrolment.id", ondelete="CASCADE"), nullable=False)


def _trial(is_key: bool = False) -> Column[int]:
    return Column("trial_id", ForeignKey("trial.id", ondelete="CASCADE"), primary_key=is_key, nullable=False)


study = Table(
    "study",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("name", Text, nullable=False),
    Column("design_hash", Text, nullable=False),
    Column("design", Text, nullable=False),
    Column("key_check", Text, nullable=False),
    Column("state", Text, nullable=False),  # open, paused
    Column("created_ms", BigInteger, nullable=False),
    Column("frozen_ms", BigInteger),
    Column("next_ordinal", Integer, nullable=False),
)

cell = Table(
    "cell",
    metadata,
    Column("cell", Integer, primary_key=True, autoincrement=False),
    Column("is_open", Boolean, nullable=False),
)

stimulus = Table(
    "stimulus",
    metadata,
    Column("id", Text, primary_key=True),
    Column("item", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("sha256", Text, nullable=False),
)

rater = Table(
    "rater",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("pseudonym", Text, nullable=False, unique=True),
    Column("source", Text, nullable=False),
    Column("outside_hash", Text, unique=True),
    Column("language", Text, nullable=False),
    Column("consent_version", Integer, nullable=False),
    Column("consent_hash", Text, nullable=False),
    Column("consent_ms", BigInteger, nullable=False),
    Column("environment", Text),
    Column("is_preview", Boolean, nullable=False),
)

enrolment = Table(
    "enrolment",
    metadata,
    Column("id", Integer, primary_key=True),
    _rater(),
    Column("ordinal", Integer, nullable=False, unique=True),
    Column("cell", Integer, nullable=False),
    Column("item_row", Integer, nullable=False),
    Column("state", Text, nullable=False),  # live, complete, left, screened
    Column("checked", Boolean, nullable=False),
    Column("started_ms", BigInteger, nullable=False),
    Column("seen_ms", BigInteger, nullable=False),
    Column("finished_ms", BigInteger),
    UniqueConstraint("rater_id"),
)

trial = Table(
    "trial",
    metadata,
    Column("id", Integer, primary_key=True),
    _enrolment(),
    Column("position", Integer, nullable=False),
    Column("kind", Text, nullable=False),
    Column("item", Text, nullable=False),
    Column("stimuli", Text, nullable=False),
    Column("expected", Text, nullable=False),
    Column("token", Text, nullable=False, unique=True),
    Column("served_ms", BigInteger),
    Column("done_ms", BigInteger),
    Column("revision", Integer, nullable=False),
    UniqueConstraint("enrolment_id", "position"),
)

answer = Table(
    "answer",
    metadata,
    Column("id", Integer, primary_key=True),
    _trial(),
    Column("field", Text, nullable=False),
    Column("value", Text, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("client_ms", BigInteger),
    Column("server_ms", BigInteger, nullable=False),
    UniqueConstraint("trial_id", "field", "revision"),
)

submission = Table(
    "submission",
    metadata,
    _trial(is_key=True),
    Column("page", Text, primary_key=True),
    Column("seq", BigInteger, primary_key=True),
    Column("digest", Text, primary_key=True),
    Column("revision", Integer, nullable=False),
    Column("is_final", Boolean, nullable=False),
)

event = Table(
    "event",
    metadata,
    Column("id", Integer, primary_key=True),
    _trial(),
    Column("page", Text, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("kind", Text, nullable=False),
    Column("slot", Integer, nullable=False),
    Column("client_ms", BigInteger, nullable=False),
    Column("value", BigInteger, nullable=False),
    Column("server_ms", BigInteger, nullable=False),
    UniqueConstraint("trial_id", "page", "seq"),
)

check_result = Table(
    "check_result",
    metadata,
    _trial(is_key=True),
    Column("passed", Boolean, nullable=False),
    Column("reason", Text, nullable=False),
    Column("server_ms", BigInteger, nullable=False),
)

remark = Table(
    "remark",
    metadata,
    Column("id", Integer, primary_key=True),
    _enrolment(),
    Column("words", Text, nullable=False),
    Column("server_ms", BigInteger, nullable=False),
)

decision = Table(
    "decision",
    metadata,
    Column("id", Integer, primary_key=True),
    _rater(),
    Column("about", Text, nullable=False),  # analysis, payment
    Column("value", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("server_ms", BigInteger, nullable=False),
)

audit = Table(
    "audit",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("server_ms", BigInteger, nullable=False),
    Column("what", Text, nullable=False),
    Column("detail", Text, nullable=False),
)

Index("ix_decision_rater_id", decision.c.rater_id)
Index("ix_enrolment_state", enrolment.c.state)
