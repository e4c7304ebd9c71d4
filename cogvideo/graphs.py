"""Decoding that the device runs by itself: every step reads where it is from tables, so one CUDA graph serves a frame.

R rows, B samples, N frames, F tokens of a frame, S steps, q tokens of a step, A heads, d head size.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from cogvideo.decoding import At, Decoder
from cogvideo.schedule import Step

# A progress bar is told the truth this often: the host is otherwise hundreds of steps ahead of the device.
STEPS_BETWEEN_WAITS = 64


class DeviceChoose(Protocol):
    """Draws ids on the device: by the place of the token (natural frame * F + cell), a tensor of one number."""

    @property
    def has_own_last_cell(self) -> bool:
        """Whether the last cell of a frame is drawn in another way."""
        ...

    def at(self, logits_BV: Tensor, place_1: Tensor, *, is_last_cell: bool) -> Tensor: ...

    def made(self, steps: int) -> None:
        """So many steps were queued."""
        ...


class Key(NamedTuple):
    """What differs between graphs: the fed frames in work, which decide how many slots are seen, and the sampler."""

    feds: tuple[int, ...]
    is_last_cell: tuple[bool, ...]


class Column(NamedTuple):
    """Columns of the table of steps, one row a token."""

    place: int = 0
    previous: int = 1
    out: int = 2
    base_own: int = 3
    plus_start: int = 4
    plus_own: int = 6


COLUMN = Column()


class Indexed:
    """A place that only the device knows. `ring` is the base channel's frame; without `start`, the first slot."""

    def __init__(self, bias: Tensor, length: int, own: Tensor, start: Tensor | None, ring: int | None) -> None:
        self._own, self._start, self._ring, self._length = own, start, ring, length
        self._seen = torch.arange(length, device=own.device)
        last = own if start is None else own - start
        self.bias = bias[..., :length].masked_fill(self._seen > last, float("-inf"))

    def written(self, buffer: Tensor, part_RAd: Tensor) -> Tensor:
        if self._ring is not None:
            buffer = buffer[self._ring]
        buffer.index_copy_(2, self._own, part_RAd[:, :, None])
        if self._start is None:
            return buffer[:, :, : self._length]
        # The last groups are shorter than the longest: what lies beyond them is masked.
        return buffer.index_select(2, (self._start + self._seen).clamp(max=buffer.shape[2] - 1))


class DeviceLoop:
    """All steps of one batch. `ids_BNF` are known ids or -1, in feeding order; frames before the first step are fed."""

    def __init__(self, decoder: Decoder, ids_BNF: Tensor, steps: Sequence[Step], choose: DeviceChoose) -> None:
        self.decoder = decoder
        self.choose = choose
        self.steps = steps
        device, boi = ids_BNF.device, decoder.network.config.boi_id
        flat_BX = ids_BNF.flatten(1)
        # One column more: what is fed in the first slot of a frame.
        self._ids = torch.cat([flat_BX, torch.full_like(flat_BX[:, :1], boi)], dim=1)
        self._shape = ids_BNF.shape
        self._table = torch.tensor(self._rows(), device=device)
        self._cursor = torch.zeros(1, dtype=torch.long, device=device)

    @torch.no_grad()
    def run(self, *, is_captured: bool) -> Tensor:
        """Decode everything; (B, N, F) ids. `is_captured` replays CUDA graphs, else the steps run one by one."""
        pool = torch.cuda.graph_pool_handle() if is_captured else None
        graphs: dict[Key, torch.cuda.CUDAGraph] = {}
        for key, count in self._runs():
            if is_captured and key not in graphs:
                graphs[key] = self._captured(key, pool)
            for number in range(count):
                if is_captured:
                    graphs[key].replay()
                else:
                    self._advance(key)
                if is_captured and number % STEPS_BETWEEN_WAITS == 0:
                    torch.cuda.current_stream().synchronize()
                self.choose.made(len(key.feds))
        return self._ids[:, :-1].reshape(self._shape)

    def _advance(self, key: Key) -> None:
        """One step: read the place, feed, attend, draw, write. No value travels to the host."""
        decoder, plan = self.decoder, self.decoder.plan
        rows_qK = self._table.index_select(0, self._cursor)[0, : len(key.feds)]
        tokens_Bq = self._ids.index_select(1, rows_qK[:, COLUMN.previous])
        if plan.guidance_scale is not None:
            tokens_Bq = torch.cat([tokens_Bq, tokens_Bq])
        base = [self._base_place(rows_qK[at], fed) for at, fed in enumerate(key.feds)]
        plus: list[list[At]] = [[], []]
        if plan.has_plus:
            plus = [
                [self._plus_place(rows_qK[at], fed, parity) for at, fed in enumerate(key.feds)] for parity in (0, 1)
            ]
        logits_RqV = decoder.run(tokens_Bq, rows_qK[:, COLUMN.place], base, plus)
        if plan.guidance_scale is not None:
            own, guider = logits_RqV.chunk(2)
            logits_RqV = guider + plan.guidance_scale * (own - guider)
        for at in range(len(key.feds)):
            row_K = rows_qK[at]
            place_1, out_1 = row_K[COLUMN.place :][:1], row_K[COLUMN.out :][:1]
            drawn_B = self.choose.at(logits_RqV[:, at], place_1, is_last_cell=key.is_last_cell[at])
            known_B = self._ids.index_select(1, out_1)[:, 0]
            self._ids.index_copy_(1, out_1, torch.where(known_B >= 0, known_B, drawn_B)[:, None])
        self._cursor += 1

    def _base_place(self, row_K: Tensor, fed: int) -> At:
        spec = self.decoder.cache.spec
        own_1 = row_K[COLUMN.base_own :][:1]
        return Indexed(self.decoder.bias, spec.base_len, own_1, None, fed % spec.rings)

    def _plus_place(self, row_K: Tensor, fed: int, parity: int) -> At:
        spec = self.decoder.cache.spec
        assert spec.windows is not None
        sizes = spec.windows[parity].sizes
        length = spec.text_len + (fed + 1) * max(sizes)
        own_1, start_1 = row_K[COLUMN.plus_own + parity :][:1], row_K[COLUMN.plus_start + parity :][:1]
        return Indexed(self.decoder.bias, length, own_1, None if len(sizes) == 1 else start_1, None)

    def _captured(self, key: Key, pool: Any) -> torch.cuda.CUDAGraph:
        """A graph of one step under `key`. What the trial run before it changes is put back."""
        with self._untouched():
            side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                self._advance(key)
            torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=pool):
            self._advance(key)
        return graph

    @contextmanager
    def _untouched(self) -> Iterator[None]:
        """Keys and values may be written twice, they stay the same; ids and the cursor may not."""
        ids, cursor = self._ids.clone(), self._cursor.clone()
        yield
        self._ids.copy_(ids)
        self._cursor.copy_(cursor)

    def _runs(self) -> Iterator[tuple[Key, int]]:
        """Steps in a row that one graph serves, and how many."""
        last = self.decoder.network.config.frame_len - 1

        def key(step: Step) -> Key:
            is_told = self.choose.has_own_last_cell
            return Key(tuple(slot.fed for slot in step), tuple(is_told and slot.cell == last for slot in step))

        for found, steps in groupby(self.steps, key):
            yield found, len(list(steps))

    def _rows(self) -> list[list[list[int]]]:
        """The table, (S, q, columns); shorter steps are filled up with zeros that nobody reads."""
        decoder, F = self.decoder, self.decoder.network.config.frame_len
        width = max(len(step) for step in self.steps)
        every = []
        for step in self.steps:
            rows = []
            for slot in step:
                out = slot.fed * F + slot.cell
                ranges = [(0, 0), (0, 0)]
                if decoder.plan.has_plus:
                    ranges = [decoder.cache.plus_range(parity, slot.fed, slot.cell) for parity in (0, 1)]
                previous = out - 1 if slot.cell else self._ids.shape[1] - 1
                starts, owns = zip(*ranges, strict=True)
                own = decoder.cache.spec.text_len + slot.cell
                rows.append([slot.frame * F + slot.cell, previous, out, own, *starts, *owns])
            every.append(rows + [[0] * len(rows[0])] * (width - len(rows)))
        return every


def run_on_device(decoder: Decoder, ids_BNF: Tensor, steps: Sequence[Step], choose: DeviceChoose) -> Tensor:
    """Decode with CUDA graphs; where capturing fails, say so and run the same steps one by one."""
    try:
        return DeviceLoop(decoder, ids_BNF, steps, choose).run(is_captured=True)
    except RuntimeError as error:
        if "capture" not in str(error).lower():
            raise
        print(f"no CUDA graph could be captured, generation will be slower: {error}".splitlines()[0], file=sys.stderr)
        torch.cuda.synchronize()
        return DeviceLoop(decoder, ids_BNF, steps, choose).run(is_captured=False)
