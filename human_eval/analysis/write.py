"""analysis.json and CSV tables of a result, written whole."""

from __future__ import annotations

import csv
import io
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from human_eval.analysis.analyze import AnalysisResult
from human_eval.analysis.findings import FavouriteFindings, Findings, PairFindings
from human_eval.analysis.resampling import Interval
from human_eval.spreadsheet import harmless

Row = dict[str, Any]
JSON_NAME = "analysis.json"


def write_analysis(result: AnalysisResult, folder: Path) -> list[Path]:
    """Write `analysis.json` and one CSV table for each kind of result; returns their paths, the JSON first.

    Every table has a row a number, its interval as low, high, level, method, se, resamples, seed and reason, and
    `raters` saying whether screened-out raters are in (`everybody`) or not (`analysed`). Each file appears whole.
    """
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(result.to_json(), ensure_ascii=False, indent=1, allow_nan=False) + "\n"
    paths = [_write(folder / JSON_NAME, text)]
    for name, rows in tables_of(result).items():
        if rows:
            paths.append(_write(folder / f"{name}.csv", csv_text(rows)))
    return paths


def tables_of(result: AnalysisResult) -> dict[str, list[Row]]:
    """The flat tables by name; those without a row are empty."""
    sets = {"analysed": result.analysed} | ({"everybody": result.everybody} if result.everybody else {})
    makers = {
        "opinions": _opinions,
        "opinion_differences": _opinion_differences,
        "opinion_tests": _opinion_tests,
        "shares": _shares,
        "strengths": _strengths,
        "strength_differences": _strength_differences,
        "agreement": _agreement,
        "positions": _positions,
        "choice_positions": _choice_positions,
        "metric_correlations": _correlations,
    }
    tables = {
        name: [{"raters": which, **row} for which, found in sets.items() for row in make(found)]
        for name, make in makers.items()
    }
    tables["screening"] = [
        {
            "rater": name,
            "use": one.use,
            "accept": one.accept,
            "flags": " ".join(one.flags),
            "n": one.n,
            "variance": one.variance,
            "checks_shown": one.checks_shown,
            "checks_passed": one.checks_passed,
            "median_response_seconds": one.median_response_seconds,
            "correlation": one.correlation,
            "bt500_rejected": result.bt500[name].rejected if name in result.bt500 else None,
        }
        for name, one in result.screening.raters.items()
    ]
    return tables


def csv_text(rows: list[Row]) -> str:
    """Rows as CSV with one header; text that a spreadsheet would run as a formula gets an apostrophe in front."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    out = io.StringIO()
    writer = csv.DictWriter(out, names, lineterminator="\n", restval="")
    writer.writeheader()
    writer.writerows({name: _cell(value) for name, value in row.items()} for row in rows)
    return out.getvalue()


def _cell(value: Any) -> Any:
    if value is None or (isinstance(value, float) and value != value):
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        # A bare carriage return would end the row for some readers.
        return harmless(value).replace("\r", " ")
    return value


def _flat(interval: Interval | None, prefix: str = "") -> Row:
    """The fields of an interval as columns."""
    return {f"{prefix}{f.name}": getattr(interval, f.name) if interval else None for f in fields(Interval)}


def _ends(interval: Interval, prefix: str) -> Row:
    return {f"{prefix}_low": interval.low, f"{prefix}_high": interval.high}


def _ends_of(ends: tuple[float, float], prefix: str) -> Row:
    return {f"{prefix}_low": ends[0], f"{prefix}_high": ends[1]}


def _opinions(found: Findings) -> Iterator[Row]:
    for aspect in found.aspects.values():
        for one in aspect.opinions:
            yield {
                "aspect": aspect.aspect,
                "model": one.model,
                "mean": one.mean,
                **_flat(one.interval),
                "n": one.n,
                "n_raters": one.raters,
                "n_items": one.items,
                "sd": one.sd,
                "median": one.median,
                "top2": one.top2,
                "design_effect": one.design_effect,
                "n_effective": one.n_effective,
                **_ends(one.naive, "naive"),
                **_ends(one.by_rater, "by_rater"),
                **_ends(one.by_item, "by_item"),
                **_ends(one.two_way_bootstrap, "two_way_bootstrap"),
            }


def _opinion_differences(found: Findings) -> Iterator[Row]:
    for aspect in found.aspects.values():
        for one in aspect.differences:
            yield {
                "aspect": aspect.aspect,
                "first": one.first,
                "second": one.second,
                "difference": one.difference,
                **_flat(one.interval),
                "n_first": one.n_first,
                "n_second": one.n_second,
                **_ends(one.by_rater, "by_rater"),
                **_ends(one.two_way_bootstrap, "two_way_bootstrap"),
            }


def _opinion_tests(found: Findings) -> Iterator[Row]:
    for aspect in found.aspects.values():
        for one in aspect.pair_tests:
            numbers = {f.name: getattr(one, f.name) for f in fields(one) if f.name != "raters"}
            yield {"aspect": aspect.aspect, **numbers, "n": one.raters}


def _shares(found: Findings) -> Iterator[Row]:
    for question in found.favourites.values():
        for one in question.shares:
            yield {
                "question": question.question,
                "option": one.option,
                "share": one.share,
                **_flat(one.interval),
                "count": one.count,
                "n": one.n,
                "n_raters": one.raters,
                **_ends_of(one.wilson, "wilson"),
                **_ends_of(one.clopper_pearson, "clopper_pearson"),
                **_ends_of(one.jeffreys, "jeffreys"),
                **_ends_of(one.goodman, "goodman"),
                **_ends(one.by_rater, "by_rater"),
                **_ends(one.two_way_bootstrap, "two_way_bootstrap"),
            }


def _results(found: Findings) -> Iterator[tuple[str, Any]]:
    for question in found.pairs.values():
        for one in (question.bradley_terry, question.bradley_terry_ties_dropped, question.davidson):
            yield question.question, one
    for favourites in found.favourites.values():
        yield favourites.question, favourites.plackett_luce
    for rankings in found.rankings.values():
        yield rankings.question, rankings.plackett_luce


def _strengths(found: Findings) -> Iterator[Row]:
    for question, result in _results(found):
        head = {"question": question, "fit": result.method, "status": result.status, "n": result.n}
        if not result.strengths:
            yield head | {"reason": result.reason}
        for one in result.strengths:
            yield {
                **head,
                "model": one.model,
                "theta": one.theta,
                **_flat(one.interval),
                "elo": one.elo,
                "elo_low": one.elo_low,
                "elo_high": one.elo_high,
                "rank": one.rank,
                "rank_low": one.rank_low,
                "rank_high": one.rank_high,
                "se_model": one.se_model,
                "se_by_rater": one.se_by_rater,
                **_ends(one.by_rater, "by_rater"),
                **_ends(one.two_way_bootstrap, "two_way_bootstrap"),
            }


def _strength_differences(found: Findings) -> Iterator[Row]:
    for question, result in _results(found):
        for one in result.differences:
            yield {
                "question": question,
                "fit": result.method,
                "first": one.first,
                "second": one.second,
                "difference": one.difference,
                **_flat(one.interval),
                "n": one.votes,
            }


def _agreement(found: Findings) -> Iterator[Row]:
    for aspect in found.aspects.values():
        one = aspect.agreement
        for scale, alpha in one.alpha.items():
            yield {
                "aspect": aspect.aspect,
                "coefficient": f"Krippendorff's alpha, {scale}",
                "value": alpha.value,
                **_flat(alpha.interval),
                "n_units": alpha.units,
                "n_raters": alpha.raters,
                **({"reason": alpha.reason} if alpha.value is None else {}),
            }
        for name, icc in one.icc.coefficients.items():
            yield {
                "aspect": aspect.aspect,
                "coefficient": name,
                "value": icc.value,
                **_flat(icc.interval),
                "n_units": one.icc.units,
                "n_raters": one.icc.raters,
            }
        yield {
            "aspect": aspect.aspect,
            "coefficient": "Fleiss' kappa",
            "value": one.fleiss_kappa,
            **_flat(one.fleiss_interval),
        }


def _positions(found: Findings) -> Iterator[Row]:
    for aspect in found.aspects.values():
        if (one := aspect.position) is None:
            continue
        for place, mean in one.mean_by_position.items():
            yield {
                "aspect": aspect.aspect,
                "position": place,
                "mean": mean,
                "n": one.n_by_position[place],
                "effect": one.effect_by_position[place],
                **_flat(one.interval_by_position[place]),
            }


def _choice_positions(found: Findings) -> Iterator[Row]:
    asked: list[tuple[str, FavouriteFindings | PairFindings]] = []
    asked += [("favourite", one) for one in found.favourites.values()]
    asked += [("pair", one) for one in found.pairs.values()]
    for kind, question in asked:
        for one in question.position.places if question.position else ():
            yield {
                "kind": kind,
                "question": question.question,
                "position": one.place,
                "share": one.share,
                **_flat(one.interval),
                "chance": one.chance,
                "count": one.count,
                "n": one.n,
                **_ends_of(one.wilson, "wilson"),
                "effect": one.effect,
                **_ends(one.effect_interval, "effect"),
                "effect_reason": one.effect_interval.reason,
            }


def _correlations(found: Findings) -> Iterator[Row]:
    for aspect in found.metrics.values():
        for metric in aspect.metrics:
            levels: Mapping[str, Mapping[Any, Any]] = {"model": metric.by_model, "item": metric.by_item}
            for level, coefficients in levels.items():
                for one in coefficients.values():
                    yield {
                        "aspect": aspect.aspect,
                        "metric": metric.metric,
                        "direction": metric.direction,
                        "by": level,
                        "coefficient": one.kind,
                        "value": one.value,
                        **_flat(one.interval),
                        "n": one.n,
                        "p": one.p,
                        **(_ends(one.clustered, "by_model") if one.clustered else {}),
                        "ranking_accuracy": metric.ranking_accuracy if level == "model" else None,
                        "model_pairs": metric.model_pairs if level == "model" else None,
                    }


def _write(path: Path, text: str) -> Path:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return path
