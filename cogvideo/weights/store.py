"""The files of a catalogue on this machine: found, fetched, added, and checked against their hash.

Beside each file lies `pin.json`: its sha256, size and date. A hash that is publicly known must be met; any other is
pinned at the first use and must be met from then on. Nothing is unpickled here: paths are handed out.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from filelock import FileLock, Timeout

from cogvideo.errors import MissingPrerequisite, UserError
from cogvideo.weights.catalogue import WeightEntry, unknown_name
from cogvideo.weights.download import (
    FULL_DISK,
    DiskFullError,
    DownloadError,
    Patience,
    Progress,
    download,
    is_allowed,
    part_of,
    remove_part,
)
from cogvideo.weights.pins import Origin, Pin, file_sha256, read_pin, why_no_weights, write_pin
from cogvideo.weights.places import cache_home, hugging_face_hub, is_offline, torch_checkpoints

State = Literal["absent", "partial", "present", "damaged"]


@dataclass(frozen=True)
class WeightFile:
    """A file that is there and whose hash was met. `is_verified`: the hash is publicly known, not only pinned here.

    `origin`: "fetched" by us, "added" by the user, "found" in the cache of PyTorch or Hugging Face, or "embedded" in
    the package.
    """

    name: str
    path: Path
    sha256: str
    origin: Origin
    is_verified: bool
    licence: str


@dataclass(frozen=True)
class WeightStatus:
    """What `weights list` shows. `hash_state`: "verified" (met a public hash), "pinned" (met the first one seen),
    "known" (public, file absent), "unknown" (will be pinned at the first use), "wrong"."""

    name: str
    state: State
    hash_state: Literal["verified", "pinned", "known", "unknown", "wrong"]
    path: Path | None
    size_bytes: int | None
    sha256: str
    detail: str = ""


class WeightStore:
    """Weights by name, under `home` (default `cache_home()`). `offline` None asks `COGEVAL_OFFLINE`.

    `notify` is told what a person should know while something long runs: one line each.
    """

    def __init__(
        self,
        catalogue: Mapping[str, WeightEntry],
        home: Path | None = None,
        offline: bool | None = None,
        notify: Callable[[str], None] | None = None,
        patience: Patience | None = None,
    ) -> None:
        self.catalogue = catalogue
        self.home = home or cache_home()
        self.offline = is_offline() if offline is None else offline
        self.notify = notify or (lambda line: None)
        self.patience = patience or Patience()

    def entry(self, name: str) -> WeightEntry:
        """The catalogue's entry. Raises UserError with near names for an unknown one."""
        if name not in self.catalogue:
            raise unknown_name(name, sorted(self.catalogue))
        return self.catalogue[name]

    def folder(self, name: str) -> Path:
        return self.home / "weights" / name

    def get(self, name: str) -> WeightFile:
        """The file, fetching nothing. Hashes only what changed in size or time since the last look.

        Raises MissingPrerequisite with the command that mends it if the file is absent, UserError if its hash is wrong.
        """
        return self._checked(self.entry(name), is_full=False)

    def verify(self, name: str) -> WeightFile:
        """As `get`, but every byte is hashed again."""
        return self._checked(self.entry(name), is_full=True)

    def status(self, name: str) -> WeightStatus:
        """What is here, never raising for an absent or damaged file."""
        entry = self.entry(name)
        before: Literal["known", "unknown"] = "known" if entry.sha256 else "unknown"
        try:
            file = self.get(name)
        except MissingPrerequisite as error:
            part = part_of(self.folder(name) / entry.file)
            state: State = "partial" if part.exists() else "absent"
            size = part.stat().st_size if part.exists() else entry.size_bytes
            return WeightStatus(name, state, before, None, size, entry.sha256, str(error))
        except UserError as error:
            found = self._find(entry)
            path = found[0] if found else None
            return WeightStatus(name, "damaged", "wrong", path, entry.size_bytes, entry.sha256, str(error))
        size = file.path.stat().st_size
        return WeightStatus(name, "present", "verified" if file.is_verified else "pinned", file.path, size, file.sha256)

    def fetch(
        self, name: str, progress: Progress | None = None, *, url: str = "", is_repinned: bool = False
    ) -> WeightFile:
        """The file, downloaded if it is not here (or is damaged), resumed if a part of it is.

        `url`, else `COGEVAL_WEIGHTS_URL_<NAME>`, names a mirror; the hash is checked all the same. `is_repinned`
        forgets a hash that was pinned here before; a public one cannot be forgotten.
        Raises MissingPrerequisite if it cannot be had now (offline, no answer), UserError for a wrong hash, an address
        that is not https, or a full disk.
        """
        entry = self.entry(name)
        if present := self._present(entry, is_repinned):
            return present
        variable = f"COGEVAL_WEIGHTS_URL_{name.upper().replace('-', '_')}"
        mirror = url or os.environ.get(variable, "")
        address = mirror or entry.url
        if self.offline:
            raise MissingPrerequisite(
                f"{name} is not here and offline mode forbids fetching it: get {address or entry.source} on another "
                f"machine and run `cogeval weights add {name} FILE`"
            )
        if mirror and not is_allowed(mirror):
            raise UserError(
                f"{name}: expected an https address, got {mirror}; for a file that is already here run "
                f"`cogeval weights add {name} FILE`"
            )
        with self._locked(name):
            if present := self._present(entry, is_repinned):
                return present
            if entry.open_clip and not mirror:
                return self._fetch_with_open_clip(entry)
            part = part_of(self.folder(name) / entry.file)
            try:
                download(address, part, is_guarded=bool(entry.sha256), patience=self.patience, progress=progress)
            except DiskFullError as error:
                raise UserError(f"cannot fetch {name}: {error}") from None
            except DownloadError as error:
                raise MissingPrerequisite(
                    f"cannot fetch {name}: {error}; or get it another way and run `cogeval weights add {name} FILE`"
                ) from None
            return self._accept(entry, part, "fetched", address, is_repinned=is_repinned)

    def add(self, name: str, file: Path) -> WeightFile:
        """Copy a file that the user has into the store; a public hash must be met, any other is pinned anew.

        Raises UserError for a wrong hash, an unreadable, empty or HTML file, or a full disk; nothing is changed then.
        """
        entry = self.entry(name)
        if not file.is_file():
            raise UserError(f"{name}: expected a file, {file} is {'a folder' if file.is_dir() else 'not there'}")
        with _readable(file):
            file.open("rb").close()
        folder = self.folder(name)
        with self._locked(name):
            copy = folder / f"{entry.file}.adding"
            try:
                with _writable(folder):
                    shutil.copyfile(file, copy)
                return self._accept(entry, copy, "added", str(file.absolute()), is_repinned=True)
            finally:
                copy.unlink(missing_ok=True)

    def _present(self, entry: WeightEntry, is_repinned: bool) -> WeightFile | None:
        """The file if it is here and good; a damaged one will be fetched anew."""
        if is_repinned:
            return None
        try:
            return self._checked(entry, is_full=False)
        except UserError:
            return None

    def _checked(self, entry: WeightEntry, is_full: bool) -> WeightFile:
        found = self._find(entry)
        if found is None:
            raise self._missing(entry)
        path, pin, origin = found
        with _readable(path):
            is_fresh = pin is not None and pin.is_of(path)
            sha256 = pin.sha256 if pin and is_fresh and not is_full else file_sha256(path)
        expected = entry.sha256 or (pin.sha256 if pin else "")
        if not expected:
            raise MissingPrerequisite(
                f"{path} lies there without a pin and its public hash is not known: run "
                f"`cogeval weights add {entry.name} {path}` to accept it as it is"
            )
        if sha256 != expected:
            who = "published" if entry.sha256 else f"pinned on {pin.date[:10] if pin else ''}"
            raise UserError(
                f"{entry.name}: {path} has sha256 {sha256}, {who} is {expected}; run `cogeval weights fetch "
                f"{entry.name}` to get it anew or `cogeval weights add {entry.name} FILE` to give another"
            )
        if not is_fresh:
            with suppress(OSError):  # a cache that cannot be written only costs time
                date = pin.date if pin else ""
                write_pin(self.folder(entry.name), path, sha256, origin, pin.url if pin else str(path), date=date)
        return WeightFile(entry.name, path, sha256, origin, sha256 == entry.sha256, entry.licence)

    def _find(self, entry: WeightEntry) -> tuple[Path, Pin | None, Origin] | None:
        """Where the file is: in our folder, where the pin says, or in the cache of a peer."""
        own, pin = self.folder(entry.name) / entry.file, read_pin(self.folder(entry.name))
        if own.is_file():
            return own, pin if pin and not pin.path else None, pin.origin if pin and not pin.path else "added"
        if pin and pin.path and Path(pin.path).is_file():
            return Path(pin.path), pin, pin.origin
        if not entry.sha256:
            return None
        for path in _peers(entry):
            with suppress(OSError):
                if file_sha256(path) == entry.sha256:
                    return path, None, "found"
        return None

    def _missing(self, entry: WeightEntry) -> MissingPrerequisite:
        size = f"{entry.size_bytes:,} bytes" if entry.size_bytes else "size not known"
        purpose = f" ({entry.purpose})" if entry.purpose else ""
        part = part_of(self.folder(entry.name) / entry.file)
        begun = f", {part.stat().st_size:,} bytes are here already" if part.exists() else ""
        return MissingPrerequisite(
            f"{entry.name}{purpose} is not on this machine: run `cogeval weights fetch {entry.name}` ({entry.source}, "
            f"{size}{begun}) or `cogeval weights add {entry.name} FILE`"
        )

    def _accept(self, entry: WeightEntry, part: Path, origin: Origin, url: str, *, is_repinned: bool) -> WeightFile:
        """Make a complete temporary file the file itself, if its hash is right; else remove it."""
        target, pin = self.folder(entry.name) / entry.file, read_pin(self.folder(entry.name))
        trouble = why_no_weights(part)
        sha256 = file_sha256(part)
        expected = entry.sha256 or (pin.sha256 if pin and not is_repinned else "")
        if not trouble and expected and sha256 != expected:
            who = "published" if entry.sha256 else f"pinned on {pin.date[:10] if pin else ''}"
            trouble = f"has sha256 {sha256}, {who} is {expected}"
            if not entry.sha256:
                trouble += "; if its owner changed it, `cogeval weights fetch --repin` accepts the new one"
        if trouble:
            remove_part(part)
            raise UserError(f"{entry.name}: what came from {url} {trouble}; it was removed")
        # The pin goes first: a kill in between leaves a pin and a whole part, which the next fetch puts together.
        with _writable(target.parent):
            write_pin(target.parent, part, sha256, origin, url, is_own=True)
            part.replace(target)
        remove_part(part)
        return WeightFile(entry.name, target, sha256, origin, sha256 == entry.sha256, entry.licence)

    def _fetch_with_open_clip(self, entry: WeightEntry) -> WeightFile:
        """open_clip's own downloader, into HF_HOME if that is set, else our home; the file stays where it put it."""
        from open_clip import pretrained  # loads torch: only here

        model, tag = entry.open_clip or ("", "")
        has_own_place = os.environ.get("HF_HOME") or os.environ.get("HF_HUB_CACHE")
        place = None if has_own_place else str(self.home / "open_clip")
        try:
            path = Path(pretrained.download_pretrained(pretrained.get_pretrained_cfg(model, tag), cache_dir=place))
        except (OSError, RuntimeError) as error:
            reason = " ".join(str(error).split())
            raise MissingPrerequisite(
                f"cannot fetch {entry.name}: open_clip says {reason[:300]}; run the same again, or get the file "
                f"{entry.file} of {entry.hf_repo or entry.source} and run `cogeval weights add {entry.name} FILE`"
            ) from None
        sha256, pin = file_sha256(path), read_pin(self.folder(entry.name))
        expected = entry.sha256 or (pin.sha256 if pin else "")
        if expected and sha256 != expected:
            raise UserError(f"{entry.name}: {path}, fetched by open_clip, has sha256 {sha256}, expected {expected}")
        write_pin(self.folder(entry.name), path, sha256, "fetched", entry.source)
        return WeightFile(entry.name, path, sha256, "fetched", sha256 == entry.sha256, entry.licence)

    @contextmanager
    def _locked(self, name: str) -> Iterator[None]:
        """One process at a time for one name; a killed one's lock vanishes with it."""
        with _writable(self.folder(name)):
            self.folder(name).mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.folder(name) / ".lock")
            try:
                lock.acquire(timeout=0)
            except Timeout:
                self.notify(f"another process is fetching {name}; waiting for it")
                lock.acquire(poll_interval=0.2)
        try:
            yield
        finally:
            lock.release()


def _peers(entry: WeightEntry) -> Iterator[Path]:
    """Where PyTorch or Hugging Face may have put the same file, the likely size first checked."""
    places = [torch_checkpoints() / entry.file]
    if entry.hf_repo:
        snapshots = hugging_face_hub() / f"models--{entry.hf_repo.replace('/', '--')}" / "snapshots"
        places += sorted(snapshots.glob(f"*/{entry.file}"))
    for path in places:
        if path.is_file() and entry.size_bytes in (None, path.stat().st_size):
            yield path


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except PermissionError:
        raise UserError(f"cannot read {path}: permission denied") from None


@contextmanager
def _writable(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        is_full = error.errno in FULL_DISK
        why = "the disk is full" if is_full else f"cannot write to {folder} ({error.strerror or error})"
        raise UserError(f"{why}: free space in {folder} or set COGEVAL_HOME to another folder") from None
