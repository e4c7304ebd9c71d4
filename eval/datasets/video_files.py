"""What lies in a folder of videos: one quick walk, names that compare, an order that people expect."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from cogvideo.errors import UserError

VIDEO_SUFFIXES = frozenset({".avi", ".gif", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm"})


class FoundVideo(NamedTuple):
    """A video by its path below the folder that was walked, with `/` on every system. A dead link has -1 bytes."""

    relative: str
    path: str
    n_bytes: int

    @property
    def folder(self) -> str:
        return self.relative.rpartition("/")[0]

    @property
    def stem(self) -> str:
        return stem_of(self.relative)


def stem_of(relative: str) -> str:
    """A file's name without folders and suffix; pathlib is too slow for large sets."""
    return relative.rpartition("/")[2].rpartition(".")[0]


def scan_videos(folder: Path, *, depth: int, with_bytes: bool = True) -> list[FoundVideo]:
    """Every video at most `depth` folders down, in sorted order; hidden names are passed over.

    Without `with_bytes` no file is looked at, only names, and `n_bytes` is -2. Raises UserError if `folder` is not a
    folder that can be read.
    """
    require_folder(folder)
    found = list(_walk(str(folder), "", depth, with_bytes))
    found.sort(key=lambda video: video.relative)
    return found


def require_folder(folder: Path) -> None:
    """Raise UserError with one line unless `folder` is a folder that can be listed."""
    if not folder.exists():
        raise UserError(f"no such folder: {folder}")
    if not folder.is_dir():
        raise UserError(f"expected a folder, got a file: {folder}")
    if not os.access(folder, os.R_OK | os.X_OK):
        raise UserError(f"the folder {folder} cannot be read: permission denied")


def _walk(folder: str, prefix: str, depth: int, with_bytes: bool) -> Iterator[FoundVideo]:
    try:
        entries = os.scandir(folder)
    except OSError as error:
        raise UserError(f"the folder {folder} cannot be read: {error.strerror}") from None
    with entries:
        for entry in entries:
            name = entry.name
            if name.startswith("."):  # also macOS's ._ shadows, which end in .avi and hold no video
                continue
            if os.path.splitext(name)[1].lower() in VIDEO_SUFFIXES and not entry.is_dir():  # noqa: PTH122 - hot loop
                yield FoundVideo(prefix + name, entry.path, _bytes_of(entry) if with_bytes else -2)
            elif depth > 0 and entry.is_dir():
                yield from _walk(entry.path, f"{prefix}{name}/", depth - 1, with_bytes)


def _bytes_of(entry: os.DirEntry[str]) -> int:
    try:
        return entry.stat().st_size
    except OSError:
        return -1


def why_broken(n_bytes: int) -> str:
    """What the size alone tells: the reason in words, or "" if nothing is wrong."""
    if n_bytes == 0:
        return "zero bytes"
    return "link to a file that is not there" if n_bytes == -1 else ""


def plain(text: str) -> str:
    """A name reduced to what tells names apart: case, blanks and punctuation are dropped."""
    composed = unicodedata.normalize("NFC", text)  # macOS writes file names decomposed
    return "".join(letter for letter in composed.casefold() if letter.isalnum())


def natural_key(text: str) -> tuple[tuple[int, int, str], ...]:
    """Sort key that puts clip_2 before clip_10, and is total (no two texts share a key)."""
    parts = re.split(r"(\d+)", text)
    numbers = tuple((1, int(p), p) if p.isdecimal() else (0, 0, p) for p in parts)
    return (*numbers, (-1, 0, text))


def folder_listing(folder: Path, *, most: int = 3) -> str:
    """What a folder holds, in a few words for an error message."""
    with os.scandir(folder) as entries:
        seen = sorted((entry.name, entry.is_dir()) for entry in entries if not entry.name.startswith("."))
    folders = [f"{name}/" for name, is_folder in seen if is_folder]
    files = [name for name, is_folder in seen if not is_folder]
    if not seen:
        return "nothing"
    said = [_few(names, kind, most) for names, kind in ((folders, "folder"), (files, "file")) if names]
    return " and ".join(said)


def _few(names: list[str], kind: str, most: int) -> str:
    shown = ", ".join(names[:most]) + (", ..." if len(names) > most else "")
    return f"{len(names)} {kind}{'s' if len(names) != 1 else ''} ({shown})"


def name_some(names: Iterable[str], *, most: int = 3) -> str:
    """The first few names and how many there are besides."""
    listed = list(names)
    rest = len(listed) - most
    return ", ".join(listed[:most]) + (f" and {rest:,} more" if rest > 0 else "")
