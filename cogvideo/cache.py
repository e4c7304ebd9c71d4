"""Keys and values of everything decoded so far, in buffers that are allocated once and written in place.

B rows, A heads, d head size, T text slots, N frames of the sequence, F tokens of a frame, L layers.
The base channel keeps text and the current frame alone. The temporal channel keeps text and all frames, cells that
see each other side by side behind a copy of the text, so that what one token sees is one slice.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from cogvideo.config import ModelConfig
from cogvideo.windows import Windows


@dataclass(frozen=True)
class CacheSpec:
    """Sizes of a cache. `rings`: frames that the base channel has in work at once (2 for parallel decoding)."""

    config: ModelConfig
    rows: int
    text_len: int
    frames: int
    windows: tuple[Windows, Windows] | None
    rings: int = 1

    @property
    def base_len(self) -> int:
        return self.text_len + self.config.frame_len

    def plus_len(self, parity: int) -> int:
        """Slots of the temporal channel in layers of this parity."""
        if self.windows is None:
            return 0
        return sum(self.text_len + self.frames * size for size in self.windows[parity].sizes)

    def bytes(self, element_size: int) -> int:
        """Memory of the buffers."""
        layers = [self.rings * self.base_len + self.plus_len(index % 2) for index in range(self.config.num_layers)]
        return 2 * self.rows * sum(layers) * self.config.hidden_size * element_size


class Cache:
    """The buffers of one batch, and where each token's keys lie."""

    def __init__(self, spec: CacheSpec, dtype: torch.dtype, device: torch.device) -> None:
        self.spec = spec
        config = spec.config
        A, d = config.num_attention_heads, config.head_dim

        def buffer(*shape: int) -> Tensor:
            return torch.zeros(shape, dtype=dtype, device=device)

        base = (spec.rings, spec.rows, A, spec.base_len, d)
        self.base = [(buffer(*base), buffer(*base)) for _ in range(config.num_layers)]
        self.plus = [
            (buffer(spec.rows, A, length, d), buffer(spec.rows, A, length, d)) if length else None
            for length in (spec.plus_len(index % 2) for index in range(config.num_layers))
        ]
        self._starts = tuple(self._group_starts(parity) for parity in (0, 1)) if spec.windows else ((), ())
        self._slots = tuple(self._slot_table(parity).to(device) for parity in (0, 1)) if spec.windows else ()

    def plus_range(self, parity: int, fed: int, cell: int) -> tuple[int, int]:
        """First slot of what a token sees in the temporal channel, and the slot of the token itself."""
        windows = self._windows(parity)
        group = windows.groups[cell]
        start = self._starts[parity][group]
        return start, start + self.spec.text_len + fed * windows.sizes[group] + windows.ranks[cell]

    def rows(self, start: int, end: int) -> CacheRows:
        """The part that keeps the prefill of rows start..end."""
        return CacheRows(self, start, end)

    def _windows(self, parity: int) -> Windows:
        if self.spec.windows is None:
            raise ValueError("this cache has no temporal channel")
        return self.spec.windows[parity]

    def _group_starts(self, parity: int) -> tuple[int, ...]:
        starts, end = [], 0
        for size in self._windows(parity).sizes:
            starts.append(end)
            end += self.spec.text_len + self.spec.frames * size
        return tuple(starts)

    def _slot_table(self, parity: int) -> Tensor:
        """Slot of every token of every fed frame, (N, F)."""
        F = self.spec.config.frame_len
        return torch.tensor([[self._slot(parity, fed, c) for c in range(F)] for fed in range(self.spec.frames)])

    def _slot(self, parity: int, fed: int, cell: int) -> int:
        windows = self._windows(parity)
        group = windows.groups[cell]
        before = fed * windows.sizes[group] + windows.ranks[cell]
        return self._group_starts(parity)[group] + self.spec.text_len + before


class CacheRows:
    """Writes the keys and values of a prefill into some rows of a cache."""

    def __init__(self, cache: Cache, start: int, end: int) -> None:
        self._cache = cache
        self._at = slice(start, end)

    def keep_text(self, layer: int, base: tuple[Tensor, Tensor], plus: tuple[Tensor, Tensor] | None) -> None:
        """Text of both channels, each (rows, A, T, d)."""
        spec, T = self._cache.spec, self._cache.spec.text_len
        for buffer, part in zip(self._cache.base[layer], base, strict=True):
            buffer[:, self._at, :, :T] = part
        if plus is None or spec.windows is None:
            return
        for buffer, part in zip(self._buffers(layer), plus, strict=True):
            for start in self._cache._starts[layer % 2]:
                buffer[self._at, :, start : start + T] = part

    def keep_frames(self, layer: int, plus: tuple[Tensor, Tensor]) -> None:
        """All fed frames in the temporal channel, each (rows, A, frames * F, d)."""
        slots = self._cache._slots[layer % 2]
        for buffer, part in zip(self._buffers(layer), plus, strict=True):
            buffer[self._at, :, slots.flatten()[: part.shape[2]]] = part

    def _buffers(self, layer: int) -> tuple[Tensor, Tensor]:
        buffers = self._cache.plus[layer]
        if buffers is None:
            raise ValueError("this cache has no temporal channel")
        return buffers
