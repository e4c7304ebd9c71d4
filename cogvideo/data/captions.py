"""What is said of a video that only has a class: the class as a phrase, or a file of captions."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path

from cogvideo.data.tables import read_rows, text_cell
from cogvideo.errors import UserError
from cogvideo.tokenizer import SHAPES_WORDS

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|[^\W\d_A-Za-z]+")


def class_phrase(name: str) -> str:
    """`ApplyEyeMakeup` as "apply eye makeup"; of the drawn shapes, `RedSquareGrowing` as "a red square growing".

    Names that hold blanks are phrases already.
    """
    if " " in name.strip():
        return " ".join(name.split())
    words = [word.lower() for word in _WORD.findall(name)]
    if len(words) > 2 and words[0] != "a" and set(words) <= set(SHAPES_WORDS):
        words.insert(0, "a")
    return " ".join(words)


def read_captions(path: Path, classes: Collection[str], files: Collection[str]) -> dict[str, str]:
    """{class or file: caption} of a table with the columns `class` or `file`, and `caption`.

    `classes` and `files` (relative paths) are those of the folder. Raises UserError, with the line, for a name that the
    folder does not have, for one that is there twice, and for a class that has no caption where classes are captioned.
    """
    found: dict[str, str] = {}
    for line, row in read_rows(path):
        column = next((name for name in ("file", "class") if name in row), None)
        if column is None or "caption" not in row:
            raise UserError(
                f"{path} line {line}: expected the columns caption and class, or caption and file, got {', '.join(row)}"
            )
        name, caption = text_cell(path, line, row, column), text_cell(path, line, row, "caption")
        if name not in (files if column == "file" else classes):
            there = sorted(files if column == "file" else classes)
            what = "video" if column == "file" else "class"
            raise UserError(
                f"{path} line {line}: the folder has no {what} {name!r}; it has {len(there):,}, e.g. "
                f"{', '.join(there[:2]) or 'none'}"
            )
        if name in found:
            raise UserError(f"{path} line {line}: {name!r} already has the caption {found[name]!r}")
        found[name] = caption
    if not found:
        raise UserError(f"{path} holds no caption")
    return found
