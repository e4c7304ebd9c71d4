"""Polynomial maximum mean discrepancy (the arithmetic of KVD and KID), float64, in blocks of bounded memory.

Shapes: N fake rows, M real rows, D features.
"""

from __future__ import annotations

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
BLOCK = 1024


@dataclass(frozen=True)
class PolynomialKernel:
    """k(x, y) = (gamma x.y + coef)^degree; gamma None is 1/D."""

    degree: int = 3
    gamma: float | None = None
    coef: float = 1.0

    def __call__(self, x_ND: Floats, y_MD: Floats) -> Floats:
        return self.of_inner(x_ND @ y_MD.T, x_ND.shape[1])

    def of_inner(self, inner: Floats, dim: int) -> Floats:
        """The kernel from inner products of D-dimensional rows; `inner` is used up."""
        inner *= 1.0 / dim if self.gamma is None else self.gamma
        inner += self.coef
        # Repeated products: numpy's general power is twenty times slower.
        powered = inner.copy()
        for _ in range(self.degree - 1):
            powered *= inner
        return powered


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
    inner = np.einsum("nd,nd->n", x_ND.astype(np.float64), y_ND.astype(np.float64))
    return kernel.of_inner(inner, x_ND.shape[1])


def _row_means_within(rows_ND: NDArray[np.generic], kernel: PolynomialKernel) -> Floats:
    """Mean of k(x_i, x_j) over j other than i, for every i."""
    n = len(rows_ND)
    sums = np.zeros(n)
    for start in range(0, n, BLOCK):
        block = np.asarray(rows_ND[start : start + BLOCK], dtype=np.float64)
        for other in range(start, n, BLOCK):
            values = kernel(block, np.asarray(rows_ND[other : other + BLOCK], dtype=np.float64))
            if other == start:
                np.fill_diagonal(values, 0.0)
            else:
                sums[other : other + BLOCK] += values.sum(axis=0)
            sums[start : start + BLOCK] += values.sum(axis=1)
    return sums / (n - 1)


def _row_means_across(
    fake_ND: NDArray[np.generic], real_MD: NDArray[np.generic], kernel: PolynomialKernel
) -> tuple[Floats, Floats]:
    """Mean of k(x_i, y_j) over j for every i, and over i for every j."""
    fake_sums, real_sums = np.zeros(len(fake_ND)), np.zeros(len(real_MD))
    for start in range(0, len(fake_ND), BLOCK):
        block = np.asarray(fake_ND[start : start + BLOCK], dtype=np.float64)
        for other in range(0, len(real_MD), BLOCK):
            values = kernel(block, np.asarray(real_MD[other : other + BLOCK], dtype=np.float64))
            fake_sums[start : start + BLOCK] += values.sum(axis=1)
            real_sums[other : other + BLOCK] += values.sum(axis=0)
    return fake_sums / len(real_MD), real_sums / len(fake_ND)
