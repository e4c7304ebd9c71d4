"""The application: its routes, and what each thing that goes wrong looks like to a person."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from human_eval.app import admin, entrance, trials
from human_eval.app.desk import Desk, ForgedError, NoSeatError, OtherPlaceError
from human_eval.app.forms import BadFormError
from human_eval.app.guards import Buckets, Guard
from human_eval.app.pages import language_for, message, static
from human_eval.app.tickets import Tickets
from human_eval.running import Running
from human_eval.store.answering import BadAnswerError, NotYetError, NotYoursError
from human_eval.store.database import Database, StoreBusyError
from human_eval.store.enrolling import PlaceGoneError

Handler = Callable[[Request, Exception], Awaitable[Response]]
# Requests a second, and at once, of one browser and of one address (which may be a whole classroom).
SEAT_RATE, SEAT_BURST = 20.0, 120.0
ADDRESS_RATE, ADDRESS_BURST = 400.0, 2000.0


def create_app(
    running: Running,
    database: Database,
    *,
    admin_token: str,
    is_preview: bool = False,
    has_limits: bool = True,
) -> Starlette:
    """The ASGI application of a study whose database is open. `has_limits=False` leaves rates unlimited."""
    tickets = Tickets(running, admin_token)
    plenty = 1e12
    app = Starlette(
        routes=[
            Route("/", entrance.start),
            Route("/consent", entrance.consent, methods=["POST"]),
            Route("/consent.txt", entrance.consent_text),
            Route("/now", entrance.now),
            Route("/r/{token}", entrance.resume),
            Route("/check", entrance.check),
            Route("/check", entrance.check_answer, methods=["POST"]),
            Route("/n/{name}.mp4", entrance.number_video),
            Route("/t/{token}", trials.show),
            Route("/t/{token}", trials.post, methods=["POST"]),
            Route("/t/{token}/events", trials.events, methods=["POST"]),
            Route("/m/{token}/{name}.mp4", trials.video),
            Route("/practice", entrance.after_practice),
            Route("/pause", entrance.pause),
            Route("/leave", entrance.leaving),
            Route("/leave", entrance.leave_now, methods=["POST"]),
            Route("/done", entrance.done),
            Route("/ended", entrance.ended),
            Route("/remark", entrance.send_remark, methods=["POST"]),
            Route("/withdraw", entrance.withdrawal),
            Route("/withdraw", entrance.withdraw, methods=["POST"]),
            Route("/static/{name}", static),
            Route("/health", _health),
            *admin.routes(),
        ],
        middleware=[
            Middleware(
                Guard,
                seats=Buckets(SEAT_RATE if has_limits else plenty, SEAT_BURST if has_limits else plenty),
                addresses=Buckets(ADDRESS_RATE if has_limits else plenty, ADDRESS_BURST if has_limits else plenty),
                seat_cookie=tickets.seat_cookie,
            )
        ],
        exception_handlers={
            404: _page_of("not_found", 404),
            405: _page_of("not_found", 405),
            BadFormError: _page_of("bad", 400),
            BadAnswerError: _page_of("bad", 400),
            ForgedError: _page_of("forbidden", 403),
            NotYoursError: _page_of("forbidden", 403, "/now"),
            NotYetError: _page_of("forbidden", 403, "/now"),
            NoSeatError: _no_seat,
            OtherPlaceError: _other_place,
            PlaceGoneError: _page_of("closed", 410),
            StoreBusyError: _busy,
            admin.NoAdminError: admin.refuse,
        },
    )
    app.state.desk = Desk(running, database, tickets, is_preview)
    return app


async def _health(request: Request) -> Response:
    """Whether the database answers."""
    await request.app.state.desk.read(lambda connection: connection.exec_driver_sql("SELECT 1").scalar())
    return PlainTextResponse("ok\n")


def _page_of(what: str, status: int, action: str = "/") -> Handler:
    async def handle(request: Request, error: Exception) -> Response:
        headers = dict(error.headers or {}) if isinstance(error, HTTPException) else {}
        running = request.app.state.desk.running
        if _wants_json(request):
            return JSONResponse({"error": what}, status, headers)
        words = "own_place" if action == "/now" else "start_again"
        response = message(running, language_for(request, running), what, status, action=action, action_words=words)
        response.headers.update(headers)
        return response

    return handle


async def _no_seat(request: Request, _: Exception) -> Response:
    if request.url.path.endswith(".mp4"):
        return Response("not found\n", 404, media_type="text/plain")
    if request.method != "GET" or _wants_json(request):
        return await _page_of("forbidden", 403)(request, NoSeatError())
    return RedirectResponse("/", 303)


async def _other_place(request: Request, error: Exception) -> Response:
    assert isinstance(error, OtherPlaceError)
    if _wants_json(request):
        return JSONResponse({"next": error.path}, 403)
    return RedirectResponse(error.path, 303)


async def _busy(request: Request, error: Exception) -> Response:
    response = await _page_of("busy", 503, "/now")(request, error)
    response.headers["retry-after"] = "5"
    return response


def _wants_json(request: Request) -> bool:
    return "application/json" in request.headers.get("accept", "")
