"""The first schema: design, raters, trials, answers, events, checks, remarks, audit."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def _foreign(table: str, column: str, target: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint([column], [f"{target}.id"], name=f"fk_{table}_{column}", ondelete="CASCADE")


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "study",
        sa.Column("id", sa.Integer, autoincrement=False, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("design_hash", sa.Text, nullable=False),
        sa.Column("design", sa.Text, nullable=False),
        sa.Column("key_check", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("created_ms", sa.BigInteger, nullable=False),
        sa.Column("frozen_ms", sa.BigInteger),
        sa.Column("next_ordinal", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_study"),
    )
    op.create_table(
        "cell",
        sa.Column("cell", sa.Integer, autoincrement=False, nullable=False),
        sa.Column("is_open", sa.Boolean, nullable=False),
        sa.PrimaryKeyConstraint("cell", name="pk_cell"),
    )
    op.create_table(
        "stimulus",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("item", sa.Text, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("sha256", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_stimulus"),
    )
    op.create_table(
        "rater",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("pseudonym", sa.Text, nullable=False),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("outside_hash", sa.Text),
        sa.Column("language", sa.Text, nullable=False),
        sa.Column("consent_version", sa.Integer, nullable=False),
        sa.Column("consent_hash", sa.Text, nullable=False),
        sa.Column("consent_ms", sa.BigInteger, nullable=False),
        sa.Column("environment", sa.Text),
        sa.Column("is_preview", sa.Boolean, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_rater"),
        sa.UniqueConstraint("pseudonym", name="uq_rater_pseudonym"),
        sa.UniqueConstraint("outside_hash", name="uq_rater_outside_hash"),
    )
    op.create_table(
        "enrolment",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("rater_id", sa.Integer, nullable=False),
        sa.Column("ordinal", sa.Integer, nullable=False),
        sa.Column("cell", sa.Integer, nullable=False),
        sa.Column("item_row", sa.Integer, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("checked", sa.Boolean, nullable=False),
        sa.Column("started_ms", sa.BigInteger, nullable=False),
        sa.Column("seen_ms", sa.BigInteger, nullable=False),
        sa.Column("finished_ms", sa.BigInteger),
        sa.PrimaryKeyConstraint("id", name="pk_enrolment"),
        _foreign("enrolment", "rater_id", "rater"),
        sa.UniqueConstraint("rater_id", name="uq_enrolment_rater_id"),
        sa.UniqueConstraint("ordinal", name="uq_enrolment_ordinal"),
    )
    op.create_table(
        "trial",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("enrolment_id", sa.Integer, nullable=False),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("item", sa.Text, nullable=False),
        sa.Column("stimuli", sa.Text, nullable=False),
        sa.Column("expected", sa.Text, nullable=False),
        sa.Column("token", sa.Text, nullable=False),
        sa.Column("served_ms", sa.BigInteger),
        sa.Column("done_ms", sa.BigInteger),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_trial"),
        _foreign("trial", "enrolment_id", "enrolment"),
        sa.UniqueConstraint("token", name="uq_trial_token"),
        sa.UniqueConstraint("enrolment_id", "position", name="uq_trial_enrolment_id_position"),
    )
    op.create_table(
        "answer",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("trial_id", sa.Integer, nullable=False),
        sa.Column("field", sa.Text, nullable=False),
        sa.Column("value", sa.Text, nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("client_ms", sa.BigInteger),
        sa.Column("server_ms", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_answer"),
        _foreign("answer", "trial_id", "trial"),
        sa.UniqueConstraint("trial_id", "field", "revision", name="uq_answer_trial_id_field_revision"),
    )
    op.create_table(
        "submission",
        sa.Column("trial_id", sa.Integer, nullable=False),
        sa.Column("page", sa.Text, nullable=False),
        sa.Column("seq", sa.BigInteger, nullable=False),
        sa.Column("digest", sa.Text, nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("is_final", sa.Boolean, nullable=False),
        sa.PrimaryKeyConstraint("trial_id", "page", "seq", "digest", name="pk_submission"),
        _foreign("submission", "trial_id", "trial"),
    )
    op.create_table(
        "event",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("trial_id", sa.Integer, nullable=False),
        sa.Column("page", sa.Text, nullable=False),
        sa.Column("seq", sa.BigInteger, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("slot", sa.Integer, nullable=False),
        sa.Column("client_ms", sa.BigInteger, nullable=False),
        sa.Column("value", sa.BigInteger, nullable=False),
        sa.Column("server_ms", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_event"),
        _foreign("event", "trial_id", "trial"),
        sa.UniqueConstraint("trial_id", "page", "seq", name="uq_event_trial_id_page_seq"),
    )
    op.create_table(
        "check_result",
        sa.Column("trial_id", sa.Integer, nullable=False),
        sa.Column("passed", sa.Boolean, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("server_ms", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("trial_id", name="pk_check_result"),
        _foreign("check_result", "trial_id", "trial"),
    )
    op.create_table(
        "remark",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("enrolment_id", sa.Integer, nullable=False),
        sa.Column("words", sa.Text, nullable=False),
        sa.Column("server_ms", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_remark"),
        _foreign("remark", "enrolment_id", "enrolment"),
    )
    op.create_table(
        "audit",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("server_ms", sa.BigInteger, nullable=False),
        sa.Column("what", sa.Text, nullable=False),
        sa.Column("detail", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_audit"),
    )
