"""Every record once an epoch, the same for any number of ranks, and from any point on."""

from __future__ import annotations

from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cogvideo.data.batch_order import BatchOrder
from cogvideo.errors import UserError


def whole(count, batch, world, batches, **flags):
    """What all ranks get, batch after batch."""
    orders = [BatchOrder(count, batch, world_size=world, rank=rank, **flags) for rank in range(world)]
    return [[entry for part in parts for entry in part] for parts in islice(zip(*orders, strict=True), batches)]


@settings(deadline=None, max_examples=50)
@given(count=st.integers(1, 40), share=st.integers(1, 4), world=st.integers(1, 4), seed=st.integers(0, 5))
def test_the_union_over_ranks_is_that_of_one(count, share, world, seed):
    batch = share * world
    together = whole(count, batch, world, 6, seed=seed)
    assert together == whole(count, batch, 1, 6, seed=seed)
    flat = [entry for one in together for entry in one]
    for epoch in range(len(flat) // count):
        of_epoch = flat[epoch * count : (epoch + 1) * count]
        assert {entry.epoch for entry in of_epoch} == {epoch}
        assert sorted(entry.number for entry in of_epoch) == list(range(count))


def test_epochs_and_seeds_differ():
    orders = [
        tuple(entry.number for entry in BatchOrder(50, 50, seed=seed, epoch=epoch).batch(50 * epoch))
        for seed in (0, 1)
        for epoch in (0, 1, 2)
    ]
    assert len(set(orders)) == 6
    assert BatchOrder(50, 10, epoch=2).epoch == 2


@pytest.mark.parametrize("world", [1, 2, 3])
def test_going_on(world):
    straight = whole(17, 6, 1, 9)
    first = BatchOrder(17, 6)
    done = [next(iter(first)) for _ in range(4)]
    orders = [BatchOrder(17, 6, world_size=world, rank=rank) for rank in range(world)]
    for order in orders:
        order.restore(first.state())
    rest = [[e for part in parts for e in part] for parts in islice(zip(*orders, strict=True), 5)]
    assert done + rest == straight


def test_another_batch_size_goes_on_with_the_next_sample():
    order = BatchOrder(17, 6)
    flat = [entry for batch in islice(order, 3) for entry in batch]
    smaller = BatchOrder(17, 4)
    smaller.restore(order.state())
    flat += [entry for batch in islice(smaller, 4) for entry in batch]
    assert flat == [BatchOrder(17, 1).entry(place) for place in range(34)]


def test_what_was_read_ahead_does_not_count():
    order = BatchOrder(17, 2)
    list(islice(order, 8))
    assert order.state(6)["position"] == 6
    assert order.state()["position"] == 16


def test_refusals():
    with pytest.raises(UserError, match="no record to train on"):
        BatchOrder(0, 2)
    with pytest.raises(UserError, match="3 processes share evenly, got 4"):
        BatchOrder(10, 4, world_size=3)
    with pytest.raises(ValueError, match="rank"):
        BatchOrder(10, 4, world_size=2, rank=2)
    for other in (BatchOrder(11, 2), BatchOrder(10, 2, seed=1)):
        with pytest.raises(UserError, match="this training was on other data"):
            BatchOrder(10, 2).restore(other.state())


def test_the_order_never_changes():
    """A trained checkpoint says where in the order it stands, so this list must stay what it is."""
    assert [entry.number for entry in BatchOrder(8, 8, seed=1).batch(0)] == [3, 5, 2, 7, 0, 6, 1, 4]
