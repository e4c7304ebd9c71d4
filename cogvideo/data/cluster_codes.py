"""A codebook into clusters of codes that look alike: k-means, for the sampler's top-k of clusters.

Shapes: K codes, D numbers of each, C clusters.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray
from safetensors.numpy import save_file

from cogvideo.errors import UserError

Vectors = NDArray[np.float64]
Labels = NDArray[np.int64]

# The release has 500 clusters of 20,000 codes; 128 of 1,024 leave 8 in each.
CLUSTERS = {20000: 500, 1024: 128}
ROUNDS = 100


def cluster_codes(codes_KD: ArrayLike, clusters: int, *, seed: int = 0, rounds: int = ROUNDS) -> Labels:
    """The cluster (K,) of each code, 0..C-1: Lloyd's algorithm from k-means++ (Arthur and Vassilvitskii 2007).

    The same for the same seed. A cluster that loses its last code starts anew at the code that lies worst, so none is
    empty. Stops when no code moves, or after `rounds`. Raises UserError unless there are at least as many different
    codes as clusters.
    """
    vectors_KD = np.asarray(codes_KD, np.float64)
    if vectors_KD.ndim != 2 or not np.isfinite(vectors_KD).all():
        raise UserError(f"expected a codebook of finite numbers (codes, numbers of a code), got {vectors_KD.shape}")
    different = len(np.unique(vectors_KD, axis=0))
    if not 1 <= clusters <= different:
        raise UserError(f"expected 1 to {different:,} clusters of {different:,} different codes, got {clusters:,}")
    centres_CD = _first_centres(vectors_KD, clusters, np.random.Generator(np.random.Philox(seed)))
    labels_K = np.full(len(vectors_KD), -1)
    for _ in range(rounds):
        distances_KC = _distances(vectors_KD, centres_CD)
        new_K = _without_empty(distances_KC.argmin(1), distances_KC, clusters)
        if (new_K == labels_K).all():
            break
        labels_K = new_K
        counts_C = np.bincount(labels_K, minlength=clusters)
        sums_CD = np.zeros_like(centres_CD)
        np.add.at(sums_CD, labels_K, vectors_KD)
        centres_CD = sums_CD / counts_C[:, None]
    return labels_K


def write_clusters(path: Path, labels_K: Labels) -> None:
    """Write labels as `cogvideo.clusters.read_clusters` reads them (tensor `labels` of a .safetensors file), whole."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        save_file({"labels": np.ascontiguousarray(labels_K, np.int32)}, temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _first_centres(vectors_KD: Vectors, clusters: int, chance: np.random.Generator) -> Vectors:
    """Codes far from each other: each next one drawn in proportion to its squared distance from those before."""
    chosen = [int(chance.random() * len(vectors_KD))]
    nearest_K = _distances(vectors_KD, vectors_KD[chosen])[:, 0]
    for _ in range(1, clusters):
        mass_K = nearest_K.cumsum()
        place = int(np.searchsorted(mass_K, chance.random() * mass_K[-1], side="right"))
        if place >= len(vectors_KD) or nearest_K[place] <= 0:
            place = int(nearest_K.argmax())
        chosen.append(place)
        nearest_K = np.minimum(nearest_K, _distances(vectors_KD, vectors_KD[[place]])[:, 0])
    return vectors_KD[chosen].copy()


def _without_empty(labels_K: Labels, distances_KC: Vectors, clusters: int) -> Labels:
    """Each empty cluster gets the code that lies farthest from its centre, of those that are not alone in theirs."""
    labels_K = labels_K.copy()
    lie_K = distances_KC[np.arange(len(labels_K)), labels_K]
    counts_C = np.bincount(labels_K, minlength=clusters)
    for empty in np.flatnonzero(counts_C == 0).tolist():
        code = int(np.where(counts_C[labels_K] > 1, lie_K, -1).argmax())
        counts_C[labels_K[code]] -= 1
        labels_K[code], counts_C[empty], lie_K[code] = empty, 1, 0
    return labels_K


def _distances(vectors_KD: Vectors, centres_CD: Vectors) -> Vectors:
    squares_K1, squares_C = (vectors_KD**2).sum(1)[:, None], (centres_CD**2).sum(1)
    distances_KC: Vectors = np.maximum(squares_K1 + squares_C - 2 * vectors_KD @ centres_CD.T, 0)
    return distances_KC
