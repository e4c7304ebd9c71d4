"""Uniform numbers that are a pure function of (seed of the sample, stream, position), whatever the batch or the order.

Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011) in integer arithmetic of torch.
Shapes: B samples, P positions, D draws at a position.
"""

from __future__ import annotations

from enum import IntEnum
from typing import overload

import torch
from torch import Tensor

from cogvideo.errors import UserError

ROUNDS = 10
MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
KEY_STEPS = (0x9E3779B9, 0xBB67AE85)
WORD = 0xFFFFFFFF
HALF = 0xFFFF

Words = tuple[Tensor, Tensor, Tensor, Tensor]


class Stream(IntEnum):
    """What the numbers are for. Two kinds never share one; within a kind, `stream` tells rounds and items apart."""

    SAMPLE_SEED = 0
    FIRST_FRAME = 1
    STAGE1 = 2
    STAGE2 = 3
    SUPERRES = 4
    ITERATIVE_SUPERRES = 5
    TRAINING = 6


@overload
def stream(kind: Stream, round: int = 0, item: int = 0) -> int: ...
@overload
def stream(kind: Stream, round: int, item: Tensor) -> Tensor: ...
def stream(kind: Stream, round: int = 0, item: int | Tensor = 0) -> int | Tensor:  # noqa: A002
    """The 32-bit number of one stream: 4 bits of kind, 12 of round, 16 of item.

    `round` is the round of stage 2 or the pass of super-resolution; `item` is the window of that round or the frame
    that is super-resolved, an integer or one per row of the batch. Raises UserError for a number out of its range;
    a tensor is not looked at, because that would wait for the device.
    """
    if not 0 <= round < 1 << 12 or (isinstance(item, int) and not 0 <= item < 1 << 16):
        raise UserError(f"expected a round below {1 << 12} and an item below {1 << 16}, got {round} and {item}")
    return (int(kind) << 28) + (round << 16) + item


def uniform(seeds_B: Tensor, stream: int | Tensor, positions: Tensor, draws: int = 2) -> Tensor:
    """float64 uniforms in [0, 1), (B, *positions.shape, draws), with 53 random bits each.

    seeds_B: int64, every bit counts. stream: one number for all rows, or int64 (B,). positions: int64 of any shape and
    at least 0, shared by the rows; a scalar gives (B, draws). Draws 2n and 2n+1 come from one block of the generator.

    It is a pure function: the same numbers in any batch, order, and on any device. It reads nothing back from the
    device, so it may stand inside a CUDA graph or a compiled function; but a frame is best drawn at once, outside of
    the loop over its tokens, because this is a few hundred small operations, whatever the size.
    """
    blocks = -(-draws // 2)
    per_row = (-1, *(1,) * (positions.ndim + 1))
    seeds = seeds_B.reshape(per_row)
    counter = (
        positions[..., None] & WORD,
        positions[..., None] >> 32 & WORD,
        stream.reshape(per_row) & WORD if isinstance(stream, Tensor) else torch.full_like(seeds, stream),
        torch.arange(blocks, device=seeds_B.device),
    )
    word_0, word_1, word_2, word_3 = philox(counter, (seeds & WORD, seeds >> 32 & WORD))
    pairs = torch.stack([_double(word_0, word_1), _double(word_2, word_3)], dim=-1)
    return pairs.flatten(-2)[..., :draws]


def sample_seeds(seed: int, count: int, first: int = 0) -> Tensor:
    """int64 (count,) on the CPU: seeds of the samples `first`, `first` + 1, ... of a run with `seed`.

    Sample n of a run gets the same seed whatever is generated beside it. Runs with neighbouring seeds share no sample.
    """
    indices = torch.arange(first, first + count)
    zero = torch.zeros_like(indices)
    key = (torch.tensor(seed & WORD), torch.tensor(seed >> 32 & WORD))
    kind = torch.full_like(indices, stream(Stream.SAMPLE_SEED))
    low, high, _, _ = philox((indices & WORD, indices >> 32 & WORD, kind, zero), key)
    return low + ((high & WORD >> 1) << 32)


def philox(counter: Words, key: tuple[Tensor, Tensor]) -> Words:
    """Four 32-bit words, held in int64, from a counter of four words and a key of two; all are broadcast together."""
    word_0, word_1, word_2, word_3 = counter
    key_0, key_1 = key
    for _ in range(ROUNDS):
        high_0, low_0 = _product(MULTIPLIERS[0], word_0)
        high_1, low_1 = _product(MULTIPLIERS[1], word_2)
        word_0, word_1, word_2, word_3 = high_1 ^ word_1 ^ key_0, low_1, high_0 ^ word_3 ^ key_1, low_0
        key_0, key_1 = key_0 + KEY_STEPS[0] & WORD, key_1 + KEY_STEPS[1] & WORD
    return word_0, word_1, word_2, word_3


def _product(multiplier: int, word: Tensor) -> tuple[Tensor, Tensor]:
    """High and low word of a 32 x 32 bit product. By halves of `word`: nothing leaves the 63 bits of an int64."""
    lower = multiplier * (word & HALF)
    upper = multiplier * (word >> 16) + (lower >> 16)
    return upper >> 16, (upper & HALF) << 16 | lower & HALF


def _double(word_0: Tensor, word_1: Tensor) -> Tensor:
    """A float64 in [0, 1) from the upper 27 and 26 bits of two words."""
    return ((word_0 >> 5) * (1 << 26) + (word_1 >> 6)).double() * 2.0**-53
