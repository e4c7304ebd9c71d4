"""Chance that depends on its key alone: the same on every machine, whatever was drawn before. No numpy, no torch."""

from __future__ import annotations

import hashlib

Key = int | str


def uniform(*key: Key) -> float:
    """A number in [0, 1) with 53 bits."""
    return (_bits(key) >> 11) / (1 << 53)


def below(end: int, *key: Key) -> int:
    """An integer in 0..end-1. The bias of 64 bits is below end / 2^64."""
    return _bits(key) * end >> 64


def distinct(count: int, end: int, *key: Key) -> list[int]:
    """`count` different integers in 0..end-1, ascending; all there are if there are no more.

    Asking for more keeps those that fewer would give.
    """
    if count >= end:
        return list(range(end))
    found: set[int] = set()
    number = 0
    while len(found) < count:
        found.add(below(end, *key, number))
        number += 1
    return sorted(found)


def _bits(key: tuple[Key, ...]) -> int:
    text = "\n".join(map(str, key))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
