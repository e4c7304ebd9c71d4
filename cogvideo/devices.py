"""The device and the type of numbers that a command works with, and why."""

from __future__ import annotations

import re

import torch

from cogvideo.errors import MissingPrerequisite, UserError

TYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def choose_device(name: str) -> torch.device:
    """`auto` is the first GPU, else the CPU. Raises UserError for a kind that is not known (draws need float64, which
    not every kind has), MissingPrerequisite for a GPU that is not here."""
    if name == "auto":
        return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    if not re.fullmatch(r"cpu|cuda(:\d{1,3})?", name):
        raise UserError(f"unknown device {name!r}; expected auto, cpu, cuda or cuda:N")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        here = f"{torch.cuda.device_count()} GPUs found"
        raise MissingPrerequisite(f"device {name} is not here ({here}); use --device cpu, or a machine with one")
    return device


def choose_dtype(name: str, device: torch.device) -> torch.dtype | None:
    """The named type; `auto` is bfloat16 on a GPU, and on a CPU the weights' own (None)."""
    if name != "auto":
        return TYPES[name]
    return torch.bfloat16 if device.type == "cuda" else None


def type_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
