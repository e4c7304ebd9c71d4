"""Tiles of local attention against one dense attention over all cells, masked pair by pair."""

import pytest
import torch

from cogvideo.errors import UserError
from cogvideo.superres.neighbourhood import Neighbourhood, attend_locally

CPU = torch.device("cpu")
HEADS = 2
HIDDEN = 8


def sees_cell(its, query, key):
    rows = abs(query // its.grid - key // its.grid)
    columns = abs(query % its.grid - key % its.grid)
    return rows <= its.patch_rows // 2 and columns <= its.patch_columns // 2


def sees_prefix(its, query, key):
    if not its.scale:
        return True
    coarse = its.grid // its.scale
    rows = abs(query // its.grid // its.scale - key // coarse)
    columns = abs(query % its.grid // its.scale - key % coarse)
    return max(rows, columns) <= its.cross_patch // 2


def brute_force(its, qkv, prefix):
    """Softmax over every row that a cell sees, in float64, from the definition."""
    cells = its.grid**2
    keys = torch.cat([prefix, qkv[:, HIDDEN:]]).double()
    result = torch.zeros(cells, HIDDEN, dtype=torch.float64)
    for query in range(cells):
        seen = [key for key in range(len(prefix)) if sees_prefix(its, query, key)]
        seen += [len(prefix) + key for key in range(cells) if sees_cell(its, query, key)]
        for head in range(HEADS):
            part = slice(head * HIDDEN // HEADS, (head + 1) * HIDDEN // HEADS)
            q = qkv[query, :HIDDEN][part].double()
            k, v = keys[seen, :HIDDEN][:, part], keys[seen, HIDDEN:][:, part]
            weights = (k @ q / (HIDDEN // HEADS) ** 0.5).softmax(0)
            result[query, part] = weights @ v
    return result


CASES = [
    Neighbourhood(12, 9, 5, 3, 5),
    Neighbourhood(12, 9, 5, 3, 5, tile=3),
    Neighbourhood(12, 3, 5, 3, 3, tile=6),
    Neighbourhood(10, 5, 3, 2, 1, tile=4),
    Neighbourhood(6, 9, 5, 3, 5),
    Neighbourhood(12, 9, 5),
    Neighbourhood(7, 5, 3, tile=4),
    Neighbourhood(9, 9, 5, tile=3),
]


@pytest.mark.parametrize("its", CASES, ids=str)
def test_tiles_are_dense_attention(its):
    generator = torch.Generator().manual_seed(its.grid)
    rows = (its.grid // its.scale) ** 2 if its.scale else 4
    qkv = torch.randn(its.grid**2, 3 * HIDDEN, generator=generator)
    prefix = torch.randn(rows, 2 * HIDDEN, generator=generator)
    tables = its.tables(rows, CPU, torch.float32)
    found = attend_locally(qkv[tables.order], prefix, tables, HEADS)[tables.place]
    assert (found - brute_force(its, qkv, prefix)).abs().max() < 1e-5


def test_places_are_the_inverse_of_the_order():
    tables = Neighbourhood(12, 9, 5, tile=6).tables(0, CPU, torch.float32)
    assert torch.equal(tables.order[tables.place], torch.arange(144))
    assert tables.order[:8].tolist() == [0, 1, 2, 3, 4, 5, 12, 13]


def test_a_tile_of_queries_sees_patches_and_no_more():
    """In the middle of the release's grid every cell sees 45 cells and 25 coarser ones; at a corner, what is there."""
    its = Neighbourhood(60, 9, 5, 3, 5)
    tables = its.tables(400, CPU, torch.float32)
    counts = (tables.bias == 0).sum(-1).flatten()[tables.place].view(60, 60)
    assert int(counts[30, 30]) == 45 + 25
    assert int(counts[0, 0]) == 5 * 3 + 3 * 3
    assert int(counts[59, 30]) == 5 * 5 + 3 * 5


def test_tables_are_made_once():
    its = Neighbourhood(12, 9, 5)
    assert its.tables(3, CPU, torch.float32) is Neighbourhood(12, 9, 5).tables(3, CPU, torch.float32)
    assert its.tables(3, CPU, torch.float32) is not its.tables(4, CPU, torch.float32)


@pytest.mark.parametrize(
    ("its", "side"),
    [
        (Neighbourhood(60, 9, 5, 3, 5), 12),
        (Neighbourhood(60, 9, 5, 3, 5, tile=2), 3),
        (Neighbourhood(21, 9, 5, 3, 5), 3),
        (Neighbourhood(24, 9, 5, tile=5), 4),
        (Neighbourhood(13, 9, 5), 1),
    ],
)
def test_tile_sides_divide_the_grid(its, side):
    assert its.tile_side == side


def test_a_coarser_grid_of_another_size_is_refused():
    with pytest.raises(UserError, match="16 coarser ones, got 15"):
        Neighbourhood(12, 9, 5, 3, 5).tables(15, CPU, torch.float32)
