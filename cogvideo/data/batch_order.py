"""Which records make up each batch, on each rank: a function of seed and position, so that a run can stop anywhere."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, TypedDict

import numpy as np
from numpy.typing import NDArray

from cogvideo.errors import UserError


class Entry(NamedTuple):
    """A sample: which pass over the data it belongs to, and the number of its record in the data set."""

    epoch: int
    number: int


class OrderState(TypedDict):
    """All that has to be kept to go on: how many samples the whole run has had, and of what."""

    seed: int
    count: int
    position: int


class BatchOrder:
    """Endless batches of `batch_size` samples, of which this rank gets every `world_size`-th part.

    Every epoch is a new permutation of all `count` records, and a batch may end one and begin the next. What the ranks
    get together depends on neither their number nor the batch size before: position p is always the same sample.
    Raises UserError for nothing to order, and for a batch that the ranks cannot share evenly.
    """

    def __init__(
        self, count: int, batch_size: int, *, seed: int = 0, epoch: int = 0, world_size: int = 1, rank: int = 0
    ) -> None:
        if count < 1:
            raise UserError("there is no record to train on")
        if batch_size < 1 or batch_size % world_size:
            raise UserError(
                f"expected a batch that {world_size} processes share evenly, got {batch_size}; take a multiple of "
                f"{world_size}"
            )
        if not 0 <= rank < world_size:
            raise ValueError(f"expected a rank in 0..{world_size - 1}, got {rank}")
        self.count, self.batch_size, self.seed = count, batch_size, seed
        self.world_size, self.rank = world_size, rank
        self.position = epoch * count
        self._permutations: dict[int, NDArray[np.int64]] = {}

    @property
    def epoch(self) -> int:
        """The pass that the next batch begins in."""
        return self.position // self.count

    def __iter__(self) -> Iterator[list[Entry]]:
        """This rank's part of one batch after another. `position` is past a batch when it has been handed out.

        With workers that read ahead, keep the state with `state(consumed)`.
        """
        while True:
            batch = self.batch(self.position)
            self.position += self.batch_size
            yield batch

    def batch(self, position: int) -> list[Entry]:
        """This rank's part of the batch that begins at a position."""
        share = self.batch_size // self.world_size
        first = position + self.rank * share
        return [self.entry(place) for place in range(first, first + share)]

    def entry(self, position: int) -> Entry:
        """The sample at a position of the endless sequence."""
        epoch, place = divmod(position, self.count)
        return Entry(epoch, int(self._permutation(epoch)[place]))

    def state(self, position: int | None = None) -> OrderState:
        """What `restore` takes; of another position than the next one if it is given."""
        return {
            "seed": self.seed,
            "count": self.count,
            "position": self.position if position is None else position,
        }

    def restore(self, state: OrderState) -> None:
        """Go on where a state was taken, also with another batch size or world size.

        Raises UserError if it is of other data or of another seed.
        """
        for name, ours in (("count", self.count), ("seed", self.seed)):
            if (theirs := state.get(name)) != ours:
                what = {"count": "records", "seed": "seed"}[name]
                raise UserError(
                    f"this training was on other data: its order is of {what} {theirs}, now it is {ours}; give the "
                    "same records and seed, or start anew"
                )
        self.position = state["position"]

    def _permutation(self, epoch: int) -> NDArray[np.int64]:
        if epoch not in self._permutations:
            # Raw bits of Philox under a stable sort: numpy promises these, but not its own permutations, for ever.
            bits = np.random.Philox(key=np.array([self.seed, epoch], np.uint64)).random_raw(self.count)
            if len(self._permutations) > 1:
                self._permutations.pop(min(self._permutations))
            self._permutations[epoch] = np.argsort(bits, kind="stable")
        return self._permutations[epoch]
