"""How the two stages of CogVideo start from a text-to-image network, and what of them is trained."""

from __future__ import annotations

from typing import Literal

import torch

from cogvideo.errors import UserError
from cogvideo.network import Network

Start = Literal["release", "paper"]
Trained = Literal["temporal", "everything"]

DENSE_STD = 0.02


def inherit_video_(network: Network, source: Network, start: Start, seed: int = 0) -> Network:
    """Give `network`, of kind "video", the parameters of `source`; nothing of it stays as it was.

    CogView2's part is copied. The temporal channel's queries, keys and values start as those of the same layer, and the
    extra positions as those of the source's image slots, repeated frame after frame. Gates are 0: both channels count
    half. The output projection of the temporal channel is drawn anew in "release" (N(0, 0.02), no bias), as the
    released code does, and copied in "paper": then both channels agree on all that a token of the first frame sees in
    stage 1, so that frame is the image network's own, whatever the gates. Frames after it differ, as there the temporal
    channel's softmax also reaches over the frames before. CogVideo, section 3.1. `seed` is for what is drawn.
    Raises UserError for other kinds, or a source of another size.
    """
    config = network.config
    if network.kind != "video":
        raise UserError(f"expected a network of kind 'video' to start, got {network.kind!r}")
    _check_sizes(network, source)
    with torch.no_grad():
        network.transformer.load_state_dict(source.transformer.state_dict())
        first = config.image_position_offset
        slots_FH = source.transformer.position_embeddings.weight[first : first + config.frame_len]
        extra_PH = network.mixins.extra_position_embedding.position_embeddings.weight
        repeats = -(-config.extra_positions // config.frame_len)
        extra_PH.copy_(slots_FH.repeat(repeats, 1)[: config.extra_positions])
        generator = torch.Generator().manual_seed(seed)
        plus = network.plus
        for index, layer in enumerate(source.layers):
            plus.query_key_value[index].load_state_dict(layer.attention.query_key_value.state_dict())
            plus.attn_distribution[index].zero_()
            dense = layer.attention.dense.state_dict()
            if start == "release":
                drawn = torch.empty(dense["weight"].shape).normal_(0.0, DENSE_STD, generator=generator)
                dense = {"weight": drawn, "bias": torch.zeros_like(dense["bias"])}
            plus.dense[index].load_state_dict(dense)
    return network


def freeze_(network: Network, trained: Trained) -> Network:
    """Leave gradients to the temporal (or super-resolving) channel, its gates and positions alone, or to everything.

    What is frozen is CogView2's part: layers, layer norms, embeddings. Raises UserError where that would be all.
    """
    if trained == "temporal" and network.kind == "image":
        raise UserError("an image network has no temporal channel: train everything of it")
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(trained == "everything" or name.startswith("mixins."))
    return network


def _check_sizes(network: Network, source: Network) -> None:
    theirs, ours = (
        {name: list(tensor.shape) for name, tensor in its.transformer.state_dict().items()} for its in (source, network)
    )
    for name in [*ours, *theirs]:
        if theirs.get(name) != ours.get(name):
            raise UserError(
                f"a stage cannot start from a network of another size: transformer.{name} is "
                f"{theirs.get(name, 'missing')} there and {ours.get(name, 'missing')} here"
            )
