"""Orders and blocks: balance counted from scratch, and the classical designs that must exist."""

from itertools import combinations, pairwise, permutations

import pytest

from cogvideo.errors import UserError
from human_eval.designs import (
    block_balance,
    fewest_raters,
    incomplete_blocks,
    order_balance,
    ordered_blocks,
    williams,
)


@pytest.mark.parametrize("models", range(1, 10))
def test_williams_rows_balance_positions_and_neighbours(models):
    rows = williams(models)
    assert len(rows) == (models if models % 2 == 0 or models == 1 else 2 * models)
    assert all(sorted(row) == list(range(models)) for row in rows)
    for position in range(models):
        assert {sum(row[position] == model for row in rows) for model in range(models)} == {len(rows) // models}
    neighbours = [pair for row in rows for pair in pairwise(row)]
    assert len({neighbours.count(pair) for pair in permutations(range(models), 2)}) <= 1


@pytest.mark.parametrize(
    ("models", "size", "blocks"),
    [(4, 2, 6), (7, 3, 7), (9, 3, 12), (13, 4, 13), (8, 4, 14), (6, 3, 10), (11, 5, 11), (13, 3, 26), (5, 5, 1)],
)
def test_the_smallest_balanced_designs_are_found(models, size, blocks):
    found = incomplete_blocks(models, size)
    assert len(found) == blocks
    assert {sum(model in block for block in found) for model in range(models)} == {blocks * size // models}
    assert len({sum(set(pair) <= set(block) for block in found) for pair in combinations(range(models), 2)}) == 1


@pytest.mark.parametrize("models", range(2, 9))
def test_every_size_up_to_eight_models_is_balanced(models):
    for size in range(2, models + 1):
        balance = block_balance(incomplete_blocks(models, size), models)
        assert balance.times_spread == balance.together_spread == 0


def test_too_few_blocks_are_at_least_even():
    blocks = incomplete_blocks(13, 4, most_blocks=10)
    balance = block_balance(blocks, 13)
    assert len(blocks) == 10
    assert balance.times_spread <= 1
    assert balance.together_spread <= 2


def test_ordered_blocks_balance_positions_too():
    rows = ordered_blocks(7, 3)
    assert len(rows) == 7 * 6
    assert order_balance(rows, 7).position_spread == 0
    assert len({tuple(sorted(row)) for row in rows[:7]}) == 7


def test_balance_sees_what_is_uneven():
    balance = order_balance([(0, 1, 2), (0, 2, 1)], 3)
    assert balance.positions == ((2, 0, 0), (0, 1, 1), (0, 1, 1))
    assert balance.position_spread == 2
    assert balance.neighbour_spread == 1
    assert block_balance([(0, 1), (0, 2)], 3).times_spread == 1


def test_fewest_raters():
    assert fewest_raters(williams(3), 4) == 3
    assert fewest_raters(williams(4), 4) == 1


@pytest.mark.parametrize(("models", "size"), [(3, 4), (3, 1), (17, 3)])
def test_impossible_blocks_are_refused_in_one_line(models, size):
    with pytest.raises(UserError, match=f"got size {size} of {models} models"):
        incomplete_blocks(models, size)


def test_no_model_is_refused():
    with pytest.raises(UserError, match="at least one model"):
        williams(0)
