"""Checkpoints of a run: trained parameters, their moments and the step, with `torch.distributed.checkpoint`.

`checkpoints/step-0000100/` holds the tensors, each part of a tensor once, and `state.json`. Any number of processes
reads what any number has written. What is frozen is not in it: it comes from where the run started.
"""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save as save_parts

from cogvideo.errors import UserError
from cogvideo.training.optimizer import Optimizer
from cogvideo.training.parallel import World
from cogvideo.training.tasks import Task

FOLDER = "checkpoints"
STATE_NAME = "state.json"
KEPT = 2


def tensors_of(task: Task, optimizer: Optimizer) -> dict[str, Tensor]:
    """Everything that moves in training, by name. The tensors are the run's own."""
    found: dict[str, Tensor] = {}
    for name, parameter in task.named_parameters():
        if not parameter.requires_grad:
            continue
        found[f"parameter.{name}"] = parameter.detach()
        for moment, tensor in optimizer.state[parameter].items():
            found[f"{moment}.{name}"] = tensor
    return found | {f"learned.{name}": tensor for name, tensor in task.learned().items()}


def save(folder: Path, step: int, tensors: dict[str, Tensor], facts: dict[str, Any], world: World) -> Path:
    """Write the checkpoint of a step, whole, and let old ones go; every process has to call it."""
    final = folder / FOLDER / f"step-{step:07d}"
    place = final.with_name(f".{final.name}.unfinished")
    if world.is_first:
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
    world.wait()
    with _quiet():
        save_parts(tensors, checkpoint_id=place, no_dist=world.is_alone)
    if world.is_first:
        text = json.dumps({**facts, "step": step}, indent=1, ensure_ascii=False) + "\n"
        (place / STATE_NAME).write_text(text, encoding="utf-8")
        shutil.rmtree(final, ignore_errors=True)
        place.rename(final)
        for old in saved(folder)[:-KEPT]:
            shutil.rmtree(old, ignore_errors=True)
    world.wait()
    return final


def saved(folder: Path) -> list[Path]:
    """The whole checkpoints of a run, the oldest first."""
    return sorted(path.parent for path in (folder / FOLDER).glob(f"step-*/{STATE_NAME}"))


def read_facts(checkpoint: Path) -> dict[str, Any]:
    """What was written beside the tensors. Raises UserError if it is damaged."""
    try:
        facts = json.loads((checkpoint / STATE_NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(
            f"{checkpoint} is damaged ({error}); remove that folder: the run goes on from the one before"
        ) from None
    if not isinstance(facts, dict) or not isinstance(facts.get("step"), int):
        raise UserError(f"{checkpoint} says no step; remove that folder: the run goes on from the one before")
    return facts


def load_(checkpoint: Path, tensors: dict[str, Tensor], world: World) -> None:
    """Read a checkpoint into the tensors of a run, whatever number of processes wrote it.

    Raises UserError if it is damaged or holds other tensors.
    """
    try:
        with _quiet():
            there = FileSystemReader(checkpoint).read_metadata().state_dict_metadata
            if missing := sorted(set(tensors) ^ set(there)):
                raise UserError(
                    f"{checkpoint} is of another training: {len(missing)} tensors are not in both, e.g. {missing[0]}; "
                    "take another --out"
                )
            for name, tensor in tensors.items():
                size = getattr(there[name], "size", tensor.shape)
                if size != tensor.shape:
                    raise UserError(
                        f"{checkpoint} is of another size: {name} is {list(size)} there and {list(tensor.shape)} here; "
                        "take another --out"
                    )
            load(tensors, checkpoint_id=checkpoint, no_dist=world.is_alone)
    except UserError:
        raise
    except (OSError, ValueError, KeyError, EOFError, RuntimeError, UnpicklingError, CheckpointException) as error:
        # The library's own exception is a traceback as text: its last line says what happened.
        line = next((line for line in reversed(str(error).strip().splitlines()) if line.strip()), type(error).__name__)
        raise UserError(
            f"{checkpoint} cannot be read ({line.strip()}); remove that folder: the run goes on from the one before"
        ) from None


@contextmanager
def _quiet() -> Iterator[None]:
    """The library warns of using one process, and of its own internals."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        warnings.simplefilter("ignore", FutureWarning)
        yield
