"""Every metric as a `torchmetrics.Metric`, for training loops and distributed evaluation; the arithmetic is elsewhere.

States add up or concatenate, in float64, so that any split over batches, shards or ranks gives the same value.
Shapes: B rows of a batch, T frames, D features, K classes, W shards.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from eval.detectors.changes import Changes
from eval.metrics.clipsim import clipsim
from eval.metrics.flickering import steadiness
from eval.metrics.frame_consistency import frame_consistency
from eval.metrics.frechet import frechet, frechet_from_moments
from eval.metrics.inception_score import inception_score, softmax
from eval.metrics.kernel import mmd, mmd_of_subsets
from eval.metrics.moments import Moments, merge_all
from eval.metrics.precision_recall import precision_recall
from eval.metrics.r_precision import r_precision


class FrechetDistance(Metric):
    """FVD, FID or motion distance of the features seen so far.

    `keep_features` False keeps D + D^2 numbers a set, for many more samples than features. True keeps every row,
    which is exact for fewer samples than features too.
    """

    fake: Any
    real: Any
    full_state_update = False
    is_differentiable = False
    higher_is_better = False

    def __init__(self, dim: int, *, ddof: int = 1, keep_features: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.dim, self.ddof, self.keep_features = dim, ddof, keep_features
        for side in ("fake", "real"):
            if keep_features:
                self.add_state(side, default=[], dist_reduce_fx="cat")
            else:
                empty = torch.from_numpy(packed(Moments(dim)))
                self.add_state(side, default=empty, dist_reduce_fx=merge_packed)

    def update(self, features_BD: Tensor, *, real: bool) -> None:
        """Take in a batch of features of real or of generated clips. Raises ValueError if its width is not D."""
        if features_BD.ndim != 2 or features_BD.shape[1] != self.dim:
            raise ValueError(f"expected features of shape (B, {self.dim}), got {tuple(features_BD.shape)}")
        side = "real" if real else "fake"
        if self.keep_features:
            getattr(self, side).append(features_BD.detach())
            return
        state, batch = getattr(self, side), features_BD.detach().to(torch.float64)
        if not len(batch):
            return
        if state[0, 0] == 0:
            state[1] = batch.mean(dim=0)
        shifted = batch - state[1]
        state[0, 0] += len(batch)
        state[2] += shifted.sum(dim=0)
        state[3:] += shifted.T @ shifted

    def compute(self) -> Tensor:
        """The distance, a float64 scalar. Raises UserError for fewer than two samples, ValueError without features."""
        if self.keep_features:
            return _scalar(frechet(_rows(self.fake), _rows(self.real), ddof=self.ddof))
        fake, real = unpacked(_rows(self.fake)), unpacked(_rows(self.real))
        return _scalar(frechet_from_moments(fake, real, ddof=self.ddof))


def packed(moments: Moments) -> NDArray[np.float64]:
    """Moments as one array (D + 3, D): count (in the first place), shift, sum, scatter."""
    count = np.zeros(moments.dim)
    count[0] = moments.n
    return np.vstack([count, moments.shift_D, moments.sum_D, moments.scatter_DD])


def unpacked(state: NDArray[np.generic]) -> Moments:
    """The inverse of `packed`."""
    array = np.asarray(state, dtype=np.float64)
    moments = Moments(array.shape[1])
    moments.n = int(array[0, 0])
    moments.shift_D, moments.sum_D, moments.scatter_DD = array[1], array[2], array[3:]
    return moments


def merge_packed(states: Tensor) -> Tensor:
    """(W, D + 3, D) of W shards -> one, in the shards' order."""
    merged = merge_all(unpacked(state) for state in states.cpu().numpy())
    return torch.from_numpy(packed(merged)).to(states.device)


class _TwoSets(Metric):
    """Keeps the features of both sets."""

    fake: list[Tensor]
    real: list[Tensor]
    full_state_update = False
    is_differentiable = False

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("fake", default=[], dist_reduce_fx="cat")
        self.add_state("real", default=[], dist_reduce_fx="cat")

    def update(self, features_BD: Tensor, *, real: bool) -> None:
        """Take in a batch of features of real or of generated clips."""
        (self.real if real else self.fake).append(features_BD.detach())


class KernelDistance(_TwoSets):
    """KVD, or KID with `subsets` > 0; unbiased."""

    higher_is_better = False

    def __init__(self, *, subsets: int = 0, subset_size: int = 1000, seed: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.subsets, self.subset_size, self.seed = subsets, subset_size, seed

    def compute(self) -> Tensor:
        fake, real = _rows(self.fake), _rows(self.real)
        if self.subsets:
            found = mmd_of_subsets(fake, real, subsets=self.subsets, size=self.subset_size, seed=self.seed)
            return _scalar(found[0])
        return _scalar(mmd(fake, real))


class PrecisionRecall(_TwoSets):
    """Precision, recall, density and coverage, as a dict of scalars."""

    higher_is_better = True

    def __init__(self, *, k: int = 3, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.k = k

    def compute(self) -> dict[str, Tensor]:
        found = precision_recall(_rows(self.fake), _rows(self.real), k=self.k)
        return {name: _scalar(value) for name, value in found.values().items()}


class InceptionScore(Metric):
    """(mean, population standard deviation over splits) of the logits seen so far, in the order they came."""

    logits: list[Tensor]
    full_state_update = False
    is_differentiable = False
    higher_is_better = True

    def __init__(self, *, splits: int = 1, shuffle: int | None = None, eps: float = 0.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.splits, self.shuffle, self.eps = splits, shuffle, eps
        self.add_state("logits", default=[], dist_reduce_fx="cat")

    def update(self, logits_BK: Tensor) -> None:
        self.logits.append(logits_BK.detach())

    def compute(self) -> tuple[Tensor, Tensor]:
        found = inception_score(softmax(_rows(self.logits)), splits=self.splits, shuffle=self.shuffle, eps=self.eps)
        return _scalar(found.mean), _scalar(found.std)


class RPrecision(Metric):
    """Share of videos whose own caption ranks first; the pool is every caption seen, in whatever order."""

    videos: list[Tensor]
    texts: list[Tensor]
    full_state_update = False
    is_differentiable = False
    higher_is_better = True

    def __init__(self, *, candidates: int = 100, seed: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.candidates, self.seed = candidates, seed
        self.add_state("videos", default=[], dist_reduce_fx="cat")
        self.add_state("texts", default=[], dist_reduce_fx="cat")

    def update(self, frames_BTD: Tensor, text_BD: Tensor) -> None:
        self.videos.append(frames_BTD.detach())
        self.texts.append(text_BD.detach())

    def compute(self) -> Tensor:
        first, _ = r_precision(_rows(self.videos), _rows(self.texts), candidates=self.candidates, seed=self.seed)
        return _scalar(float(first.mean()))


class _SampleMean(Metric):
    """Mean over samples of a value that every sample has by itself."""

    total: Tensor
    count: Tensor
    full_state_update = False
    is_differentiable = False
    higher_is_better = True

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("total", default=torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", default=torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def _add(self, values: NDArray[np.float64]) -> None:
        self.total += float(values.sum())
        self.count += len(values)

    def compute(self) -> Tensor:
        """The mean, a float64 scalar; not a number before the first sample."""
        return self.total / self.count


class ClipSimilarity(_SampleMean):
    """CLIPSIM of frame embeddings (B, T, D) with their captions' (B, D)."""

    def update(self, frames_BTD: Tensor, text_BD: Tensor) -> None:
        self._add(clipsim(_array(frames_BTD), _array(text_BD)))


class FrameConsistency(_SampleMean):
    """Mean cosine of neighbouring frames of embeddings (B, T, D)."""

    def update(self, frames_BTD: Tensor) -> None:
        self._add(frame_consistency(_array(frames_BTD)))


class VideoTextSimilarity(_SampleMean):
    """Cosine of clip embeddings (B, D) with their captions' (B, D)."""

    def update(self, clips_BD: Tensor, text_BD: Tensor) -> None:
        if clips_BD.ndim != 2:
            raise ValueError(f"expected one embedding a clip, shape (B, D), got {tuple(clips_BD.shape)}")
        self._add(clipsim(_array(clips_BD), _array(text_BD)))


class _Steadiness(_SampleMean):
    """Of clips (B, C, T, H, W) on 0..255, T at least 3."""

    layer: str

    def update(self, clips_BCTHW: Tensor) -> None:
        if clips_BCTHW.ndim != 5 or clips_BCTHW.shape[2] < 3:
            raise ValueError(f"expected clips (B, C, T, H, W) of 3 frames or more, got {tuple(clips_BCTHW.shape)}")
        self._add(steadiness(_array(Changes()(clips_BCTHW)[self.layer])))


class TemporalFlickering(_Steadiness):
    """VBench's temporal flickering: 1 - mean change of pixels between frames, over 255."""

    layer = "neighbours"


class MotionSmoothness(_Steadiness):
    """1 - deviation of frames from the mean of their neighbours, over 255."""

    layer = "deviation"


def _array(tensor: Tensor) -> NDArray[np.generic]:
    # numpy has no bfloat16; float64 holds every float exactly.
    array: NDArray[np.generic] = tensor.detach().cpu().to(torch.float64).numpy()
    return array


def _rows(state: list[Tensor] | Tensor) -> NDArray[np.generic]:
    cat: Callable[[Any], Tensor] = dim_zero_cat
    return _array(cat(state))


def _scalar(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)
