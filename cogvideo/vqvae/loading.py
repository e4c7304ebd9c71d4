"""An image tokenizer from its file: the released pickle, read as tensors only, or safetensors."""

from __future__ import annotations

import pickle
import warnings
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from cogvideo.errors import MissingPrerequisite, UserError
from cogvideo.vqvae.config import IMAGE_TOKENIZERS, ImageTokenizerConfig
from cogvideo.vqvae.image_tokenizer import ImageTokenizer


def load_image_tokenizer(
    path: Path,
    config: ImageTokenizerConfig | None = None,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
) -> ImageTokenizer:
    """The tokenizer in a file, ready to encode and decode; `config` is the released one if not given.

    The file is a PyTorch checkpoint with the state dict under `module`, as icetk's, or .safetensors. Its tensors are
    used as they are (mapped, not copied) unless `dtype` or `device` ask for others. Raises MissingPrerequisite if
    there is no file, UserError that names what does not fit.
    """
    tokenizer = build_image_tokenizer(config or IMAGE_TOKENIZERS["release"], _read(path), where=str(path))
    return tokenizer.to(device=device, dtype=dtype).eval()


def build_image_tokenizer(config: ImageTokenizerConfig, state: Mapping[str, Tensor], where: str) -> ImageTokenizer:
    """A tokenizer around the tensors of a state dict, which are not copied. Floating point types must be one.

    Raises UserError that names missing and unexpected tensors and wrong shapes, with `where` they came from.
    """
    with torch.device("meta"):
        tokenizer = ImageTokenizer(config)
    own = tokenizer.state_dict()
    misshapen = [
        f"{name} is {_size(state[name])}, expected {_size(own[name])}"
        for name in own
        if name in state and state[name].shape != own[name].shape
    ]
    dtypes = {tensor.dtype for name, tensor in state.items() if name in own}
    problems = [
        f"{len(names)} {what} ({_some(names)})"
        for what, names in (
            ("missing", [name for name in own if name not in state]),
            ("unexpected", [name for name in state if name not in own]),
            ("of another shape", misshapen),
            ("types of numbers", sorted(map(str, dtypes)) if len(dtypes) > 1 else []),
        )
        if names
    ]
    if problems:
        raise UserError(
            f"the tensors in {where} do not fit the {config.name or 'given'} image tokenizer: {'; '.join(problems)}"
        )
    tokenizer.load_state_dict(dict(state), assign=True)
    return tokenizer


def _read(path: Path) -> Mapping[str, Tensor]:
    if not path.exists():
        raise MissingPrerequisite(
            f"there is no image tokenizer at {path}: run `cogeval weights fetch ice-image-tokenizer`, or `cogeval "
            "weights add ice-image-tokenizer FILE` if you have ice_image.pt"
        )
    try:
        if path.suffix == ".safetensors":
            loaded: object = load_file(path)
        else:
            with warnings.catch_warnings():
                # A program in TorchScript is warned of, then refused; the refusal is enough.
                warnings.simplefilter("ignore")
                # Only the newer of PyTorch's two formats, a zip file, can be mapped.
                loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except (OSError, EOFError, RuntimeError, ValueError, pickle.UnpicklingError, SafetensorError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"{path} cannot be read as an image tokenizer, or was cut short: {reason}; run `cogeval weights verify "
            "ice-image-tokenizer`"
        ) from None
    if isinstance(loaded, Mapping) and isinstance(loaded.get("module"), Mapping):
        loaded = loaded["module"]
    if not isinstance(loaded, Mapping) or not all(isinstance(value, Tensor) for value in loaded.values()):
        kind = f"a table with {_some(map(str, loaded))}" if isinstance(loaded, Mapping) else type(loaded).__name__
        raise UserError(f"{path} holds no state dict (names and tensors, itself or under `module`), but {kind}")
    return {str(name): value for name, value in loaded.items()}


def _some(names: Iterable[str], limit: int = 3) -> str:
    names = list(names)
    return ", ".join(names[:limit]) + (", ..." if len(names) > limit else "")


def _size(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "a single number"
