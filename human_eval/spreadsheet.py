"""Text for the cells of CSV files that no spreadsheet takes for a formula, whatever it takes for a separator."""

from __future__ import annotations

import re

# What starts a formula, also in full width; a spreadsheet drops blanks and quotation marks in front of it.
STARTS = "=+\\-@＝＋－＠"
DROPPED = ' "\u200b\ufeff\xa0'
CONTROLS = ("\t", "\r", "\n")
_AT_START = re.compile(rf"[{DROPPED}]*[{STARTS}]")
# A file with commas is also opened by spreadsheets that part cells at semicolons or tabs, in the middle of a text.
_AFTER_SEPARATOR = re.compile(rf"([;,|\t\r\n][{DROPPED}]*)(?=[{STARTS}])")


def harmless(text: str) -> str:
    """The text with an apostrophe in front of whatever a spreadsheet would run as a formula."""
    text = _AFTER_SEPARATOR.sub(r"\1'", text)
    return f"'{text}" if text.startswith(CONTROLS) or _AT_START.match(text) else text
