"""Reads checkpoints of networks as tensors, never as programs, and says in one line what does not fit."""

from __future__ import annotations

import pickle
import warnings
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from cogvideo.errors import MissingPrerequisite, UserError
from eval.registry import did_you_mean

State = dict[str, Tensor]


def present(path: Path | None, detector: str) -> Path:
    """The path of a weight file that exists. Raises MissingPrerequisite otherwise."""
    if path is None:
        raise MissingPrerequisite(
            f"detector {detector} needs a weight file and none was given: see `cogeval weights list` for its name, "
            "then `cogeval weights fetch` or `cogeval weights add`"
        )
    if not path.is_file():
        raise MissingPrerequisite(f"detector {detector}: there is no weight file at {path}: see `cogeval weights list`")
    return path


def read_state(path: Path | None, detector: str) -> State:
    """Names and tensors of a .safetensors, .npz, or PyTorch checkpoint, on the CPU.

    A checkpoint may hold the state dict itself or under `state_dict`, `model` or `module`; the prefix `module.` of
    DataParallel is dropped. Raises MissingPrerequisite if there is no file, UserError if it is no such file.
    """
    path = present(path, detector)
    try:
        if path.suffix == ".safetensors":
            loaded: object = load_file(path)
        elif path.suffix == ".npz":
            # Opened here, as numpy leaves the file of a broken archive open.
            with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
                loaded = {name: torch.from_numpy(archive[name]) for name in archive.files}
        else:
            with warnings.catch_warnings():
                # A program in TorchScript is warned of, then refused; the refusal is enough.
                warnings.simplefilter("ignore")
                loaded = torch.load(path, map_location="cpu", weights_only=True)
    except (
        OSError,
        EOFError,
        RuntimeError,
        ValueError,
        pickle.UnpicklingError,
        SafetensorError,
        zipfile.BadZipFile,
    ) as e:
        reason = (str(e).strip().splitlines() or [type(e).__name__])[0]
        raise UserError(f"detector {detector}: {path} cannot be read as a file of tensors: {reason}") from None
    for key in ("state_dict", "model", "module"):
        if isinstance(loaded, Mapping) and isinstance(loaded.get(key), Mapping):
            loaded = loaded[key]
    if not isinstance(loaded, Mapping) or not all(isinstance(value, Tensor) for value in loaded.values()):
        raise UserError(f"detector {detector}: {path} holds no state dict (names and tensors), but {_kind(loaded)}")
    return {str(name).removeprefix("module."): value for name, value in loaded.items()}


def fit_state(network: nn.Module, state: State, detector: str, where: Path | None) -> None:
    """Copy the tensors into the network, all of them or none.

    Batch counters may be absent, as old checkpoints have none. Raises UserError that names missing and unexpected
    tensors and wrong shapes.
    """
    own = network.state_dict()
    missing = [name for name in own if name not in state and not name.endswith("num_batches_tracked")]
    unexpected = [name for name in state if name not in own]
    misshapen = [
        f"{name} is {_size(state[name])}, expected {_size(own[name])}"
        for name in own
        if name in state and state[name].shape != own[name].shape
    ]
    problems = [
        f"{len(names)} {what} ({_some(names)})"
        for what, names in (("missing", missing), ("unexpected", unexpected), ("of another shape", misshapen))
        if names
    ]
    if problems:
        raise UserError(
            f"detector {detector}: the tensors in {where or 'the given state'} do not fit: {'; '.join(problems)}"
        )
    network.load_state_dict({**own, **state})


def known_options(detector: str, given: Mapping[str, Any] | None, **defaults: Any) -> dict[str, Any]:
    """The options of a loader, from what was given and the defaults. Raises UserError on an unknown name."""
    for name in given or {}:
        if name not in defaults:
            raise UserError(f"detector {detector} has no option {name!r}{did_you_mean(name, list(defaults))}")
    return {**defaults, **(given or {})}


def _some(names: Iterable[str], limit: int = 3) -> str:
    names = list(names)
    return ", ".join(names[:limit]) + (", ..." if len(names) > limit else "")


def _size(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "a single number"


def _kind(value: object) -> str:
    if isinstance(value, Mapping):
        return f"a table with {_some(map(str, value))}" if value else "an empty table"
    return f"a {type(value).__name__}"
