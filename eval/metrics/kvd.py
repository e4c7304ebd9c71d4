"""KVD: unbiased polynomial MMD of clip features (degree 3, gamma 1/D, coef 1), over all pairs, no subsets."""

from __future__ import annotations

from eval.intervals import Difference
from eval.metrics.distance import Distance, paired_difference, score_distance
from eval.metrics.kernel import mmd, mmd_influence
from eval.protocol import MetricSpec
from eval.registry import metrics
from eval.scoring import Score, ScoreInput

KVD = Distance(value=mmd, influence=mmd_influence, biased=False, quadratic=True)


@metrics.register(
    "kvd",
    "Kernel distance of clip features (I3D), unbiased",
    direction="lower",
    label="KVD",
    decimals="2",
    needs="real clips, a video network",
)
def score(spec: MetricSpec, data: ScoreInput) -> Score:
    """KVD with interval and floor. It may be negative, and has no bias to extrapolate away."""
    return score_distance(spec, data, KVD)


def difference(spec: MetricSpec, first: ScoreInput, second: ScoreInput) -> Difference:
    """First minus second generator over shared sample ids."""
    return paired_difference(spec, first, second, KVD)
