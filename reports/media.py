"""A video file -> what a page shows of it: a poster, a strip of eight frames, and a clip, each within a budget.

Read and written with the project's own decoder and encoder and Pillow. The same file gives the same bytes; names are
of the content, so that a page can be built anew without touching what did not change.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cogvideo.errors import UserError
from cogvideo.video import Clip, VideoInfo, encode_mp4, probe, read_clip
from cogvideo.weights import cache_home
from eval.records import whole_file

# Raise it when the same file would give other bytes: what was kept under the old number is then made anew.
RECIPE = 2
TILES = 8
TILE_SIDE = 160
POSTER_SIDE = 480
MOST_SECONDS = 12
READ_AT_ONCE = 16
QUALITIES = (23, 28, 33, 38)
PICTURE_QUALITIES = (95, 82, 70, 55, 40, 25)
KINDS = {".webp": "image/webp", ".mp4": "video/mp4"}


@dataclass(frozen=True)
class Asset:
    """A file of a page, in memory."""

    suffix: str
    data: bytes

    @cached_property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()

    @property
    def name(self) -> str:
        """Of the content: equal names hold equal bytes."""
        return f"{self.sha256[:16]}{self.suffix}"

    @property
    def kind(self) -> str:
        """The media type."""
        return KINDS[self.suffix]

    @property
    def data_uri(self) -> str:
        import base64

        return f"data:{self.kind};base64,{base64.b64encode(self.data).decode()}"


@dataclass(frozen=True)
class Media:
    """What a page shows of one video. `clip` is None where none fits the budget; `frames` and `fps` are the clip's."""

    poster: Asset
    sprite: Asset
    clip: Asset | None
    width: int
    height: int
    frames: int
    fps: float
    source_sha256: str


@dataclass(frozen=True)
class Budget:
    """Bytes at most, and the longer side of a clip in pixels at most."""

    poster: int = 12 * 1024
    sprite: int = 40 * 1024
    clip: int = 400 * 1024
    side: int = 480


def media_cache() -> Path:
    """Where finished pictures and clips are kept on this machine."""
    return cache_home() / "reports" / "media"


def make_media(video: Path, budget: Budget | None = None, *, cache: Path | None = None) -> Media:
    """Poster, sprite and clip of a video, from the cache if they are there.

    A video that is H.264 in MP4 and inside the budget is taken as it is; others are cut to 12 s, made smaller and
    encoded anew until they fit. Raises UserError for a file that is no readable video.
    """
    budget = budget or Budget()
    try:
        source = video.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {video}: {error.strerror or error}; expected a video file") from None
    source_sha256 = hashlib.sha256(source).hexdigest()
    asked = json.dumps([RECIPE, source_sha256, budget.poster, budget.sprite, budget.clip, budget.side])
    folder = cache / hashlib.sha256(asked.encode()).hexdigest()[:32] if cache else None
    if folder and (kept := _kept(folder, source_sha256)):
        return kept
    made = _make(video, source, source_sha256, budget)
    if folder:
        _keep(folder, made)
    return made


def _make(video: Path, source: bytes, source_sha256: str, budget: Budget) -> Media:
    info = probe(video)
    fps = float(info.fps) or 8.0
    n = min(info.n_frames, max(1, int(MOST_SECONDS * fps)))
    height, width = _fitted(info.height, info.width, max(budget.side, POSTER_SIDE))
    clip_THWC = np.stack(list(_frames(video, info, n, height, width)))
    n = len(clip_THWC)
    is_fit = info.codec == "h264" and info.pixel_format == "yuv420p" and video.suffix.lower() == ".mp4"
    is_fit = is_fit and n == info.n_frames and max(info.height, info.width) <= budget.side and not info.has_audio
    if is_fit and len(source) <= budget.clip:
        clip: Asset | None = Asset(".mp4", source)
    else:
        clip = _encoded(clip_THWC, fps, budget)
    return Media(
        poster=_picture(clip_THWC[0], budget.poster),
        sprite=_sprite(clip_THWC, budget.sprite),
        clip=clip,
        width=width,
        height=height,
        frames=n,
        fps=round(fps, 6),
        source_sha256=source_sha256,
    )


def _frames(video: Path, info: VideoInfo, n: int, height: int, width: int) -> Iterator[Clip]:
    """The first frames at a size, a few read at a time: memory does not grow with the size of the file's pictures."""
    for start in range(0, n, READ_AT_ONCE):
        for frame in read_clip(video, start=start, frames=min(READ_AT_ONCE, n - start)):
            yield _resized(frame, height, width)


def _fitted(height: int, width: int, side: int) -> tuple[int, int]:
    """The size with its longer side at most `side`; never enlarged."""
    scale = min(1.0, side / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def _resized(frame: Clip, height: int, width: int) -> Clip:
    if frame.shape[:2] == (height, width):
        return frame
    return np.asarray(Image.fromarray(frame).resize((width, height), Image.Resampling.LANCZOS))


def _encoded(clip_THWC: Clip, fps: float, budget: Budget) -> Asset | None:
    """The best clip inside the budget: first lower quality, then half the size."""
    _, height, width, _ = clip_THWC.shape
    side = min(budget.side, max(height, width))
    while side >= 64 or side == max(height, width):
        h, w = _fitted(height, width, side)
        smaller = np.stack([_resized(frame, h, w) for frame in clip_THWC])
        for quality in QUALITIES:
            data = encode_mp4(smaller, fps=fps, quality=quality)
            if len(data) <= budget.clip:
                return Asset(".mp4", data)
        side //= 2
    return None


def _sprite(clip_THWC: Clip, most: int) -> Asset:
    """Eight frames beside each other, spread evenly from the first to the last."""
    n, height, width, _ = clip_THWC.shape
    h, w = _fitted(height, width, TILE_SIDE)
    picked = [round(k * (n - 1) / (TILES - 1)) for k in range(TILES)]
    return _picture(np.concatenate([_resized(clip_THWC[k], h, w) for k in picked], axis=1), most)


def _picture(frame: Clip, most: int) -> Asset:
    """A picture of at most so many bytes: first lower quality, then half the size."""
    while True:
        for quality in PICTURE_QUALITIES:
            buffer = io.BytesIO()
            Image.fromarray(frame).save(buffer, "WEBP", quality=quality, method=4)
            if buffer.tell() <= most or max(frame.shape[:2]) <= 32:
                return Asset(".webp", buffer.getvalue())
        height, width = frame.shape[:2]
        frame = _resized(frame, max(1, height // 2), max(1, width // 2))


def _kept(folder: Path, source_sha256: str) -> Media | None:
    """What was made before, if all of it is there and whole."""
    try:
        facts: dict[str, Any] = json.loads((folder / "media.json").read_text(encoding="utf-8"))
        assets: dict[str, Asset | None] = {}
        for part in ("poster", "sprite", "clip"):
            name = facts.pop(part)
            if name is None:
                assets[part] = None
                continue
            asset = Asset(Path(name).suffix, (folder / name).read_bytes())
            if asset.name != name or asset.suffix not in KINDS:
                return None
            assets[part] = asset
        return Media(**assets, **facts, source_sha256=source_sha256)  # type: ignore[arg-type]
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _keep(folder: Path, media: Media) -> None:
    """The facts last: what has them is whole. A cache that cannot be written is no reason to stop."""
    facts: dict[str, Any] = {name: getattr(media, name) for name in ("width", "height", "frames", "fps")}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for part in ("poster", "sprite", "clip"):
            asset: Asset | None = getattr(media, part)
            facts[part] = asset.name if asset else None
            if asset:
                with whole_file(folder / asset.name) as temporary:
                    temporary.write_bytes(asset.data)
        with whole_file(folder / "media.json") as temporary:
            temporary.write_text(json.dumps(facts, sort_keys=True), encoding="utf-8")
    except (OSError, UserError):
        return


def write_assets(folder: Path, assets: list[Asset]) -> int:
    """Files of a page under their names, those that are there already left alone. Returns how many were written."""
    written = 0
    folder.mkdir(parents=True, exist_ok=True)
    for asset in assets:
        path = folder / asset.name
        if path.is_file() and path.stat().st_size == len(asset.data):
            continue
        with whole_file(path) as temporary:
            temporary.write_bytes(asset.data)
        written += 1
    return written
