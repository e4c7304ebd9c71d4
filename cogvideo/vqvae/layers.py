"""Encoder, decoder and down-sampler of the image tokenizer, with the parameter names of the release.

Shapes: B frames, C channels (D of a code vector), H x W cells (h x w: of the next coarser), N = H * W.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from cogvideo.vqvae.config import StackConfig

NORM_EPS = 1e-6


class Norm(nn.GroupNorm):
    """Group normalisation; with gradients on a CPU by way of the other memory layout, whose kernels are far faster.

    With channels last, forward and backward of 64 frames take 97 ms in bfloat16, the other way 3 ms.
    """

    def forward(self, x_BCHW: Tensor) -> Tensor:
        if x_BCHW.device.type == "cpu" and torch.is_grad_enabled():
            return super().forward(x_BCHW.contiguous()).contiguous(memory_format=torch.channels_last)
        return super().forward(x_BCHW)


class PlaceNorm(nn.GroupNorm):
    """Group normalisation of the channels of each place by itself, so that no place sees another."""

    def forward(self, x_BCHW: Tensor) -> Tensor:
        B, C, H, W = x_BCHW.shape
        normed_NC = super().forward(x_BCHW.permute(0, 2, 3, 1).reshape(-1, C))
        return normed_NC.view(B, H, W, C).permute(0, 3, 1, 2)


def _norm(channels: int, groups: int, *, is_cellwise: bool = False) -> nn.GroupNorm:
    return (PlaceNorm if is_cellwise else Norm)(groups, channels, eps=NORM_EPS)


def _conv(c_in: int, c_out: int, *, is_cellwise: bool = False) -> nn.Conv2d:
    return nn.Conv2d(c_in, c_out, 1 if is_cellwise else 3, padding=0 if is_cellwise else 1)


def _silu(x: Tensor) -> Tensor:
    # A copy less at the finest resolution, where it counts; gradients need the input.
    return functional.silu(x, inplace=not torch.is_grad_enabled())


def _cut(frames_B3HW: Tensor, patch: int) -> Tensor:
    """Squares of pixels as channels."""
    if patch == 1:
        return frames_B3HW
    return functional.pixel_unshuffle(frames_B3HW, patch).contiguous(memory_format=torch.channels_last)


class ResidualBlock(nn.Module):
    """Norm, SiLU, 3x3 convolution, twice; a 1x1 convolution in the shortcut where the number of channels changes."""

    def __init__(self, c_in: int, c_out: int, groups: int, *, is_cellwise: bool = False) -> None:
        super().__init__()
        self.norm1 = _norm(c_in, groups, is_cellwise=is_cellwise)
        self.conv1 = _conv(c_in, c_out, is_cellwise=is_cellwise)
        self.norm2 = _norm(c_out, groups, is_cellwise=is_cellwise)
        self.conv2 = _conv(c_out, c_out, is_cellwise=is_cellwise)
        self.nin_shortcut = nn.Conv2d(c_in, c_out, 1) if c_in != c_out else None

    def forward(self, x_BCHW: Tensor) -> Tensor:
        h_BCHW = self.conv1(_silu(self.norm1(x_BCHW)))
        h_BCHW = self.conv2(_silu(self.norm2(h_BCHW)))
        sum_BCHW: Tensor = h_BCHW + (x_BCHW if self.nin_shortcut is None else self.nin_shortcut(x_BCHW))
        return sum_BCHW


class SpatialAttention(nn.Module):
    """Every cell attends to every cell, one head as wide as the channels; added to the input."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.norm = _norm(channels, groups)
        self.q = nn.Conv2d(channels, channels, 1)
        self.k = nn.Conv2d(channels, channels, 1)
        self.v = nn.Conv2d(channels, channels, 1)
        self.proj_out = nn.Conv2d(channels, channels, 1)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        normed_BCHW = self.norm(x_BCHW)
        q_B1NC, k_B1NC, v_B1NC = (
            conv(normed_BCHW).flatten(2).transpose(1, 2).unsqueeze(1) for conv in (self.q, self.k, self.v)
        )
        mixed_B1NC = functional.scaled_dot_product_attention(q_B1NC, k_B1NC, v_B1NC)
        mixed_BCHW = mixed_B1NC.squeeze(1).transpose(1, 2).reshape(x_BCHW.shape)
        sum_BCHW: Tensor = x_BCHW + self.proj_out(mixed_BCHW)
        return sum_BCHW


class Middle(nn.Module):
    """What stands at the coarsest resolution: residual block, attention (unless cells are apart), residual block."""

    def __init__(self, channels: int, groups: int, *, is_cellwise: bool = False) -> None:
        super().__init__()
        self.block_1 = ResidualBlock(channels, channels, groups, is_cellwise=is_cellwise)
        self.attn_1 = None if is_cellwise else SpatialAttention(channels, groups)
        self.block_2 = ResidualBlock(channels, channels, groups, is_cellwise=is_cellwise)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        x_BCHW = self.block_1(x_BCHW)
        mixed_BCHW: Tensor = self.block_2(x_BCHW if self.attn_1 is None else self.attn_1(x_BCHW))
        return mixed_BCHW


class Downsample(nn.Module):
    """Half the height and width: zeros in one more row and column (bottom, right), 3x3 convolution of stride 2."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        halved_BChw: Tensor = self.conv(functional.pad(x_BCHW, (0, 1, 0, 1)))
        return halved_BChw


class Upsample(nn.Module):
    """Twice the height and width: each cell repeated, 3x3 convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        doubled_BCHW: Tensor = self.conv(functional.interpolate(x_BCHW, scale_factor=2.0, mode="nearest"))
        return doubled_BCHW


class Resolution(nn.Module):
    """The blocks of one resolution, each followed by attention where the resolution has it, then the way onwards."""

    def __init__(
        self, c_in: int, c_out: int, blocks: int, groups: int, *, has_attention: bool, is_cellwise: bool = False
    ) -> None:
        super().__init__()
        self.block = nn.ModuleList(
            ResidualBlock(c_in if k == 0 else c_out, c_out, groups, is_cellwise=is_cellwise) for k in range(blocks)
        )
        self.attn = nn.ModuleList(SpatialAttention(c_out, groups) for _ in range(blocks if has_attention else 0))
        self.downsample: Downsample | None = None
        self.upsample: Upsample | None = None

    def forward(self, x_BCHW: Tensor) -> Tensor:
        for k, block in enumerate(self.block):
            x_BCHW = block(x_BCHW)
            if self.attn:
                x_BCHW = self.attn[k](x_BCHW)
        for onwards in (self.downsample, self.upsample):
            if onwards is not None:
                x_BCHW = onwards(x_BCHW)
        return x_BCHW


class Encoder(nn.Module):
    """Normalised frames (B, 3, H, W) to (B, code_dim, H / rate, W / rate)."""

    def __init__(self, stack: StackConfig, channels: int, code_dim: int, groups: int) -> None:
        super().__init__()
        widths = [channels * multiplier for multiplier in stack.multipliers]
        self.patch = stack.patch
        own = stack.is_cellwise
        # Here the pixels of a whole cell come in at once: they get the full width.
        first = widths[0] if own else channels
        self.conv_in = _conv(3 * stack.patch**2, first, is_cellwise=own)
        self.down = nn.ModuleList()
        for level, (c_in, c_out) in enumerate(zip([first, *widths], widths, strict=False)):
            stage = Resolution(
                c_in, c_out, stack.blocks, groups, has_attention=stack.has_attention(level), is_cellwise=own
            )
            stage.downsample = Downsample(c_out) if level < len(widths) - 1 else None
            self.down.append(stage)
        self.mid = Middle(widths[-1], groups, is_cellwise=own)
        self.norm_out = _norm(widths[-1], groups, is_cellwise=own)
        self.conv_out = _conv(widths[-1], code_dim, is_cellwise=own)

    def forward(self, frames_B3HW: Tensor) -> Tensor:
        x_BCHW = self.conv_in(_cut(frames_B3HW, self.patch))
        for stage in self.down:
            x_BCHW = stage(x_BCHW)
        vectors_BDhw: Tensor = self.conv_out(_silu(self.norm_out(self.mid(x_BCHW))))
        return vectors_BDhw


class Decoder(nn.Module):
    """Code vectors (B, code_dim, h, w) to normalised frames (B, 3, h * rate, w * rate)."""

    def __init__(self, stack: StackConfig, channels: int, code_dim: int, groups: int) -> None:
        super().__init__()
        widths = [channels * multiplier for multiplier in stack.multipliers]
        own = stack.is_cellwise
        self.conv_in = _conv(code_dim, widths[-1], is_cellwise=own)
        self.mid = Middle(widths[-1], groups, is_cellwise=own)
        # Listed finest first, as the encoder's, and run from the coarsest.
        self.up = nn.ModuleList()
        for level, (c_in, c_out) in enumerate(zip([*widths[1:], widths[-1]], widths, strict=True)):
            stage = Resolution(
                c_in, c_out, stack.blocks, groups, has_attention=stack.has_attention(level), is_cellwise=own
            )
            stage.upsample = Upsample(c_out) if level > 0 else None
            self.up.append(stage)
        self.norm_out = _norm(widths[0], groups, is_cellwise=own)
        self.patch = stack.patch
        self.conv_out = _conv(widths[0], 3 * stack.patch**2, is_cellwise=own)

    def forward(self, latents_BCHW: Tensor) -> Tensor:
        x_BCHW = self.mid(self.conv_in(latents_BCHW))
        for stage in reversed(self.up):
            x_BCHW = stage(x_BCHW)
        frames_B3HW: Tensor = self.conv_out(_silu(self.norm_out(x_BCHW)))
        return functional.pixel_shuffle(frames_B3HW, self.patch) if self.patch > 1 else frames_B3HW


class DownSampler(nn.Module):
    """From one rate to the next coarser one: the mean of 2x2 cells plus a strided convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv_down_sampler = Downsample(channels)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        sum_BChw: Tensor = functional.avg_pool2d(x_BCHW, 2) + self.conv_down_sampler(x_BCHW)
        return sum_BChw
