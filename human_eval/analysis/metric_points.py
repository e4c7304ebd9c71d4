"""What a scatter of an automatic metric against people shows: a point a model with its intervals, a point a video."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
from scipy import stats

from eval.intervals import LEVEL
from human_eval.analysis.means import MeanOpinion

RUN = "of the run"
OVER_PROMPTS = "Student's t over the prompts of the study"


@dataclass(frozen=True)
class MetricPoint:
    """A metric's value and the mean score by people of one model, or of one of its videos (`item` is not empty).

    Ends are None where there is no interval; a video's have none. `n` is the number of ratings.
    """

    model: str
    item: str
    value: float
    value_low: float | None
    value_high: float | None
    human: float
    human_low: float | None
    human_high: float | None
    n: int


@dataclass(frozen=True)
class MetricPoints:
    """All points of one metric. `value_interval` says how the intervals of the models' values came about."""

    metric: str
    direction: str
    value_interval: str
    models: list[MetricPoint]
    items: list[MetricPoint]


def metric_points(
    ratings: pd.DataFrame, opinions: Sequence[MeanOpinion], values: pd.DataFrame, level: float = LEVEL
) -> MetricPoints:
    """Points of one metric (rows `values`) and one aspect (rows `ratings`, and their mean opinions).

    A metric with a value a video stands, for a model, at the mean over the study's prompts; else at the run's value.
    Models without a value, as real videos often are, have no point.
    """
    metric, direction = str(values["metric"].iloc[0]), str(values["direction"].iloc[0])
    single = values[values["item"] != ""]
    human = ratings.groupby(["model", "item"])["score"].agg(human="mean", ratings="size").reset_index()
    both = human.merge(single[["model", "item", "value"]], on=["model", "item"], how="inner")
    columns = (both[name].tolist() for name in ("model", "item", "value", "human", "ratings"))
    items = [
        MetricPoint(model, item, value, None, None, mean, None, None, n)
        for model, item, value, mean, n in zip(*columns, strict=True)
    ]
    models = []
    for one in opinions:
        if len(single):
            found = _over_prompts(both.loc[both["model"] == one.model, "value"].tolist(), level)
        else:
            found = _of_run(values[values["model"] == one.model])
        if found is not None:
            inside = one.interval
            models.append(MetricPoint(one.model, "", *found, one.mean, inside.low, inside.high, one.n))
    return MetricPoints(metric, direction, OVER_PROMPTS if len(single) else RUN, models, items)


def _over_prompts(values: list[float], level: float) -> tuple[float, float | None, float | None] | None:
    if not values:
        return None
    series = pd.Series(values)
    mean = float(series.mean())
    if len(values) < 2:
        return mean, None, None
    half = float(stats.t.ppf((1 + level) / 2, len(values) - 1)) * float(series.std(ddof=1)) / math.sqrt(len(values))
    return mean, mean - half, mean + half


def _of_run(rows: pd.DataFrame) -> tuple[float, float | None, float | None] | None:
    if not len(rows):
        return None
    row = rows.iloc[0]
    ends = [float(row[name]) if name in rows.columns else math.nan for name in ("low", "high")]
    low, high = (None if math.isnan(end) else end for end in ends)
    return float(row["value"]), low, high
