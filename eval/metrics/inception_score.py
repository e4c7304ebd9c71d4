"""Inception Score from the logits of a classifier, usually C3D fine-tuned on UCF-101, in both estimators in use.

Shapes: N samples, K classes, R bootstrap replicates. Options: splits, shuffle (seed of RandomState, as StyleGAN-V),
runs and per_run (TGANv2: independent sets of samples, one score each), eps (added inside the logarithm).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cogvideo.errors import UserError
from eval.influence import influences
from eval.intervals import LEVEL, Difference, bootstrap_counts, centred, group_codes
from eval.metrics.distance import first_of
from eval.metrics.features import as_features, by_id, checked
from eval.protocol import MetricSpec
from eval.registry import metrics
from eval.scoring import FeatureSet, Interval, Score, ScoreInput

Floats = NDArray[np.float64]
PER_RUN = 2048


@dataclass(frozen=True)
class InceptionScore:
    """Mean and population standard deviation over splits or runs. The deviation is no error bar of the mean."""

    mean: float
    std: float
    parts: tuple[float, ...]


def softmax(logits_NK: ArrayLike) -> Floats:
    """Probabilities in float64, rows sum to one."""
    logits = np.asarray(logits_NK, dtype=np.float64)
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def inception_score(
    probs_NK: ArrayLike, *, splits: int = 1, shuffle: int | None = None, eps: float = 0.0
) -> InceptionScore:
    """exp(mean KL(p(y|x) || p(y))) of each split of the rows, rows i*N//splits to (i+1)*N//splits.

    Shapes: (N, K) probabilities. `shuffle`: rows are first put in the order of numpy's RandomState(shuffle).shuffle.
    `eps` is added to both probabilities inside the logarithm (TGANv2: 1e-20); a class of probability zero counts
    nothing even without it.
    Raises UserError for fewer rows than splits and for values that are not finite.
    Source: Salimans et al. 2016; pfnet-research/tgan2 (1 split); universome/stylegan-v (10 splits, seed 42).
    """
    probs = as_features(probs_NK, "probability").astype(np.float64)
    if len(probs) < splits or splits < 1:
        raise UserError(f"an Inception Score in {splits} splits needs at least as many samples, got {len(probs)}")
    rows = _order(len(probs), shuffle)
    blocks = [rows[i * len(rows) // splits : (i + 1) * len(rows) // splits] for i in range(splits)]
    return _over_blocks(probs, blocks, eps)


@metrics.register(
    "inception-score",
    "Inception Score of clip logits (C3D)",
    direction="higher",
    label="IS",
    decimals="2",
    needs="a network that classifies clips",
)
def score(spec: MetricSpec, data: ScoreInput) -> Score:
    """IS with a bootstrap interval over samples, and the score of held-out real clips at the same n beside it."""
    fake = first_of(checked(data.fake, "fake"), spec.n_fake)
    probs = softmax(as_features(fake.values, "logit", fake.ids))
    eps = float(spec.option("eps", 0.0))
    blocks, notes = _blocks(spec, len(fake))
    found = _over_blocks(probs, blocks, eps)
    interval, interval_note = _interval(probs, blocks, eps, found.mean, fake.groups, data)
    floor, floor_note = _of_heldout(spec, data.heldout, len(fake), eps)
    facts = list(notes)
    if spec.n_fake and len(fake) < spec.n_fake:
        facts.append(f"{len(fake):,} generated clips where the protocol says {spec.n_fake:,}")
    smallest = min(len(block) for block in blocks)
    if smallest < 10 * probs.shape[1]:
        facts.append(
            f"{smallest:,} samples a score for {probs.shape[1]:,} classes: biased low; compare at equal n only"
        )
    return Score(
        value=found.mean,
        n_fake=len(fake),
        interval=interval,
        interval_note=interval_note,
        floor=floor,
        floor_note=floor_note,
        influence=influences(fake.ids, _influence(probs, blocks, eps), np.zeros(0), (), ()),
        details={
            "classes": probs.shape[1],
            "scores": len(found.parts),
            "std_over_scores": found.std,
            "std_note": "scatter of splits or runs, not an error bar",
        },
        warnings=tuple(facts),
    )


def difference(spec: MetricSpec, first: ScoreInput, second: ScoreInput) -> Difference:
    """First minus second generator over shared sample ids, which both sides draw alike in every replicate.

    Raises UserError if fewer than two ids are shared.
    """
    sides = [first_of(checked(side.fake, "fake"), spec.n_fake) for side in (first, second)]
    shared = sorted(set(sides[0].ids) & set(sides[1].ids))
    if len(shared) < 2:
        raise UserError(
            f"{spec.id}: a paired difference needs samples with the same ids; these runs share {len(shared)}"
        )
    eps = float(spec.option("eps", 0.0))
    blocks, _ = _blocks(spec, len(shared))
    groups = by_id(sides[0], shared).groups
    probs = [softmax(by_id(side, shared).values) for side in sides]
    value = _over_blocks(probs[0], blocks, eps).mean - _over_blocks(probs[1], blocks, eps).mean
    replicates = [_replicates(each, blocks, eps, groups, first) for each in probs]
    low, high = centred(value, replicates[0] - replicates[1])
    method = f"paired bootstrap over {len(shared):,} ids, centred, {first.replicates:,} replicates"
    return Difference(value, low, high, len(shared), LEVEL, method)


def _order(n: int, shuffle: int | None) -> NDArray[np.int64]:
    rows = np.arange(n)
    if shuffle is not None:
        # The legacy generator is frozen by numpy, and StyleGAN-V's order is part of its definition.
        np.random.RandomState(shuffle).shuffle(rows)
    return rows


def _blocks(spec: MetricSpec, n: int) -> tuple[list[NDArray[np.int64]], list[str]]:
    """Rows of each single score, and what differs from the specification."""
    splits, runs = int(spec.option("splits", 1)), int(spec.option("runs", 1))
    shuffle = spec.option("shuffle")
    notes = []
    per_run = n
    if runs > 1:
        per_run = int(spec.option("per_run", PER_RUN))
        possible = n // per_run
        if possible < runs:
            notes.append(f"{max(possible, 1)} of {runs} runs of {per_run:,} samples, because there are {n:,} samples")
        runs = min(runs, max(possible, 1))
        per_run = min(per_run, n)
    if per_run < splits:
        raise UserError(f"{spec.id} needs at least {splits} samples for its {splits} splits, got {n}")
    order = _order(n, shuffle)
    blocks = []
    for run in range(runs):
        rows = order[run * per_run : (run + 1) * per_run]
        blocks += [rows[i * len(rows) // splits : (i + 1) * len(rows) // splits] for i in range(splits)]
    return blocks, notes


def _over_blocks(probs_NK: Floats, blocks: list[NDArray[np.int64]], eps: float) -> InceptionScore:
    parts = []
    for rows in blocks:
        probs = probs_NK[rows]
        marginal = probs.mean(axis=0)
        parts.append(math.exp(float((probs * (_log(probs, eps) - _log(marginal, eps))).sum(axis=1).mean())))
    return InceptionScore(float(np.mean(parts)), float(np.std(parts)), tuple(parts))


def _log(probs: Floats, eps: float) -> Floats:
    """log(p + eps), and 0 where that is log 0: the term it stands in is p log p = 0."""
    shifted = probs + eps
    return np.log(np.where(shifted > 0, shifted, 1.0))


def _interval(
    probs_NK: Floats,
    blocks: list[NDArray[np.int64]],
    eps: float,
    value: float,
    groups: tuple[str, ...],
    data: ScoreInput,
) -> tuple[Interval | None, str]:
    """Bootstrap within every split or run. Drawing again biases IS further down, so only the spread is used."""
    if min(group_codes(np.asarray(groups)[rows])[1] for rows in blocks) < 2:
        return None, "fewer than two independent samples a score"
    low, high = centred(value, _replicates(probs_NK, blocks, eps, groups, data))
    return Interval(low, high, LEVEL, f"bootstrap over samples, centred, {data.replicates:,} replicates"), ""


def _replicates(
    probs_NK: Floats, blocks: list[NDArray[np.int64]], eps: float, groups: tuple[str, ...], data: ScoreInput
) -> Floats:
    """The score of every replicate, (R,); the same groups and seed give the same draws."""
    replicates = np.zeros(data.replicates)
    for number, rows in enumerate(blocks):
        probs = probs_NK[rows]
        counts = bootstrap_counts(np.asarray(groups)[rows], data.replicates, data.seed, f"is/{number}")
        shares = counts / counts.sum(axis=1, keepdims=True)
        marginals = shares @ probs
        own = shares @ (probs * _log(probs, eps)).sum(axis=1)
        replicates += np.exp(own - (marginals * _log(marginals, eps)).sum(axis=1)) / len(blocks)
    return replicates


def _influence(probs_NK: Floats, blocks: list[NDArray[np.int64]], eps: float) -> Floats:
    """(N,) influence values: exp(mean KL) times a row's KL less its mean; the marginal's own share of it cancels."""
    influence = np.zeros(len(probs_NK))
    for rows in blocks:
        probs = probs_NK[rows]
        divergence = (probs * (_log(probs, eps) - _log(probs.mean(axis=0), eps))).sum(axis=1)
        score_of_block = math.exp(float(divergence.mean()))
        share = len(probs_NK) / len(rows) / len(blocks)
        influence[rows] += share * score_of_block * (divergence - divergence.mean())
    return influence


def _of_heldout(spec: MetricSpec, heldout: FeatureSet | None, n: int, eps: float) -> tuple[float | None, str]:
    if heldout is None or not len(heldout):
        return None, "no held-out real clips"
    real = first_of(checked(heldout, "held-out real"), n)
    if len(real) < int(spec.option("splits", 1)):
        return None, f"{len(real)} held-out real clips are too few"
    value = _over_blocks(softmax(real.values), _blocks(spec, len(real))[0], eps).mean
    fewer = f", fewer than the {n:,} generated ones" if len(real) < n else ""
    return value, f"{len(real):,} held-out real clips{fewer}"
