"""In which order the tokens of a sequence are decoded, and which of them at the same time. No torch.

A sequence feeds its frames in `order` (natural indices); `fed` counts them. Cells are numbered row by row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache


@dataclass(frozen=True)
class Slot:
    """One token to decode: which frame of the feeding order, which frame of the clip, which cell."""

    fed: int
    frame: int
    cell: int


Step = tuple[Slot, ...]


def sequential(order: Sequence[int], first: int, frame_len: int) -> list[Step]:
    """One token a step, frame after frame from fed frame `first` on."""
    return [(Slot(fed, order[fed], cell),) for fed in range(first, len(order)) for cell in range(frame_len)]


def wavefront(order: Sequence[int], first: int, seen: Sequence[Sequence[int]]) -> list[Step]:
    """The frames from `first` on side by side: a token starts as soon as all that it sees of the frames before exists.

    `seen[cell]` lists the cells of an earlier frame that `cell` sees in any layer. The conditional distribution of
    every token is that of the sequential order (CogVideo, section 3.3: parallel generation of far-apart regions).
    With the release's windows this takes 590 steps for two frames of 400.
    """
    frame_len = len(seen)
    last_seen = [max(cells) for cells in seen]
    done = dict.fromkeys(range(first, len(order)), 0)
    steps: list[Step] = []
    while any(count < frame_len for count in done.values()):
        ready = [
            fed
            for fed, cell in done.items()
            if cell < frame_len and all(done[before] > last_seen[cell] for before in range(first, fed))
        ]
        steps.append(tuple(Slot(fed, order[fed], done[fed]) for fed in ready))
        for fed in ready:
            done[fed] += 1
    return steps


@lru_cache(maxsize=64)
def between_rounds(frames: int) -> int:
    """How often the number of intervals between 5 key frames is doubled until `frames` frames are there."""
    rounds = 0
    while 4 * 2**rounds + 1 < frames:
        rounds += 1
    return rounds
