"""A page of videos and questions: shown, saved bit by bit or whole, with a word to whoever saved in another window."""

from __future__ import annotations

import secrets
from typing import Any

from sqlalchemy import Connection
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response

from human_eval.app.desk import ForgedError, OtherPlaceError, Visit, own_form, own_path, visit
from human_eval.app.forms import BadFormError, clean, read_form, read_json, whole
from human_eval.app.media import find_stimulus, video_response
from human_eval.app.pages import message, page
from human_eval.store.answering import (
    BadAnswerError,
    ConflictError,
    FinishedError,
    NotYetError,
    NotYoursError,
    Page,
    Save,
    Saved,
    TooFastError,
    peek,
    record_events,
    save,
    serve,
)
from human_eval.store.enrolling import Place
from human_eval.study.design import Study, said
from human_eval.wording import say

PAGE_NAME = 32
# Pages that the script may load before the rater gets there, for when the connection is lost.
AHEAD = 3


async def show(request: Request) -> Response:
    """The page behind a token, or the way to the rater's own place."""
    here = await visit(request)
    _may_rate(here.place)
    running, enrolment_id, token = here.desk.running, here.place.enrolment_id, request.path_params["token"]
    try:
        if request.headers.get("x-ahead") == "1":
            shown = await here.desk.read(lambda connection: peek(connection, enrolment_id, token, ahead=AHEAD))
        else:
            shown = await here.desk.write(
                lambda connection: serve(connection, running, enrolment_id, token), enrolment_id
            )
    except NotYetError:
        return RedirectResponse(own_path(here.place, running), 303)
    return _render(here, shown)


async def post(request: Request) -> Response:
    """Save what a form or the script sends. Acknowledged only after the commit."""
    here = await visit(request)
    form = await read_form(request)
    own_form(request, here.seat, form.get("form", ""))
    if here.place.state == "screened":
        raise OtherPlaceError("/ended")
    running, enrolment_id, token = here.desk.running, here.place.enrolment_id, request.path_params["token"]
    wants_json = "application/json" in request.headers.get("accept", "")
    fields = set(running.study.fields)
    given = Save(
        page=clean(form.get("page", ""))[:PAGE_NAME],
        seq=whole(form.get("seq", "")),
        base=whole(form.get("base", "")),
        values={name: value for name, value in form.items() if name in fields and value},
        is_final=form.get("finish", "") == "1",
        client_ms=ms if (ms := whole(form.get("ms", ""), default=-1)) >= 0 else None,
    )
    if not given.page:
        raise BadFormError("no page name")
    try:
        saved = await here.desk.write(
            lambda connection: save(connection, running, enrolment_id, token, given), enrolment_id
        )
    except ConflictError as conflict:
        return await _conflict(here, token, conflict, given, wants_json)
    except NotYetError:
        raise OtherPlaceError(own_path(here.place, running)) from None
    except FinishedError:
        raise OtherPlaceError("/done") from None
    except TooFastError:
        shown = await here.desk.read(lambda connection: peek(connection, enrolment_id, token))
        problem = say(here.language, "too_fast", seconds=f"{running.study.limits.watch_seconds:g}")
        if wants_json:
            return JSONResponse({"problem": problem}, 422)
        return _render(here, shown, given.values, problem=problem, status=422)
    where = _next_path(here, saved.place)
    if wants_json:
        return JSONResponse(_told(saved, where))
    if given.is_final and saved.missing:
        shown = await here.desk.read(lambda connection: peek(connection, enrolment_id, token))
        names = ", ".join(field_name(running.study, name, here.language) for name in saved.missing)
        problem = say(here.language, "missing_lead", names=names)
        return _render(here, shown, problem=problem, missing=saved.missing, status=422)
    if not given.is_final:
        return RedirectResponse(f"/t/{token}", 303)
    return RedirectResponse(where, 303)


async def events(request: Request) -> Response:
    """What happened to the videos of a page."""
    here = await visit(request)
    body = await read_json(request)
    if not isinstance(body, dict) or not isinstance(body.get("events"), list):
        raise BadFormError("no list of events")
    own_form(request, here.seat, str(body.get("form", "")))
    running, enrolment_id, token = here.desk.running, here.place.enrolment_id, request.path_params["token"]
    name, found = clean(str(body.get("page", "")))[:PAGE_NAME], body["events"][:500]

    def job(connection: Connection) -> int:
        return record_events(connection, running, enrolment_id, token, name, found)

    return JSONResponse({"kept": await here.desk.write(job, here.place.enrolment_id)})


async def video(request: Request) -> Response:
    """A video by its opaque address, for the rater it was made for."""
    here = await visit(request)
    running, enrolment_id = here.desk.running, here.place.enrolment_id
    token, name = request.path_params["token"], request.path_params["name"]
    stimulus_id = await here.desk.read(lambda c: find_stimulus(c, running, enrolment_id, token, name, AHEAD))
    if stimulus_id is None:
        return Response("not found\n", 404, media_type="text/plain")
    path = running.media_path(stimulus_id)
    return video_response(path, name, request.headers.get("range", ""), request.headers.get("if-range", ""))


def field_name(study: Study, field: str, language: str) -> str:
    """A question as people know it, e.g. "Video 2: Motion realism"."""
    if field == "favourite":
        assert study.favourite is not None
        return said(study.favourite.name, language)
    if field == "choice":
        assert study.pair is not None
        return said(study.pair.name, language)
    if field == "strength":
        return say(language, "strength")
    slot, _, aspect = field.partition(".")
    name = say(language, "rank") if aspect == "rank" else ""
    name = name or next(said(one.name, language) for one in study.aspects if one.id == aspect)
    return f"{say(language, 'video', n=slot[1:])}: {name}"


def instruction_words(study: Study, expected: dict[str, Any], language: str) -> str:
    """What an instructed page says: in the question itself, never from memory."""
    equal = expected.get("equal", {})
    if "choice" in equal:
        return say(language, "instructed_pair", choice=_choice_words(equal["choice"], language))
    points = {value for field, value in equal.items() if field != "favourite"}
    extra = ""
    if "favourite" in equal:
        extra = say(language, "instructed_favourite", choice=_choice_words(equal["favourite"], language))
    if not points:
        return say(language, "instructed_pair", choice=_choice_words(equal["favourite"], language))
    return say(language, "instructed", value=points.pop(), extra=extra)


def _choice_words(value: str, language: str) -> str:
    names = {"none": "cannot_say", "tie": "tie", "bad": "both_bad"}
    return say(language, names[value]) if value in names else say(language, "video", n=value)


def _may_rate(place: Place) -> None:
    if place.state == "complete":
        raise OtherPlaceError("/done")
    if place.state == "screened":
        raise OtherPlaceError("/ended")
    if not place.checked:
        raise OtherPlaceError("/check")


def _next_path(here: Visit, place: Place) -> str:
    if place.state == "complete":
        return "/done"
    if here.place.position <= place.practice and place.position != here.place.position:
        return "/practice"
    every = here.desk.running.study.limits.break_every
    rated = place.done - place.practice
    if every and rated and rated % every == 0 and place.done != here.place.done and place.token:
        return "/pause"
    return own_path(place, here.desk.running)


def _told(saved: Saved, where: str) -> dict[str, Any]:
    return {
        "revision": saved.revision,
        "answers": saved.answers,
        "missing": list(saved.missing),
        "done": saved.is_done,
        "next": where if saved.is_done and not saved.missing else "",
    }


async def _conflict(here: Visit, token: str, conflict: ConflictError, given: Save, wants_json: bool) -> Response:
    study, language = here.desk.running.study, here.language
    if wants_json:
        return JSONResponse({"answers": conflict.saved, "revision": conflict.revision}, 409)
    differing = [
        name for name in study.fields if name in given.values and conflict.saved.get(name) != given.values[name]
    ]
    rows = [(field_name(study, name, language), conflict.saved.get(name, ""), given.values[name]) for name in differing]
    return page(
        "conflict",
        here.desk.running,
        language,
        status=409,
        is_preview=here.place.is_preview,
        form_token=here.form_token,
        token=token,
        rows=rows,
        given=given,
        page_name=secrets.token_hex(8),
        revision=conflict.revision,
    )


def _render(
    here: Visit,
    shown: Page,
    values: Any = None,
    *,
    problem: str = "",
    missing: tuple[str, ...] = (),
    status: int = 200,
) -> Response:
    running, place = here.desk.running, here.place
    study = running.study
    item = next(item for item in study.items if item.id == shown.item)
    slots = range(1, len(shown.stimuli) + 1)
    answers = shown.answers | dict(values or {})
    counted = place.total - place.practice
    number = max(0, shown.position - place.practice)
    further = study.pair.ties + study.pair.both_bad if study.pair else 0
    highest = max((aspect.scale.high for aspect in study.aspects), default=len(shown.stimuli) + further)
    return page(
        "trial",
        running,
        here.language,
        status=status,
        is_preview=place.is_preview,
        form_token=here.form_token,
        shown=shown,
        item=item,
        slots=slots,
        videos={slot: f"/m/{shown.token}/{running.media_name(shown.token, slot)}.mp4" for slot in slots},
        upcoming=_upcoming(here, shown),
        answers=answers,
        n_answered=sum(name in shown.answers for name in study.fields),
        number=number,
        counted=counted,
        minutes_left=max(1, round(study.minutes * (place.total - place.done) / max(1, place.total))),
        page_name=secrets.token_hex(8),
        problem=problem,
        missing=missing,
        instruction=instruction_words(study, shown.expected, here.language) if shown.kind == "instructed" else "",
        highest=highest if highest < 10 else "10 (0)",
    )


def _upcoming(here: Visit, shown: Page) -> list[str]:
    """Paths of the pages that follow, to be loaded ahead."""
    running, place = here.desk.running, here.place
    last = min(place.total, place.position + AHEAD, shown.position + AHEAD)
    return [f"/t/{running.trial_token(place.ordinal, position)}" for position in range(shown.position + 1, last + 1)]


def no_such_page(here: Visit) -> Response:
    """The answer to a page that is not this rater's."""
    return message(here.desk.running, here.language, "forbidden", 403, action="/now", action_words="own_place")


__all__ = ["BadAnswerError", "ForgedError", "NotYoursError", "events", "no_such_page", "post", "show", "video"]
