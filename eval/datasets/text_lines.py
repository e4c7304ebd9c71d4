"""Text files that people bring: UTF-8 with or without a byte order mark, LF or CR LF, errors with their line."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from cogvideo.errors import UserError

# A record of a table: the number of its first line, and its cells by column.
Record = tuple[int, dict[str, Any]]


def read_text(path: Path) -> str:
    """The whole text with LF line ends. Raises UserError, with the line number, if it is not UTF-8."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise UserError(f"{path} line 1: expected UTF-8 text, this file is UTF-16; save it as UTF-8")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UserError(
            f"{path} line {line}: expected UTF-8 text, byte 0x{data[error.start]:02x} is not; save the file as UTF-8"
        ) from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_lines(path: Path) -> list[str]:
    """Lines without their ends or outer blanks; element i is line i + 1. Raises UserError as `read_text` does."""
    return [line.strip() for line in read_text(path).split("\n")]


def csv_records(path: Path, check_columns: Callable[[Path, list[str]], None]) -> Iterator[Record]:
    """The records of a CSV file, or of a TSV file by its suffix; column names in lower case, empty lines left out.

    `check_columns` sees the names first. Raises UserError with file and line for a wrong number of cells, a column
    that stands there twice, or quotes that do not close.
    """
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    reader = csv.reader(io.StringIO(read_text(path)), delimiter=delimiter, strict=True)
    try:
        columns = [name.strip().lower() for name in next(reader, [])]
        check_columns(path, columns)
        if len(set(columns)) != len(columns):
            twice = next(name for name in columns if columns.count(name) > 1)
            raise UserError(f"{path} line 1: column {twice!r} stands there twice")
        before = reader.line_num
        for cells in reader:
            line, before = before + 1, reader.line_num
            if not cells:
                continue
            if len(cells) != len(columns):
                shown = delimiter.join(cells)[:60]
                raise UserError(
                    f"{path} line {line}: expected {len(columns)} columns ({', '.join(columns)}), got {len(cells)}: "
                    f"{shown!r} (a text with a comma must be quoted)"
                )
            yield line, dict(zip(columns, cells, strict=True))
    except csv.Error as error:
        raise UserError(f"{path} line {reader.line_num}: not a line of a CSV file ({error})") from None


def json_records(path: Path) -> Iterator[Record]:
    """The objects of a JSONL file; empty lines are left out. Raises UserError with file and line."""
    for line, text in enumerate(read_lines(path), 1):
        if not text:
            continue
        try:
            record = json.loads(text)
        except ValueError as error:
            raise UserError(f"{path} line {line}: not JSON ({error})") from None
        if not isinstance(record, dict):
            raise UserError(f"{path} line {line}: expected an object such as {{'prompt': '...'}}, got {text[:60]!r}")
        yield line, record
