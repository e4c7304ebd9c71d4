"""Start super-resolution from a text-to-image network, as CogView2 did."""

from __future__ import annotations

import torch

from cogvideo.errors import UserError
from cogvideo.network import Network


def inherit_superres_(network: Network, source: Network) -> Network:
    """Give `network`, of kind "superres" or "iterative", the parameters of `source`; nothing of it stays as it was.

    Everything of CogView2's part is copied. The second channel's queries, keys, values and outputs start as those of
    the same layer. The positions of the cells are those of the image slots of the source, laid side by side over the
    larger grid like tiles, not stretched. CogView2 then trains the second channel and the positions alone for direct
    super-resolution, and everything for the iterative one. Raises UserError for other kinds, or for other sizes.
    """
    config = network.config
    if network.kind not in ("superres", "iterative"):
        raise UserError(f"expected a network of kind 'superres' or 'iterative' to start, got {network.kind!r}")
    theirs, ours = (
        {name: list(tensor.shape) for name, tensor in its.transformer.state_dict().items()} for its in (source, network)
    )
    for name in [*ours, *theirs]:
        if theirs.get(name) != ours.get(name):
            raise UserError(
                f"super-resolution cannot start from a network of another size: transformer.{name} is "
                f"{theirs.get(name, 'missing')} there and {ours.get(name, 'missing')} here"
            )
    with torch.no_grad():
        network.transformer.load_state_dict(source.transformer.state_dict())
        first = config.image_position_offset
        slots = source.transformer.position_embeddings.weight[first : first + config.frame_len]
        tiles = slots.view(config.grid, config.grid, -1).repeat(config.superres_scale, config.superres_scale, 1)
        network.mixins.extra_position_embedding.position_embeddings.weight.copy_(tiles.flatten(0, 1))
        if network.kind == "superres":
            plus = network.mixins.attention_plus
            for index, layer in enumerate(source.layers):
                plus.query_key_value[index].load_state_dict(layer.attention.query_key_value.state_dict())
                plus.dense[index].load_state_dict(layer.attention.dense.state_dict())
    return network
