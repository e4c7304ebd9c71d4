"""What a study will be able to say, found by running the very design many times on raters made of numbers.

Formulas (`planning.py`) take all answers as independent or one average correlation; here raters, items and their
interplay with models scatter, each rater sees what the design shows, and the intervals are those of the analysis.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

from cogvideo.errors import UserError
from eval.intervals import LEVEL
from human_eval.analysis.means import Cells, influence, naive_interval, two_way_variance
from human_eval.analysis.resampling import Floats
from human_eval.analysis.simulation import Design, Spread, expected_score, favourites_of, scores_of, simulate_latent

SIMULATIONS = 200
MOST_RATERS = 2000


@dataclass(frozen=True)
class Outlook:
    """What one design reaches. Half-widths are medians over simulated studies, in score units or as a share.

    `power`: how often the interval of the difference of two models excludes zero; `power_all_pairs` with the
    strictest step of Holm's correction over all pairs. `coverage` and `naive_coverage`: how often the two-way and the
    naive interval of a mean hold the truth. `power_error`: the standard error of `power` from so many simulations.
    """

    design: Design
    spread: Spread
    effect: float
    true_difference: float
    ratings_per_model: int
    half_width_mean: float
    half_width_difference: float
    half_width_share: float
    power: float
    power_error: float
    power_all_pairs: float
    coverage: float
    coverage_difference: float
    naive_coverage: float
    simulations: int
    seed: int
    level: float


@dataclass(frozen=True)
class Need:
    """The smallest number of raters that reaches the target, or None with the reason."""

    target: str
    raters: int | None
    outlook: Outlook
    reason: str = ""


def outlook(
    design: Design,
    *,
    effect: float = 0.3,
    spread: Spread | None = None,
    centre: float | None = None,
    simulations: int = SIMULATIONS,
    seed: int = 0,
    level: float = LEVEL,
) -> Outlook:
    """Simulate the design: first and second model lie `effect` apart around `centre` (the middle of the scale).

    `effect` and `spread` are latent score units; at the ends of the scale the visible difference is smaller, which
    `true_difference` says. More models lie at the second one's place.
    """
    design, spread = design.check(), spread or Spread()
    if simulations < 2:
        raise UserError(f"a plan needs at least 2 simulated studies, got {simulations}")
    middle = sum(design.scale) / 2 if centre is None else centre
    means = [middle + effect / 2] + [middle - effect / 2] * (max(design.models, 2) - 1)
    truth = [expected_score(mean, spread, design.scale) for mean in means[:2]]
    pairs = len(means) * (len(means) - 1) // 2
    one, gap = np.eye(len(means))[0], np.eye(len(means))[0] - np.eye(len(means))[1]
    rows = []
    for study in range(simulations):
        latent = simulate_latent(design, means, spread, np.random.default_rng([seed, study]))
        data, votes = scores_of(latent, design), favourites_of(latent, design)
        found = data.means()
        mean_half, difference_half, share_half, strict_half = (
            _half(part, weights, quantile)
            for part, weights, quantile in (
                (data, one, level),
                (data, gap, level),
                (votes, one, level),
                (data, gap, 1 - (1 - level) / pairs),
            )
        )
        scores = data.sums[0][data.counts[0] > 0]
        low, high = naive_interval(scores, level).ends
        difference = float(found[0] - found[1])
        rows.append(
            (
                mean_half,
                difference_half,
                share_half,
                abs(difference) > difference_half,
                abs(difference) > strict_half,
                abs(float(found[0]) - truth[0]) <= mean_half,
                abs(difference - (truth[0] - truth[1])) <= difference_half,
                low <= truth[0] <= high,
            )
        )
    table = np.array(rows, dtype=float)
    widths, shares = np.median(table[:, :3], axis=0), table[:, 3:].mean(0)
    power = float(shares[0])
    return Outlook(
        design=design,
        spread=spread,
        effect=effect,
        true_difference=truth[0] - truth[1],
        ratings_per_model=design.ratings,
        half_width_mean=float(widths[0]),
        half_width_difference=float(widths[1]),
        half_width_share=float(widths[2]),
        power=power,
        power_error=float(np.sqrt(power * (1 - power) / simulations)),
        power_all_pairs=float(shares[1]),
        coverage=float(shares[2]),
        coverage_difference=float(shares[3]),
        naive_coverage=float(shares[4]),
        simulations=simulations,
        seed=seed,
        level=level,
    )


def raters_needed(
    design: Design,
    *,
    power: float | None = None,
    half_width: float | None = None,
    effect: float = 0.3,
    spread: Spread | None = None,
    simulations: int = SIMULATIONS,
    seed: int = 0,
    level: float = LEVEL,
    most: int = MOST_RATERS,
) -> Need:
    """Raters for a power, or for a half-width of the difference of two means, with the design's items kept.

    Found by halving, on the same simulated draws. With few items no number of raters may be enough: more items are
    then what is needed, and the reason says so.
    """
    if (power is None) == (half_width is None):
        raise UserError("ask for raters by a power or by a half-width, not both")
    target = f"power {power:.0%}" if power is not None else f"half-width {half_width:g} of a difference"

    def reach(raters: int) -> tuple[bool, Outlook]:
        found = outlook(
            replace(design, raters=raters),
            effect=effect,
            spread=spread,
            simulations=simulations,
            seed=seed,
            level=level,
        )
        if power is not None:
            return found.power >= power, found
        return half_width is not None and found.half_width_difference <= half_width, found

    low, high = 1, 4
    enough, found = reach(high)
    while not enough:
        low, high = high, high * 2
        if high > most:
            reason = f"{low:,} raters do not reach it with {design.items} items; show more items"
            return Need(target, None, found, reason)
        enough, found = reach(high)
    while high - low > max(1, high // 50):
        middle = (low + high) // 2
        enough, one = reach(middle)
        if enough:
            high, found = middle, one
        else:
            low = middle
    return Need(target, high, found)


def _half(data: Cells, weights: Floats, level: float) -> float:
    """Half the two-way interval of a weighted sum of means."""
    found = two_way_variance(influence(data, weights), data.counts[0])
    return float(stats.t.ppf((1 + level) / 2, found.freedom)) * found.se
