"""Motion distance: Fréchet distance of histograms of velocity and acceleration of tracked points, in FVMD's manner.

FVMD tracks with PIPs++, a network; here optical flow without a network does (`eval/detectors/tracks.py`), and
acceleration is the change of velocity, as in the paper. (fvmd 1.0.0 hands trajectories to the function that expects
velocities, so that its second histogram holds velocities again.) No published FVMD may stand beside it.
Options: ddof (1 divides covariances by N - 1, 0 by N).
"""

from __future__ import annotations

from eval.intervals import Difference
from eval.metrics.distance import paired_difference, score_distance
from eval.metrics.fvd import frechet_of
from eval.protocol import MetricSpec
from eval.registry import metrics
from eval.scoring import Score, ScoreInput


@metrics.register(
    "motion-distance",
    "Frechet distance of histograms of tracked motion, FVMD's with optical flow",
    direction="lower",
    label="Motion distance",
    decimals="0",
    needs="real clips, 16 frames; no network; more clips than the 64 or 1,024 features",
)
def score(spec: MetricSpec, data: ScoreInput) -> Score:
    """Motion distance with interval, floor and extrapolation. Raises as `score_distance`."""
    return score_distance(spec, data, frechet_of(spec))


def difference(spec: MetricSpec, first: ScoreInput, second: ScoreInput) -> Difference:
    """First minus second generator over shared sample ids."""
    return paired_difference(spec, first, second, frechet_of(spec))
