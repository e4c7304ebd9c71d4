"""Polynomial maximum mean discrepancy (the arithmetic of KVD and KID), float64, in blocks of bounded memory.

Shapes: N fake rows, M real rows, D features.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cogvideo.errors import UserError
from eval.intervals import uniform
from eval.metrics.features import as_features, pair_of_features
from eval.metrics.frechet import Influence

Floats = NDArray[np.float64]
Estimator = Literal["unbiased", "biased", "u-statistic"]
# Small enough that a block of the kernel and its powers stay in the processor's cache.
BLOCK = 256


@dataclass(frozen=True)
class PolynomialKernel:
    """k(x, y) = (gamma x.y + coef)^degree; gamma None is 1/D."""

    degree: int = 3
    gamma: float | None = None
    coef: float = 1.0

    def of_inner(self, inner: Floats) -> Floats:
        """The kernel from gamma x.y + coef."""
        powered = inner.copy()
        for _ in range(self.degree - 1):
            powered *= inner
        return powered

    def left(self, rows: NDArray[np.generic]) -> Floats:
        """Rows such that left(x) @ right(y).T is gamma x.y + coef."""
        gamma = 1.0 / rows.shape[1] if self.gamma is None else self.gamma
        return np.hstack([rows.astype(np.float64) * gamma, np.full((len(rows), 1), self.coef)])

    def right(self, rows: NDArray[np.generic]) -> Floats:
        return np.hstack([rows.astype(np.float64), np.ones((len(rows), 1))])


CUBIC = PolynomialKernel()


def mmd(
    fake_ND: ArrayLike, real_MD: ArrayLike, kernel: PolynomialKernel = CUBIC, *, estimator: Estimator = "unbiased"
) -> float:
    """Squared maximum mean discrepancy of two sets of rows.

    Shapes: (N, D) and (M, D), N and M at least 2. "unbiased": the mean of k over pairs of different rows of each set,
    minus twice the mean across; it may be negative, and the sign is kept. "biased": a row is paired with itself too.
    "u-statistic": as unbiased, and row i of one set is not paired with row i of the other, which needs N = M.
    Raises UserError for fewer than two rows, unequal D, N != M in the u-statistic, and values that are not finite.
    Source: Gretton et al. 2012, section 2 and lemma 6; Binkowski et al. 2018 for the kernel.
    """
    fake, real = _checked(fake_ND, real_MD)
    n, m = len(fake), len(real)
    fake_within, real_within = _row_means_within(fake, kernel).mean(), _row_means_within(real, kernel).mean()
    across = _row_means_across(fake, real, kernel)[0].mean()
    if estimator == "biased":
        fake_within += (_diagonal(fake, fake, kernel).mean() - fake_within) / n
        real_within += (_diagonal(real, real, kernel).mean() - real_within) / m
    elif estimator == "u-statistic":
        if n != m:
            raise UserError(f"the u-statistic of MMD needs sets of one size; fake has {n}, real has {m}")
        across -= (_diagonal(fake, real, kernel).mean() - across) / (n - 1)
    return float(fake_within + real_within - 2 * across)


def mmd_influence(fake_ND: ArrayLike, real_MD: ArrayLike, kernel: PolynomialKernel = CUBIC) -> Influence:
    """`mmd` with its influence values: twice the row means of the kernels within, minus across."""
    fake, real = _checked(fake_ND, real_MD)
    fake_within = _row_means_within(fake, kernel)
    real_within = _row_means_within(real, kernel)
    fake_across, real_across = _row_means_across(fake, real, kernel)
    value = float(fake_within.mean() + real_within.mean() - 2 * fake_across.mean())
    fake_influence, real_influence = 2 * (fake_within - fake_across), 2 * (real_within - real_across)
    return Influence(value, fake_influence - fake_influence.mean(), real_influence - real_influence.mean())


def mmd_of_subsets(
    fake_ND: ArrayLike,
    real_MD: ArrayLike,
    *,
    subsets: int = 100,
    size: int = 1000,
    seed: int = 0,
    kernel: PolynomialKernel = CUBIC,
) -> tuple[float, Floats]:
    """(mean, the single values) of `mmd` between seeded subsets of `size` rows drawn without replacement.

    The scatter of the subsets is a property of `size`, not the error of the mean. Raises UserError if a set has
    fewer rows than `size`.
    """
    fake, real = as_features(fake_ND, "fake"), as_features(real_MD, "real")
    if min(len(fake), len(real)) < size:
        raise UserError(
            f"KID in subsets of {size:,} needs that many samples a set; fake has {len(fake):,}, real has "
            f"{len(real):,}: take a smaller subset_size or subsets=0"
        )
    values = []
    for subset in range(subsets):
        rows = (np.argsort(uniform(seed, f"kid/{subset}/{side}", n), kind="stable")[:size]
                for side, n in (("fake", len(fake)), ("real", len(real))))  # fmt: skip
        fake_rows, real_rows = rows
        values.append(mmd(fake[fake_rows], real[real_rows], kernel))
    return float(np.mean(values)), np.array(values)


def _checked(fake_ND: ArrayLike, real_MD: ArrayLike) -> tuple[NDArray[np.generic], NDArray[np.generic]]:
    fake, real = pair_of_features(fake_ND, real_MD)
    if min(len(fake), len(real)) < 2:
        raise UserError(f"MMD needs at least 2 samples a set; fake has {len(fake)}, real has {len(real)}")
    return fake, real


def _diagonal(x_ND: NDArray[np.generic], y_ND: NDArray[np.generic], kernel: PolynomialKernel) -> Floats:
    """k(x_i, y_i) of every row."""
    return kernel.of_inner(np.einsum("nd,nd->n", kernel.left(x_ND), kernel.right(y_ND)))


def _row_means_within(rows_ND: NDArray[np.generic], kernel: PolynomialKernel) -> Floats:
    """Mean of k(x_i, x_j) over j other than i, for every i."""
    n = len(rows_ND)
    sums = np.zeros(n)
    for rows, columns, values in _kernel_blocks(rows_ND, rows_ND, kernel, upper=True):
        if rows == columns:
            np.fill_diagonal(values, 0.0)
        else:
            sums[columns] += values.sum(axis=0)
        sums[rows] += values.sum(axis=1)
    return sums / (n - 1)


def _row_means_across(
    fake_ND: NDArray[np.generic], real_MD: NDArray[np.generic], kernel: PolynomialKernel
) -> tuple[Floats, Floats]:
    """Mean of k(x_i, y_j) over j for every i, and over i for every j."""
    fake_sums, real_sums = np.zeros(len(fake_ND)), np.zeros(len(real_MD))
    for rows, columns, values in _kernel_blocks(fake_ND, real_MD, kernel):
        fake_sums[rows] += values.sum(axis=1)
        real_sums[columns] += values.sum(axis=0)
    return fake_sums / len(real_MD), real_sums / len(fake_ND)


def _kernel_blocks(
    x_ND: NDArray[np.generic], y_MD: NDArray[np.generic], kernel: PolynomialKernel, *, upper: bool = False
) -> Iterator[tuple[slice, slice, Floats]]:
    """Blocks of k(x_i, y_j) with their rows and columns; `upper` leaves out blocks below the diagonal.

    All blocks share one buffer: freshly mapped memory would cost more than the arithmetic.
    """
    inner, powered = np.empty((BLOCK, BLOCK)), np.empty((BLOCK, BLOCK))
    for start in range(0, len(x_ND), BLOCK):
        rows = slice(start, min(start + BLOCK, len(x_ND)))
        left = kernel.left(x_ND[rows])
        for other in range(start if upper else 0, len(y_MD), BLOCK):
            columns = slice(other, min(other + BLOCK, len(y_MD)))
            shape = np.s_[: len(left), : columns.stop - columns.start]
            np.matmul(left, kernel.right(y_MD[columns]).T, out=inner[shape])
            powered[shape] = inner[shape]
            for _ in range(kernel.degree - 1):
                np.multiply(powered[shape], inner[shape], out=powered[shape])
            yield rows, columns, powered[shape]
