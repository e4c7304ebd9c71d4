"""KID of the frames of clips: polynomial MMD of frame features, in subsets or over all pairs.

Options: subsets (100; 0 takes all pairs), subset_size (1000), seed (0), frames as in FID.
"""

from __future__ import annotations

from dataclasses import replace

from eval.intervals import Difference
from eval.metrics.distance import Distance, Rows, paired_difference, score_distance
from eval.metrics.kernel import mmd, mmd_influence, mmd_of_subsets
from eval.protocol import MetricSpec
from eval.registry import metrics
from eval.scoring import Score, ScoreInput


@metrics.register(
    "kid",
    "Kernel distance of frame features (Inception), unbiased",
    direction="lower",
    label="KID",
    decimals="4",
    needs="real clips, a frame network",
)
def score(spec: MetricSpec, data: ScoreInput) -> Score:
    """KID as it is, sign kept; `details` has it times 1000, as StyleGAN's tools print it."""
    scored = score_distance(spec, data, _kid(spec))
    subsets, size = int(spec.option("subsets", 100)), int(spec.option("subset_size", 1000))
    how = f"{subsets} subsets of {size:,} rows" if subsets else "all pairs"
    if subsets and min(int(scored.details["rows_fake"]), int(scored.details["rows_real"])) <= size:
        how = f"all pairs, because a set has no more than {size:,} rows"
    return replace(scored, details={**scored.details, "kid_x1000": scored.value * 1000, "estimator": how})


def difference(spec: MetricSpec, first: ScoreInput, second: ScoreInput) -> Difference:
    """First minus second generator over shared sample ids, over all pairs."""
    return paired_difference(spec, first, second, _kid(spec))


def _kid(spec: MetricSpec) -> Distance:
    subsets, size = int(spec.option("subsets", 100)), int(spec.option("subset_size", 1000))
    seed = int(spec.option("seed", 0))

    def value(fake: Rows, real: Rows) -> float:
        # Subsets as large as a set would all be the set itself.
        if not subsets or min(len(fake), len(real)) <= size:
            return mmd(fake, real)
        return mmd_of_subsets(fake, real, subsets=subsets, size=size, seed=seed)[0]

    return Distance(value=value, influence=mmd_influence, biased=False, quadratic=True)
