"""Which raters to leave out, by five plain rules fixed beforehand, and who is paid: two decisions kept apart.

Whom a rule flags is left out of the analysis (`use` False); a duplicate is only shown to the researcher. Payment
(`accept`) fails only on failed attention checks, never on taste: disagreeing with others is no breach.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from human_eval.analysis.resampling import Floats

Rule = Literal["straightliner", "gold", "speeder", "correlation", "duplicate"]
RULES: tuple[Rule, ...] = ("straightliner", "gold", "speeder", "correlation", "duplicate")
FEWEST_UNITS = 3


@dataclass(frozen=True)
class ScreeningRules:
    """Limits, as preregistered. `excluding` are the rules that leave a rater out; the others only flag."""

    least_variance: float = 0.15
    least_gold: float = 0.75
    least_correlation: float = 0.5
    least_failed_to_refuse_pay: int = 2
    excluding: tuple[Rule, ...] = ("straightliner", "gold", "speeder", "correlation")

    def words(self) -> dict[str, str]:
        """Each rule in words, for the report."""
        return {
            "straightliner": f"score variance below {self.least_variance:g}",
            "gold": f"passed less than {100 * self.least_gold:g} % of the checks",
            "speeder": "median response time below the length of a video",
            "correlation": f"correlation with the mean of the others below {self.least_correlation:g}",
            "duplicate": "the same answers as another rater: shown, never left out automatically",
        }


@dataclass(frozen=True)
class RaterScreen:
    """What was measured of one rater and what follows. None: not enough answers to say."""

    rater: str
    n: int
    variance: float | None
    checks_shown: int
    checks_passed: int
    median_response_seconds: float | None
    correlation: float | None
    correlation_with_self: float | None
    flags: tuple[str, ...]
    use: bool
    accept: bool


@dataclass(frozen=True)
class Screening:
    """All raters, and the groups of raters whose answers are the same."""

    rules: ScreeningRules
    raters: dict[str, RaterScreen]
    duplicates: list[list[str]]

    @property
    def excluded(self) -> dict[str, tuple[str, ...]]:
        """Raters that are left out of the analysis, and by which rules."""
        return {
            name: tuple(flag for flag in one.flags if flag in self.rules.excluding)
            for name, one in self.raters.items()
            if not one.use
        }


def screen(
    scores_RU: pd.DataFrame,
    *,
    checks: pd.DataFrame | None = None,
    timing: pd.DataFrame | None = None,
    rules: ScreeningRules | None = None,
    aspects: Sequence[str] | None = None,
    raters: Sequence[str] = (),
) -> Screening:
    """Apply the rules. `scores_RU` has a row a rater and a column a unit (video and aspect), NaN where not rated.

    `aspects` names each column's aspect: variance is then that within aspects, and raters are correlated without their
    means of the aspects, so that one who answers by aspect alone is seen. `raters` adds those without a score.
    `checks` has rater, passed; `timing` has rater, response_seconds, video_seconds.
    """
    rules = rules or ScreeningRules()
    names = sorted(
        {str(one) for one in scores_RU.index}
        | set(raters)
        | (set(checks["rater"]) if checks is not None else set())
        | (set(timing["rater"]) if timing is not None else set())
    )
    table = scores_RU.reindex(names).to_numpy(float) if scores_RU.shape[1] else np.empty((len(names), 0))
    labels = np.asarray(aspects if aspects is not None else [""] * table.shape[1])
    alone, together = correlations(_centred(table, labels))
    same = duplicates(table, names)
    twins = {name for group in same for name in group}
    found = {}
    for row, name in enumerate(names):
        scores = table[row][np.isfinite(table[row])]
        variance = _within(table[row], labels)
        passed = checks.loc[checks["rater"] == name, "passed"].to_numpy(bool) if checks is not None else np.empty(0)
        times = timing[timing["rater"] == name] if timing is not None else None
        median, length = None, None
        if times is not None and len(times):
            median, length = float(times["response_seconds"].median()), float(times["video_seconds"].median())
        flags = []
        if variance is not None and variance < rules.least_variance:
            flags.append("straightliner")
        if len(passed) and passed.mean() < rules.least_gold:
            flags.append("gold")
        if median is not None and length is not None and median < length:
            flags.append("speeder")
        if np.isfinite(alone[row]) and alone[row] < rules.least_correlation:
            flags.append("correlation")
        if name in twins:
            flags.append("duplicate")
        failed = len(passed) - int(passed.sum())
        found[name] = RaterScreen(
            rater=name,
            n=len(scores),
            variance=variance,
            checks_shown=len(passed),
            checks_passed=int(passed.sum()),
            median_response_seconds=median,
            correlation=_known(alone[row]),
            correlation_with_self=_known(together[row]),
            flags=tuple(sorted(flags)),
            use=not any(flag in rules.excluding for flag in flags),
            accept=not (failed >= rules.least_failed_to_refuse_pay and "gold" in flags),
        )
    return Screening(rules, found, same)


def correlations(scores_RU: Floats) -> tuple[Floats, Floats]:
    """(R,) Pearson with the mean of the other raters, and with the mean of all; NaN where a rater never varies."""
    seen = np.isfinite(scores_RU)
    filled = np.where(seen, scores_RU, 0.0)
    total, n = filled.sum(0), seen.sum(0)
    alone, together = np.full(len(scores_RU), np.nan), np.full(len(scores_RU), np.nan)
    for row in range(len(scores_RU)):
        others = seen[row] & (n > 1)
        alone[row] = _pearson(scores_RU[row][others], (total[others] - filled[row][others]) / (n[others] - 1))
        mine = seen[row]
        together[row] = _pearson(scores_RU[row][mine], total[mine] / n[mine])
    return alone, together


def duplicates(scores_RU: Floats, names: list[str]) -> list[list[str]]:
    """Groups of raters with the same answers to the same units; raters who never vary are left to their own rule."""
    groups: dict[bytes, list[str]] = defaultdict(list)
    for row, name in enumerate(names):
        scores = scores_RU[row]
        known = scores[np.isfinite(scores)]
        if len(known) >= FEWEST_UNITS and np.ptp(known) > 0:
            groups[np.where(np.isfinite(scores), scores, np.inf).tobytes()].append(name)
    return sorted(group for group in groups.values() if len(group) > 1)


def _within(scores_U: Floats, labels: np.ndarray) -> float | None:
    """Variance of one rater's scores around their mean in each aspect; None without two scores of one aspect."""
    squares, freedom = 0.0, 0
    for label in np.unique(labels):
        scores = scores_U[(labels == label) & np.isfinite(scores_U)]
        if len(scores) > 1:
            squares += float(((scores - scores.mean()) ** 2).sum())
            freedom += len(scores) - 1
    return squares / freedom if freedom else None


def _centred(table_RU: Floats, labels: np.ndarray) -> Floats:
    """Where there are several aspects: each rater's scores without the rater's mean of the aspect."""
    out = table_RU.copy()
    for label in np.unique(labels) if len(np.unique(labels)) > 1 else ():
        scores = out[:, labels == label]
        seen = np.isfinite(scores)
        mean = np.where(seen, scores, 0.0).sum(1) / np.maximum(seen.sum(1), 1)
        out[:, labels == label] = scores - mean[:, None]
    return out


def _pearson(x: Floats, y: Floats) -> float:
    if len(x) < FEWEST_UNITS or np.ptp(x) < 1e-12 or np.ptp(y) < 1e-12:
        return float("nan")
    return float(np.corrcoef(x, y)[0, 1])


def _known(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
