"""Networks that come as TorchScript files, as StyleGAN-V distributes them. Such a file is a program: load trusted ones.

Shapes: B clips, C channels, T frames, H x W pixels, D features.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cogvideo.errors import UserError
from eval.detectors.engine import Engine, VideoDetector
from eval.detectors.i3d import MIN_FRAMES
from eval.detectors.state import known_options, present
from eval.registry import detectors

C3D_FRAMES = 16
Naming = Callable[[Tensor], dict[str, Tensor]]


class Scripted(nn.Module):
    """A TorchScript network called with fixed keywords; `name` turns its one output (B, D) into layers.

    `as_bytes` hands it uint8 clips, for networks that rescale by themselves; the caller's 0..255 are exact.
    """

    def __init__(
        self,
        script: nn.Module,
        keywords: Mapping[str, bool],
        name: Naming,
        *,
        as_bytes: bool,
    ) -> None:
        super().__init__()
        self.script, self.keywords, self.name, self.as_bytes = script, dict(keywords), name, as_bytes

    def forward(self, clips_BCTHW: Tensor) -> dict[str, Tensor]:
        output: Tensor = self.script(clips_BCTHW.to(torch.uint8) if self.as_bytes else clips_BCTHW, **self.keywords)
        return self.name(output.flatten(1))


@detectors.register(
    "i3d-torchscript",
    "I3D as StyleGAN-V distributes it, called with rescale, resize and return_features: 400 logits",
    layers="logits 400",
    weights="i3d_torchscript.pt, a program: use a file you trust",
)
def load_i3d(
    path: Path | None,
    *,
    device: str = "cpu",
    dtype: str = "float32",
    backend: str = "eager",
    options: Mapping[str, Any] | None = None,
) -> VideoDetector:
    """StyleGAN-V's I3D. Options: `rescale` and `resize` (True: the network reads raw 0..255 clips of any size).

    With both False it reads what `i3d-direct-224` prepares, as fvd-comparison calls it.
    """
    name = "i3d-torchscript"
    given = known_options(name, options, rescale=True, resize=True, n_features=400)
    if given["rescale"] != given["resize"]:
        raise UserError(
            f"detector {name}: rescale and resize go together, both on for raw clips, both off for prepared"
        )
    keywords = {"rescale": bool(given["rescale"]), "resize": bool(given["resize"]), "return_features": True}
    script = _script(path, name, keywords)
    network = Scripted(script, keywords, lambda logits_BD: {"logits": logits_BD}, as_bytes=keywords["rescale"])
    return _detector(name, network, {"logits": given["n_features"]}, MIN_FRAMES, device, dtype, backend)


@detectors.register(
    "c3d-torchscript",
    "C3D fine-tuned on UCF-101 as StyleGAN-V distributes it: class probabilities, or features with return_features",
    layers="prob 101 and logits 101 (their logarithm), or features 4096",
    weights="c3d_ucf101.pt, a program: use a file you trust",
)
def load_c3d(
    path: Path | None,
    *,
    device: str = "cpu",
    dtype: str = "float32",
    backend: str = "eager",
    options: Mapping[str, Any] | None = None,
) -> VideoDetector:
    """StyleGAN-V's C3D on raw 0..255 clips.

    Options: `return_features` (False: layers `prob` and `logits`; True: layer `features`), and `n_features`, the
    width of the output.
    """
    name = "c3d-torchscript"
    given = known_options(name, options, return_features=False, n_features=None)
    wants_features = bool(given["return_features"])
    keywords = {"return_features": True} if wants_features else {}
    naming: Naming = _as_features if wants_features else _as_probabilities
    layers = ["features"] if wants_features else ["prob", "logits"]
    network = Scripted(_script(path, name, keywords), keywords, naming, as_bytes=True)
    n_features = given["n_features"] or (4096 if wants_features else 101)
    return _detector(name, network, dict.fromkeys(layers, n_features), C3D_FRAMES, device, dtype, backend)


def _as_features(output_BD: Tensor) -> dict[str, Tensor]:
    return {"features": output_BD}


def _as_probabilities(output_BK: Tensor) -> dict[str, Tensor]:
    """The output with its logarithm, whose softmax is the output again. Raises UserError if rows do not sum to one."""
    if output_BK.min() < 0 or not torch.allclose(output_BK.sum(1), output_BK.new_ones(len(output_BK)), atol=1e-3):
        raise UserError(
            "detector c3d-torchscript: the file returns no probabilities; is it StyleGAN-V's c3d_ucf101.pt?"
        )
    return {"prob": output_BK, "logits": output_BK.clamp(min=torch.finfo(output_BK.dtype).tiny).log()}


def _script(path: Path | None, detector: str, keywords: Mapping[str, bool]) -> nn.Module:
    """The program in the file, if it can be called that way."""
    path = present(path, detector)
    try:
        with warnings.catch_warnings():
            # torch deprecates making such files; these exist, and reading them is all that is done here.
            warnings.simplefilter("ignore")
            script: nn.Module = torch.jit.load(str(path), map_location="cpu")  # type: ignore[no-untyped-call]
    except RuntimeError as error:
        reason = (str(error).strip().splitlines() or ["no reason given"])[0]
        raise UserError(f"detector {detector}: {path} is no TorchScript file: {reason}") from None
    known = [argument.name for argument in script.forward.schema.arguments]  # type: ignore[attr-defined]
    unknown = [name for name in keywords if name not in known]
    if unknown:
        raise UserError(
            f"detector {detector}: the network in {path} cannot be called with {', '.join(unknown)}; "
            f"it takes {', '.join(known[1:]) or 'nothing'}"
        )
    return script


def _detector(
    name: str, network: Scripted, layers: Mapping[str, int], min_frames: int, device: str, dtype: str, backend: str
) -> VideoDetector:
    if dtype != "float32" or backend != "eager":
        raise UserError(
            f"detector {name} runs as its file was made: dtype float32 and backend eager, not {dtype} {backend}"
        )
    piece = 2 if torch.device(device).type == "cpu" else 8
    return VideoDetector(name, Engine(network, device=device, piece=piece), layers, min_frames=min_frames)
