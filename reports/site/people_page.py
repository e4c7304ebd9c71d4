"""The human study, and how far the automatic metrics agree with it."""

from __future__ import annotations

from typing import Any

from eval.notation import Axis, number
from reports.board.document import AgreementEntry, StudyEntry
from reports.board.names import metric_page
from reports.figures import Point, interval_row, mark_of, round_axis, scatter, ticks_of
from reports.figures import Rows as FigureRows
from reports.site.metric_page import coefficient_cell
from reports.site.people_cells import ends, opinions, strength_results
from reports.site.site import Site, facts_of
from reports.site.table import Cell, Column, Row, Table, absent, measured, whole, words

EXPECTED = {"lower": "negative", "higher": "positive"}


def human(site: Site) -> dict[str, Any]:
    """The page of studies."""
    return site.frame("Human study", 0, "Human study", "charts.css") | {
        "sections": [_study(site, study) for study in site.board.studies]
    }


def _study(site: Site, study: StudyEntry) -> dict[str, Any]:
    analysis, analysed = study.analysis, study.analysis["analysed"]
    aspects = analysed.get("aspects") or {}
    tables = [_opinions(site, study, name) for name in aspects]
    return {
        "study": study,
        "name": study.title,
        "lead": _lead(study),
        "facts": facts_of(
            [
                (
                    "Raters",
                    _raters(study),
                ),
                ("Prompts", str(len(study.items))),
                ("Models", str(len(study.models))),
                ("Answers", f"{sum(len(one.rows) for one in study.votes.values()):,}"),
                ("Interval width reached", _precision(study)),
            ]
        ),
        "design": study.design,
        "opinions": [
            (study.names.get(name, name), table, site.export(table, ""))
            for name, table in zip(aspects, tables, strict=True)
        ],
        "shares": _shares(site, study),
        "strengths": _strengths(site, study),
        "positions": [(study.names.get(name, name), row) for name in aspects if (row := _position(aspects[name]))],
        "agreement": _raters_agree(site, study),
        "screening": _screening(site, study),
        "consent": study.consent,
        "notes": analysis.get("notes") or [],
        "votes": [(f"data/votes-{study.id}-{kind}.csv", kind, len(part.rows)) for kind, part in study.votes.items()],
        "inputs": study.inputs,
    }


def _lead(study: StudyEntry) -> list[tuple[str, bool]]:
    analysed = study.analysis["analysed"]
    raters = analysed.get("raters", 0)
    kind = "synthetic raters" if study.is_simulated else "raters"
    intro = f"{raters} {kind}, {len(study.items)} prompts, {len(study.models)} models. "
    for aspect in ("overall", *(analysed.get("aspects") or {})):
        found = opinions(study, aspect)
        if len(found) < 2:
            continue
        first, second = sorted(found, key=lambda one: -one["mean"])[:2]
        low, high = ends(first.get("interval"))
        words_ = f", {number(first['mean'], 2)} of {study.scales.get(aspect, (1, 5))[1]:g}"
        spread = (
            f" (95 % interval {number(low, 2)} to {number(high, 2)})" if low is not None and high is not None else ""
        )
        return [
            (intro, False),
            (f"{study.titles.get(first['model'], first['model'])} is rated highest", True),
            (
                f" on {study.names.get(aspect, aspect).lower()}{words_}{spread}; next is {_second(study, second)}.",
                False,
            ),
        ]
    return [(intro, False)]


def _second(study: StudyEntry, one: dict[str, Any]) -> str:
    return f"{study.titles.get(one['model'], one['model'])} with {number(one['mean'], 2)}"


def _raters(study: StudyEntry) -> str:
    analysis = study.analysis
    n = analysis.get("n_raters", analysis["analysed"].get("raters", ""))
    return f"{n}, {len(analysis.get('excluded') or {})} screened out"


def _precision(study: StudyEntry) -> str:
    """The median half width of an opinion's interval: what the number of raters and prompts was good for."""
    halves = sorted(
        (high - low) / 2
        for aspect in study.analysis["analysed"].get("aspects") or {}
        for one in opinions(study, aspect)
        for low, high in [ends(one.get("interval"))]
        if low is not None and high is not None
    )
    return f"± {halves[len(halves) // 2]:.2f} points (median)" if halves else ""


def _title(site: Site, study: StudyEntry, name: str) -> Cell:
    folder = study.models.get(name, "")
    run = next((one for one in site.board.runs if one.folder == folder), None)
    title = study.titles.get(name, name)
    return words(title, href=f"model/{run.model}.html" if run else "")


def _opinions(site: Site, study: StudyEntry, aspect: str) -> Table:
    """Means with all three kinds of interval."""
    found = sorted(opinions(study, aspect), key=lambda one: -one["mean"])
    low, high = study.scales.get(aspect, (1.0, 5.0))
    axis = Axis(low, high, (high - low) / 4)
    columns = [
        Column("model", "Model"),
        Column("mean", f"Mean, {low:g}–{high:g}", "raters and prompts vary", "number", has_interval=True),
        Column("by_rater", "Interval by rater"),
        Column("by_item", "Interval by prompt"),
        Column("naive", "Naive interval", "too narrow"),
        Column("n", "n", "", "number"),
    ]
    rows = []
    for one in found:
        cells: dict[str, Cell] = {"model": _title(site, study, one["model"])}
        ends_ = ends(one.get("interval"))
        cells["mean"] = measured(one["mean"], 2, *ends_, one["n"], mark=mark_of(axis, one["mean"], *ends_))
        for kind in ("by_rater", "by_item", "naive"):
            a, b = ends(one.get(kind))
            why = (one.get(kind) or {}).get("reason", "")
            cells[kind] = words(f"{a:.2f}–{b:.2f}") if a is not None and b is not None else absent("none", why)
        cells["n"] = whole(one["n"])
        rows.append(Row(one["model"], cells))
    name = study.names.get(aspect, aspect)
    return Table(f"opinions-{study.id}-{aspect}", f"{study.title}, {name}", columns, rows)


def _shares(site: Site, study: StudyEntry) -> list[tuple[str, Any]]:
    found = []
    for question, one in (study.analysis["analysed"].get("favourites") or {}).items():
        axis = Axis(0.0, 100.0, 25.0)
        rows = []
        for share in one.get("shares") or []:
            low, high = ends(share.get("interval"), 100)
            title = study.titles.get(
                share["option"], "Cannot say" if share["option"] not in study.models else share["option"]
            )
            rows.append(
                interval_row(
                    axis,
                    title,
                    100 * share["share"],
                    low,
                    high,
                    0,
                    note=f"{share['count']} of {share['n']} votes",
                    kind="mute",
                )
            )
        found.append(
            (
                question or "Favourite",
                FigureRows("Share of votes, %", tuple(rows), ticks_of(axis), ("Model", "%", "Votes")),
            )
        )
    return found


def _strengths(site: Site, study: StudyEntry) -> list[dict[str, Any]]:
    found = []
    for place, (question, fit) in enumerate(strength_results(study)):
        columns = [
            Column("model", "Model"),
            Column("theta", "Log strength", "95 % interval", "number", has_interval=True),
            Column("elo", "Elo scale", "", "number"),
            Column("rank", "Rank range"),
        ]
        values = [
            v for one in fit.get("strengths") or [] for v in (one["theta"], *ends(one.get("interval"))) if v is not None
        ]
        axis = round_axis(values or [0.0])
        rows = []
        for one in sorted(fit.get("strengths") or [], key=lambda one: -one["theta"]):
            low, high = ends(one.get("interval"))
            rank = (
                f"{one['rank_low']}" if one["rank_low"] == one["rank_high"] else f"{one['rank_low']}–{one['rank_high']}"
            )
            rows.append(
                Row(
                    one["model"],
                    {
                        "model": _title(site, study, one["model"]),
                        "theta": measured(
                            one["theta"], 2, low, high, int(fit["n"]), mark=mark_of(axis, one["theta"], low, high)
                        ),
                        "elo": Cell(f"{one['elo']:,.0f}", value=one["elo"]),
                        "rank": words(rank),
                    },
                )
            )
        table = Table(f"strengths-{study.id}-{place}", f"{study.title}, {fit['method']}", columns, rows)
        found.append(
            {
                "method": fit["method"],
                "question": question,
                "reason": _titled(study, fit.get("reason") or ""),
                "status": fit.get("status"),
                "table": table,
                "exports": site.export(table, "") if rows else [],
            }
        )
    return found


def _titled(study: StudyEntry, text: str) -> str:
    """A sentence of the analysis with titles in place of the study's own names of models."""
    for name in sorted(study.titles, key=len, reverse=True):
        text = text.replace(name, study.titles[name])
    return text


def _position(aspect: dict[str, Any]) -> str:
    """Whether the place on the page moved the answers."""
    one = aspect.get("position")
    if not one:
        return ""
    means = ", ".join(f"{place}: {mean:.2f}" for place, mean in one["mean_by_position"].items() if mean is not None)
    p = one.get("kruskal_p")
    said = "" if p is None else f"; {'no effect found' if p >= 0.05 else 'the place moved the answers'}, p {p:.2f}"
    return f"mean by place {means}{said}"


def _raters_agree(site: Site, study: StudyEntry) -> dict[str, Any] | None:
    columns = [
        Column("aspect", "Aspect"),
        Column("alpha", "Krippendorff's alpha", "interval scale", "number", has_interval=True),
        Column("icc", "ICC(C,k)", "of the mean", "number", has_interval=True),
    ]
    rows = []
    for name, aspect in (study.analysis["analysed"].get("aspects") or {}).items():
        one = aspect.get("agreement") or {}
        alpha = (one.get("alpha") or {}).get("interval") or {}
        icc = ((one.get("icc") or {}).get("coefficients") or {}).get("ICC(C,k)") or {}
        cells = {"aspect": words(study.names.get(name, name))}
        for key, found in (("alpha", alpha), ("icc", icc)):
            value = found.get("value")
            low, high = ends(found.get("interval"))
            cells[key] = (
                measured(value, 2, low, high) if value is not None else absent("undefined", found.get("reason") or "")
            )
        rows.append(Row(name, cells))
    if not rows:
        return None
    table = Table(f"raters-agree-{study.id}", f"{study.title}, agreement of raters", columns, rows)
    return {"table": table, "exports": site.export(table, "")}


def _screening(site: Site, study: StudyEntry) -> dict[str, Any] | None:
    raters = (study.analysis.get("screening") or {}).get("raters") or {}
    if not raters:
        return None
    columns = [
        Column("rater", "Rater"),
        Column("n", "Answers", "", "number"),
        Column("checks", "Checks passed"),
        Column("correlation", "Correlation with the others", "", "number"),
        Column("flags", "Flags"),
        Column("use", "Analysed"),
    ]
    rows = []
    for name, one in raters.items():
        value = one.get("correlation")
        rows.append(
            Row(
                name,
                {
                    "rater": words(name),
                    "n": whole(int(one.get("n") or 0)),
                    "checks": words(f"{one.get('checks_passed')} of {one.get('checks_shown')}"),
                    "correlation": measured(value, 2) if value is not None else absent("undefined"),
                    "flags": words(", ".join(one.get("flags") or []) or "none"),
                    "use": words("yes" if one.get("use") else "no"),
                },
            )
        )
    rows.sort(key=lambda row: (len(row.id), row.id))
    table = Table(f"screening-{study.id}", f"{study.title}, screening of raters", columns, rows)
    return {"table": table, "exports": site.export(table, "")}


def agreement(site: Site) -> dict[str, Any]:
    """The page of metrics against people."""
    parts = []
    for study in site.board.studies:
        for aspect in dict.fromkeys(one.aspect for one in site.board.agreement if one.study == study.id):
            found = [one for one in site.board.agreement if one.study == study.id and one.aspect == aspect]
            parts.append(_aspect(site, study, aspect, found))
    return site.frame("Metrics against people", 0, "Human study", "charts.css") | {
        "sections": parts,
        "lead": _agreement_lead(site),
    }


def _agreement_lead(site: Site) -> list[tuple[str, bool]]:
    n = len({point for one in site.board.agreement for point in one.points})
    if not site.board.agreement:
        return [("No human study covers models of this board yet.", False)]
    told = [
        one
        for one in site.board.agreement
        for c in one.coefficients
        if c.by == "model"
        and c.kind == "spearman"
        and c.low is not None
        and c.high is not None
        and (c.low > 0 or c.high < 0)
    ]
    if not told:
        return [
            ("For no metric does the interval of its correlation with people exclude zero", True),
            (f": {n} models are few. Read the order of pairs below as a hint.", False),
        ]
    names = dict.fromkeys(
        next(c.label for t in site.board.tables for c in t.metrics if c.id == one.metric) for one in told
    )
    return [("Correlated with people beyond chance: ", False), (", ".join(names), True), (".", False)]


def _aspect(site: Site, study: StudyEntry, aspect: str, found: list[AgreementEntry]) -> dict[str, Any]:
    labels = {c.id: c for table in site.board.tables for c in table.metrics}
    columns = [
        Column("metric", "Metric"),
        Column("spearman", "Spearman", "one point a model", "number", has_interval=True),
        Column("kendall", "Kendall", "one point a model", "number", has_interval=True),
        Column("clip", "Spearman", "one point a clip", "number", has_interval=True),
        Column("accuracy", "Pairs ordered alike", "of models", "number"),
        Column("expected", "Expected sign"),
    ]
    rows = []
    for one in found:
        column = labels[one.metric]
        rows.append(
            Row(
                one.metric,
                {
                    "metric": words(column.label, two=one.metric, href=f"metric/{metric_page(one.metric)}.html"),
                    "spearman": coefficient_cell(one, "spearman", "model"),
                    "kendall": coefficient_cell(one, "kendall", "model"),
                    "clip": coefficient_cell(one, "spearman", "clip"),
                    "accuracy": Cell(f"{100 * one.accuracy:.0f} %", value=one.accuracy, two=f"{one.pairs} pairs")
                    if one.accuracy is not None
                    else absent("no pairs"),
                    "expected": words(EXPECTED[one.direction]),
                },
            )
        )
    name = study.names.get(aspect, aspect)
    table = Table(f"agreement-{study.id}-{aspect}", f"{study.title}, {name}, metrics against people", columns, rows)
    return {
        "study": study,
        "aspect": aspect,
        "name": name,
        "table": table,
        "exports": site.export(table, ""),
        "plots": [
            (labels[one.metric].label, f"{study.id}-{aspect}-{metric_page(one.metric)}", plot)
            for one in found
            if (plot := _plot(site, study, aspect, name, one))
        ],
    }


def _plot(site: Site, study: StudyEntry, aspect: str, name: str, one: AgreementEntry) -> Any:
    column = next(c for table in site.board.tables for c in table.metrics if c.id == one.metric)
    intervals = {entry["model"]: ends(entry.get("interval")) for entry in opinions(study, aspect)}
    points = []
    for run_id, (x, y) in one.points.items():
        run = site.runs[run_id]
        metric = site.metric(run, one.metric)
        inside = metric.interval if metric else None
        model = next((n for n, folder in study.models.items() if folder == run.folder), "")
        low, high = intervals.get(model, (None, None))
        y_ends = (low, high) if low is not None and high is not None else None
        points.append(
            Point(
                site.title(run),
                x,
                y,
                (inside.low, inside.high) if inside else None,
                y_ends,
                href=f"model/{run.model}.html",
                is_named=len(one.points) <= 8,
            )
        )
    return scatter(points, column.label, name, x_decimals=column.decimals)
