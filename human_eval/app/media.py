"""Videos by opaque address, with the same headers for all: nothing but the pixels differs between two of a page."""

from __future__ import annotations

import hmac
import json
import re
from functools import lru_cache
from pathlib import Path

from sqlalchemy import Connection, func, select
from starlette.responses import Response

from human_eval.running import Running
from human_eval.store.schema import trial

# A date that says nothing.
LAST_MODIFIED = "Sat, 01 Jan 2022 00:00:00 GMT"
RANGE = re.compile(r"bytes=(\d{0,15})-(\d{0,15})")


@lru_cache(maxsize=512)
def _content(path: Path) -> bytes:
    return path.read_bytes()


def find_stimulus(
    connection: Connection, running: Running, enrolment_id: int, token: str, name: str, ahead: int
) -> str | None:
    """The stimulus behind an address, if this rater may see it: up to `ahead` pages after the one that is open."""
    row = connection.execute(
        select(trial.c.position, trial.c.stimuli).where(trial.c.token == token, trial.c.enrolment_id == enrolment_id)
    ).one_or_none()
    if row is None:
        return None
    own = connection.execute(
        select(func.min(trial.c.position)).where(trial.c.enrolment_id == enrolment_id, trial.c.done_ms.is_(None))
    ).scalar()
    if own is not None and row.position > own + ahead:
        return None
    for slot, stimulus_id in enumerate(json.loads(row.stimuli), start=1):
        if hmac.compare_digest(running.media_name(token, slot).encode(), name.encode()):
            return str(stimulus_id)
    return None


def video_response(path: Path, name: str, range_header: str, if_range: str = "") -> Response:
    """The file or a part of it: 200, 206 or 416. More than one range in a request is answered with the whole file."""
    data = _content(path)
    tag = f'"{name}"'
    headers = {
        "accept-ranges": "bytes",
        "cache-control": "private, max-age=86400",
        "etag": tag,
        "last-modified": LAST_MODIFIED,
    }
    match = RANGE.fullmatch(range_header.strip())
    if match is None or match.groups() == ("", "") or (if_range and if_range not in (tag, LAST_MODIFIED)):
        return Response(data, media_type="video/mp4", headers=headers)
    first, last = match.groups()
    start = int(first) if first else max(0, len(data) - int(last))
    end = min(int(last), len(data) - 1) if first and last else len(data) - 1
    if start > end or (not first and int(last) == 0):
        headers["content-range"] = f"bytes */{len(data)}"
        return Response(b"", 416, headers=headers)
    headers["content-range"] = f"bytes {start}-{end}/{len(data)}"
    return Response(data[start : end + 1], 206, media_type="video/mp4", headers=headers)
