"""What every handler works with: the study, its database, tickets; and where a request's rater is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from sqlalchemy import Connection
from starlette.requests import Request

from human_eval.app.pages import language_for
from human_eval.app.tickets import Seat, Tickets
from human_eval.running import Running
from human_eval.store.database import Database
from human_eval.store.enrolling import Place, place_of

Result = TypeVar("Result")


class NoSeatError(Exception):
    """A page for raters, asked for by a browser that is none."""


class ForgedError(Exception):
    """A POST that none of our pages sent."""


class OtherPlaceError(Exception):
    """The rater belongs on another page; the argument is its path."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.path = path


@dataclass(frozen=True)
class Desk:
    """One for each application; it hangs on `app.state.desk`."""

    running: Running
    database: Database
    tickets: Tickets
    is_preview: bool = False

    async def read(self, job: Callable[[Connection], Result]) -> Result:
        return await asyncio.wrap_future(self.database.submit_read(job))

    async def write(self, job: Callable[[Connection], Result], rater: int = 0) -> Result:
        """The result of a job after its commit; `rater` is the enrolment that it is about, if it is about one alone."""
        return await asyncio.wrap_future(self.database.submit_write(job, rater))


@dataclass(frozen=True)
class Visit:
    """A request by a rater with a place in the study."""

    desk: Desk
    request: Request
    seat: Seat
    place: Place

    @property
    def language(self) -> str:
        return language_for(self.request, self.desk.running, self.place.language)

    @property
    def form_token(self) -> str:
        return self.desk.tickets.form_token(self.seat)


def desk_of(request: Request) -> Desk:
    desk = request.app.state.desk
    assert isinstance(desk, Desk)
    return desk


async def visit(request: Request) -> Visit:
    """The rater behind a request. Raises NoSeatError."""
    desk = desk_of(request)
    seat = desk.tickets.seat(request)
    if seat is None or not seat.enrolment_id:
        raise NoSeatError
    enrolment_id = seat.enrolment_id
    place = await desk.read(lambda connection: place_of(connection, enrolment_id))
    if place is None:
        raise NoSeatError
    return Visit(desk, request, seat, place)


def own_form(request: Request, seat: Seat | None, token: str) -> None:
    """Raises ForgedError unless the POST comes from our page in this browser."""
    if not desk_of(request).tickets.is_own_form(request, seat, token):
        raise ForgedError


def own_path(place: Place, running: Running) -> str:
    """The path where a rater goes on."""
    if place.state == "complete":
        return "/done"
    if place.state == "screened":
        return "/ended"
    if not place.checked:
        return "/check"
    return f"/t/{place.token}" if place.token else "/done"
