"""How every distance is reported: value, interval, floor, extrapolation, and the facts that make it hard to read.

A distance is a function of (fake rows, real rows); frames of a clip, and clips of a source video, move together.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cogvideo.errors import UserError
from eval.influence import Influences, influences
from eval.intervals import (
    LEVEL,
    Difference,
    group_codes,
    intercept_weights,
    linearised,
    partition,
)
from eval.metrics.features import Frames, by_id, checked, rows_of, take
from eval.metrics.frechet import Influence
from eval.protocol import MetricSpec
from eval.scoring import Extrapolation, FeatureSet, Interval, Score, ScoreInput

Rows = NDArray[np.float32]
PARTS = (1, 2, 3, 4)
PARTS_OF_WIDE_FEATURES = (1, 2, 4)
WIDE = 1024
MOST_ROWS_FOR_INTERVAL = 4096
ROUNDING = 1e-9


@dataclass(frozen=True)
class Distance:
    """One distance between two sets of rows. `biased`: its value shrinks about like 1/n and is extrapolated.

    `lowest` is the smallest possible value: an interval never goes below it. `quadratic`: its cost grows with the
    square of the rows, so that the interval of very many rows comes from a part of them.
    """

    value: Callable[[Rows, Rows], float]
    influence: Callable[[Rows, Rows], Influence]
    biased: bool
    lowest: float = -np.inf
    quadratic: bool = False


def score_distance(spec: MetricSpec, data: ScoreInput, distance: Distance) -> Score:
    """Score of a distance. Raises UserError if there is no real set, a set is too small, or a feature is not finite."""
    frames: Frames = spec.option("frames", "pooled")
    fake_set, real_set = scored_sets(spec, data)
    fake, fake_groups = rows_of(fake_set, frames)
    real, real_groups = rows_of(real_set, frames)
    facts = sample_facts(spec, len(fake_set), len(real_set), len(fake), fake.shape[1], distance.biased)

    whole: Influence | None = None
    if distance.quadratic:
        value = distance.value(fake, real)
        interval, note, whole = _interval_from_some_clips(distance, value, fake_set, real_set, frames, data.seed)
        extrapolated = None
    else:
        whole = distance.influence(fake, real)
        value = whole.value
        interval, note = interval_of(whole, fake_groups, real_groups, distance.lowest)
        extrapolated = _extrapolate(distance, whole, fake_set, real_set, frames, data.seed) if interval else None
    floor, floor_note = floor_of(data, real_set, len(fake_set), frames, distance.value)
    return Score(
        value=value,
        n_fake=len(fake_set),
        n_real=len(real_set),
        interval=interval,
        interval_note=note,
        floor=floor,
        floor_note=floor_note,
        extrapolated=extrapolated,
        influence=_by_clip(whole, fake_set, real_set) if whole else None,
        details={"dimension": fake.shape[1], "rows_fake": len(fake), "rows_real": len(real)},
        warnings=facts,
    )


def scored_sets(spec: MetricSpec, data: ScoreInput) -> tuple[FeatureSet, FeatureSet]:
    """The fake and real samples that this metric counts: the first `n_fake` and `n_real` of its protocol."""
    if data.real is None:
        raise UserError(f"{spec.id} compares with real clips, and there are none: give the data set with --data")
    fake, real = checked(data.fake, "fake"), checked(data.real, "real")
    return first_of(fake, spec.n_fake), first_of(real, spec.n_real)


def first_of(feature_set: FeatureSet, n: int | None) -> FeatureSet:
    """The first n samples, or all if n is None, 0, or more than there are."""
    return take(feature_set, slice(n)) if n and n < len(feature_set) else feature_set


def sample_facts(spec: MetricSpec, n_fake: int, n_real: int, rows: int, dim: int, biased: bool) -> tuple[str, ...]:
    """Plain sentences about sample counts that change how a distance reads."""
    facts = []
    if spec.n_fake and n_fake < spec.n_fake:
        facts.append(f"{n_fake:,} generated clips where the protocol says {spec.n_fake:,}")
    if spec.n_real and n_real < spec.n_real:
        facts.append(f"{n_real:,} real clips where the protocol says {spec.n_real:,}")
    if biased and rows <= dim:
        facts.append(
            f"{rows:,} samples for {dim:,} features: the covariance is singular and the bias is large; "
            "compare at equal n only"
        )
    if biased and n_fake != n_real:
        facts.append(f"{n_fake:,} generated against {n_real:,} real clips: compare only where both counts are the same")
    return tuple(facts)


def interval_of(
    influence: Influence, fake_groups: NDArray[np.str_], real_groups: NDArray[np.str_], lowest: float
) -> tuple[Interval | None, str]:
    """95 % interval for the value that is expected at this n, or the reason why there is none."""
    clips_fake, clips_real = group_codes(fake_groups)[1], group_codes(real_groups)[1]
    if min(clips_fake, clips_real) < 2:
        return None, "all clips of a set come from one source, so nothing says how much the value varies"
    low, high = linearised(influence.value, [(influence.fake, fake_groups), (influence.real, real_groups)])
    method = f"influence values over {clips_fake:,} generated and {clips_real:,} real sources"
    return Interval(max(low, lowest), high, LEVEL, method), ""


def floor_of(
    data: ScoreInput, real: FeatureSet, n_fake: int, frames: Frames, value: Callable[[Rows, Rows], float]
) -> tuple[float | None, str]:
    """The distance of other real clips from the reference at the number of the fakes, and what limits it."""
    if data.heldout is None or len(data.heldout) < 2:
        return None, "no held-out real clips"
    heldout = first_of(checked(data.heldout, "held-out real"), n_fake)
    floor = value(rows_of(heldout, frames)[0], rows_of(real, frames)[0])
    if len(heldout) < n_fake:
        return floor, f"from {len(heldout):,} held-out real clips, fewer than the {n_fake:,} generated ones"
    return floor, f"{len(heldout):,} held-out real clips against the same reference"


def _interval_from_some_clips(
    distance: Distance, value: float, fake: FeatureSet, real: FeatureSet, frames: Frames, seed: int
) -> tuple[Interval | None, str, Influence | None]:
    """The interval, from at most `MOST_ROWS_FOR_INTERVAL` rows a set: a variance needs no more to be known well.

    Last the influence values, or None if they are of a part of the rows.
    """
    sides = []
    shares = []
    for side in (fake, real):
        rows_a_clip = side.values.shape[1] if side.values.ndim == 3 and frames == "pooled" else 1
        parts = -(-len(side) * rows_a_clip // MOST_ROWS_FOR_INTERVAL)
        chosen = side if parts < 2 else take(side, partition(side.groups, parts, seed, side.labels)[0])
        sides.append(rows_of(chosen, frames))
        shares.append(len(chosen) / len(side))
    (fake_rows, fake_groups), (real_rows, real_groups) = sides
    some = distance.influence(fake_rows, real_rows)
    shrunk = Influence(value, some.fake * np.sqrt(shares[0]), some.real * np.sqrt(shares[1]))
    interval, note = interval_of(shrunk, fake_groups, real_groups, distance.lowest)
    return interval, note, shrunk if shares == [1.0, 1.0] else None


def _by_clip(influence: Influence, fake: FeatureSet, real: FeatureSet) -> Influences:
    """Influence values of clips: the mean over the rows (frames) of each."""
    fake_N, real_M = (
        side.reshape(len(clips), -1).mean(axis=1) for side, clips in ((influence.fake, fake), (influence.real, real))
    )
    return influences(fake.ids, fake_N, real_M, real.ids, real.groups)


def _extrapolate(
    distance: Distance, whole: Influence, fake: FeatureSet, real: FeatureSet, frames: Frames, seed: int
) -> Extrapolation | None:
    """The intercept of a line in 1/n through the values at n, n/2, n/3 and n/4, each averaged over all parts.

    Both sets are cut into the same number of parts, each with the classes of the whole, so that the bias of each
    falls with the same 1/n. Sizes under the feature dimension are left out: there the bias is no longer a line, and
    the intercept came out too high by up to a tenth of the bias. None if under three sizes are left.
    """
    if not distance.biased:
        return None
    dim = fake.values.shape[-1]
    groups_fake, groups_real = group_codes(fake.groups)[1], group_codes(real.groups)[1]
    rows_a_clip = fake.values.shape[1] if fake.values.ndim == 3 and frames == "pooled" else 1
    smallest = min(len(fake), len(real)) * rows_a_clip
    parts = [
        k
        for k in (PARTS if dim <= WIDE else PARTS_OF_WIDE_FEATURES)
        if smallest // k >= max(dim, 8) and min(groups_fake, groups_real) // k >= 2
    ]
    if len(parts) < 3:
        return None
    sizes = [len(fake) / k for k in parts]
    weights = intercept_weights(sizes)
    fake_rows = whole.fake.reshape(len(fake), -1) * weights[0]
    real_rows = whole.real.reshape(len(real), -1) * weights[0]
    values = [whole.value]
    for k, weight in zip(parts[1:], weights[1:], strict=True):
        at_k = []
        cuts = zip(
            partition(fake.groups, k, seed, fake.labels), partition(real.groups, k, seed + 1, real.labels), strict=True
        )
        for fake_part, real_part in cuts:
            part = distance.influence(
                rows_of(take(fake, fake_part), frames)[0], rows_of(take(real, real_part), frames)[0]
            )
            fake_rows[fake_part] += weight * part.fake.reshape(len(fake_part), -1)
            real_rows[real_part] += weight * part.real.reshape(len(real_part), -1)
            at_k.append(part.value)
        values.append(float(np.mean(at_k)))
    intercept = float(weights @ values)
    low, high = linearised(intercept, [(fake_rows.mean(axis=1), fake.groups), (real_rows.mean(axis=1), real.groups)])
    points = tuple((round(size), value) for size, value in zip(sizes, values, strict=True))
    return Extrapolation(intercept, low, high, points)


def paired_difference(spec: MetricSpec, first: ScoreInput, second: ScoreInput, distance: Distance) -> Difference:
    """First minus second generator, on the sample ids that both have and against one real set.

    Influence values of a shared id (and of each real clip) are subtracted before they are squared, so that what the
    two have in common cancels. Raises UserError if fewer than two ids are shared or the real sets differ.
    """
    frames: Frames = spec.option("frames", "pooled")
    fake_a, real_a = scored_sets(spec, first)
    fake_b, real_b = scored_sets(spec, second)
    if real_a.ids != real_b.ids:
        raise UserError(
            f"{spec.id}: a paired difference needs one reference set; the two runs used different real clips"
        )
    shared = sorted(set(fake_a.ids) & set(fake_b.ids))
    if len(shared) < 2:
        raise UserError(
            f"{spec.id}: a paired difference needs samples with the same ids; these runs share {len(shared)}"
        )
    a, b = (
        distance.influence(rows_of(by_id(fake, shared), frames)[0], rows_of(real, frames)[0])
        for fake, real in ((fake_a, real_a), (fake_b, real_b))
    )
    groups = by_id(fake_a, shared).groups
    difference = a.value - b.value
    if abs(difference) <= ROUNDING * max(abs(a.value), abs(b.value)):
        difference = 0.0  # the same features in another order of summation, as frame metrics of shuffled frames have
    low, high = linearised(
        difference,
        [
            ((a.fake - b.fake).reshape(len(shared), -1).mean(axis=1), groups),
            ((a.real - b.real).reshape(len(real_a), -1).mean(axis=1), real_a.groups),
        ],
    )
    return Difference(difference, low, high, len(shared), LEVEL, f"paired influence values over {len(shared):,} ids")
