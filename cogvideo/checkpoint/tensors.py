"""A checkpoint's tensors by name, read one at a time, and how they are held against the names that a network has."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from cogvideo.errors import UserError

NAMES_SHOWN = 3


class Spec(NamedTuple):
    """Shape and type of a tensor that has not been read."""

    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def numel(self) -> int:
        count = 1
        for size in self.shape:
            count *= size
        return count

    @property
    def size_bytes(self) -> int:
        return self.numel * self.dtype.itemsize


@dataclass(frozen=True)
class TensorFiles:
    """Tensors that lie in `files`. `read` gives one of them on the CPU, mapped from its file where that can be."""

    files: tuple[Path, ...]
    specs: Mapping[str, Spec]
    read: Callable[[str], Tensor]

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: spec.shape for name, spec in self.specs.items()}


def spec_of(tensor: Tensor) -> Spec:
    return Spec(tuple(tensor.shape), tensor.dtype)


def check_fit(found: Mapping[str, Spec], expected: Mapping[str, tuple[int, ...]], where: str) -> list[str]:
    """Names that `expected` does not have. Raises UserError that names the first few missing and misshapen tensors."""
    missing = [name for name in expected if name not in found]
    misshapen = [
        f"{name} is {shape_words(found[name].shape)}, expected {shape_words(shape)}"
        for name, shape in expected.items()
        if name in found and found[name].shape != tuple(shape)
    ]
    problems = [
        f"{len(names)} {what} ({some(names)})"
        for what, names in (("missing", missing), ("of another shape", misshapen))
        if names
    ]
    if problems:
        raise UserError(
            f"{where}: of {len(expected)} tensors {' and '.join(problems)}; the file is of another size or not whole: "
            "fetch or convert it anew"
        )
    return [name for name in found if name not in expected]


def unexpected_line(names: Iterable[str], where: str) -> str:
    """The warning for tensors that no network has a place for."""
    names = list(names)
    return f"warning: {where} has {len(names)} tensors that are not used ({some(names)})"


def some(names: Iterable[str], limit: int = NAMES_SHOWN) -> str:
    """The first few of the names."""
    names = list(names)
    return ", ".join(names[:limit]) + (", ..." if len(names) > limit else "")


def shape_words(shape: Iterable[int]) -> str:
    """`3x4`, or `a single number`."""
    return "x".join(map(str, shape)) or "a single number"
