"""Windows against tables that are made by rolling a labelled grid, and against the one-token rule of the release."""

from __future__ import annotations

import pytest
import torch

from cogvideo.windows import layer_windows, shifted, whole_frame

# (grid, window)
EVEN = [(4, 2), (6, 2), (8, 4), (8, 8), (12, 6), (20, 10)]
ODD = [(3, 3), (6, 3), (9, 3), (5, 5), (10, 5)]
ONE = [(4, 1)]


def seen(windows, cells):
    """(cells, cells): who is in whose group."""
    groups = torch.tensor(windows.groups)
    assert len(groups) == cells
    return (groups[:, None] == groups[None]).numpy()


def masked(windows, cells):
    """(cells, cells): who sees whom by window and region, as the training forward uses them."""
    table = torch.zeros(cells, cells, dtype=torch.bool)
    for its, labels in zip(windows.cells.tolist(), windows.regions.tolist(), strict=True):
        for cell, label in zip(its, labels, strict=True):
            for other, other_label in zip(its, labels, strict=True):
                table[cell, other] = label == other_label
    return table.numpy()


@pytest.mark.parametrize("layer", [0, 1, 2, 3])
@pytest.mark.parametrize(("grid", "window"), EVEN + ODD + ONE)
def test_against_a_rolled_grid(grid, window, layer, cells_see):
    windows = layer_windows(grid, window, layer)
    expected = cells_see(grid, window, layer)
    assert (masked(windows, grid**2) == expected).all()
    assert (seen(windows, grid**2) == expected).all()
    without_seam = torch.zeros(grid**2, grid**2, dtype=torch.bool)
    for its in windows.cells:
        without_seam[its[:, None], its[None]] = True
    assert (without_seam.numpy() == cells_see(grid, window, layer, "no seam")).all()


@pytest.mark.parametrize(("grid", "window"), EVEN + ODD + ONE)
@pytest.mark.parametrize("layer", [0, 1])
def test_each_window_is_a_square_of_the_rolled_grid(grid, window, layer):
    """Every cell once, windows row by row, and the cells of a window row by row in the rolled grid."""
    windows = layer_windows(grid, window, layer)
    shift = window // 2 if layer else 0
    assert windows.cells.flatten().sort().values.tolist() == list(range(grid**2))
    side = grid // window
    for number, its in enumerate(windows.cells.tolist()):
        top, left = number // side * window, number % side * window
        for place, cell in enumerate(its):
            row, column = top + place // window, left + place % window
            assert cell == (row + shift) % grid * grid + (column + shift) % grid


@pytest.mark.parametrize("odd", ["training", "release"])
@pytest.mark.parametrize(("grid", "window"), EVEN + ODD + ONE)
@pytest.mark.parametrize("layer", [0, 1])
def test_groups_are_numbered_and_ranked_row_by_row(grid, window, layer, odd):
    windows = layer_windows(grid, window, layer, odd)
    assert sum(windows.sizes) == grid**2
    first = [windows.members(group)[0] for group in range(len(windows.sizes))]
    assert first == sorted(first)
    for group, size in enumerate(windows.sizes):
        members = windows.members(group)
        assert members == sorted(members)
        assert len(members) == size > 0
        assert [windows.ranks[cell] for cell in members] == list(range(size))
        assert {windows.groups[cell] for cell in members} == {group}


@pytest.mark.parametrize("layer", [0, 1])
@pytest.mark.parametrize(("grid", "window"), EVEN + ONE)
def test_even_windows_have_one_rule(grid, window, layer, cells_see):
    """What one token sees is its group, and both rules are the same (also for a window of one cell, never shifted)."""
    expected = cells_see(grid, window, layer, "release")
    for odd in ("training", "release"):
        assert (seen(layer_windows(grid, window, layer, odd), grid**2) == expected).all()


@pytest.mark.parametrize(("grid", "window"), ODD)
def test_odd_windows_have_two_rules(grid, window, cells_see):
    """The release's decoding differs from its training in shifted layers alone."""
    ours = seen(layer_windows(grid, window, 1, "release"), grid**2)
    assert (ours == cells_see(grid, window, 1, "release")).all()
    assert (ours != seen(layer_windows(grid, window, 1, "training"), grid**2)).any()
    assert (seen(layer_windows(grid, window, 0, "release"), grid**2) == cells_see(grid, window, 0)).all()


def test_odd_windows_by_hand():
    """Six cells, window 3, shift 1: training cuts after 1 and 4 (0 | 1 2 3 | 4 5), the release before 2 and 5."""

    def cuts(odd):
        row = shifted(6, 3, 1, odd).groups[:6]
        return [cell for cell in range(1, 6) if row[cell] != row[cell - 1]]

    assert cuts("training") == [1, 4]
    assert cuts("release") == [2, 5]


def test_release_geometry():
    """20 x 20, window 10: four windows; shifted, nine groups of 25, 50 and 100 cells."""
    even, odd = layer_windows(20, 10, 0), layer_windows(20, 10, 1)
    assert even.cells.shape == odd.cells.shape == (4, 100)
    assert even.sizes == (100,) * 4
    assert not even.has_seam
    assert odd.has_seam
    assert sorted(odd.sizes) == [25] * 4 + [50] * 4 + [100]


@pytest.mark.parametrize("grid", [1, 4, 5])
def test_whole_frame(grid):
    windows = layer_windows(grid, None, 1)
    assert windows is whole_frame(grid)
    assert windows.cells.tolist() == [list(range(grid**2))]
    assert windows.sizes == (grid**2,)
    assert windows.ranks == tuple(range(grid**2))
    assert not windows.has_seam
