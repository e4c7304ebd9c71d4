"""Unpacks the archives that the networks are offered as: the files of a released folder, and nothing else."""

from __future__ import annotations

import lzma
import stat
import zipfile
import zlib
from pathlib import Path, PurePosixPath, PureWindowsPath

from cogvideo.checkpoint.native import CHUNK_BYTES, Advance
from cogvideo.checkpoint.released import LATEST, RANK_FILE, SETTINGS
from cogvideo.errors import UserError


def unpacked_bytes(archive: Path) -> int:
    """Bytes of the files that `unpack` would write. Raises UserError as it does."""
    with _opened(archive) as opened:
        return sum(member.file_size for member in _members(opened, archive))


def unpack(archive: Path, folder: Path, advance: Advance | None = None) -> Path:
    """Write the released folder of an archive below `folder`; the folder that holds `latest`.

    Every checksum of the archive is met. Raises UserError if it is damaged, cut short, encrypted, has names that lead
    out of the folder or links, or holds no released checkpoint or several.
    """
    with _opened(archive) as opened:
        members = _members(opened, archive)
        tops = sorted({PurePosixPath(member.filename).parent for member in members if _name(member) == LATEST})
        if len(tops) != 1:
            held = ", ".join(map(str, tops)) if tops else f"no file `{LATEST}`"
            raise UserError(f"{archive} has to hold one released checkpoint, it holds {held}")
        try:
            for member in members:
                _write(opened, member, folder / PurePosixPath(member.filename), advance)
        except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, RuntimeError) as error:
            raise UserError(f"{archive} is damaged ({error}); fetch it again") from None
    return folder / tops[0]


def _opened(archive: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(archive)
    except (zipfile.BadZipFile, ValueError, EOFError):
        raise UserError(f"{archive} is no zip archive, or it is cut short; fetch it again") from None
    except OSError as error:
        raise UserError(f"cannot read {archive}: {error.strerror or error}") from None


def _members(opened: zipfile.ZipFile, archive: Path) -> list[zipfile.ZipInfo]:
    """The entries that a released folder has. An archive with a single bad name is refused as a whole."""
    for member in opened.infolist():
        path = PurePosixPath(member.filename)
        windows = PureWindowsPath(member.filename)
        is_link = stat.S_ISLNK(member.external_attr >> 16)
        is_rooted = path.is_absolute() or windows.drive or windows.root
        if is_link or is_rooted or ".." in (*path.parts, *windows.parts):
            raise UserError(f"{archive} has an entry that leads out of it, {member.filename!r}: do not trust this file")
    members = [member for member in opened.infolist() if not member.is_dir() and _is_wanted(_name(member))]
    if any(member.flag_bits & 1 for member in members):
        raise UserError(f"{archive} is encrypted; unpack it yourself and give the folder")
    return members


def _is_wanted(name: str) -> bool:
    return name in (LATEST, SETTINGS) or bool(RANK_FILE.fullmatch(name))


def _name(member: zipfile.ZipInfo) -> str:
    return PurePosixPath(member.filename).name


def _write(opened: zipfile.ZipFile, member: zipfile.ZipInfo, target: Path, advance: Advance | None) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with opened.open(member) as source, target.open("wb") as file:
        while piece := source.read(CHUNK_BYTES):
            file.write(piece)
            if advance:
                advance(len(piece))
