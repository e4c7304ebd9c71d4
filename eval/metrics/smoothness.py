"""Motion smoothness without a network: how well each frame is the mean of the two beside it.

The definition is our own, in the form of VBench's: there AMT, a network for interpolation, predicts every second frame;
here the mean of both neighbours does, for every frame but the first and the last. Steady slow motion and fades cost
little, jumps, flicker and wrong order cost much; fast motion costs too, which AMT would partly forgive. A frozen clip
scores 1. Shapes: N samples.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from eval.metrics.flickering import score_steadiness, steadiness
from eval.protocol import MetricSpec
from eval.registry import metrics
from eval.scoring import Score, ScoreInput


def motion_smoothness(deviation_N: ArrayLike) -> NDArray[np.float64]:
    """(255 - deviation) / 255 of every clip, (N,), from its mean absolute deviation in levels of 0..255.

    Raises UserError for deviations that are no levels.
    """
    return steadiness(deviation_N)


@metrics.register(
    "motion-smoothness",
    "1 - deviation of frames from the mean of their neighbours (own definition); a frozen clip scores 1",
    direction="higher",
    label="Smoothness",
    decimals="4",
    needs="clips; no network",
)
def score(spec: MetricSpec, data: ScoreInput) -> Score:
    """Motion smoothness of the layer `deviation` of the detector `changes`."""
    return score_steadiness(spec, data)
