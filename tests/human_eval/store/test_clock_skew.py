"""The server's clock is set back an hour while people rate: durations, order and time limits stay as they were."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable

import pytest
from sqlalchemy import select

from human_eval.simulate.client import Client, Reply
from human_eval.simulate.forms import read_page
from human_eval.store.clock import Clock
from human_eval.store.schema import answer, enrolment, event, trial

HOUR_MS = 3_600_000


class Machine(Clock):
    """The study's real clock on a machine whose two clocks are ours to move."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.wall_s, self.steady_s = 1_700_000_000.0, 50.0
        super().__init__(lambda: self.wall_s, lambda: self.steady_s)
        # What libraries read that sign and date things.
        monkeypatch.setattr(time, "time", lambda: self.wall_s)

    def move(self, ms: int) -> None:
        """Time goes by."""
        self.wall_s += ms / 1000
        self.steady_s += ms / 1000

    def step(self, ms: int) -> None:
        """Somebody sets the clock on the wall."""
        self.wall_s += ms / 1000


async def post_json(client: Client, path: str, body: dict) -> Reply:
    return await client.send("POST", path, json.dumps(body).encode(), {"content_type": "application/json"})


@pytest.fixture
def served(make_site, study_folder, monkeypatch: pytest.MonkeyPatch) -> Callable:
    def make(**settings):
        return make_site(study_folder, clock=Machine(monkeypatch), **settings)

    return make


@pytest.mark.parametrize("step_ms", [-HOUR_MS, HOUR_MS, -24 * HOUR_MS])
def test_durations_and_order_are_those_of_a_clock_that_nobody_set(served, step_ms: int) -> None:
    site = served()

    async def journey() -> list[int]:
        client, _ = await site.enter("a")
        seconds = []
        for k in range(6):
            reply, form = await site.open_page(client)
            seconds.append(5 + 2 * k)
            site.clock.move(1000 * seconds[-1] - 500)
            if k == 2:
                site.clock.step(step_ms)
            body = {"form": form.values["form"], "page": form.values["page"], "events": [[0, "play", 0, 1, 1]]}
            await post_json(client, f"{reply.path}/events", body)
            site.clock.move(500)
            assert (await client.post(form.action, site.fill(form))).status == 200
        return seconds

    seconds = asyncio.run(journey())
    rows = site.rows(select(trial).where(trial.c.done_ms.is_not(None)).order_by(trial.c.position))
    durations = [row.done_ms - row.served_ms for row in rows]
    # Whole milliseconds of two readings: one off at most.
    assert all(abs(took - 1000 * s) <= 1 for took, s in zip(durations, seconds, strict=True))
    times = [moment for row in rows for moment in (row.served_ms, row.done_ms)]
    assert times == sorted(times)
    for table in (answer, event):
        found = [row.server_ms for row in site.rows(select(table.c.server_ms).order_by(table.c.id))]
        assert found == sorted(found)
    assert len(site.rows(select(event.c.id))) == 6


def test_a_place_is_given_away_after_its_time_and_not_an_hour_later(served) -> None:
    site = served(change=lambda text: text.replace("raters: 90", "raters: 1"))

    async def journey() -> None:
        first, _ = await site.enter("first")
        site.clock.step(-HOUR_MS)
        site.clock.move(44 * 60_000)
        client = Client(site.app)
        form = read_page((await client.get("/?rater=early")).text)[0][0]
        ticked = form.values | dict.fromkeys(form.boxes, "1") | {"decision": "yes"}
        await client.post("/consent", ticked)
        assert site.count(enrolment) == 1
        site.clock.move(2 * 60_000)
        _, reply = await site.enter("second")
        assert reply.path.startswith("/t/")
        assert (await first.get("/now")).status == 410

    asyncio.run(journey())


def test_watching_for_so_many_seconds_is_asked_for_as_before(served) -> None:
    site = served(change=lambda text: text.replace("watch_seconds: 0.0", "watch_seconds: 5.0"))

    async def journey() -> None:
        for step_ms in (HOUR_MS, -HOUR_MS):
            client, _ = await site.enter()
            _, form = await site.open_page(client)
            site.clock.step(step_ms)
            site.clock.move(4900)
            assert (await client.post(form.action, site.fill(form))).status == 422
            site.clock.move(200)
            assert (await client.post(form.action, site.fill(form))).path == "/practice"

    asyncio.run(journey())


def test_an_admin_stays_in_for_twelve_hours_whatever_the_clock_says(served) -> None:
    site = served()

    async def journey() -> None:
        client = Client(site.app)
        await client.post("/admin/login", {"token": "the-token"})
        for step_ms in (-HOUR_MS, 24 * HOUR_MS):
            site.clock.step(step_ms)
            assert (await client.get("/admin")).status == 200
        site.clock.step(-24 * HOUR_MS)
        site.clock.move(13 * HOUR_MS)
        assert (await client.get("/admin")).status == 401

    asyncio.run(journey())


@pytest.mark.parametrize("ms", ["-5", "-86400000", "1e3", "", "x", "９"])
def test_a_duration_that_a_device_makes_up_is_not_kept(site, ms: str) -> None:
    async def journey() -> None:
        client, reply = await site.enter()
        _, form = await site.open_page(client)
        body = {"form": form.values["form"], "page": form.values["page"]}
        told = [[0, "play", 0, -1, 1], [1, "play", 0, 1, -1], [-2, "play", 0, 1, 1], [3, "play", 0, 2**40, 1]]
        assert (await post_json(client, f"{reply.path}/events", body | {"events": told})).json == {"kept": 0}
        reply = await client.post(form.action, site.fill(form) | {"ms": ms})
        assert reply.status in (200, 400)

    asyncio.run(journey())
    assert [row.client_ms for row in site.rows(select(answer.c.client_ms).distinct())] in ([None], [])
    assert site.count(event) == 0
