"""Direct super-resolution: all high-resolution tokens of a frame from its low-resolution tokens (CogView2).

N frames, F low-resolution tokens of a frame, C high-resolution cells, T text slots, h hidden size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cogvideo.clusters import ClusterTable
from cogvideo.errors import UserError
from cogvideo.forward import Text
from cogvideo.network import Network
from cogvideo.randomness import Stream, stream, uniform
from cogvideo.sampling import SUPERRES, SamplerSettings, greedy, sample
from cogvideo.superres.levels import (
    Prefix,
    Progress,
    check_frames,
    draw_ids,
    per_frame,
    plus_projections,
    read_cells,
    read_prefix,
)
from cogvideo.superres.neighbourhood import DEFAULT_TILE, LocalTables, Neighbourhood

# Text is padded with an image token, as in the release; pads are masked, so any id would do.
PAD_ID = 0


@dataclass(frozen=True)
class Schedule:
    """In which steps cells are drawn: `warmup` steps draw all of them, later ones the diagonals of a block in turn.

    With a block of (a, b), step s = 1 .. a + b - 1 after the warm-up draws the cells with row mod a + column mod b =
    s - 1 for good. The default, CogVideo's, is a single step for all cells. Raises UserError for a schedule that leaves
    a cell undrawn.
    """

    warmup: int = 1
    block: tuple[int, int] = (1, 0)

    def __post_init__(self) -> None:
        rows, columns = self.block
        is_empty = self.block == (1, 0)
        if self.warmup < is_empty or (not is_empty and min(rows, columns) < 1):
            raise UserError(
                "expected a warm-up of at least one step, or a block of at least 1 x 1, "
                f"got {self.warmup} and {rows} x {columns}"
            )

    def steps(self, grid: int) -> list[Tensor]:
        """The cells that each step draws, row by row."""
        every = torch.arange(grid * grid)
        rows, columns = self.block
        if not columns:
            return [every] * self.warmup
        diagonal = every // grid % rows + every % grid % columns
        diagonals = [torch.nonzero(diagonal == step)[:, 0] for step in range(rows + columns - 1)]
        return [every] * self.warmup + diagonals


class DirectSuperResolution:
    """A network of kind "superres" over a whole grid of cells at once.

    Level 0, text and low-resolution tokens, has the base channel's weights; level 1, the cells, has the second
    channel's. A cell sees the low-resolution patch around its place and a patch of cells around itself (9 rows of 5
    in the release) in one softmax, and no text. Raises UserError for a network of another kind or with too few
    base positions. Ding et al. 2022 (CogView2), direct super-resolution.
    """

    def __init__(self, network: Network, *, cross_patch: int | None = None, tile: int = DEFAULT_TILE) -> None:
        config = network.config
        if network.kind != "superres":
            raise UserError(f"direct super-resolution needs a network of kind 'superres', got {network.kind!r}")
        if config.max_sequence_length <= config.image_position_offset + config.frame_len:
            raise UserError(
                f"direct super-resolution needs {config.image_position_offset + config.frame_len + 1} base positions, "
                f"got {config.max_sequence_length}; raise max_sequence_length"
            )
        self.network = network
        self.neighbourhood = Neighbourhood(
            config.superres_grid,
            2 * config.patch - 1,
            config.patch,
            config.superres_scale,
            cross_patch or config.patch,
            tile,
        )

    def text(self, text_ids: Sequence[Sequence[int]], length: int = 1) -> Text:
        """Left-padded texts, at least `length` slots wide. Raises UserError for one longer than the network's slots."""
        longest, limit = max(map(len, text_ids)), self.network.config.superres_text_len
        if longest > limit:
            raise UserError(f"super-resolution takes a text of up to {limit} tokens, got {longest}; shorten the prompt")
        return Text.padded(text_ids, PAD_ID, self.network.device, length)

    def inputs(self, cells_NC: Tensor) -> Tensor:
        """What is fed in the slot of each cell: the token of the cell before it, BOI in the first slot."""
        inputs_NC = cells_NC.roll(1, dims=-1)
        inputs_NC[..., 0] = self.network.config.boi_id
        return inputs_NC

    def positions(self, text: Text) -> Tensor:
        """Position ids (N, T + F + C). Those from `max_sequence_length` on are rows of the second table.

        Low-resolution tokens stand one further than in the frames of CogVideo: here the token itself is in its slot.
        """
        config = self.network.config
        low_F = torch.arange(config.frame_len, device=text.ids.device) + config.image_position_offset + 1
        high_C = torch.arange(config.superres_grid**2, device=text.ids.device) + config.max_sequence_length
        images = torch.cat([low_F, high_C]).expand(len(text.ids), -1)
        return torch.cat([text.positions, images], dim=1)

    def visible(self, text: Text) -> Tensor:
        """Which positions of level 0 see which, (N, T + F, T + F): text no image, images everything but pads.

        Pads see all text; what they compute is read by nobody, but no row of a softmax is empty.
        """
        N, T = text.ids.shape
        F = self.network.config.frame_len
        seen_NS = torch.cat([text.is_real, text.is_real.new_ones(N, F)], dim=1)
        visible = seen_NS[:, None].repeat(1, T + F, 1)
        visible[:, :T, T:] = False
        visible[:, :T, :T] |= ~text.is_real[:, :, None]
        return visible

    def read(self, text: Text, frames_NF: Tensor, *, with_hidden: bool = False) -> Prefix:
        """Level 0: the keys and values that cells read, layer by layer."""
        network = self.network
        T, F = text.ids.shape[1], network.config.frame_len
        ids_NS = torch.cat([text.ids, frames_NF], dim=1)
        positions_NS = self.positions(text)[:, : T + F]
        x_NSH = network.transformer.word_embeddings(ids_NS) + network.transformer.position_embeddings(positions_NS)
        bias = torch.zeros(len(ids_NS), 1, T + F, T + F, device=network.device, dtype=network.dtype)
        bias.masked_fill_(~self.visible(text)[:, None], float("-inf"))
        return read_prefix(network, x_NSH, bias, [T] * len(ids_NS), with_hidden=with_hidden)

    def hidden(self, prefix: Prefix, inputs_NC: Tensor, cells: Tensor | None = None) -> Tensor:
        """Level 1: hidden states after the final layer norm, (N, C, h), or those of `cells` alone."""
        tables = self._tables()
        projections = plus_projections(self.network)
        return read_cells(self.network, projections, inputs_NC, prefix, [tables] * len(inputs_NC), cells)

    def forward(self, text_ids: Sequence[Sequence[int]], frames_NF: Tensor, cells_NC: Tensor) -> Tensor:
        """Both levels with every text slot, (N, T + F + C, h) after the final layer norm, for training and checks.

        `cells_NC` are the cells themselves; each is fed one slot later. Rows of padded text slots mean nothing.
        """
        text = self.text(text_ids, self.network.config.superres_text_len)
        prefix = self.read(text, frames_NF, with_hidden=True)
        assert prefix.hidden is not None
        return torch.cat([prefix.hidden, self.hidden(prefix, self.inputs(cells_NC))], dim=1)

    @torch.no_grad()
    def upscale(
        self,
        text_ids: Sequence[Sequence[int]],
        frames_NF: Tensor,
        table: ClusterTable,
        *,
        settings: SamplerSettings = SUPERRES,
        seeds: Tensor | None = None,
        items: Tensor | None = None,
        schedule: Schedule | None = None,
        batch_frames: int = 12,
        is_greedy: bool = False,
        every_step: bool = False,
        progress: Progress | None = None,
    ) -> Tensor:
        """High-resolution ids (N, C), int64, or with `every_step` (steps + 1, N, C) from the empty grid on.

        `text_ids` and `seeds` have one entry for each frame, or for each group of frames in a row. Draws are a function
        of the seed, of the frame's number `items` (default: its place in its group of seeds), the step and the cell
        alone, so that they do not depend on `batch_frames`, which bounds memory. `is_greedy` takes the likeliest token
        of the likeliest cluster. Raises UserError for ids or texts that the network has no room for.
        """
        network = self.network
        check_frames(frames_NF, network.config.frame_len, network, "low-resolution tokens")
        N, device = len(frames_NF), network.device
        texts = [text_ids[index] for index in per_frame(text_ids, N, "the texts")]
        seeds_N, items_N = draw_keys(seeds, items, N, device)
        steps = [cells.to(device) for cells in (schedule or Schedule()).steps(network.config.superres_grid)]
        table = table.to(device)
        results = []
        for start in range(0, N, batch_frames):
            batch = slice(start, start + batch_frames)
            # Once for all steps: nothing that cells do reaches level 0.
            prefix = self.read(self.text(texts[batch]), frames_NF[batch].to(device))
            ids_NC = torch.full((len(texts[batch]), network.config.superres_grid**2), network.config.boi_id).to(device)
            states = [ids_NC]
            for step, cells in enumerate(steps):
                hidden_NMH = self.hidden(prefix, self.inputs(ids_NC), cells)
                streams_N = stream(Stream.SUPERRES, step, items_N[batch])
                uniforms = uniform(seeds_N[batch], streams_N, cells).flatten(0, 1)

                def draw(logits: Tensor, rows: slice, uniforms: Tensor = uniforms) -> Tensor:
                    if is_greedy:
                        return greedy(logits, settings, table)
                    return sample(logits, settings, table, uniforms[rows])

                ids_NC = ids_NC.index_copy(1, cells, draw_ids(network, hidden_NMH, draw))
                states.append(ids_NC)
                if progress:
                    progress(start * len(steps) + (step + 1) * len(ids_NC), N * len(steps))
            results.append(torch.stack(states) if every_step else ids_NC)
        return torch.cat(results, dim=-2)

    def _tables(self) -> LocalTables:
        network = self.network
        return self.neighbourhood.tables(network.config.frame_len, network.device, network.dtype)


def draw_keys(seeds: Tensor | None, items: Tensor | None, frames: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Seed and number of each frame, int64 (N,): by default seed 0, and frames numbered inside their group."""
    groups = torch.zeros(1, dtype=torch.int64) if seeds is None else seeds
    which = torch.tensor(per_frame(groups, frames, "the seeds"))
    numbers = torch.arange(frames) % (frames // len(groups)) if items is None else items
    return groups.cpu()[which].to(device), numbers.to(device)
