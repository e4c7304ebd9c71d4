"""The parameters of CogView2 and of CogVideo's second channel, under the names of the released checkpoints.

B rows, S positions, h hidden size, A heads, d = h / A. What the layers compute is in `forward.py` and `decoding.py`.
"""

from __future__ import annotations

import math
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from cogvideo.config import ModelConfig

Kind = Literal["image", "video", "superres", "iterative"]

# Up to so many rows a matrix so many times as wide as it is high is multiplied from the left on a CPU.
FEW_ROWS, VERY_WIDE = 8, 8


def project(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`functional.linear`, but as weight times rows where a CPU is faster at that: a few rows, a wide matrix.

    Two rows of float32 against a matrix that comes from memory take a third of the time (MKL, measured by
    `benchmarks/generation.py`); from about eight rows on the usual product wins.
    """
    rows = x.numel() // x.shape[-1]
    wide, narrow = weight.shape
    if (
        not 2 <= rows <= FEW_ROWS
        or x.device.type != "cpu"
        or x.dtype != torch.float32
        or torch.is_grad_enabled()
        or wide < (narrow if rows == 2 else VERY_WIDE * narrow)
    ):
        return functional.linear(x, weight, bias)
    product = torch.matmul(weight, x.reshape(rows, narrow).t()).t()
    if bias is not None:
        product = product + bias
    return product.reshape(*x.shape[:-1], wide)


class Projection(nn.Linear):
    """A linear layer by `project`."""

    def forward(self, x: Tensor) -> Tensor:
        return project(x, self.weight, self.bias)


class Attention(nn.Module):
    """Fused queries, keys and values [q | k | v], and the output projection."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.query_key_value = Projection(hidden, 3 * hidden)
        self.dense = Projection(hidden, hidden)


class FeedForward(nn.Module):
    """h -> 4h -> h with the tanh form of GELU."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.dense_h_to_4h = Projection(hidden, 4 * hidden)
        self.dense_4h_to_h = Projection(4 * hidden, hidden)

    def forward(self, x_BSH: Tensor) -> Tensor:
        return self.dense_4h_to_h(functional.gelu(self.dense_h_to_4h(x_BSH), approximate="tanh"))  # type: ignore[no-any-return]


class Layer(nn.Module):
    """One sandwich layer: a layer norm before and after attention, and before and after the feed-forward part."""

    def __init__(self, hidden: int, eps: float) -> None:
        super().__init__()
        self.input_layernorm = nn.LayerNorm(hidden, eps=eps)
        self.attention = Attention(hidden)
        self.post_attention_layernorm = nn.LayerNorm(hidden, eps=eps)
        self.mlp = FeedForward(hidden)
        self.third_layernorm = nn.LayerNorm(hidden, eps=eps)
        self.fourth_layernorm = nn.LayerNorm(hidden, eps=eps)

    def after_attention(self, x_BSH: Tensor, attended_BSH: Tensor, dropout: float = 0.0) -> Tensor:
        """The rest of the layer once attention is known. (B, S, h) -> (B, S, h)."""
        x_BSH = x_BSH + self.third_layernorm(attended_BSH)
        forwarded_BSH = functional.dropout(self.mlp(self.post_attention_layernorm(x_BSH)), dropout, dropout > 0)
        return x_BSH + self.fourth_layernorm(forwarded_BSH)  # type: ignore[no-any-return]


class Transformer(nn.Module):
    """CogView2's part: embeddings, layers and the final layer norm; frozen in CogVideo."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(config.vocab_size, config.hidden_size)
        self.position_embeddings = nn.Embedding(config.max_sequence_length, config.hidden_size)
        self.layers = nn.ModuleList(Layer(config.hidden_size, config.layernorm_eps) for _ in range(config.num_layers))
        self.final_layernorm = nn.LayerNorm(config.hidden_size, eps=config.layernorm_eps)


class ExtraPositions(nn.Module):
    """The second position table."""

    def __init__(self, rows: int, hidden: int) -> None:
        super().__init__()
        self.position_embeddings = nn.Embedding(rows, hidden)


class PlusChannel(nn.Module):
    """The second attention channel of every layer, and the gate that mixes it in (none in super-resolution)."""

    def __init__(self, layers: int, hidden: int, *, has_gate: bool) -> None:
        super().__init__()
        self.query_key_value = nn.ModuleList(Projection(hidden, 3 * hidden) for _ in range(layers))
        self.dense = nn.ModuleList(Projection(hidden, hidden) for _ in range(layers))
        if has_gate:
            self.attn_distribution = nn.ParameterList(nn.Parameter(torch.zeros(hidden)) for _ in range(layers))


class Mixins(nn.Module):
    """What a network has besides CogView2's part."""

    def __init__(self, config: ModelConfig, kind: Kind) -> None:
        super().__init__()
        rows = config.extra_positions if kind == "video" else config.superres_grid**2
        self.extra_position_embedding = ExtraPositions(rows, config.hidden_size)
        if kind != "iterative":
            self.attention_plus = PlusChannel(config.num_layers, config.hidden_size, has_gate=kind == "video")


class Network(nn.Module):
    """A transformer of the CogView2 family: "image" (coglm), "video" (both stages), "superres" or "iterative".

    Parameter names and shapes are those of the released files. Parameters are left as torch makes them; use
    `initialise_` or load a checkpoint. `dropout` acts in training mode alone (0.1 in the paper's training).
    """

    def __init__(self, config: ModelConfig, kind: Kind = "video", *, dropout: float = 0.0) -> None:
        super().__init__()
        self.config = config
        self.kind = kind
        self.dropout = dropout
        self.transformer = Transformer(config)
        if kind != "image":
            self.mixins = Mixins(config, kind)
        self.fused: list[tuple[Tensor, Tensor]] = []

    def fuse_(self) -> None:
        """Lay the queries, keys and values of both channels of a layer side by side, so that one product makes them.

        The parameters become views of the joint storage: names, values and the memory needed stay the same.
        """
        if self.kind != "video" or self._is_fused():
            return
        with torch.no_grad():
            self.fused = []
            for layer, plus in zip(self.layers, self.plus.query_key_value, strict=True):
                base = layer.attention.query_key_value
                joint = []
                for name in ("weight", "bias"):
                    parts = (getattr(base, name), getattr(plus, name))
                    both = torch.cat([part.data for part in parts])
                    for part, view in zip(parts, both.chunk(2), strict=True):
                        part.data = view
                    joint.append(both)
                self.fused.append((joint[0], joint[1]))

    def _is_fused(self) -> bool:
        """Whether the views still hold: moving or loading a network gives its parameters storages of their own."""
        if len(self.fused) != self.config.num_layers:
            return False
        for layer, plus, joint in zip(self.layers, self.plus.query_key_value, self.fused, strict=True):
            for name, both in zip(("weight", "bias"), joint, strict=True):
                parts = [getattr(part, name) for part in (layer.attention.query_key_value, plus)]
                if [part.data_ptr() for part in parts] != [view.data_ptr() for view in both.chunk(2)]:
                    return False
        return True

    def _apply(self, *args: Any, **kwargs: Any) -> Self:
        """Moving or converting: a joint storage that nobody views any more would only take memory."""
        super()._apply(*args, **kwargs)  # type: ignore[no-untyped-call]
        if not self._is_fused():
            self.fused = []
        return self

    @property
    def active_dropout(self) -> float:
        return self.dropout if self.training else 0.0

    @property
    def layers(self) -> list[Layer]:
        return list(self.transformer.layers)  # type: ignore[arg-type]

    @property
    def plus(self) -> PlusChannel:
        """The second channel, of networks that have one."""
        return self.mixins.attention_plus

    @property
    def device(self) -> torch.device:
        return self.transformer.word_embeddings.weight.device

    @property
    def dtype(self) -> torch.dtype:
        return self.transformer.word_embeddings.weight.dtype

    def image_logits(self, hidden_BSH: Tensor) -> Tensor:
        """Logits of the image tokens alone, (B, S, num_image_tokens) float32, from hidden states after the final norm.

        The head is the tied embedding; its rows are read in place, in the network's own type, never copied.
        """
        head_VH = self.transformer.word_embeddings.weight[: self.config.num_image_tokens]
        return project(hidden_BSH, head_VH).float()

    def all_logits(self, hidden_BSH: Tensor) -> Tensor:
        """Logits of the whole vocabulary, (B, S, vocab_size) float32."""
        return functional.linear(hidden_BSH, self.transformer.word_embeddings.weight).float()


def initialise_(network: Network, seed: int) -> Network:
    """Random parameters as the release draws them, the same for a seed on any machine.

    Normal with standard deviation 0.02, but 0.02 / sqrt(2 layers) for the base channel's output and the second
    feed-forward matrix; biases and gates 0, layer norms 1 and 0.
    """
    narrow = 0.02 / math.sqrt(2 * network.config.num_layers)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith("layernorm.weight"):
                parameter.fill_(1.0)
            elif parameter.dim() == 1:
                parameter.zero_()
            else:
                is_narrow = name.endswith(("attention.dense.weight", "mlp.dense_4h_to_h.weight"))
                drawn = torch.empty(parameter.shape).normal_(0.0, narrow if is_narrow else 0.02, generator=generator)
                parameter.copy_(drawn)
    return network
