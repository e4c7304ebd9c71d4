"""Synthetic raters on the real pages: they consent, watch, answer, leave early or answer carelessly, as told.

Everything goes through the application as a browser would send it; only which model is behind a video, which a person
would see, is looked up. One after the other in seeded order, so that the same seed gives the same study.
"""

from __future__ import annotations

import json
import secrets
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from sqlalchemy import select
from starlette.types import ASGIApp

from human_eval.app.application import create_app
from human_eval.app.entrance import check_number
from human_eval.assignment import generator
from human_eval.running import Running
from human_eval.simulate.client import Client, Reply
from human_eval.simulate.forms import Form, read_page
from human_eval.simulate.truth import Truth, follow
from human_eval.store.clock import StillClock
from human_eval.store.database import Database
from human_eval.store.enrolling import Place, place_of
from human_eval.store.schema import trial

LIVE_TOGETHER = 12


class SimulationError(Exception):
    """A page did not do what a rater would expect: a bug of the application."""


@dataclass
class SimulatedRater:
    """One browser and its character."""

    name: str
    client: Client
    leaves_after: int | None = None
    is_careless: bool = False
    pages: int = 0
    enrolment_id: int = 0


@dataclass
class Simulated:
    """What happened. `refused` came when the study was full."""

    complete: int = 0
    left: int = 0
    refused: int = 0
    pages: int = 0
    requests: int = 0
    careless: list[str] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)


async def simulate(
    running: Running,
    database: Database,
    truth: Truth,
    *,
    raters: int,
    seed: int = 0,
    dropout: float = 0.0,
    careless: float = 0.0,
    together: int = LIVE_TOGETHER,
    say: Callable[[int], None] = lambda complete: None,
) -> Simulated:
    """Send raters until `raters` have finished or the study is full. `dropout`, `careless`: shares of them.

    The study's clock has to be a `StillClock`. Raises SimulationError where a page does what it should not.
    """
    app = create_app(running, database, admin_token=secrets.token_hex(16), has_limits=False)
    random = generator(seed, "simulation", 0)
    found = Simulated()
    live: list[SimulatedRater] = []
    n_sent = 0
    while found.complete < raters:
        while len(live) < min(together, raters - found.complete) and not found.refused:
            rater = SimulatedRater(f"simulated-{seed}-{n_sent}", Client(app))
            if _is_turn(n_sent, dropout):
                rater.leaves_after = int(random.integers(0, running.study.all_trials))
            rater.is_careless = _is_turn(n_sent - int(n_sent * dropout), careless) and rater.leaves_after is None
            n_sent += 1
            if await _enter(running, app, rater, found):
                live.append(rater)
        if not live:
            break
        rater = live[int(random.integers(len(live)))]
        place = database.read(lambda c, r=rater: place_of(c, r.enrolment_id))  # type: ignore[misc]
        if place is None:
            raise SimulationError(f"{rater.name} has lost the place")
        if rater.leaves_after is not None and rater.pages >= rater.leaves_after:
            await _leave(rater, found)
            live.remove(rater)
        elif await _answer(running, database, rater, truth, random, found):
            found.complete += 1
            if rater.is_careless:
                found.careless.append(place.pseudonym)
            live.remove(rater)
            say(found.complete)
    return found


def _is_turn(n: int, share: float) -> bool:
    """Whether the n-th rater, from 0, is one of a share that is spread evenly."""
    return int((n + 1) * share + 0.5) > int(n * share + 0.5)


async def _enter(running: Running, app: ASGIApp, rater: SimulatedRater, found: Simulated) -> bool:
    """Consent and environment check; False if the study is full."""
    reply = _good(await rater.client.get(f"/?rater={rater.name}"), found)
    form = _form(reply)
    given = form.values | dict.fromkeys(form.boxes, "1") | {"decision": "yes"}
    reply = _good(await rater.client.post(form.action, given), found)
    if reply.path == "/consent":
        found.refused += 1
        return False
    seat = app.state.desk.tickets  # type: ignore[attr-defined]
    cookie = rater.client.cookies[seat.seat_cookie]
    rater.enrolment_id = int(seat._seats.loads(cookie)[0])
    if reply.path == "/check":
        place = app.state.desk.database.read(lambda c: place_of(c, rater.enrolment_id))  # type: ignore[attr-defined]
        assert isinstance(place, Place)
        form = _form(reply)
        number = str(check_number(running, place.ordinal))
        _good(await rater.client.post(form.action, form.values | {"number": number}), found)
    return True


async def _answer(
    running: Running,
    database: Database,
    rater: SimulatedRater,
    truth: Truth,
    random: np.random.Generator,
    found: Simulated,
) -> bool:
    """One page; True if it was the last."""
    reply = _good(await rater.client.get("/now"), found)
    if not reply.path.startswith("/t/"):
        raise SimulationError(f"{rater.name} was sent to {reply.path}")
    token = reply.path.removeprefix("/t/")
    row = database.read(lambda c: c.execute(select(trial).where(trial.c.token == token)).one())
    stimuli, expected = json.loads(row.stimuli), json.loads(row.expected)
    form = next(form for form in read_page(reply.text)[0] if form.action == f"/t/{token}")
    answers = _opinion(running, rater, truth, form, row.item, stimuli, expected, random)
    assert isinstance(running.clock, StillClock)
    running.clock.move(int(random.integers(600, 2500)) if rater.is_careless else int(random.integers(7000, 25000)))
    # The next page is opened when this rater's turn comes again, or its time would count that of all others.
    reply = _good(await rater.client.post(form.action, form.values | answers | {"finish": "1"}, follows=False), found)
    rater.pages += 1
    found.pages += 1
    return reply.header("location") == "/done"


def _opinion(
    running: Running,
    rater: SimulatedRater,
    truth: Truth,
    form: Form,
    item: str,
    stimuli: list[str],
    expected: dict[str, Any],
    random: np.random.Generator,
) -> dict[str, str]:
    if rater.is_careless:
        return {name: values[int(random.integers(len(values)))] for name, values in form.radios.items()}
    known = [model.id for model in running.study.models]
    models = [running.stimuli[name].model for name in stimuli]
    given = truth.answers(running.study, rater.name, item, [name if name in known else known[0] for name in models])
    return follow(running.study, expected, given, stimuli)


async def _leave(rater: SimulatedRater, found: Simulated) -> None:
    form = _form(_good(await rater.client.get("/leave"), found))
    _good(await rater.client.post(form.action, form.values), found)
    found.left += 1


def _form(reply: Reply) -> Form:
    forms, _ = read_page(reply.text)
    if not forms:
        raise SimulationError(f"{reply.path} has no form")
    return forms[0]


def _good(reply: Reply, found: Simulated) -> Reply:
    found.requests += 1
    found.statuses[reply.status] += 1
    if reply.status not in (200, 303):
        raise SimulationError(f"{reply.path} answered {reply.status}")
    return reply
