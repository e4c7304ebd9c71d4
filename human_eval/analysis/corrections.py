"""p-values of a family of tests, adjusted: Bonferroni, Holm, Benjamini-Hochberg, Benjamini-Yekutieli."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from human_eval.analysis.resampling import Floats

Correction = Literal["bonferroni", "holm", "bh", "by"]


def adjust(p_values: ArrayLike, correction: Correction) -> Floats:
    """Adjusted p-values in the order given. Holm and Bonferroni hold the chance of any false call, BH and BY its share.

    A NaN (no test possible) stays NaN and does not count as a member of the family.
    """
    p = np.asarray(p_values, dtype=float)
    known = np.isfinite(p)
    out = np.full(p.shape, np.nan)
    values = p[known]
    n = len(values)
    if n == 0:
        return out
    order = np.argsort(values, kind="stable")
    ranked, place = values[order], np.arange(1, n + 1)
    if correction == "bonferroni":
        adjusted = ranked * n
    elif correction == "holm":
        adjusted = np.maximum.accumulate(ranked * (n - place + 1))
    else:
        factor = float((1 / place).sum()) if correction == "by" else 1.0
        adjusted = np.minimum.accumulate((ranked * n * factor / place)[::-1])[::-1]
    back = np.empty(n)
    back[order] = np.minimum(adjusted, 1.0)
    out[known] = back
    return out
