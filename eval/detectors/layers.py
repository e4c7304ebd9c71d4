"""Three-dimensional layers that both video networks are built from, and the folding of batch norm into them.

Shapes: B clips, C channels, T frames, H x W pixels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from cogvideo.errors import UserError


def scaled(channels: int, width: float) -> int:
    """Channels of a narrower network: a multiple of eight, so that vector instructions stay full; width 1 is exact."""
    return max(8, 8 * round(channels * width / 8))


def require_size(network: str, expected: tuple[int, ...], clips_BCTHW: Tensor, reason: str) -> None:
    """Raises UserError for clips of another (T, H, W) than the one that a network's weights are made for."""
    came = tuple(clips_BCTHW.shape[2:])
    if came != tuple(expected):
        wanted, got = (" x ".join(map(str, size)) for size in (expected, came))
        raise UserError(f"this {network} reads clips of {wanted} (frames x height x width), got {got}: {reason}")


def tensorflow_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """How many cells TensorFlow's SAME rule adds before and after one axis; an odd one out goes after."""
    total = max(kernel - (stride if size % stride == 0 else size % stride), 0)
    return total // 2, total - total // 2


class SamePool3d(nn.Module):
    """Max pooling with TensorFlow's SAME rule: ceil(size / stride) cells along each axis.

    Cells outside count as minus infinity, which is the same as the zeros of other ports: inputs come from a ReLU.
    """

    def __init__(self, kernel: tuple[int, int, int], stride: tuple[int, int, int]) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride

    def forward(self, x_BCTHW: Tensor) -> Tensor:
        # The front padding plus a ragged last window is the SAME rule, without a padded copy of the input.
        sizes = x_BCTHW.shape[2:]
        front = [
            tensorflow_padding(size, kernel, stride)[0]
            for size, kernel, stride in zip(sizes, self.kernel, self.stride, strict=True)
        ]
        return functional.max_pool3d(x_BCTHW, self.kernel, self.stride, padding=front, ceil_mode=True)


class Unit3D(nn.Module):
    """Convolution, batch norm, ReLU, with TensorFlow's SAME padding. Names: `conv3d`, `bn`."""

    def __init__(self, c_in: int, c_out: int, kernel: int = 1, stride: int = 1, bn_eps: float = 1e-5) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride
        # Where the padding is the same on both sides the convolution does it itself; else `forward` pads.
        inner = (kernel - 1) // 2 if stride == 1 else 0
        self.conv3d = nn.Conv3d(c_in, c_out, kernel, stride, padding=inner, bias=False)
        self.bn: nn.Module = nn.BatchNorm3d(c_out, eps=bn_eps)

    def forward(self, x_BCTHW: Tensor) -> Tensor:
        if self.stride != 1:
            t, h, w = (tensorflow_padding(size, self.kernel, self.stride) for size in x_BCTHW.shape[2:])
            x_BCTHW = functional.pad(x_BCTHW, (*w, *h, *t))
        # In place only where nothing has to be kept for a backward pass.
        y: Tensor = self.bn(self._convolved(x_BCTHW))
        return functional.relu(y, inplace=not torch.is_grad_enabled())

    def _convolved(self, x_BCTHW: Tensor) -> Tensor:
        conv = self.conv3d
        if self.kernel == 1 and self.stride == 1 and x_BCTHW.is_contiguous(memory_format=torch.channels_last_3d):
            # The 1x1x1 convolution as the matrix product that it is. torch's own, on a CPU, returns another memory
            # layout, and every pool and convolution after it then runs many times slower.
            y_BTHWC = functional.linear(x_BCTHW.permute(0, 2, 3, 4, 1), conv.weight.flatten(1), conv.bias)
            return y_BTHWC.permute(0, 4, 1, 2, 3)
        result: Tensor = conv(x_BCTHW)
        return result

    def fold(self) -> None:
        """Move the batch norm into the convolution, computed in float64; for evaluation only."""
        if isinstance(self.bn, nn.Identity):
            return
        assert isinstance(self.bn, nn.BatchNorm3d)
        bn, conv = self.bn, self.conv3d
        assert bn.running_var is not None
        assert bn.running_mean is not None
        with torch.no_grad():
            gain = bn.weight.double() / torch.sqrt(bn.running_var.double() + bn.eps)
            bias = bn.bias.double() - bn.running_mean.double() * gain
            weight = conv.weight.double() * gain.reshape(-1, 1, 1, 1, 1)
            conv.weight = nn.Parameter(weight.to(conv.weight.dtype), requires_grad=False)
            conv.bias = nn.Parameter(bias.to(conv.weight.dtype), requires_grad=False)
        self.bn = nn.Identity()


def fold_batch_norm(network: nn.Module) -> nn.Module:
    """The same network in evaluation mode with every `Unit3D` folded, in place."""
    network.eval().requires_grad_(False)
    for module in network.modules():
        if isinstance(module, Unit3D):
            module.fold()
    return network
