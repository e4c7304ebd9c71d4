"""The four embedded detectors as recipes: train, judge on fresh clips, write weights and card."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import torch
from safetensors.torch import save
from torch import nn

from cogvideo.errors import UserError
from eval.datasets.shapes_drawing import classes
from eval.training.batches import Batch, draw_batch
from eval.training.embedded import (
    Progress,
    accuracy_c3d,
    accuracy_clip,
    accuracy_frames,
    accuracy_i3d,
    train_c3d,
    train_clip,
    train_frames,
    train_i3d,
)

JUDGED_CLIPS = 640


@dataclass(frozen=True)
class Recipe:
    """What makes one detector: steps, what it is trained on in words, and the functions that train and judge it."""

    steps: int
    data: str
    network: str
    train: Callable[[int, int, Progress], nn.Module]
    accuracy: Callable[[nn.Module, Batch], dict[str, float]]
    judged_on: str = "all"


RECIPES = {
    "i3d-shapes": Recipe(
        1900,
        "shapes, all 210 classes, 32 clips a step; one clip in eight stands still, one in eight has its frames "
        "shuffled, and both are answers of their own",
        "eval.detectors.i3d.I3D at 1/8 width; shape (4), colour (6), motion (9 + still + jumbled)",
        train_i3d,
        accuracy_i3d,
    ),
    "c3d-shapes": Recipe(
        700,
        "shapes, the benchmark's 40 classes, 32 clips a step",
        "eval.detectors.c3d.C3D at 1/8 width on 64 x 64 pixels; 40 classes",
        train_c3d,
        accuracy_c3d,
        "benchmark",
    ),
    "clip-shapes": Recipe(
        1000,
        "shapes, all 210 classes, 48 frames with captions a step, every look once in each half of them",
        "open_clip's CLIP, ResNet of width 8 and a text transformer of width 64; 64 features",
        train_clip,
        accuracy_clip,
    ),
    "frame-shapes": Recipe(
        1000,
        "shapes, all 210 classes, 64 frames a step, four of each of 16 clips that come in fours with one shape each",
        "eval.detectors.shapes.FrameNetwork, five convolutions; shape (4), colour (6)",
        train_frames,
        accuracy_frames,
    ),
}


def make(name: str, folder: Path, *, seed: int = 0, steps: int | None = None, progress: Progress) -> Path:
    """Train one detector and write `<name>.safetensors` (half precision) and its card `<name>.json` into `folder`.

    The same seed and steps give the same weights on one kind of machine. Raises UserError if the folder cannot be
    written; that is tried before the training.
    """
    recipe = RECIPES[name]
    steps = steps or recipe.steps
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f".{name}.part").write_bytes(b"")
    except OSError as error:
        raise UserError(f"cannot write {folder}: {error.strerror}; name another folder") from None
    # One thread: sums in another order would be other weights.
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    network = recipe.train(seed, steps, progress)
    halve(network)
    accuracy = judge(network, recipe)
    state = {key: value.half() if value.is_floating_point() else value for key, value in network.state_dict().items()}
    data = save({key: value.contiguous() for key, value in state.items()})
    card = {
        "name": name,
        "network": recipe.network,
        "data": recipe.data,
        "pixels": "uint8 frames of 64 x 64 as decoded, scaled to -1..1; 16 of 17 frames",
        "command": f"python -m eval.commands.train_detectors {name} --seed {seed} --steps {steps}",
        "seed": seed,
        "steps": steps,
        "parameters": sum(p.numel() for p in network.parameters()),
        "precision": "float16 on disk, float32 when computing",
        "accuracy": {key: round(value, 4) for key, value in accuracy.items()},
        "accuracy_on": f"{JUDGED_CLIPS} fresh clips of {recipe.judged_on} classes, weights as on disk",
        "sha256": hashlib.sha256(data).hexdigest(),
        "torch": torch.__version__,
        "date": datetime.now(UTC).date().isoformat(),
        "licence": "Apache-2.0",
        "comparable": "with nothing published: these networks know coloured shapes only",
    }
    path = folder / f"{name}.safetensors"
    _write(path, data)
    _write(folder / f"{name}.json", (json.dumps(card, indent=2) + "\n").encode())
    progress(f"{path}: {len(data) / 1e6:.2f} MB, accuracy {card['accuracy']}")
    return path


def halve(network: nn.Module) -> None:
    """Round the weights to half precision where they stand, so that what is judged is what is kept."""
    with torch.no_grad():
        for value in network.state_dict().values():
            if value.is_floating_point():
                value.copy_(value.half())


def judge(network: nn.Module, recipe: Recipe, *, clips: int = JUDGED_CLIPS) -> dict[str, float]:
    """Accuracy on clips from seeds that no training uses, averaged over batches of 64."""
    network.eval()
    which = classes("benchmark") if recipe.judged_on == "benchmark" else classes("all")
    totals: dict[str, float] = {}
    with torch.no_grad():
        for step in range(clips // 64):
            found = recipe.accuracy(network, draw_batch(which, 64, seed="judge", step=step))
            for key, value in found.items():
                totals[key] = totals.get(key, 0.0) + value * 64 / clips
    return totals


def _write(path: Path, data: bytes) -> None:
    part = path.with_name(f".{path.stem}.part")
    try:
        part.write_bytes(data)
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise UserError(f"cannot write {path}: {error.strerror}; make room, or name another folder") from None
