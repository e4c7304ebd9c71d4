"""Frames to image tokens and back: icetk's hierarchical VQVAE, at the compress rates that it has decoders for.

Shapes: B frames, H x W pixels, h x w codes (H = h * rate), C channels, M = B * h * w.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from cogvideo.vqvae.config import ImageTokenizerConfig, StackConfig
from cogvideo.vqvae.layers import Decoder, DownSampler, Encoder
from cogvideo.vqvae.quantizer import Quantizer

# Statistics of icetk's training images, of pixels in [0, 1].
PIXEL_MEAN = (0.79093, 0.76271, 0.75340)
PIXEL_STD = (0.30379, 0.32279, 0.32800)

# Tensors of the widest resolution that are alive at once: a block's input, its shortcut, and two between them.
ALIVE = 4
# On a CPU small parts are faster, as they stay in its caches.
CPU_BUDGET, GPU_BUDGET = 64 << 20, 4 << 30


class ImageTokenizer(nn.Module):
    """`encode` and `decode` work in batches of bounded memory and without gradients; `latents` and `pixels` train.

    State dict: the names of icetk (`enc`, `decs.N` coarsest first, `quantize`, `down_samplers.N`).
    Source: Ding et al. 2022, CogView2 (arXiv 2204.14217), and the release of icetk.
    """

    def __init__(self, config: ImageTokenizerConfig) -> None:
        super().__init__()
        self.config = config
        channels, dim, groups = config.channels, config.code_dim, config.norm_groups
        self.enc = Encoder(config.encoder, channels, dim, groups)
        self.decs = nn.ModuleList(Decoder(stack, channels, dim, groups) for stack in config.decoders)
        self.quantize = Quantizer(config.num_codes, dim)
        self.down_samplers = nn.ModuleList(DownSampler(dim) for _ in range(config.num_down_samplers))

    @property
    def num_tokens(self) -> int:
        """Image tokens are the ids below this."""
        return self.config.num_codes

    def latents(self, frames_B3HW: Tensor, rate: int) -> Tensor:
        """Vectors (B, C, h, w) before they are rounded to codes, of frames in [0, 1].

        Raises ValueError unless H and W are multiples of the rate, UserError for a rate that there is no decoder for.
        """
        level = self.config.level(rate)
        if frames_B3HW.dim() != 4 or frames_B3HW.shape[1] != 3 or any(size % rate for size in frames_B3HW.shape[2:]):
            raise ValueError(
                f"expected frames (B, 3, H, W) with sides that are multiples of {rate}, got {tuple(frames_B3HW.shape)}"
            )
        mean_311, std_311 = self._pixel_statistics()
        normal_B3HW = (frames_B3HW.to(mean_311) - mean_311) / std_311
        x_BCHW = self.enc(normal_B3HW.to(self._dtype, memory_format=torch.channels_last))
        for down_sampler in self.down_samplers[:level]:
            x_BCHW = down_sampler(x_BCHW)
        latents_BChw: Tensor = self.quantize.proj(x_BCHW)
        return latents_BChw

    def pixels(self, latents_BChw: Tensor, rate: int) -> Tensor:
        """Frames (B, 3, H, W) in float32 of code vectors; the network may leave [0, 1] a little."""
        self.config.level(rate)
        decoder = self.decs[self.config.rates.index(rate)]
        normal_B3HW = decoder(latents_BChw.to(self._dtype, memory_format=torch.channels_last))
        mean_311, std_311 = self._pixel_statistics()
        frames_B3HW: Tensor = normal_B3HW.float() * std_311 + mean_311
        return frames_B3HW

    @torch.no_grad()
    def encode(self, frames_B3HW: Tensor, rate: int = 8, *, budget_bytes: int | None = None) -> Tensor:
        """Image tokens (B, h * w), int64, row by row, of frames in [0, 1].

        `budget_bytes` bounds the memory for activations (one frame is always taken): it changes the speed alone.
        Raises as `latents` does.
        """
        self.config.level(rate)
        pixels = math.prod(frames_B3HW.shape[-2:])
        found = []
        for part_B3HW in self._parts(frames_B3HW, self.config.encoder, pixels, budget_bytes):
            latents_BChw = self.latents(part_B3HW.to(self._device), rate)
            ids_M = self.quantize.nearest(latents_BChw.movedim(1, -1).flatten(0, 2))
            found.append(ids_M.view(len(part_B3HW), -1))
        cells = pixels // rate**2
        return torch.cat(found) if found else torch.zeros(0, cells, dtype=torch.long, device=self._device)

    @torch.no_grad()
    def decode(
        self,
        ids_BN: Tensor,
        rate: int = 8,
        *,
        grid: tuple[int, int] | None = None,
        is_clamped: bool = True,
        budget_bytes: int | None = None,
    ) -> Tensor:
        """Frames (B, 3, h * rate, w * rate), float32 in [0, 1], of image tokens (B, h * w) row by row.

        `grid` is (h, w); without it the frames are square. The release does not clamp: `is_clamped` False.
        Raises ValueError for ids that are no image tokens or do not fill the grid, UserError for an unknown rate.
        """
        self.config.level(rate)
        h, w = grid or (math.isqrt(ids_BN.shape[-1]),) * 2
        if ids_BN.dim() != 2 or h * w != ids_BN.shape[1]:
            raise ValueError(f"expected ids (B, {h} * {w}), got {tuple(ids_BN.shape)}; give the grid (h, w)")
        if ids_BN.numel() and not 0 <= int(ids_BN.min()) <= int(ids_BN.max()) < self.num_tokens:
            raise ValueError(
                f"expected image tokens 0 to {self.num_tokens - 1}, got {int(ids_BN.min())} to {int(ids_BN.max())}"
            )
        frames = ids_BN.new_empty((len(ids_BN), 3, h * rate, w * rate), dtype=torch.float32, device=self._device)
        stack = self.config.decoders[self.config.rates.index(rate)]
        first = 0
        for part_BN in self._parts(ids_BN, stack, h * w * rate**2, budget_bytes):
            codes_BChw = self.quantize.codes(part_BN.to(self._device, torch.long).view(-1, h, w))
            part_B3HW = self.pixels(codes_BChw, rate)
            frames[first : first + len(part_BN)] = part_B3HW.clamp_(0, 1) if is_clamped else part_B3HW
            first += len(part_BN)
        return frames

    def _parts(self, x: Tensor, stack: StackConfig, pixels: int, budget_bytes: int | None) -> Iterator[Tensor]:
        """`x` in parts of as many frames as the budget holds at the resolution where a frame is largest."""
        if budget_bytes is None:
            budget_bytes = GPU_BUDGET if self._device.type == "cuda" else CPU_BUDGET
        widths = [self.config.channels * multiplier for multiplier in stack.multipliers]
        coarser = [*widths[1:], widths[-1]]
        pixels //= stack.patch**2
        largest = max(max(pair) * pixels >> 2 * level for level, pair in enumerate(zip(widths, coarser, strict=True)))
        size = max(1, budget_bytes // (ALIVE * largest * self._dtype.itemsize))
        for first in range(0, len(x), size):
            yield x[first : first + size]

    def _pixel_statistics(self) -> tuple[Tensor, Tensor]:
        # Made anew, as a buffer would stay without storage in a network that was built on the meta device.
        mean_311, std_311 = (
            torch.tensor(values, dtype=torch.float32, device=self._device).view(3, 1, 1)
            for values in (PIXEL_MEAN, PIXEL_STD)
        )
        return mean_311, std_311

    @property
    def _device(self) -> torch.device:
        return self.quantize.embed.weight.device

    @property
    def _dtype(self) -> torch.dtype:
        return self.quantize.embed.weight.dtype
