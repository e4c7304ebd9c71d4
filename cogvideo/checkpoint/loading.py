"""Networks from disk, in the file's own type and without a second copy; and networks to disk."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from cogvideo.checkpoint.cards import Card, Companion, Part, Source, write_card
from cogvideo.checkpoint.memory import network_bytes, require_memory
from cogvideo.checkpoint.native import SHARD_BYTES, write_tensors
from cogvideo.checkpoint.opening import Checkpoint, Notify, open_checkpoint
from cogvideo.checkpoint.sizes import NETWORK_KIND
from cogvideo.checkpoint.staging import staged
from cogvideo.checkpoint.tensors import spec_of, unexpected_line
from cogvideo.config import ModelConfig
from cogvideo.errors import UserError
from cogvideo.network import Network


def load_network(
    path: Path | str,
    kind: Part | Literal["video"] | None = None,
    *,
    device: torch.device | str,
    dtype: torch.dtype | None = None,
    expect: ModelConfig | None = None,
    notify: Notify | None = None,
) -> Network:
    """A network from a converted or a released folder, in evaluation mode, on `device`.

    `kind` is what is wanted: a stage, "video" for either, or another network; None takes what is there. `dtype` None
    keeps the type of the file's word embeddings for all of it. `expect` are the sizes that the file must have; what it
    does not tell is taken from them. On the CPU, tensors whose type is kept are mapped from the file, which therefore
    has to stay as it is. `notify` gets the line about tensors that are not used; default: stderr.
    Raises UserError for another kind or size (naming both), damaged files, missing or misshapen tensors, and too
    little memory.
    """
    checkpoint = open_checkpoint(Path(path), kind, expect)
    return network_of(checkpoint, torch.device(device), dtype, notify)


def network_of(
    checkpoint: Checkpoint, device: torch.device, dtype: torch.dtype | None = None, notify: Notify | None = None
) -> Network:
    """The network of an opened checkpoint; see `load_network`."""
    config, network_kind = checkpoint.config, checkpoint.kind
    assert config is not None
    names, unexpected = checkpoint.used_names()
    if unexpected:
        (notify or say_on_stderr)(unexpected_line(unexpected, str(checkpoint.path)))
    dtype = dtype or checkpoint.dtype
    what = f"{checkpoint.part} in {str(dtype).removeprefix('torch.')}"
    require_memory(network_bytes(config, network_kind, dtype), device, what)
    with torch.device("meta"):
        network = Network(config, network_kind)
    state = {name: checkpoint.tensors.read(name).to(device=device, dtype=dtype) for name in names}
    network.load_state_dict(state, strict=True, assign=True)
    return network.eval()


def load_tensors(
    path: Path | str,
    kind: Part,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
) -> dict[str, Tensor]:
    """The tensors of a checkpoint by name, as they are or with another type; for the image tokenizer.

    Raises UserError if it is another kind, or damaged.
    """
    tensors = open_checkpoint(Path(path), kind).tensors
    return {
        name: tensors.read(name).to(device=device, dtype=dtype if spec.dtype.is_floating_point else None)
        for name, spec in tensors.specs.items()
    }


def save_network(
    network: Network,
    folder: Path | str,
    part: Part,
    *,
    source: str,
    window_size: int | None = None,
    iteration: int | None = None,
    licence: str = "not stated",
    belongs_to: dict[str, Companion] | None = None,
    note: str = "",
    overwrite: bool = False,
) -> Card:
    """Write a network as a folder of converted weights, whole or not at all, and give its card.

    `source` says in a few words where the parameters come from. Raises UserError if the folder is there already.
    """
    if NETWORK_KIND.get(part) != network.kind:
        raise UserError(f"a network of the kind {network.kind} cannot be saved as {part}")
    state = network.state_dict()
    specs = {name: spec_of(tensor) for name, tensor in state.items()}
    with staged(Path(folder), overwrite=overwrite) as place:
        files = write_tensors(place, specs, state.__getitem__, SHARD_BYTES)
        card = Card(
            kind=part,
            size=network.config.name,
            sizes=network.config.layout(),
            window_size=window_size,
            iteration="" if iteration is None else str(iteration),
            dtype=str(network.dtype).removeprefix("torch."),
            tensors=len(specs),
            parameters=sum(spec.numel for spec in specs.values()),
            files=files,
            source=Source(name=source),
            licence=licence,
            belongs_to=belongs_to or {},
            note=note,
        )
        write_card(place, card)
    return card


def say_on_stderr(line: str) -> None:
    """The default of `notify`."""
    print(line, file=sys.stderr)
