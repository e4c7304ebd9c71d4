"""What a form sends, as text that can be stored: too many fields, a NUL or bad UTF-8 are refused."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qsl

from starlette.requests import Request

MOST_FIELDS = 200
MOST_LETTERS = 4000


class BadFormError(Exception):
    """A body that none of our pages sends."""


async def read_form(request: Request) -> dict[str, str]:
    """The fields of an urlencoded body; of a name that comes twice, the last. Raises BadFormError."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in ("application/x-www-form-urlencoded", ""):
        raise BadFormError(f"content type {kind}")
    try:
        pairs = parse_qsl(
            (await request.body()).decode("ascii"),
            keep_blank_values=True,
            errors="strict",
            max_num_fields=MOST_FIELDS,
        )
    except ValueError as error:
        raise BadFormError(str(error)) from None
    return {clean(name): clean(value) for name, value in pairs}


async def read_json(request: Request) -> Any:
    """A JSON body. Raises BadFormError."""
    try:
        return json.loads(await request.body())
    except (ValueError, RecursionError) as error:
        raise BadFormError(str(error)) from None


def clean(text: str) -> str:
    """The text as it can be stored. Raises BadFormError for a NUL, half a surrogate pair, or a novel."""
    if "\0" in text or any("\ud800" <= letter <= "\udfff" for letter in text) or len(text) > MOST_LETTERS:
        raise BadFormError("text that cannot be stored")
    return text


def whole(text: str, default: int = 0, most: int = 2**40) -> int:
    """A whole number from 0 to `most`, else the default."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 14 and int(text) <= most else default
