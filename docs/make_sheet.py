"""Draw docs/images/cogvideo-tiny.webp, the sheet of the README: videos of cogvideo-tiny as rows of frames.

python docs/make_sheet.py              # the first seed, nothing chosen; half a minute

The prompts go through shapes, colours and motions in their order; the last two are pairs that training never had.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from cogvideo.pipeline import CogVideo
from cogvideo.shipped import shipped
from eval.datasets.shapes_drawing import COLOURS, HELD_OUT_PAIRS, MOTIONS, SHAPES, caption

SIDE, GAP, TEXT = 72, 2, 250
INK, PAPER = (20, 24, 28), (255, 255, 255)
FRAMES = 17


def prompts() -> list[str]:
    """One of each motion, then a look with another motion, then two held-out pairs."""
    pairs = [(SHAPES[number % 4], COLOURS[number % 6], motion) for number, motion in enumerate(MOTIONS)]
    pairs = [pair for pair in pairs if (pair[0], pair[2]) not in HELD_OUT_PAIRS]
    pairs = [pair for pair in pairs if pair[0] != "circle" or pair[2] != "rotating"]
    pairs += [("triangle", "white", "circling"), ("cross", "yellow", "left")]
    pairs += [(shape, COLOURS[number + 1], motion) for number, (shape, motion) in enumerate(HELD_OUT_PAIRS[:2])]
    return [caption(*pair) for pair in pairs]


def draw() -> Image.Image:
    """The sheet."""
    torch.set_num_threads(1)
    texts = prompts()
    videos = CogVideo.load(shipped(), dtype=torch.float32, superres=False).generate(
        texts, frames=FRAMES, superres=False, seed=0
    )
    shown = range(0, FRAMES, 2)
    sheet = Image.new("RGB", (TEXT + len(shown) * (SIDE + GAP), len(texts) * (SIDE + GAP)), PAPER)
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(16)
    for row, (text, video) in enumerate(zip(texts, videos, strict=True)):
        top = row * (SIDE + GAP)
        pen.text((0, top + SIDE // 2), text, INK, font, anchor="lm")
        for column, frame in enumerate(shown):
            picture = Image.fromarray(np.ascontiguousarray(video.clip[frame])).resize(
                (SIDE, SIDE), Image.Resampling.BICUBIC
            )
            sheet.paste(picture, (TEXT + column * (SIDE + GAP), top))
    return sheet


if __name__ == "__main__":
    path = Path(__file__).parent / "images" / "cogvideo-tiny.webp"
    draw().save(path, quality=88, method=6)
    sys.stdout.write(f"{path}\n")
