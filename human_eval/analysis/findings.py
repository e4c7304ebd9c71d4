"""Everything that is computed from one set of answers: by aspect, by question of favourites, pairs and rankings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from eval.intervals import LEVEL
from human_eval.analysis.agreement import SCALES, Alpha, krippendorff_alpha, unit_counts
from human_eval.analysis.contests import HeadToHead, TiePolicy, favourite_votes, head_to_head, pair_votes, ranking_votes
from human_eval.analysis.correlation import (
    CoefficientDifference,
    MetricAgreement,
    coefficient_difference,
    metric_agreement,
)
from human_eval.analysis.elo_order import EloOrder, elo_order
from human_eval.analysis.icc import IntraClassFamily, intra_class
from human_eval.analysis.kappa import fleiss_kappa, kappa_interval, kendall_w, mean_pairwise_spearman
from human_eval.analysis.means import MeanDifference, MeanOpinion, mean_opinions
from human_eval.analysis.metric_points import MetricPoints, metric_points
from human_eval.analysis.mixed_model import MixedModel, mixed_model
from human_eval.analysis.places import ChoicePlaces, favourite_places, pair_places
from human_eval.analysis.rank_tests import (
    Friedman,
    PairTest,
    PositionEffect,
    friedman,
    pair_tests,
    position_effect,
    rater_means,
)
from human_eval.analysis.rater_model import p910, p913
from human_eval.analysis.resampling import RESAMPLES, Interval
from human_eval.analysis.shares import Share, VoteTests, shares, vote_tests
from human_eval.analysis.strengths import StrengthResult, strengths
from human_eval.analysis.tables import NONE, RANKING_SEPARATOR, StudyTables

UNIT_SEPARATOR = "|"
MOST_KAPPA_VALUES = 20
TIES: dict[TiePolicy, str] = {
    "half": "Bradley-Terry, a tie is half a win",
    "dropped": "Bradley-Terry, ties dropped",
    "davidson": "Davidson",
}


@dataclass(frozen=True)
class Resampling:
    """How intervals are drawn: the same for every number of a result."""

    resamples: int = RESAMPLES
    seed: int = 0
    level: float = LEVEL

    @property
    def options(self) -> dict[str, Any]:
        """As keyword arguments."""
        return {"resamples": self.resamples, "seed": self.seed, "level": self.level}


@dataclass(frozen=True)
class Agreement:
    """How far raters agree on the units (item and model) of one aspect."""

    alpha: dict[str, Alpha]
    icc: IntraClassFamily
    fleiss_kappa: float | None
    fleiss_interval: Interval | None
    randolph_kappa: float | None
    mean_pairwise_spearman: float | None


@dataclass(frozen=True)
class RaterModelFindings:
    """P.910 and P.913 quality of each unit `item|model`, its mean by model; bias and inconsistency of each rater."""

    quality: dict[str, float]
    quality_se: dict[str, float]
    quality_by_model: dict[str, float]
    p913_quality: dict[str, float]
    bias: dict[str, float]
    inconsistency: dict[str, float]
    converged: bool
    corrected: bool


@dataclass(frozen=True)
class AspectFindings:
    """One aspect of the ratings. `naive_too_narrow`: width of the two-way over the naive interval, by model."""

    aspect: str
    scale: tuple[float, float]
    n: int
    opinions: list[MeanOpinion]
    differences: list[MeanDifference]
    naive_too_narrow: dict[str, float]
    friedman: Friedman | None
    pair_tests: list[PairTest]
    mixed_model: MixedModel | None
    position: PositionEffect | None
    agreement: Agreement
    rater_model: RaterModelFindings


@dataclass(frozen=True)
class FavouriteFindings:
    """One best-of-N question."""

    question: str
    n: int
    shares: list[Share]
    tests: VoteTests | None
    plackett_luce: StrengthResult
    position: ChoicePlaces | None


@dataclass(frozen=True)
class PairFindings:
    """One pairwise question under each treatment of ties; `elo` only shows how much the row order would matter."""

    question: str
    n: int
    votes: HeadToHead
    bradley_terry: StrengthResult
    bradley_terry_ties_dropped: StrengthResult
    davidson: StrengthResult
    elo: EloOrder
    never_compared: list[tuple[str, str]]
    position: ChoicePlaces | None


@dataclass(frozen=True)
class RankingFindings:
    """One ranking question. Kendall's W and Friedman take complete rankings of all models only."""

    question: str
    n: int
    complete: int
    plackett_luce: StrengthResult
    mean_rank: dict[str, float]
    kendall_w: float | None
    friedman: Friedman | None


@dataclass(frozen=True)
class MetricFindings:
    """Automatic metrics against the mean human score of one aspect; `points` are in the order of the metrics."""

    aspect: str
    metrics: list[MetricAgreement]
    differences: list[CoefficientDifference]
    points: list[MetricPoints]


@dataclass(frozen=True)
class Findings:
    """All results on one set of raters."""

    raters: int
    aspects: dict[str, AspectFindings] = field(default_factory=dict)
    favourites: dict[str, FavouriteFindings] = field(default_factory=dict)
    pairs: dict[str, PairFindings] = field(default_factory=dict)
    rankings: dict[str, RankingFindings] = field(default_factory=dict)
    metrics: dict[str, MetricFindings] = field(default_factory=dict)


def findings(tables: StudyTables, how: Resampling | None = None) -> Findings:
    """Analyse checked tables as they are, without leaving anybody out."""
    how = how or Resampling()
    ratings = tables.ratings
    aspects = {
        aspect: aspect_findings(
            aspect, ratings[ratings["aspect"] == aspect], scale_of(tables, aspect), tables.models, how
        )
        for aspect in aspects_of(tables)
    }
    return Findings(
        raters=len(tables.raters()),
        aspects=aspects,
        favourites={q: _favourites(q, rows, tables.models, how) for q, rows in _questions(tables.favourites)},
        pairs={q: _pairs(q, rows, tables.models, how) for q, rows in _questions(tables.pairs)},
        rankings={q: _rankings(q, rows, tables.models, how) for q, rows in _questions(tables.rankings)},
        metrics=_metrics(tables, aspects, how),
    )


def aspects_of(tables: StudyTables) -> list[str]:
    """Aspects that were rated: in the order of the study's scales, then by name."""
    rated = set(tables.ratings["aspect"])
    return [one for one in tables.scales if one in rated] + sorted(rated - set(tables.scales))


def scale_of(tables: StudyTables, aspect: object) -> tuple[float, float]:
    """The aspect's scale, or the lowest and highest score that were given."""
    if str(aspect) in tables.scales:
        return tables.scales[str(aspect)]
    scores = tables.ratings.loc[tables.ratings["aspect"] == aspect, "score"]
    return float(scores.min()), float(scores.max())


def aspect_findings(
    aspect: object, rows: pd.DataFrame, scale: tuple[float, float], models: tuple[str, ...], how: Resampling
) -> AspectFindings:
    """Everything about one aspect's rating rows."""
    names = [model for model in models if (rows["model"] == model).any()]
    opinions, differences = mean_opinions(rows, scale=scale, models=names, **how.options)
    means = rater_means(rows, names)
    narrow = {
        one.model: one.interval.se / one.naive.se for one in opinions if one.interval.se is not None and one.naive.se
    }
    return AspectFindings(
        aspect=str(aspect),
        scale=scale,
        n=len(rows),
        opinions=opinions,
        differences=differences,
        naive_too_narrow=narrow,
        friedman=friedman(means),
        pair_tests=pair_tests(means, names),
        mixed_model=mixed_model(rows, names, level=how.level),
        position=position_effect(rows, how.level),
        agreement=_agreement(rows, how),
        rater_model=_rater_model(rows, names),
    )


def unit_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Raters x units (`item|model`) of one aspect's rating rows, NaN where not rated."""
    named = rows.assign(unit=rows["item"] + UNIT_SEPARATOR + rows["model"])
    return named.pivot(index="rater", columns="unit", values="score").sort_index()


def _agreement(rows: pd.DataFrame, how: Resampling) -> Agreement:
    table = unit_table(rows).to_numpy(float)
    alpha: dict[str, Alpha] = {scale: krippendorff_alpha(table, scale, **how.options) for scale in SCALES}
    values, counts = unit_counts(table)
    few = 2 <= len(values) <= MOST_KAPPA_VALUES and bool((counts.sum(1) >= 2).any())
    return Agreement(
        alpha=alpha,
        icc=intra_class(table.T, how.level),
        fleiss_kappa=_known(fleiss_kappa(counts)) if few else None,
        fleiss_interval=kappa_interval(counts, **how.options) if few else None,
        randolph_kappa=_known(fleiss_kappa(counts, "randolph")) if few else None,
        mean_pairwise_spearman=_known(mean_pairwise_spearman(table)),
    )


def _rater_model(rows: pd.DataFrame, models: list[str]) -> RaterModelFindings:
    table = unit_table(rows)
    found, (plain, _) = p910(table), p913(table)
    units, raters = [str(unit) for unit in table.columns], [str(rater) for rater in table.index]
    quality = dict(zip(units, found.quality.tolist(), strict=True))
    by_model = {
        model: [value for unit, value in quality.items() if unit.endswith(UNIT_SEPARATOR + model)] for model in models
    }
    return RaterModelFindings(
        quality=quality,
        quality_se=dict(zip(units, found.quality_se.tolist(), strict=True)),
        quality_by_model={model: float(np.mean(values)) for model, values in by_model.items() if values},
        p913_quality=dict(zip(units, plain.tolist(), strict=True)),
        bias=dict(zip(raters, found.bias.tolist(), strict=True)),
        inconsistency=dict(zip(raters, found.inconsistency.tolist(), strict=True)),
        converged=found.converged,
        corrected=found.corrected,
    )


def _favourites(question: str, rows: pd.DataFrame, models: tuple[str, ...], how: Resampling) -> FavouriteFindings:
    found = shares(rows, **how.options)
    order = {model: place for place, model in enumerate((*models, NONE))}
    found = sorted(found, key=lambda one: order.get(one.option, len(order)))
    strength = strengths(
        favourite_votes(rows, models),
        "Plackett-Luce, first choice",
        **how.options,
    )
    places = favourite_places(rows, how.level)
    return FavouriteFindings(question, len(rows), found, vote_tests(found), strength, places)


def _pairs(question: str, rows: pd.DataFrame, models: tuple[str, ...], how: Resampling) -> PairFindings:
    half, dropped, davidson = (
        strengths(pair_votes(rows, ties, models), name, **how.options) for ties, name in TIES.items()
    )
    met = {frozenset(pair) for pair in zip(rows["model_a"], rows["model_b"], strict=True)}
    names = [model for model in models if any(model in pair for pair in met)]
    never = [pair for pair in combinations(names, 2) if frozenset(pair) not in met]
    return PairFindings(
        question=question,
        n=len(rows),
        votes=head_to_head(rows, names),
        bradley_terry=half,
        bradley_terry_ties_dropped=dropped,
        davidson=davidson,
        elo=elo_order(rows),
        never_compared=never,
        position=pair_places(rows, how.level),
    )


def _rankings(question: str, rows: pd.DataFrame, models: tuple[str, ...], how: Resampling) -> RankingFindings:
    strength = strengths(ranking_votes(rows, models), "Plackett-Luce", **how.options)
    ranks = [
        {name: place + 1.0 for place, name in enumerate(text.split(RANKING_SEPARATOR))} for text in rows["ranking"]
    ]
    table = pd.DataFrame(ranks)
    table = table[[model for model in models if model in table.columns]]
    complete = table.dropna().to_numpy(float)
    return RankingFindings(
        question=question,
        n=len(rows),
        complete=len(complete),
        plackett_luce=strength,
        mean_rank={str(model): float(value) for model, value in table.mean().items()},
        kendall_w=_known(kendall_w(complete)) if len(complete) > 1 else None,
        friedman=friedman(complete) if len(complete) else None,
    )


def _metrics(tables: StudyTables, aspects: Mapping[str, AspectFindings], how: Resampling) -> dict[str, MetricFindings]:
    out = {}
    for aspect in aspects_of(tables) if len(tables.metrics) else ():
        rows = tables.ratings[tables.ratings["aspect"] == aspect]
        human = rows.assign(human=rows["score"]).groupby(["model", "item"])[["human"]].mean().reset_index()
        found, drawn, wide, sides = [], [], human, {}
        for metric, values in tables.metrics.groupby("metric", sort=True):
            direction = str(values["direction"].iloc[0])
            points, per_item = _joined(human, values)
            found.append(metric_agreement(points, str(metric), direction, **how.options))
            drawn.append(metric_points(rows, aspects[aspect].opinions, values, how.level))
            if per_item:
                column = values[["model", "item", "value"]].rename(columns={"value": str(metric)})
                wide = wide.merge(column, on=["model", "item"], how="left")
                sides[str(metric)] = direction
        gaps = [
            coefficient_difference(wide, (a, sides[a]), (b, sides[b]), **how.options)
            for a, b in combinations(sides, 2)
            if len(wide.dropna(subset=[a, b])) > 2
        ]
        out[str(aspect)] = MetricFindings(str(aspect), found, gaps, drawn)
    return out


def _joined(human: pd.DataFrame, values: pd.DataFrame) -> tuple[pd.DataFrame, bool]:
    """Human means beside a metric's values: by item where it has them, else one row a model."""
    single = values[values["item"] != ""]
    if len(single):
        return human.merge(single[["model", "item", "value"]], on=["model", "item"], how="inner"), True
    means = human.groupby("model")[["human"]].mean().reset_index().assign(item="")
    return means.merge(values[["model", "value"]], on="model", how="inner"), False


def _questions(table: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    if "question" not in table.columns:
        return [("", table)] if len(table) else []
    return [(str(name), rows.reset_index(drop=True)) for name, rows in table.groupby("question", sort=True)]


def _known(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
