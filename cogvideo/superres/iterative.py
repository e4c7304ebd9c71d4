"""Iterative super-resolution: draw most high-resolution tokens of a frame anew, some at a time (CogView2).

N frames, C high-resolution cells, T text slots, h hidden size.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from cogvideo.errors import UserError
from cogvideo.forward import Text
from cogvideo.network import Network
from cogvideo.randomness import Stream, stream, uniform
from cogvideo.sampling import argmax, plain_top_k
from cogvideo.superres.direct import PAD_ID, draw_keys
from cogvideo.superres.levels import (
    Prefix,
    Progress,
    base_projections,
    check_frames,
    draw_ids,
    per_frame,
    read_cells,
    read_prefix,
)
from cogvideo.superres.neighbourhood import DEFAULT_TILE, Neighbourhood

# The released CogView2 repeats these numbers over the grid. Pass r masks and draws the cells whose number is r or
# more, so a cell is settled after the pass of its number; numbers below 1 keep what direct super-resolution gave.
PATTERN = (
    (-1, 0, 1, 2, 3, 4),
    (0, -1, 2, -1, -2, 5),
    (1, -2, 3, 4, 5, 6),
    (2, 3, 4, 5, -1, 1),
    (3, -1, -2, 0, -1, 2),
    (4, 5, 6, 1, 3, -2),
)
# How many of the likeliest tokens each pass draws from.
TOP_K = (40, 40, 40, 20, 20, 10)


def pass_numbers(grid: int) -> Tensor:
    """The pattern over a grid of any side, int64 (C,): repeated from the upper left, and cut."""
    pattern = torch.tensor(PATTERN)
    times = -(-grid // len(PATTERN))
    return pattern.repeat(times, times)[:grid, :grid].flatten()


class IterativeSuperResolution:
    """A network of kind "iterative": text and cells share the base channel; a cell sees all text and its patch.

    Raises UserError for a network of another kind. Ding et al. 2022 (CogView2), iterative super-resolution.
    """

    def __init__(self, network: Network, *, tile: int = DEFAULT_TILE) -> None:
        config = network.config
        if network.kind != "iterative":
            raise UserError(f"iterative super-resolution needs a network of kind 'iterative', got {network.kind!r}")
        self.network = network
        self.neighbourhood = Neighbourhood(config.superres_grid, 2 * config.patch - 1, config.patch, tile=tile)

    def text(self, text_ids: Sequence[Sequence[int]], length: int = 1) -> Text:
        """The first ids of each text, as many as the network has slots, left-padded to at least `length`."""
        slots = self.network.config.iterative_text_len
        return Text.padded([ids[:slots] for ids in text_ids], PAD_ID, self.network.device, length)

    def inputs(self, cells_NC: Tensor, number: int) -> Tensor:
        """What is fed in pass `number`, from 1: the cells, with BOI where this pass draws."""
        is_drawn = pass_numbers(self.network.config.superres_grid).to(cells_NC.device) >= number
        return cells_NC.masked_fill(is_drawn, self.network.config.boi_id)

    def positions(self, text: Text) -> Tensor:
        """Position ids (N, T + C). Those from `max_sequence_length` on are rows of the second table."""
        config = self.network.config
        high_C = torch.arange(config.superres_grid**2, device=text.ids.device) + config.max_sequence_length
        return torch.cat([text.positions, high_C.expand(len(text.ids), -1)], dim=1)

    def read(self, text: Text, *, with_hidden: bool = False) -> Prefix:
        """Keys and values of the text, without pads, layer by layer. Text sees no cell: once for all passes."""
        network = self.network
        N, T = text.ids.shape
        positions_NT = self.positions(text)[:, :T]
        x_NTH = network.transformer.word_embeddings(text.ids) + network.transformer.position_embeddings(positions_NT)
        # A padded slot may see everything, so that no row of a softmax is empty.
        bias = text.bias(0.0, network.dtype)[:, None].expand(N, T, T).masked_fill(~text.is_real[:, :, None], 0.0)
        pads = (~text.is_real).sum(1).tolist()
        return read_prefix(network, x_NTH, bias[:, None], pads, with_hidden=with_hidden)

    def hidden(self, prefix: Prefix, inputs_NC: Tensor, cells: Tensor | None = None) -> Tensor:
        """Hidden states of the cells after the final layer norm, (N, C, h), or those of `cells` alone."""
        network = self.network
        tables = [self.neighbourhood.tables(rows, network.device, network.dtype) for rows in prefix.lengths]
        return read_cells(network, base_projections(network), inputs_NC, prefix, tables, cells)

    def forward(self, text_ids: Sequence[Sequence[int]], inputs_NC: Tensor) -> Tensor:
        """Text and cells with every text slot, (N, T + C, h) after the final layer norm, for training and checks.

        The hidden state of a slot predicts the token of that slot. Rows of padded text slots mean nothing.
        """
        text = self.text(text_ids, self.network.config.iterative_text_len)
        prefix = self.read(text, with_hidden=True)
        assert prefix.hidden is not None
        return torch.cat([prefix.hidden, self.hidden(prefix, inputs_NC)], dim=1)

    @torch.no_grad()
    def refine(
        self,
        text_ids: Sequence[Sequence[int]],
        cells_NC: Tensor,
        *,
        top_k: Sequence[int] = TOP_K,
        seeds: Tensor | None = None,
        items: Tensor | None = None,
        batch_frames: int = 12,
        is_greedy: bool = False,
        every_step: bool = False,
        progress: Progress | None = None,
    ) -> Tensor:
        """High-resolution ids drawn anew in one pass for each of `top_k`, (N, C), int64; `cells_NC` stays as it is.

        Temperature is 1, as in the release. With `every_step`, (passes + 1, N, C) from the given cells on. Texts,
        seeds, items, `batch_frames` and errors are as in `DirectSuperResolution.upscale`; `is_greedy` takes the
        likeliest token.
        """
        network = self.network
        grid = network.config.superres_grid
        check_frames(cells_NC, grid**2, network, "high-resolution tokens")
        N, device = len(cells_NC), network.device
        texts = [text_ids[index] for index in per_frame(text_ids, N, "the texts")]
        seeds_N, items_N = draw_keys(seeds, items, N, device)
        numbers = pass_numbers(grid)
        results = []
        for start in range(0, N, batch_frames):
            batch = slice(start, start + batch_frames)
            prefix = self.read(self.text(texts[batch]))
            ids_NC = cells_NC[batch].to(device)
            states = [ids_NC]
            for number, k in enumerate(top_k, start=1):
                cells = torch.nonzero(numbers >= number)[:, 0].to(device)
                hidden_NMH = self.hidden(prefix, self.inputs(ids_NC, number), cells)
                streams_N = stream(Stream.ITERATIVE_SUPERRES, number, items_N[batch])
                uniforms = uniform(seeds_N[batch], streams_N, cells, 1)[..., 0].flatten()

                def draw(logits: Tensor, rows: slice, k: int = k, uniforms: Tensor = uniforms) -> Tensor:
                    return argmax(logits) if is_greedy else plain_top_k(logits, k, uniforms[rows])

                ids_NC = ids_NC.index_copy(1, cells, draw_ids(network, hidden_NMH, draw))
                states.append(ids_NC)
                if progress:
                    progress(start * len(top_k) + number * len(ids_NC), N * len(top_k))
            results.append(torch.stack(states) if every_step else ids_NC)
        return torch.cat(results, dim=-2)
