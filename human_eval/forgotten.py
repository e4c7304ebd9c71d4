"""`human forget`: a rater out of the database and its log, every export, and what was computed of them."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection

from cogvideo.errors import UserError
from human_eval.cleaning import Cleaned, clean_copies
from human_eval.serving import opened
from human_eval.store.enrolling import rater_by_pseudonym
from human_eval.store.forgetting import forget


def forget_rater(folder: Path, url: str, name: str) -> Cleaned:
    """Remove the rater of a pseudonym or withdrawal key. Raises UserError if there is no such rater."""
    with opened(folder, url) as (running, database):

        def job(connection: Connection) -> str:
            if rater_by_pseudonym(connection, name) is not None:
                return forget(connection, running, pseudonym=name)
            return forget(connection, running, withdrawal_key=name.strip().upper())

        pseudonym = database.write(job)
        if not pseudonym:
            raise UserError(f"{name} is no rater of this study; cogeval human status {folder} --json lists them")
        return clean_copies(running, database, pseudonym)
