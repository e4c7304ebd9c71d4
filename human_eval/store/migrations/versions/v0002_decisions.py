"""Decisions about raters (use in the analysis, payment), and an index for counting the live ones."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the table and the index."""
    op.create_table(
        "decision",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("rater_id", sa.Integer, nullable=False),
        sa.Column("about", sa.Text, nullable=False),
        sa.Column("value", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("server_ms", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_decision"),
        sa.ForeignKeyConstraint(["rater_id"], ["rater.id"], name="fk_decision_rater_id", ondelete="CASCADE"),
    )
    op.create_index("ix_decision_rater_id", "decision", ["rater_id"])
    op.create_index("ix_enrolment_state", "enrolment", ["state"])
