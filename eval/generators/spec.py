"""What a person writes after `--generator`: `kind[:argument][?key=value&key=value]`."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from cogvideo.errors import UserError
from eval.generators.contract import Generator, GeneratorContext
from eval.registry import did_you_mean, generators

_KIND = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
_KEY = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")


@dataclass(frozen=True)
class Spec:
    """The parts of a generator's text. `str()` gives a text that parses to the same parts."""

    kind: str
    argument: str
    options: dict[str, str]

    def __str__(self) -> str:
        argument = f":{self.argument}" if self.argument else ""
        options = "&".join(f"{key}={_quoted(value)}" for key, value in self.options.items())
        # A '?' of the argument's own needs one more behind it, even if there are no options.
        return f"{self.kind}{argument}{'?' if options or '?' in self.argument else ''}{options}"


def parse_spec(text: str) -> Spec:
    """Split a generator's text. Raises UserError with one line.

    The kind ends at the first ':', so that drive letters and other colons belong to the argument. Options follow the
    last '?'; what follows it belongs to the argument if it has a slash or a backslash. A path that itself ends in
    '?name' takes one more '?' behind it. Values may be percent-encoded (%26 for '&').
    """
    head, has_options, tail = text.strip().rpartition("?")
    if not has_options or "/" in tail or "\\" in tail:
        head, tail = text.strip(), ""
    kind, _, argument = head.partition(":")
    if not _KIND.fullmatch(kind):
        raise UserError(
            f"generator {text!r}: expected kind[:argument][?key=value], e.g. folder:videos?stride=2{_hint(head)}"
        )
    if len(kind) == 1 and argument[:1] in {"/", "\\"}:
        raise UserError(f"generator {text!r}: this is a path, not a kind; for the videos in it write 'folder:{head}'")
    options: dict[str, str] = {}
    for part in tail.split("&") if tail else ():
        key, equals, value = part.partition("=")
        if not equals or not _KEY.fullmatch(key):
            raise UserError(
                f"generator {text!r}: expected key=value after the '?', got {part!r} (a path that ends in '?{part}' "
                "takes one more '?' behind it)"
            )
        if key in options:
            raise UserError(f"generator {text!r}: option {key!r} stands there twice")
        options[key] = unquote(value)
    return Spec(kind, argument, options)


def make_generator(text: str, context: GeneratorContext) -> Generator:
    """The generator of a text such as `folder:videos?stride=2`.

    Raises UserError for a text of another form, an unknown kind or option («did you mean»), or a bad argument.
    """
    spec = parse_spec(text)
    if spec.kind not in generators.names():
        near = _hint(str(spec)) or did_you_mean(spec.kind, generators.names())
        raise UserError(f"unknown generator {spec.kind!r}{near}")
    made: Generator = generators.get(spec.kind).make(spec.argument, spec.options, context)
    return made


def check_options(kind: str, options: Mapping[str, str], known: Iterable[str]) -> None:
    """Raise UserError for the first option that a generator does not have."""
    names = sorted(known)
    for key in options:
        if key not in names:
            raise UserError(f"generator {kind} has no option {key!r}{did_you_mean(key, names)}")


def no_argument(kind: str, argument: str) -> None:
    """Raise UserError if a kind that takes no argument was given one."""
    if argument:
        raise UserError(f"generator {kind} takes no argument, got {argument!r}")


def whole_number(kind: str, options: Mapping[str, str], key: str, default: int | None, *, least: int) -> int | None:
    """An option that counts something. Raises UserError if it is no whole number of at least `least`."""
    text = options.get(key)
    if text is None:
        return default
    if not re.fullmatch(r"\d+", text) or int(text) < least:
        raise UserError(f"generator {kind}: expected a whole number of at least {least} for {key!r}, got {text!r}")
    return int(text)


def positive_number(kind: str, options: Mapping[str, str], key: str, default: float | None = None) -> float | None:
    """An option that is a number above 0. Raises UserError for anything else."""
    text = options.get(key)
    if text is None:
        return default
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise UserError(f"generator {kind}: expected a number above 0 for {key!r}, got {text!r}")
    return value


def one_of(kind: str, options: Mapping[str, str], key: str, known: Sequence[str], default: str) -> str:
    """An option with few values. Raises UserError for a value that is none of `known`."""
    value = options.get(key, default)
    if value not in known:
        near = did_you_mean(value, list(known))
        raise UserError(f"generator {kind}: expected {' or '.join(known)} for {key!r}, got {value!r}{near}")
    return value


def json_or_text(text: str) -> Any:
    """An option that is handed on: a JSON value (number, true, null, list), else the text itself."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _hint(head: str) -> str:
    """A bare path was meant as a folder of videos."""
    return f"; for the videos in it write 'folder:{head}'" if Path(head).is_dir() else ""


def _quoted(value: str) -> str:
    for sign, code in (("%", "%25"), ("&", "%26"), ("?", "%3F"), ("/", "%2F"), ("\\", "%5C")):
        value = value.replace(sign, code)
    return value
