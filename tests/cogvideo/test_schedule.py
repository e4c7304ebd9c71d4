"""Orders of decoding: complete, never too early, and as short as the windows allow."""

from __future__ import annotations

import pytest

from cogvideo.forward import BETWEEN_ORDER
from cogvideo.schedule import between_rounds, sequential, wavefront
from cogvideo.windows import layer_windows

GEOMETRIES = [(4, 1), (4, 2), (6, 3), (8, 4), (8, 2), (9, 3), (10, 5), (6, 6), (20, 10)]
# (order, first frame to decode)
SEQUENCES = [(BETWEEN_ORDER, 3), ((0, 1, 2, 3, 4), 1), ((0, 1, 2), 0), ((0, 2, 4, 1), 3)]


def seen_cells(grid, window, odd="training"):
    its = [layer_windows(grid, window, parity, odd) for parity in (0, 1)]
    return [sorted({c for w in its for c in w.members(w.groups[cell])}) for cell in range(grid**2)]


def earliest(order, first, tables):
    """The step of every token by its definition: one token of a frame a step, after all that it sees of the others."""
    cells = len(tables[0])
    start = {}
    for fed in range(first, len(order)):
        for cell in range(cells):
            before = [
                start[other, c] for other in range(first, fed) for t in tables for c in range(cells) if t[cell, c]
            ]
            own = start[fed, cell - 1] + 1 if cell else 0
            start[fed, cell] = max([own] + [step + 1 for step in before])
    return start


@pytest.mark.parametrize(("order", "first"), SEQUENCES)
@pytest.mark.parametrize("odd", ["training", "release"])
@pytest.mark.parametrize(("grid", "window"), GEOMETRIES)
def test_nothing_starts_too_early(grid, window, odd, order, first, cells_see):
    """Against windows of the tests' own: what a token sees was there a step before; and nothing waits in vain."""
    steps = wavefront(order, first, seen_cells(grid, window, odd))
    tables = [cells_see(grid, window, layer, odd) for layer in (0, 1)]
    at = {(slot.fed, slot.cell): number for number, step in enumerate(steps) for slot in step}
    assert len(at) == sum(map(len, steps)) == (len(order) - first) * grid**2
    assert all(slot.frame == order[slot.fed] for step in steps for slot in step)
    assert at == earliest(order, first, tables)


@pytest.mark.parametrize(("order", "first"), SEQUENCES)
@pytest.mark.parametrize(("grid", "window"), GEOMETRIES)
def test_frames_in_work_have_rings_of_their_own(grid, window, order, first):
    """The base channel keeps as many frames as a step has tokens, by `fed` modulo that: none may meet another."""
    steps = wavefront(order, first, seen_cells(grid, window))
    rings = max(map(len, steps))
    span = {}
    for number, step in enumerate(steps):
        for slot in step:
            span.setdefault(slot.fed, [number, number])[1] = number
    for fed, (start, _) in span.items():
        for other, (_, end) in span.items():
            if other < fed and other % rings == fed % rings:
                assert end < start


def test_release_takes_590_steps():
    """Two frames of 400 tokens with windows of 10 and a shift of 5; 800 one after the other."""
    assert len(wavefront(BETWEEN_ORDER, 3, seen_cells(20, 10))) == 590
    assert len(sequential(BETWEEN_ORDER, 3, 400)) == 800


@pytest.mark.parametrize(("order", "first"), SEQUENCES)
def test_full_attention_leaves_the_sequential_order(order, first):
    """Also a window as large as the frame: the even layers see everything."""
    one_by_one = sequential(order, first, 16)
    assert wavefront(order, first, [list(range(16))] * 16) == one_by_one
    assert wavefront(order, first, seen_cells(4, 4)) == one_by_one
    assert wavefront(order, first, seen_cells(4, None)) == one_by_one


def test_sequential():
    steps = sequential((0, 2, 4, 1, 3), 3, 3)
    assert [(slot.fed, slot.frame, slot.cell) for (slot,) in steps] == [
        (3, 1, 0), (3, 1, 1), (3, 1, 2), (4, 3, 0), (4, 3, 1), (4, 3, 2),
    ]  # fmt: skip
    assert sequential((0, 1), 2, 3) == wavefront((0, 1), 2, [[0]] * 3) == []


def test_rounds():
    """5 -> 9 -> 17 -> 33 frames."""
    assert [between_rounds(frames) for frames in (1, 5, 6, 9, 10, 17, 32, 33, 34)] == [0, 0, 1, 1, 2, 2, 3, 3, 4]
