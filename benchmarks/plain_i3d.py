"""I3D run the plain way, the rival of our benchmarks: default layout, live batch norms, a padded copy at every layer.

Shapes: B clips, C channels, T frames, H x W pixels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from eval.detectors.i3d import I3D
from eval.detectors.layers import SamePool3d, Unit3D, tensorflow_padding


def _padded(x_BCTHW: Tensor, kernel: tuple[int, ...], stride: tuple[int, ...]) -> Tensor:
    t, h, w = map(tensorflow_padding, x_BCTHW.shape[2:], kernel, stride)
    return functional.pad(x_BCTHW, (*w, *h, *t))


class PaddedPool(nn.Module):
    def __init__(self, pool: SamePool3d) -> None:
        super().__init__()
        self.kernel, self.stride = pool.kernel, pool.stride

    def forward(self, x_BCTHW: Tensor) -> Tensor:
        return functional.max_pool3d(_padded(x_BCTHW, self.kernel, self.stride), self.kernel, self.stride)


class PaddedUnit(nn.Module):
    def __init__(self, unit: Unit3D) -> None:
        super().__init__()
        self.unit = unit
        unit.conv3d.padding = (0, 0, 0)

    def forward(self, x_BCTHW: Tensor) -> Tensor:
        unit = self.unit
        padded = _padded(x_BCTHW, (unit.kernel,) * 3, (unit.stride,) * 3)
        return functional.relu(unit.bn(unit.conv3d(padded)))


def random_i3d(seed: int = 0) -> I3D:
    """I3D whose weights keep the variance of what goes through, and whose batch norms are not the identity."""
    torch.manual_seed(seed)
    network = I3D()
    for module in network.modules():
        if isinstance(module, nn.Conv3d):
            nn.init.kaiming_normal_(module.weight)
        elif isinstance(module, nn.BatchNorm3d):
            nn.init.uniform_(module.weight, 0.8, 1.2)
            nn.init.normal_(module.bias, std=0.1)
            for running, low, high in ((module.running_mean, -0.2, 0.2), (module.running_var, 0.5, 1.5)):
                assert running is not None
                nn.init.uniform_(running, low, high)
    return network.eval().requires_grad_(False)


def plain_i3d(network: I3D) -> I3D:
    """The same network, each layer replaced by its plain form, in place."""
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, SamePool3d):
                setattr(module, name, PaddedPool(child))
            elif isinstance(child, Unit3D) and not isinstance(module, PaddedUnit):
                setattr(module, name, PaddedUnit(child))
    network.pool = (2, 7, 7)
    return network
