"""Reads the folders that CogVideo and CogView2 were released as, and joins files of model-parallel training.

A folder holds `latest` (an iteration, or the word `release`), `model_config.json`, and `<iteration>/` with
`mp_rank_00_model_states.pt`, `mp_rank_01_...`, one file a rank.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from cogvideo.checkpoint.pickles import open_pickle
from cogvideo.checkpoint.tensors import Spec, TensorFiles, shape_words, some
from cogvideo.errors import UserError

LATEST = "latest"
SETTINGS = "model_config.json"
RANK_FILE = re.compile(r"mp_rank_(\d+)_model_states\.pt")

Axis = Literal["rows", "columns", "thirds", "whole"]


@dataclass(frozen=True)
class ReleasedFolder:
    """Where the pieces of a released folder are. `settings` is its model_config.json."""

    folder: Path
    iteration: str
    files: tuple[Path, ...]
    settings: dict[str, Any]


def is_released(path: Path) -> bool:
    """Whether a folder looks like a released checkpoint, whole or not."""
    return path.is_dir() and ((path / LATEST).exists() or (path / SETTINGS).exists())


def find_released(folder: Path) -> ReleasedFolder:
    """The files of a released folder. Raises UserError, naming what is wrong, if it is not whole."""
    iteration = _iteration(folder)
    place = folder / iteration
    if not place.is_dir():
        raise UserError(
            f"{folder / LATEST} names {iteration}, and there is no folder {place} (beside it: {_listing(folder)}); put "
            f"it there, or write the name of the one that is there into {LATEST}"
        )
    ranks = {int(match[1]): path for path in sorted(place.iterdir()) if (match := RANK_FILE.fullmatch(path.name))}
    settings = _settings(folder / SETTINGS)
    given = settings.get("model_parallel_size")
    count = max(1, *(rank + 1 for rank in ranks), given if isinstance(given, int) else 1)
    absent = [rank for rank in range(count) if rank not in ranks]
    if absent:
        name = f"mp_rank_{absent[0]:02d}_model_states.pt"
        raise UserError(f"{place} has no {name} (in it: {_listing(place)}); fetch the checkpoint again")
    return ReleasedFolder(folder, iteration, tuple(ranks[rank] for rank in sorted(ranks)), settings)


def open_released(found: ReleasedFolder) -> TensorFiles:
    """The tensors of a released folder; those of several ranks are joined when they are read.

    Raises UserError for damaged files, and for ranks that do not fit together.
    """
    ranks = [open_pickle(file) for file in found.files]
    return ranks[0] if len(ranks) == 1 else join_ranks(ranks, str(found.folder))


def join_ranks(ranks: Sequence[TensorFiles], where: str) -> TensorFiles:
    """One set of tensors from model-parallel ones, joined bit for bit.

    Each rank has the rows [q; k; v] of its own heads, of the first feed-forward matrix and of the vocabulary, the
    columns of the output projections, and a copy of everything else, which must be the same on each (Megatron-LM,
    section 3). Raises UserError if names, shapes or copies differ.
    """
    names = list(ranks[0].specs)
    for rank, files in enumerate(ranks):
        if different := sorted(set(names) ^ set(files.specs)):
            raise UserError(f"{where}: rank 0 and rank {rank} differ in the tensors that they have ({some(different)})")

    def read(name: str) -> Tensor:
        return _join(name, [files.read(name) for files in ranks], where)

    specs = {name: _joined_spec(name, [files.specs[name] for files in ranks], where) for name in names}
    return TensorFiles(tuple(file for files in ranks for file in files.files), specs, read)


def axis_of(name: str) -> Axis:
    """How model-parallel training cuts a tensor: rows, columns, rows of three stacked parts, or not at all."""
    if re.search(r"\bquery_key_value\.(\d+\.)?(weight|bias)$", name):
        return "thirds"
    if re.search(r"\b(dense_h_to_4h\.(weight|bias)|word_embeddings\.weight)$", name):
        return "rows"
    if re.search(r"\b(dense_4h_to_h|attention\.dense|attention_plus\.dense\.\d+)\.weight$", name):
        return "columns"
    return "whole"


def _join(name: str, pieces: Sequence[Tensor], where: str) -> Tensor:
    axis = axis_of(name)
    if axis == "columns":
        return torch.cat(list(pieces), dim=1)
    if axis == "rows":
        return torch.cat(list(pieces), dim=0)
    if axis == "thirds":
        thirds = [piece.chunk(3) for piece in pieces]
        return torch.cat([third[part] for part in range(3) for third in thirds])
    # Compared as bits: a copy is a copy although it may hold a NaN.
    first = pieces[0].contiguous().view(-1).view(torch.uint8)
    for rank, piece in enumerate(pieces[1:], 1):
        if not torch.equal(first, piece.contiguous().view(-1).view(torch.uint8)):
            raise UserError(f"{where}: {name} has to be the same on every rank, rank 0 and rank {rank} differ")
    return pieces[0]


def _joined_spec(name: str, pieces: Sequence[Spec], where: str) -> Spec:
    axis, first = axis_of(name), pieces[0]
    dim = 1 if axis == "columns" else 0
    kept = [piece.shape[:dim] + piece.shape[dim + 1 :] if axis != "whole" else piece.shape for piece in pieces]
    is_cut = axis == "whole" or all(len(piece.shape) > dim for piece in pieces)
    has_thirds = axis != "thirds" or all(piece.shape[:1] and piece.shape[0] % 3 == 0 for piece in pieces)
    if len(set(kept)) > 1 or len({piece.dtype for piece in pieces}) > 1 or not is_cut or not has_thirds:
        shapes = ", ".join(shape_words(piece.shape) for piece in pieces)
        raise UserError(
            f"{where}: the pieces of {name} do not fit together ({shapes}); are the ranks of one checkpoint?"
        )
    if axis == "whole":
        return first
    shape = list(first.shape)
    shape[dim] = sum(piece.shape[dim] for piece in pieces)
    return Spec(tuple(shape), first.dtype)


def _iteration(folder: Path) -> str:
    path = folder / LATEST
    try:
        text = path.read_text(encoding="utf-8-sig", errors="replace").strip()
    except OSError as error:
        raise UserError(
            f"{folder} has no readable `{LATEST}` ({error.strerror or error}); expected the iteration number of a "
            "released checkpoint in it, or the word release"
        ) from None
    if text.isdecimal() or text == "release":
        return text
    state = "is empty" if not text else f"says {text[:40]!r}"
    raise UserError(
        f"{path} {state}: expected an iteration number or the word release; saw beside it {_listing(folder)}"
    )


def _settings(path: Path) -> dict[str, Any]:
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"cannot read {path} ({error.strerror or error}): it has the sizes; fetch it again") from None
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}); fetch it again") from None
    if not isinstance(settings, dict):
        raise UserError(f"{path} has to hold an object with the sizes, it holds a {type(settings).__name__}")
    return settings


def _listing(folder: Path) -> str:
    """The first few names in a folder."""
    return some(sorted(path.name for path in folder.iterdir()), 6) or "nothing"
