"""A network small enough for a second, and the same network written down slowly, one visible pair at a time.

The slow one shares nothing with the package but the parameters: masks are spelled out from the published rules,
windows are cut by rolling a labelled grid, everything is float64, one row without pads at a time.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch

from cogvideo.checkpoint.cards import PipelineCard, write_card
from cogvideo.checkpoint.convert import convert
from cogvideo.checkpoint.loading import save_network
from cogvideo.config import ModelConfig, get_size
from cogvideo.network import Network
from cogvideo.pipeline import CogVideo


def _config(**changes):
    sizes = {
        "num_layers": 3,
        "hidden_size": 32,
        "num_attention_heads": 2,
        "num_image_tokens": 24,
        "text_pieces": 16,
        "vocab_size": 45,
        "grid": 4,
        "text_len": 6,
        "spare_text_len": 2,
        "max_sequence_length": 64,
        "image_position_offset": 10,
        "extra_positions": 150,
        "window": 2,
    }
    return ModelConfig(**(sizes | changes))


@pytest.fixture(scope="session")
def make_config():
    """Sizes of a network that a test can afford, with changes."""
    return _config


def _network(config, seed=0, dtype=torch.float32):
    """Parameters with enough spread that every one of them shows in the logits, gates and biases too."""
    network = Network(config).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            drawn = torch.randn(parameter.shape, generator=generator)
            if name.endswith("layernorm.weight"):
                parameter.copy_(1 + 0.2 * drawn)
            elif parameter.dim() == 1:
                parameter.copy_((1.0 if "attn_distribution" in name else 0.1) * drawn)
            elif "embeddings" in name:
                parameter.copy_(0.5 * drawn)
            else:
                parameter.copy_(drawn / math.sqrt(parameter.shape[1]))
    return network.to(dtype)


@pytest.fixture(scope="session")
def make_network():
    """A network of random parameters, logits with a standard deviation of about 3."""
    return _network


def _draw(config, lengths, frames=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    low = config.num_image_tokens + 5
    texts = [torch.randint(low, config.boi_id, (n,), generator=generator).tolist() for n in lengths]
    shape = (len(lengths), frames, config.frame_len)
    return texts, torch.randint(0, config.num_image_tokens, shape, generator=generator)


@pytest.fixture(scope="session")
def draw():
    """Texts of some lengths (lists of ids), and frames in natural order (B, N, F)."""
    return _draw


def _places(grid, window, layer):
    """(R * R) labels: two cells share one if training lets them see each other in this layer (fact: Swin)."""
    shift = window // 2 if layer % 2 else 0
    labels = np.zeros((grid, grid), dtype=int)
    for row, rows in enumerate((slice(0, grid - shift), slice(grid - shift, grid))):
        for column, columns in enumerate((slice(0, grid - shift), slice(grid - shift, grid))):
            labels[rows, columns] = 2 * row + column
    for row in range(grid):
        for column in range(grid):
            labels[row, column] += 4 * (row // window * grid + column // window)
    return np.roll(labels, (shift, shift), (0, 1)).flatten()


def _windows_without_seam(grid, window, layer):
    """(R * R) labels of the rolled windows alone."""
    shift = window // 2 if layer % 2 else 0
    rows, columns = np.indices((grid, grid))
    return np.roll(rows // window * grid + columns // window, (shift, shift), (0, 1)).flatten()


def _one_token_rule(grid, window, layer):
    """(R * R, R * R): what the release lets a cell see when one token is decoded."""
    shift = window // 2 if layer % 2 else 0

    def span(place):
        start = (place + shift) // window * window - shift
        return range(max(0, start), min(grid, start + window))

    table = np.zeros((grid**2, grid**2), dtype=bool)
    for row in range(grid):
        for column in range(grid):
            for other_row in span(row):
                for other_column in span(column):
                    table[row * grid + column, other_row * grid + other_column] = True
    return table


@pytest.fixture(scope="session")
def cells_see():
    """(R * R, R * R) tables of which cells see each other in a layer, by rule."""

    def table(grid, window, layer, rule="training"):
        if rule == "release":
            return _one_token_rule(grid, window, layer)
        labels = (_places if rule == "training" else _windows_without_seam)(grid, window, layer)
        return labels[:, None] == labels[None]

    return table


@dataclass
class Rules:
    """What the slow network obeys. `prefilled`: frames (natural) that were there before the first step."""

    order: tuple[int, ...]
    given: frozenset[int] = frozenset()
    window: int | None = None
    bonus: float = 0.0
    has_plus: bool = True
    prefilled: frozenset[int] = frozenset()
    seam_in_prefill: bool = True
    bonus_in_prefill: bool = True
    odd_windows: str = "training"
    tables: dict = field(default_factory=dict)

    def base(self, frame, cell, other_frame, other_cell):
        if frame != other_frame:
            return False
        return frame in self.given or other_cell <= cell

    def plus(self, grid, layer, frame, cell, other_frame, other_cell):
        if frame in self.given:
            if other_frame not in self.given:
                return False
        elif frame == other_frame:
            if other_cell > cell:
                return False
        elif self.order.index(other_frame) > self.order.index(frame):
            return False
        if self.window is None:
            return True
        rule = "training"
        if frame in self.given and not self.seam_in_prefill:
            rule = "no seam"
        elif frame not in self.prefilled:
            rule = self.odd_windows
        return bool(self.table(grid, layer % 2, rule)[cell, other_cell])

    def table(self, grid, parity, rule):
        if (parity, rule) not in self.tables:
            labels = {"training": _places, "no seam": _windows_without_seam}.get(rule)
            if labels is None:
                self.tables[parity, rule] = _one_token_rule(grid, self.window, parity)
            else:
                its = labels(grid, self.window, parity)
                self.tables[parity, rule] = its[:, None] == its[None]
        return self.tables[parity, rule]


@pytest.fixture(scope="session")
def make_rules():
    return Rules


def _slow(network, text, frames, rules):
    """Logits (N, F, V) float64 of one row: `text` real ids, `frames` (N, F) in natural order, fed as `rules.order`."""
    config = network.config
    weights = {name: tensor.detach().double() for name, tensor in network.state_dict().items()}
    word = weights["transformer.word_embeddings.weight"]
    base_rows = weights["transformer.position_embeddings.weight"]
    extra_rows = weights["mixins.extra_position_embedding.position_embeddings.weight"]
    F, T, N = config.frame_len, len(text), len(rules.order)
    slots = [(frame, cell) for frame in rules.order for cell in range(F)]
    states = [word[token] + base_rows[place] for place, token in enumerate(text)]
    for frame, cell in slots:
        token = config.boi_id if cell == 0 else int(frames[frame, cell - 1])
        place = config.image_position_offset + frame * F + cell
        first_extra = config.image_position_offset + F
        states.append(word[token] + (base_rows[place] if place < first_extra else extra_rows[place - first_extra]))
    x = torch.stack(states)

    def norm(name, y):
        weight, bias = weights[f"{name}.weight"], weights[f"{name}.bias"]
        spread = ((y - y.mean(-1, keepdim=True)) ** 2).mean(-1, keepdim=True)
        return (y - y.mean(-1, keepdim=True)) / (spread + config.layernorm_eps).sqrt() * weight + bias

    def linear(name, y):
        return y @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    def attend(qkv, mask, bonus):
        parts = qkv.view(len(qkv), 3, config.num_attention_heads, config.head_dim)
        out = torch.zeros(len(qkv), config.num_attention_heads, config.head_dim, dtype=torch.float64)
        for head in range(config.num_attention_heads):
            q, k, v = parts[:, 0, head], parts[:, 1, head], parts[:, 2, head]
            scores = q @ k.T / math.sqrt(config.head_dim) + bonus
            out[:, head] = scores.masked_fill(~mask, -torch.inf).softmax(-1) @ v
        return out.flatten(1)

    everyone = T + len(slots)
    base_mask = torch.zeros(everyone, everyone, dtype=torch.bool)
    base_mask[:, :T] = True
    plus_masks = [base_mask.clone(), base_mask.clone()]
    for q, (frame, cell) in enumerate(slots, T):
        for k, (other, other_cell) in enumerate(slots, T):
            base_mask[q, k] = rules.base(frame, cell, other, other_cell)
            for parity in (0, 1):
                plus_masks[parity][q, k] = rules.plus(config.grid, parity, frame, cell, other, other_cell)
    base_bonus = torch.zeros(everyone, everyone, dtype=torch.float64)
    base_bonus[T:, :T] = rules.bonus
    plus_bonus = base_bonus.clone()
    for q, (frame, _) in enumerate(slots, T):
        if frame in rules.prefilled and not rules.bonus_in_prefill:
            plus_bonus[q, :T] = 0.0
    for layer in range(config.num_layers):
        name = f"transformer.layers.{layer}"
        u = norm(f"{name}.input_layernorm", x)
        base = attend(linear(f"{name}.attention.query_key_value", u), base_mask, base_bonus)
        mixed = linear(f"{name}.attention.dense", base)
        if rules.has_plus:
            its = "mixins.attention_plus"
            plus = attend(linear(f"{its}.query_key_value.{layer}", u), plus_masks[layer % 2], plus_bonus)
            gate = 1 / (1 + (-weights[f"{its}.attn_distribution.{layer}"]).exp())
            both = gate * mixed + (1 - gate) * linear(f"{its}.dense.{layer}", plus)
            mixed = torch.cat([mixed[:T], both[T:]])
        x = x + norm(f"{name}.third_layernorm", mixed)
        y = linear(f"{name}.mlp.dense_h_to_4h", norm(f"{name}.post_attention_layernorm", x))
        y = 0.5 * y * (1 + torch.tanh(0.7978845608028654 * (y + 0.044715 * y**3)))
        x = x + norm(f"{name}.fourth_layernorm", linear(f"{name}.mlp.dense_4h_to_h", y))
    logits = norm("transformer.final_layernorm", x) @ word[: config.num_image_tokens].T
    fed = logits[T:].view(N, F, -1)
    natural = torch.empty_like(fed)
    natural[list(rules.order)] = fed
    return natural


@pytest.fixture(scope="session")
def slow_logits():
    return _slow


def _pipeline_config(**changes):
    """The words of `tiny` on the smallest grid whose windows move."""
    sizes = {
        "num_layers": 3,
        "hidden_size": 32,
        "num_attention_heads": 2,
        "num_image_tokens": 24,
        "vocab_size": 24 + 48 + 8,
        "grid": 4,
        "window": 2,
        "extra_positions": 64,
    }
    return replace(get_size("tiny"), name="", **(sizes | changes))


@pytest.fixture(scope="session")
def pipeline_config():
    """Sizes of a whole pipeline that a test can afford, with changes."""
    return _pipeline_config


def _pipeline(seed=0, superres=False, iterative=False, stage2=True, **changes):
    wanted = {"superres": superres, "iterative": iterative, "stage2": stage2}
    model = CogVideo.random(_pipeline_config(**changes), seed=seed, **wanted)
    generator = torch.Generator().manual_seed(seed)
    parts = (model.networks.stage1, model.networks.stage2, model.networks.superres, model.networks.iterative)
    with torch.no_grad():
        for part in parts:
            for name, parameter in [] if part is None else part.named_parameters():
                # Places speak louder than tokens, which else repeat themselves: words are the output layer too.
                loud = {"word_embeddings.weight": 0.2, "position_embeddings.weight": 0.8}
                usual = 1 / math.sqrt(parameter.shape[1]) if parameter.dim() == 2 else 0.3
                spread = loud.get(".".join(name.split(".")[-2:]), usual)
                parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=spread)
    return model


@pytest.fixture(scope="session")
def make_pipeline():
    """`CogVideo` with random weights, strong enough that prompts, frames and seeds all show in what is drawn."""
    return _pipeline


def _shapes_folder(make_pipeline, folder):
    networks = make_pipeline(superres=True, iterative=True).networks
    for role in ("stage1", "stage2", "superres", "iterative"):
        save_network(getattr(networks, role), folder / role, role, source="random")
    torch.save({"module": networks.image_tokenizer.state_dict()}, folder / "ice_image.pt")
    convert(folder / "ice_image.pt", folder / "image_tokenizer", notify=lambda _line: None)
    (folder / "ice_image.pt").unlink()
    write_card(folder, PipelineCard(name="shapes"))
    return folder


@pytest.fixture(scope="session")
def weights(make_pipeline, tmp_path_factory):
    """A folder of small networks with the words of `tiny`."""
    return _shapes_folder(make_pipeline, tmp_path_factory.mktemp("weights") / "shapes")
