"""Frames of videos as pixels in one file, for the image tokenizer: decoded once, mapped ever after.

n frames, S x S pixels.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cogvideo.data.cutting import Cutting, Skipped
from cogvideo.data.decoding_pool import cut_videos
from cogvideo.data.draws import distinct
from cogvideo.data.rates import PAPER_RATES
from cogvideo.data.sources import Source
from cogvideo.errors import UserError

FRAMES_NAME = "frames.npy"
# Of one video; neighbours look too much alike to be worth more.
OF_A_VIDEO = 5
MOST_FRAMES = 40_000


def frames_of(
    source: Source,
    folder: Path,
    pixels: int,
    *,
    seed: int = 0,
    most: int = MOST_FRAMES,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> NDArray[np.uint8]:
    """Frames (n, S, S, 3) of the videos of a source, mapped from `frames.npy` in `folder`, which is made if need be.

    Five of each video, as a clip at the lowest rate has them; of as many videos, drawn by the seed, as give at most
    `most` frames. Videos that cannot be read are passed over. Raises UserError if none can.
    """
    path, card = folder / FRAMES_NAME, folder / f"{FRAMES_NAME}.json"
    plan = {"source": source.sha256, "pixels": pixels, "seed": seed, "most": most}
    if path.is_file() and _read(card) == plan:
        found: NDArray[np.uint8] = np.load(path, mmap_mode="r")
        return found
    chosen = distinct(max(1, most // OF_A_VIDEO), len(source.pairs), "frames", seed)
    pairs = [source.pairs[number] for number in chosen]
    cutting = Cutting(OF_A_VIDEO, pixels, PAPER_RATES, seed=seed)
    kept, skipped = [], ""
    for done, answer in enumerate(cut_videos(pairs, cutting, workers), 1):
        if isinstance(answer, Skipped):
            skipped = skipped or answer.reason
        else:
            kept.append(answer.frames.reshape(-1, pixels, pixels, 3))
        if progress:
            progress(done, len(pairs))
    if not kept:
        raise UserError(f"none of the {len(pairs):,} videos of {source.name} can be read; the first: {skipped}")
    temporary = path.with_name(f".{FRAMES_NAME}.{os.getpid()}.tmp")
    try:
        card.unlink(missing_ok=True)
        with temporary.open("wb") as file:
            np.save(file, np.concatenate(kept))
        temporary.replace(path)
        card.write_text(json.dumps(plan), encoding="utf-8")
    finally:
        temporary.unlink(missing_ok=True)
    mapped: NDArray[np.uint8] = np.load(path, mmap_mode="r")
    return mapped


def hash_of(frames: NDArray[np.uint8]) -> str:
    """Of the size and of some frames, so that a run does not go on with others."""
    digest = hashlib.sha256(str(frames.shape).encode())
    for number in np.linspace(0, len(frames) - 1, 64).astype(int).tolist():
        digest.update(np.ascontiguousarray(frames[number]).tobytes())
    return digest.hexdigest()[:16]


def _read(card: Path) -> Any:
    try:
        return json.loads(card.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
