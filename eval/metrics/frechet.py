"""Frechet distance between two sets of features: float64, no matrix square root, no epsilon.

Shapes: N samples, D features, r rows of a factor. A factor A (r, D) of a covariance S satisfies A^T A = S.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cogvideo.errors import UserError
from eval.metrics.features import pair_of_features
from eval.metrics.moments import Moments, row_blocks

Floats = NDArray[np.float64]

# Below this ratio of smallest to largest squared pivot a covariance may be singular but for rounding, and factors are
# taken from the features instead.
WELL_CONDITIONED = 1e-11
FAR_APART = 1e4
ROUNDING = 1e-11


@dataclass(frozen=True)
class Influence:
    """A distance with the derivative of its value by the weight of each fake and each real row."""

    value: float
    fake: Floats
    real: Floats


def frechet(fake_ND: ArrayLike, real_ND: ArrayLike, *, ddof: int = 1, allow_single: bool = False) -> float:
    """|m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)) of two sets of features, symmetric, never negative.

    Shapes: (N, D) and (M, D), any N and M. `ddof` 1 divides covariances by N - 1, 0 by N.
    More samples than features: Cholesky and symmetric eigenvalues of the moments. Else, or where Cholesky fails or
    the covariance is badly conditioned: singular values of the product of the factors (the centred rows themselves,
    or their QR), exact for singular covariances too.
    `allow_single`: accept a set of one sample; ddof 0 takes its covariance as zero, ddof 1 leaves the mean term only.
    Raises UserError for fewer than two samples otherwise, for unequal D, and for values that are not finite.
    Source: Dowson and Landau 1982; Heusel et al. 2017, equation 6; Unterthiner et al. 2018.
    """
    fake, real = _checked(fake_ND, real_ND, allow_single)
    if ddof == 1 and min(len(fake), len(real)) == 1:
        return _mean_gap(fake.astype(np.float64).mean(axis=0), real.astype(np.float64).mean(axis=0))
    first, second = _Side.of(fake, ddof), _Side.of(real, ddof)
    return _distance(first, second, _root_trace(first, second))


def frechet_from_moments(fake: Moments, real: Moments, *, ddof: int = 1) -> float:
    """The same from streamed moments, for N > D.

    Covariances that are singular lose half the digits of their smallest directions without the features: use
    `frechet` on kept features there. Raises ValueError for unequal D or too few samples.
    """
    if fake.dim != real.dim:
        raise ValueError(f"features of {fake.dim} and of {real.dim} dimensions cannot be compared")
    first, second = _Side.from_moments(fake, ddof), _Side.from_moments(real, ddof)
    return _distance(first, second, _root_trace(first, second))


def frechet_influence(fake_ND: ArrayLike, real_ND: ArrayLike, *, ddof: int = 1) -> Influence:
    """`frechet` with its influence values, from which intervals follow at the cost of about three distances.

    With T the optimal map from N(m1, S1) to N(m2, S2), a fake row x counts 2 (m1 - m2)(x - m1) + c |x - m1|^2
    - c (x - m1)^T T (x - m1), c = N / (N - ddof); a real row likewise with the map back. Raises as `frechet`.
    """
    fake, real = _checked(fake_ND, real_ND, allow_single=False)
    first, second = _Side.of(fake, ddof), _Side.of(real, ddof)
    root_trace, quadratic_fake, quadratic_real = _root_trace_maps(first, second)
    gap = first.mean - second.mean
    return Influence(
        _distance(first, second, root_trace),
        _side_influence(fake, first, gap, quadratic_fake, ddof),
        _side_influence(real, second, -gap, quadratic_real, ddof),
    )


def _checked(
    fake_ND: ArrayLike, real_ND: ArrayLike, allow_single: bool
) -> tuple[NDArray[np.generic], NDArray[np.generic]]:
    fake, real = pair_of_features(fake_ND, real_ND)
    for name, features in (("fake", fake), ("real", real)):
        if len(features) < (1 if allow_single else 2):
            raise UserError(f"a covariance needs at least 2 samples; the {name} set has {len(features)}")
    return fake, real


class _Side:
    """Mean, trace, and covariance or rows of one set; an exact factor of the covariance when asked for."""

    def __init__(self, features: NDArray[np.generic] | None, moments: Moments | None, n: int, ddof: int) -> None:
        self.n, self.ddof = n, ddof
        self.divisor = n - ddof
        self.features = features
        self.centred_ND: Floats | None = None
        self.covariance_DD: Floats | None = None
        if moments is not None:
            self.mean = moments.mean
            self.covariance_DD = moments.covariance(ddof)
            self.trace = float(np.trace(self.covariance_DD))
        elif features is not None:
            rows = features.astype(np.float64)
            first = rows.mean(axis=0)
            rest = (rows - first).mean(axis=0)
            self.mean = first + rest
            self.centred_ND = (rows - first) - rest
            self.trace = float(np.square(self.centred_ND).sum() / self.divisor)

    @classmethod
    def of(cls, features_ND: NDArray[np.generic], ddof: int) -> _Side:
        n, dim = features_ND.shape
        return cls(features_ND, Moments.of(features_ND) if n > dim else None, n, ddof)

    @classmethod
    def from_moments(cls, moments: Moments, ddof: int) -> _Side:
        return cls(None, moments, moments.n, ddof)

    def factor(self) -> Floats:
        """A with A^T A = covariance, from the rows where they are kept, so that singular directions stay exact."""
        if self.centred_ND is not None:
            return np.asarray(self.centred_ND / np.sqrt(self.divisor))
        if self.features is not None:
            stacked: Floats = np.zeros((0, len(self.mean)))
            for block in row_blocks(self.features):
                stacked = np.asarray(np.linalg.qr(np.vstack([stacked, block - self.mean]), mode="r"))
            return stacked / math.sqrt(self.divisor)
        assert self.covariance_DD is not None
        values, vectors = np.linalg.eigh(self.covariance_DD)
        # Eigenvalues within rounding of zero have no correct digit; their roots would be noise of 1e-8.
        values[values < len(values) * np.finfo(np.float64).eps * values[-1]] = 0.0
        return np.asarray(np.sqrt(values)[:, None] * vectors.T)


def _root_trace(first: _Side, second: _Side) -> float:
    """tr (S1 S2)^(1/2)."""
    definite = _Definite.of(first, second)
    if definite is not None:
        values = np.asarray(np.linalg.eigvalsh(definite.product()), dtype=np.float64)
        if definite.holds(values):
            return float(np.sqrt(values.clip(0)).sum())
    return float(np.linalg.svd(first.factor() @ second.factor().T, compute_uv=False).sum())


def _root_trace_maps(first: _Side, second: _Side) -> tuple[float, Floats, Floats]:
    """tr (S1 S2)^(1/2) and the quadratic form of the optimal map at every row of both sides."""
    definite = _Definite.of(first, second)
    if definite is not None:
        values, vectors = np.linalg.eigh(definite.product())
        if definite.holds(values):
            singular = np.sqrt(values.clip(np.finfo(np.float64).tiny))
            to_second, to_first = np.empty_like(vectors), np.empty_like(vectors)
            to_second[definite.order] = np.linalg.solve(definite.lower.T, vectors * np.sqrt(singular))
            to_first[definite.order] = definite.lower @ (vectors / np.sqrt(singular))
            return float(singular.sum()), _squared_norms(first, to_second), _squared_norms(second, to_first)
    a, b = first.factor(), second.factor()
    left, singular, right = np.linalg.svd(a @ b.T, full_matrices=False)
    root = np.sqrt(singular)
    return float(singular.sum()), _map_norms(first, a, left * root), _map_norms(second, b, right.T * root)


@dataclass(frozen=True)
class _Definite:
    """Two covariances with their features in one order, and the Cholesky factor of the first.

    Where variances are far apart the large ones come first: the small eigenvalues of the product then keep their
    digits (on spectra that fall like a power, an error of 1e-8 of the trace falls to 1e-15).
    """

    order: NDArray[np.int64]
    lower: Floats
    second: Floats

    @classmethod
    def of(cls, first: _Side, second: _Side) -> _Definite | None:
        if first.covariance_DD is None or second.covariance_DD is None:
            return None
        s1, s2 = first.covariance_DD, second.covariance_DD
        variances = np.diagonal(s1) * np.diagonal(s2)
        order = np.arange(len(variances))
        if not variances.max() < FAR_APART * variances.min():
            order = np.argsort(-variances, kind="stable")
            s1, s2 = s1[np.ix_(order, order)], s2[np.ix_(order, order)]
        lower = _safe_cholesky(s1)
        return None if lower is None else cls(order, lower, s2)

    def holds(self, values_D: Floats) -> bool:
        """Whether the second covariance is safely definite too, most often plain from the product's eigenvalues."""
        return bool(values_D[0] > WELL_CONDITIONED * values_D[-1]) or _safe_cholesky(self.second) is not None

    def product(self) -> Floats:
        """The lower triangle of L^T S2 L (all that eigh reads), by LAPACK at half the work of two products."""
        from scipy.linalg.lapack import dsygst

        # Transposed, both matrices lie in memory as LAPACK wants them, and nothing is copied into another order.
        product, info = dsygst(self.second.T, self.lower.T, itype=2, lower=0)
        if info:
            raise ArithmeticError(f"dsygst failed with {info}")
        return np.asarray(product.T)


def _safe_cholesky(covariance_DD: Floats) -> Floats | None:
    """The lower factor, or None where the covariance is not safely positive definite."""
    try:
        lower = np.asarray(np.linalg.cholesky(covariance_DD), dtype=np.float64)
    except np.linalg.LinAlgError:
        return None
    pivots = np.square(np.diagonal(lower))
    return lower if pivots.min() > WELL_CONDITIONED * pivots.max() else None


def _map_norms(side: _Side, factor: Floats, map_rk: Floats) -> Floats:
    if side.centred_ND is not None:
        return np.asarray(np.square(map_rk).sum(axis=1) * side.divisor)
    return _squared_norms(side, np.linalg.pinv(factor, rcond=1e-12) @ map_rk)


def _squared_norms(side: _Side, map_Dk: Floats) -> Floats:
    """|(x - mean) W|^2 of every row x."""
    assert side.features is not None
    blocks = [np.square((block - side.mean) @ map_Dk).sum(axis=1) for block in row_blocks(side.features)]
    return np.concatenate(blocks)


def _side_influence(
    features_ND: NDArray[np.generic], side: _Side, gap_D: Floats, quadratic_N: Floats, ddof: int
) -> Floats:
    stretch = len(features_ND) / (len(features_ND) - ddof)
    rows = []
    for block in row_blocks(features_ND):
        centred = block - side.mean
        rows.append(2 * centred @ gap_D + stretch * np.square(centred).sum(axis=1))
    influence = np.concatenate(rows) - stretch * quadratic_N
    return np.asarray(influence - influence.mean())


def _mean_gap(first_D: Floats, second_D: Floats) -> float:
    return float(np.square(first_D - second_D).sum())


def _distance(first: _Side, second: _Side, root_trace: float) -> float:
    scale = first.trace + second.trace
    spread = scale - 2 * root_trace
    if not spread > -ROUNDING * scale - np.finfo(np.float64).tiny:
        raise ArithmeticError(f"Frechet distance came out as {spread} where traces add up to {scale}")
    return _mean_gap(first.mean, second.mean) + max(spread, 0.0)
