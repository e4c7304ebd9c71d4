"""Cluster tables: what they hold, where they are read from, and what is refused."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from cogvideo.clusters import RELEASE_TABLE, automatic_clusters, cluster_table, read_clusters, release_clusters
from cogvideo.config import SIZES
from cogvideo.errors import MissingPrerequisite, UserError
from cogvideo.weights.catalogue import load_catalogue
from cogvideo.weights.store import WeightStore

TINY = SIZES["tiny"]


def test_members_are_the_labels_the_other_way_round():
    labels = torch.randint(0, 7, (50,), generator=torch.Generator().manual_seed(0))
    table = cluster_table(labels, num_clusters=9)
    assert (table.num_tokens, table.num_clusters) == (50, 9)
    for cluster in range(9):
        row = table.members[cluster]
        tokens = row[row < 50].tolist()
        assert tokens == [token for token in range(50) if labels[token] == cluster]
        assert (row[len(tokens) :] == 50).all()
    assert torch.equal(table.to("cpu").labels, labels)


@pytest.mark.parametrize("suffix", [".npy", ".safetensors"])
def test_read(suffix, tmp_path):
    labels = np.arange(TINY.num_image_tokens) % 12
    path = tmp_path / f"labels{suffix}"
    np.save(path, labels) if suffix == ".npy" else save_file({"labels": labels}, path)
    table = read_clusters(path, TINY, 500)
    assert table.num_clusters == 500
    assert table.labels.tolist() == labels.tolist()


@pytest.mark.parametrize(
    ("labels", "count", "message"),
    [
        (np.zeros(5, np.int64), None, "expected 1,024 labels, one for each image token of size tiny, got 5"),
        (np.zeros(1024), None, "expected a row of integer labels, got float64"),
        (np.zeros((1024, 1), int), None, r"expected a row of integer labels, got int64 of shape \(1024, 1\)"),
        (np.full(1024, 12), 12, "expected labels from 0 to 11, got 12 to 12"),
        (np.full(1024, -1), None, "got -1 to -1"),
    ],
)
def test_refused(labels, count, message):
    with pytest.raises(UserError, match=message):
        cluster_table(labels, count, TINY)


@pytest.mark.parametrize("content", [b"", b"no array at all", b"\x93NUMPY\x01\x00"])
@pytest.mark.parametrize("suffix", [".npy", ".safetensors"])
def test_broken_files_are_one_line(content, suffix, tmp_path):
    path = tmp_path / f"labels{suffix}"
    path.write_bytes(content)
    with pytest.raises(UserError, match=f"cannot read cluster labels from {path}") as caught:
        read_clusters(path, TINY)
    assert "\n" not in str(caught.value)


def test_safetensors_without_labels(tmp_path):
    path = tmp_path / "other.safetensors"
    save_file({"something": np.zeros(3)}, path)
    with pytest.raises(UserError, match="it has no tensor `labels`"):
        read_clusters(path)


def test_pickles_are_not_loaded(tmp_path):
    path = tmp_path / "labels.npy"
    np.save(path, np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(UserError, match="cannot read cluster labels"):
        read_clusters(path)


def test_release_table_comes_from_the_store(tmp_path):
    labels = np.arange(20_000) % 499
    source = tmp_path / "labels.npy"
    np.save(source, labels)
    entry = load_catalogue()[RELEASE_TABLE]
    known = replace(entry, sha256=hashlib.sha256(source.read_bytes()).hexdigest())
    store = WeightStore({RELEASE_TABLE: known}, home=tmp_path / "home", offline=True)
    with pytest.raises(MissingPrerequisite, match="cogeval weights fetch cogview2-clusters"):
        release_clusters(SIZES["release"], store)
    store.add(RELEASE_TABLE, source)
    table = release_clusters(SIZES["release"], store)
    assert (table.num_tokens, table.num_clusters) == (20_000, 500)
    with pytest.raises(UserError, match="expected 1,024 labels"):
        release_clusters(TINY, store)
    strict = WeightStore({RELEASE_TABLE: entry}, home=tmp_path / "home", offline=True)
    with pytest.raises(UserError, match=f"published is {entry.sha256}"):
        release_clusters(SIZES["release"], strict)


@pytest.mark.parametrize("count", [1, 32, 500, 1000])
def test_automatic(count):
    table = automatic_clusters(TINY, count)
    assert table.num_clusters == min(count, 1024)
    assert (table.labels.diff() >= 0).all()
    sizes = torch.bincount(table.labels)
    assert sizes.min() >= 1
    assert sizes.max() - sizes.min() <= 1
