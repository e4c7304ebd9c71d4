"""The author's pages, behind a token: how far the study is, who needs a decision, intake, cells, export."""

from __future__ import annotations

import io
import tempfile
import zipfile
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import Connection, insert, select, update
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from cogvideo.errors import UserError
from human_eval.app.desk import Desk, ForgedError, desk_of
from human_eval.app.forms import read_form, whole
from human_eval.app.pages import environment
from human_eval.cleaning import clean_copies
from human_eval.store.enrolling import rater_by_pseudonym
from human_eval.store.forgetting import forget
from human_eval.store.opening import note
from human_eval.store.schema import cell, decision, enrolment, study
from human_eval.store.watching import Progress, progress

# As `human analyze` has them, so that its figures are the same.
RESAMPLES = 2000
DECISIONS = {"analysis": ("use", "leave out"), "payment": ("pay", "do not pay", "part")}


class NoAdminError(Exception):
    """An admin page without the token."""


def routes() -> list[Route]:
    return [
        Route("/admin", overview),
        Route("/admin/login", login_page),
        Route("/admin/login", login, methods=["POST"]),
        Route("/admin/status.json", status),
        Route("/admin/intake", intake, methods=["POST"]),
        Route("/admin/cell", open_cell, methods=["POST"]),
        Route("/admin/decide", decide, methods=["POST"]),
        Route("/admin/withdraw", withdraw, methods=["POST"]),
        Route("/admin/export.zip", export),
        Route("/admin/result", result),
    ]


async def refuse(request: Request, _: Exception) -> Response:
    """401 with a place for the token, and not a word about the study."""
    if request.method == "GET" and "text/html" in request.headers.get("accept", ""):
        return _login_form(401)
    return JSONResponse({"error": "admin token needed"}, 401, {"www-authenticate": "Bearer"})


async def login_page(_: Request) -> Response:
    return _login_form(200)


def _login_form(status: int, problem: str = "") -> Response:
    return HTMLResponse(environment().get_template("login.html.j2").render(problem=problem), status)


async def login(request: Request) -> Response:
    """The token for a cookie."""
    desk = desk_of(request)
    form = await read_form(request)
    if not desk.tickets.is_admin_token(form.get("token", "").strip()):
        return _login_form(401, "This is not the token that the server printed when it started.")
    response = RedirectResponse("/admin", 303)
    desk.tickets.admit(request, response)
    return response


async def overview(request: Request) -> Response:
    """Counts, balance, precision, raters."""
    desk = _admin(request)
    found = await desk.read(lambda connection: progress(connection, desk.running))
    precision = await run_in_threadpool(_precision, desk, found)
    needs_first = request.query_params.get("first", "1") == "1"
    raters = sorted(found.raters, key=lambda line: not line.needs_decision) if needs_first else list(found.raters)
    html = (
        environment()
        .get_template("admin.html.j2")
        .render(
            found=found,
            study=desk.running.study,
            precision=precision,
            raters=raters,
            needs_first=needs_first,
            form_token=desk.tickets.admin_form_token(),
            decisions=DECISIONS,
            closing=_closing(found),
            frozen=_day(found.frozen_ms),
            busiest=max(found.hours),
        )
    )
    return HTMLResponse(html)


async def status(request: Request) -> Response:
    """The same as numbers."""
    desk = _admin(request)
    found = await desk.read(lambda connection: progress(connection, desk.running))
    return JSONResponse(as_json(found))


def as_json(found: Progress) -> dict[str, object]:
    """A study's progress without a word about single raters but their pseudonyms."""
    return {
        "study": found.name,
        "state": found.state,
        "design_hash": found.design_hash,
        "wanted": found.wanted,
        "complete": found.complete,
        "live": found.live,
        "left": found.left,
        "screened": found.screened,
        "answers": found.answers,
        "largest_gap": found.largest_gap,
        "cells": [dict(zip(("cell", "complete", "live", "wanted", "open"), row, strict=True)) for row in found.cells],
        "deviations": list(found.deviations),
        "raters": [
            {
                "rater": line.pseudonym,
                "state": line.state,
                "done": line.done,
                "total": line.total,
                "checks_passed": line.checks_passed,
                "checks": line.checks_done,
                "noticed": list(line.noticed),
                "decisions": line.decisions,
            }
            for line in found.raters
        ],
    }


async def intake(request: Request) -> Response:
    """Pause or open."""
    desk, form = await _command(request)
    state = "paused" if form.get("state") == "paused" else "open"

    def job(connection: Connection) -> None:
        connection.execute(update(study).values(state=state))
        note(connection, desk.running, "intake", state=state)

    await desk.write(job)
    return RedirectResponse("/admin", 303)


async def open_cell(request: Request) -> Response:
    """Close or open one cell for new raters."""
    desk, form = await _command(request)
    which, is_open = whole(form.get("cell", ""), -1), form.get("open") == "1"

    def job(connection: Connection) -> None:
        connection.execute(update(cell).where(cell.c.cell == which).values(is_open=is_open))
        note(connection, desk.running, "cell", cell=which, open=is_open)

    await desk.write(job)
    return RedirectResponse("/admin", 303)


async def decide(request: Request) -> Response:
    """Use a rater's answers or leave them out; pay or not. Two decisions, kept apart, and none of them deletes."""
    desk, form = await _command(request)
    about, value = form.get("about", ""), form.get("value", "")
    if value not in DECISIONS.get(about, ()):
        return JSONResponse({"error": "no such decision"}, 400)

    def job(connection: Connection) -> bool:
        row = rater_by_pseudonym(connection, form.get("rater", ""))
        if row is None:
            return False
        now = desk.running.clock.now_ms()
        reason = form.get("reason", "")[:500]
        connection.execute(
            insert(decision).values(rater_id=row.id, about=about, value=value, reason=reason, server_ms=now)
        )
        is_live = select(enrolment.c.id).where(enrolment.c.rater_id == row.id, enrolment.c.state.in_(("live", "left")))
        if about == "analysis" and value == "leave out":
            connection.execute(update(enrolment).where(enrolment.c.id.in_(is_live)).values(state="screened"))
        return True

    found = await desk.write(job)
    return RedirectResponse("/admin", 303) if found else JSONResponse({"error": "no such rater"}, 404)


async def withdraw(request: Request) -> Response:
    """Delete a rater who asked for it."""
    desk, form = await _command(request)
    pseudonym = form.get("rater", "")
    gone = await desk.write(lambda connection: forget(connection, desk.running, pseudonym=pseudonym))
    if not gone:
        return JSONResponse({"error": "no such rater"}, 404)
    await run_in_threadpool(clean_copies, desk.running, desk.database, pseudonym, analyses_again=False)
    return RedirectResponse("/admin", 303)


async def export(request: Request) -> Response:
    """All tables so far, as a zip file."""
    desk = _admin(request)
    data = await run_in_threadpool(_zipped, desk)
    name = f"{desk.running.study.name}-export.zip"
    return Response(
        data, media_type="application/zip", headers={"content-disposition": f'attachment; filename="{name}"'}
    )


async def result(request: Request) -> Response:
    """What the answers so far say; a sentence where they say nothing yet."""
    desk = _admin(request)
    try:
        return HTMLResponse(await run_in_threadpool(_result, desk))
    except UserError as error:
        return PlainTextResponse(f"No result yet: {error}.\n", 409)


def _result(desk: Desk) -> str:
    from human_eval.analysed import analysis_page

    return analysis_page(desk.running, desk.database, resamples=RESAMPLES, seed=0)


def _zipped(desk: Desk) -> bytes:
    from human_eval.export import export_study

    buffer = io.BytesIO()
    with tempfile.TemporaryDirectory() as folder:
        export_study(desk.running, desk.database, Path(folder) / "export")
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            for file in sorted((Path(folder) / "export").iterdir()):
                archive.write(file, file.name)
    return buffer.getvalue()


def _precision(desk: Desk, found: Progress) -> list[tuple[str, float]]:
    """Half-width of the 95 % interval over raters and items, the widest of the models, by aspect."""
    if found.complete < 3 or not desk.running.study.aspects:
        return []
    from human_eval.export import study_tables
    from human_eval.precision import half_widths

    return half_widths(study_tables(desk.running, desk.database), desk.running.study)


def _admin(request: Request) -> Desk:
    desk = desk_of(request)
    if not desk.tickets.is_admin(request):
        raise NoAdminError
    return desk


async def _command(request: Request) -> tuple[Desk, dict[str, str]]:
    """An admin's POST: with the cookie it also has to come from our page."""
    desk = _admin(request)
    form = await read_form(request)
    has_header = request.headers.get("authorization", "").startswith("Bearer ")
    if not has_header and not desk.tickets.is_admin_form(request, form.get("form", "")):
        raise ForgedError
    return desk, form


def _closing(found: Progress) -> str:
    """When the study is full at the present rate, in words; empty if that is not known."""
    if found.hours_left is None or found.complete >= found.wanted:
        return ""
    when = datetime.fromtimestamp((found.now_ms + found.hours_left * 3_600_000) / 1000, UTC)
    return when.strftime("%-d %B, about %H:%M UTC")


def _day(ms: int | None) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%-d %B %Y") if ms else ""
