"""Human scores beside the metrics: mean opinion, share of votes and strength of each model of a study, as cells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from eval.notation import Axis
from reports.board.document import RunEntry, StudyEntry
from reports.figures import mark_of, round_axis
from reports.site.table import Cell, Column, absent, measured


@dataclass(frozen=True)
class HumanColumn:
    """One column: the study's model -> (value, low, high, n) in the unit that is printed, and who may be the best."""

    column: Column
    decimals: int
    values: Mapping[str, tuple[float, float | None, float | None, int]]
    leading: frozenset[str] = frozenset()

    @property
    def axis(self) -> Axis:
        ends = [v for value, low, high, _ in self.values.values() for v in (value, low, high) if v is not None]
        return round_axis(ends)

    def cell(self, study: StudyEntry, run: RunEntry, axis: Axis, *, is_drawn: bool = True) -> Cell:
        """The cell of a run, or `not in study`."""
        name = next((one for one, folder in study.models.items() if folder == run.folder), None)
        if name is None or name not in self.values:
            return absent("not in study")
        value, low, high, n = self.values[name]
        leading = name in self.leading
        mark = mark_of(axis, value, low, high) if is_drawn else None
        kind = "own" if leading else "mute"
        return measured(value, self.decimals, low, high, n, mark=mark, kind=kind, leading=leading)


def human_columns(study: StudyEntry) -> list[HumanColumn]:
    """Opinion on the overall aspect (or the last one), share of votes, and strength where the study has them."""
    return [one for one in (_opinion(study), _preferred(study), _strength(study)) if one is not None]


def main_aspect(study: StudyEntry) -> str:
    """`overall` where it was asked, else the last aspect."""
    names = list(study.analysis["analysed"].get("aspects") or {})
    return "overall" if "overall" in names else names[-1] if names else ""


def opinions(study: StudyEntry, aspect: str) -> list[dict[str, Any]]:
    found = (study.analysis["analysed"].get("aspects") or {}).get(aspect) or {}
    return [one for one in found.get("opinions") or [] if one.get("mean") is not None]


def ends(interval: Mapping[str, Any] | None, scale: float = 1.0) -> tuple[float | None, float | None]:
    """Low and high of an interval record, or None and None."""
    low, high = (interval or {}).get("low"), (interval or {}).get("high")
    return (low * scale, high * scale) if low is not None and high is not None else (None, None)


def not_told_from_best(found: list[dict[str, Any]], differences: list[dict[str, Any]], key: str) -> frozenset[str]:
    """Models whose difference to the best is not told: its interval holds zero, or there is none."""
    if len(found) < 2:
        return frozenset()
    best = max(found, key=lambda one: one[key])["model"]
    behind = set()
    for one in differences:
        low, high = ends(one.get("interval"))
        if low is None or high is None:
            continue
        if one["first"] == best and low > 0:
            behind.add(one["second"])
        if one["second"] == best and high < 0:
            behind.add(one["first"])
    return frozenset(one["model"] for one in found) - behind


def _opinion(study: StudyEntry) -> HumanColumn | None:
    aspect = main_aspect(study)
    found = opinions(study, aspect)
    if not found:
        return None
    low, high = study.scales.get(aspect, (1, 5))
    raters = study.analysis["analysed"].get("raters", "")
    differences = study.analysis["analysed"]["aspects"][aspect].get("differences") or []
    return HumanColumn(
        Column("opinion", f"Opinion, {low:g}–{high:g}", f"higher, {raters} raters", "number", True, "higher"),
        2,
        {one["model"]: (one["mean"], *ends(one.get("interval")), one["n"]) for one in found},
        not_told_from_best(found, differences, "mean"),
    )


def _preferred(study: StudyEntry) -> HumanColumn | None:
    for question in (study.analysis["analysed"].get("favourites") or {}).values():
        shares = {
            one["option"]: (100 * one["share"], *ends(one.get("interval"), 100), one["n"])
            for one in question.get("shares") or []
            if one["option"] in study.models
        }
        if shares:
            return HumanColumn(Column("preferred", "Preferred", "% of votes", "number", True, "higher"), 0, shares)
    return None


def strength_results(study: StudyEntry) -> list[tuple[str, Mapping[str, Any]]]:
    """(question, fit) of every strength that was fitted: pairs first, then favourites, then rankings."""
    analysed = study.analysis["analysed"]
    found: list[tuple[str, Mapping[str, Any]]] = []
    for question, one in (analysed.get("pairs") or {}).items():
        found += [(question, one[kind]) for kind in ("bradley_terry", "davidson") if one.get(kind)]
    for part in ("favourites", "rankings"):
        found += [
            (q, one["plackett_luce"]) for q, one in (analysed.get(part) or {}).items() if one.get("plackett_luce")
        ]
    return found


def _strength(study: StudyEntry) -> HumanColumn | None:
    for _, fit in strength_results(study):
        if fit.get("status") == "ok" and fit.get("strengths"):
            values = {
                one["model"]: (one["theta"], *ends(one.get("interval")), int(fit["n"])) for one in fit["strengths"]
            }
            leading = frozenset(one["model"] for one in fit["strengths"] if one.get("rank_low") == 1)
            name = "Bradley-Terry" if "Bradley" in fit["method"] else fit["method"].split(",")[0]
            column = Column("strength", name, "log strength, higher", "number", True, "higher")
            return HumanColumn(column, 2, values, leading if len(values) > 1 else frozenset())
    return None
