"""Which cluster each image token belongs to: tokens that decode to similar patches, drawn together by the sampler.

Shapes: V image tokens, C clusters, M tokens of the largest cluster.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from safetensors import SafetensorError
from torch import Tensor

from cogvideo.config import ModelConfig
from cogvideo.errors import UserError
from cogvideo.weights.catalogue import load_catalogue
from cogvideo.weights.store import WeightStore

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

RELEASE_CLUSTERS = 500
RELEASE_TABLE = "cogview2-clusters"


@dataclass(frozen=True, eq=False)
class ClusterTable:
    """`labels` (V,) of the image tokens, and `members` (C, M): the tokens of each cluster; see `cluster_table`.

    Tokens stand in ascending order, padded with V at the end of the row.
    """

    labels: Tensor
    members: Tensor

    @property
    def num_tokens(self) -> int:
        return self.labels.shape[0]

    @property
    def num_clusters(self) -> int:
        return self.members.shape[0]

    def to(self, device: torch.device | str) -> ClusterTable:
        """The same table on a device."""
        return ClusterTable(self.labels.to(device), self.members.to(device))


def cluster_table(
    labels: ArrayLike | Tensor,
    num_clusters: int | None = None,
    config: ModelConfig | None = None,
    source: str = "the cluster table",
) -> ClusterTable:
    """A table from one label per image token. Clusters that no label uses are empty and are never drawn.

    `num_clusters` None means as many as the labels need. Raises UserError, naming `source`, for labels that are not
    integers in a row, that are out of range, or that are not one per image token of `config`.
    """
    array = labels.cpu().numpy() if isinstance(labels, Tensor) else np.asarray(labels)
    if array.ndim != 1 or array.size == 0 or array.dtype.kind not in "iu":
        raise UserError(f"{source}: expected a row of integer labels, got {array.dtype} of shape {array.shape}")
    if config is not None and array.size != config.num_image_tokens:
        size = f" of size {config.name}" if config.name else ""
        raise UserError(
            f"{source}: expected {config.num_image_tokens:,} labels, one for each image token{size}, "
            f"got {array.size:,}; use the table that came with these weights"
        )
    lowest, highest = int(array.min()), int(array.max())
    count = highest + 1 if num_clusters is None else num_clusters
    if lowest < 0 or highest >= count:
        raise UserError(f"{source}: expected labels from 0 to {count - 1}, got {lowest} to {highest}")
    order = np.argsort(array, kind="stable")
    sizes = np.bincount(array, minlength=count)
    within = np.arange(array.size) - np.repeat(sizes.cumsum() - sizes, sizes)
    members = np.full((count, sizes.max()), array.size, np.int64)
    members[array[order], within] = order
    return ClusterTable(torch.from_numpy(array.astype(np.int64)), torch.from_numpy(members))


def release_clusters(config: ModelConfig, store: WeightStore | None = None) -> ClusterTable:
    """The 500 clusters of CogView2 and CogVideo, from the weight store, which checks the file's sha256.

    Raises MissingPrerequisite with the command that fetches it, UserError if it does not fit `config`.
    """
    store = store or WeightStore(load_catalogue())
    return read_clusters(store.get(RELEASE_TABLE).path, config, RELEASE_CLUSTERS)


def read_clusters(path: Path, config: ModelConfig | None = None, num_clusters: int | None = None) -> ClusterTable:
    """A table from a `.npy` file of labels, or from the tensor `labels` of a `.safetensors` file.

    Raises UserError if the file cannot be read or does not fit `config`.
    """
    try:
        if path.suffix == ".safetensors":
            from safetensors.numpy import load_file

            labels = load_file(path)["labels"]
        else:
            labels = np.load(path, allow_pickle=False)
    except (OSError, ValueError, KeyError, EOFError, SafetensorError) as error:
        reason = "it has no tensor `labels`" if isinstance(error, KeyError) else str(error)
        raise UserError(f"cannot read cluster labels from {path}: {reason}") from None
    return cluster_table(labels, num_clusters, config, str(path))


def automatic_clusters(config: ModelConfig, num_clusters: int = 32) -> ClusterTable:
    """Runs of neighbouring token ids as clusters, for sizes that come with no table, such as random weights.

    Neighbouring ids need not look alike, so this is no cluster of meaning: it makes the sampler run, no more.
    """
    count = min(num_clusters, config.num_image_tokens)
    labels = np.arange(config.num_image_tokens) * count // config.num_image_tokens
    return cluster_table(labels, count, config)
