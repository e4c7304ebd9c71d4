"""Folders laid out as the release's, made of random weights: right names, half precision, and what lay beside them."""

from __future__ import annotations

import json
import random
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cogvideo.config import ModelConfig
from cogvideo.network import Network, initialise_

Released = Callable[..., Path]

SMALL = ModelConfig(
    num_layers=3,
    hidden_size=32,
    num_attention_heads=4,
    num_image_tokens=40,
    text_pieces=16,
    vocab_size=60,
    frames=5,
    grid=4,
    text_len=6,
    spare_text_len=2,
    max_sequence_length=40,
    image_position_offset=16,
    extra_positions=80,
    window=2,
    superres_text_len=8,
    iterative_text_len=4,
)
KINDS = {"image": "image", "stage1": "video", "stage2": "video", "superres": "superres", "iterative": "iterative"}
FOLDERS = {
    "image": "coglm",
    "stage1": "cogvideo-stage1",
    "stage2": "cogvideo-stage2",
    "superres": "cogview2-dsr",
    "iterative": "cogview2-itersr",
}


@pytest.fixture(scope="session")
def small() -> ModelConfig:
    """A size that no table has."""
    return SMALL


@pytest.fixture(scope="session")
def settings_of() -> Callable[[str, ModelConfig], dict[str, Any]]:
    """The model_config.json of a part; sizes that the release's code has as constants are added under our names."""

    def make(part: str, config: ModelConfig) -> dict[str, Any]:
        text, frame, scale = config.text_len, config.grid**2, config.superres_scale**2
        settings: dict[str, Any] = {
            "model_class": "X",
            "tokenizer_type": "icetk",
            "num_layers": config.num_layers,
            "hidden_size": config.hidden_size,
            "num_attention_heads": config.num_attention_heads,
            "vocab_size": config.vocab_size,
            "max_sequence_length": config.max_sequence_length,
            "layernorm_order": "sandwich",
            "num_image_tokens": config.num_image_tokens,
            "text_pieces": config.text_pieces,
            "image_position_offset": config.image_position_offset,
            "spare_text_len": config.spare_text_len,
        }
        if part in ("stage1", "stage2"):
            settings |= {
                "layout": [text, text + frame, text + config.frames * frame],
                "window_size": -1 if part == "stage1" else config.window,
                "cogvideo_stage": 1 if part == "stage1" else 2,
                "additional_seqlen": config.extra_positions,
            }
        else:
            settings |= {"text_len": text, "extra_positions": config.extra_positions}
        if part == "superres":
            ends = (config.superres_text_len, config.superres_text_len + frame)
            settings["layout"] = ",".join(map(str, (*ends, ends[1] + frame * scale)))
            settings["new_sequence_length"] = config.max_sequence_length + frame * scale
        if part == "iterative":
            settings["layout"] = [config.iterative_text_len, config.iterative_text_len + frame * scale]
        if part == "image":
            settings["grid"] = config.grid
        return settings

    return make


@pytest.fixture(scope="session")
def make_network(small: ModelConfig) -> Callable[..., Network]:
    """A network with random parameters in every place, biases and gates too."""

    def make(part: str, config: ModelConfig = small, seed: int = 0, dtype: torch.dtype = torch.float16) -> Network:
        network = initialise_(Network(config, KINDS[part]), seed)
        generator = torch.Generator().manual_seed(seed + 1)
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(torch.empty(parameter.shape).normal_(0, 0.1, generator=generator))
        return network.to(dtype).eval()

    return make


@pytest.fixture(scope="session")
def training_leftovers() -> Callable[[], dict[str, Any]]:
    """What the release's trainer wrote beside the tensors, random states of Python and numpy among it."""

    def make() -> dict[str, Any]:
        return {
            "iteration": 27000,
            "client_lr_scheduler": {"start_lr": 2e-4, "decay_style": "cosine", "num_iters": np.float64(27000.0)},
            "random_rng_state": random.Random(3).getstate(),
            "np_rng_state": np.random.RandomState(3).get_state(),
            "torch_rng_state": torch.get_rng_state(),
            "rng_tracker_states": {"model-parallel-rng": torch.get_rng_state()},
            "buffer_names": [],
            "optimizer": None,
            "param_shapes": [OrderedDict(a=torch.Size([3, 4]))],
            "sparse_tensor_module_names": {"x"},
            "ds_config": {"train_micro_batch_size_per_gpu": 4, "fp16": {"enabled": True, "loss_scale": 0}},
            "ds_version": "0.6.5",
        }

    return make


@pytest.fixture(scope="session")
def write_rank(training_leftovers: Callable[[], dict[str, Any]]) -> Callable[..., None]:
    """Write one file of tensors as the release's trainer did."""

    def write(path: Path, module: dict[str, Any], **options: Any) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save({"module": OrderedDict(module), **training_leftovers()}, path, **options)

    return write


@pytest.fixture
def make_released(
    tmp_path: Path,
    small: ModelConfig,
    settings_of: Callable[[str, ModelConfig], dict[str, Any]],
    make_network: Callable[..., Network],
    write_rank: Callable[..., None],
) -> Released:
    """Make a released folder; `change` and `settings` may spoil what goes into it, None removes an entry."""

    def make(
        part: str = "stage1",
        *,
        folder: Path | None = None,
        config: ModelConfig = small,
        iteration: str = "27000",
        change: dict[str, Any] | None = None,
        settings: dict[str, Any] | None = None,
        dtype: torch.dtype = torch.float16,
        seed: int = 0,
        **options: Any,
    ) -> Path:
        folder = folder or tmp_path / FOLDERS[part]
        folder.mkdir(parents=True, exist_ok=True)
        module = dict(make_network(part, config, seed, dtype).state_dict()) | (change or {})
        module = {name: value for name, value in module.items() if value is not None}
        written = settings_of(part, config) | (settings or {})
        written = {name: value for name, value in written.items() if value is not None}
        (folder / "latest").write_text(f"{iteration}\n")
        (folder / "model_config.json").write_text(json.dumps(written))
        write_rank(folder / iteration / "mp_rank_00_model_states.pt", module, **options)
        return folder

    return make


@pytest.fixture(scope="session")
def larger(small: ModelConfig) -> ModelConfig:
    """Another size."""
    return replace(small, num_layers=4, hidden_size=64)
