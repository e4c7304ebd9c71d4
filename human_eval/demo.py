"""`human demo`: a small study of controls, drawn by numpy in a second: clean, shuffled in time, blurred, noisy."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np

from cogvideo.video import Clip, write_video
from human_eval.study.building import init_study
from human_eval.study.design import Study

SIDE, FRAMES, RATE = 256, 16, 8
THINGS = (
    ("circle", (214, 84, 62)),
    ("square", (58, 110, 190)),
    ("triangle", (224, 168, 58)),
    ("ring", (64, 140, 96)),
)
WAYS = ("moving right", "moving down", "growing")
ITEMS = 6


def build_demo(folder: Path, say: Callable[[str], None] = lambda line: None, items: int = ITEMS) -> Study:
    """Draw the clips of four controls and make a study of them."""
    sources = folder / "videos"
    names = ("clean", "shuffled", "soft", "noisy")
    say("drawing the videos")
    for k in range(items + 3):
        (name, colour), way = THINGS[k % len(THINGS)], WAYS[(k // len(THINGS)) % len(WAYS)]
        clip = draw(name, colour, way, k)
        for control, data in zip(names, (clip, shuffled(clip, k), soft(clip), noisy(clip, k)), strict=True):
            target = sources / control
            target.mkdir(parents=True, exist_ok=True)
            write_video(target / f"{k:02d}-{name}-{way.replace(' ', '-')}.mp4", data, fps=RATE)
            (target / f"{k:02d}-{name}-{way.replace(' ', '-')}.txt").write_text(f"a {name} {way}", encoding="utf-8")
    study = init_study(
        folder,
        [sources / name for name in names],
        preset="cogvideo-2022",
        n_items=items,
        quota={"raters": 24},
        media={"quality": 23},
        sample=True,
        consent={
            "who": {"en": "Nobody: this is a demonstration", "zh": "无：这是演示"},
            "pay": {"en": "None", "zh": "无"},
        },
        say=say,
    )
    shutil.rmtree(sources)
    return study


def draw(name: str, colour: tuple[int, int, int], way: str, seed: int) -> Clip:
    """A shape over a soft background, (T, H, W, 3) uint8."""
    y, x = np.mgrid[:SIDE, :SIDE].astype(np.float32) / SIDE
    ground = np.stack([0.75 + 0.2 * y, 0.8 + 0.1 * np.sin(3 * x + seed), 0.9 - 0.25 * y], axis=-1)
    pictures = []
    for k in range(FRAMES):
        phase = k / (FRAMES - 1)
        centre_x = 0.2 + 0.6 * phase if way == "moving right" else 0.5
        centre_y = 0.2 + 0.6 * phase if way == "moving down" else 0.5
        radius = 0.08 + 0.2 * phase if way == "growing" else 0.16
        u, v = (x - centre_x) / radius, (y - centre_y) / radius
        distance = {
            "circle": np.hypot(u, v) - 1,
            "square": np.maximum(abs(u), abs(v)) - 0.9,
            "triangle": np.maximum(abs(u) * 1.7 + v, -v) - 0.8,
            "ring": abs(np.hypot(u, v) - 0.8) - 0.22,
        }[name]
        cover = np.clip(0.5 - distance * radius * SIDE / 1.5, 0, 1)[..., None]
        pictures.append(ground * (1 - cover) + np.asarray(colour, dtype=np.float32) / 255 * cover)
    return np.asarray(np.stack(pictures) * 255, dtype=np.uint8)


def shuffled(clip_THWC: Clip, seed: int) -> Clip:
    """The frames in another order: the picture is good, the motion is not."""
    order = np.random.Generator(np.random.Philox(seed)).permutation(len(clip_THWC))
    return clip_THWC[order]


def soft(clip_THWC: Clip) -> Clip:
    """Every eighth pixel, drawn large: the motion is good, the picture is not."""
    return clip_THWC[:, ::8, ::8].repeat(8, axis=1).repeat(8, axis=2)


def noisy(clip_THWC: Clip, seed: int) -> Clip:
    """Grain in every frame."""
    random = np.random.Generator(np.random.Philox(seed + 1000))
    grain = random.normal(0, 38, clip_THWC.shape)
    return np.asarray(np.clip(clip_THWC + grain, 0, 255), dtype=np.uint8)
