"""A small study of three models, built once, and copies of it to work in."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from cogvideo.video import write_video
from human_eval.study.building import init_study

MODELS = ("zebra-net", "quokka-gan", "walrus-diffusion")


def moving_clip(model: int, item: int, frames: int = 8, side: int = 64) -> np.ndarray:
    """Stripes that move: another direction for each item, another speed for each model."""
    y, x = np.mgrid[:side, :side]
    pictures = [
        np.stack(
            [
                np.sin((x + (model + 1) * k * 2) / (4 + item)) * 127 + 128,
                np.cos((y + k * item) / (5 + model)) * 127 + 128,
                np.full_like(x, 20.0 * (item % 12)),
            ],
            axis=-1,
        )
        for k in range(frames)
    ]
    return np.stack(pictures).astype(np.uint8)


@pytest.fixture(scope="session")
def video_folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    root = tmp_path_factory.mktemp("videos")
    for model, name in enumerate(MODELS):
        (root / name).mkdir()
        for item in range(9):
            write_video(root / name / f"prompt-{item:02d}.mp4", moving_clip(model, item), fps=8)
    return [root / name for name in MODELS]


@pytest.fixture(scope="session")
def built(video_folders: list[Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Study folders by preset: six main items and three extra ones."""
    root = tmp_path_factory.mktemp("studies")
    for preset in ("cogvideo-2022", "pairwise", "mos"):
        init_study(root / preset, video_folders, preset=preset, n_items=6, seed=5, media={"size": 96})
    return {preset: root / preset for preset in ("cogvideo-2022", "pairwise", "mos")}


@pytest.fixture
def study_folder(built: dict[str, Path], tmp_path: Path) -> Path:
    """A copy of the joint study, to write into."""
    shutil.copytree(built["cogvideo-2022"], tmp_path / "study")
    return tmp_path / "study"
