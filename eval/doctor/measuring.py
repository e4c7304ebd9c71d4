"""Small runs through the same code as real ones: does a score depend on batch, workers, order or threads here?

Shapes: N clips, T frames, D features.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cogvideo.video import write_video
from cogvideo.weights import WeightFile
from eval.datasets.shapes_drawing import classes, draw_clip
from eval.decoding import DecodePool
from eval.doctor.checks import Check
from eval.features import Extractor, Need
from eval.generators.contract import Clip, ClipRef
from eval.metrics.frechet import frechet
from eval.protocol import ClipRule, Preprocess

if TYPE_CHECKING:
    from torch import nn

Values = np.ndarray[Any, np.dtype[np.float32]]

N_CLIPS = 16
FRAMES = 16
RULE = ClipRule(frames=FRAMES, choice="first")
OPTIONS = (("n_classes", 8), ("width", 0.125))
SMALL = Preprocess("doctor-64", geometry="none")
SAME_SCORE = 1e-6
ROUNDING = 1e-4
SAME_ON_GPU = 1e-3
MEND = "please report it with `cogeval doctor --json`; numbers from this machine should not be published until then"


@dataclass(frozen=True)
class Setting:
    """How the same clips are worked on: decoding processes, clips a call, order, threads, device."""

    name: str
    workers: int = 0
    batch: int = 16
    is_reversed: bool = False
    threads: int = 0
    device: str = "cpu"


BASE = Setting("16 clips a call, in order, one process")
VARIANTS = (
    Setting("batch size", batch=1),
    Setting("a batch that does not divide", batch=5),
    Setting("order", is_reversed=True),
    Setting("workers", workers=2),
    Setting("threads", threads=1),
)


def drawn_clips(n: int = N_CLIPS) -> list[Clip]:
    """Clips (16, 64, 64, 3) of the embedded data set's drawing, the same bytes on any machine."""
    table = classes("all")
    chosen = [table[(7 * index) % len(table)] for index in range(n)]
    return [
        draw_clip(one.shape, one.colour, one.motion, f"doctor/{index}")[:FRAMES] for index, one in enumerate(chosen)
    ]


def invariance(devices: Sequence[str]) -> Iterator[Check]:
    """The Fréchet distance of 8 against 8 clips under every setting, held against the plainest one."""
    with _bench() as (paths, file):
        base = _features(paths, file, BASE)
        score = _score(base)
        for variant in VARIANTS:
            tolerance = ROUNDING if variant.threads else SAME_SCORE  # sums in float32 are cut differently
            yield _compared(variant.name, base, score, _features(paths, file, variant), tolerance)
        for device in devices:
            if device != "cpu":
                there = _features(paths, file, Setting(device, device=device))
                yield _compared(f"{device} against cpu", base, score, there, SAME_ON_GPU)
        order = np.random.Generator(np.random.Philox(0)).permutation(N_CLIPS // 2)
        half = N_CLIPS // 2
        mixed = frechet(base[:half][order], base[half:][order[::-1]])
        yield Check(
            "order of features",
            _relative(mixed, score) <= 1e-9,
            f"the score differs by {_relative(mixed, score):.1e}",
            "at most 1e-9",
            MEND,
        )


def drawn_network() -> nn.Module:
    """An I3D of an eighth of the width with weights from the raw Philox stream: no file, the same on any machine."""
    import torch

    from eval.detectors.i3d import I3D

    network = I3D(n_classes=8, width=1 / 8)
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if tensor.is_floating_point():
                tensor.copy_(torch.from_numpy(_drawn(name, tuple(tensor.shape))))
    return network


def _drawn(name: str, shape: tuple[int, ...]) -> Values:
    """Weights of a sane size for their role, from a hash of their name."""
    size = int(np.prod(shape)) if shape else 1
    key = int.from_bytes(hashlib.sha256(f"doctor/{name}".encode()).digest()[:8], "little")
    uniform = (np.random.Philox(key=key).random_raw(size) >> np.uint64(11)) * 2.0**-53
    centred = (2 * uniform - 1) * np.sqrt(3.0)
    leaf = name.rpartition(".")[2]
    if leaf == "running_var":
        values = 0.5 + uniform
    elif len(shape) > 1:
        values = centred * np.sqrt(2.0 * shape[0] / size)
    else:
        values = 0.1 * centred + (leaf == "weight")
    return values.reshape(shape).astype(np.float32)


@contextmanager
def _bench() -> Iterator[tuple[list[Path], WeightFile]]:
    """The drawn clips as lossless videos and the drawn network as a weight file, in a folder that goes away."""
    from safetensors.torch import save_file

    with tempfile.TemporaryDirectory(prefix="cogeval-doctor-") as folder:
        paths = []
        for index, clip in enumerate(drawn_clips()):
            paths.append(Path(folder) / f"{index:02d}.avi")
            write_video(paths[-1], clip, fps=8, codec="ffv1")
        weights = Path(folder) / "drawn.safetensors"
        save_file({name: tensor.contiguous() for name, tensor in drawn_network().state_dict().items()}, weights)
        yield paths, WeightFile("drawn", weights, "", "embedded", True, "Apache-2.0")


def _features(paths: Sequence[Path], file: WeightFile, setting: Setting) -> Values:
    """Logits (N, 8) of the videos in their own order, worked on as the setting says."""
    import torch

    order = list(range(len(paths)))[:: -1 if setting.is_reversed else 1]
    refs = [ClipRef(str(index), str(paths[index]), 0, FRAMES) for index in order]
    need = Need("doctor", "i3d", "drawn", SMALL, OPTIONS, ("logits",))
    extractor = Extractor([need], RULE, {"drawn": file}, device=setting.device)
    threads = torch.get_num_threads()
    torch.set_num_threads(setting.threads or threads)
    try:
        with DecodePool(setting.workers) as pool:
            clips = list(pool.clips(refs))
        rows = np.concatenate(
            [
                extractor(
                    clips[at : at + setting.batch], [ref.item_id for ref in refs[at : at + setting.batch]], [need]
                )["doctor:logits"]
                for at in range(0, len(clips), setting.batch)
            ]
        )
    finally:
        torch.set_num_threads(threads)
    values: Values = rows[np.argsort(order)]
    return values


def _score(features_ND: Values) -> float:
    half = len(features_ND) // 2
    return frechet(features_ND[:half], features_ND[half:])


def _compared(name: str, base: Values, score: float, other: Values, tolerance: float) -> Check:
    difference = _relative(_score(other), score)
    same = "the same bits" if np.array_equal(base, other) else f"the score differs by {difference:.1e}"
    return Check(name, difference <= tolerance, same, f"at most {tolerance:g}", MEND)


def _relative(value: float, reference: float) -> float:
    return abs(value - reference) / max(abs(reference), 1e-12)
