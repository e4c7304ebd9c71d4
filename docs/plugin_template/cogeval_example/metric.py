"""A metric of features: the squared distance between the means of the two sets."""

import numpy as np

from eval.protocol import MetricSpec
from eval.registry import metrics
from eval.scoring import Score, ScoreInput


# `features` names the metric of a protocol whose network this one reads; `label` and `decimals` are for tables.
@metrics.register(
    "mean-gap",
    "squared distance of the feature means",
    direction="lower",
    label="Mean gap",
    decimals="3",
    features="fvd",
)
def score(spec: MetricSpec, data: ScoreInput) -> Score:
    """Squared Euclidean distance of the means, in float64."""
    if data.real is None:
        return Score(float("nan"), n_fake=len(data.fake), interval_note="no real clips to compare with")
    gap = data.fake.values.mean(0, dtype=np.float64) - data.real.values.mean(0, dtype=np.float64)
    return Score(
        float(gap @ gap),
        n_fake=len(data.fake),
        n_real=len(data.real),
        interval_note="this example has none",
        floor_note="this example has none",
    )
