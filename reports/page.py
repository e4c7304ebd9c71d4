"""What every page stands on: the Jinja environment, and the style and script that it carries. No framework, no network.

Text of strangers is escaped by default; characters that no page may hold are replaced before.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from eval.notation import count, duration, fingerprint, number, plural

NO_BREAK = "\N{NO-BREAK SPACE}"
TEMPLATES = Path(__file__).with_name("templates")
STATIC = Path(__file__).with_name("static")
# First letters of scripts that need a face or a direction of their own.
SCRIPTS = (
    ("ja", "\u3040", "\u30ff"),
    ("ko", "\uac00", "\ud7af"),
    ("zh", "\u4e00", "\u9fff"),
    ("ar", "\u0600", "\u06ff"),
    ("he", "\u0590", "\u05ff"),
)
# Texts of a script as they are, remarks, and signs with the blanks round them. Line ends stay, so that no two
# statements run into each other, and so do blanks round + and -. Backquotes inside backquotes are not understood.
SPACES_OF_SCRIPT = re.compile(
    r""""(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'|`(?:[^`\\]|\\.)*`|/\*.*?\*/| *([{}()\[\];,=<>?:&|!*%]) *""", re.DOTALL
)


@cache
def environment() -> Environment:
    """Templates of all pages: autoescape on, a name that is not given is an error."""
    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=showable,
    )
    made.filters["unbroken"] = unbroken
    made.globals |= {
        "count": count,
        "duration": duration,
        "fingerprint_words": fingerprint,
        "language_of": language_of,
        "number": number,
        "plural": plural,
    }
    return made


def stylesheet() -> str:
    """The look of a page in one file, as it ships."""
    return "".join(shipped(STATIC / f"{name}.css") for name in ("page", "charts", "players", "report"))


def script(*, has_players: bool = True) -> str:
    """Theme and contents list, and with `has_players` the players, as they ship."""
    return shipped(STATIC / "page.js") + (shipped(STATIC / "players.js") if has_players else "")


@cache
def shipped(path: Path) -> str:
    """A style or script without what only its readers need: comments, indentation, and spaces of a style sheet."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".css":
        text = " ".join(re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL).split())
        return re.sub(r";}", "}", re.sub(r"\s*([{};,>])\s*|(?<=:)\s+", r"\1", text)) + "\n"
    lines = [line.strip() for line in text.splitlines()]
    kept = "\n".join(line for line in lines if line and not line.startswith("//")) + "\n"
    return SPACES_OF_SCRIPT.sub(lambda found: found[1] or ("" if found[0].startswith("/*") else found[0]), kept)


def script_hash(text: str) -> str:
    """A source of a content policy that allows exactly this script."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def json_island(value: Any) -> Markup:
    """JSON that can stand inside a script element: nothing in it can close that element or open a comment."""
    text = json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(showable(text))  # noqa: S704 - every character that could end the element is escaped above


def language_of(text: str) -> str:
    """A language where the script of the text names one, so that a browser takes the right face; else no claim."""
    for language, first, last in SCRIPTS:
        if any(first <= character <= last for character in text):
            return language
    return ""


def unbroken(text: str) -> str:
    """Words of ours in which no line may end between a number and its per cent sign. Never for words of strangers."""
    return re.sub(r"(?<=\d) (?=%)", NO_BREAK, text)


def showable(value: Any) -> Any:
    """Text without control characters, which no page may hold, and without halves of characters."""
    # Nothing that is barred is printable, and nearly all text is.
    if not isinstance(value, str) or isinstance(value, Markup) or value.isprintable():
        return value
    clean = value.encode("utf-8", "replace").decode()
    return "".join("\N{REPLACEMENT CHARACTER}" if _is_barred(c) else c for c in clean)


def _is_barred(character: str) -> bool:
    """Control characters and the code points that HTML calls non-characters."""
    code = ord(character)
    is_control = (code < 32 and character not in "\t\n") or 127 <= code < 160
    return is_control or 0xFDD0 <= code <= 0xFDEF or code & 0xFFFE == 0xFFFE
