"""Names, shapes and totals of the full-size networks, against the lists of the released classes. No memory is taken."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cogvideo.checkpoint.memory import parameter_count
from cogvideo.checkpoint.opening import network_shapes
from cogvideo.checkpoint.sizes import NETWORK_KIND, WORDS, read_sizes

PARTS = {
    "coglm": "image",
    "cogvideo-stage1": "stage1",
    "cogvideo-stage2": "stage2",
    "cogview2-dsr": "superres",
    "cogview2-itersr": "iterative",
}


@pytest.fixture(params=PARTS)
def released(request: pytest.FixtureRequest, cogvideo_dir: Path) -> dict[str, Any]:
    """The list of one network, with the `part` that it is; skipped if the set does not have it."""
    path = cogvideo_dir / "param_lists" / f"{request.param}.json"
    if not path.is_file():
        pytest.skip(f"this reference set has no param_lists/{request.param}.json")
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    shapes = {name: tuple(shape) for name, shape in content["tensors"].items()}
    return content | {"tensors": shapes, "part": PARTS[request.param]}


def test_names_and_shapes_are_the_released_ones(released: dict[str, Any]) -> None:
    """The sizes come from the list's own settings and, where those are silent, from its shapes."""
    found = read_sizes(released["config"], released["tensors"], "list", released["part"])
    assert found.config is not None
    ours = network_shapes(found.config, NETWORK_KIND[found.part])
    assert sorted(ours) == sorted(released["tensors"])
    assert {name: shape for name, shape in ours.items() if shape != released["tensors"][name]} == {}


def test_settings_reach_the_sizes(released: dict[str, Any]) -> None:
    """The settings of the list and no shape of it but the names' own: what the file says is what is built."""
    config = read_sizes(released["config"], released["tensors"], "list", released["part"]).config
    assert config is not None
    given = released["config"]
    for name in ("num_layers", "hidden_size", "num_attention_heads", "vocab_size", "max_sequence_length"):
        assert getattr(config, name) == given[name]
    if released["part"] in ("stage1", "stage2"):
        frames_end = config.text_len + config.frames * config.frame_len
        assert [config.text_len, config.text_len + config.frame_len, frames_end] == list(given["layout"])
        assert config.extra_positions == given["additional_seqlen"]
    if released["part"] == "stage2":
        assert config.window == given["window_size"]
    if released["part"] == "superres":
        assert given["new_sequence_length"] == config.max_sequence_length + config.superres_grid**2
        text, low = config.superres_text_len, config.frame_len
        assert [text, text + low, text + low + config.superres_grid**2] == list(given["layout"])
    if released["part"] == "iterative":
        text = config.iterative_text_len
        assert [text, text + config.superres_grid**2] == list(given["layout"])


def test_totals_are_the_released_ones(released: dict[str, Any]) -> None:
    found = read_sizes(released["config"], released["tensors"], "list", released["part"])
    assert found.config is not None
    kind = NETWORK_KIND[found.part]
    counts: dict[str, int] = {}
    for name, shape in network_shapes(found.config, kind).items():
        top = name.partition(".")[0]
        product = 1
        for size in shape:
            product *= size
        counts[top] = counts.get(top, 0) + product
        if name == WORDS:
            counts["words"] = product
    assert counts["transformer"] == released["transformer_parameters"]
    assert counts.get("mixins", 0) == released["mixin_parameters"]
    assert counts["words"] == released["word_embedding_parameters"]
    assert counts["transformer"] + counts.get("mixins", 0) == released["total_parameters"]
    assert parameter_count(found.config, kind) == released["total_parameters"]
