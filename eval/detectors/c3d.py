"""C3D fine-tuned on UCF-101, the network behind the Inception Score of videos (TGANv2).

Shapes: B clips, C channels, T frames, H x W pixels, K classes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from eval.detectors.engine import Engine, VideoDetector
from eval.detectors.layers import require_size, scaled
from eval.detectors.state import fit_state, known_options, read_state
from eval.registry import detectors

# Channels of each convolution, and the pool that follows it.
CONVOLUTIONS: dict[str, tuple[int, tuple[int, int, int] | None]] = {
    "conv1a": (64, (1, 2, 2)),
    "conv2a": (128, (2, 2, 2)),
    "conv3a": (256, None),
    "conv3b": (256, (2, 2, 2)),
    "conv4a": (512, None),
    "conv4b": (512, (2, 2, 2)),
    "conv5a": (512, None),
    "conv5b": (512, (2, 2, 2)),
}


class C3D(nn.Module):
    """Eight 3x3x3 convolutions and three linear layers on prepared BGR clips of one fixed size.

    `width` scales every channel count (1 is the published network); `input_size` is (T, H, W). Pools keep the ragged
    last window (chainer's cover_all), so that 7 x 7 becomes 4 x 4 at the end.

    Source: Tran et al. 2015 (arXiv 1412.0767) as run by pfnet-research/tgan2 (tgan2/models/c3d/c3d_ucf101.py).
    """

    def __init__(
        self,
        n_classes: int = 101,
        width: float = 1.0,
        input_size: tuple[int, int, int] = (16, 112, 112),
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        self.input_size = input_size
        c_in, left = 3, list(input_size)
        for name, (table, pool) in CONVOLUTIONS.items():
            c_out = scaled(table, width)
            self.add_module(name, nn.Conv3d(c_in, c_out, 3, padding=1))
            c_in = c_out
            if pool is not None:
                left = [math.ceil(size / stride) for size, stride in zip(left, pool, strict=True)]
        n_hidden = scaled(4096, width)
        self.fc6 = nn.Linear(c_in * math.prod(left), n_hidden)
        self.fc7 = nn.Linear(n_hidden, n_hidden)
        self.fc8 = nn.Linear(n_hidden, n_classes)
        self.dropout = nn.Dropout(dropout)

    def forward(self, clips_BCTHW: Tensor) -> dict[str, Tensor]:
        """Layers `fc6`, `fc7` (after ReLU), `fc8` (logits), `prob` (softmax). Raises UserError on another size."""
        require_size("C3D", self.input_size, clips_BCTHW, "its linear layers fit no other size")
        x = clips_BCTHW
        for name, (_, pool) in CONVOLUTIONS.items():
            x = functional.relu(getattr(self, name)(x))
            if pool is not None:
                x = functional.max_pool3d(x, pool, stride=pool, ceil_mode=True)
        # The weights count cells channel by channel, whatever the memory format of the network is.
        fc6 = functional.relu(self.fc6(x.contiguous().flatten(1)))
        fc7 = functional.relu(self.fc7(self.dropout(fc6)))
        fc8 = self.fc8(self.dropout(fc7))
        return {"fc6": fc6, "fc7": fc7, "fc8": fc8, "prob": fc8.softmax(1)}


@detectors.register(
    "c3d",
    "C3D fine-tuned on UCF-101 as in TGANv2: logits and softmax over 101 classes, the features of video IS",
    layers="fc6 4096, fc7 4096, fc8 101, prob 101",
    weights="conv3d_deepnetA_ucf.npz, or the same tensors as .pt or .safetensors",
)
def load(
    path: Path | None,
    *,
    device: str = "cpu",
    dtype: str = "float32",
    backend: str = "eager",
    options: Mapping[str, Any] | None = None,
) -> VideoDetector:
    """C3D with the weights of `path`. Options: `n_classes`, `width`."""
    network = C3D(**known_options("c3d", options, n_classes=101, width=1.0))
    fit_state(network, from_chainer(read_state(path, "c3d")), "c3d", path)
    return as_detector("c3d", network, device=device, dtype=dtype, backend=backend)


def from_chainer(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state dict of an npz file whose names are chainer's: `conv1a/W`, `fc8/b`. Other names stay as they are."""
    endings = {"/W": ".weight", "/b": ".bias"}
    return {name[:-2] + endings[name[-2:]] if name[-2:] in endings else name: v for name, v in state.items()}


def as_detector(
    name: str, network: C3D, *, device: str = "cpu", dtype: str = "float32", backend: str = "eager"
) -> VideoDetector:
    """A trained C3D as a detector."""
    piece = 2 if torch.device(device).type == "cpu" else 8
    engine = Engine(network, device=device, dtype=dtype, backend=backend, piece=piece, layout=torch.channels_last_3d)
    layers = {layer: getattr(network, layer).out_features for layer in ("fc6", "fc7", "fc8")}
    layers["prob"] = layers["fc8"]
    return VideoDetector(name, engine, layers, min_frames=network.input_size[0], chunk=8)
