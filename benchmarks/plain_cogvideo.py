"""CogVideo decoded the plain eager way, the rival of our benchmarks: a first implementation, nothing saved.

Caches grow by concatenation in every layer and channel, and the text is put before them once more; guidance is a
second pass; the head is copied to float32 at every step; the temporal channel of the first frame is computed and
thrown away; a window is a Python list of indices and a gather; tokens are drawn row by row. Same parameters as ours.
B rows, A heads, d head size, T text slots, h hidden size, V image tokens.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional

from cogvideo.clusters import ClusterTable
from cogvideo.decoding import Plan
from cogvideo.network import Network
from cogvideo.sampling import SamplerSettings
from cogvideo.schedule import Slot

KeysValues = tuple[Tensor, Tensor]


@dataclass
class PlainCache:
    """Keys and values (B, A, slots, d) of every layer: text and frame part of the base and of the temporal channel."""

    text_base: list[KeysValues] = field(default_factory=list)
    text_plus: list[KeysValues] = field(default_factory=list)
    frame_base: list[KeysValues] = field(default_factory=list)
    frame_plus: list[KeysValues] = field(default_factory=list)

    def copied(self) -> PlainCache:
        """A cache that can be stepped without changing this one; tensors are replaced, never written."""
        return PlainCache(list(self.text_base), list(self.text_plus), list(self.frame_base), list(self.frame_plus))


class PlainDecoder:
    """One pass: the rows of one prompt, whose texts are equally long and have no pads."""

    def __init__(self, network: Network, plan: Plan, cache: PlainCache) -> None:
        self.network = network
        self.plan = plan
        self.cache = cache

    @torch.no_grad()
    def step(self, token_B: Tensor, slot: Slot) -> Tensor:
        """Logits of the image tokens, (B, V) float32, at `slot`, whose input is `token_B`."""
        return self.head(self.layers(token_B, slot))

    @torch.no_grad()
    def layers(self, token_B: Tensor, slot: Slot) -> Tensor:
        """Hidden states (B, 1, h) after the final layer norm."""
        network = self.network
        x = network.transformer.word_embeddings(token_B[:, None]) + self._position(slot)
        for index, layer in enumerate(network.transformer.layers):
            u = layer.input_layernorm(x)
            attended = self._attention(index, u, slot)
            x = x + layer.third_layernorm(attended)
            y = layer.post_attention_layernorm(x)
            y = layer.mlp.dense_h_to_4h(y)
            y = 0.5 * y * (1.0 + torch.tanh(0.7978845608028654 * y * (1.0 + 0.044715 * y * y)))
            x = x + layer.fourth_layernorm(layer.mlp.dense_4h_to_h(y))
        return network.transformer.final_layernorm(x)

    @torch.no_grad()
    def head(self, hidden_B1H: Tensor) -> Tensor:
        """The image tokens' rows, copied to float32 at every call."""
        rows = self.network.transformer.word_embeddings.weight[: self.network.config.num_image_tokens].float()
        return functional.linear(hidden_B1H.float(), rows)[:, 0]

    def _position(self, slot: Slot) -> Tensor:
        frame_len = self.network.config.frame_len
        if slot.frame == 0:
            row = self.network.config.image_position_offset + slot.cell
            return self.network.transformer.position_embeddings.weight[row]
        row = (slot.frame - 1) * frame_len + slot.cell
        return self.network.mixins.extra_position_embedding.position_embeddings.weight[row]

    def _attention(self, index: int, u: Tensor, slot: Slot) -> Tensor:
        attention, plus, cache = self.network.transformer.layers[index].attention, self.network.plus, self.cache
        q, k, v = self._heads(attention.query_key_value(u))
        if slot.cell == 0:
            cache.frame_base[index] = (k[:, :, :0], v[:, :, :0])
        cache.frame_base[index] = _appended(cache.frame_base[index], (k, v))
        base = attention.dense(self._context(q, cache.text_base[index], cache.frame_base[index]))
        q, k, v = self._heads(plus.query_key_value[index](u))
        cache.frame_plus[index] = _appended(cache.frame_plus[index], (k, v))
        seen = cache.frame_plus[index]
        if self.plan.window is not None:
            places = torch.tensor(self._window(index, slot), device=u.device)
            seen = (seen[0].index_select(2, places), seen[1].index_select(2, places))
        temporal = plus.dense[index](self._context(q, cache.text_plus[index], seen))
        gate = torch.sigmoid(plus.attn_distribution[index])
        mixed = gate * base + (1 - gate) * temporal
        return mixed if self.plan.has_plus else base

    def _context(self, q: Tensor, text: KeysValues, frames: KeysValues) -> Tensor:
        """Attention in single operations. (B, A, 1, d) -> (B, 1, h)."""
        k, v = _appended(text, frames)
        scores = torch.matmul(q / math.sqrt(q.shape[-1]), k.transpose(-1, -2))
        if self.plan.text_bonus:
            scores[..., : text[0].shape[2]] += self.plan.text_bonus
        context = torch.matmul(torch.softmax(scores, dim=-1), v)
        return context.transpose(1, 2).reshape(q.shape[0], 1, -1)

    def _window(self, index: int, slot: Slot) -> list[int]:
        """Places in the cache of what a token of stage 2 sees: its window in each frame so far, itself included."""
        config, window = self.network.config, self.plan.window
        assert window is not None
        shift = window // 2 if index % 2 else 0
        spans = []
        for at in divmod(slot.cell, config.grid):
            start = (at + shift) // window * window - shift
            spans.append(range(max(0, start), min(config.grid, start + window)))
        cells = [row * config.grid + column for row in spans[0] for column in spans[1]]
        places = [fed * config.frame_len + cell for fed in range(slot.fed) for cell in cells]
        return places + [slot.fed * config.frame_len + cell for cell in cells if cell <= slot.cell]

    def _heads(self, qkv: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, 1, 3h) -> three times (B, A, 1, d)."""
        B, S, _ = qkv.shape
        parts = [part.view(B, S, self.network.config.num_attention_heads, -1) for part in qkv.chunk(3, dim=-1)]
        return parts[0].transpose(1, 2), parts[1].transpose(1, 2), parts[2].transpose(1, 2)


def plain_sample(logits_BV: Tensor, settings: SamplerSettings, table: ClusterTable) -> Tensor:
    """Ids (B,), one row after the other, each decision read back to Python."""
    ids = []
    for row in logits_BV / settings.temperature:
        probabilities = torch.softmax(row, dim=-1)
        mass = torch.zeros(table.num_clusters, device=row.device).scatter_add_(0, table.labels, probabilities)
        kept = mass.topk(min(settings.top_k_clusters, table.num_clusters))
        chosen = kept.indices[torch.multinomial(kept.values / kept.values.sum(), 1)].item()
        inside = (row / settings.within_temperature).masked_fill(table.labels != chosen, -65504.0)
        ids.append(torch.multinomial(torch.softmax(inside, dim=-1), 1).item())
    return torch.tensor(ids, device=logits_BV.device)


def _appended(before: KeysValues, after: KeysValues) -> KeysValues:
    """Keys and values, each copied whole."""
    return torch.cat([before[0], after[0]], dim=2), torch.cat([before[1], after[1]], dim=2)
