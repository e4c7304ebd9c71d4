"""Quality of each video with raters modelled: ITU-T P.910 Annex E (bias and inconsistency) and P.913 (bias removed).

Shapes: R raters, U units (item and model). A score is quality of the unit + bias of the rater + noise, whose size is
the rater's inconsistency.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from human_eval.analysis.resampling import Floats

ROUNDS = 2000
STOP = 1e-9
LEAST_INCONSISTENCY = 1e-3
COLLAPSED = 1e-2


@dataclass(frozen=True)
class RaterModel:
    """Quality and its standard error by unit; bias (mean zero over raters) and inconsistency by rater.

    `corrected`: plain likelihood ran off to one rater, and inconsistencies are those freed of the fit.
    """

    quality: Floats
    quality_se: Floats
    bias: Floats
    inconsistency: Floats
    rounds: int
    converged: bool
    corrected: bool = False


def p910(scores_RU: ArrayLike) -> RaterModel:
    """Maximum likelihood of the model by turns: qualities, biases, inconsistencies, until nothing moves.

    The likelihood has no limit where one rater is taken as free of noise and all qualities as that rater's scores. If
    the turns run there, they start again with inconsistencies freed of the fit: each rater's squares are divided by
    one minus the rater's share of the weight. Units or raters without a score are NaN.
    """
    plain = _by_turns(scores_RU, correct=False)
    return _by_turns(scores_RU, correct=True) if (plain.inconsistency <= COLLAPSED).any() else plain


def _by_turns(scores_RU: ArrayLike, correct: bool) -> RaterModel:
    x_RU = np.asarray(scores_RU, dtype=float)
    seen = np.isfinite(x_RU)
    filled = np.where(seen, x_RU, 0.0)
    per_rater = np.maximum(seen.sum(1), 1)
    quality, bias = _start(filled, seen)
    inconsistency = np.full(len(x_RU), np.nan)
    free = seen.astype(float)
    rounds, moved = 0, np.inf
    while rounds < ROUNDS and moved > STOP:
        rest = np.where(seen, filled - quality - bias[:, None], 0.0)
        spread = np.sqrt((rest**2).sum(1) / np.maximum(free.sum(1), 1e-9))
        inconsistency = np.maximum(spread, LEAST_INCONSISTENCY)
        weight = seen / inconsistency[:, None] ** 2
        share = weight / np.maximum(weight.sum(0), 1e-300)
        free = seen - share if correct else free
        new = ((filled - bias[:, None]) * share).sum(0)
        new_bias = np.where(seen, filled - new, 0.0).sum(1) / per_rater
        shift = new_bias[seen.any(1)].mean() if seen.any() else 0.0
        new, new_bias = new + shift, new_bias - shift
        moved = float(max(np.abs(new - quality).max(initial=0), np.abs(new_bias - bias).max(initial=0)))
        quality, bias = new, new_bias
        rounds += 1
    information = (seen / inconsistency[:, None] ** 2).sum(0)
    se = np.divide(1.0, np.sqrt(information), out=np.full(len(quality), np.nan), where=information > 0)
    rated, rates = seen.any(0), seen.any(1)
    return RaterModel(
        np.where(rated, quality, np.nan),
        se,
        np.where(rates, bias, np.nan),
        np.where(rates, inconsistency, np.nan),
        rounds,
        moved <= STOP,
        correct,
    )


def p913(scores_RU: ArrayLike) -> tuple[Floats, Floats]:
    """(U,) mean scores without each rater's bias, and (R,) the biases: mean distance from the units' means."""
    x_RU = np.asarray(scores_RU, dtype=float)
    seen = np.isfinite(x_RU)
    filled = np.where(seen, x_RU, 0.0)
    _, bias = _start(filled, seen)
    n = seen.sum(0)
    total = np.where(seen, filled - bias[:, None], 0.0).sum(0)
    return np.divide(total, n, out=np.full(len(n), np.nan), where=n > 0), np.where(seen.any(1), bias, np.nan)


def _start(filled: Floats, seen: np.ndarray) -> tuple[Floats, Floats]:
    mean = filled.sum(0) / np.maximum(seen.sum(0), 1)
    bias = np.where(seen, filled - mean, 0.0).sum(1) / np.maximum(seen.sum(1), 1)
    return mean, bias
