"""The pages around the trials: consent, environment check, pauses, leaving, coming back, the code, withdrawal."""

from __future__ import annotations

import secrets

from sqlalchemy import Connection, insert, select
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response

from human_eval.app.desk import Visit, desk_of, own_form, own_path, visit
from human_eval.app.forms import clean, read_form, whole
from human_eval.app.media import video_response
from human_eval.app.pages import language_for, message, page
from human_eval.app.tickets import Seat
from human_eval.cleaning import clean_copies
from human_eval.running import Running
from human_eval.store.enrolling import (
    COMPLETE,
    StudyFullError,
    StudyPausedError,
    enrol,
    leave,
    place_of,
    record_environment,
    touch,
)
from human_eval.store.forgetting import forget
from human_eval.store.schema import enrolment, remark
from human_eval.study.building import CHECK_NUMBERS
from human_eval.study.design import consent_hash, said
from human_eval.wording import say

# Where a panel puts its identifier of a person, and the panel's name.
PANELS = (("PROLIFIC_PID", "prolific"), ("workerId", "mturk"), ("rater", "link"))
FACTS = ("width", "height", "ratio", "fps", "kbps", "h264", "reduced", "touch")


async def start(request: Request) -> Response:
    """Who asks, what it is, and the decision. A rater who is in already goes on where they were."""
    desk = desk_of(request)
    seat = desk.tickets.seat(request)
    has_new_identity = any(name in request.query_params for name, _ in PANELS)
    if seat is not None and seat.enrolment_id and not has_new_identity and "lang" not in request.query_params:
        enrolment_id = seat.enrolment_id
        place = await desk.read(lambda connection: place_of(connection, enrolment_id))
        if place is not None:
            return RedirectResponse("/now", 303)
    return _consent_page(request, seat if seat is not None and not seat.enrolment_id else None)


def _consent_page(request: Request, seat: Seat | None, problem: str = "", status: int = 200) -> Response:
    desk = desk_of(request)
    language = language_for(request, desk.running)
    seat = seat or Seat(0, secrets.token_hex(8))
    source, outside_id = _identity(request)
    study = desk.running.study
    response = page(
        "consent",
        desk.running,
        language,
        status=status,
        is_preview=desk.is_preview,
        form_token=desk.tickets.form_token(seat),
        source=source,
        outside_id=outside_id,
        digest=consent_hash(study, language)[:8],
        problem=problem,
        others=[str(other) for other in study.languages if other != language],
        query={name: request.query_params[name] for name, _ in PANELS if name in request.query_params},
    )
    desk.tickets.keep_seat(request, response, seat)
    return response


def _identity(request: Request) -> tuple[str, str]:
    for name, source in PANELS:
        if value := request.query_params.get(name, ""):
            return source, clean(value)[:200]
    return "link", ""


async def consent(request: Request) -> Response:
    """Take part, or not. Nothing is stored before this, and nothing if the answer is no."""
    desk = desk_of(request)
    form = await read_form(request)
    seat = desk.tickets.seat(request)
    own_form(request, seat, form.get("form", ""))
    language = form.get("language", "")
    language = language if language in desk.running.study.languages else language_for(request, desk.running)
    if form.get("decision") != "yes":
        code = desk.running.code("no_consent")
        return message(desk.running, language, "refused", 200, code=code, code_words="refused_code")
    if any(f"agree{k}" not in form for k in range(len(desk.running.study.consent.statements))):
        return _consent_page(request, seat, say(language, "tick_all"), 422)
    source = form.get("source", "")
    source = source if source in {name for _, name in PANELS} else "link"
    running, is_preview = desk.running, desk.is_preview

    def job(connection: Connection) -> int:
        return enrol(
            connection,
            running,
            source="preview" if is_preview else source,
            outside_id="" if is_preview else form.get("outside", "")[:200],
            language=language,
            is_preview=is_preview,
        )

    try:
        enrolment_id = await desk.write(job)
    except StudyFullError:
        return message(desk.running, language, "full", 200, code=running.code("no_consent"), code_words="refused_code")
    except StudyPausedError:
        return message(desk.running, language, "paused", 200)
    response = RedirectResponse("/now", 303)
    desk.tickets.give_seat(request, response, enrolment_id)
    return response


async def consent_text(request: Request) -> Response:
    """The words to keep, as a file."""
    desk = desk_of(request)
    language = language_for(request, desk.running)
    study = desk.running.study
    parts = [said(study.title, language), ""]
    for name, text in study.consent:
        if isinstance(text, dict):
            parts.append(f"{say(language, 'what_we_check' if name == 'checks' else name)}: {said(text, language)}")
    parts += ["", *(said(text, language) for text in study.consent.statements)]
    parts.append(
        "\n" + say(language, "consent_version", version=study.consent.version, hash=consent_hash(study, language))
    )
    name = f"consent-{study.consent.version}-{language}.txt"
    return PlainTextResponse("\n".join(parts) + "\n", headers={"content-disposition": f'attachment; filename="{name}"'})


async def now(request: Request) -> Response:
    """To the page where the rater goes on."""
    here = await visit(request)
    if here.place.state == "left":
        await _return_to_place(here)
    return RedirectResponse(own_path(here.place, here.desk.running), 303)


async def _return_to_place(here: Visit) -> None:
    running, enrolment_id = here.desk.running, here.place.enrolment_id
    await here.desk.write(lambda connection: touch(connection, running, enrolment_id), enrolment_id)


async def resume(request: Request) -> Response:
    """A signed link: the same rater on any device."""
    desk = desk_of(request)
    ordinal = desk.tickets.resumed(request.path_params["token"])
    found = None
    if ordinal is not None:
        found = await desk.read(
            lambda c: c.execute(select(enrolment.c.id).where(enrolment.c.ordinal == ordinal)).scalar_one_or_none()
        )
    if found is None:
        return message(desk.running, language_for(request, desk.running), "not_found", 404)
    response = RedirectResponse("/now", 303)
    desk.tickets.give_seat(request, response, found)
    return response


def check_number(running: Running, ordinal: int) -> int:
    """The number that this rater's check video shows."""
    return CHECK_NUMBERS[int(running.number_name(ordinal), 16) % len(CHECK_NUMBERS)]


async def check(request: Request) -> Response:
    """Does the device show the videos: the rater says which number is in one."""
    here = await visit(request)
    if here.place.checked:
        return RedirectResponse("/now", 303)
    return _check_page(here)


def _check_page(here: Visit, has_failed: bool = False) -> Response:
    name = here.desk.running.number_name(here.place.ordinal)
    return page(
        "check",
        here.desk.running,
        here.language,
        status=422 if has_failed else 200,
        is_preview=here.place.is_preview,
        form_token=here.form_token,
        video=f"/n/{name}.mp4",
        numbers=sorted(CHECK_NUMBERS),
        has_failed=has_failed,
        resume_link=here.desk.tickets.resume_link(here.place.ordinal),
    )


async def check_answer(request: Request) -> Response:
    """Keep what the device is like; go on if the number was seen."""
    here = await visit(request)
    form = await read_form(request)
    own_form(request, here.seat, form.get("form", ""))
    passed = form.get("number") == str(check_number(here.desk.running, here.place.ordinal))
    facts: dict[str, object] = {name: whole(form[name], -1, 10**7) for name in FACTS if form.get(name)}
    enrolment_id = here.place.enrolment_id
    await here.desk.write(lambda connection: record_environment(connection, enrolment_id, facts, passed), enrolment_id)
    return RedirectResponse("/now", 303) if passed else _check_page(here, has_failed=True)


async def number_video(request: Request) -> Response:
    """The video of the environment check."""
    here = await visit(request)
    running = here.desk.running
    name = running.number_name(here.place.ordinal)
    if request.path_params["name"] != name:
        return Response("not found\n", 404, media_type="text/plain")
    path = running.media_path(f"#number/{check_number(running, here.place.ordinal)}")
    return video_response(path, name, request.headers.get("range", ""), request.headers.get("if-range", ""))


async def pause(request: Request) -> Response:
    """A rest between pages."""
    here = await visit(request)
    return page(
        "pause",
        here.desk.running,
        here.language,
        is_preview=here.place.is_preview,
        place=here.place,
        resume_link=here.desk.tickets.resume_link(here.place.ordinal),
    )


async def after_practice(request: Request) -> Response:
    """A remark after a page of practice."""
    here = await visit(request)
    is_last = here.place.done >= here.place.practice
    return page(
        "practice",
        here.desk.running,
        here.language,
        is_preview=here.place.is_preview,
        is_last=is_last,
        is_comparison=here.desk.running.study.slots > 1,
    )


async def leaving(request: Request) -> Response:
    """Ask before the place is given up."""
    here = await visit(request)
    return page(
        "leave",
        here.desk.running,
        here.language,
        is_preview=here.place.is_preview,
        form_token=here.form_token,
        resume_link=here.desk.tickets.resume_link(here.place.ordinal),
        has_left=here.place.state == "left",
    )


async def leave_now(request: Request) -> Response:
    """The rater stops; what was answered stays."""
    here = await visit(request)
    form = await read_form(request)
    own_form(request, here.seat, form.get("form", ""))
    enrolment_id = here.place.enrolment_id
    await here.desk.write(lambda connection: leave(connection, enrolment_id))
    return RedirectResponse("/leave", 303)


async def done(request: Request) -> Response:
    """The code, again and again; the withdrawal key; room for a remark."""
    here = await visit(request)
    if here.place.state != COMPLETE:
        return RedirectResponse("/now", 303)
    running = here.desk.running
    code = running.code("complete", here.place.pseudonym)
    return page(
        "done",
        running,
        here.language,
        is_preview=here.place.is_preview,
        form_token=here.form_token,
        place=here.place,
        code=code,
        return_url=running.study.codes.return_url.replace("{code}", code),
        withdrawal_key=running.withdrawal_key(here.place.pseudonym),
        was_sent="sent" in request.query_params,
    )


async def ended(request: Request) -> Response:
    """For a rater who was sent home by the author of the study."""
    here = await visit(request)
    code = here.desk.running.code("screened_out", here.place.pseudonym)
    return message(here.desk.running, here.language, "screened", 200, code=code, code_words="code")


async def send_remark(request: Request) -> Response:
    """Keep a remark; an empty one, or the same again, is left out."""
    here = await visit(request)
    form = await read_form(request)
    own_form(request, here.seat, form.get("form", ""))
    words = form.get("words", "").strip()
    enrolment_id, now_ms = here.place.enrolment_id, here.desk.running.clock.now_ms()

    def job(connection: Connection) -> None:
        known = connection.execute(select(remark.c.words).where(remark.c.enrolment_id == enrolment_id)).scalars().all()
        if words and words not in known and len(known) < 5:
            connection.execute(insert(remark).values(enrolment_id=enrolment_id, words=words, server_ms=now_ms))

    await here.desk.write(job, here.place.enrolment_id)
    return RedirectResponse("/done?sent", 303)


async def withdrawal(request: Request) -> Response:
    """Where a rater asks for deletion; open to everybody who has a key."""
    return _withdrawal_page(request, desk_of(request).tickets.seat(request))


def _withdrawal_page(request: Request, seat: Seat | None, is_unknown: bool = False) -> Response:
    desk = desk_of(request)
    seat = seat or Seat(0, secrets.token_hex(8))
    response = page(
        "withdraw",
        desk.running,
        language_for(request, desk.running),
        status=422 if is_unknown else 200,
        form_token=desk.tickets.form_token(seat),
        is_unknown=is_unknown,
    )
    desk.tickets.keep_seat(request, response, seat)
    return response


async def withdraw(request: Request) -> Response:
    """Delete the rater whose key this is."""
    desk = desk_of(request)
    form = await read_form(request)
    seat = desk.tickets.seat(request)
    own_form(request, seat, form.get("form", ""))
    given, running = form.get("key", "").strip().upper(), desk.running
    pseudonym = await desk.write(lambda connection: forget(connection, running, withdrawal_key=given))
    if not pseudonym:
        return _withdrawal_page(request, seat, is_unknown=True)
    await run_in_threadpool(clean_copies, running, desk.database, pseudonym, analyses_again=False)
    response = message(running, language_for(request, running), "withdraw_done", 200)
    response.delete_cookie(desk.tickets.seat_cookie)
    return response
