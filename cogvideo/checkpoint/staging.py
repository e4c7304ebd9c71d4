"""A folder that appears whole or not at all: filled under another name beside its place, then renamed."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from cogvideo.checkpoint.cards import CARD_NAME, PIPELINE_CARD_NAME
from cogvideo.checkpoint.memory import readable_bytes
from cogvideo.errors import UserError


@contextmanager
def staged(destination: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """A new folder to fill; it becomes `destination` when the block ends well and vanishes when it does not.

    What a killed process has left is cleared by the next one. `overwrite` replaces a folder that we have written, and
    nothing else. Raises UserError if `destination` is there otherwise, or if another process is filling it.
    """
    require_free(destination, overwrite=overwrite)
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make {destination.parent}: {error.strerror or error}; choose another place") from None
    place = destination.with_name(f".{destination.name}.unfinished")
    lock = FileLock(destination.with_name(f".{destination.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise UserError(f"another process is writing {destination}; wait for it, or choose another place") from None
    try:
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        yield place
        _put(place, destination)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise UserError(f"no space left for {destination}: free some or choose another disk") from None
        raise
    finally:
        shutil.rmtree(place, ignore_errors=True)
        with suppress(OSError):
            Path(lock.lock_file).unlink()
        lock.release()


def require_free(destination: Path, *, overwrite: bool = False) -> None:
    """Raise UserError if something is at `destination` that may not be replaced."""
    if not destination.exists() and not destination.is_symlink():
        return
    is_ours = destination.is_dir() and any((destination / name).is_file() for name in (CARD_NAME, PIPELINE_CARD_NAME))
    if overwrite and (is_ours or (destination.is_dir() and not any(destination.iterdir()))):
        return
    if overwrite:
        raise UserError(f"{destination} is no folder of converted weights, so --overwrite does not remove it")
    raise UserError(f"{destination} is there already; give --overwrite to replace it, or another place")


def require_disk(needed_bytes: int, folder: Path, what: str) -> None:
    """Raise UserError, before work starts, if the disk of `folder` (or its nearest parent) has too little room."""
    there = next(place for place in (folder, *folder.absolute().parents) if place.is_dir())
    free = shutil.disk_usage(there).free
    if needed_bytes > free:
        raise UserError(
            f"not enough room for {what}: {readable_bytes(needed_bytes)} are needed, {readable_bytes(free)} are free "
            f"in {there}; free some or choose another disk"
        )


def _put(place: Path, destination: Path) -> None:
    """Give the filled folder its name; an old one goes out of the way first and comes back if that fails."""
    if not destination.exists():
        place.rename(destination)
        return
    old = destination.with_name(f".{destination.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    destination.rename(old)
    try:
        place.rename(destination)
    except OSError:
        old.rename(destination)
        raise
    shutil.rmtree(old, ignore_errors=True)
