"""`analysis.html`: the result as one file without scripts. Each number stands with its interval and n."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from eval.notation import number
from eval.records import whole_file
from human_eval.analysis.analyze import AnalysisResult
from human_eval.analysis.findings import AspectFindings, FavouriteFindings, Findings
from human_eval.analysis.resampling import Interval
from human_eval.analysis.strengths import StrengthResult
from human_eval.app.pages import FOLDER, environment
from human_eval.result_evidence import evidence
from human_eval.result_metrics import metrics_section, models_section
from human_eval.result_names import Names, names_of
from human_eval.result_places import choice_places_section
from human_eval.result_scatter import plot_groups, values_section
from human_eval.result_screening import left_out_section, screening_section
from human_eval.result_tables import (
    Column,
    Group,
    Row,
    Scale,
    Section,
    excludes_zero,
    listed,
    scale_round,
    several,
    words_of,
)
from human_eval.study.design import Study, said

INTERVAL = Column("95 % interval", "two-way", "right")
MOST_STEPS = 5
STYLES = ("study.css", "result.css")


def write_page(study: Study, result: AnalysisResult, path: Path) -> Path:
    """Write the page whole, with its styles in it."""
    html = result_html(study, result)
    with whole_file(path) as temporary:
        temporary.write_text(html, encoding="utf-8")
    return path


def result_html(study: Study, result: AnalysisResult, *, is_served: bool = False) -> str:
    """The page as text. `is_served`: its styles come from the server of the study, whose policy forbids them inside."""
    style = "" if is_served else "".join((FOLDER / "static" / name).read_text(encoding="utf-8") for name in STYLES)
    return (
        environment()
        .get_template("result.html.j2")
        .render(
            study=study,
            title=said(study.title, "en"),
            result=result,
            lead=_lead(study, result),
            sections=sections(study, result),
            named=named_otherwise(study),
            plots=plot_groups(result.analysed, names_of(study)),
            style=style,
            styles=STYLES,
            is_served=is_served,
        )
    )


def sections(study: Study, result: AnalysisResult) -> list[Section]:
    """Every part of the page: the scores, what stands behind them, then the scores with everybody."""
    names, found = names_of(study), result.analysed
    parts = [*evidence(found, names), choice_places_section(found, *questions_of(study))]
    parts += [metrics_section(found, names), values_section(found, names), models_section(found, names)]
    parts += [screening_section(result, names), left_out_section(result)]
    out = [*scores(study, found), *(part for part in parts if part is not None)]
    if result.everybody is not None:
        out += scores(study, result.everybody, "-everybody", ", with everybody")
    return out


def named_otherwise(study: Study) -> list[tuple[str, str]]:
    """(name on the page, id in the files) of each model where they differ."""
    names = names_of(study)
    return [(names.model(model.id), model.id) for model in study.models if names.model(model.id) != model.id]


def questions_of(study: Study) -> tuple[str, str]:
    """The names of the favourite and of the pairs."""
    favourite = said(study.favourite.name, "en") if study.favourite else "Favourite"
    return favourite, said(study.pair.name, "en") if study.pair else "Pairs"


def scores(study: Study, found: Findings, suffix: str = "", words: str = "") -> list[Section]:
    """Every question that was analysed, in the order of the study."""
    favourite, pair = questions_of(study)
    names = names_of(study)

    def made(kind: str, question: str, title: str, make: Any, *values: Any) -> Section:
        name = "-".join(part for part in (kind, question) if part)
        return Section(f"{name}{suffix}", f"{title}{words}", **make(names, *values))

    return [
        *(
            made("aspect", one.id, said(one.name, "en"), _aspect, found.aspects[one.id])
            for one in study.aspects
            if one.id in found.aspects
        ),
        *(made("favourite", q, favourite, _shares, one) for q, one in found.favourites.items()),
        *(made("pair", q, pair, _strengths, one.davidson, one.bradley_terry) for q, one in found.pairs.items()),
        *(
            made("ranking", q, "Ranking", _strengths, one.plackett_luce, one.plackett_luce)
            for q, one in found.rankings.items()
        ),
    ]


def _lead(study: Study, result: AnalysisResult) -> str:
    return (
        f"{several(result.n_raters, 'rater')}, {len(result.excluded):,} left out by rules fixed beforehand; "
        f"{several(len(study.main_items), 'prompt')}, {several(len(study.models), 'model')}. "
        "Intervals hold 95 % and take raters and prompts as samples."
    )


def _aspect(names: Names, found: AspectFindings) -> dict[str, Any]:
    low, high = found.scale
    best = max(found.opinions, key=lambda one: one.mean)
    apart = {
        name
        for gap in found.differences
        for name in (gap.first, gap.second)
        if best.model in (gap.first, gap.second) and name != best.model and excludes_zero(gap.interval)
    }
    scale = Scale(low, high, _step(low, high))
    rows = []
    for one in sorted(found.opinions, key=lambda one: -one.mean):
        value, words, n = number(one.mean, 2), words_of(one.interval, 2), f"{one.n:,}"
        name = names.model(one.model)
        mark = scale.mark(one.mean, one.interval, f"{name}: {value}, 95 % interval {words}, n = {n}")
        rows.append(Row(name, (value, words, mark, words_of(one.naive, 2), n), one.model not in apart))
    return {
        "sentence": _sentence(rows),
        "note": f"Mean opinion on {low:g} to {high:g}.",
        "head": "Model",
        "columns": (
            Column("Mean", kind="right"),
            INTERVAL,
            Column(f"{low:g} to {high:g}", kind="figure"),
            Column("Naive interval", "as if independent", "right"),
            Column("n", "ratings", "right"),
        ),
        "groups": [Group("", rows)],
    }


def _step(low: float, high: float) -> float:
    """A whole step that divides the scale into at most five parts, else a quarter of it."""
    width = high - low
    wholes = [step for step in range(1, int(width) + 1) if width % step == 0 and width / step <= MOST_STEPS]
    return float(wholes[0]) if wholes and width / wholes[0] > 1 else width / 4 or 1.0


def _shares(names: Names, found: FavouriteFindings) -> dict[str, Any]:
    most = max((one.share for one in found.shares if one.option != "none"), default=0.0)
    best = next((one for one in found.shares if one.share == most and one.option != "none"), None)
    scale, rows = Scale(0.0, 100.0, 25.0), []
    for one in sorted(found.shares, key=lambda one: -one.share):
        name = "cannot say" if one.option == "none" else names.model(one.option)
        value, inside = f"{number(100 * one.share, 1)} %", _percent(one.interval)
        words, naive = words_of(inside, 1), words_of(Interval(100 * one.wilson[0], 100 * one.wilson[1], "Wilson"), 1)
        n = f"{one.count:,} of {one.n:,}"
        mark = scale.mark(100 * one.share, inside, f"{name}: {value}, 95 % interval {words}, {n} votes")
        leads = one.option != "none" and best is not None and _overlap(one.interval, best.interval)
        rows.append(Row(name, (value, words, mark, naive, n), leads))
    return {
        "sentence": _sentence([row for row in rows if row.name != "cannot say"]),
        "note": "Share of votes. “Cannot say” stays in the denominator.",
        "head": "Model",
        "columns": (
            Column("Share", kind="right"),
            Column("95 % interval", "two-way, %", "right"),
            Column("0 to 100 %", kind="figure"),
            Column("Naive interval", "Wilson, %", "right"),
            Column("Votes", kind="right"),
        ),
        "groups": [Group("", rows)],
    }


def _strengths(names: Names, result: StrengthResult, plain: StrengthResult) -> dict[str, Any]:
    shown = result if result.status == "ok" else plain
    if shown.status != "ok":
        return {"sentence": f"No ranking: {shown.reason}.", "note": f"{several(shown.n, 'vote')}."}
    scale = scale_round([end for one in shown.strengths for end in (one.interval.low, one.interval.high, one.theta)])
    rows = []
    for one in sorted(shown.strengths, key=lambda one: -one.theta):
        value, words = number(one.theta, 2, sign=True), words_of(one.interval, 2, sign=True)
        places = f"{one.rank_low}" + (f" to {one.rank_high}" if one.rank_high != one.rank_low else "")
        name = names.model(one.model)
        mark = scale.mark(one.theta, one.interval, f"{name}: {value}, 95 % interval {words}", has_zero=True)
        rows.append(Row(name, (value, words, mark, places, f"{shown.n:,}"), one.rank_low == 1))
    return {
        "sentence": _sentence(rows),
        "note": f"Strength by {shown.method}, {several(shown.ties, 'tie')}. Places: those that the votes leave open.",
        "head": "Model",
        "columns": (
            Column("Strength", kind="right"),
            INTERVAL,
            Column("Strength", kind="figure"),
            Column("Places", kind="right"),
            Column("n", "votes", "right"),
        ),
        "groups": [Group("", rows)],
    }


def _sentence(rows: list[Row]) -> str:
    leading = [row for row in rows if row.leads]
    if len(rows) == 1:
        return f"{rows[0].name} alone: {rows[0].cells[0]}, 95 % interval {rows[0].cells[1]}."
    if len(leading) == len(rows) or not leading:
        return "No difference found between the models."
    if len(leading) == 1:
        one = leading[0]
        return f"{one.name} is higher than the others: {one.cells[0]}, 95 % interval {one.cells[1]}."
    return f"{listed([row.name for row in leading])} cannot be told apart and are higher than the others."


def _percent(interval: Interval) -> Interval:
    if interval.low is None or interval.high is None:
        return interval
    return Interval(100 * interval.low, 100 * interval.high, interval.method, interval.level)


def _overlap(a: Interval, b: Interval) -> bool:
    if a.low is None or a.high is None or b.low is None or b.high is None:
        return True
    return a.high >= b.low
