"""Codes into clusters: against scipy's k-means, clusters known beforehand, and properties of a minimum."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.cluster.vq import kmeans2

from cogvideo.clusters import read_clusters
from cogvideo.config import get_size
from cogvideo.data.cluster_codes import CLUSTERS, cluster_codes, write_clusters
from cogvideo.errors import UserError


def spread(codes, labels):
    """Sum of squared distances from the means."""
    return sum(((codes[labels == c] - codes[labels == c].mean(0)) ** 2).sum() for c in np.unique(labels))


def test_clusters_that_are_far_apart_are_found():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 12, 300)
    codes = rng.normal(size=(12, 8))[truth] * 50 + rng.normal(size=(300, 8))
    labels = cluster_codes(codes, 12, seed=3)
    pairs = set(zip(truth.tolist(), labels.tolist(), strict=True))
    assert len(pairs) == 12


def test_as_good_as_scipys():
    codes = np.random.default_rng(1).normal(size=(512, 16))
    labels = cluster_codes(codes, 64)
    assert sorted(np.unique(labels)) == list(range(64))
    theirs = [kmeans2(codes, 64, minit="++", iter=100, rng=np.random.default_rng(seed))[1] for seed in range(3)]
    assert spread(codes, labels) < 1.02 * min(spread(codes, one) for one in theirs)


def test_no_code_lies_nearer_to_another_centre():
    codes = np.random.default_rng(2).normal(size=(400, 4))
    labels = cluster_codes(codes, 20, rounds=1000)
    centres = np.stack([codes[labels == c].mean(0) for c in range(20)])
    distances = ((codes[:, None] - centres) ** 2).sum(2)
    assert (distances[np.arange(400), labels] <= distances.min(1) + 1e-9).all()


def test_the_same_for_a_seed():
    codes = np.random.default_rng(3).normal(size=(200, 4)).astype(np.float32)
    assert np.array_equal(cluster_codes(codes, 10, seed=1), cluster_codes(codes, 10, seed=1))
    assert not np.array_equal(cluster_codes(codes, 10, seed=1), cluster_codes(codes, 10, seed=2))


@pytest.mark.parametrize("clusters", [1, 5, 30])
def test_none_is_empty_even_with_many_equal_codes(clusters):
    codes = np.zeros((100, 3))
    codes[:29] = np.random.default_rng(4).normal(size=(29, 3))
    labels = cluster_codes(codes, clusters)
    assert len(np.unique(labels)) == clusters
    if clusters == 30:
        assert len(set(labels[29:].tolist())) == 1


def test_refusals():
    with pytest.raises(UserError, match="expected 1 to 3 clusters of 3 different codes, got 4"):
        cluster_codes([[0.0], [1.0], [2.0], [2.0]], 4)
    with pytest.raises(UserError, match="finite"):
        cluster_codes([[0.0], [np.nan]], 1)
    with pytest.raises(UserError, match="finite"):
        cluster_codes([0.0, 1.0], 1)


def test_the_sampler_reads_them(tmp_path):
    tiny = get_size("tiny")
    assert CLUSTERS[tiny.num_image_tokens] == 128
    codes = np.random.default_rng(5).normal(size=(tiny.num_image_tokens, 16))
    labels = cluster_codes(codes, 64, rounds=3)
    write_clusters(tmp_path / "clusters.safetensors", labels)
    table = read_clusters(tmp_path / "clusters.safetensors", tiny, 64)
    assert table.labels.tolist() == labels.tolist()
    assert [path.name for path in tmp_path.iterdir()] == ["clusters.safetensors"]
