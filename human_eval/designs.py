"""Orders and blocks of models for raters: Williams squares, balanced incomplete blocks, and how balanced they are.

Models are numbers from 0; whoever uses a design gives them their names. Nothing here is random.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations, pairwise

from cogvideo.errors import UserError

Row = tuple[int, ...]
MOST_MODELS = 16
MOST_SEARCHED_BLOCKS = 200
SEARCH_STEPS = 600_000


def williams(models: int) -> list[Row]:
    """Orders in which each model stands at each position, and directly after each other model, equally often.

    `models` rows for an even number, twice as many for an odd one (no single square has the property then).
    Raises UserError below one model. Source: Williams 1949, the zigzag construction.

    >>> williams(4)
    [(0, 1, 3, 2), (1, 2, 0, 3), (2, 3, 1, 0), (3, 0, 2, 1)]
    """
    if models < 1:
        raise UserError(f"an order needs at least one model, got {models}; list the models that are shown")
    zigzag = [0] + [(step + 1) // 2 if step % 2 else models - step // 2 for step in range(1, models)]
    rows = [tuple((start + place) % models for place in zigzag) for start in range(models)]
    return rows if models % 2 == 0 or models == 1 else rows + [row[::-1] for row in rows]


def incomplete_blocks(models: int, size: int, most_blocks: int | None = None) -> list[Row]:
    """Sets of `size` models in which every model, and every pair of models, stands equally often.

    The smallest balanced design that a cyclic search finds (on all models, or on all but one that stays fixed); the
    set of all subsets is the last resort. With `most_blocks`, a balanced design that is larger is replaced by that
    many blocks chosen greedily, as even as they come: ask `block_balance` how even that is.
    Raises UserError for sizes outside 2 to `models` and for more than 16 models.
    Source: Bose 1939, the method of differences, with one fixed point allowed.
    """
    if not 2 <= size <= models <= MOST_MODELS:
        raise UserError(
            f"blocks need 2 <= size <= models <= {MOST_MODELS}, got size {size} of {models} models; show fewer at once"
        )
    blocks = _balanced(models, size)
    if most_blocks is None or len(blocks) <= most_blocks:
        return list(blocks)
    if most_blocks < 1:
        raise UserError(f"a design needs at least one block, got {most_blocks}")
    return _even(models, size, most_blocks)


def ordered_blocks(models: int, size: int, most_blocks: int | None = None) -> list[Row]:
    """Every block of `incomplete_blocks` in every order of a Williams square of its size: what a rater is shown.

    Consecutive rows are different blocks, so that few raters already see all blocks.
    """
    blocks = incomplete_blocks(models, size, most_blocks)
    orders = williams(size)
    count = len(orders)
    return [
        tuple(block[place] for place in orders[(turn + which) % count])
        for turn in range(count)
        for which, block in enumerate(blocks)
    ]


@dataclass(frozen=True)
class OrderBalance:
    """Counts over orders. `positions[m][p]`: model m at position p; `neighbours[a][b]`: b directly after a."""

    rows: int
    positions: tuple[Row, ...]
    neighbours: tuple[Row, ...]

    @property
    def position_spread(self) -> int:
        """Largest minus smallest count of a model at a position; 0 is perfect."""
        return _spread([count for row in self.positions for count in row])

    @property
    def neighbour_spread(self) -> int:
        """Largest minus smallest count of an ordered pair of neighbours; 0 is perfect."""
        return _spread([count for a, row in enumerate(self.neighbours) for b, count in enumerate(row) if a != b])


@dataclass(frozen=True)
class BlockBalance:
    """Counts over blocks: how often each model occurs, and `together[a][b]`: how often two occur in one block."""

    blocks: int
    times: Row
    together: tuple[Row, ...]

    @property
    def times_spread(self) -> int:
        """Largest minus smallest count of a model; 0 is perfect."""
        return _spread(self.times)

    @property
    def together_spread(self) -> int:
        """Largest minus smallest count of a pair; 0 is perfect."""
        return _spread([self.together[a][b] for a, b in combinations(range(len(self.times)), 2)])


def order_balance(rows: Sequence[Sequence[int]], models: int) -> OrderBalance:
    """How balanced a list of orders is, planned or as raters really completed it."""
    width = max((len(row) for row in rows), default=0)
    positions = [[0] * width for _ in range(models)]
    neighbours = [[0] * models for _ in range(models)]
    for row in rows:
        for position, model in enumerate(row):
            positions[model][position] += 1
        for first, second in pairwise(row):
            neighbours[first][second] += 1
    return OrderBalance(len(rows), tuple(map(tuple, positions)), tuple(map(tuple, neighbours)))


def block_balance(blocks: Sequence[Sequence[int]], models: int) -> BlockBalance:
    """How balanced a list of blocks is, planned or as raters really completed it."""
    times = [0] * models
    together = [[0] * models for _ in range(models)]
    for block in blocks:
        for model in block:
            times[model] += 1
        for a, b in combinations(block, 2):
            together[a][b] += 1
            together[b][a] += 1
    return BlockBalance(len(blocks), tuple(times), tuple(map(tuple, together)))


def _spread(counts: Sequence[int]) -> int:
    return max(counts) - min(counts) if counts else 0


@lru_cache(maxsize=64)
def _balanced(models: int, size: int) -> tuple[Row, ...]:
    everything = tuple(combinations(range(models), size))
    if size == models:
        return everything
    most = len(everything) * size * (size - 1) // (models * (models - 1))
    for together in range(1, most):
        times, rest = divmod(together * (models - 1), size - 1)
        blocks, uneven = divmod(times * models, size)
        if rest or uneven or blocks < models:  # Fisher: a design never has fewer blocks than models
            continue
        if blocks > MOST_SEARCHED_BLOCKS:
            break
        for fixed in (False, True):
            found = _from_orbits(models, size, together, fixed)
            if found is not None:
                return tuple(sorted(found))
    return everything


def _from_orbits(models: int, size: int, together: int, fixed: bool) -> list[Row] | None:
    """A design made of whole orbits of blocks under turning all models (or all but the last) by one."""
    turning = models - 1 if fixed else models
    orbits: dict[Row, list[Row]] = {}
    seen: set[Row] = set()
    for block in combinations(range(models), size):
        if block in seen:
            continue
        orbit = list(dict.fromkeys(_turn(block, step, turning) for step in range(turning)))
        seen.update(orbit)
        orbits[block] = orbit
    # A pair of turning models is known by its distance; pairs with the fixed model are one class of their own.
    pairs = [(0, distance) for distance in range(1, turning // 2 + 1)] + ([(0, turning)] if fixed else [])
    columns = [
        (tuple(sum(a in block and b in block for block in orbit) for a, b in pairs), orbit) for orbit in orbits.values()
    ]
    chosen = _exact_cover(columns, [together] * len(pairs))
    return None if chosen is None else [block for orbit in chosen for block in orbit]


def _turn(block: Row, step: int, turning: int) -> Row:
    return tuple(sorted((model + step) % turning if model < turning else model for model in block))


def _exact_cover(columns: list[tuple[Row, list[Row]]], target: list[int]) -> list[list[Row]] | None:
    """Orbits whose pair counts add up to the target exactly; None if there are none or the search grows too long."""
    steps = 0
    stack: list[tuple[list[int], int, tuple[int, ...]]] = [(target, 0, ())]
    while stack:
        left, start, taken = stack.pop()
        steps += len(columns) - start
        if steps > SEARCH_STEPS:
            return None
        if not any(left):
            return [columns[which][1] for which in taken]
        for which in reversed(range(start, len(columns))):
            rest = [have - use for have, use in zip(left, columns[which][0], strict=True)]
            if min(rest) >= 0:
                stack.append((rest, which, (*taken, which)))
    return None


def _even(models: int, size: int, blocks: int) -> list[Row]:
    """Blocks one by one, each from the models shown least so far and, among those, the pairs seen least."""
    times = [0] * models
    together = [[0] * models for _ in range(models)]
    chosen = []
    for _ in range(blocks):
        block: list[int] = []
        while len(block) < size:
            block.append(
                min(
                    (model for model in range(models) if model not in block),
                    key=lambda model: (times[model], sum(together[model][other] for other in block), model),
                )
            )
        for a, b in combinations(block, 2):
            together[a][b] += 1
            together[b][a] += 1
        for model in block:
            times[model] += 1
        chosen.append(tuple(sorted(block)))
    return chosen


def fewest_raters(rows: Sequence[Row], trials_each: int) -> int:
    """How many raters fill whole copies of a list of rows when each takes `trials_each` rows in turn."""
    return math.lcm(len(rows), trials_each) // trials_each
