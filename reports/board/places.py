"""Where files lay on the machine that measured. A board is published, so of a whole path only its last name stays."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import unquote

from reports.board.names import short

# A whole path inside a text: at least two names, so that "and/or" and "I/O" stay, and no address of the web.
_WHOLE = re.compile(r"(?<![\w/.~…-])/(?!/)(?:[^\s/'\"`,;|<>()]+/)+([^\s/'\"`,;|<>()]*)")
_WINDOWS = re.compile(r"\b[A-Za-z]:\\(?:[^\\\s'\"`,;|<>()]+\\)*([^\\\s'\"`,;|<>()]*)")

# What tells keys of shortened paths apart.
_MARK = re.compile(r"(?<=…/)(.*)#[0-9a-f]{8}$")


def without_places(value: Any) -> Any:
    """The same values (dicts, lists, tuples, scalars), every whole path in a text shortened to `…/name`."""
    if isinstance(value, str):
        return _shortened(value)
    if isinstance(value, dict):
        return {name: without_places(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(without_places(one) for one in value)
    return value


def public_spec(spec: str) -> str:
    """A generator's specification to be read: `folder:/data/lab/samples?stride=2` is `folder:…/samples?stride=2`.

    Relative paths stay as they are.
    """
    head, mark, options = spec.rpartition("?")
    if not mark or "/" in options:
        head, mark, options = spec, "", ""
    kind, colon, path = head.partition(":")
    # A path may have blanks; a command is words, some of them paths.
    path = _last(path) if path.startswith("/") and kind != "command" else _inside(path)
    # In options slashes are written %2F.
    plain = unquote(options)
    told = without_places(plain)
    return f"{kind}{colon}{path}{mark}{options if told == plain else told}"


def public_key(spec: str) -> str:
    """What a model is known by: two folders of one name in different places stay two, and neither place is told."""
    told = public_spec(spec)
    return spec if told == spec else f"{told}#{short(spec, 8)}"


def spec_of(key: str) -> str:
    """The specification of a key, as it is told."""
    return _MARK.sub(r"\1", key)


def _shortened(text: str) -> str:
    # Alone, a path may have blanks.
    if text.startswith("/") and "\n" not in text and ": " not in text and text.count("/") > 1:
        return _last(text)
    return _inside(text)


def _inside(text: str) -> str:
    return _WINDOWS.sub(r"…/\1", _WHOLE.sub(r"…/\1", text))


def _last(path: str) -> str:
    return f"…/{path.rstrip('/').rpartition('/')[2]}"
