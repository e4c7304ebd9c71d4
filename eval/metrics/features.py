"""What metrics check about features before they use them, and how frame features become rows.

Shapes: N samples, T frames, D features, M rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cogvideo.errors import UserError
from eval.scoring import FeatureSet

Frames = Literal["pooled", "mean", "first"]
SHOWN_IDS = 5


def as_features(feats_ND: ArrayLike, name: str, ids: Sequence[str] = ()) -> NDArray[np.generic]:
    """The array itself, once it is known to be (N, D) and finite.

    Raises UserError that says how many samples hold NaN or infinity, and the first of their ids (or row numbers).
    """
    feats = np.asarray(feats_ND)
    if feats.ndim != 2 or feats.shape[1] == 0:
        raise UserError(f"expected {name} features of shape (N, D), got {feats.shape}")
    refuse_not_finite(feats, name, ids)
    return feats


def pair_of_features(fake_ND: ArrayLike, real_ND: ArrayLike) -> tuple[NDArray[np.generic], NDArray[np.generic]]:
    """Both sets as `as_features`. Raises UserError if their widths differ."""
    fake, real = as_features(fake_ND, "fake"), as_features(real_ND, "real")
    if fake.shape[1] != real.shape[1]:
        raise UserError(
            f"a distance needs features of one width; fake has {fake.shape[1]}, real has {real.shape[1]}: "
            "compute both with the same detector and layer"
        )
    return fake, real


def refuse_not_finite(feats: NDArray[np.generic], name: str, ids: Sequence[str] = ()) -> None:
    """Raise UserError naming the samples whose features are not all finite."""
    finite = np.isfinite(feats.reshape(len(feats), -1)).all(axis=1)
    if finite.all():
        return
    bad = np.flatnonzero(~finite)
    shown = [repr(ids[row]) if len(ids) else f"row {row}" for row in bad[:SHOWN_IDS].tolist()]
    more = f" and {len(bad) - SHOWN_IDS:,} more" if len(bad) > SHOWN_IDS else ""
    raise UserError(
        f"{len(bad):,} of {len(feats):,} {name} samples have NaN or infinite features: {', '.join(shown)}{more}; "
        "look at those clips, or at the detector's precision"
    )


def checked(feature_set: FeatureSet, name: str) -> FeatureSet:
    """The set itself. Raises UserError if it is empty, not finite, or its ids do not fit its values."""
    if not len(feature_set):
        raise UserError(f"the {name} set is empty: there is nothing to score")
    if len(feature_set.values) != len(feature_set.ids):
        raise ValueError(f"{len(feature_set.ids)} ids for {len(feature_set.values)} rows of {name} features")
    refuse_not_finite(feature_set.values, name, feature_set.ids)
    return feature_set


def take(feature_set: FeatureSet, rows: slice | NDArray[np.int64]) -> FeatureSet:
    """Some samples of a set, in the order given."""
    index = range(len(feature_set))[rows] if isinstance(rows, slice) else rows.tolist()
    return FeatureSet(
        tuple(feature_set.ids[i] for i in index),
        tuple(feature_set.groups[i] for i in index),
        tuple(feature_set.labels[i] for i in index),
        feature_set.values[rows],
    )


def by_id(feature_set: FeatureSet, ids: Sequence[str]) -> FeatureSet:
    """The samples of those ids, in their order. Raises KeyError for an id that is not there."""
    row = {name: index for index, name in enumerate(feature_set.ids)}
    return take(feature_set, np.array([row[name] for name in ids], dtype=np.int64))


def rows_of(feature_set: FeatureSet, frames: Frames = "pooled") -> tuple[NDArray[np.float32], NDArray[np.str_]]:
    """Rows (M, D) for a distance, and the group of each row.

    Video features (N, D) are their own rows. Of frame features (N, T, D): "pooled" makes every frame a row, "mean"
    averages a clip's frames in float64, "first" takes the first frame. Frames of a clip stay in the clip's group.
    """
    values, groups = feature_set.values, np.asarray(feature_set.groups, dtype=np.str_)
    if values.ndim == 2:
        return values, groups
    if values.ndim != 3:
        raise UserError(f"expected features of shape (N, D) or (N, T, D), got {values.shape}")
    if frames == "pooled":
        return values.reshape(-1, values.shape[-1]), np.repeat(groups, values.shape[1])
    if frames == "mean":
        return values.mean(axis=1, dtype=np.float64).astype(np.float32), groups
    if frames == "first":
        return values[:, 0], groups
    raise UserError(f'option frames is "pooled", "mean" or "first", not {frames!r}')
