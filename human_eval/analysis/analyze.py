"""A study's tables to its result: screening first, then everything with and without the raters that it leaves out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from cogvideo.errors import UserError
from human_eval.analysis.bt500 import Bt500, bt500
from human_eval.analysis.findings import UNIT_SEPARATOR, Findings, Resampling, findings, scale_of
from human_eval.analysis.screening import Screening, ScreeningRules, screen
from human_eval.analysis.tables import StudyTables

SCHEMA = 1
COMMON_SCALE = (1.0, 5.0)
MOST_EXCLUDED = 0.2
CONVENTIONS = {
    "interval": "two-way: raters and items are both samples; naive intervals are given to show how far they fall short",
    "ties": "Bradley-Terry counts a tie as half a win for each; ties dropped, and Davidson, stand beside it",
    "none": "a vote for none stays in the denominator of favourite shares and compares nothing in strengths",
    "disconnected": "models that no votes join have no ranking",
    "separated": "a model that never lost, or never won, has no finite estimate",
    "lost resamples": "no interval where more than 1 % of the resamples have no finite estimate",
    "rank range": "places left open by simultaneous intervals of all differences of strengths (largest |t|)",
    "families": "p-values of pairs are adjusted over all pairs of one aspect: Holm and Benjamini-Hochberg",
    "tests": "Friedman, Wilcoxon and paired t compare means of raters, so that a rater counts once",
    "perfect coefficient": "an interval by a transform is not available where the coefficient is 1 or -1",
}


@dataclass(frozen=True)
class AnalysisSettings:
    """What was fixed before the answers were seen."""

    resampling: Resampling = field(default_factory=Resampling)
    rules: ScreeningRules = field(default_factory=ScreeningRules)


@dataclass(frozen=True)
class AnalysisResult:
    """Everything. `analysed` is without the screened-out raters, `everybody` with them (None where there are none)."""

    settings: AnalysisSettings
    conventions: Mapping[str, str]
    rules: Mapping[str, str]
    models: tuple[str, ...]
    n_raters: int
    excluded: dict[str, tuple[str, ...]]
    refused_payment: list[str]
    screening: Screening
    bt500: dict[str, Bt500]
    analysed: Findings
    everybody: Findings | None
    notes: list[str]

    def to_json(self) -> dict[str, Any]:
        """Plain dicts, lists, numbers and text; a number that does not exist is null."""
        plain = _plain(asdict(self))
        assert isinstance(plain, dict)
        return {"schema": SCHEMA, **plain}


def analyze_tables(tables: StudyTables, settings: AnalysisSettings | None = None) -> AnalysisResult:
    """Check, screen and analyse. The same tables and settings give the same numbers.

    Raises UserError for tables that are wrong or hold no answer, and where the rules leave nobody.
    """
    settings = settings or AnalysisSettings()
    tables = tables.checked()
    if not any(len(table) for table in (tables.ratings, tables.favourites, tables.pairs, tables.rankings)):
        raise UserError("the study has no answers yet; collect some, then analyse again")
    scores, aspects = screened_scores(tables)
    screening = screen(
        scores,
        checks=tables.checks if len(tables.checks) else None,
        timing=tables.timing if len(tables.timing) else None,
        rules=settings.rules,
        aspects=aspects,
        raters=tables.raters(),
    )
    excluded = screening.excluded
    kept = tables.without(list(excluded))
    if not kept.raters():
        raise UserError(
            f"the screening rules leave none of {len(excluded):,} raters; look at their flags in the screening table "
            "before changing a rule"
        )
    analysed = findings(kept, settings.resampling)
    everybody = findings(tables, settings.resampling) if excluded else None
    rejections = bt500(scores.to_numpy(float)) if scores.size else []
    return AnalysisResult(
        settings=settings,
        conventions=CONVENTIONS,
        rules=settings.rules.words(),
        models=tables.models,
        n_raters=len(tables.raters()),
        excluded=excluded,
        refused_payment=[name for name, one in screening.raters.items() if not one.accept],
        screening=screening,
        bt500={str(name): one for name, one in zip(scores.index, rejections, strict=True)} if rejections else {},
        analysed=analysed,
        everybody=everybody,
        notes=_notes(analysed, everybody, excluded, settings, len(tables.raters()), tables.n_simulated),
    )


def screened_scores(tables: StudyTables) -> tuple[pd.DataFrame, list[str]]:
    """(raters x units, aspect of each unit): all aspects brought to a scale of 1 to 5, so that one rule fits all."""
    rows = tables.ratings
    if not len(rows):
        return pd.DataFrame(), []
    low_high = {aspect: scale_of(tables, aspect) for aspect in rows["aspect"].unique()}
    low = rows["aspect"].map({aspect: scale[0] for aspect, scale in low_high.items()}).astype(float)
    high = rows["aspect"].map({aspect: scale[1] for aspect, scale in low_high.items()}).astype(float)
    share = (rows["score"] - low) / (high - low).where(high > low, 1.0)
    unit = rows["aspect"] + UNIT_SEPARATOR + rows["item"] + UNIT_SEPARATOR + rows["model"]
    scaled = pd.DataFrame(
        {
            "rater": rows["rater"],
            "unit": unit,
            "score": COMMON_SCALE[0] + (COMMON_SCALE[1] - COMMON_SCALE[0]) * share,
        }
    )
    table = scaled.pivot(index="rater", columns="unit", values="score").sort_index()
    aspect_of = dict(zip(unit, rows["aspect"], strict=True))
    return table, [str(aspect_of[name]) for name in table.columns]


def _notes(
    analysed: Findings,
    everybody: Findings | None,
    excluded: Mapping[str, tuple[str, ...]],
    settings: AnalysisSettings,
    n_raters: int,
    n_simulated: int,
) -> list[str]:
    """What a reader must know before quoting a number, in words."""
    notes = []
    if n_simulated:
        whom = f"All {n_raters:,} raters" if n_simulated == n_raters else f"{n_simulated:,} of {n_raters:,} raters"
        notes.append(f"{whom} are simulated: no person gave their answers, and nothing here is a finding about models.")
    ratios = [value for one in analysed.aspects.values() for value in one.naive_too_narrow.values()]
    if ratios:
        notes.append(
            f"Naive intervals would be {min(ratios):.1f} to {max(ratios):.1f} times too narrow: they take answers of "
            "one rater, and on one item, as independent."
        )
    if excluded:
        words = ", ".join(f"{name} ({', '.join(flags)})" for name, flags in excluded.items())
        notes.append(f"Left out by the screening rules: {words}. The same results with everybody stand beside these.")
    for rule in settings.rules.excluding:
        caught = sum(rule in flags for flags in excluded.values())
        if caught > MOST_EXCLUDED * n_raters:
            notes.append(
                f"The rule {rule!r} alone leaves out {caught:,} of {n_raters:,} raters: its limit may be too strict "
                "for honest raters of this study, which biases every result; compare with everybody."
            )
    for question, found in analysed.pairs.items():
        name = f" ({question})" if question else ""
        if found.bradley_terry.status != "ok":
            notes.append(f"Pairs{name}: {found.bradley_terry.status}: {found.bradley_terry.reason}.")
        if found.never_compared:
            pairs = "; ".join(" and ".join(pair) for pair in found.never_compared)
            notes.append(f"Pairs{name}: never compared directly: {pairs}.")
    if everybody is not None:
        notes += [
            f"{aspect}: the order of the models changes when nobody is left out."
            for aspect, found in analysed.aspects.items()
            if aspect in everybody.aspects and _order(found.opinions) != _order(everybody.aspects[aspect].opinions)
        ]
    return notes


def _order(opinions: list[Any]) -> list[str]:
    return [one.model for one in sorted(opinions, key=lambda one: -one.mean)]


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
