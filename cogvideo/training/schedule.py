"""The learning rate of each step. No torch."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Schedule:
    """Linear warm-up, then half a cosine down to `final_share` of `peak` (the release's AnnealingLR).

    `warm_up` and `steps` count steps. `settling`: so many first steps of a run that starts from loaded weights stay at
    `settling_share` of the peak or below. They belong to the run, not to its resumption: a run that was interrupted
    has the rates of one that was not.
    """

    peak: float
    steps: int
    warm_up: int = 0
    final_share: float = 0.1
    settling: int = 0
    settling_share: float = 0.05

    def rate(self, step: int) -> float:
        """The rate of step `step`, counted from 1.

        With w = warm_up and t = min(1, (step - w) / steps): peak * (f + (1 - f) (cos(pi t) + 1) / 2), f = final_share.
        """
        if step <= self.warm_up:
            planned = self.peak * step / self.warm_up
        else:
            part = min(1.0, (step - self.warm_up) / self.steps)
            planned = self.peak * (self.final_share + (1 - self.final_share) * (math.cos(math.pi * part) + 1) / 2)
        return min(planned, self.peak * self.settling_share) if step <= self.settling else planned
