"""CSV, TSV and JSONL files that people bring: rows with the line that they began in."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cogvideo.errors import UserError

Row = tuple[int, dict[str, Any]]

TABLE_SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson")


def read_rows(path: Path) -> Iterator[Row]:
    """(line, cells by column in lower case) of a table. Raises UserError with file and line for what is none."""
    if path.suffix.lower() in (".jsonl", ".ndjson"):
        return _json_rows(path)
    if path.suffix.lower() in (".csv", ".tsv"):
        return _csv_rows(path)
    raise UserError(f"{path}: expected a table ({', '.join(TABLE_SUFFIXES)}), got {path.suffix or 'no suffix'}")


def read_columns(path: Path) -> list[str]:
    """The names in the first line of a CSV or TSV file, in lower case."""
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        return [name.strip().strip('"').lower() for name in file.readline().split(_delimiter(path))]


def text_of(path: Path) -> str:
    """The whole text. Raises UserError if the file cannot be read or is not UTF-8."""
    try:
        return path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise UserError(f"{path} line {line}: expected UTF-8 text; save the file as UTF-8") from None


def text_cell(path: Path, line: int, row: dict[str, Any], column: str) -> str:
    """A cell that must hold text. Raises UserError if it is absent or empty."""
    value = row.get(column)
    if not isinstance(value, str) or not value.strip():
        got = "nothing" if value in (None, "") else repr(value)[:40]
        raise UserError(f"{path} line {line}: expected text in the column {column!r}, got {got}")
    return " ".join(value.split()) if column == "caption" else value.strip()


def seconds_cell(path: Path, line: int, row: dict[str, Any], column: str) -> float | None:
    """A cell with seconds, None if it is absent or empty. Raises UserError for anything that is no time."""
    value = row.get(column)
    if value in (None, ""):
        return None
    try:
        seconds = float(value)
        if not 0 <= seconds < float("inf"):
            raise ValueError
    except (TypeError, ValueError):
        raise UserError(f"{path} line {line}: expected seconds in the column {column!r}, got {value!r}") from None
    return seconds


def _csv_rows(path: Path) -> Iterator[Row]:
    reader = csv.reader(io.StringIO(text_of(path), newline=""), delimiter=_delimiter(path), strict=True)
    try:
        columns = [name.strip().lower() for name in next(reader, [])]
        before = reader.line_num
        for cells in reader:
            line, before = before + 1, reader.line_num
            if not cells:
                continue
            if len(cells) != len(columns):
                raise UserError(
                    f"{path} line {line}: expected {len(columns)} columns ({', '.join(columns)}), got {len(cells)}; "
                    "a text with a comma in it must be quoted"
                )
            yield line, dict(zip(columns, cells, strict=True))
    except csv.Error as error:
        raise UserError(f"{path} line {reader.line_num}: not a line of a CSV file ({error})") from None


def _json_rows(path: Path) -> Iterator[Row]:
    for line, text in enumerate(text_of(path).split("\n"), 1):
        if not text.strip():
            continue
        try:
            row = json.loads(text)
        except ValueError as error:
            raise UserError(f"{path} line {line}: not JSON ({error})") from None
        if not isinstance(row, dict):
            raise UserError(f"{path} line {line}: expected an object with file and caption, got {text[:60]!r}")
        yield line, row


def _delimiter(path: Path) -> str:
    return "\t" if path.suffix.lower() == ".tsv" else ","
