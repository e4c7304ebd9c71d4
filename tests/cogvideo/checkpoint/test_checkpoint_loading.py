"""Networks from released folders: the same bits, in the file's type, and no code of the file run."""

from __future__ import annotations

import os
import pickle
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from cogvideo.checkpoint.loading import load_network, load_tensors, save_network
from cogvideo.checkpoint.opening import open_checkpoint
from cogvideo.config import SIZES, ModelConfig
from cogvideo.errors import UserError
from cogvideo.network import Network

PARTS = ("image", "stage1", "stage2", "superres", "iterative")


def same_bits(network: Network, other: Network) -> bool:
    ours, theirs = network.state_dict(), other.state_dict()
    return list(ours) == list(theirs) and all(torch.equal(ours[name], theirs[name]) for name in ours)


def as_a_stage_tells(config: ModelConfig) -> ModelConfig:
    """Sizes of super-resolution are not in the settings of a stage: they are the release's."""
    return replace(config, superres_text_len=96, iterative_text_len=16)


@pytest.mark.parametrize("part", PARTS)
def test_a_released_folder_is_loaded_as_it_is(
    part: str, make_released: Callable[..., Path], make_network: Callable[..., Network], small: ModelConfig
) -> None:
    network = load_network(make_released(part), part, device="cpu")
    assert same_bits(network, make_network(part))
    assert {parameter.dtype for parameter in network.parameters()} == {torch.float16}
    assert {parameter.device.type for parameter in network.parameters()} == {"cpu"}
    assert not network.training
    if part in ("stage1", "stage2"):
        assert network.config == as_a_stage_tells(small)


@pytest.mark.parametrize("part", PARTS)
def test_expected_sizes_fill_in_what_the_file_does_not_tell(
    part: str, make_released: Callable[..., Path], small: ModelConfig
) -> None:
    untold = dict.fromkeys(("num_image_tokens", "text_pieces", "image_position_offset", "spare_text_len"))
    folder = make_released(part, settings=untold)
    assert load_network(folder, device="cpu", expect=small).config == small
    with pytest.raises(UserError, match="num_image_tokens"):
        load_network(folder, device="cpu")


def test_sizes_are_read_off_the_shapes_where_no_setting_tells(
    make_released: Callable[..., Path], small: ModelConfig
) -> None:
    untold = dict.fromkeys(("num_layers", "hidden_size", "vocab_size", "max_sequence_length", "additional_seqlen"))
    assert load_network(make_released(settings=untold), device="cpu").config == as_a_stage_tells(small)


def test_the_releases_own_settings_give_the_release() -> None:
    from cogvideo.checkpoint.opening import network_shapes
    from cogvideo.checkpoint.sizes import read_sizes

    settings = {"num_attention_heads": 48, "layout": "64,464,2064", "window_size": 10, "cogvideo_stage": 2}
    found = read_sizes(settings, network_shapes(SIZES["release"], "video"), "x")
    assert found == ("stage2", SIZES["release"], 10)


def test_the_type_may_be_changed_on_the_way(
    make_released: Callable[..., Path], make_network: Callable[..., Network]
) -> None:
    network = load_network(make_released(), device="cpu", dtype=torch.float32)
    assert same_bits(network, make_network("stage1").float())


def test_single_tensors_of_another_type_follow_the_word_embeddings(make_released: Callable[..., Path]) -> None:
    odd = {"transformer.final_layernorm.weight": torch.ones(32, dtype=torch.float32)}
    network = load_network(make_released(change=odd), device="cpu")
    assert {parameter.dtype for parameter in network.parameters()} == {torch.float16}


def test_either_stage_may_be_asked_for(make_released: Callable[..., Path]) -> None:
    assert load_network(make_released("stage2"), "video", device="cpu").kind == "video"
    checkpoint = open_checkpoint(make_released("stage2"))
    assert (checkpoint.part, checkpoint.window_size, checkpoint.iteration) == ("stage2", 2, "27000")


def test_the_stage_may_stand_in_the_folders_name_alone(make_released: Callable[..., Path], tmp_path: Path) -> None:
    untold = {"cogvideo_stage": None}
    assert open_checkpoint(make_released("stage2", settings=untold)).part == "stage2"
    nameless = make_released("stage2", folder=tmp_path / "mine", settings=untold)
    assert open_checkpoint(nameless, "stage1").part == "stage1"
    with pytest.raises(UserError, match="does not say which stage"):
        open_checkpoint(nameless)


def test_the_word_release_names_a_folder_too(make_released: Callable[..., Path]) -> None:
    assert open_checkpoint(make_released(iteration="release")).iteration == "release"


def test_tensors_without_a_place_are_told_of(
    make_released: Callable[..., Path], make_network: Callable[..., Network], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_released(change={"mixins.extra.mask": torch.ones(2), "mixins.note": "a word"})
    lines: list[str] = []
    assert same_bits(load_network(folder, device="cpu", notify=lines.append), make_network("stage1"))
    assert len(lines) == 1
    assert "1 tensors that are not used (mixins.extra.mask)" in lines[0]
    load_network(folder, device="cpu")
    assert capsys.readouterr() == ("", lines[0] + "\n")


def test_files_of_the_old_layout_are_read(
    make_released: Callable[..., Path], make_network: Callable[..., Network]
) -> None:
    folder = make_released(_use_new_zipfile_serialization=False)
    assert same_bits(load_network(folder, device="cpu"), make_network("stage1"))


class _AsNumpy1(pickle._Pickler):
    """Names numpy's functions as numpy 1 did, which the release was trained with."""

    def save_global(self, obj: Any, name: str | None = None) -> None:
        if getattr(obj, "__module__", "") == "numpy._core.multiarray":
            self.write(b"cnumpy.core.multiarray\n" + obj.__name__.encode() + b"\n")
            self.memoize(obj)
        else:
            super().save_global(obj, name)


def test_random_states_of_numpy_1_are_passed_over(
    make_released: Callable[..., Path], make_network: Callable[..., Network]
) -> None:
    module = SimpleNamespace(Pickler=_AsNumpy1, dump=pickle.dump, __name__="pickle")
    folder = make_released(pickle_module=module)
    content = (folder / "27000" / "mp_rank_00_model_states.pt").read_bytes()
    assert b"numpy.core.multiarray\n_reconstruct" in content
    assert b"numpy._core" not in content
    assert same_bits(load_network(folder, device="cpu"), make_network("stage1"))


class _Hostile:
    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize("is_old", [False, True])
@pytest.mark.parametrize("function", [os.system, eval, Path.touch])
def test_no_code_of_a_pickle_is_run(
    make_released: Callable[..., Path], tmp_path: Path, function: Any, is_old: bool
) -> None:
    mark = tmp_path / "ran"
    argument = {
        os.system: f"touch {mark}",
        eval: f"__import__('pathlib').Path({str(mark)!r}).touch()",
        Path.touch: mark,
    }
    folder = make_released(
        change={"mixins.x": _Hostile(function, argument[function])}, _use_new_zipfile_serialization=not is_old
    )
    with pytest.raises(UserError, match=r"holds more than tensors: .* would be run to load it"):
        load_network(folder, device="cpu")
    assert not mark.exists()


def test_classes_of_training_libraries_are_stood_in_for_and_not_imported(
    make_released: Callable[..., Path],
    make_network: Callable[..., Network],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    package = tmp_path / "packages" / "deepspeed"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("class Scaler:\n    def __init__(self):\n        self.scale = 1\n")
    monkeypatch.syspath_prepend(package.parent)
    from deepspeed import Scaler  # the folder made above

    folder = make_released(change={"mixins.scaler": Scaler()})
    (package / "__init__.py").write_text("raise SystemExit('imported')\n")
    monkeypatch.delitem(sys.modules, "deepspeed")
    assert same_bits(load_network(folder, device="cpu"), make_network("stage1"))
    assert "deepspeed" not in sys.modules


def test_the_image_tokenizers_file_gives_its_tensors(tmp_path: Path) -> None:
    tensors = {
        "enc.conv_in.weight": torch.randn(8, 3, 3, 3).half(),
        "quantize.embed.weight": torch.randn(50, 16).half(),
        "quantize.cluster_size": torch.arange(50),
    }
    torch.save({"module": tensors}, tmp_path / "ice_image.pt")
    loaded = load_tensors(tmp_path / "ice_image.pt", "image-tokenizer", dtype=torch.float32)
    assert {name: tensor.dtype for name, tensor in loaded.items()} == {
        "enc.conv_in.weight": torch.float32,
        "quantize.embed.weight": torch.float32,
        "quantize.cluster_size": torch.int64,
    }
    assert all(torch.equal(loaded[name], tensor.to(loaded[name].dtype)) for name, tensor in tensors.items())
    with pytest.raises(UserError, match="holds image-tokenizer, expected stage1"):
        load_network(tmp_path / "ice_image.pt", "stage1", device="cpu")


@pytest.mark.parametrize("part", PARTS)
def test_a_saved_network_comes_back(
    part: str, make_network: Callable[..., Network], tmp_path: Path, small: ModelConfig
) -> None:
    network = make_network(part, dtype=torch.bfloat16)
    card = save_network(network, tmp_path / part, part, source="drawn", iteration=7, window_size=-1, note="a test")
    assert (card.kind, card.iteration, card.dtype, card.window_size) == (part, "7", "bfloat16", -1)
    assert card.parameters == sum(parameter.numel() for parameter in network.parameters())
    back = load_network(tmp_path / part, part, device="cpu", expect=small)
    assert same_bits(back, network)
    assert back.config == small


def test_fused_weights_are_saved_under_their_own_names(make_network: Callable[..., Network], tmp_path: Path) -> None:
    network = make_network("stage1")
    network.fuse_()
    save_network(network, tmp_path / "fused", "stage1", source="drawn")
    assert same_bits(load_network(tmp_path / "fused", device="cpu"), make_network("stage1"))


def test_what_is_loaded_may_be_trained_without_changing_the_file(
    make_network: Callable[..., Network], tmp_path: Path
) -> None:
    save_network(make_network("stage1"), tmp_path / "a", "stage1", source="drawn")
    before = (tmp_path / "a" / "model.safetensors").read_bytes()
    network = load_network(tmp_path / "a", device="cpu")
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(1)
    assert (tmp_path / "a" / "model.safetensors").read_bytes() == before
    assert same_bits(load_network(tmp_path / "a", device="cpu"), make_network("stage1"))


def test_a_network_is_saved_as_what_it_is(make_network: Callable[..., Network], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be saved as superres"):
        save_network(make_network("stage1"), tmp_path / "a", "superres", source="drawn")
    assert list(tmp_path.iterdir()) == []
