"""Text files that people bring: UTF-8 with or without a byte order mark, LF or CR LF, errors with their line."""

from __future__ import annotations

from pathlib import Path

from cogvideo.errors import UserError


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
