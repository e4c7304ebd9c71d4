"""Intervals, paired differences and extrapolation to infinite n. numpy only, and the same numbers from the same seed.

Shapes: N samples, R bootstrap replicates. `groups` names the unit that is drawn again: samples of one group (clips
of one source video) always move together, because they do not err independently.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Groups = Sequence[object] | NDArray[np.generic]
LEVEL = 0.95


def uniform(seed: int, name: str, n: int) -> Floats:
    """`n` numbers in [0, 1) that follow from the seed and the name alone, in every version of numpy."""
    key = int.from_bytes(hashlib.sha256(f"{seed}/{name}".encode()).digest()[:16], "little")
    raw = np.random.Philox(key=key, counter=0).random_raw(n)
    return np.asarray((raw >> np.uint64(11)) * 2.0**-53, dtype=np.float64)


def permutation(seed: int, name: str, n: int) -> Ints:
    """A seeded order of range(n)."""
    return np.argsort(uniform(seed, name, n), kind="stable")


def group_codes(groups: Groups) -> tuple[Ints, int]:
    """Every sample's group as a number, in the order of the sorted names, and the number of groups."""
    names, codes = np.unique(np.asarray(groups), return_inverse=True)
    return codes.reshape(-1).astype(np.int64), len(names)


def bootstrap_counts(groups: Groups, replicates: int, seed: int, name: str = "bootstrap") -> Floats:
    """(R, N): how often each sample stands in each replicate when whole groups are drawn with replacement."""
    codes, n_groups = group_codes(groups)
    drawn = (uniform(seed, name, replicates * n_groups) * n_groups).astype(np.int64).reshape(replicates, n_groups)
    counts = np.zeros((replicates, n_groups))
    np.add.at(counts, (np.arange(replicates)[:, None], drawn), 1.0)
    return counts[:, codes]


def bootstrap_rows(groups: Groups, replicates: int, seed: int, name: str = "bootstrap") -> Iterator[Ints]:
    """The same draws as `bootstrap_counts`, as row numbers with repeats, for statistics that take no weights."""
    for counts in bootstrap_counts(groups, replicates, seed, name):
        yield np.repeat(np.arange(len(counts)), counts.astype(np.int64))


def percentile(replicates: ArrayLike, level: float = LEVEL) -> tuple[float, float]:
    """The middle `level` of the replicates: right where the statistic has no bias, as a mean has none."""
    tail = (1 - level) / 2
    low, high = np.quantile(np.asarray(replicates, dtype=np.float64), [tail, 1 - tail])
    return float(low), float(high)


def basic(value: float, replicates: ArrayLike, level: float = LEVEL) -> tuple[float, float]:
    """The percentile interval mirrored at the value; it takes the bootstrap's bias off the value."""
    low, high = percentile(replicates, level)
    return 2 * value - high, 2 * value - low


def centred(value: float, replicates: ArrayLike, level: float = LEVEL) -> tuple[float, float]:
    """The spread of the replicates around the value, without their location.

    A distance between samples is biased by about c/n, and drawing with replacement adds that bias once more: all
    replicates may lie above the value. What is wanted is how far values at this n scatter, so the mean of the
    replicates is taken as their centre.
    """
    replicates = np.asarray(replicates, dtype=np.float64)
    low, high = percentile(replicates, level)
    centre = float(replicates.mean())
    return value + low - centre, value + high - centre


def mean_interval(
    values: ArrayLike, groups: Groups, *, replicates: int = 200, seed: int = 0, level: float = LEVEL
) -> tuple[float, float]:
    """Percentile bootstrap of a mean, by group. Raises ValueError for fewer than two groups."""
    values = np.asarray(values, dtype=np.float64)
    _need_two_groups(groups)
    counts = bootstrap_counts(groups, replicates, seed)
    return percentile(counts @ values / counts.sum(axis=1), level)


def linearised(value: float, parts: Sequence[tuple[ArrayLike, Groups]], *, level: float = LEVEL) -> tuple[float, float]:
    """The interval of a smooth statistic from its influence values (the infinitesimal jackknife), by group.

    Each part is one independent sample: (influence of every row, its groups). The influence of a row is the
    derivative of the value by the row's weight, so that the value moves by mean(weight change * influence). No
    replicates and no seed. Raises ValueError for a part with fewer than two groups.
    """
    variance, smallest = 0.0, math.inf
    for influence, groups in parts:
        _need_two_groups(groups)
        codes, n_groups = group_codes(groups)
        values = np.asarray(influence, dtype=np.float64)
        sums = np.bincount(codes, weights=values - values.mean(), minlength=n_groups) / len(values)
        variance += n_groups / (n_groups - 1) * float(sums @ sums)
        smallest = min(smallest, n_groups)
    half = student_quantile((1 + level) / 2, smallest - 1) * math.sqrt(variance)
    return value - half, value + half


def student_quantile(probability: float, freedom: float) -> float:
    """Student's t quantile by Hill's expansion of the normal one, within 1 % from 4 degrees of freedom on."""
    z = NormalDist().inv_cdf(probability)
    if math.isinf(freedom):
        return z
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + sum(term / freedom**power for power, term in enumerate(terms, start=1))


def _need_two_groups(groups: Groups) -> None:
    if group_codes(groups)[1] < 2:
        raise ValueError("an interval needs at least two independent groups of samples")


@dataclass(frozen=True)
class Difference:
    """First minus second on the same prompts. `differs` only when the interval excludes zero."""

    value: float
    low: float
    high: float
    n: int
    level: float
    method: str

    @property
    def differs(self) -> bool:
        return self.low > 0 or self.high < 0


def paired_mean_difference(
    first: Mapping[str, float],
    second: Mapping[str, float],
    *,
    groups: Mapping[str, str] | None = None,
    replicates: int = 2000,
    seed: int = 0,
    level: float = LEVEL,
) -> Difference:
    """Mean difference of per-sample scores over the ids that both have, with a paired percentile bootstrap.

    `groups` joins ids that err together (e.g. samples of one prompt). Raises ValueError if under two groups are shared.
    """
    ids = sorted(first.keys() & second.keys())
    units = [groups[i] if groups else i for i in ids]
    _need_two_groups(units)
    differences = np.array([first[i] - second[i] for i in ids], dtype=np.float64)
    low, high = mean_interval(differences, units, replicates=replicates, seed=seed, level=level)
    method = f"paired bootstrap over {len(set(units)):,} shared units, {replicates:,} replicates"
    return Difference(float(differences.mean()), low, high, len(ids), level, method)


def paired_bootstrap(
    first: Callable[[Ints, Ints], float],
    second: Callable[[Ints, Ints], float],
    fake_groups: Groups,
    real_groups: Groups,
    *,
    replicates: int = 200,
    seed: int = 0,
    level: float = LEVEL,
) -> Difference:
    """Difference of two statistics of (fake rows, real rows), both seeing the same draw of ids and of real clips.

    For any statistic, at the cost of 2 R evaluations; `linearised` on differences of influence values is the cheap
    way where influence values exist.
    """
    _need_two_groups(fake_groups)
    whole_fake, whole_real = np.arange(len(fake_groups)), np.arange(len(real_groups))
    value = first(whole_fake, whole_real) - second(whole_fake, whole_real)
    draws = zip(
        bootstrap_rows(fake_groups, replicates, seed, "fake"),
        bootstrap_rows(real_groups, replicates, seed, "real"),
        strict=True,
    )
    low, high = centred(value, [first(fake, real) - second(fake, real) for fake, real in draws], level)
    method = f"paired bootstrap, centred, {replicates:,} replicates"
    return Difference(value, low, high, len(fake_groups), level, method)


def partition(groups: Groups, parts: int, seed: int, strata: Sequence[str] = ()) -> list[Ints]:
    """Rows cut into `parts` sets of nearly as many groups each, in a seeded order; every row is in one set.

    `strata` (a label a row) keeps the mixture: each set gets nearly as many groups of every label, as the plan of a
    benchmark deals out its classes. A chance mixture would add a distance of its own to small sets.
    """
    codes, n_groups = group_codes(groups)
    order = permutation(seed, f"partition/{parts}", n_groups)
    if len(strata):
        first_row = np.unique(codes, return_index=True)[1]
        labels = np.asarray(strata)[first_row]
        order = order[np.argsort(labels[order], kind="stable")]
    place = np.empty(n_groups, dtype=np.int64)
    place[order] = np.arange(n_groups) % parts
    return [np.flatnonzero(place[codes] == part) for part in range(parts)]


def fit_inverse_n(sizes: ArrayLike, values: ArrayLike) -> tuple[float, float]:
    """(value at infinite n, slope): the least-squares line of the values against 1/n.

    Raises ValueError for fewer than two different sizes.
    """
    x = 1.0 / np.asarray(sizes, dtype=np.float64)
    y = np.asarray(values, dtype=np.float64)
    spread = x - x.mean()
    if not spread @ spread > 0:
        raise ValueError(f"a line in 1/n needs at least two sizes, got {np.unique(np.asarray(sizes)).tolist()}")
    slope = float(spread @ y / (spread @ spread))
    return float(y.mean() - slope * x.mean()), slope


def intercept_weights(sizes: ArrayLike) -> Floats:
    """What each point of `fit_inverse_n` counts in the value at infinite n; they add up to one."""
    sizes = np.asarray(sizes, dtype=np.float64)
    return np.array([fit_inverse_n(sizes, row)[0] for row in np.eye(len(sizes))])
