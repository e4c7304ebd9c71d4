"""What a training leaves behind for generation: folders of weights with a card, gathered from all processes."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from cogvideo.checkpoint.cards import Card, Part, Source, write_card
from cogvideo.checkpoint.loading import save_network
from cogvideo.checkpoint.native import write_tensors
from cogvideo.checkpoint.staging import staged
from cogvideo.checkpoint.tensors import spec_of
from cogvideo.network import Network
from cogvideo.training.parallel import World, whole
from cogvideo.vqvae.image_tokenizer import ImageTokenizer


def export_network(
    network: Network, folder: Path, part: Part, *, step: int, note: str, world: World | None = None
) -> None:
    """Write a network as a folder of converted weights; every process has to call it, the first one writes."""
    world = world or World()
    state: dict[str, Tensor] = {}
    for name, tensor in network.state_dict().items():
        gathered = whole(tensor)
        if world.is_first:
            state[name] = gathered.detach().cpu()
    if world.is_first:
        with torch.device("meta"):
            copy = Network(network.config, network.kind)
        copy.load_state_dict(state, assign=True)
        window = {"stage1": -1, "stage2": network.config.window}.get(part)
        save_network(
            copy,
            folder,
            part,
            source="trained by cogeval",
            window_size=window,
            iteration=step,
            note=note,
            overwrite=True,
        )
    world.wait()


def export_tokenizer(tokenizer: ImageTokenizer, folder: Path, *, step: int, note: str) -> Card:
    """Write an image tokenizer as a folder of converted weights, whole or not at all."""
    state = tokenizer.state_dict()
    specs = {name: spec_of(tensor) for name, tensor in state.items()}
    with staged(folder, overwrite=True) as place:
        files = write_tensors(place, specs, state.__getitem__)
        card = Card(
            kind="image-tokenizer",
            size=tokenizer.config.name,
            iteration=str(step),
            dtype=str(tokenizer.quantize.embed.weight.dtype).removeprefix("torch."),
            tensors=len(specs),
            parameters=sum(spec.numel for spec in specs.values()),
            files=files,
            source=Source(name="trained by cogeval"),
            note=note,
        )
        write_card(place, card)
    return card
