"""Batches of freshly drawn clips of `shapes`; the same for the same seed and step, and never the same clip twice.

Shapes: B clips, C channels, T frames, H x W pixels.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from eval.datasets.shapes_drawing import FRAMES, SHAPES, ShapeClass, draw_clip

CLIP_FRAMES = 16  # what the protocols read of the 17
NOISE = 0.08  # of the range; a codec and a tokenizer leave less


class Batch(NamedTuple):
    """Clips (B, T, H, W, 3) uint8 with their classes. `order` is "clean", "still" or "jumbled" for each clip."""

    clips: np.ndarray
    classes: tuple[ShapeClass, ...]
    order: tuple[str, ...]


def draw_batch(
    classes: Sequence[ShapeClass], size: int, *, seed: int | str, step: int, spoilt: float = 0.0, siblings: bool = False
) -> Batch:
    """`size` clips of random classes, 16 frames from frame 0 or 1 on.

    A share `spoilt` of them has its time broken: half keep one frame throughout, half have their frames shuffled.
    With `siblings` the clips come in fours that differ in the shape alone: same background, colour, place, motion.
    Outlines are what networks learn last, and nothing else tells these clips apart.
    """
    random = rng(f"{seed}/{step}")
    clips, drawn, order = [], [], []
    for index in range(size):
        family = index // len(SHAPES) if siblings else index
        if siblings:
            random = rng(f"{seed}/{step}/{family}")
        of = classes[int(random.integers(len(classes)))]
        if siblings:
            of = replace(of, shape=SHAPES[index % len(SHAPES)])
            # There are no rotating circles: such a family has two squares.
            of = replace(of, shape="square") if (of.shape, of.motion) == ("circle", "rotating") else of
        start = int(random.integers(FRAMES - CLIP_FRAMES + 1))
        clip = draw_clip(of.shape, of.colour, of.motion, f"{seed}/{step}/{family}")[start:][:CLIP_FRAMES]
        fate = random.random()
        if fate < spoilt / 2:
            clip = np.repeat(clip[int(random.integers(CLIP_FRAMES)), None], CLIP_FRAMES, axis=0)
        elif fate < spoilt:
            clip = clip[random.permutation(CLIP_FRAMES)]
        clips.append(clip)
        drawn.append(of)
        order.append("still" if fate < spoilt / 2 else "jumbled" if fate < spoilt else "clean")
    return Batch(np.stack(clips), tuple(drawn), tuple(order))


def prepare(clips_BTHWC: np.ndarray, *, noise: str = "") -> Tensor:
    """Float (B, C, T, H, W) in -1..1, as the protocols' preprocessing makes it; `noise` is the key of pixel noise.

    The noise is uniform (quick to draw); its reach differs from clip to clip, from none to 8 % of the range.
    """
    clips_BTHWC = clips_BTHWC.astype(np.float32) / np.float32(127.5) - np.float32(1)
    if noise:
        random = rng(noise)
        reach_B1111 = random.uniform(0, 4 * NOISE, (len(clips_BTHWC), 1, 1, 1, 1)).astype(np.float32)
        clips_BTHWC += reach_B1111 * (random.random(clips_BTHWC.shape, dtype=np.float32) - np.float32(0.5))
    # Moving the axis alone gives the channels-last strides that 3D convolutions on CPU are fast with.
    return torch.from_numpy(np.moveaxis(clips_BTHWC, -1, 1))


def rng(key: str) -> np.random.Generator:
    """A generator of numbers from any text."""
    return np.random.Generator(np.random.Philox(int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "little")))
