"""Bringing a database to the schema of this version, step by step; a newer one is refused."""

from __future__ import annotations

from pathlib import Path

from alembic.config import Config
from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from cogvideo.errors import UserError

FOLDER = Path(__file__).with_name("migrations")


def upgrade(connection: Connection, target: str = "head") -> None:
    """Run the missing steps inside the transaction of the connection. Raises UserError for a newer schema."""
    config = Config()
    config.set_main_option("script_location", str(FOLDER).replace("%", "%%"))
    script = ScriptDirectory.from_config(config)
    context = MigrationContext.configure(
        connection,
        opts={"fn": lambda revision, _: script._upgrade_revs(target, revision), "transactional_ddl": False},
    )
    current = context.get_current_revision()
    known = {step.revision for step in script.walk_revisions()}
    if current is not None and current not in known:
        raise UserError(
            f"the study's database has schema {current}, this cogeval knows up to {script.get_current_head()}; "
            "upgrade cogeval: a database is never taken back to an older schema"
        )
    with Operations.context(context):
        context.run_migrations()
