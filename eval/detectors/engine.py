"""Runs a network as a detector: precision, memory layout, compilation, and passes of a fixed size.

Shapes: B clips, C channels, T frames, H x W pixels, D features.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn

from cogvideo.errors import MissingPrerequisite, UserError
from eval.detectors.contract import Detector

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
BACKENDS = ("eager", "inductor")
Network = Callable[[Tensor], Mapping[str, Tensor]]


class Engine:
    """A network in evaluation mode on its device, always called on exactly `piece` rows.

    `dtype` "bfloat16" changes features in the third digit and is never a default. `backend` "inductor" compiles with
    frozen weights: minutes once, then about half the time on a CPU. Raises UserError on other names,
    MissingPrerequisite if the device or a compiler is not there.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        device: str,
        dtype: str = "float32",
        backend: str = "eager",
        piece: int,
        layout: torch.memory_format = torch.contiguous_format,
    ) -> None:
        if dtype not in DTYPES:
            raise UserError(f"unknown dtype {dtype!r} of a detector; known: {', '.join(DTYPES)}")
        if backend not in BACKENDS:
            raise UserError(f"unknown backend {backend!r} of a detector; known: {', '.join(BACKENDS)}")
        self.device, self.dtype, self.piece, self.layout = torch.device(device), DTYPES[dtype], piece, layout
        try:
            network = network.eval().requires_grad_(False).to(device=self.device, dtype=self.dtype)
        except (RuntimeError, AssertionError) as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise MissingPrerequisite(f"device {device!r} cannot be used: {reason}: choose another --device") from None
        self.network: Network = network.to(memory_format=layout)
        if backend == "inductor":
            self._need_compiler()
            self.network = torch.compile(network, dynamic=False, options={"freezing": True})
        self.backend = backend

    def __call__(self, rows: Tensor) -> dict[str, Tensor]:
        """Every layer for all rows, float32 on the device of the input."""
        with torch.no_grad(), _exact_arithmetic(self.device), self._explained():
            outputs = [self._pass(rows[i : i + self.piece]) for i in range(0, len(rows), self.piece)]
        return {name: torch.cat([out[name] for out in outputs]).to(rows.device) for name in outputs[0]}

    def _pass(self, part: Tensor) -> dict[str, Tensor]:
        n = len(part)
        if n < self.piece:
            # Zeros fill up the last pass: one shape, so one kernel and one compilation, whatever the number of clips.
            part = torch.cat([part, part.new_zeros((self.piece - n, *part.shape[1:]))])
        part = part.to(device=self.device, dtype=self.dtype).contiguous(memory_format=self.layout)
        return {name: value[:n].float() for name, value in self.network(part).items()}

    def _need_compiler(self) -> None:
        if self.device.type == "cpu" and not any(map(shutil.which, (os.environ.get("CXX") or "g++", "clang++"))):
            raise MissingPrerequisite(
                "backend 'inductor' needs a C++ compiler (g++ or clang++) and none was found: "
                "install one or use backend 'eager'"
            )

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """What the compiler cannot do becomes one line; an error of the network itself stays as it is."""
        if self.backend == "eager":
            yield
            return
        from torch._dynamo.exc import BackendCompilerFailed

        try:
            # The compiler warns about its own internals, which says nothing about the numbers.
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                yield
        except BackendCompilerFailed as error:
            reason = (str(error).strip().splitlines() or ["no reason given"])[0]
            raise MissingPrerequisite(
                f"backend 'inductor' cannot compile here: {reason}: use backend 'eager'"
            ) from None


class VideoDetector(Detector):
    """A network over clips: rows are clips, every layer is (B, D)."""

    def __init__(
        self, name: str, engine: Engine, layers: Mapping[str, int], *, min_frames: int = 1, chunk: int = 8
    ) -> None:
        self.name, self.engine, self.layers = name, engine, layers
        self.min_frames, self.chunk = min_frames, chunk

    def __call__(self, clips_BCTHW: Tensor) -> dict[str, Tensor]:
        """Layers by name, (B, D). Raises UserError if the clips are too short."""
        _long_enough(self, clips_BCTHW)
        return _kept(self.engine(clips_BCTHW), self.layers)


class FrameDetector(Detector):
    """A network over frames: rows are frames, every layer is (B, T, D)."""

    is_frame_network = True

    def __init__(self, name: str, engine: Engine, layers: Mapping[str, int], *, chunk: int = 8) -> None:
        self.name, self.engine, self.layers, self.chunk = name, engine, layers, chunk

    def __call__(self, clips_BCTHW: Tensor) -> dict[str, Tensor]:
        """Layers by name, (B, T, D)."""
        B, C, T, H, W = clips_BCTHW.shape
        frames = self.engine(clips_BCTHW.transpose(1, 2).reshape(B * T, C, H, W))
        return {name: values.reshape(B, T, -1) for name, values in _kept(frames, self.layers).items()}


def _kept(outputs: Mapping[str, Tensor], layers: Mapping[str, int]) -> dict[str, Tensor]:
    return {name: outputs[name] for name in layers}


def _long_enough(detector: Detector, clips_BCTHW: Tensor) -> None:
    if clips_BCTHW.ndim != 5:
        raise ValueError(f"detector {detector.name} reads (B, C, T, H, W), got {tuple(clips_BCTHW.shape)}")
    if clips_BCTHW.shape[2] < detector.min_frames:
        raise UserError(
            f"detector {detector.name} needs clips of at least {detector.min_frames} frames, "
            f"got {clips_BCTHW.shape[2]}: make longer clips or choose a protocol with another detector"
        )


def _exact_arithmetic(device: torch.device) -> AbstractContextManager[object]:
    """float32 means float32: cuDNN would round its inputs to 10 bits, and pick its algorithm by a race."""
    if device.type != "cuda":
        return contextlib.nullcontext()
    flags: AbstractContextManager[object] = torch.backends.cudnn.flags(
        enabled=True, benchmark=False, deterministic=True, allow_tf32=False
    )
    return flags
