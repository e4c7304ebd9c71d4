"""What synthetic raters think: a planted quality for each model and aspect, with the scatter that real studies show."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from human_eval.study.design import Aspect, Study

# Standard deviations of the parts of a score on a scale of five points. The last is smaller than people show, so that
# the rule about agreement with the others, which has a fixed limit, leaves careful synthetic raters in.
RATER, ITEM, ITEM_MODEL, RATER_MODEL, RESIDUAL = 0.35, 0.35, 0.25, 0.15, 0.5
STEP = 0.6
TIE = 0.35


@dataclass(frozen=True)
class Truth:
    """Planted means: `means[aspect][model]` in points before rounding. The last aspect decides favourites and pairs."""

    means: dict[str, dict[str, float]]
    seed: int

    def latent(self, study: Study, aspect: str, rater: str, item: str, model: str) -> float:
        """One rater's opinion before it is rounded to a point."""
        unit = _unit(study, aspect)
        scatter = (
            RATER * self._draw(aspect, rater)
            + ITEM * self._draw(aspect, item)
            + ITEM_MODEL * self._draw(aspect, item, model)
            + RATER_MODEL * self._draw(aspect, rater, model)
            + RESIDUAL * self._draw(aspect, rater, item, model)
        )
        return self.means[aspect][model] + unit * scatter

    def answers(self, study: Study, rater: str, item: str, models: Sequence[str]) -> dict[str, str]:
        """Answers to a page that shows these models of an item."""
        given: dict[str, str] = {}
        for slot, model in enumerate(models, start=1):
            for aspect in study.aspects:
                point = round(self.latent(study, aspect.id, rater, item, model))
                given[f"v{slot}.{aspect.id}"] = str(min(max(point, aspect.scale.low), aspect.scale.high))
        last = deciding_aspect(study)
        liking = [self.latent(study, last, rater, item, model) for model in models]
        order = sorted(range(len(models)), key=lambda at: -liking[at])
        if study.favourite is not None:
            given["favourite"] = str(order[0] + 1)
            if study.favourite.ranking:
                given |= {f"v{at + 1}.rank": str(rank) for rank, at in enumerate(order, start=1)}
        if study.pair is not None:
            gap = liking[0] - liking[1]
            given["choice"] = "tie" if study.pair.ties and abs(gap) < TIE else "1" if gap > 0 else "2"
            if study.pair.strength and given["choice"] != "tie":
                given["strength"] = str(min(study.pair.strength, 1 + int(abs(gap))))
        return given

    def _draw(self, *names: str) -> float:
        digest = hashlib.sha256("|".join([str(self.seed), *names]).encode()).digest()
        return float(np.random.Generator(np.random.Philox(int.from_bytes(digest[:8], "big"))).standard_normal())


def plant(study: Study, seed: int) -> Truth:
    """Models in the order of the study, `STEP` points apart around the middle of each scale, references on top."""
    ranked = sorted(study.models, key=lambda model: model.role != "reference")
    means: dict[str, dict[str, float]] = {}
    for name in [aspect.id for aspect in study.aspects] or [deciding_aspect(study)]:
        aspect = _aspect(study, name)
        middle = (aspect.scale.low + aspect.scale.high) / 2 if aspect else 3.0
        top = (len(ranked) - 1) / 2
        means[name] = {model.id: middle + (top - at) * STEP * _unit(study, name) for at, model in enumerate(ranked)}
    return Truth(means, seed)


def expected_scores(study: Study, truth: Truth) -> dict[str, dict[str, float]]:
    """The mean score that infinitely many raters and items would give: rounding and the ends of the scale included."""
    from human_eval.analysis.simulation import Spread, expected_score

    found: dict[str, dict[str, float]] = {}
    for aspect in study.aspects:
        unit = _unit(study, aspect.id)
        spread = Spread(RATER * unit, ITEM * unit, ITEM_MODEL * unit, RATER_MODEL * unit, RESIDUAL * unit)
        scale = (float(aspect.scale.low), float(aspect.scale.high))
        found[aspect.id] = {m: expected_score(mean, spread, scale) for m, mean in truth.means[aspect.id].items()}
    return found


def follow(study: Study, expected: Mapping[str, Any], given: dict[str, str], stimuli: Sequence[str]) -> dict[str, str]:
    """What a rater who reads and looks answers on a check page, where that differs from the opinion."""
    answers = dict(given)
    damaged = next((at for at, name in enumerate(stimuli, 1) if name.endswith("#damaged")), 0)
    if damaged:
        clean = [at for at in range(1, len(stimuli) + 1) if at != damaged]
        for aspect in study.aspects:
            answers[f"v{damaged}.{aspect.id}"] = str(aspect.scale.low)
            for at in clean:
                name = f"v{at}.{aspect.id}"
                answers[name] = str(max(int(answers[name]), aspect.scale.low + 1))
        if answers.get("favourite") == str(damaged):
            answers["favourite"] = str(clean[0])
        if "choice" in answers:
            answers["choice"] = str(clean[0])
    demanded: dict[str, str] = expected.get("equal", {})
    return answers | demanded


def deciding_aspect(study: Study) -> str:
    """The aspect whose latent value decides favourites and pairs."""
    return study.aspects[-1].id if study.aspects else "liking"


def _aspect(study: Study, name: str) -> Aspect | None:
    return next((aspect for aspect in study.aspects if aspect.id == name), None)


def _unit(study: Study, name: str) -> float:
    """A point of a five-point scale, in points of this one."""
    aspect = _aspect(study, name)
    return (aspect.scale.high - aspect.scale.low) / 4 if aspect else 1.0
