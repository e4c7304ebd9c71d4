"""score ~ model + (1 | rater) + (1 | item): fixed effects with standard errors, and how much raters and items vary.

Shapes: N ratings, P fixed effects, Q = raters + items. Restricted (or plain) maximum likelihood, profiled over fixed
effects and residual variance, so that two numbers are left to search. Source: Bates et al. 2015, section 3.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import linalg, optimize, stats

from eval.intervals import LEVEL
from human_eval.analysis.resampling import Floats, Interval

METHOD = "normal, from the mixed model's standard error"


@dataclass(frozen=True)
class MixedModel:
    """Fixed effects: the first model is the reference, the others are differences from it."""

    formula: str
    reference: str
    n: int
    fixed: dict[str, float]
    se: dict[str, float]
    p: dict[str, float]
    intervals: dict[str, Interval]
    var_rater: float
    var_item: float
    var_residual: float
    log_likelihood: float
    converged: bool

    @property
    def rater_share(self) -> float:
        """Share of the variance of a score that is the rater's."""
        return self.var_rater / (self.var_rater + self.var_item + self.var_residual)

    @property
    def item_share(self) -> float:
        """Share of the variance of a score that is the item's."""
        return self.var_item / (self.var_rater + self.var_item + self.var_residual)


@dataclass(frozen=True)
class _Products:
    """Everything that the likelihood needs of the data; the size of the data is gone."""

    zz: Floats
    zx: Floats
    zy: Floats
    xx: Floats
    xy: Floats
    yy: float
    n: int
    raters: int


def mixed_model(
    ratings: pd.DataFrame, models: list[str] | None = None, *, restricted: bool = True, level: float = LEVEL
) -> MixedModel | None:
    """Fit rating rows of one aspect (rater, item, model, score). None with too few raters, items or ratings."""
    names = [m for m in (models or sorted(ratings["model"].unique())) if (ratings["model"] == m).any()]
    raters, rater_N = np.unique(ratings["rater"].to_numpy(str), return_inverse=True)
    items, item_N = np.unique(ratings["item"].to_numpy(str), return_inverse=True)
    y_N = ratings["score"].to_numpy(float)
    n, p = len(y_N), len(names)
    if len(raters) < 2 or len(items) < 2 or n < p + len(raters) + len(items) or np.ptp(y_N) == 0:
        return None
    model_N = np.array([names.index(model) for model in ratings["model"]])
    x_NP = np.column_stack([np.ones(n), *((model_N == index).astype(float) for index in range(1, p))])
    z_NQ = np.zeros((n, len(raters) + len(items)))
    z_NQ[np.arange(n), rater_N] = 1
    z_NQ[np.arange(n), len(raters) + item_N] = 1
    # Around its mean, so that no digits are lost in sums of squares.
    centre = float(y_N.mean())
    data = _Products(
        z_NQ.T @ z_NQ,
        z_NQ.T @ x_NP,
        z_NQ.T @ (y_N - centre),
        x_NP.T @ x_NP,
        x_NP.T @ (y_N - centre),
        float((y_N - centre) @ (y_N - centre)),
        n,
        len(raters),
    )

    def loss(theta: Any) -> float:
        return _deviance(data, np.abs(theta), restricted)[0]

    # Nelder-Mead needs no slope at zero, where a variance that is not there ends up; a second start polishes.
    best = np.array([0.4, 0.4])
    for _ in range(2):
        found = optimize.minimize(
            loss, best, method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-11, "maxiter": 2000}
        )
        best = np.asarray(found.x, dtype=np.float64)
    theta = np.abs(best)
    deviance, beta_P, cov_PP, residual = _deviance(data, theta, restricted)
    beta_P = beta_P + np.r_[centre, np.zeros(p - 1)]
    terms = ["Intercept", *names[1:]]
    se_P = np.sqrt(np.diag(cov_PP))
    half = float(stats.norm.ppf((1 + level) / 2))
    return MixedModel(
        formula=f"score ~ model + (1 | rater) + (1 | item), {'REML' if restricted else 'ML'}",
        reference=names[0],
        n=n,
        fixed=dict(zip(terms, beta_P.tolist(), strict=True)),
        se=dict(zip(terms, se_P.tolist(), strict=True)),
        p={t: 2 * float(stats.norm.sf(abs(b / s))) for t, b, s in zip(terms, beta_P, se_P, strict=True)},
        intervals={
            t: Interval(float(b - half * s), float(b + half * s), METHOD, level, float(s))
            for t, b, s in zip(terms, beta_P, se_P, strict=True)
        },
        var_rater=float(theta[0] ** 2 * residual),
        var_item=float(theta[1] ** 2 * residual),
        var_residual=float(residual),
        log_likelihood=-deviance / 2,
        converged=bool(found.success),
    )


def _deviance(data: _Products, theta: Floats, restricted: bool) -> tuple[float, Floats, Floats, float]:
    """(-2 log likelihood, fixed effects, their covariance, residual variance); theta are sd ratios to the residual."""
    scale_Q = np.where(np.arange(len(data.zy)) < data.raters, theta[0], theta[1])
    inner = scale_Q[:, None] * data.zz * scale_Q + np.eye(len(scale_Q))
    factor = linalg.cholesky(inner, lower=True)
    rzx = linalg.solve_triangular(factor, scale_Q[:, None] * data.zx, lower=True)
    rzy = linalg.solve_triangular(factor, scale_Q * data.zy, lower=True)
    schur = data.xx - rzx.T @ rzx
    root = linalg.cholesky(schur, lower=True)
    part = linalg.solve_triangular(root, data.xy - rzx.T @ rzy, lower=True)
    beta = linalg.solve_triangular(root, part, lower=True, trans="T")
    squares = max(data.yy - float(rzy @ rzy) - float(part @ part), 1e-300)
    n, p = data.n, len(data.xy)
    freedom = n - p if restricted else n
    residual = squares / freedom
    value = 2 * float(np.log(np.diag(factor)).sum()) + freedom * (1 + math.log(2 * math.pi * residual))
    if restricted:
        value += 2 * float(np.log(np.diag(root)).sum())
    inverse = linalg.cho_solve((root, True), np.eye(p))
    return value, np.asarray(beta), np.asarray(inverse * residual), residual
