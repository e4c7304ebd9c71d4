"""FID of the frames of clips: Frechet distance of frame features, usually the 2048 of the TF-ported Inception.

Options: frames ("pooled": every frame is a row; "mean": features averaged over a clip; "first"), ddof.
"""

from __future__ import annotations

from eval.intervals import Difference
from eval.metrics.distance import paired_difference, score_distance
from eval.metrics.fvd import frechet_of
from eval.protocol import MetricSpec
from eval.registry import metrics
from eval.scoring import Score, ScoreInput


@metrics.register(
    "fid",
    "Frechet distance of frame features (Inception)",
    direction="lower",
    label="FID",
    decimals="2",
    needs="real clips, a frame network",
)
def score(spec: MetricSpec, data: ScoreInput) -> Score:
    """FID with interval, floor and extrapolation; n counts clips, whose frames move together in the interval."""
    return score_distance(spec, data, frechet_of(spec))


def difference(spec: MetricSpec, first: ScoreInput, second: ScoreInput) -> Difference:
    """First minus second generator over shared sample ids."""
    return paired_difference(spec, first, second, frechet_of(spec))
