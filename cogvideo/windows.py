"""Which cells of a frame see each other in the temporal channel: everything, windows, or shifted windows.

R grid side, w window side, s shift = w // 2, W windows of a layer, C = w * w cells of a window. Cells are numbered
row by row. Tables are made once for a geometry and cached.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor

OddWindows = Literal["training", "release"]


@dataclass(frozen=True)
class Windows:
    """The windows of one layer.

    `cells` (W, C): the cells of each window, in the order of the rolled grid. `regions` (W, C): cells of a window may
    see each other only under the same label; the others became neighbours by wrap-around. `groups`: for each cell,
    which cells it sees when one token is decoded at a time. `ranks`: its place in its group, row by row. `sizes`: how
    many cells each group has.
    """

    cells: Tensor
    regions: Tensor
    groups: tuple[int, ...]
    ranks: tuple[int, ...]
    sizes: tuple[int, ...]

    @property
    def has_seam(self) -> bool:
        """Whether a window holds cells of more than one region."""
        return bool((self.regions != self.regions[:, :1]).any())

    def members(self, group: int) -> list[int]:
        """The cells of a group, row by row."""
        return [cell for cell, its in enumerate(self.groups) if its == group]


@lru_cache(maxsize=64)
def whole_frame(grid: int) -> Windows:
    """Full attention as one window (stage 1 of the release)."""
    cells = torch.arange(grid * grid)
    return _windows(cells[None], torch.zeros_like(cells)[None], [0] * (grid * grid))


@lru_cache(maxsize=64)
def shifted(grid: int, window: int, layer: int, odd: OddWindows = "training") -> Windows:
    """Windows of layer `layer`: even layers cut the grid as it is, odd layers a grid rolled by half a window.

    Where half a window is no whole number of cells, the release's one-token rule cuts one row and column earlier than
    its training code; `odd` chooses. For even windows both are the same. CogVideo, section 3.3 (Swin attention).
    """
    shift = window // 2 if layer % 2 else 0
    rolled_RR = torch.arange(grid * grid).reshape(grid, grid).roll((-shift, -shift), (0, 1))
    cut = (torch.arange(grid) >= grid - shift).long()
    region_RR = cut[:, None] * 2 + cut[None, :]
    per_side = grid // window
    cells_WC = _cut(rolled_RR, per_side, window)
    regions_WC = _cut(region_RR, per_side, window)
    if odd == "release":
        places = [
            (cell // grid + shift) // window * (per_side + 1) + (cell % grid + shift) // window
            for cell in range(grid**2)
        ]
    else:
        places = [0] * grid**2
        for index, (cells, regions) in enumerate(zip(cells_WC.tolist(), regions_WC.tolist(), strict=True)):
            for cell, region in zip(cells, regions, strict=True):
                places[cell] = index * 4 + region
    return _windows(cells_WC, regions_WC, places)


def layer_windows(grid: int, window: int | None, layer: int, odd: OddWindows = "training") -> Windows:
    """The windows of a layer of a network with windows of side `window`, or of one without (None)."""
    return whole_frame(grid) if window is None else shifted(grid, window, layer % 2, odd)


def _cut(grid_RR: Tensor, per_side: int, window: int) -> Tensor:
    """(R, R) -> (W, C), windows row by row, cells row by row in each."""
    return grid_RR.reshape(per_side, window, per_side, window).transpose(1, 2).reshape(per_side**2, window**2)


def _windows(cells_WC: Tensor, regions_WC: Tensor, places: list[int]) -> Windows:
    """`places` says by any label which cells are one group; groups are numbered by their first cell."""
    number: dict[int, int] = {}
    groups = [number.setdefault(place, len(number)) for place in places]
    sizes = [0] * len(number)
    ranks = []
    for group in groups:
        ranks.append(sizes[group])
        sizes[group] += 1
    return Windows(cells_WC, regions_WC, tuple(groups), tuple(ranks), tuple(sizes))
