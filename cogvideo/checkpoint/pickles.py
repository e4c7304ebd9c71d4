"""Opens PyTorch's pickled checkpoints as tensors and never as programs.

Released files hold random states of Python and numpy and DeepSpeed's settings beside the tensors. For those names
stand-ins are put in place, which take every argument and do nothing; any other name is refused.
"""

from __future__ import annotations

import pickle
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cogvideo.checkpoint.memory import require_memory
from cogvideo.checkpoint.tensors import TensorFiles, some, spec_of
from cogvideo.errors import UserError

# Random states: numpy's arrays and numbers, under the names of numpy 1 and numpy 2.
_NUMPY = tuple(f"numpy.{core}.multiarray.{name}" for core in ("core", "_core") for name in ("_reconstruct", "scalar"))
STOOD_IN = (*_NUMPY, "numpy.ndarray", "numpy.dtype", "argparse.Namespace")
# Classes of the libraries that trained the release; their objects lie beside the tensors and are not needed.
STOOD_IN_PACKAGES = ("deepspeed.", "SwissArmyTransformer.", "sat.")

# What PyTorch and its unpickler raise on a file whose end or middle is not as it should be.
_DAMAGE = (OSError, EOFError, RuntimeError, ValueError, LookupError, AttributeError, TypeError, AssertionError)


def open_pickle(path: Path) -> TensorFiles:
    """The tensors under the key `module` of a pickled checkpoint, mapped from the file and not read yet.

    A file of the old layout (before PyTorch 1.6) cannot be mapped and is read whole. Raises UserError if the file is
    cut short, is no checkpoint, holds objects that are not tensors nor known settings, or has no `module`.
    """
    loaded = _load(path)
    module = loaded.get("module") if isinstance(loaded, Mapping) else None
    if not isinstance(module, Mapping):
        held = f"a table with {some(map(str, loaded))}" if isinstance(loaded, Mapping) else f"a {type(loaded).__name__}"
        raise UserError(f"{path} is no released checkpoint: expected the key `module` with the tensors, saw {held}")
    tensors = {str(name): value for name, value in module.items() if isinstance(value, Tensor)}
    if not tensors:
        raise UserError(f"{path} is no released checkpoint: its key `module` holds no tensors")
    # State dicts of old trainers keep parameters; the data alone is wanted.
    tensors = {name: tensor.detach() for name, tensor in tensors.items()}
    return TensorFiles((path,), {name: spec_of(tensor) for name, tensor in tensors.items()}, tensors.__getitem__)


class _StandIn:
    """In place of an object that is not needed. Whatever name it stands for, no code of it runs."""

    def __new__(cls, *_args: object, **_kwargs: object) -> _StandIn:
        return super().__new__(cls)

    def __init__(self, *_args: object, **_kwargs: object) -> None:
        pass

    def __setstate__(self, _state: object) -> None:
        pass


def _load(path: Path) -> Any:
    if not path.is_file():
        raise UserError(f"expected a checkpoint at {path}, found {'a folder' if path.is_dir() else 'nothing'}")
    if path.stat().st_size == 0:
        raise UserError(f"{path} is empty; fetch it again")
    stand_ins = [(_StandIn, name) for name in _stood_in(path)]
    try:
        # TorchScript is warned of and then refused, an old layout is warned of and then read.
        with warnings.catch_warnings(), torch.serialization.safe_globals(stand_ins):  # type: ignore[arg-type]
            warnings.simplefilter("ignore")
            is_zip = _is_zip(path)
            if not is_zip:
                require_memory(path.stat().st_size, "cpu", f"reading {path}, a file of PyTorch's old layout")
            return torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
    except pickle.UnpicklingError as error:
        raise UserError(_refusal(path, str(error))) from None
    except PermissionError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    except _DAMAGE as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(f"{path} is cut short or damaged or no PyTorch file ({reason[:160]}); fetch it again") from None


def _stood_in(path: Path) -> list[str]:
    """The names in the file that get a stand-in. A file whose names cannot be listed gets the fixed ones."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            needed = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except Exception:  # noqa: BLE001 - whatever is wrong with the file is told when it is loaded
        return list(STOOD_IN)
    return [name for name in needed if name in STOOD_IN or name.startswith(STOOD_IN_PACKAGES)]


def _is_zip(path: Path) -> bool:
    """Whether the file has PyTorch's layout since 1.6, of which alone single tensors can be mapped."""
    with path.open("rb") as file:
        return file.read(4) == b"PK\x03\x04"


def _refusal(path: Path, reason: str) -> str:
    """One line for what the restricted unpickler would not do."""
    if names := re.findall(r"GLOBAL ([\w.]+)", reason):
        return (
            f"{path} holds more than tensors: {names[0]} would be run to load it, so it was not loaded; get the file "
            "from its owner, or save its tensors alone under the key `module`"
        )
    told = re.search(r"WeightsUnpickler error: (.+)", reason)
    clause = told[1] if told else "not a pickle of tensors"
    return f"{path} cannot be read as tensors ({clause[:160]}); fetch it again"
