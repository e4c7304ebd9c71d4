"""How many raters a study needs, by formula: tests, opinion and share intervals, correlations, the design effect."""

from __future__ import annotations

import math

import numpy as np
from scipy import optimize, stats

from cogvideo.errors import UserError
from eval.intervals import LEVEL

MOST = 10_000_000


def paired_t_power(n: float, dz: float, alpha: float = 0.05) -> float:
    """Power of the two-sided paired t test for a mean difference of `dz` standard deviations."""
    freedom = n - 1
    limit = float(stats.t.ppf(1 - alpha / 2, freedom))
    shift = dz * math.sqrt(n)
    return float(stats.nct.sf(limit, freedom, shift) + stats.nct.cdf(-limit, freedom, shift))


def paired_t_n(dz: float, power: float = 0.8, alpha: float = 0.05) -> float:
    """Raters for that power, as a real number; round up. Raises UserError for an effect of zero."""
    _check_power(power, alpha)
    if dz == 0:
        raise UserError("no number of raters finds a difference of zero; plan for the smallest difference that matters")
    dz = abs(dz)
    high = 4.0
    while paired_t_power(high, dz, alpha) < power:
        high *= 2
        if high > MOST:
            raise UserError(
                f"an effect of {dz:g} standard deviations needs over {MOST:,} raters; plan for a larger one"
            )
    low = 1.0 + 1e-3
    if paired_t_power(2.0, dz, alpha) >= power:
        return 2.0
    return float(optimize.brentq(lambda n: paired_t_power(n, dz, alpha) - power, max(low, 1.5), high, xtol=1e-10))


def sign_test_power(n: int, p: float, alpha: float = 0.05) -> float:
    """Power of the exact two-sided binomial test of 50:50 when the true share is p; each rater votes once."""
    tail = np.asarray(stats.binom.cdf(np.arange(n + 1), n, 0.5))
    lost = -1
    while lost + 1 <= n // 2 and tail[lost + 1] <= alpha / 2 + 1e-12:
        lost += 1
    if lost < 0:
        return 0.0
    return float(stats.binom.cdf(lost, n, p) + stats.binom.sf(n - lost - 1, n, p))


def mean_n(sd: float, half_width: float, level: float = LEVEL) -> tuple[int, int]:
    """(normal, Student's t): independent ratings so that a mean's interval is no wider than plus minus half_width."""
    _check_width(half_width)
    z = float(stats.norm.ppf((1 + level) / 2))
    normal = math.ceil((z * sd / half_width) ** 2 - 1e-9)
    n = max(2, normal)
    while float(stats.t.ppf((1 + level) / 2, n - 1)) * sd / math.sqrt(n) > half_width:
        n += 1
    return max(normal, 1), n


def share_n(share: float, half_width: float, level: float = LEVEL) -> int:
    """Independent votes so that a share's interval is about plus minus half_width."""
    _check_width(half_width)
    z = float(stats.norm.ppf((1 + level) / 2))
    return math.ceil(z * z * share * (1 - share) / half_width**2 - 1e-9)


def two_shares_n(p1: float, p2: float, power: float = 0.8, alpha: float = 0.05) -> int:
    """Votes in each of two groups to tell their shares apart, by Cohen's arcsine effect size."""
    _check_power(power, alpha)
    effect = 2 * math.asin(math.sqrt(p1)) - 2 * math.asin(math.sqrt(p2))
    if effect == 0:
        raise UserError("no number of votes tells equal shares apart; plan for the smallest difference that matters")
    quantiles = float(stats.norm.ppf(1 - alpha / 2) + stats.norm.ppf(power))
    return math.ceil(2 * (quantiles / effect) ** 2 - 1e-9)


def design_effect(per_rater: float, icc: float) -> float:
    """How many times the variance of independent answers a mean has when each rater gives `per_rater` of them."""
    return 1 + (per_rater - 1) * icc


def effective_n(n: float, per_rater: float, icc: float) -> float:
    """What n answers are worth in independent ones."""
    return n / design_effect(per_rater, icc)


def _check_power(power: float, alpha: float) -> None:
    if not 0 < alpha < power < 1:
        raise UserError(f"power and alpha are shares with 0 < alpha < power < 1, got power {power:g}, alpha {alpha:g}")


def _check_width(half_width: float) -> None:
    if not half_width > 0:
        raise UserError(f"the half-width of an interval is above zero, got {half_width:g}")
