"""What is remembered beside a weight file, and what its bytes tell without being loaded.

`pin.json` holds the hash that the file had when it was first seen, and the size and time that go with it.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

Origin = Literal["fetched", "added", "found", "embedded"]


@dataclass(frozen=True)
class Pin:
    """The hash of a file and what tells cheaply that it is unchanged. `path` is "" for a file beside its pin."""

    sha256: str
    size: int
    mtime_ns: int
    origin: Origin
    url: str
    date: str
    path: str = ""

    def is_of(self, path: Path) -> bool:
        """Whether size and time are as they were when the hash was taken."""
        found = path.stat()
        return (found.st_size, found.st_mtime_ns) == (self.size, self.mtime_ns)


def read_pin(folder: Path) -> Pin | None:
    """The pin of a folder; None if there is none, or a damaged one (then only a public hash can vouch for the file)."""
    try:
        return Pin(**json.loads((folder / "pin.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def write_pin(
    folder: Path, file: Path, sha256: str, origin: Origin, url: str, *, date: str = "", is_own: bool = False
) -> None:
    """Pin `file` in `folder`, written whole. `is_own`: it will lie in that folder, whatever it is called now.

    `date` keeps the day of an earlier pin of the same bytes. Raises OSError if it cannot be written.
    """
    found = file.stat()
    where = "" if is_own or file.parent == folder else str(file)
    when = date or datetime.now(UTC).isoformat(timespec="seconds")
    pin = Pin(sha256, found.st_size, found.st_mtime_ns, origin, url, when, where)
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f".pin.{os.getpid()}.tmp"
    try:
        temporary.write_text(json.dumps(asdict(pin), indent=1) + "\n", encoding="utf-8")
        temporary.replace(folder / "pin.json")
    finally:
        temporary.unlink(missing_ok=True)


def file_sha256(path: Path) -> str:
    """Hex digits of the SHA-256 of the file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def why_no_weights(path: Path) -> str:
    """Why these bytes cannot be weights, or "": a log-in page pinned at the first use would be trusted for ever."""
    with path.open("rb") as file:
        head = file.read(512).lstrip().lower()
    if not head:
        return "is empty"
    return "is a web page, not weights" if head.startswith((b"<!doctype", b"<html", b"<?xml")) else ""
