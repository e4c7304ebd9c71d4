"""`analysis.html`: the result as one file without scripts. Each number stands with its interval and n."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eval.records import whole_file
from human_eval.analysis.analyze import AnalysisResult
from human_eval.analysis.findings import Findings
from human_eval.analysis.resampling import Interval
from human_eval.app.pages import FOLDER, environment
from human_eval.study.design import Study, said


@dataclass(frozen=True)
class Line:
    """One row: a value with its interval, both in percent of the axis. `leads`: not told apart from the best."""

    label: str
    value: str
    interval: str
    naive: str
    n: str
    at: float
    low: float | None
    high: float | None
    leads: bool


@dataclass(frozen=True)
class Block:
    """One question: a sentence, its rows, the ends of its axis."""

    title: str
    sentence: str
    note: str
    lines: list[Line]
    axis: tuple[str, str]


def write_page(study: Study, result: AnalysisResult, path: Path) -> Path:
    """Write the page whole."""
    html = (
        environment()
        .get_template("result.html.j2")
        .render(
            study=study,
            title=said(study.title, "en"),
            result=result,
            blocks=blocks(study, result.analysed),
            everybody=blocks(study, result.everybody) if result.everybody else [],
            style=(FOLDER / "static" / "study.css").read_text(encoding="utf-8"),
        )
    )
    with whole_file(path) as temporary:
        temporary.write_text(html, encoding="utf-8")
    return path


def blocks(study: Study, found: Findings) -> list[Block]:
    """Every question that was analysed, in the order of the study."""
    favourite = said(study.favourite.name, "en") if study.favourite else "Favourite"
    pair = said(study.pair.name, "en") if study.pair else "Pairs"
    return [
        *(_aspect(said(one.name, "en"), found.aspects[one.id]) for one in study.aspects if one.id in found.aspects),
        *(_shares(favourite, one) for one in found.favourites.values()),
        *(_strengths(pair, one.davidson, one.bradley_terry) for one in found.pairs.values()),
        *(_strengths("Ranking", one.plackett_luce, one.plackett_luce) for one in found.rankings.values()),
    ]


def _aspect(title: str, found: Any) -> Block:
    low, high = found.scale
    best = max(found.opinions, key=lambda one: one.mean)
    apart = {
        name
        for gap in found.differences
        for name in (gap.first, gap.second)
        if best.model in (gap.first, gap.second) and name != best.model and _excludes_zero(gap.interval)
    }
    lines = [
        Line(
            one.model,
            f"{one.mean:.2f}",
            _ends(one.interval, 2),
            _ends(one.naive, 2),
            f"{one.n:,}",
            _at(one.mean, low, high),
            _at(one.interval.low, low, high),
            _at(one.interval.high, low, high),
            one.model not in apart,
        )
        for one in sorted(found.opinions, key=lambda one: -one.mean)
    ]
    narrow = list(found.naive_too_narrow.values())
    note = f"Mean opinion on {low:g} to {high:g}."
    if narrow:
        note += f" Intervals over all ratings as if independent would be {max(narrow):.1f} times too narrow."
    return Block(
        title, _sentence([line for line in lines if line.leads], lines), note, lines, (f"{low:g}", f"{high:g}")
    )


def _shares(title: str, found: Any) -> Block:
    most = max((one.share for one in found.shares if one.option != "none"), default=0.0)
    best = next((one for one in found.shares if one.share == most and one.option != "none"), None)
    lines = [
        Line(
            "cannot say" if one.option == "none" else one.option,
            f"{100 * one.share:.1f} %",
            _ends(one.interval, 1, 100),
            "{:.1f} – {:.1f}".format(*(100 * end for end in one.wilson)),
            f"{one.count:,} of {one.n:,}",
            100 * one.share,
            None if one.interval.low is None else 100 * one.interval.low,
            None if one.interval.high is None else 100 * one.interval.high,
            one.option != "none" and best is not None and _overlap(one.interval, best.interval),
        )
        for one in sorted(found.shares, key=lambda one: -one.share)
    ]
    note = (
        "Share of votes; Wilson's interval, as if votes were independent, is the naive one. “Cannot say” stays in the"
    )
    return Block(
        title, _sentence([line for line in lines if line.leads], lines), f"{note} denominator.", lines, ("0 %", "100 %")
    )


def _strengths(title: str, result: Any, plain: Any) -> Block:
    shown = result if result.status == "ok" else plain
    if shown.status != "ok":
        return Block(title, shown.reason, f"{shown.n:,} votes.", [], ("", ""))
    known = [end for one in shown.strengths for end in (one.interval.low, one.interval.high, one.theta)]
    ends = [end for end in known if end is not None]
    low, high = min(ends), max(ends)
    lines = [
        Line(
            one.model,
            f"{one.theta:+.2f}".replace("-", "−"),
            _ends(one.interval, 2).replace("-", "−"),
            f"place {one.rank_low}" + (f" to {one.rank_high}" if one.rank_high != one.rank_low else ""),
            f"{shown.n:,}",
            _at(one.theta, low, high),
            _at(one.interval.low, low, high),
            _at(one.interval.high, low, high),
            one.rank_low == 1,
        )
        for one in sorted(shown.strengths, key=lambda one: -one.theta)
    ]
    note = f"Strength by {shown.method}, {shown.ties:,} ties. Last but one column: places that cannot be told apart."
    sentence = _sentence([line for line in lines if line.leads], lines)
    return Block(title, sentence, note, lines, (f"{low:.1f}", f"{high:.1f}"))


def _sentence(leading: list[Line], lines: list[Line]) -> str:
    if len(leading) == len(lines) or not leading:
        return "No difference found between the models."
    names = " and ".join(line.label for line in leading)
    if len(leading) == 1:
        return f"{names} is higher than the others: {leading[0].value}, 95 % interval {leading[0].interval}."
    return f"{names} cannot be told apart and are higher than the others."


def _at(value: float | None, low: float, high: float) -> float:
    if value is None:
        return 0.0
    return round(max(0.0, min(100.0, 100 * (value - low) / ((high - low) or 1))), 2)


def _ends(interval: Interval, decimals: int, times: float = 1) -> str:
    if interval.low is None or interval.high is None:
        return "n too small for an interval"
    return f"{times * interval.low:.{decimals}f} – {times * interval.high:.{decimals}f}"


def _excludes_zero(interval: Interval) -> bool:
    return interval.low is not None and interval.high is not None and not interval.low <= 0 <= interval.high


def _overlap(a: Interval, b: Interval) -> bool:
    if a.low is None or a.high is None or b.low is None or b.high is None:
        return True
    return a.high >= b.low
