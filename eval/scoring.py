"""What a metric is handed and what it gives back. numpy only.

Shapes: N samples, D features, T frames.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from eval.influence import Influences

Features = NDArray[np.float32]


@dataclass(frozen=True)
class FeatureSet:
    """Features of clips in id order: `values` is (N, D) for video networks and text, (N, T, D) for frame networks.

    `groups` are the units of the bootstrap: the source video of each real clip, the sample id of each fake one.
    """

    ids: tuple[str, ...]
    groups: tuple[str, ...]
    labels: tuple[str, ...]
    values: Features

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class ScoreInput:
    """Everything that a metric may look at.

    `real` is the reference set; `heldout` are other real clips, from other videos, from which the floor is computed
    (real against real at the number of the fakes). `real_text` and `fake_text` (N, D) are the captions' embeddings.
    Settings: `replicates` of the bootstrap and its `seed`.
    """

    fake: FeatureSet
    real: FeatureSet | None = None
    heldout: FeatureSet | None = None
    fake_text: FeatureSet | None = None
    heldout_text: FeatureSet | None = None
    replicates: int = 200
    seed: int = 0


@dataclass(frozen=True)
class Interval:
    """A two-sided interval and how it was made, e.g. 95 %, "bootstrap over clips, 200 replicates"."""

    low: float
    high: float
    level: float
    method: str


@dataclass(frozen=True)
class Extrapolation:
    """The value at infinite n from a line in 1/n, with its interval, and the (n, value) points it was fitted to."""

    value: float
    low: float
    high: float
    points: tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class Score:
    """A number with what is needed to believe it. `floor` is None with `floor_note` saying why.

    `influence` is how much each sample moves it, where it is a smooth function of all of them.
    """

    value: float
    n_fake: int
    n_real: int | None = None
    interval: Interval | None = None
    interval_note: str = ""
    floor: float | None = None
    floor_note: str = ""
    extrapolated: Extrapolation | None = None
    per_sample: Mapping[str, float] = field(default_factory=dict)
    influence: Influences | None = field(default=None, compare=False)
    per_class: Mapping[str, float] = field(default_factory=dict)
    details: Mapping[str, float | int | str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
