"""Local attention of the cells of a grid, as dense attention of tiles of queries over tiles of keys with a border.

R side of the grid of cells, C = R * R cells, n = R / t tiles along a side, T = n * n tiles of Q = t * t queries, K keys
of a tile, E rows of the prefix (what cells see besides each other), h hidden size, A heads, d = h / A.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional

from cogvideo.errors import UserError

# Fused attention kernels on a GPU read masks in rows of whole 16-byte words; other lengths are copied at every call.
KEYS_MULTIPLE = 8
DEFAULT_TILE = 12


@dataclass(frozen=True, eq=False)
class LocalTables:
    """Which rows the queries of each tile see. Cells lie tile after tile, and row by row in a tile.

    `order` (C,): the cell at each place. `place` (C,): the place of each cell. `keys` (T, K): rows of the prefix
    followed by the cells in their places. `bias` (T, 1, Q, K): 0 for what a query sees, minus infinity elsewhere.
    """

    order: Tensor
    place: Tensor
    keys: Tensor
    bias: Tensor


@dataclass(frozen=True)
class Neighbourhood:
    """The geometry: cells see `patch_rows` x `patch_columns` cells around themselves, and a prefix.

    The prefix is a grid that is `scale` times coarser, of which a cell sees `cross_patch` x `cross_patch` around its
    own place (direct super-resolution), or with a `scale` of 0 any number of rows that every cell sees (text).
    """

    grid: int
    patch_rows: int
    patch_columns: int
    scale: int = 0
    cross_patch: int = 0
    tile: int = DEFAULT_TILE

    def tables(self, prefix: int, device: torch.device, dtype: torch.dtype) -> LocalTables:
        """Tables for a prefix of `prefix` rows, made once for each geometry, device and type."""
        return _tables(self, prefix, device, dtype)

    @property
    def tile_side(self) -> int:
        """The largest side up to `tile` that divides the grid and is whole coarser cells; else the smallest."""
        unit = self.scale or 1
        sides = [unit * part for part in range(1, self.grid // unit + 1) if self.grid % (unit * part) == 0]
        return max((side for side in sides if side <= self.tile), default=sides[0])


def attend_locally(qkv_CX: Tensor, prefix_EY: Tensor, tables: LocalTables, heads: int, dropout: float = 0.0) -> Tensor:
    """Attention of the cells of one frame over their patches and the prefix, one softmax, (C, h).

    qkv_CX: (C, 3h), cells in their places. prefix_EY: (E, 2h), keys and values. One frame at a time, so that what is
    gathered stays small: about 2 (t + border)^2 / t^2 times the keys and values themselves.
    """
    h = qkv_CX.shape[1] // 3
    T, K = tables.keys.shape
    rows = torch.cat([prefix_EY, qkv_CX[:, h:]])
    gathered = rows.index_select(0, tables.keys.flatten()).view(T, K, 2, heads, -1)
    k_TAKd, v_TAKd = gathered.permute(2, 0, 3, 1, 4).unbind(0)
    q_TAQd = qkv_CX[:, :h].reshape(T, -1, heads, h // heads).transpose(1, 2)
    context = functional.scaled_dot_product_attention(q_TAQd, k_TAKd, v_TAKd, attn_mask=tables.bias, dropout_p=dropout)
    return context.transpose(1, 2).reshape(-1, h)


@lru_cache(maxsize=64)
def _tables(its: Neighbourhood, prefix: int, device: torch.device, dtype: torch.dtype) -> LocalTables:
    tile = its.tile_side
    count = its.grid // tile
    order_TQ = torch.arange(its.grid**2).view(count, tile, count, tile).transpose(1, 2).reshape(count**2, tile**2)
    place = order_TQ.flatten().argsort()
    if its.scale:
        coarse = (its.grid // its.scale) ** 2
        if prefix != coarse:
            raise UserError(f"a grid of {its.grid} x {its.grid} cells stands on {coarse} coarser ones, got {prefix}")
        first_TK, sees_first = _patches(its.grid, tile, its.cross_patch, its.cross_patch, its.scale)
    else:
        first_TK = torch.arange(prefix).expand(count**2, prefix)
        sees_first = torch.ones(count**2, tile**2, prefix, dtype=torch.bool)
    cells_TK, sees_cells = _patches(its.grid, tile, its.patch_rows, its.patch_columns, 1)
    keys_TK = torch.cat([first_TK, prefix + place[cells_TK]], dim=1)
    sees = torch.cat([sees_first, sees_cells], dim=2)
    spare = -keys_TK.shape[1] % KEYS_MULTIPLE
    keys_TK, sees = functional.pad(keys_TK, (0, spare)), functional.pad(sees, (0, spare))
    bias = torch.zeros(sees.shape, dtype=dtype).masked_fill_(~sees, float("-inf"))[:, None]
    parts = (part.to(device) for part in (order_TQ.flatten(), place, keys_TK, bias))
    return LocalTables(*parts)


def _patches(grid: int, tile: int, rows: int, columns: int, scale: int) -> tuple[Tensor, Tensor]:
    """Cells of the grid that is `scale` times coarser which any query of a tile sees, (T, K), and which sees which.

    A rectangle for each tile; what lies outside of the image is some cell that nobody sees.
    """
    rows_nK, sees_row = _axis(grid, tile, rows // 2, scale)
    columns_nK, sees_column = _axis(grid, tile, columns // 2, scale)
    cells = rows_nK[:, None, :, None] * (grid // scale) + columns_nK[None, :, None, :]
    sees = sees_row[:, None, :, None, :, None] & sees_column[None, :, None, :, None, :]
    tiles = (grid // tile) ** 2
    return cells.reshape(tiles, -1), sees.reshape(tiles, tile**2, -1)


def _axis(grid: int, tile: int, reach: int, scale: int) -> tuple[Tensor, Tensor]:
    """Along one axis: coordinates of the keys of each tile (n, K), and which of them each query sees (n, t, K)."""
    centre_nt = torch.arange(grid).view(-1, tile) // scale
    keys_nK = centre_nt[:, :1] - reach + torch.arange(tile // scale + 2 * reach)
    inside_nK = (keys_nK >= 0) & (keys_nK < grid // scale)
    sees = ((centre_nt[:, :, None] - keys_nK[:, None]).abs() <= reach) & inside_nK[:, None]
    return keys_nK.clamp(0, grid // scale - 1), sees
