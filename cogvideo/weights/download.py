"""One file over HTTP into a `.part` file: resumed where it stopped, retried, never taken for the file itself.

A sidecar `.part.json` remembers the address and the server's version of the file (ETag or Last-Modified); only the
same version is continued. pooch and urllib's own retrieval cannot resume, hence this module.
"""

from __future__ import annotations

import errno
import http.client
import json
import shutil
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from http.cookiejar import CookieJar
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

Progress = Callable[[int, int | None], None]

LOOPBACK = {"localhost", "127.0.0.1", "::1"}
CHUNK_BYTES = 1 << 20
FULL_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
AGAIN_LATER = {408, 425, 429, 500, 502, 503, 504}


class DownloadError(Exception):
    """Why a download ended without the file, in one clause; the `.part` file is kept where it can be resumed."""


class DiskFullError(DownloadError):
    """No room for the file; nothing of it is left behind, so that the disk is no fuller than before."""


@dataclass(frozen=True)
class Patience:
    """Seconds to wait for an answer, tries in a row without progress, and the first pause between them (doubles)."""

    timeout_s: float = 30.0
    attempts: int = 5
    pause_s: float = 1.0


@dataclass(frozen=True)
class Version:
    """What a server says of a file: enough to tell whether a later answer is of the same one."""

    etag: str = ""
    last_modified: str = ""
    size: int | None = None

    def may_be(self, other: Version) -> bool:
        """Whether nothing that both say differs."""
        pairs = ((self.etag, other.etag), (self.last_modified, other.last_modified), (self.size, other.size))
        return all(not ours or not theirs or ours == theirs for ours, theirs in pairs)

    @property
    def validator(self) -> str:
        """The value of If-Range: a strong ETag, else the date, else nothing."""
        return self.etag if self.etag and not self.etag.startswith("W/") else self.last_modified


class _Interrupted(Exception):  # noqa: N818 - a state of one try, not an error of the whole
    """This try failed; another one may succeed."""


def is_allowed(url: str) -> bool:
    """https everywhere, http on this machine only."""
    parts = urlsplit(url)
    return bool(parts.hostname) and (parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in LOOPBACK))


def part_of(target: Path) -> Path:
    return target.with_name(target.name + ".part")


def sidecar_of(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def remove_part(part: Path) -> None:
    part.unlink(missing_ok=True)
    sidecar_of(part).unlink(missing_ok=True)


def download(url: str, part: Path, *, is_guarded: bool, patience: Patience, progress: Progress | None = None) -> None:
    """Bring the whole file of `url` into `part`.

    `is_guarded`: the caller knows the file's sha256, so that a server without ETag and date may be resumed too.
    Raises DownloadError for a refused address, an answer that is no file, a full disk (then `part` is removed),
    or when `patience` is at its end (then `part` stays for the next call).
    """
    if not is_allowed(url):
        raise DownloadError(f"{url} is not an https address (http is for this machine only)")
    part.parent.mkdir(parents=True, exist_ok=True)
    failures, furthest = 0, _size(part)
    while True:
        try:
            _once(url, part, is_guarded, patience.timeout_s, progress)
            return
        except _Interrupted as error:
            size = _size(part)
            failures = 1 if size > furthest else failures + 1
            furthest = max(size, furthest)
            if failures >= patience.attempts:
                kept = f"; {size:,} bytes are kept, the same command goes on from there" if size else ""
                raise DownloadError(f"{url}: {error}{kept}") from None
            time.sleep(patience.pause_s * 2 ** (failures - 1))


def _once(url: str, part: Path, is_guarded: bool, timeout_s: float, progress: Progress | None) -> None:
    """One request. Raises _Interrupted where a new try makes sense, DownloadError where it does not."""
    have, known = _resume_point(url, part, is_guarded)
    if have and have == known.size:
        return
    headers = {"User-Agent": "cogeval", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
        if known.validator:
            headers["If-Range"] = known.validator
    try:
        with _opener(url).open(urllib.request.Request(url, headers=headers), timeout=timeout_s) as answer:  # noqa: S310
            have, version = _reconcile(url, answer, part, have, known)
            _receive(answer, part, have, version, progress)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416:
            remove_part(part)
            raise _Interrupted("the server refused to go on from the middle") from None
        if error.code in AGAIN_LATER:
            raise _Interrupted(f"the server answered {error.code} {error.reason}") from None
        raise DownloadError(f"{url} answered {error.code} {error.reason}") from None
    except urllib.error.URLError as error:
        if isinstance(error.reason, ssl.SSLCertVerificationError):
            raise DownloadError(f"{url}: the certificate is not trusted ({error.reason.verify_message})") from None
        raise _Interrupted(_clause(error.reason, timeout_s)) from None
    except (TimeoutError, ConnectionError, http.client.HTTPException, ssl.SSLError) as error:
        raise _Interrupted(_clause(error, timeout_s)) from None


def _resume_point(url: str, part: Path, is_guarded: bool) -> tuple[int, Version]:
    """How many bytes of which version are here; 0 where they cannot be continued safely."""
    try:
        noted = json.loads(sidecar_of(part).read_text(encoding="utf-8"))
        version = Version(str(noted["etag"]), str(noted["last_modified"]), noted["size"])
        is_same = noted["url"] == url and (version.validator or is_guarded)
    except (OSError, ValueError, KeyError, TypeError):
        return 0, Version()
    size = _size(part)
    is_sane = version.size is None or size <= version.size
    return (size, version) if is_same and is_sane else (0, Version())


def _reconcile(url: str, answer: Any, part: Path, have: int, known: Version) -> tuple[int, Version]:
    """From which byte the answer goes on, and its version; a fresh sidecar is written when it starts at 0."""
    headers = answer.headers
    if headers.get_content_type() == "text/html":
        raise DownloadError(f"{url} answered with a web page instead of the file")
    first, size = 0, _number(headers.get("Content-Length"))
    if answer.status == 206:
        span, _, total = (headers.get("Content-Range") or "").removeprefix("bytes ").partition("/")
        first, size = _number(span.partition("-")[0]) or 0, _number(total)
    version = Version(headers.get("ETag") or "", headers.get("Last-Modified") or "", size)
    if answer.status == 206:
        if first != have or not known.may_be(version):
            remove_part(part)
            raise _Interrupted("the file changed on the server")
        return have, known
    try:
        part.write_bytes(b"")
        noted = {"url": url, "etag": version.etag, "last_modified": version.last_modified, "size": version.size}
        sidecar_of(part).write_text(json.dumps(noted), encoding="utf-8")
    except OSError as error:
        raise _disk_error(error, part) from None
    return 0, version


def _receive(answer: Any, part: Path, have: int, version: Version, progress: Progress | None) -> None:
    missing = None if version.size is None else version.size - have
    free = shutil.disk_usage(part.parent).free
    if missing is not None and missing > free:
        if not have:
            remove_part(part)
        raise DiskFullError(f"the disk is too full: {missing:,} bytes are needed, {free:,} are free in {part.parent}")
    if progress:
        progress(have, version.size)
    while chunk := answer.read1(CHUNK_BYTES):
        _append(part, chunk)
        have += len(chunk)
        if progress:
            progress(have, version.size)
    if version.size is not None and have != version.size:
        raise _Interrupted(f"the connection ended at {have:,} of {version.size:,} bytes")


def _append(part: Path, chunk: bytes) -> None:
    """Unbuffered, so that no close fails later on a disk that is full now."""
    rest = memoryview(chunk)
    try:
        with part.open("ab", buffering=0) as file:
            while rest:
                rest = rest[file.write(rest) :]
    except OSError as error:
        raise _disk_error(error, part) from None


def _disk_error(error: OSError, part: Path) -> DiskFullError:
    """The error for a failed write; what is half-written goes, so that it does not keep the disk full."""
    with suppress(OSError):
        remove_part(part)
    mend = f"free space in {part.parent} or set COGEVAL_HOME to another folder"
    if error.errno in FULL_DISK:
        return DiskFullError(f"the disk is full: {mend}")
    return DiskFullError(f"cannot write {part} ({error.strerror or error}): {mend}")


def _opener(url: str) -> urllib.request.OpenerDirector:
    handlers: list[Any] = [_SafeRedirects(), urllib.request.HTTPCookieProcessor(CookieJar())]
    if urlsplit(url).hostname in LOOPBACK:
        handlers.append(urllib.request.ProxyHandler({}))
    return urllib.request.build_opener(*handlers)


class _SafeRedirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects, but never from https to plain http."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        if not is_allowed(newurl) or (urlsplit(req.full_url).scheme, urlsplit(newurl).scheme) == ("https", "http"):
            raise DownloadError(f"{req.full_url} leads to {newurl}, which is not an https address")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _clause(reason: object, timeout_s: float) -> str:
    if isinstance(reason, TimeoutError):
        return f"no answer within {timeout_s:g} s"
    if isinstance(reason, ConnectionRefusedError):
        return "the connection was refused"
    words = getattr(reason, "strerror", None) or str(reason) or type(reason).__name__
    return f"the connection failed ({words})"


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _number(text: str | None) -> int | None:
    return int(text) if text and text.strip().isdigit() else None
