"""Files of model-parallel training, joined: against a splitter that knows the layers and not the names' patterns."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from cogvideo.checkpoint.convert import convert
from cogvideo.checkpoint.loading import load_network
from cogvideo.config import ModelConfig
from cogvideo.errors import UserError
from cogvideo.network import Network

State = dict[str, Tensor]


def split(network: Network, rank: int, ranks: int) -> State:
    """What rank `rank` of `ranks` holds, layer by layer, as tensor-parallel linear layers divide their work."""
    config = network.config
    h, d = config.hidden_size, config.head_dim
    heads = range(rank * config.num_attention_heads // ranks, (rank + 1) * config.num_attention_heads // ranks)
    own = torch.tensor([head * d + i for head in heads for i in range(d)])  # hidden units of this rank's heads
    wide = torch.arange(rank * 4 * h // ranks, (rank + 1) * 4 * h // ranks)
    words = torch.arange(rank * config.vocab_size // ranks, (rank + 1) * config.vocab_size // ranks)
    own_qkv = torch.cat([own + part * h for part in range(3)])
    state = dict(network.state_dict())

    def cut(name: str, units: Tensor, dim: int = 0) -> None:
        state[name] = state[name].index_select(dim, units)

    cut("transformer.word_embeddings.weight", words)
    for layer in range(config.num_layers):
        base = f"transformer.layers.{layer}"
        attentions = [f"{base}.attention.{{}}"]
        if hasattr(network, "mixins") and hasattr(network.mixins, "attention_plus"):
            attentions.append(f"mixins.attention_plus.{{}}.{layer}")
        for attention in attentions:
            cut(attention.format("query_key_value") + ".weight", own_qkv)
            cut(attention.format("query_key_value") + ".bias", own_qkv)
            cut(attention.format("dense") + ".weight", own, dim=1)
        cut(f"{base}.mlp.dense_h_to_4h.weight", wide)
        cut(f"{base}.mlp.dense_h_to_4h.bias", wide)
        cut(f"{base}.mlp.dense_4h_to_h.weight", wide, dim=1)
    return state


@pytest.fixture
def ranked(
    make_released: Callable[..., Path], make_network: Callable[..., Network], write_rank: Callable[..., None]
) -> Callable[..., Path]:
    """A released folder whose tensors lie in several files."""

    def make(part: str = "stage1", ranks: int = 2, change: dict[int, State] | None = None) -> Path:
        folder = make_released(part, settings={"model_parallel_size": ranks})
        for rank in range(ranks):
            state = split(make_network(part), rank, ranks) | (change or {}).get(rank, {})
            write_rank(folder / "27000" / f"mp_rank_{rank:02d}_model_states.pt", state)
        return folder

    return make


@pytest.mark.parametrize("ranks", [2, 4])
@pytest.mark.parametrize("part", ["image", "stage1", "stage2", "superres", "iterative"])
def test_ranks_are_joined_bit_for_bit(
    part: str, ranks: int, ranked: Callable[..., Path], make_network: Callable[..., Network], tmp_path: Path
) -> None:
    whole = make_network(part).state_dict()
    folder = ranked(part, ranks)
    converted = convert(folder, tmp_path / "whole")
    for path in (folder, tmp_path / "whole"):
        joined = load_network(path, part, device="cpu").state_dict()
        assert list(joined) == list(whole)
        assert all(torch.equal(joined[name], whole[name]) for name in whole)
    names = {f"27000/mp_rank_{rank:02d}_model_states.pt" for rank in range(ranks)}
    assert set(converted.card.source.files) == names | {"model_config.json"}


def test_the_splitter_divides_attention_by_heads(make_network: Callable[..., Network], small: ModelConfig) -> None:
    """Whole attention scores are the two ranks' scores side by side, so that the test above means something."""
    network = make_network("stage1", dtype=torch.float32)
    x = torch.randn(5, small.hidden_size, generator=torch.Generator().manual_seed(0))

    def scores(state: State) -> Tensor:
        name = "transformer.layers.1.attention.query_key_value"
        q, k, _ = (x @ state[f"{name}.weight"].T + state[f"{name}.bias"]).chunk(3, -1)
        q, k = (part.unflatten(-1, (-1, small.head_dim)).transpose(0, 1) for part in (q, k))
        return q @ k.mT

    halves = [scores(split(network, rank, 2)) for rank in range(2)]
    torch.testing.assert_close(torch.cat(halves), scores(network.state_dict()))


@pytest.mark.parametrize("absent", [0, 1])
def test_a_rank_that_is_missing_is_named(ranked: Callable[..., Path], absent: int) -> None:
    folder = ranked()
    (folder / "27000" / f"mp_rank_{absent:02d}_model_states.pt").unlink()
    with pytest.raises(UserError, match=f"has no mp_rank_{absent:02d}_model_states.pt"):
        load_network(folder, device="cpu")


def test_one_rank_alone_is_refused_although_no_setting_tells_of_others(ranked: Callable[..., Path]) -> None:
    folder = ranked()
    (folder / "27000" / "mp_rank_01_model_states.pt").unlink()
    settings = json.loads((folder / "model_config.json").read_text())
    del settings["model_parallel_size"]
    (folder / "model_config.json").write_text(json.dumps(settings))
    with pytest.raises(UserError, match=r"word_embeddings.weight is 30x32, expected 60x32"):
        load_network(folder, device="cpu")


def test_copies_that_differ_are_refused(ranked: Callable[..., Path], tmp_path: Path) -> None:
    name = "transformer.layers.1.third_layernorm.weight"
    folder = ranked(change={1: {name: torch.zeros(32).half()}})
    with pytest.raises(UserError, match=f"{name} has to be the same on every rank, rank 0 and rank 1 differ"):
        convert(folder, tmp_path / "whole")
    assert not (tmp_path / "whole").exists()


@pytest.mark.parametrize(
    ("name", "piece", "words"),
    [
        (
            "transformer.layers.0.attention.dense.weight",
            torch.zeros(31, 16).half(),
            r"do not fit together \(32x16, 31x16",
        ),
        (
            "transformer.layers.0.attention.query_key_value.bias",
            torch.zeros(47).half(),
            r"do not fit together \(48, 47\)",
        ),
        ("transformer.final_layernorm.bias", torch.zeros(32), r"do not fit together \(32, 32\)"),
        (
            "mixins.more",
            torch.zeros(2).half(),
            r"rank 0 and rank 1 differ in the tensors that they have \(mixins.more\)",
        ),
    ],
)
def test_pieces_that_do_not_fit_are_refused(ranked: Callable[..., Path], name: str, piece: Tensor, words: str) -> None:
    with pytest.raises(UserError, match=words):
        load_network(ranked(change={1: {name: piece}}), device="cpu")
