"""The detectors of the embedded benchmark: the networks of the literature at another width, trained on `shapes`.

Shapes: B clips, C channels, T frames, H x W pixels, N captions, L tokens, D features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from eval.datasets.shapes_drawing import COLOURS, MOTIONS, SHAPES, SIZE, ShapeClass, classes
from eval.detectors import c3d, clip, i3d
from eval.detectors.c3d import C3D
from eval.detectors.clip import ClipDetector
from eval.detectors.engine import Engine, FrameDetector, VideoDetector
from eval.detectors.i3d import I3D
from eval.detectors.state import fit_state, known_options, read_state
from eval.protocols.shapes import SHAPES_PIXELS
from eval.registry import detectors

# What i3d-shapes tells of a clip, one softmax each; the last two motions are clips whose time is broken. A network
# that has to name them looks at the whole clip, and so does the distance between its features.
I3D_HEADS = {"shape": SHAPES, "colour": COLOURS, "motion": (*MOTIONS, "still", "jumbled")}
FRAME_HEADS = {"shape": SHAPES, "colour": COLOURS}
C3D_CLASSES: tuple[ShapeClass, ...] = classes("benchmark")

Small = TypeVar("Small", VideoDetector, FrameDetector, ClipDetector)

# Every word of a caption; others share one token. The end mark has the highest number, which is how CLIP finds it.
_WORDS = ("a", "moving", *SHAPES, *COLOURS, *MOTIONS)
_PAD, _START, _UNKNOWN = 0, 1, 2
_TOKEN = {word: 3 + index for index, word in enumerate(_WORDS)}
_END = 3 + len(_WORDS)
CONTEXT = 12


def build_i3d() -> I3D:
    """I3D at an eighth of its width: 128 pooled features, 21 logits (shape, colour, motion)."""
    return I3D(n_classes=sum(map(len, I3D_HEADS.values())), width=1 / 8)


def build_c3d() -> C3D:
    """C3D at an eighth of its width on 64 x 64 pixels, one logit for each of the benchmark's 40 classes."""
    return C3D(n_classes=len(C3D_CLASSES), width=1 / 8, input_size=(16, 64, 64), dropout=0.1)


def build_clip() -> nn.Module:
    """open_clip's CLIP with a small ResNet, a small transformer, 64 features, and the captions' words as vocabulary."""
    return clip.build(
        {
            "embed_dim": 64,
            "vision_cfg": {"image_size": SIZE, "layers": [1, 1, 1, 1], "width": 8, "head_width": 32},
            "text_cfg": {"context_length": CONTEXT, "vocab_size": _END + 1, "width": 64, "heads": 4, "layers": 2},
        }
    )


class FrameNetwork(nn.Module):
    """Five convolutions on single frames; `pooled` (B, 64) is the mean over the picture, `logits` shape and colour."""

    def __init__(self) -> None:
        super().__init__()
        widths = (3, 24, 32, 64, 64, 64)
        strides = (2, 2, 2, 1, 1)
        self.convs = nn.ModuleList(
            nn.Conv2d(c_in, c_out, 3, stride, padding=1, bias=False)
            for c_in, c_out, stride in zip(widths, widths[1:], strides, strict=False)
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for width in widths[1:])
        self.head = nn.Linear(widths[-1], sum(map(len, FRAME_HEADS.values())))

    def forward(self, frames_BCHW: Tensor) -> dict[str, Tensor]:
        x = frames_BCHW
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = functional.relu(norm(conv(x)))
        pooled = x.mean((2, 3))
        return {"pooled": pooled, "logits": self.head(pooled)}


def tokenise(captions: Sequence[str]) -> tuple[Tensor, list[bool]]:
    """Tokens (N, 12) of captions, word by word, and for each caption whether it had to be cut.

    Words that no caption of `shapes` has share one token.
    """
    tokens_NL = torch.full((len(captions), CONTEXT), _PAD)
    cut = []
    for row, caption in enumerate(captions):
        words = [_TOKEN.get(word, _UNKNOWN) for word in caption.lower().replace(".", " ").split()]
        cut.append(len(words) > CONTEXT - 2)
        words = [_START, *words[: CONTEXT - 2], _END]
        tokens_NL[row, : len(words)] = torch.tensor(words)
    return tokens_NL, cut


@detectors.register(
    "i3d-shapes",
    "I3D at 1/8 width, trained on `shapes` to tell shape, colour and motion; embedded",
    layers="logits 21, pooled 128",
    weights="in the package",
)
def load_i3d(
    path: Path | None,
    *,
    device: str = "cpu",
    dtype: str = "float32",
    backend: str = "eager",
    options: Mapping[str, Any] | None = None,
) -> VideoDetector:
    """The embedded I3D with the weights of `path`; no options. Reads frames of 64 x 64 in [-1, 1]."""
    network = build_i3d()
    _fill(network, "i3d-shapes", path, options)
    return _sized(i3d.as_detector("i3d-shapes", network, device=device, dtype=dtype, backend=backend), 8)


@detectors.register(
    "c3d-shapes",
    "C3D at 1/8 width, trained to tell the 40 classes of `shapes`; embedded",
    layers="fc6 512, fc7 512, fc8 40, prob 40",
    weights="in the package",
)
def load_c3d(
    path: Path | None,
    *,
    device: str = "cpu",
    dtype: str = "float32",
    backend: str = "eager",
    options: Mapping[str, Any] | None = None,
) -> VideoDetector:
    """The embedded C3D with the weights of `path`; no options. Reads 16 frames of 64 x 64 in [-1, 1]."""
    network = build_c3d()
    _fill(network, "c3d-shapes", path, options)
    return _sized(c3d.as_detector("c3d-shapes", network, device=device, dtype=dtype, backend=backend), 4)


@detectors.register(
    "clip-shapes",
    "a small CLIP of frames and captions, trained on `shapes`; it sees looks, not motions; embedded",
    layers="embedding 64",
    weights="in the package",
)
def load_clip(
    path: Path | None,
    *,
    device: str = "cpu",
    dtype: str = "float32",
    backend: str = "eager",
    options: Mapping[str, Any] | None = None,
) -> ClipDetector:
    """The embedded CLIP with the weights of `path`; no options. Reads frames of 64 x 64 in [-1, 1]."""
    network = build_clip()
    _fill(network, "clip-shapes", path, options)
    detector = ClipDetector(
        "clip-shapes",
        network,
        tokenise,
        n_features=64,
        preprocess=replace(SHAPES_PIXELS, size=(SIZE, SIZE)),
        device=device,
        dtype=dtype,
        backend=backend,
    )
    return _sized(detector, 128)


@detectors.register(
    "frame-shapes",
    "a small network of single frames, trained to tell the looks of `shapes`, for FID; embedded",
    layers="pooled 64",
    weights="in the package",
)
def load_frames(
    path: Path | None,
    *,
    device: str = "cpu",
    dtype: str = "float32",
    backend: str = "eager",
    options: Mapping[str, Any] | None = None,
) -> FrameDetector:
    """The embedded frame network with the weights of `path`; no options. Reads frames of 64 x 64 in [-1, 1]."""
    network = FrameNetwork()
    _fill(network, "frame-shapes", path, options)
    engine = Engine(network, device=device, dtype=dtype, backend=backend, piece=64, layout=torch.channels_last)
    return _sized(FrameDetector("frame-shapes", engine, {"pooled": 64}), 64)


def _sized(detector: Small, piece: int) -> Small:
    """The detector with `piece` rows a pass, on a CPU each pass in one thread.

    In networks this small threads wait for each other longer than they work, several times longer where the cores
    are shared; one thread also leaves nothing to the order of sums.
    """
    engine = detector.engine
    engine.piece = piece
    if engine.device.type == "cpu":
        network = engine.network

        def in_one_thread(rows: Tensor) -> Mapping[str, Tensor]:
            threads = torch.get_num_threads()
            torch.set_num_threads(1)
            try:
                return network(rows)
            finally:
                torch.set_num_threads(threads)

        engine.network = in_one_thread
    return detector


def _fill(network: nn.Module, name: str, path: Path | None, options: Mapping[str, Any] | None) -> None:
    known_options(name, options)
    # Half precision on disk; the network computes in single precision.
    state = {
        key: value.float() if value.is_floating_point() else value for key, value in read_state(path, name).items()
    }
    fit_state(network, state, name, path)
