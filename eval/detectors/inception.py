"""Inception v3 as ported for FID, through pytorch-fid's network and without its download.

Shapes: B frames, C channels, H x W pixels, D features.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from cogvideo.errors import UserError
from eval.detectors.engine import Engine, FrameDetector
from eval.detectors.state import known_options, read_state
from eval.registry import detectors

LAYERS = {"64": 64, "192": 192, "768": 768, "2048": 2048}


class InceptionFID(nn.Module):
    """The four depths of pytorch-fid's InceptionV3 on frames in [-1, 1], each averaged over the picture."""

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        super().__init__()
        from pytorch_fid import inception

        # The class downloads its weights while it is built; for that moment it is handed those of the file instead.
        download = inception.load_state_dict_from_url
        inception.load_state_dict_from_url = lambda *_args, **_kwargs: dict(state)
        try:
            self.network = inception.InceptionV3(list(range(4)), resize_input=False, normalize_input=False)
        finally:
            inception.load_state_dict_from_url = download

    def forward(self, frames_BCHW: Tensor) -> dict[str, Tensor]:
        """Layers by their number of features, (B, D)."""
        return {str(x.shape[1]): x.mean((2, 3)) for x in self.network(frames_BCHW)}

    def fold(self) -> InceptionFID:
        """Move every batch norm into its convolution; for evaluation only."""
        self.eval()
        for module in self.modules():
            bn = getattr(module, "bn", None)
            if isinstance(bn, nn.BatchNorm2d):
                assert isinstance(module.conv, nn.Conv2d)
                module.conv = fuse_conv_bn_eval(module.conv, bn)
                module.bn = nn.Identity()
        return self


@detectors.register(
    "inception",
    "Inception v3 of FID (pytorch-fid) on every frame: 2,048 pooled features and three shallower depths",
    layers="64, 192, 768, 2048",
    weights="pt_inception-2015-12-05-6726825d.pth",
)
def load(
    path: Path | None,
    *,
    device: str = "cpu",
    dtype: str = "float32",
    backend: str = "eager",
    options: Mapping[str, Any] | None = None,
) -> FrameDetector:
    """pytorch-fid's Inception with the weights of `path`; it has no options. Frames must be 299 x 299 in [-1, 1]."""
    known_options("inception", options)
    state = read_state(path, "inception")
    try:
        network = InceptionFID(state)
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines()[1:]] or [str(error)]
        raise UserError(f"detector inception: the tensors in {path} do not fit: {' '.join(lines)[:300]}") from None
    return as_detector("inception", network, device=device, dtype=dtype, backend=backend)


def as_detector(
    name: str, network: InceptionFID, *, device: str = "cpu", dtype: str = "float32", backend: str = "eager"
) -> FrameDetector:
    """A loaded Inception as a detector, batch norm folded."""
    piece = 16 if torch.device(device).type == "cpu" else 128
    engine = Engine(
        network.fold(), device=device, dtype=dtype, backend=backend, piece=piece, layout=torch.channels_last
    )
    return FrameDetector(name, engine, LAYERS, chunk=8)
