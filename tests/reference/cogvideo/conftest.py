"""Where the numbers of the released CogVideo code are, and how a set becomes a `ModelConfig`.

`reference_root` and `item` come from the folder above; whatever is absent is skipped with its name.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from cogvideo.config import ModelConfig


@pytest.fixture(scope="session")
def cogvideo_dir(reference_root: Path) -> Path:
    """The folder that holds `tiny/`, `release_constants/`, `vqvae/` and `param_lists/`."""
    folder = reference_root / "cogvideo"
    if not folder.is_dir():
        pytest.skip(f"no CogVideo reference numbers at {folder}")
    return folder


@pytest.fixture(scope="session")
def tensors() -> Callable[[Path], dict[str, torch.Tensor]]:
    """All tensors of one file, ids as int64; the test is skipped if the set does not have the file."""

    def load(path: Path) -> dict[str, torch.Tensor]:
        return {
            name: tensor.long() if tensor.dtype == torch.int32 else tensor
            for name, tensor in load_file(_present(path)).items()
        }

    return load


@pytest.fixture(scope="session")
def settings() -> Callable[[Path], dict[str, Any]]:
    """One JSON file of a set; the test is skipped if the set does not have it."""
    return lambda path: dict(json.loads(_present(path).read_text(encoding="utf-8")))


@pytest.fixture(scope="session")
def fixture_config(settings: Callable[[Path], dict[str, Any]]) -> Callable[[Path], ModelConfig]:
    """Every size of a set (`tiny/`, `release_constants/`), from its files alone."""

    def build(folder: Path) -> ModelConfig:
        its = settings(folder / "config.json")
        sizes: dict[str, Any] = {
            name: its[name]
            for name in (
                "num_layers",
                "hidden_size",
                "num_attention_heads",
                "num_image_tokens",
                "vocab_size",
                "frames",
                "max_sequence_length",
                "image_position_offset",
                "layernorm_eps",
            )
        }
        sizes |= {
            "text_pieces": its["special_tokens"]["<start_of_image>"] - its["num_image_tokens"],
            "grid": its["frame_resolution"],
            "text_len": its["text_len_train"],
            "spare_text_len": max(0, min(10, its["image_position_offset"] - its["text_len_train"])),
            "extra_positions": its["additional_seqlen"],
            # A set whose config.json means the full stage 1 by -1 has windows of a whole frame.
            "window": its["window_size"] if its["window_size"] > 0 else its["frame_resolution"],
        }
        if (folder / "dsr.io.json").is_file():
            direct = settings(folder / "dsr.io.json")
            sizes |= {
                "superres_text_len": direct["layout"][0],
                "patch": direct["kernel_size"],
                "superres_scale": direct["hr_resolution"] // its["frame_resolution"],
            }
        if (folder / "itersr.io.json").is_file():
            sizes["iterative_text_len"] = settings(folder / "itersr.io.json")["layout"][0]
        return ModelConfig(name=folder.name, **sizes)

    return build


def _present(path: Path) -> Path:
    if not path.is_file():
        pytest.skip(f"this reference set has no {path.parent.name}/{path.name}")
    return path
