"""What identifies the weights of a pipeline, for the records of what was made with them."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from cogvideo.checkpoint.cards import CARD_NAME, read_card
from cogvideo.checkpoint.parts import KIND, PipelineParts
from cogvideo.checkpoint.released import find_released

# Larger files are named by size and the hash of their first and last mebibyte: 15 GB are not read for a name.
WHOLE_FILE_BYTES = 64 << 20
EDGE_BYTES = 1 << 20


def identity(parts: PipelineParts) -> dict[str, dict[str, Any]]:
    """For each part that is there: file names with sha256, from its card if it has one.

    Files of the release have no card: those above 64 MiB get their size and the sha256 of their edges instead, under
    `edges_sha256`, which tells files apart but proves nothing about their middle.
    """
    found: dict[str, dict[str, Any]] = {}
    for role in (*KIND, "clusters", "text_model"):
        path: Path | None = getattr(parts, role)
        if path is None:
            continue
        if (path / CARD_NAME).is_file():
            found[role] = {name: {"sha256": file.sha256} for name, file in sorted(read_card(path).files.items())}
        else:
            files = sorted(find_released(path).files) if path.is_dir() else [path]
            found[role] = {file.name: _of_file(file) for file in files}
    return found


def _of_file(path: Path) -> dict[str, Any]:
    size = path.stat().st_size
    if size <= WHOLE_FILE_BYTES:
        return {"sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    with path.open("rb") as file:
        digest = hashlib.sha256(file.read(EDGE_BYTES))
        file.seek(size - EDGE_BYTES)
        digest.update(file.read())
    return {"size_bytes": size, "edges_sha256": digest.hexdigest()}
