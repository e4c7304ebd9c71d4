"""FVD: Frechet distance of clip features, usually the 400 logits of I3D averaged over time.

Options: ddof (1 divides covariances by N - 1, 0 by N).
"""

from __future__ import annotations

from numpy.typing import ArrayLike

from eval.intervals import Difference
from eval.metrics.distance import Distance, paired_difference, score_distance
from eval.metrics.frechet import frechet, frechet_influence
from eval.protocol import MetricSpec
from eval.registry import metrics
from eval.scoring import Score, ScoreInput


def fvd(fake_ND: ArrayLike, real_ND: ArrayLike, *, ddof: int = 1) -> float:
    """FVD of two sets of clip features (N, D) and (M, D). See `eval.metrics.frechet.frechet` for the arithmetic."""
    return frechet(fake_ND, real_ND, ddof=ddof)


def frechet_of(spec: MetricSpec) -> Distance:
    """The distance that a specification asks for."""
    ddof = int(spec.option("ddof", 1))
    return Distance(
        value=lambda fake, real: frechet(fake, real, ddof=ddof),
        influence=lambda fake, real: frechet_influence(fake, real, ddof=ddof),
        biased=True,
        lowest=0.0,
    )


@metrics.register(
    "fvd",
    "Frechet distance of clip features (I3D)",
    direction="lower",
    label="FVD",
    decimals="1",
    needs="real clips, a video network; more clips than features",
)
def score(spec: MetricSpec, data: ScoreInput) -> Score:
    """FVD with interval, floor and extrapolation. Raises as `score_distance`."""
    return score_distance(spec, data, frechet_of(spec))


def difference(spec: MetricSpec, first: ScoreInput, second: ScoreInput) -> Difference:
    """First minus second generator over shared sample ids."""
    return paired_difference(spec, first, second, frechet_of(spec))
