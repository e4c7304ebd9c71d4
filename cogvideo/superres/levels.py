"""The layers of super-resolution: first what cells read (text, low-resolution tokens), then the cells themselves.

N frames, S prefix positions, E of them that cells see, C cells, h hidden size, A heads, M drawn cells.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from cogvideo.errors import UserError
from cogvideo.network import Network
from cogvideo.superres.neighbourhood import LocalTables, attend_locally

# Rows of logits that are alive at once; the sampler needs a multiple of the vocabulary for each.
ROWS_OF_LOGITS = 256

Projections = Sequence[tuple[nn.Module, nn.Module]]
Progress = Callable[[int, int], None]
"""Called with how many forwards of one frame are done, and of how many."""


@dataclass(frozen=True)
class Prefix:
    """Keys and values that cells read: `layers[l][n]` is (E, 2h), without pads. `hidden` (N, S, h) if asked for."""

    layers: list[list[Tensor]]
    hidden: Tensor | None

    @property
    def lengths(self) -> list[int]:
        """Rows of each frame."""
        return [rows.shape[0] for rows in self.layers[0]]


def base_projections(network: Network) -> Projections:
    """Queries-keys-values and output of the base channel, layer by layer."""
    return [(layer.attention.query_key_value, layer.attention.dense) for layer in network.layers]


def plus_projections(network: Network) -> Projections:
    """The same of the second channel."""
    plus = network.mixins.attention_plus
    return list(zip(plus.query_key_value, plus.dense, strict=True))


def read_prefix(
    network: Network, x_NSH: Tensor, bias_N1SS: Tensor, first: Sequence[int], *, with_hidden: bool = False
) -> Prefix:
    """Run the base channel over the prefix and keep keys and values from position `first[n]` of frame n on.

    The prefix sees no cell, so it is the same for every step of a schedule and is computed once for all of them.
    Unless `with_hidden`, the last layer stops at its keys and values: nothing reads what comes after them.
    """
    heads = network.config.num_attention_heads
    x_NSH = functional.dropout(x_NSH, network.active_dropout, network.training)
    N, S, h = x_NSH.shape
    kept: list[list[Tensor]] = []
    for layer in network.layers:
        qkv = layer.attention.query_key_value(layer.input_layernorm(x_NSH))
        # Copies: a view would keep the queries alive for as long as the prefix.
        kept.append([qkv[n, start:, h:].clone() for n, start in enumerate(first)])
        if len(kept) == len(network.layers) and not with_hidden:
            return Prefix(kept, None)
        q, k, v = qkv.view(N, S, 3, heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        context = functional.scaled_dot_product_attention(q, k, v, bias_N1SS, dropout_p=network.active_dropout)
        attended = layer.attention.dense(context.transpose(1, 2).reshape(N, S, h))
        x_NSH = layer.after_attention(x_NSH, attended, network.active_dropout)
    return Prefix(kept, network.transformer.final_layernorm(x_NSH))


def read_cells(
    network: Network,
    projections: Projections,
    inputs_NC: Tensor,
    prefix: Prefix,
    tables: Sequence[LocalTables],
    cells: Tensor | None = None,
) -> Tensor:
    """Hidden states of cells after the final layer norm, (N, C, h), or (N, M, h) of `cells` alone.

    inputs_NC: the token that is fed in the slot of each cell, row by row. `tables`: one for each frame, all of one
    geometry. Cells lie tile by tile from the embedding to the end, so that queries are never moved.
    """
    order, place = tables[0].order, tables[0].place
    positions_CH = network.mixins.extra_position_embedding.position_embeddings.weight
    x_NCH = network.transformer.word_embeddings(inputs_NC[:, order]) + positions_CH[order]
    dropout = network.active_dropout
    x_NCH = functional.dropout(x_NCH, dropout, network.training)
    heads = network.config.num_attention_heads
    for layer, (query_key_value, dense), seen in zip(network.layers, projections, prefix.layers, strict=True):
        qkv_NCX = query_key_value(layer.input_layernorm(x_NCH))
        contexts = [
            attend_locally(qkv_CX, rows_EY, its, heads, dropout)
            for qkv_CX, rows_EY, its in zip(qkv_NCX, seen, tables, strict=True)
        ]
        x_NCH = layer.after_attention(x_NCH, dense(torch.stack(contexts)), dropout)
    wanted = place if cells is None else place[cells]
    hidden_NMH: Tensor = network.transformer.final_layernorm(x_NCH[:, wanted])
    return hidden_NMH


def draw_ids(network: Network, hidden_NMH: Tensor, draw: Callable[[Tensor, slice], Tensor]) -> Tensor:
    """int64 ids (N, M): `draw(logits, rows)` for some rows of the flattened cells at a time.

    Raises UserError if a hidden state is not finite, as in half precision with weights that leave its range.
    """
    rows_BH = hidden_NMH.flatten(0, 1)
    if not bool(rows_BH.isfinite().all()):
        raise UserError(
            f"super-resolution gives values that are not finite in {str(network.dtype).removeprefix('torch.')}; "
            "use bfloat16 or float32, and check the weights"
        )
    drawn = []
    for start in range(0, len(rows_BH), ROWS_OF_LOGITS):
        rows = slice(start, start + ROWS_OF_LOGITS)
        drawn.append(draw(network.image_logits(rows_BH[rows]), rows))
    if not drawn:  # A schedule may have steps without cells where the grid is smaller than its block.
        return torch.empty(hidden_NMH.shape[:2], dtype=torch.int64, device=hidden_NMH.device)
    return torch.cat(drawn).view(hidden_NMH.shape[:2])


def check_frames(ids: Tensor, length: int, network: Network, what: str) -> None:
    """Raises UserError unless `ids` is (frames, `length`) with image tokens alone."""
    limit = network.config.num_image_tokens
    if ids.ndim != 2 or ids.shape[1] != length:
        raise UserError(f"super-resolution expects frames of {length} {what}, got a block of {list(ids.shape)}")
    if ids.numel() and (int(ids.min()) < 0 or int(ids.max()) >= limit):
        raise UserError(
            f"super-resolution expects image tokens below {limit}, got {int(ids.min())} to {int(ids.max())}"
        )


def per_frame(values: Sequence[Sequence[int]] | Tensor, frames: int, what: str) -> list[int]:
    """For each frame the index of its entry, where `values` has one entry for each group of frames in a row."""
    if frames == 0 or len(values) == 0 or frames % len(values):
        raise UserError(f"expected one of {what} for each of {frames} frames or groups of them, got {len(values)}")
    return [frame * len(values) // frames for frame in range(frames)]
