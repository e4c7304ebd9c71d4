"""One writer, many readers. A write is acknowledged only after its commit has reached the disk.

SQLite: WAL, synchronous FULL, foreign keys, BEGIN IMMEDIATE. Writes that wait together are committed together, each in
a savepoint of its own, so that one that fails takes no other with it. PostgreSQL: the same for writes that count or
give places, so that a hundred people who come at once do not wait for a hundred commits; writes about one rater wait
for each other, and run beside all others, each in a transaction of its own.
"""

from __future__ import annotations

import queue
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, NoSuchModuleError, OperationalError
from sqlalchemy.pool import StaticPool

from cogvideo.errors import MissingPrerequisite, UserError
from human_eval.store.upgrading import upgrade

Result = TypeVar("Result")
Outcome = tuple[Any, BaseException | None]
BUSY_MS = 10_000
MOST_TOGETHER = 64
READERS = 4
POSTGRES_WRITERS = 8
# Any number that no other program is likely to take. Held by whoever counts or gives places.
SEATS_LOCK = 0x636F6765


class StoreBusyError(Exception):
    """The database could not take a write now (disk full, locked, gone): nothing was acknowledged."""


class Database:
    """The store of one study. Close it, or use it in a `with` block."""

    def __init__(self, url: str) -> None:
        """Open, and bring the schema up to date. Raises UserError for a URL or a database that cannot be used."""
        self.url = _parsed(url)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        try:
            self._writer, self._reader = self._engines()
            with self._writer.begin() as connection:
                lock_seats(connection)
                upgrade(connection)
        except ModuleNotFoundError as error:
            raise MissingPrerequisite(
                f"{self.url.drivername} needs the package {error.name}; install it with pip install 'cogeval[postgres]'"
            ) from None
        except DBAPIError as error:
            reason = " ".join(str(error.orig).split())
            raise UserError(f"cannot open the database {self.url.render_as_string()}: {reason}") from None
        self._jobs: queue.SimpleQueue[tuple[Callable[[Connection], Any], Future[Any]] | None] = queue.SimpleQueue()
        self._between = threading.Lock()
        self._was_full = False
        self._thread = threading.Thread(target=self._work, name="study-writer", daemon=True)
        self._thread.start()
        self._writers = ThreadPoolExecutor(POSTGRES_WRITERS, thread_name_prefix="study-writer")
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="study-reader")

    def submit_write(self, job: Callable[[Connection], Result], rater: int = 0) -> Future[Result]:
        """Run a job in the writer's next transaction; the future is done after the commit.

        `rater` is the enrolment that the job is about, if it is about one alone; 0 has the whole study to itself.
        """
        if rater and not self.is_sqlite:
            return self._writers.submit(self._write_alone, job, rater)
        future: Future[Result] = Future()
        self._jobs.put((job, future))
        return future

    def submit_read(self, job: Callable[[Connection], Result]) -> Future[Result]:
        """Run a job on a reader of its own; it sees what was committed before it began."""

        def read() -> Result:
            try:
                with self._reader.connect() as connection:
                    return job(connection)
            except DBAPIError as error:
                raise StoreBusyError(str(error.orig)) from error

        return self._readers.submit(read)

    def write(self, job: Callable[[Connection], Result]) -> Result:
        return self.submit_write(job).result()

    def read(self, job: Callable[[Connection], Result]) -> Result:
        return self.submit_read(job).result()

    def scrub(self) -> None:
        """Leave no byte of deleted rows in the file, nor in its log. SQLite only; PostgreSQL vacuums."""
        with self._between:
            if self.is_sqlite:
                connection = self._writer.raw_connection()
                for line in ("VACUUM", "PRAGMA wal_checkpoint(TRUNCATE)"):
                    connection.cursor().execute(line)
            else:
                with self._reader.connect().execution_options(isolation_level="AUTOCOMMIT") as server:
                    server.execute(text("VACUUM"))

    def close(self) -> None:
        """Finish what waits, then let go of the file."""
        if self._thread.is_alive():
            self._jobs.put(None)
            self._thread.join()
        self._writers.shutdown()
        self._readers.shutdown()
        self._reader.dispose()
        self._writer.dispose()

    def __enter__(self) -> Database:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _engines(self) -> tuple[Engine, Engine]:
        if not self.is_sqlite:
            writer = create_engine(self.url, pool_size=POSTGRES_WRITERS + 1, pool_pre_ping=True)
            return writer, create_engine(self.url, pool_size=READERS, pool_pre_ping=True, isolation_level="AUTOCOMMIT")
        options = {"check_same_thread": False, "timeout": BUSY_MS / 1000}
        writer = create_engine(self.url, poolclass=StaticPool, connect_args=options)
        event.listen(writer, "connect", _prepare_writer)
        event.listen(writer, "begin", _begin_immediate)
        reader = create_engine(self.url, connect_args=options, pool_size=READERS)
        event.listen(reader, "connect", _prepare_reader)
        return writer, reader

    def _write_alone(self, job: Callable[[Connection], Result], rater: int) -> Result:
        try:
            with self._writer.begin() as connection:
                connection.exec_driver_sql("SELECT pg_advisory_xact_lock(%s, %s)", (SEATS_LOCK, rater))
                return job(connection)
        except (OperationalError, IntegrityError) as error:
            raise StoreBusyError(str(error.orig)) from error

    def _work(self) -> None:
        is_open = True
        while is_open:
            waiting = [self._jobs.get()]
            while len(waiting) < MOST_TOGETHER and not self._jobs.empty():
                waiting.append(self._jobs.get())
            is_open = None not in waiting
            self._commit([job for job in waiting if job is not None])

    def _commit(self, jobs: list[tuple[Callable[[Connection], Any], Future[Any]]]) -> None:
        try:
            outcomes = self._outcomes(jobs)
        except Exception as error:  # noqa: BLE001 - whatever it is, nobody's answer was saved, and each has to know
            outcomes = [(None, StoreBusyError(str(error)))] * len(jobs)
        for (_, future), (result, problem) in zip(jobs, outcomes, strict=True):
            if problem is None:
                future.set_result(result)
            else:
                future.set_exception(problem)

    def _outcomes(self, jobs: list[tuple[Callable[[Connection], Any], Future[Any]]]) -> list[Outcome]:
        """Run jobs in one transaction; where the disk is full, once more if the log could give back its room.

        After that the log is emptied before anything else is written: it would take the room that somebody made.
        """
        self._was_full = self._was_full and not self._empty_log()
        try:
            return self._together(jobs)
        except OperationalError as error:
            if getattr(error.orig, "sqlite_errorcode", None) != sqlite3.SQLITE_FULL:
                raise
            self._was_full = not self._empty_log()
            if self._was_full:
                raise
            return self._together(jobs)

    def _together(self, jobs: list[tuple[Callable[[Connection], Any], Future[Any]]]) -> list[Outcome]:
        with self._between, self._writer.begin() as connection:
            lock_seats(connection)
            return [_outcome(connection, job) for job, _ in jobs]

    def _empty_log(self) -> bool:
        """Move the log into the file, so that it is written from its start again. Whether all of it could be moved."""
        cursor = self._writer.raw_connection().cursor()
        try:
            is_blocked, in_log, moved = cursor.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        except sqlite3.Error:
            return False
        return not is_blocked and in_log == moved


def database_url(folder: Path, url: str = "") -> str:
    """The URL that was given, else that of the SQLite file in the study's folder."""
    return url or f"sqlite:///{folder.resolve() / 'study.db'}"


def _outcome(connection: Connection, job: Callable[[Connection], Any]) -> Outcome:
    savepoint = connection.begin_nested()
    try:
        result = job(connection)
        savepoint.commit()
        return result, None
    except OperationalError:
        raise
    except Exception as error:  # noqa: BLE001 - handed to whoever waits for this job
        savepoint.rollback()
        return None, error


def _parsed(url: str) -> URL:
    try:
        parsed = make_url(url)
        if parsed.drivername in ("postgresql", "postgres"):
            parsed = parsed.set(drivername="postgresql+psycopg")
        parsed.get_dialect()
    except (ArgumentError, NoSuchModuleError):
        raise UserError(
            f"--database {url!r} is no database URL; expected sqlite:///FILE or postgresql://USER@HOST/NAME"
        ) from None
    if parsed.get_backend_name() not in ("sqlite", "postgresql"):
        raise UserError(f"--database: {parsed.get_backend_name()} is not supported; use sqlite or postgresql")
    return parsed


def _prepare_writer(connection: Any, _: object) -> None:
    # The driver's own transactions begin too late: we say BEGIN ourselves.
    connection.isolation_level = None
    for line in (
        f"PRAGMA busy_timeout={BUSY_MS}",
        "PRAGMA journal_mode=WAL",
        "PRAGMA synchronous=FULL",
        "PRAGMA foreign_keys=ON",
        "PRAGMA secure_delete=ON",
    ):
        connection.execute(line)


def _prepare_reader(connection: Any, _: object) -> None:
    connection.execute(f"PRAGMA busy_timeout={BUSY_MS}")
    connection.execute("PRAGMA query_only=ON")


def _begin_immediate(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def lock_seats(connection: Connection) -> None:
    """Nobody else counts or gives places until this transaction ends. SQLite has one writer anyway."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({SEATS_LOCK})")
