"""The database under races, a full disk, a stepping clock, upgrades; raters who come twice, leave, or are forgotten."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import threading
import time
import zlib
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import MetaData, create_engine, insert, select

from cogvideo.errors import UserError
from human_eval.export import export_study
from human_eval.exported import export_folder
from human_eval.running import open_running
from human_eval.serving import expiring
from human_eval.simulate.client import Client
from human_eval.simulate.forms import read_page
from human_eval.store.clock import Clock, StillClock
from human_eval.store.database import Database, StoreBusyError, database_url
from human_eval.store.enrolling import StudyFullError, enrol, place_of
from human_eval.store.forgetting import DAY_MS, expire
from human_eval.store.opening import open_collection
from human_eval.store.schema import answer, audit, enrolment, metadata, rater, study, trial
from human_eval.store.upgrading import FOLDER, upgrade
from human_eval.store.watching import progress

# Every schema that a study may have been started with; a new one has to be added here.
OLD_SCHEMAS = ["0001"]


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_two_hundred_at_once_for_ninety_places_are_ninety(
    make_site, study_folder, kind: str, request: pytest.FixtureRequest
) -> None:
    site = make_site(study_folder, request.getfixturevalue("postgres_url") if kind == "postgres" else "")

    def come(k: int):
        return site.database.submit_write(
            lambda c: enrol(c, site.running, source="link", outside_id=f"p{k}", language="en")
        )

    futures = []
    threads = [
        threading.Thread(target=lambda start=start: futures.extend(come(k) for k in range(start, 200, 8)))
        for start in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    outcomes = [future.exception() for future in futures]
    assert sum(one is None for one in outcomes) == 90
    assert all(isinstance(one, StudyFullError) for one in outcomes if one is not None)
    assert site.count(enrolment) == 90
    cells = [row.cell for row in site.rows(select(enrolment.c.cell))]
    assert {cells.count(cell) for cell in range(6)} == {15}
    assert site.count(trial) == 90 * 9


def test_the_full_study_says_so_and_stores_nothing(make_site, study_folder) -> None:
    site = make_site(study_folder, change=lambda words: words.replace("raters: 90", "raters: 1"))

    async def journey() -> None:
        await site.enter("first")
        _, reply = await site.enter("second")
        assert "All places are taken" in reply.text
        assert site.count(rater) == 1

    asyncio.run(journey())


def test_refusing_and_reading_store_nothing(site) -> None:
    async def journey() -> None:
        client = Client(site.app)
        form = read_page((await client.get("/?PROLIFIC_PID=abc")).text)[0][0]
        assert (await client.get("/consent.txt")).status == 200
        reply = await client.post("/consent", form.values | {"decision": "yes", "agree0": "1"})
        assert reply.status == 422
        reply = await client.post("/consent", form.values | {"decision": "no"})
        assert "Nothing was saved" in reply.text
        assert site.running.code("no_consent") in reply.text
        assert site.count(rater) == 0

    asyncio.run(journey())


def test_one_who_left_frees_the_place_and_may_come_back_while_there_is_one(make_site, study_folder) -> None:
    site = make_site(study_folder, change=lambda words: words.replace("raters: 90", "raters: 1"))

    async def journey() -> None:
        first, _ = await site.enter("first")
        await site.answer(first)
        site.clock.move(46 * 60_000)
        second, reply = await site.enter("second")
        assert reply.path.startswith("/t/")
        assert (await first.get("/now")).status == 410
        form = read_page((await second.get("/leave")).text)[0][0]
        assert "You have left" in (await second.post("/leave", form.values)).text
        assert (await first.get("/now")).path.startswith("/t/")
        states = {row.ordinal: row.state for row in site.rows(select(enrolment))}
        assert states == {0: "live", 1: "left"}

    asyncio.run(journey())


def test_a_failed_write_takes_no_other_with_it_and_leaves_nothing(tmp_path: Path) -> None:
    with Database(f"sqlite:///{tmp_path}/a.db") as database:
        blocker = database.submit_write(lambda _: threading.Event().wait(0.05))

        def bad(connection) -> None:
            connection.execute(insert(audit).values(server_ms=1, what="bad", detail=""))
            raise ValueError("no")

        def good(connection, k: int) -> int:
            connection.execute(insert(audit).values(server_ms=k, what="good", detail=""))
            return k

        jobs = [database.submit_write(bad if k % 3 == 0 else (lambda c, k=k: good(c, k))) for k in range(30)]
        blocker.result()
        assert [k for k, job in enumerate(jobs) if job.exception() is None] == [k for k in range(30) if k % 3]
        rows = database.read(lambda c: c.execute(select(audit.c.what)).scalars().all())
        assert rows == ["good"] * 20


def test_a_full_disk_acknowledges_nothing_that_is_lost_and_goes_on_after(site) -> None:
    async def journey() -> None:
        client, _ = await site.enter()

        def limit(pages: int) -> None:
            connection = site.database._writer.raw_connection()
            connection.cursor().execute(f"PRAGMA max_page_count={pages}")

        limit(1)
        acknowledged, refused, kept = 0, 0, None
        for _ in range(400):
            _, form = await site.open_page(client) if kept is None else (None, kept)
            reply = await client.post(form.action, site.fill(form), accept="application/json")
            if reply.status == 503:
                refused += 1
                kept = form
                assert reply.header("retry-after")
                if refused == 3:
                    break
            else:
                acknowledged += 1
                site.clock.move(9000)
                if reply.json["next"] == "/done":
                    client, _ = await site.enter()
        assert refused == 3
        done = [row for row in site.rows(select(trial.c.done_ms)) if row.done_ms is not None]
        assert len(done) == acknowledged
        limit(100_000)
        reply = await client.post(kept.action, site.fill(kept), accept="application/json")
        assert reply.status == 200
        assert reply.json["done"]

    def shrink() -> None:
        # Rows grow until the last page is full; the clock is a real one for nobody here.
        connection = site.database._writer.raw_connection()
        connection.cursor().execute("VACUUM")

    shrink()
    try:
        asyncio.run(journey())
    except Exception as error:
        if isinstance(error, StoreBusyError):
            pytest.fail("a full disk has to be an answer, not an exception")
        raise


def test_the_clock_never_goes_back() -> None:
    wall, steady = [1000.0], [0.0]
    clock = Clock(wall=lambda: wall[0], steady=lambda: steady[0])
    assert clock.now_ms() == 1_000_000
    wall[0] -= 3600
    steady[0] += 5
    assert clock.now_ms() == 1_005_000
    restarted = Clock(wall=lambda: wall[0], steady=lambda: steady[0])
    assert restarted.now_ms() < 1_005_000
    restarted.not_before(1_005_000)
    assert restarted.now_ms() == 1_005_001
    restarted.not_before(5)
    assert restarted.now_ms() == 1_005_001


def test_a_restart_on_a_machine_that_stepped_back_keeps_the_order(make_site, study_folder) -> None:
    site = make_site(study_folder)

    async def first() -> None:
        client, _ = await site.enter("a")
        await site.answer(client)

    asyncio.run(first())
    site.database.close()
    early = StillClock(1_700_000_000_000 - 3_600_000)
    running = open_running(study_folder, early)
    with Database(database_url(study_folder)) as database:
        database.write(lambda c: open_collection(c, running))
        late = database.read(lambda c: c.execute(select(trial.c.done_ms).where(trial.c.done_ms.is_not(None))).scalar())
        assert early.now_ms() > late


def test_the_same_identity_comes_back_to_its_own_place(site) -> None:
    async def journey() -> None:
        first, _ = await site.enter("same")
        await site.answer(first)
        second, reply = await site.enter("same")
        assert site.place(first).enrolment_id == site.place(second).enrolment_id
        assert reply.path == site.place(first).token.join(["/t/", ""])
        assert site.count(rater) == 1

    asyncio.run(journey())


def test_bots_are_noticed_and_not_deleted(site) -> None:
    def points(token: str, is_person: bool) -> dict[str, str]:
        """A point for each video and question, the same whenever one comes: what somebody with two accounts gives."""
        stimuli = json.loads(site.rows(select(trial.c.stimuli).where(trial.c.token == token))[0].stimuli)
        return {
            f"v{slot}.{aspect.id}": str(1 + (zlib.crc32(f"{stimulus}{aspect.id}".encode()) + is_person * slot) % 5)
            for slot, stimulus in enumerate(stimuli, 1)
            for aspect in site.running.study.aspects
        }

    async def journey() -> None:
        for name, seconds in (("quick", 1), ("copy", 20), ("twin", 20), ("person", 20)):
            client, _ = await site.enter(name)
            reply = None
            while reply is None or reply.path != "/done":
                reply, form = await site.open_page(client)
                site.clock.move(seconds * 1000)
                which = site.fill(form, 2 if name == "quick" else 1)
                if name in ("copy", "twin", "person"):
                    which |= points(reply.path.removeprefix("/t/"), name == "person")
                reply = await client.post(form.action, which)

    asyncio.run(journey())
    lines = {line.state: line for line in site.database.read(lambda c: progress(c, site.running)).raters}
    assert set(lines) == {"complete"}
    found = site.database.read(lambda c: progress(c, site.running)).raters
    noticed = [" ".join(line.noticed) for line in found]
    assert ["s a page" in words for words in noticed] == [True, False, False, False]
    assert ["same answer " in words for words in noticed] == [True, False, False, False]
    assert ["same answers as another rater" in words for words in noticed] == [False, True, True, False]
    assert all("checks failed" in words for words in noticed[:3])
    assert all(line.needs_decision for line in found[:3])
    assert site.count(rater) == 4


def test_no_outside_identity_and_no_address_is_in_any_file(site) -> None:
    async def journey() -> None:
        client = Client(site.app, address="203.0.113.77")
        reply = await client.get("/?PROLIFIC_PID=5f3c9a7e1b2d&STUDY_ID=s99x&SESSION_ID=z88y")
        form = read_page(reply.text)[0][0]
        values = form.values | {"agree0": "1", "agree1": "1", "decision": "yes"}
        await client.post("/consent", values, user_agent="Netscape/9 (Secret OS)")

    asyncio.run(journey())
    data = b"".join(file.read_bytes() for file in site.running.folder.glob("study.db*"))
    for secret in (b"5f3c9a7e1b2d", b"s99x", b"z88y", b"203.0.113.77", b"Netscape"):
        assert secret not in data
    row = site.rows(select(rater))[0]
    assert row.source == "prolific"
    assert row.outside_hash == site.running.outside_hash("prolific", "5f3c9a7e1b2d")


def test_personal_columns_are_empty_after_the_promised_time(site) -> None:
    async def journey() -> None:
        await site.enter("old")
        site.clock.move(60 * DAY_MS)
        await site.enter("new")

    asyncio.run(journey())
    site.clock.move(31 * DAY_MS)
    assert site.database.write(lambda c: expire(c, site.running)) == 1
    rows = site.rows(select(rater.c.outside_hash, rater.c.environment).order_by(rater.c.id))
    assert rows[0] == (None, None)
    assert rows[1].outside_hash is not None


def test_personal_columns_are_emptied_while_the_study_is_served(site) -> None:
    asyncio.run(site.enter("old"))
    hashed = site.running.outside_hash("link", "old")
    with expiring(site.running, site.database, every_s=0.02):
        site.clock.move(89 * DAY_MS)
        time.sleep(0.1)
        assert site.rows(select(rater.c.outside_hash)) == [(hashed,)]
        site.clock.move(2 * DAY_MS)
        end = time.monotonic() + 30
        while site.rows(select(rater.c.outside_hash, rater.c.environment)) != [(None, None)]:
            assert time.monotonic() < end
            time.sleep(0.02)
    # Nor is a byte of it left in the file or its log.
    assert hashed.encode() not in b"".join(file.read_bytes() for file in site.running.folder.glob("study.db*"))


def test_a_preview_is_never_in_the_data_and_takes_no_place(make_site, study_folder, tmp_path: Path) -> None:
    site = make_site(study_folder, is_preview=True)

    async def journey() -> None:
        client, reply = await site.enter("author")
        assert "Preview" in reply.text
        while reply.path != "/done":
            reply = await site.answer(client)

    asyncio.run(journey())
    assert site.count(answer) > 0
    found = site.database.read(lambda c: progress(c, site.running))
    assert (found.complete, found.answers, found.frozen_ms, found.raters) == (0, 0, None, ())
    site.database.close()
    for path in export_folder(study_folder, out=tmp_path / "out"):
        if path.suffix == ".csv" and path.name != "metrics.csv":
            assert path.read_text().count("\n") == 1
    assert (tmp_path / "out" / "answers.jsonl").read_text() == ""


def test_rules_that_change_after_the_first_rater_are_on_record(make_site, study_folder) -> None:
    site = make_site(study_folder)
    asyncio.run(site.enter("first"))
    site.database.close()
    site = make_site(study_folder, change=lambda words: words.replace("flag_from: 2", "flag_from: 1"))
    found = site.database.read(lambda c: progress(c, site.running))
    assert found.deviations == ("checks.flag_from: 2 became 1",)
    site.database.close()
    with pytest.raises(UserError, match=r"aspects\[0\]\.scale\.high was frozen as 5"):
        make_site(study_folder, change=lambda words: words.replace("high: 5", "high: 6", 1))


def test_before_the_first_rater_everything_may_change(make_site, study_folder) -> None:
    make_site(study_folder).database.close()
    site = make_site(study_folder, change=lambda words: words.replace("high: 5", "high: 6", 1))
    assert site.count(study) == 1
    assert site.database.read(lambda c: progress(c, site.running)).deviations == ()


def test_another_studys_database_is_refused(make_site, study_folder, built) -> None:
    make_site(study_folder).database.close()
    with pytest.raises(UserError, match="with another key"):
        make_site(built["mos"], database_url(study_folder))


def test_migrations_make_the_very_schema(tmp_path: Path) -> None:
    with Database(f"sqlite:///{tmp_path}/a.db") as database:
        assert database.read(lambda c: compare_metadata(MigrationContext.configure(c), metadata)) == []


@pytest.mark.parametrize("schema", OLD_SCHEMAS)
def test_a_study_of_each_old_schema_moves_up_with_every_answer(site, tmp_path: Path, schema: str) -> None:
    """A collected study is poured into a database of the old schema; opened, its export is the same, byte for byte."""

    async def journey() -> None:
        for name in ("one", "two"):
            client, reply = await site.enter(name)
            while reply.path != "/done":
                reply = await site.answer(client, which=len(name))

    asyncio.run(journey())
    export_study(site.running, site.database, tmp_path / "before")
    url = f"sqlite:///{tmp_path}/old.db"
    engine = create_engine(url)
    with engine.begin() as connection:
        upgrade(connection, schema)
        old = MetaData()
        old.reflect(connection)
        poured = [table for table in metadata.sorted_tables if table.name in old.tables]
        assert len(poured) > 0
        assert len(old.tables) - 1 == len(poured)
        for table in poured:
            for row in site.rows(select(table)):
                connection.execute(insert(old.tables[table.name]).values(row._mapping))
    engine.dispose()
    with Database(url) as database:
        assert database.read(lambda c: compare_metadata(MigrationContext.configure(c), metadata)) == []
        export_study(site.running, database, tmp_path / "after")
    for path in (tmp_path / "before").iterdir():
        assert (tmp_path / "after" / path.name).read_bytes() == path.read_bytes(), path.name


def test_every_old_schema_is_among_those_that_are_tested() -> None:
    steps = sorted(path.name for path in (FOLDER / "versions").glob("v*.py"))
    assert [f"{int(name[1:5]):04}" for name in steps[:-1]] == OLD_SCHEMAS


def test_a_newer_schema_is_refused_with_one_line(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/new.db"
    Database(url).close()
    with sqlite3.connect(tmp_path / "new.db") as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    with pytest.raises(UserError, match="schema 9999, this cogeval knows up to 0002") as caught:
        Database(url)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("url", ["mysql://a/b", "nonsense", "sqlite:////nowhere/at/all.db"])
def test_a_url_that_cannot_be_used_is_one_line(url: str) -> None:
    with pytest.raises(UserError) as caught:
        Database(url)
    assert "\n" not in str(caught.value)


def test_places_of_nobody(site) -> None:
    assert site.database.read(lambda c: place_of(c, 12345)) is None
