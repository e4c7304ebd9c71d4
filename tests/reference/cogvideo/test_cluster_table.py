"""The real cluster table of a reference set is, byte for byte, the file that the catalogue vouches for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from cogvideo.weights import WeightStore, load_catalogue


def test_the_stored_table_has_the_published_hash(cogvideo_dir: Path, tmp_path: Path) -> None:
    path = cogvideo_dir / "release_constants" / "cluster_labels.safetensors"
    if not path.is_file():
        pytest.skip("this reference set has no release_constants/cluster_labels.safetensors")
    (labels,) = load_file(path).values()
    sizes = np.bincount(labels.astype(np.int64))
    if (labels.size, sizes.size, sizes.min(), sizes.max()) != (20000, 500, 9, 133):
        pytest.skip("this reference set has another table than the release's (500 clusters of 9 to 133 image tokens)")
    np.save(tmp_path / "labels.npy", labels.astype(np.int64))
    store = WeightStore(load_catalogue(), home=tmp_path / "home", offline=True)
    file = store.add("cogview2-clusters", tmp_path / "labels.npy")
    assert file.is_verified
    assert store.verify("cogview2-clusters").path == file.path
