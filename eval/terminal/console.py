"""Consoles, colours and signs, with what is left of them on a dumb, colourless or non-UTF-8 terminal."""

from __future__ import annotations

import errno
import os
import sys
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TextIO

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions
from rich.text import Text
from rich.theme import Theme

PIPE_WIDTH = 120
NAMED = {"accent": "cyan", "ok": "green", "warn": "yellow", "bad": "red", "dim": "dim"}
HEX = {"accent": "#6cc3dc", "ok": "#6fc79b", "warn": "#e3ad57", "bad": "#f2917f", "dim": "#929da6"}
LIGHT_BACKGROUNDS = ("7", "15")
# Rows of the tables refer to styles by role; `value` and `title` carry weight only.
WEIGHTS = {"value": "bold", "title": "bold"}


@dataclass(frozen=True)
class Signs:
    """The signs of one encoding. Each is one cell wide."""

    done: str = "━"
    left: str = "─"
    rule: str = "─"
    track: str = "·"
    floor: str = "┊"
    line: str = "─"
    disc: str = "●"
    ring: str = "○"
    half: str = "◐"
    barred: str = "~"
    cross: str = "✕"
    caution: str = "!"


UTF8 = Signs()
ASCII = Signs("=", "-", "-", ".", "|", "-", "*", "o", "%", "~", "x", "!")
SPELT = {"−": "-", "–": "-", "×": "x", "…": "...", "·": ".", "“": '"', "”": '"', "‘": "'", "’": "'", "→": "->"}


class _PipeConsole(Console):
    """rich ends the program with 1 when the reader has gone; the door has an exit code of its own for that."""

    def on_broken_pipe(self) -> None:
        self.quiet = True
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))


def make_console(
    file: TextIO | None = None, *, stderr: bool = False, environ: Mapping[str, str] | None = None
) -> Console:
    """A console on stdout (the answer) or stderr (progress), with the colours that its terminal can show.

    NO_COLOR and a dumb terminal are respected by rich. The hex colours are for dark grounds: where `COLORFGBG` or
    `COGEVAL_BACKGROUND=light` tells of a light one, the sixteen named colours are used, which every theme adapts.
    """
    environ = os.environ if environ is None else environ
    stream = file or (sys.stderr if stderr else sys.stdout)
    probe = Console(file=stream, _environ=environ)
    has_hex = probe.color_system in ("truecolor", "256") and not is_light(environ)
    colours = HEX if has_hex else NAMED
    roles = colours | WEIGHTS | {"leading": f"bold {colours['accent']}"}
    styles = {f"cogeval.{role}": style for role, style in roles.items()}
    width = None if probe.is_terminal or environ.get("COLUMNS") else PIPE_WIDTH
    return _PipeConsole(
        file=stream,
        width=width,
        theme=Theme(styles, inherit=False),
        highlight=False,
        markup=False,
        emoji=False,
        soft_wrap=False,
        _environ=environ,
    )


def is_light(environ: Mapping[str, str]) -> bool:
    """True if the environment says that the ground is light; most terminals say nothing, and are dark."""
    told = environ.get("COGEVAL_BACKGROUND", "").strip().lower()
    if told in ("light", "dark"):
        return told == "light"
    return environ.get("COLORFGBG", "").rpartition(";")[2] in LIGHT_BACKGROUNDS


def signs_for(encoding: str | None) -> Signs:
    """The full set if the encoding has every sign, else the ASCII one."""
    try:
        "".join(vars(UTF8).values()).encode(encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return ASCII
    return UTF8


def writable(text: str, encoding: str | None) -> str:
    """The text as that terminal can show it, on one line.

    Control and direction-changing characters (names and prompts come from strangers) become a visible sign, so that
    none moves the cursor, colours the screen or hides a file's ending.
    """
    shown = "".join(" " if c in "\t\r\n" else "\N{REPLACEMENT CHARACTER}" if _is_unsafe(c) else c for c in text)
    try:
        shown.encode(encoding or "ascii")
        return shown
    except (UnicodeEncodeError, LookupError):
        shown = shown.replace(" – ", " to ").replace("\N{REPLACEMENT CHARACTER}", "?")
        for sign, spelt in SPELT.items():
            shown = shown.replace(sign, spelt)
        return shown.encode("ascii", "replace").decode()


def _is_unsafe(character: str) -> bool:
    return (
        unicodedata.category(character) in ("Cc", "Cs")
        or character in "\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
    )


class Line:
    """One line in pieces of one style each, kept inside a width; the pieces are made writable on the way in."""

    def __init__(self, encoding: str | None) -> None:
        self.encoding = encoding
        self.text = Text(no_wrap=True, overflow="crop")

    def add(self, text: str, role: str = "", *, width: int = 0, right: bool = False) -> Line:
        """Append; padded to `width` cells on the left (numbers) or the right (words)."""
        shown = writable(text, self.encoding)
        pad = " " * max(0, width - cell_len(shown))
        style = f"cogeval.{role}" if role else ""
        if right:
            self.text.append(pad)
        self.text.append(shown, style)
        if pad and not right:
            self.text.append(pad)
        return self

    def fit(self, width: int) -> Text:
        """Cut at `width` cells, so that no terminal wraps it."""
        self.text.rstrip()
        if cell_len(self.text.plain) > width:
            cut = self.text.copy()
            cut.truncate(max(1, width - 3), overflow="crop")
            cut.append("..." if signs_for(self.encoding) is ASCII else "…")
            return cut
        return self.text


def encoding_of(console: Console, options: ConsoleOptions) -> str:
    """What the console's file is written in."""
    return options.encoding or console.encoding


def wrapped(text: str, first: Text, indent: int, width: int, encoding: str | None, role: str = "") -> list[Text]:
    """A sentence after the sign `first`, broken at spaces, later lines under the sentence and not under the sign."""
    words = writable(text, encoding).split(" ")
    lines, current = [], first.copy()
    for word in words:
        gap = "" if cell_len(current.plain) <= indent or current.plain.endswith(" ") else " "
        if gap and cell_len(current.plain) + 1 + cell_len(word) > width:
            lines.append(current)
            current, gap = Text(" " * indent), ""
        current.append(gap + word, f"cogeval.{role}" if role else "")
    return [*lines, current]
