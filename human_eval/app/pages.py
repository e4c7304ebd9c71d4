"""Templates and what every page needs: words of the rater's language, the study, the form token."""

from __future__ import annotations

from functools import cache, partial
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from human_eval.running import Running
from human_eval.study.design import LANGUAGES, said
from human_eval.wording import ENDONYMS, say

FOLDER = Path(__file__).parent
STATIC = {
    "study.css": "text/css",
    "result.css": "text/css",
    "study.js": "text/javascript",
    "icon.svg": "image/svg+xml",
}


@cache
def environment() -> Environment:
    """The templates; everything that is put into them is escaped."""
    return Environment(
        loader=FileSystemLoader(FOLDER / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def page(
    name: str,
    running: Running,
    language: str,
    *,
    status: int = 200,
    is_preview: bool = False,
    **values: Any,
) -> HTMLResponse:
    """A page in a language. Raises jinja2's errors for a value that is missing: a bug of ours."""
    html = (
        environment()
        .get_template(f"{name}.html.j2")
        .render(
            study=running.study,
            language=language,
            say=partial(say, language),
            said=partial(said, language=language),
            endonyms=ENDONYMS,
            is_preview=is_preview,
            **values,
        )
    )
    return HTMLResponse(html, status)


def message(running: Running, language: str, what: str, status: int, **values: Any) -> HTMLResponse:
    """A page that says one thing: `<what>_title` and `<what>_lead` of the wording."""
    values = {"code": "", "code_words": "", "link": "", "action": "/", "action_words": "start_again"} | values
    return page("message", running, language, status=status, what=what, **values)


def language_for(request: Request, running: Running, known: str = "") -> str:
    """The rater's language: chosen, else the browser's, else the study's first."""
    offered = [str(language) for language in running.study.languages]
    asked = request.query_params.get("lang", "")
    if asked in offered:
        return asked
    if known in offered:
        return known
    for part in request.headers.get("accept-language", "").split(","):
        tag = part.partition(";")[0].strip().lower().partition("-")[0]
        if tag in offered and tag in LANGUAGES:
            return tag
    return offered[0]


@cache
def _static(name: str) -> bytes:
    return (FOLDER / "static" / name).read_bytes()


async def static(request: Request) -> Response:
    """One of four files; no other name reaches the disk."""
    name = request.path_params["name"]
    if name not in STATIC:
        return Response("not found\n", 404, media_type="text/plain")
    return Response(_static(name), media_type=STATIC[name], headers={"cache-control": "public, max-age=3600"})
