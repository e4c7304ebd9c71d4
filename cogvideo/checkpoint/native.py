"""Our own folders of weights: safetensors in one file or several, written tensor by tensor, with a card.

`NAME/model.safetensors` and `NAME/card.json`; above a size `model-00001-of-00003.safetensors` and so on with
`model.safetensors.index.json`, named and built as other tools expect them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from cogvideo.checkpoint.cards import CARD_NAME, Card, FileRecord, read_card
from cogvideo.checkpoint.tensors import Spec, TensorFiles
from cogvideo.errors import UserError

INDEX_NAME = "model.safetensors.index.json"
SHARD_BYTES = 5_000_000_000
CHUNK_BYTES = 4 << 20
# The tensors that folders may share: CogView2's part.
SHARED = "transformer."

CODES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
TYPES = {code: dtype for dtype, code in CODES.items()}

Advance = Callable[[int], None]


def is_native(path: Path) -> bool:
    """Whether a folder holds converted weights."""
    return (path / CARD_NAME).is_file()


def open_native(folder: Path) -> tuple[Card, TensorFiles]:
    """The card and the tensors of a folder of converted weights; nothing is read before it is asked for.

    Raises UserError for a damaged card, and for files that are absent, cut short, or not those of the card; also where
    they are those of the folder that this one shares tensors with.
    """
    card = read_card(folder)
    specs: dict[str, Spec] = {}
    places: dict[str, Path] = {}
    paths = [folder / name for name in card.files]
    for path in paths:
        _check_size(path, card.files[path.name].size_bytes)
        for name, spec in _specs(path).items():
            specs[name], places[name] = spec, path

    if card.shares:
        beside = folder.parent / card.shares
        for path in _shared_files(card, beside):
            paths.append(path)
            for name, spec in _specs(path).items():
                if name.startswith(SHARED) and name not in specs:
                    specs[name], places[name] = spec, path

    def read(name: str) -> Tensor:
        with safe_open(places[name], framework="pt", device="cpu") as file:
            tensor: Tensor = file.get_tensor(name)
            return tensor

    return card, TensorFiles(tuple(paths), specs, read)


def write_tensors(
    folder: Path,
    specs: Mapping[str, Spec],
    read: Callable[[str], Tensor],
    shard_bytes: int = SHARD_BYTES,
    advance: Advance | None = None,
) -> dict[str, FileRecord]:
    """Write tensors into the folder one after another, in the types of `specs`; names, hashes and sizes of the files.

    At most one tensor that is not mapped from a file is held, and a few MiB of it in another type. Raises UserError
    for a type that safetensors does not have, or a number that becomes infinite in the new type.
    """
    shards = _shards(specs, shard_bytes)
    names = [f"model-{i:05d}-of-{len(shards):05d}.safetensors" for i in range(1, len(shards) + 1)]
    names = names if len(shards) > 1 else ["model.safetensors"]
    records = {
        name: _write_file(folder / name, {key: specs[key] for key in keys}, read, advance)
        for name, keys in zip(names, shards, strict=True)
    }
    if len(shards) > 1:
        index = {
            "metadata": {"total_size": sum(spec.size_bytes for spec in specs.values())},
            "weight_map": {key: name for name, keys in zip(names, shards, strict=True) for key in keys},
        }
        (folder / INDEX_NAME).write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")
    _check_written([folder / name for name in names], specs)
    return records


def file_record(path: Path, advance: Advance | None = None) -> FileRecord:
    """Hash and size of a file, read in pieces."""
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while piece := file.read(CHUNK_BYTES):
            digest.update(piece)
            size += len(piece)
            if advance:
                advance(len(piece))
    return FileRecord(sha256=digest.hexdigest(), size_bytes=size)


def _shards(specs: Mapping[str, Spec], shard_bytes: int) -> list[list[str]]:
    """Names for each file. Wide types first, so that every tensor starts at a multiple of its own type's width."""
    shards: list[list[str]] = [[]]
    filled = 0
    for name in sorted(specs, key=lambda name: (-specs[name].dtype.itemsize, name)):
        if filled and filled + specs[name].size_bytes > shard_bytes:
            shards.append([])
            filled = 0
        shards[-1].append(name)
        filled += specs[name].size_bytes
    return shards


def _write_file(
    path: Path, specs: Mapping[str, Spec], read: Callable[[str], Tensor], advance: Advance | None
) -> FileRecord:
    """One file: eight bytes with the length of the header, the header in JSON, then the tensors without gaps."""
    entries: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, spec in specs.items():
        if spec.dtype not in CODES:
            raise UserError(f"{name} has the type {spec.dtype}, which safetensors does not have")
        begin, end = end, end + spec.size_bytes
        entries[name] = {"dtype": CODES[spec.dtype], "shape": list(spec.shape), "data_offsets": [begin, end]}
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    header = text + b" " * (-len(text) % 8)
    digest = hashlib.sha256()
    with path.open("wb", buffering=0) as file:

        def put(piece: bytes | memoryview) -> None:
            digest.update(piece)
            rest = memoryview(piece)
            while rest:
                rest = rest[file.write(rest) :]

        put(len(header).to_bytes(8, "little"))
        put(header)
        for name, spec in specs.items():
            for piece in _pieces(name, read(name), spec):
                put(piece)
                if advance:
                    advance(len(piece))
    return FileRecord(sha256=digest.hexdigest(), size_bytes=8 + len(header) + end)


def _pieces(name: str, tensor: Tensor, spec: Spec) -> Iterator[memoryview]:
    """The bytes of a tensor in the type of `spec`, a few MiB at a time."""
    if tuple(tensor.shape) != spec.shape:
        raise UserError(f"{name} changed its shape while it was read; is another program writing that file?")
    flat = tensor.detach().reshape(-1)
    step = CHUNK_BYTES // max(spec.dtype.itemsize, tensor.element_size())
    for begin in range(0, flat.numel(), step):
        given = flat[begin : begin + step].cpu()
        piece = given.to(spec.dtype)
        if piece.dtype != given.dtype and not torch.equal(piece.isfinite(), given.isfinite()):
            raise UserError(f"{name} has numbers that {_type_name(spec.dtype)} cannot hold; take bfloat16 or float32")
        yield piece.contiguous().view(torch.uint8).numpy().data


def _check_written(paths: list[Path], specs: Mapping[str, Spec]) -> None:
    """Read the headers back with the library that everybody uses."""
    found = {name: spec for path in paths for name, spec in _specs(path).items()}
    if found != dict(specs):
        raise RuntimeError(f"what was written to {paths[0].parent} does not read back as it should")


def _specs(path: Path) -> dict[str, Spec]:
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
            return {name: Spec(tuple(its.get_shape()), TYPES[its.get_dtype()]) for name, its in slices.items()}
    except KeyError as error:
        raise UserError(f"{path} has tensors of the type {error}, which no network here has") from None
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} is cut short or damaged ({' '.join(str(error).split())}); convert it anew") from None


def _shared_files(card: Card, beside: Path) -> list[Path]:
    """The files of the folder that has the shared tensors. Raises UserError if they are not those that were shared."""
    if not is_native(beside):
        raise UserError(f"{beside} is missing, whose tensors are shared; copy the whole pipeline folder")
    if read_card(beside).files != card.shared_files:
        raise UserError(f"{beside} holds other weights than those that are shared with it; copy the whole folder anew")
    for name, file in card.shared_files.items():
        _check_size(beside / name, file.size_bytes)
    return [beside / name for name in card.shared_files]


def _check_size(path: Path, expected: int) -> None:
    if not path.is_file():
        raise UserError(f"{path} is missing, the card beside it names it; convert the checkpoint anew")
    if (size := path.stat().st_size) != expected:
        raise UserError(f"{path} is cut short or damaged: {size:,} bytes, its card says {expected:,}; convert it anew")


def _type_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
