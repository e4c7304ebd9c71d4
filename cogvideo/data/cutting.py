"""One video to the frames of its clips: which rate, which starts, and the pictures at the network's size. No torch.

Shapes: C clips of a video, T frames of a clip, S x S pixels.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cogvideo.data.draws import distinct
from cogvideo.data.rates import Rates, lowest_rate, starts, write_rates
from cogvideo.data.sources import Pair
from cogvideo.errors import UserError
from cogvideo.video import VideoError, probe, read_clip
from cogvideo.video.opening import open_video
from cogvideo.video.timeline import Timeline, read_timeline

HASH_BYTES = 1 << 20


@dataclass(frozen=True)
class Cutting:
    """How videos are cut: `frames` of a clip, at the lowest of `rates` (ascending) that a video is long enough for.

    `clips` of every video, with starts drawn from the seed and the video's name; fewer where it has no more.
    """

    frames: int
    pixels: int
    rates: Rates
    clips: int = 1
    seed: int = 0


@dataclass(frozen=True)
class Clip:
    """Where in its video a clip lies: `start` counts decoded frames, `start_s` is when that frame comes on show."""

    rate: Fraction
    start: int
    start_s: float


@dataclass(frozen=True)
class CutVideo:
    """The clips of a video, `frames` (C, T, S, S, 3) in uint8, and the sha256 of its file."""

    clips: tuple[Clip, ...]
    frames: NDArray[np.uint8]
    sha256: str


@dataclass(frozen=True)
class Skipped:
    """A video that gives no clip, and why: a code (`VideoError`'s, `too-few-frames`, `crash`), a line for people."""

    code: str
    reason: str


def cut_video(pair: Pair, cutting: Cutting) -> CutVideo | Skipped:
    """The clips of one video. What is wrong with the video is an answer, not an error."""
    try:
        return _cut(pair, cutting)
    except VideoError as error:
        return Skipped(error.reason, str(error))
    except UserError as error:
        return Skipped("unreadable", str(error))
    except OSError as error:
        return Skipped("unreadable", f"{pair.path} cannot be read: {error.strerror or error}")


def square(picture_HWC: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """(size, size, 3): the short side becomes `size`, the centre is kept; bilinear, antialiased where it shrinks.

    Within a level of `cogvideo.vqvae.frames.clip_to_frames`, and equal to it where nothing is resized.
    """
    high, wide = picture_HWC.shape[:2]
    short = min(high, wide)
    if short != size:
        shape = (max(size, round(wide * size / short)), max(size, round(high * size / short)))
        picture_HWC = np.asarray(Image.fromarray(picture_HWC).resize(shape, Image.Resampling.BILINEAR))
    top, left = ((side - size) // 2 for side in picture_HWC.shape[:2])
    return picture_HWC[top : top + size, left : left + size]


def _cut(pair: Pair, cutting: Cutting) -> CutVideo | Skipped:
    with open_video(pair.path) as source:
        timeline = read_timeline(source)
    try:
        return _clips(pair, cutting, timeline)
    except VideoError as error:
        if error.reason != "too-short" or timeline.is_countable:
            raise
    # Where packets and frames need not agree in number, only decoding tells how long the video is.
    return _clips(pair, cutting, _shortened(timeline, probe(pair.path).n_frames))


def _clips(pair: Pair, cutting: Cutting, timeline: Timeline) -> CutVideo | Skipped:
    rate = lowest_rate(timeline, cutting.rates, cutting.frames, pair.start_s, pair.end_s)
    if rate is None:
        return Skipped("too-few-frames", _too_few(pair, cutting, timeline))
    possible = starts(timeline, rate, cutting.frames, pair.start_s, pair.end_s)
    drawn = distinct(cutting.clips, len(possible), "clip", cutting.seed, pair.name, pair.number, str(rate))
    clips, pictures = [], []
    for offset in drawn:
        start = possible[offset]
        shown_s = float((timeline.pts[start] - timeline.pts[0]) * timeline.time_base)
        clips.append(Clip(rate, start, shown_s))
        clip_THWC = read_clip(pair.path, start=start, frames=cutting.frames, fps=rate)
        pictures.append(np.stack([square(picture_HWC, cutting.pixels) for picture_HWC in clip_THWC]))
    return CutVideo(tuple(clips), np.stack(pictures), _sha256(pair.path))


def _too_few(pair: Pair, cutting: Cutting, timeline: Timeline) -> str:
    seconds = float((timeline.end - timeline.pts[0]) * timeline.time_base) if timeline.pts else 0.0
    part = (
        ""
        if pair.start_s is None and pair.end_s is None
        else f" from {pair.start_s or 0:g} s to {pair.end_s or seconds:g} s"
    )
    return (
        f"{pair.path} has too few frames for any rate: {len(timeline)} at {float(timeline.fps):g} a second{part}, "
        f"expected {cutting.frames} at one of {write_rates(cutting.rates)} frames a second"
    )


def _shortened(timeline: Timeline, n_frames: int) -> Timeline:
    from dataclasses import replace

    return replace(timeline, pts=timeline.pts[:n_frames])


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(HASH_BYTES):
            digest.update(piece)
    return digest.hexdigest()
