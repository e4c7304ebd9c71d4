"""Clips that we draw: the number of the environment check, the trap that shows which point to choose, damaged clips."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from cogvideo.video import Clip

INK, GROUND, PETROL = (20, 24, 28), (244, 246, 247), (11, 95, 120)


def number_clip(number: int, frames: int, height: int, width: int) -> Clip:
    """A large number over a bar that moves, so that a still picture is not taken for a video that plays."""
    return np.stack([_picture(number, k / frames, height, width, ()) for k in range(frames)])


def trap_clip(point: int, points: range, frames: int, height: int, width: int) -> Clip:
    """The rating scale itself with one point filled and its number large above: no language is needed to follow it."""
    return np.stack([_picture(point, k / frames, height, width, tuple(points)) for k in range(frames)])


def damaged_clip(clip_THWC: Clip, seed: int) -> Clip:
    """The clip with most of it replaced by blotches that jump: nobody who looks takes it for the better one."""
    rng = np.random.Generator(np.random.Philox(seed))
    n, height, width, _ = clip_THWC.shape
    tile = max(4, min(height, width) // 12)
    rows, columns = -(-height // tile), -(-width // tile)
    spoilt = clip_THWC.copy()
    for k in range(n):
        colours = rng.integers(0, 256, (rows, columns, 3), dtype=np.uint8)
        hit = rng.random((rows, columns)) < 0.65
        grow = np.ones((tile, tile), dtype=np.uint8)
        mask = np.kron(hit.astype(np.uint8), grow)[:height, :width].astype(bool)
        blotches = np.stack([np.kron(colours[..., c], grow)[:height, :width] for c in range(3)], axis=-1)
        spoilt[k][mask] = blotches[mask]
    return spoilt


def _picture(number: int, phase: float, height: int, width: int, points: tuple[int, ...]) -> Clip:
    image = Image.new("RGB", (width, height), GROUND)
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(size=max(12, round(min(height, width) * 0.45)))
    draw.text((width / 2, height * 0.38), str(number), font=font, fill=INK, anchor="mm")
    if points:
        left, right, top, bottom = width * 0.08, width * 0.92, height * 0.72, height * 0.86
        step = (right - left) / len(points)
        for at, point in enumerate(points):
            box = (left + at * step, top, left + (at + 1) * step, bottom)
            draw.rectangle(box, outline=INK, width=max(1, width // 160), fill=PETROL if point == number else None)
    start = (width * 1.2) * phase - width * 0.2
    draw.rectangle((start, height * 0.93, start + width * 0.2, height * 0.97), fill=PETROL)
    return np.asarray(image, dtype=np.uint8)
