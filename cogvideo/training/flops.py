"""How many operations a row of a batch takes: two for each multiplication, matrix products and attention alone.

Backward costs as much again for the inputs, and as much again for the weights that are trained. What is computed twice
to save memory counts once, so that a share of the peak compares runs.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from cogvideo.network import Network


def image_flops(network: Network) -> float:
    """Of one frame with its text."""
    config = network.config
    text, frame = config.text_len, config.frame_len
    products = _products(network, text + frame, base=True, plus=False)
    attention = config.num_layers * _attention(network, text * text + frame * (text + frame))
    return products + attention + _head(network, frame)


def stage_flops(network: Network, stage: int, window: int | None) -> float:
    """Of one clip with its text: both channels, and the head where there is a loss."""
    config = network.config
    text, frame, count = config.text_len, config.frame_len, config.frames
    side = config.window if stage == 2 and window is None else window
    cells = frame if side is None else side * side
    base = text * text + count * frame * (text + frame)
    plus = count * frame * (text + count * cells)
    products = _products(network, text + count * frame, base=True, plus=True)
    made = count - 1 if stage == 1 else count // 2
    return products + config.num_layers * _attention(network, base + plus) + _head(network, made * frame)


def superres_flops(network: Network) -> float:
    """Of one frame: prefix in the base channel, cells in the other, each with its patches."""
    config = network.config
    prefix, cells = config.superres_text_len + config.frame_len, config.superres_grid**2
    seen = config.patch**2 + (2 * config.patch - 1) * config.patch
    products = _products(network, prefix, base=True, plus=False) + _products(network, cells, base=False, plus=True)
    return products + config.num_layers * _attention(network, prefix**2 + cells * seen) + _head(network, cells)


def module_flops(module: nn.Module, *shape: int) -> float:
    """Of a module that is trained as a whole, on one input of a shape, counted without computing."""
    with FlopCounterMode(display=False) as counter:
        module(torch.empty(shape, device="meta"))
    return 3 * float(counter.get_total_flops())


def _products(network: Network, positions: int, *, base: bool, plus: bool) -> float:
    """Of the linear layers: attention's own of each channel, and the feed-forward part."""
    layer = network.layers[0]
    total = 0.0
    parts: list[nn.Module] = [layer.mlp]
    parts += [layer.attention] if base else []
    if plus:
        parts += [network.plus.query_key_value[0], network.plus.dense[0]]
    for part in parts:
        for parameter in part.parameters():
            if parameter.dim() == 2:
                total += 2.0 * parameter.numel() * positions * (3 if parameter.requires_grad else 2)
    return total * network.config.num_layers


def _attention(network: Network, pairs: int) -> float:
    """Scores and weighted sums of one layer, forward, and twice that backward."""
    return 3 * 4.0 * network.config.hidden_size * pairs


def _head(network: Network, positions: int) -> float:
    is_trained = network.transformer.word_embeddings.weight.requires_grad
    rows = network.config.num_image_tokens * network.config.hidden_size
    return 2.0 * rows * positions * (3 if is_trained else 2)
