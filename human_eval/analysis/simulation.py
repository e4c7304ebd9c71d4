"""Raters, items and models drawn with a known truth: what a study of a given design would see.

Shapes: M models, R raters, I items. A score is a latent normal value, rounded to the scale: model mean, plus how
strict the rater is, how good the item is, how item and rater go with this model, plus what is left.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from cogvideo.errors import UserError
from human_eval.analysis.means import Cells
from human_eval.analysis.resampling import Floats


@dataclass(frozen=True)
class Spread:
    """Standard deviations of the latent parts of a score, in score units.

    The defaults are about what rating studies of generated video show on a five-point scale: a total of about 0.95,
    of which a seventh each comes from rater and item.
    """

    rater: float = 0.35
    item: float = 0.35
    item_model: float = 0.25
    rater_model: float = 0.15
    residual: float = 0.75

    @property
    def total(self) -> float:
        """Standard deviation of one score."""
        return float(
            np.sqrt(
                sum(part**2 for part in (self.rater, self.item, self.item_model, self.rater_model)) + self.residual**2
            )
        )

    @property
    def of_difference(self) -> float:
        """Standard deviation of the difference of two models' scores by one rater on one item."""
        return float(np.sqrt(2 * (self.item_model**2 + self.rater_model**2 + self.residual**2)))


@dataclass(frozen=True)
class Design:
    """How many raters and items, and how many items each rater sees (all of them, if None); all models on each."""

    raters: int
    items: int
    models: int = 2
    items_each: int | None = None
    scale: tuple[float, float] = (1, 5)

    def check(self) -> Design:
        """The same design. Raises UserError for one that cannot be run."""
        if self.raters < 2 or self.items < 2 or self.models < 1:
            raise UserError(
                f"a study needs at least 2 raters, 2 items and 1 model to have intervals, got {self.raters} raters, "
                f"{self.items} items and {self.models} models"
            )
        if self.items_each is not None and not 1 <= self.items_each <= self.items:
            raise UserError(f"each rater can see 1 to {self.items} items, got {self.items_each}")
        if not self.scale[0] < self.scale[1]:
            raise UserError(f"a scale goes from low to high, got {self.scale[0]:g} to {self.scale[1]:g}")
        return self

    @property
    def ratings(self) -> int:
        """Ratings of one model in the whole study."""
        return self.raters * (self.items_each or self.items)

    def shown(self) -> Floats:
        """(R, I) 1 where a rater sees an item: windows around the circle of items, so that all come equally often."""
        if self.items_each is None or self.items_each == self.items:
            return np.ones((self.raters, self.items))
        start = np.floor(np.arange(self.raters) * self.items_each) % self.items
        offset = (np.arange(self.items)[None, :] - start[:, None]) % self.items
        return np.asarray((offset < self.items_each).astype(float))


def expected_score(mean: float, spread: Spread, scale: tuple[float, float]) -> float:
    """The true mean score of a model: its latent normal value, rounded to whole steps and cut at the scale's ends."""
    steps = np.arange(scale[0], scale[1] + 0.5)
    # sum of P(score >= step) over steps
    return float(scale[0] + stats.norm.sf(steps[1:] - 0.5, loc=mean, scale=spread.total).sum())


def simulate_latent(design: Design, means: Sequence[float], spread: Spread, rng: np.random.Generator) -> Floats:
    """(M, R, I) latent values of one study, drawn anew; `means` are those of the models."""
    models, raters, items = len(means), design.raters, design.items
    latent = np.asarray(means, dtype=float)[:, None, None] + spread.rater * rng.standard_normal((1, raters, 1))
    latent = latent + spread.item * rng.standard_normal((1, 1, items))
    latent = latent + spread.item_model * rng.standard_normal((models, 1, items))
    latent = latent + spread.rater_model * rng.standard_normal((models, raters, 1))
    return np.asarray(latent + spread.residual * rng.standard_normal((models, raters, items)))


def scores_of(latent: Floats, design: Design) -> Cells:
    """What raters click: latent values rounded to whole steps of the scale, where the design shows them."""
    return _shown_cells(np.clip(np.floor(latent + 0.5), *design.scale), design)


def favourites_of(latent: Floats, design: Design) -> Cells:
    """Votes for the best model of each rater and item, as 0 and 1 for each model."""
    return _shown_cells((latent == latent.max(0)).astype(float), design)


def simulate_scores(design: Design, means: Sequence[float], spread: Spread, rng: np.random.Generator) -> Cells:
    """One study of the design: raters, items and answers are all new."""
    return scores_of(simulate_latent(design, means, spread, rng), design)


def _shown_cells(values: Floats, design: Design) -> Cells:
    shown = np.broadcast_to(design.shown(), values.shape)
    models, raters, items = values.shape
    return Cells(_names("m", models), _names("r", raters), _names("i", items), values * shown, shown.copy())


def _names(letter: str, n: int) -> tuple[str, ...]:
    return tuple(f"{letter}{index + 1:03d}" for index in range(n))
