"""Automatic metrics against people: rank correlations with intervals, and how many pairs of models are ordered alike.

Shapes: N points, B resamples. Intervals over models: Fisher's z with the variance of Bonett and Wright 2000 (Spearman)
and Fieller and others 1957 (Kendall). Over clips: a bootstrap of prompts, each with all its clips.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from statistics import NormalDist
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from eval.intervals import bootstrap_rows, percentile
from reports.board.document import AgreementEntry, Board, Coefficient, RunEntry, StudyEntry, TableEntry

Kind = Literal["spearman", "kendall"]
KINDS: tuple[Kind, ...] = ("spearman", "kendall")
Floats = NDArray[np.float64]
RESAMPLES = 500
LEVEL = 0.95
OVER_MODELS = {"spearman": "Fisher's z, Bonett and Wright's variance", "kendall": "Fisher's z, Fieller's variance"}


def agreements(board: Board) -> list[AgreementEntry]:
    """Every metric of a table that a study's models are in, against every aspect of that study."""
    found = []
    for study in board.studies:
        table = next((one for one in board.tables if one.id == study.table), None)
        if table is None:
            continue
        runs = {one.id: one for one in board.runs}
        current = {runs[name].folder: runs[name] for name in table.runs}
        rated = {name: current[folder] for name, folder in study.models.items() if folder in current}
        for aspect, people in aspects_of(study).items():
            for metric in table.metrics:
                values = {name: value for name, run in rated.items() if (value := value_of(run, metric.id)) is not None}
                human = {name: people[name] for name in values if name in people}
                found.append(
                    _entry(board.seed, table, study, aspect, metric.id, metric.direction, values, human, rated)
                )
    return found


def aspects_of(study: StudyEntry) -> dict[str, dict[str, float]]:
    """Aspect -> the study's model -> mean opinion."""
    aspects: Mapping[str, Any] = study.analysis["analysed"].get("aspects") or {}
    return {
        name: {one["model"]: one["mean"] for one in aspect.get("opinions") or [] if one.get("mean") is not None}
        for name, aspect in aspects.items()
    }


def value_of(run: RunEntry, metric_id: str) -> float | None:
    if run.result is None:
        return None
    return next((metric.value for metric in run.result.metrics if metric.id == metric_id), None)


def _entry(
    seed: int,
    table: TableEntry,
    study: StudyEntry,
    aspect: str,
    metric_id: str,
    direction: Literal["lower", "higher"],
    values: Mapping[str, float],
    human: Mapping[str, float],
    rated: Mapping[str, RunEntry],
) -> AgreementEntry:
    names = sorted(human)
    x, y = [values[name] for name in names], [human[name] for name in names]
    coefficients = [over_models(x, y, kind) for kind in KINDS]
    clips = _clips(study, aspect, metric_id, rated)
    if clips is not None:
        coefficients += [over_clips(*clips, kind, seed=seed) for kind in KINDS]
    accuracy, pairs = pair_accuracy(x, y, direction)
    return AgreementEntry(
        table=table.id,
        study=study.id,
        aspect=aspect,
        metric=metric_id,
        direction=direction,
        coefficients=coefficients,
        accuracy=accuracy,
        pairs=pairs,
        points={rated[name].id: (values[name], human[name]) for name in names},
    )


def coefficient(x: Sequence[float] | Floats, y: Sequence[float] | Floats, kind: Kind) -> float | None:
    """None for fewer than three points, or where a side does not vary."""
    if len(x) < 3 or np.ptp(np.asarray(x)) == 0 or np.ptp(np.asarray(y)) == 0:
        return None
    from scipy import stats

    found = stats.spearmanr(x, y) if kind == "spearman" else stats.kendalltau(x, y)
    return float(found.statistic)


def over_models(x: Sequence[float], y: Sequence[float], kind: Kind) -> Coefficient:
    """One point a model."""
    value, n = coefficient(x, y, kind), len(x)
    if value is None:
        note = "it needs three models" if n < 3 else "one side does not vary"
        return Coefficient(by="model", kind=kind, value=None, n=n, note=note)
    spare = n - 4 if kind == "kendall" else n - 3
    if spare <= 0 or abs(value) >= 1 - 1e-12:
        note = "n too small for an interval" if spare <= 0 else "a perfect coefficient has no interval by this method"
        return Coefficient(by="model", kind=kind, value=value, n=n, note=note)
    variance = (0.437 if kind == "kendall" else 1 + value**2 / 2) / spare
    half = NormalDist().inv_cdf((1 + LEVEL) / 2) * math.sqrt(variance)
    low, high = (math.tanh(math.atanh(value) + sign * half) for sign in (-1, 1))
    return Coefficient(by="model", kind=kind, value=value, low=low, high=high, n=n, note=OVER_MODELS[kind])


def over_clips(x: Floats, y: Floats, items: Sequence[str], kind: Kind, *, seed: int = 0) -> Coefficient:
    """One point a clip; clips of one prompt are drawn together."""
    value, n = coefficient(x, y, kind), len(x)
    if value is None or len(set(items)) < 2:
        note = "one side does not vary" if value is None and n >= 3 else "n too small for an interval"
        return Coefficient(by="clip", kind=kind, value=value, n=n, note=note)
    drawn = [coefficient(x[rows], y[rows], kind) for rows in bootstrap_rows(items, RESAMPLES, seed, "agreement")]
    kept = [one for one in drawn if one is not None]
    if len(kept) < 0.99 * RESAMPLES:
        return Coefficient(by="clip", kind=kind, value=value, n=n, note="n too small for an interval")
    low, high = percentile(kept, LEVEL)
    return Coefficient(by="clip", kind=kind, value=value, low=low, high=high, n=n, note="bootstrap of prompts")


def _clips(
    study: StudyEntry, aspect: str, metric_id: str, rated: Mapping[str, RunEntry]
) -> tuple[Floats, Floats, list[str]] | None:
    """Score and mean rating of every clip that has both, and its prompt."""
    if "ratings" not in study.votes:
        return None
    columns = study.votes["ratings"].columns
    item_at, model_at, aspect_at, score_at = (columns.index(one) for one in ("item", "model", "aspect", "score"))
    ratings: dict[tuple[str, str], list[float]] = {}
    for row in study.votes["ratings"].rows:
        score = row[score_at]
        if row[aspect_at] == aspect and isinstance(score, int | float):
            ratings.setdefault((str(row[model_at]), str(row[item_at])), []).append(float(score))
    points = []
    for name, run in sorted(rated.items()):
        scores = dict(zip(run.samples.ids, run.samples.scores.get(metric_id, []), strict=False))
        for item in study.items:
            given, score = ratings.get((name, item)), scores.get(item)
            if given and score is not None:
                points.append((score, math.fsum(given) / len(given), item))
    if len(points) < 3:
        return None
    x, y, items = zip(*points, strict=True)
    return np.array(x), np.array(y), list(items)


def pair_accuracy(x: Sequence[float], y: Sequence[float], direction: str) -> tuple[float | None, int]:
    """(share of pairs ordered as people order them, pairs that people do not tie); a metric's tie counts half."""
    sign = -1 if direction == "lower" else 1
    sides = [
        (sign * (x[i] - x[j]) > 0) == (y[i] - y[j] > 0) if x[i] != x[j] else 0.5
        for i, j in combinations(range(len(x)), 2)
        if y[i] != y[j]
    ]
    return (math.fsum(sides) / len(sides), len(sides)) if sides else (None, 0)
