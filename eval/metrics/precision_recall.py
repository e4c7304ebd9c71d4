"""Precision, recall, density and coverage: is each sample inside the k-nearest-neighbour balls of the other set?

Options: k (3), value ("precision", "recall", "density" or "coverage"). Shapes: N fake rows, M real rows, D features.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cogvideo.errors import UserError
from eval.intervals import LEVEL, group_codes, mean_interval
from eval.metrics.distance import scored_sets
from eval.metrics.features import as_features, rows_of
from eval.protocol import MetricSpec
from eval.registry import metrics
from eval.scoring import Interval, Score, ScoreInput

Floats = NDArray[np.float64]
BLOCK = 1024


@dataclass(frozen=True)
class Manifolds:
    """For every fake row: is it in a real ball, and in how many over k; for every real row: is it in a fake ball,
    and does its own ball hold a fake row. The means are precision, density, recall and coverage."""

    precision: Floats
    density: Floats
    recall: Floats
    coverage: Floats

    def values(self) -> dict[str, float]:
        return {
            "precision": float(self.precision.mean()),
            "recall": float(self.recall.mean()),
            "density": float(self.density.mean()),
            "coverage": float(self.coverage.mean()),
        }


def precision_recall(fake_ND: ArrayLike, real_MD: ArrayLike, *, k: int = 3) -> Manifolds:
    """Membership of every row in the other set's manifold: balls that reach the k-th neighbour, edge included.

    Shapes: (N, D) and (M, D), both with more than k rows (a row is not its own neighbour). Distances are taken in
    float64 in blocks, so memory grows with N + M. Raises UserError for N <= k and for values that are not finite.
    Source: Kynkaanniemi et al. 2019 (precision, recall); Naeem et al. 2020 (density, coverage).
    """
    fake, real = as_features(fake_ND, "fake"), as_features(real_MD, "real")
    if min(len(fake), len(real)) <= k:
        raise UserError(
            f"{k} nearest neighbours need more than {k} samples a set; fake has {len(fake)}, real {len(real)}"
        )
    fake_reach, real_reach = _reach(fake, k), _reach(real, k)
    holders, recall = np.zeros(len(fake)), np.zeros(len(real), dtype=np.bool_)
    coverage = np.zeros(len(real), dtype=np.bool_)
    for rows in _slices(len(real)):
        squared = _squared_distances(real[rows], fake)
        inside_real = squared <= real_reach[rows, None]
        holders += inside_real.sum(axis=0)
        coverage[rows] = inside_real.any(axis=1)
        recall[rows] = (squared <= fake_reach[None, :]).any(axis=1)
    return Manifolds(
        (holders > 0).astype(np.float64), holders / k, recall.astype(np.float64), coverage.astype(np.float64)
    )


@metrics.register(
    "precision-recall",
    "Precision, recall, density and coverage on features",
    direction="higher",
    label="Precision",
    decimals="3",
    needs="real clips, a video network",
)
def score(spec: MetricSpec, data: ScoreInput) -> Score:
    """The value that the option names, all four in `details`. Not a number, with the reason, where N <= k."""
    k, wanted = int(spec.option("k", 3)), str(spec.option("value", "precision"))
    fake_set, real_set = scored_sets(spec, data)
    fake, fake_groups = rows_of(fake_set, spec.option("frames", "mean"))
    real, real_groups = rows_of(real_set, spec.option("frames", "mean"))
    if min(len(fake), len(real)) <= k:
        reason = (
            f"not defined: {k} nearest neighbours need more than {k} samples, there are {len(fake)} and {len(real)}"
        )
        return Score(
            value=float("nan"),
            n_fake=len(fake_set),
            n_real=len(real_set),
            warnings=(reason,),
            interval_note=reason,
            floor_note=reason,
        )
    found = precision_recall(fake, real, k=k)
    values = found.values()
    if wanted not in values:
        raise UserError(f"option value of {spec.id} is one of {', '.join(values)}; not {wanted!r}")
    of_fakes = wanted in ("precision", "density")
    members = getattr(found, wanted)
    groups = fake_groups if of_fakes else real_groups
    interval, note = None, "all samples come from one source"
    if group_codes(groups)[1] > 1:
        low, high = mean_interval(members, groups, replicates=data.replicates, seed=data.seed)
        side = "generated clips, real ones" if of_fakes else "real clips, generated ones"
        interval = Interval(low, high, LEVEL, f"bootstrap over {side} fixed, {data.replicates:,} replicates")
        note = ""
    floor, floor_note = None, "no held-out real clips"
    if data.heldout is not None and len(data.heldout) > k:
        others = rows_of(data.heldout, spec.option("frames", "mean"))[0][: len(fake)]
        floor = precision_recall(others, real, k=k).values()[wanted]
        floor_note = f"{len(others):,} held-out real clips against the same reference"
    return Score(
        value=values[wanted],
        n_fake=len(fake_set),
        n_real=len(real_set),
        interval=interval,
        interval_note=note,
        floor=floor,
        floor_note=floor_note,
        details={"k": k, "shown": wanted, **values},
    )


def _reach(rows_ND: NDArray[np.generic], k: int) -> Floats:
    """Squared distance of every row to its k-th nearest other row."""
    reach = np.empty(len(rows_ND))
    for rows in _slices(len(rows_ND)):
        squared = _squared_distances(rows_ND[rows], rows_ND)
        squared[np.arange(len(squared)), np.arange(len(rows_ND))[rows]] = -1.0
        reach[rows] = np.partition(squared, k, axis=1)[:, k]
    return reach


def _squared_distances(x_AD: NDArray[np.generic], y_BD: NDArray[np.generic]) -> Floats:
    """Squared distances (A, B), from products of rows shifted to the first set's mean to keep all digits."""
    x = np.asarray(x_AD, dtype=np.float64)
    shift = x.mean(axis=0)
    x = x - shift
    y = np.asarray(y_BD, dtype=np.float64) - shift
    squared = np.square(x).sum(axis=1)[:, None] + np.square(y).sum(axis=1)[None, :] - 2 * (x @ y.T)
    return np.asarray(squared.clip(0))


def _slices(n: int) -> list[slice]:
    return [slice(start, min(start + BLOCK, n)) for start in range(0, n, BLOCK)]
