"""Mean and covariance of a stream of features in float64: shifted sums, merged by Chan's formula, flat in memory.

Shapes: N samples, D features.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
ROWS_AT_ONCE = 4096


class Moments:
    """First and second moments of the rows seen so far; D + D^2 numbers whatever N is.

    Sums are taken of x - shift, where the shift is the mean of the first batch: raw sums lose eight digits when the
    features' mean is a thousand times their spread, shifted sums lose none.
    """

    def __init__(self, dim: int) -> None:
        self.dim = dim
        self.n = 0
        self.shift_D = np.zeros(dim)
        self.sum_D = np.zeros(dim)
        self.scatter_DD = np.zeros((dim, dim))

    @classmethod
    def of(cls, feats_ND: ArrayLike) -> Moments:
        """The moments of one array."""
        feats_ND = np.asarray(feats_ND)
        moments = cls(feats_ND.shape[1])
        for block in row_blocks(feats_ND):
            moments.update(block)
        return moments

    def update(self, batch_ND: ArrayLike) -> None:
        """Take in a batch of any size. Raises ValueError if its width is not D."""
        batch = np.asarray(batch_ND)
        if batch.ndim != 2 or batch.shape[1] != self.dim:
            raise ValueError(f"expected features of shape (N, {self.dim}), got {batch.shape}")
        if not len(batch):
            return
        if self.n == 0:
            self.shift_D = batch.mean(axis=0, dtype=np.float64)
        shifted = np.subtract(batch, self.shift_D, dtype=np.float64)
        self.n += len(batch)
        self.sum_D += shifted.sum(axis=0)
        self.scatter_DD += shifted.T @ shifted

    @property
    def mean(self) -> Floats:
        return self.shift_D + self.sum_D / max(self.n, 1)

    @property
    def centred_scatter(self) -> Floats:
        """Sum of (x - mean)(x - mean)^T, exactly symmetric."""
        offset = self.sum_D / max(self.n, 1)
        scatter = self.scatter_DD - self.n * np.outer(offset, offset)
        return np.asarray((scatter + scatter.T) / 2)

    def covariance(self, ddof: int = 1) -> Floats:
        """Covariance with divisor N - ddof. Raises ValueError if that is not positive."""
        if self.n <= ddof:
            raise ValueError(f"a covariance with divisor N - {ddof} needs more than {ddof} samples, got {self.n}")
        return self.centred_scatter / (self.n - ddof)

    def merge(self, other: Moments) -> Moments:
        """The moments of both streams together (Chan, Golub and LeVeque 1979); neither is changed."""
        if other.dim != self.dim:
            raise ValueError(f"cannot merge moments of {self.dim} and of {other.dim} features")
        if not (self.n and other.n):
            source = self if self.n else other
            return source._copy()
        merged = self._copy()
        gap = other.mean - self.shift_D
        merged.n = self.n + other.n
        merged.sum_D = self.sum_D + other.n * gap
        merged.scatter_DD = self.scatter_DD + other.centred_scatter + other.n * np.outer(gap, gap)
        return merged

    def _copy(self) -> Moments:
        copy = Moments(self.dim)
        copy.n = self.n
        copy.shift_D, copy.sum_D, copy.scatter_DD = self.shift_D.copy(), self.sum_D.copy(), self.scatter_DD.copy()
        return copy


def merge_all(shards: Iterable[Moments]) -> Moments:
    """Shards together, in the order given. Raises ValueError if there is none."""
    total: Moments | None = None
    for shard in shards:
        total = shard if total is None else total.merge(shard)
    if total is None:
        raise ValueError("no moments to merge")
    return total


def row_blocks(feats_ND: NDArray[np.generic], rows: int = ROWS_AT_ONCE) -> Iterator[Floats]:
    """The rows as float64 blocks, so that a large float32 array is never doubled in memory."""
    for start in range(0, len(feats_ND), rows):
        yield np.asarray(feats_ND[start : start + rows], dtype=np.float64)
