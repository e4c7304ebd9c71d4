"""`human plan`: the study's design put into the planner, in the units of its own scales."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from human_eval.analysis.plan import Need, Outlook, outlook, raters_needed
from human_eval.analysis.planning import sign_test_power
from human_eval.analysis.simulation import Design, Spread
from human_eval.assignment import cell_count
from human_eval.study.design import Study, said


@dataclass(frozen=True)
class Planned:
    """What the design reaches for each scale, and how many raters it needs for the wanted power."""

    study: Study
    raters: int
    aspects: tuple[tuple[str, Outlook, Need], ...]
    pair_powers: tuple[tuple[float, float], ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "study": self.study.name,
            "raters": self.raters,
            "pages": self.study.trials,
            "cells": cell_count(self.study),
            "aspects": {
                name: {"outlook": asdict(found), "raters_needed": need.raters, "reason": need.reason}
                for name, found, need in self.aspects
            },
            "preference_power": [{"share": share, "power": power} for share, power in self.pair_powers],
        }

    def lines(self) -> list[str]:
        """The same in words."""
        study = self.study
        lines = [
            f"{study.name}: {self.raters} raters x {study.trials} pages, {len(study.models)} models, "
            f"{cell_count(study)} cells, about {study.minutes} minutes a rater"
        ]
        if self.raters % cell_count(study):
            lines.append(f"! {self.raters} raters do not fill {cell_count(study)} cells evenly")
        for name, found, need in self.aspects:
            lines.append(
                f"{name}: a mean is known to ± {found.half_width_mean:.2f}, a difference to "
                f"± {found.half_width_difference:.2f}; a true difference of {found.true_difference:.2f} is found in "
                f"{100 * found.power:.0f} % of studies"
            )
            lines.append(
                f"  naive intervals would hold the truth in {100 * found.naive_coverage:.0f} % of studies, these in "
                f"{100 * found.coverage:.0f} %"
            )
            lines.append(f"  {need.target} needs {need.raters} raters" if need.raters else f"  {need.reason}")
        for share, power in self.pair_powers:
            lines.append(
                f"a true preference of {100 * share:.0f} : {100 * (1 - share):.0f} among raters is found in "
                f"{100 * power:.0f} % of studies (one vote a rater, exact test)"
            )
        return lines


def plan_study(
    study: Study, raters: int | None = None, *, effect: float, power: float, simulations: int, seed: int
) -> Planned:
    """Simulate the design for each different scale of the study. `effect` is in points of a five-point scale."""
    n = raters or study.quota.raters
    found: list[tuple[str, Outlook, Need]] = []
    known: dict[tuple[int, int], tuple[Outlook, Need]] = {}
    shown_each = max(2, round(study.trials * study.slots / len(study.models)))
    items = len(study.main_items)
    for aspect in study.aspects:
        ends = (aspect.scale.low, aspect.scale.high)
        if ends not in known:
            unit = (ends[1] - ends[0]) / 4
            spread = Spread(*(part * unit for part in asdict(Spread()).values()))
            each = None if shown_each >= items else shown_each
            design = Design(n, max(2, items), max(2, len(study.models)), each, (float(ends[0]), float(ends[1])))
            reached = outlook(design, effect=effect * unit, spread=spread, simulations=simulations, seed=seed)
            need = raters_needed(
                design,
                power=power,
                effect=effect * unit,
                spread=spread,
                simulations=max(20, simulations // 4),
                seed=seed,
            )
            known[ends] = (reached, need)
        found.append((said(aspect.name, "en"), *known[ends]))
    shares = ((0.6, sign_test_power(n, 0.6)), (0.65, sign_test_power(n, 0.65))) if study.pair or study.favourite else ()
    return Planned(study, n, tuple(found), shares)
