"""From a released checkpoint (folder, archive, or file of the image tokenizer) to a folder of safetensors with a card.

Tensors go one after another from the mapped source to the new file; two copies of a network are never held.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch

from cogvideo.checkpoint.archives import unpack, unpacked_bytes
from cogvideo.checkpoint.cards import Card, Companion, FileRecord, Part, Source, write_card
from cogvideo.checkpoint.loading import say_on_stderr
from cogvideo.checkpoint.native import SHARD_BYTES, Advance, file_record, write_tensors
from cogvideo.checkpoint.opening import Checkpoint, Notify, is_archive, open_checkpoint
from cogvideo.checkpoint.released import SETTINGS
from cogvideo.checkpoint.staging import require_disk, require_free, staged
from cogvideo.checkpoint.tensors import Spec, unexpected_line
from cogvideo.config import SIZES
from cogvideo.errors import UserError
from cogvideo.weights import WeightEntry, WeightStore, load_catalogue

TypeChoice = Literal["keep", "bfloat16", "float16", "float32"]
TYPES: dict[str, torch.dtype] = {
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "float32": torch.float32,
}
# What the release's ids mean something with only, by its name in the catalogue.
COMPANIONS = {"text_model": "ice-text-model", "clusters": "cogview2-clusters", "image_tokenizer": "ice-image-tokenizer"}

Progress = Callable[[str, int, int], None]
"""Told what is being done, how many bytes of it are done, and how many there are."""


@dataclass(frozen=True)
class Converted:
    """A finished conversion. `unused` are tensors of the source that the network has no place for."""

    folder: Path
    card: Card
    unused: tuple[str, ...]


def convert(
    source: Path | str,
    destination: Path | str,
    *,
    part: Part | None = None,
    dtype: TypeChoice = "keep",
    overwrite: bool = False,
    shard_bytes: int = SHARD_BYTES,
    notify: Notify | None = None,
    progress: Progress | None = None,
) -> Converted:
    """Write a checkpoint as the new folder `destination`, whole or not at all.

    `source` is a released folder, the archive of one, `ice_image.pt`, converted weights (for another type), or a name
    of the catalogue whose file is here. `part` says which network it is where its settings do not. `dtype` changes
    floating-point tensors. `notify` gets warnings (default: stderr).
    Raises UserError for everything that is wrong with the source, a destination that is there, and too little room.
    """
    notify, destination = notify or say_on_stderr, Path(destination)
    path, entry = find_source(source)
    require_free(destination, overwrite=overwrite)
    if destination.exists() and destination.resolve() == path.resolve():
        raise UserError(f"{destination} would be written over while it is read; give another place")
    with staged(destination, overwrite=overwrite) as place, _unpacked(path, place, destination, progress) as folder:
        checkpoint = _open(folder, path, part)
        names, unused = checkpoint.used_names()
        if unused:
            notify(unexpected_line(unused, str(path)))
        specs = {name: _target(checkpoint.tensors.specs[name], dtype) for name in names}
        size = sum(spec.size_bytes for spec in specs.values())
        require_disk(size, destination.parent, f"{destination} ({checkpoint.part})")
        origin = _source_record(path, entry, checkpoint, progress)
        files = write_tensors(
            place, specs, checkpoint.tensors.read, shard_bytes, _advance(f"writing {checkpoint.part}", size, progress)
        )
        card = _card(checkpoint, specs, files, origin, entry)
        write_card(place, card)
    return Converted(destination, card, tuple(unused))


def find_source(source: Path | str) -> tuple[Path, WeightEntry | None]:
    """The path of a source, and its entry in the catalogue if it has one.

    Raises UserError for a path that is not there, MissingPrerequisite for a name whose file was not fetched.
    """
    catalogue, path = load_catalogue(), Path(source)
    if path.exists():
        titles = {path.name, path.stem}
        return path, next((entry for entry in catalogue.values() if titles & {entry.name, entry.file}), None)
    if str(source) in catalogue:
        return WeightStore(catalogue).get(str(source)).path, catalogue[str(source)]
    raise UserError(
        f"there is no {path}; expected a released folder, its .zip, ice_image.pt, or one of the names "
        f"{', '.join(name for name, entry in catalogue.items() if entry.form in ('zip', 'pickle'))}"
    )


@contextmanager
def _unpacked(path: Path, place: Path, destination: Path, progress: Progress | None) -> Iterator[Path]:
    """The folder inside an archive for as long as it is needed; any other source as it is."""
    if not path.is_file() or not is_archive(path):
        yield path
        return
    size = unpacked_bytes(path)
    require_disk(2 * size, destination.parent, f"unpacking and converting {path}")
    folder = place / "unpacked"
    try:
        yield unpack(path, folder, _advance("unpacking", size, progress))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _open(folder: Path, path: Path, part: Part | None) -> Checkpoint:
    """The checkpoint, under the name that the caller gave: what is unpacked for a moment is in no message."""
    try:
        return replace(open_checkpoint(folder, part), path=path)
    except UserError as error:
        raise UserError(str(error).replace(str(folder), str(path))) from None


def _target(spec: Spec, dtype: TypeChoice) -> Spec:
    is_changed = dtype != "keep" and spec.dtype.is_floating_point
    return Spec(spec.shape, TYPES[dtype]) if is_changed else spec


def _source_record(path: Path, entry: WeightEntry | None, checkpoint: Checkpoint, progress: Progress | None) -> Source:
    """Name, address and hashes of what was read: the archive if it was one, else the files of the tensors."""
    if checkpoint.card is not None:
        return checkpoint.card.source
    files = (path,) if path.is_file() else checkpoint.tensors.files
    settings = path / SETTINGS
    files = (*files, settings) if settings.is_file() else files
    advance = _advance("hashing the source", sum(file.stat().st_size for file in files), progress)
    top = path if path.is_dir() else path.parent
    records = {file.relative_to(top).as_posix(): file_record(file, advance) for file in files}
    return Source(name=entry.name if entry else path.name, url=entry.url if entry else "", files=records)


def _card(
    checkpoint: Checkpoint,
    specs: Mapping[str, Spec],
    files: dict[str, FileRecord],
    origin: Source,
    entry: WeightEntry | None,
) -> Card:
    old, config = checkpoint.card, checkpoint.config
    is_release = config is not None and config.vocab_size == SIZES["release"].vocab_size
    written = replace(checkpoint, tensors=replace(checkpoint.tensors, specs=specs))
    return Card(
        kind=checkpoint.part,
        size=checkpoint.size_name,
        sizes=config.layout() if config else {},
        window_size=checkpoint.window_size,
        iteration=checkpoint.iteration,
        dtype=str(written.dtype).removeprefix("torch."),
        tensors=len(specs),
        parameters=sum(spec.numel for spec in specs.values()),
        files=files,
        source=origin,
        licence=old.licence if old else entry.licence if entry else "not stated",
        belongs_to=old.belongs_to if old else _companions() if is_release else {},
        note=old.note if old else entry.note if entry else "",
    )


def _companions() -> dict[str, Companion]:
    catalogue = load_catalogue()
    return {
        role: Companion(name=name, sha256=catalogue[name].sha256)
        for role, name in COMPANIONS.items()
        if name in catalogue
    }


def _advance(what: str, total: int, progress: Progress | None) -> Advance | None:
    """Turns pieces into how far the whole is."""
    if progress is None:
        return None
    done = 0

    def advance(piece: int) -> None:
        nonlocal done
        done += piece
        progress(what, done, total)

    progress(what, 0, total)
    return advance
