"""One engine for Bradley-Terry, Davidson and Plackett-Luce: which outcome of a contest came about, as log-linear odds.

Shapes: B fits at once (resamples), O outcomes, C contests, K parameters, G clusters. Outcome o of contest c has
probability exp(x_o . params) / sum over the contest; its count may be a fraction. Strengths are centred.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import optimize
from scipy.sparse import csgraph, csr_array

from human_eval.analysis.resampling import Floats, Ints

STEPS = 60
# exp(15): odds above three million to one are no estimate from the votes of any study, but a walk to infinity.
LARGEST = 15.0
CHUNK_FLOATS = 4_000_000


@dataclass(frozen=True)
class Contests:
    """Outcomes grouped by contest. Parameters: a strength for each model, then others (Davidson's log nu)."""

    models: tuple[str, ...]
    features: Floats
    contest: Ints
    more: tuple[str, ...] = ()

    @property
    def starts(self) -> Ints:
        return np.flatnonzero(np.r_[True, np.diff(self.contest) > 0])

    @property
    def free_direction(self) -> Floats:
        """Projection on the direction that no vote can see: all strengths moved alike."""
        ones = np.zeros(self.features.shape[1])
        ones[: len(self.models)] = 1 / np.sqrt(len(self.models))
        return np.outer(ones, ones)


@dataclass(frozen=True)
class Fit:
    """Parameters of B fits; `finite` says where the maximum exists and is one point."""

    params: Floats
    finite: np.ndarray
    log_likelihood: Floats


def fit(contests: Contests, counts_BO: Floats) -> Fit:
    """Maximum likelihood by Newton's method, all rows of counts at once."""
    counts_BO = np.atleast_2d(counts_BO)
    outcomes, params = contests.features.shape
    chunk = max(1, CHUNK_FLOATS // max(1, outcomes * params))
    parts = [_fit(contests, counts_BO[start : start + chunk]) for start in range(0, len(counts_BO), chunk)]
    return Fit(
        np.concatenate([part.params for part in parts]),
        np.concatenate([part.finite for part in parts]),
        np.concatenate([part.log_likelihood for part in parts]),
    )


def _fit(contests: Contests, counts_BO: Floats) -> Fit:
    fits, params = len(counts_BO), contests.features.shape[1]
    params_BK = np.zeros((fits, params))
    active = np.arange(fits)
    for _ in range(STEPS):
        slope, curve = _slope_and_curve(contests, counts_BO[active], params_BK[active])
        size = counts_BO[active].sum(1)
        going = np.abs(slope).max(1) > 1e-11 * np.maximum(size, 1.0)
        going &= np.abs(params_BK[active]).max(1) <= LARGEST
        if not going.any():
            break
        active = active[going]
        # The ridge only keeps the step defined where the data say nothing; `finite` is judged without it.
        ridge = (contests.free_direction + 1e-10 * np.eye(params)) * np.maximum(size[going], 1.0)[:, None, None]
        step = np.linalg.solve(curve[going] + ridge, slope[going][:, :, None])[:, :, 0]
        step *= np.minimum(1.0, 2.0 / np.maximum(np.abs(step).max(1), 1e-300))[:, None]
        params_BK[active] += step
    slope, curve = _slope_and_curve(contests, counts_BO, params_BK)
    size = np.maximum(counts_BO.sum(1), 1.0)
    values = np.linalg.eigvalsh(curve + contests.free_direction * size[:, None, None])
    finite = (np.abs(slope).max(1) < 1e-7 * size) & (np.abs(params_BK).max(1) <= LARGEST)
    finite &= values[:, 0] > 1e-9 * size
    models = len(contests.models)
    params_BK[:, :models] -= params_BK[:, :models].mean(1, keepdims=True)
    likelihood = (counts_BO * _log_shares(contests, params_BK)).sum(1)
    return Fit(params_BK, finite, likelihood)


def information(contests: Contests, counts_O: Floats, params_K: Floats) -> Floats:
    """(K, K) minus the second derivative of the log likelihood."""
    return np.asarray(_slope_and_curve(contests, counts_O[None], params_K[None])[1][0])


def scores(contests: Contests, counts_GO: Floats, params_K: Floats) -> Floats:
    """(G, K) each cluster's part of the first derivative; the parts add up to zero at the maximum."""
    p_O = np.exp(_log_shares(contests, params_K[None]))[0]
    totals_GC = np.add.reduceat(counts_GO, contests.starts, axis=1)
    return np.asarray((counts_GO - totals_GC[:, contests.contest] * p_O) @ contests.features)


def bread(contests: Contests, counts_O: Floats, params_K: Floats) -> Floats:
    """(K, K) inverse information for centred strengths: the model's own covariance."""
    return np.asarray(np.linalg.pinv(information(contests, counts_O, params_K), hermitian=True))


def components(contests: Contests, counts_O: Floats) -> list[list[str]]:
    """Groups of models that are joined by votes; strengths of different groups cannot be compared."""
    models = len(contests.models)
    met = np.zeros((models, models))
    for contest in np.unique(contests.contest[counts_O > 0]):
        inside = np.abs(contests.features[contests.contest == contest, :models]).sum(0) > 0
        met += np.outer(inside, inside)
    number, label = csgraph.connected_components(csr_array(met), directed=False)
    return [[contests.models[m] for m in np.flatnonzero(label == group)] for group in range(number)]


def separation(contests: Contests, counts_O: Floats) -> dict[str, float] | None:
    """A direction in which the likelihood grows for ever, or None: found exactly, as a linear programme.

    Separated votes (Albert and Anderson 1984): no observed outcome ever becomes less likely along it.
    """
    rows = []
    for contest in np.unique(contests.contest):
        inside = np.flatnonzero(contests.contest == contest)
        for seen in inside[counts_O[inside] > 0]:
            rows += [contests.features[seen] - contests.features[other] for other in inside if other != seen]
    if not rows:
        return None
    rows_LK = np.array(rows)
    centre = np.zeros((1, rows_LK.shape[1]))
    centre[0, : len(contests.models)] = 1
    found = optimize.linprog(
        -rows_LK.sum(0), A_ub=-rows_LK, b_ub=np.zeros(len(rows_LK)), A_eq=centre, b_eq=[0.0], bounds=(-1, 1)
    )
    if found.status != 0 or found.fun is None or found.x is None or -found.fun < 1e-7:
        return None
    return dict(zip((*contests.models, *contests.more), found.x.tolist(), strict=True))


def contests_of(models: Sequence[str], groups: Sequence[Sequence[Floats]], more: Sequence[str] = ()) -> Contests:
    """Contests from the feature vectors of each one's outcomes."""
    features = np.array([vector for group in groups for vector in group], dtype=float)
    contest = np.repeat(np.arange(len(groups)), [len(group) for group in groups])
    return Contests(tuple(models), features, contest, tuple(more))


def _log_shares(contests: Contests, params_BK: Floats) -> Floats:
    logit_BO = params_BK @ contests.features.T
    top_BC = np.maximum.reduceat(logit_BO, contests.starts, axis=1)
    logit_BO = logit_BO - top_BC[:, contests.contest]
    total_BC = np.add.reduceat(np.exp(logit_BO), contests.starts, axis=1)
    return np.asarray(logit_BO - np.log(total_BC)[:, contests.contest])


def _slope_and_curve(contests: Contests, counts_BO: Floats, params_BK: Floats) -> tuple[Floats, Floats]:
    x_OK, starts = contests.features, contests.starts
    params = x_OK.shape[1]
    p_BO = np.exp(_log_shares(contests, params_BK))
    totals_BC = np.add.reduceat(counts_BO, starts, axis=1)
    expected_BO = totals_BC[:, contests.contest] * p_BO
    slope_BK = (counts_BO - expected_BO) @ x_OK
    squares_OKK = (x_OK[:, :, None] * x_OK[:, None, :]).reshape(len(x_OK), -1)
    second_BKK = (expected_BO @ squares_OKK).reshape(-1, params, params)
    mean_BCK = np.add.reduceat(p_BO[:, :, None] * x_OK, starts, axis=1)
    first_BKK = np.einsum("bck,bcl->bkl", mean_BCK * totals_BC[:, :, None], mean_BCK, optimize=True)
    return np.asarray(slope_BK), np.asarray(second_BKK - first_BKK)
