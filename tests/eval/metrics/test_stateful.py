"""The torchmetrics classes: any batches, shards and ranks give the value of the pure function."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch

from eval.metrics.clipsim import clipsim
from eval.metrics.frame_consistency import frame_consistency
from eval.metrics.frechet import frechet
from eval.metrics.inception_score import inception_score, softmax
from eval.metrics.kernel import mmd, mmd_of_subsets
from eval.metrics.precision_recall import precision_recall
from eval.metrics.r_precision import r_precision
from eval.metrics.stateful import (
    ClipSimilarity,
    FrameConsistency,
    FrechetDistance,
    InceptionScore,
    KernelDistance,
    MotionSmoothness,
    PrecisionRecall,
    RPrecision,
    TemporalFlickering,
    VideoTextSimilarity,
)

D = 6
RNG = np.random.default_rng(0)
FAKE = (RNG.standard_normal((60, D)) * 1.3 + 20).astype(np.float32)
REAL = (RNG.standard_normal((60, D)) + 20).astype(np.float32)
FRAMES = RNG.standard_normal((60, 4, D)).astype(np.float32)
CLIPS = torch.from_numpy(RNG.integers(0, 256, (60, 3, 4, 5, 5))).float()
TEXT = RNG.standard_normal((60, D)).astype(np.float32)


def two_sets(metric, rows):
    metric.update(torch.from_numpy(FAKE[rows]), real=False)
    metric.update(torch.from_numpy(REAL[rows]), real=True)


def frames_and_text(metric, rows):
    metric.update(torch.from_numpy(FRAMES[rows]), torch.from_numpy(TEXT[rows]))


# name -> (how to make it, how to feed rows of it, the value of the pure function, whether order changes the value)
CASES = {
    "moments": (lambda: FrechetDistance(D), two_sets, lambda: frechet(FAKE, REAL)),
    "features": (lambda: FrechetDistance(D, ddof=0, keep_features=True), two_sets, lambda: frechet(FAKE, REAL, ddof=0)),
    "kernel": (KernelDistance, two_sets, lambda: mmd(FAKE, REAL)),
    "precision": (PrecisionRecall, two_sets, lambda: precision_recall(FAKE, REAL).values()),
    "inception": (
        InceptionScore,
        lambda metric, rows: metric.update(torch.from_numpy(FAKE[rows])),
        lambda: inception_score(softmax(FAKE)).mean,
    ),
    "clipsim": (ClipSimilarity, frames_and_text, lambda: clipsim(FRAMES, TEXT).mean()),
    "r-precision": (
        lambda: RPrecision(candidates=4),
        frames_and_text,
        lambda: r_precision(FRAMES, TEXT, candidates=4)[0].mean(),
    ),
    "video-text": (
        VideoTextSimilarity,
        lambda metric, rows: metric.update(torch.from_numpy(FAKE[rows]), torch.from_numpy(TEXT[rows])),
        lambda: clipsim(FAKE, TEXT).mean(),
    ),
    "flickering": (
        TemporalFlickering,
        lambda metric, rows: metric.update(CLIPS[rows]),
        lambda: 1 - CLIPS.diff(dim=2).abs().double().mean().item() / 255,
    ),
    "smoothness": (
        MotionSmoothness,
        lambda metric, rows: metric.update(CLIPS[rows]),
        lambda: 1 - CLIPS.diff(n=2, dim=2).abs().double().mean().item() / 2 / 255,
    ),
    "consistency": (
        FrameConsistency,
        lambda metric, rows: metric.update(torch.from_numpy(FRAMES[rows])),
        lambda: frame_consistency(FRAMES).mean(),
    ),
}
SPLITS = [[60], [30, 60], [1, 8, 9, 60], [*range(7, 60, 7), 60]]
# Kernel values of 1e7 are subtracted from each other, which leaves nine digits.
CLOSE = 1e-9


def shards(edges):
    start = 0
    for stop in edges:
        yield slice(start, stop)
        start = stop


def value_of(metric):
    found = metric.compute()
    if isinstance(found, dict):
        return {name: value.item() for name, value in found.items()}
    found = found[0] if isinstance(found, tuple) else found
    assert found.dtype == torch.float64
    return found.item()


@pytest.mark.parametrize("edges", SPLITS, ids=str)
@pytest.mark.parametrize("name", CASES)
def test_batches(name, edges):
    make, feed, pure = CASES[name]
    metric = make()
    for rows in shards(edges):
        feed(metric, rows)
    assert value_of(metric) == pytest.approx(pure(), rel=CLOSE)


@pytest.mark.parametrize("edges", SPLITS, ids=str)
@pytest.mark.parametrize("name", CASES)
def test_merge_state(name, edges):
    """One metric a shard, merged one after the other."""
    make, feed, pure = CASES[name]
    first, *others = [make() for _ in edges]
    for metric, rows in zip([first, *others], shards(edges), strict=True):
        feed(metric, rows)
    for other in others:
        first.merge_state(other)
    assert value_of(first) == pytest.approx(pure(), rel=CLOSE)


@pytest.mark.parametrize("name", CASES)
def test_merged_metric_takes_more(name):
    make, feed, pure = CASES[name]
    first, second = make(), make()
    feed(first, slice(0, 20))
    feed(second, slice(20, 45))
    first.merge_state(second)
    feed(first, slice(45, 60))
    assert value_of(first) == pytest.approx(pure(), rel=CLOSE)


@pytest.mark.parametrize("name", CASES)
def test_ranks(name):
    """Three ranks of unequal size: each state is gathered as torch.distributed would, in rank order."""
    make, feed, pure = CASES[name]
    ranks = []
    for rows in shards([10, 35, 60]):
        ranks.append(make())
        feed(ranks[-1], rows)
    states = [rank.metric_state for rank in ranks]
    flat = [
        [state for value in state.values() for state in ([torch.cat(value)] if isinstance(value, list) else [value])]
        for state in states
    ]
    turn = iter(range(len(flat[0])))

    def gather(_local, group=None):
        position = next(turn)
        return [state[position] for state in flat]

    metric = copy.deepcopy(ranks[1])
    metric.dist_sync_fn, metric.distributed_available_fn = gather, lambda: True
    assert value_of(metric) == pytest.approx(pure(), rel=CLOSE)
    # Afterwards a rank has its own share again.
    assert sum(value.numel() for value in _tensors(metric)) == sum(value.numel() for value in _tensors(ranks[1]))


def _tensors(metric):
    for value in metric.metric_state.values():
        yield from value if isinstance(value, list) else [value]


@pytest.mark.parametrize("name", CASES)
def test_reset_and_pickle(name):
    make, feed, pure = CASES[name]
    metric = make()
    feed(metric, slice(0, 60))
    metric.reset()
    feed(metric, slice(0, 60))
    assert value_of(pickle.loads(pickle.dumps(metric))) == pytest.approx(pure(), rel=CLOSE)


def test_state_of_moments_does_not_grow():
    metric = FrechetDistance(D)
    for _ in range(10):
        two_sets(metric, slice(0, 60))
    assert {tuple(value.shape) for value in metric.metric_state.values()} == {(D + 3, D)}
    assert all(value.dtype == torch.float64 for value in metric.metric_state.values())


def test_moments_survive_an_offset():
    metric = FrechetDistance(D)
    for rows in (slice(0, 25), slice(25, 60)):
        metric.update(torch.from_numpy(FAKE[rows].astype(np.float64) + 1024), real=False)
        metric.update(torch.from_numpy(REAL[rows].astype(np.float64) + 1024), real=True)
    assert metric.compute().item() == pytest.approx(frechet(FAKE, REAL), rel=1e-10)


def test_low_precision_input_is_taken_as_it_is():
    half = torch.from_numpy(FRAMES).to(torch.bfloat16)
    metric = FrameConsistency()
    metric.update(half)
    assert metric.compute().item() == pytest.approx(frame_consistency(half.float().numpy()).mean(), rel=1e-12)


def test_kid_in_subsets():
    metric = KernelDistance(subsets=5, subset_size=20, seed=3)
    two_sets(metric, slice(0, 60))
    assert value_of(metric) == mmd_of_subsets(FAKE, REAL, subsets=5, size=20, seed=3)[0]


def test_wrong_width_is_refused():
    with pytest.raises(ValueError, match=r"shape \(B, 6\), got \(4, 5\)"):
        FrechetDistance(D).update(torch.zeros(4, 5), real=True)
