"""Graded corruptions of clips: the same clip id, strength and seed give the same pixels.

A stronger one of a kind is the weaker one carried on (same noise, same places): a response is a curve and no new draw.

Shapes: T frames, H x W pixels; clips are uint8 (T, H, W, 3) RGB.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import av
import numpy as np
from av.video.stream import VideoStream
from numpy.typing import NDArray
from scipy import ndimage
from scipy.special import ndtri

from eval.intervals import permutation, uniform

Clip = NDArray[np.uint8]
# Patches of the field of displacements along each side: a surface that slides in pieces, not a camera that moves.
FIELD = 5


@dataclass(frozen=True)
class Corruption:
    """`change` takes a clip, a strength and (seed, name) for what is drawn. `unit` follows the strength in words."""

    name: str
    title: str
    summary: str
    breaks: Literal["picture", "time", "both"]
    strengths: tuple[float, ...]
    unit: str
    change: Callable[[Clip, float, int, str], Clip]

    def label(self, strength: float) -> str:
        return f"{self.unit}{strength:g}" if self.unit.endswith(" ") else f"{strength:g}{self.unit}"

    def apply(self, clip_THWC: Clip, strength: float, *, seed: int, clip_id: str) -> Clip:
        """The corrupted clip, of the same shape; the clip itself is not touched."""
        return self.change(clip_THWC, strength, seed, f"{self.name}/{clip_id}")


def blur(clip_THWC: Clip, strength: float, seed: int, name: str) -> Clip:
    """Gaussian blur of every frame; the deviation is `strength` per cent of the shorter side."""
    sigma = strength / 100 * min(clip_THWC.shape[1:3])
    return _levels(ndimage.gaussian_filter(clip_THWC.astype(np.float32), (0, sigma, sigma, 0), mode="nearest"))


def noise(clip_THWC: Clip, strength: float, seed: int, name: str) -> Clip:
    """Gaussian noise of `strength` levels, of its own in every frame, pixel and channel."""
    drawn = uniform(seed, name, clip_THWC.size).astype(np.float32).clip(1e-7, 1 - 1e-7).reshape(clip_THWC.shape)
    return _levels(clip_THWC + strength * ndtri(drawn))


def codec(clip_THWC: Clip, strength: float, seed: int, name: str) -> Clip:
    """Through H.264 at a constant rate factor of `strength`; odd sizes are made even by repeating an edge."""
    _, height, width, _ = clip_THWC.shape
    even = np.pad(clip_THWC, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    decoded = _decoded(_encoded(even, strength))
    return np.ascontiguousarray(decoded[:, :height, :width])


def freeze(clip_THWC: Clip, strength: float, seed: int, name: str) -> Clip:
    """The last `strength` per cent of the frames stand still on the frame before them; 100 leaves the first frame."""
    last = max(1, len(clip_THWC) - round(len(clip_THWC) * strength / 100)) - 1
    return clip_THWC[np.minimum(np.arange(len(clip_THWC)), last)]


def reverse(clip_THWC: Clip, strength: float, seed: int, name: str) -> Clip:
    """The clip in pieces of `strength` per cent of its frames, each played backwards; 100 turns the whole round."""
    T = len(clip_THWC)
    piece = max(2, round(T * strength / 100))
    order = [t for start in range(0, T, piece) for t in reversed(range(start, min(start + piece, T)))]
    return clip_THWC[order]


def swap(clip_THWC: Clip, strength: float, seed: int, name: str) -> Clip:
    """`strength` per cent of the frames, drawn in pairs, change places within their pair."""
    T = len(clip_THWC)
    drawn = permutation(seed, name, T)
    order = np.arange(T)
    for pair in range(round(T * strength / 200)):
        a, b = drawn[2 * pair], drawn[2 * pair + 1]
        order[a], order[b] = b, a
    return clip_THWC[order]


def drift(clip_THWC: Clip, strength: float, seed: int, name: str) -> Clip:
    """The surface slides: every place is read from one that wanders off, up to `strength` per cent of the shorter side.

    The way grows evenly from nothing in the first frame; it is a smooth random field of FIELD x FIELD patches.
    """
    T, H, W, _ = clip_THWC.shape
    coarse = 2 * uniform(seed, name, 2 * FIELD * FIELD).reshape(2, FIELD, FIELD) - 1
    grid = np.meshgrid(np.linspace(0, FIELD - 1, H), np.linspace(0, FIELD - 1, W), indexing="ij")
    field = np.stack([ndimage.map_coordinates(part, grid, order=3, mode="nearest") for part in coarse])
    field *= strength / 100 * min(H, W) / np.abs(field).max()
    at = np.stack(np.meshgrid(np.arange(H), np.arange(W), indexing="ij")).astype(np.float64)
    made = np.empty_like(clip_THWC)
    for t in range(T):
        places = at + field * (t / max(T - 1, 1))
        for channel in range(3):
            frame = clip_THWC[t, ..., channel].astype(np.float32)
            made[t, ..., channel] = _levels(ndimage.map_coordinates(frame, places, order=1, mode="nearest"))
    return made


CORRUPTIONS: tuple[Corruption, ...] = (
    Corruption("blur", "Blur", "Gaussian blur, deviation in % of the shorter side", "picture", (1, 3, 9), " %", blur),
    Corruption("noise", "Noise", "Gaussian noise of its own in every frame", "picture", (6, 20, 60), " levels", noise),
    Corruption("codec", "Codec", "through H.264 and back, rate factor", "picture", (28, 38, 48), "CRF ", codec),
    Corruption("freeze", "Freeze", "the last part of the clip stands still", "time", (33, 67, 100), " %", freeze),
    Corruption(
        "reversed", "Reversed order", "pieces of the clip are played backwards", "time", (25, 50, 100), " %", reverse
    ),
    Corruption("frame-swap", "Frame swap", "some frames change places in pairs", "time", (12.5, 50, 100), " %", swap),
    Corruption(
        "texture-drift",
        "Texture drift",
        "the surface slides, by % of the side in the end",
        "both",
        (2, 5, 12),
        " %",
        drift,
    ),
)


def _levels(values: NDArray[np.floating]) -> Clip:
    return np.asarray(np.rint(values).clip(0, 255), dtype=np.uint8)


def _encoded(clip_THWC: Clip, rate_factor: float) -> bytes:
    buffer = io.BytesIO()
    # One thread and no macroblock trees: the same bytes every time, as in cogvideo/video/writing.py.
    options = {"preset": "veryfast", "crf": f"{rate_factor:g}", "mbtree": "0"}
    with av.open(buffer, "w", format="mp4") as out:
        stream = out.add_stream("libx264", rate=25, options=options)
        assert isinstance(stream, VideoStream)
        stream.height, stream.width = clip_THWC.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = 1
        for picture in clip_THWC:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return buffer.getvalue()


def _decoded(data: bytes) -> Clip:
    with av.open(io.BytesIO(data), "r") as container:
        container.streams.video[0].codec_context.thread_count = 1
        frames = [np.asarray(frame.to_ndarray(format="rgb24"), np.uint8) for frame in container.decode(video=0)]
    return np.stack(frames)
