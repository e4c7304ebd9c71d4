"""Models against each other: paired differences, wins by prompt, prompts with their videos. All pairs lie in the page.

Without script the page shows every model against the best of its table; with script, any two to six of them.
"""

from __future__ import annotations

from typing import Any

from eval.notation import better
from reports.board.document import PairRecord, RunEntry, TableEntry
from reports.board.ranking import holm
from reports.figures import difference_axis, mark_of
from reports.page import language_of
from reports.site.people_cells import ends, main_aspect, opinions
from reports.site.site import Site
from reports.site.table import Cell, Column, Row, Table, measured, words

NO_DIFFERENCE = "No difference found"
ALPHA = 0.05
MOST_MODELS = 60


def page(site: Site) -> dict[str, Any]:
    """Everything that the template and the script show."""
    parts = [_part(site, table) for table in site.board.tables if len(table.runs) > 1 and table.rankings]
    return site.frame("Compare", 0, "Compare", "players.js", "compare.js") | {
        "sections": parts,
        "island": {part["table"].id: part["island"] for part in parts},
    }


def _part(site: Site, table: TableEntry) -> dict[str, Any]:
    against = against_best(site, table)
    return {
        "table": table,
        "shown": against,
        "exports": site.export(against, ""),
        "island": _island(site, table),
    }


def pairs_of(table: TableEntry) -> dict[tuple[str, str, str], PairRecord]:
    """(metric, first, second) -> difference, both ways round."""
    found = {}
    for ranking in table.rankings:
        for pair in ranking.pairs:
            found[ranking.metric, pair.first, pair.second] = pair
            turned = {"first": pair.second, "second": pair.first}
            if pair.difference is not None and pair.low is not None and pair.high is not None:
                turned |= {"difference": -pair.difference, "low": -pair.high, "high": -pair.low}  # type: ignore[dict-item]
            found[ranking.metric, pair.second, pair.first] = pair.model_copy(update=turned)
    return found


def reading(pair: PairRecord, direction: str, p: float, title: str) -> str:
    """`Model C is lower (better)`: told only where the interval excludes zero and Holm's p is under 5 %."""
    if pair.low is None or pair.high is None or p >= ALPHA or pair.low <= 0 <= pair.high:
        return NO_DIFFERENCE
    side = "lower" if pair.high < 0 else "higher"
    return f"{title} is {side} ({'better' if side == direction else 'worse'})"


def against_best(site: Site, table: TableEntry) -> Table:
    """Each model minus the first one of the table, by metric; p adjusted over the metrics of that pair."""
    columns = [
        Column("model", "Model minus the first"),
        Column("metric", "Metric"),
        Column("difference", "Difference", "95 % interval", "number", has_interval=True),
        Column("reading", "Reading"),
        Column("p", "p", "Holm", "number"),
    ]
    pairs = pairs_of(table)
    first, *others = [site.runs[name] for name in table.runs]
    rows = []
    axes = {
        c.id: difference_axis(
            [v for o in others if (p := pairs.get((c.id, o.id, first.id))) for v in (p.low, p.high) if v is not None]
        )
        for c in table.metrics
    }
    for other in others:
        found = {c.id: pair for c in table.metrics if (pair := pairs.get((c.id, other.id, first.id))) is not None}
        adjusted = holm({name: pair.p for name, pair in found.items() if pair.p is not None})
        for column in table.metrics:
            pair = found.get(column.id)
            if pair is None or pair.difference is None:
                continue
            said = reading(pair, column.direction, adjusted.get(column.id, 1.0), site.title(other))
            mark = mark_of(axes[column.id], pair.difference, pair.low, pair.high, has_zero=True)
            rows.append(
                Row(
                    f"{other.model}-{column.id}",
                    {
                        "model": words(
                            site.title(other), two=f"minus {site.title(first)}", href=f"model/{other.model}.html"
                        ),
                        "metric": words(column.label, two=better(column.direction)),
                        "difference": measured(
                            pair.difference,
                            column.decimals,
                            pair.low,
                            pair.high,
                            pair.n,
                            sign=True,
                            mark=mark,
                            why=pair.note,
                        ),
                        "reading": words(said, two="paired" if pair.is_paired else "not paired"),
                        "p": Cell(p_words(adjusted.get(column.id, 1.0)), value=adjusted.get(column.id, 1.0)),
                    },
                )
            )
    title = f"Differences to {site.title(first)}, {table.benchmark_title}, {table.protocol}"
    return Table(f"compare-{table.id}", title, columns, rows, cite=site.cites([run.model for run in (first, *others)]))


def p_words(p: float) -> str:
    """Two digits, and never a zero."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def _island(site: Site, table: TableEntry) -> dict[str, Any]:
    """What the script reads: values, half widths and p of all pairs, wins, prompts with scores and videos."""
    runs = [site.runs[name] for name in table.runs[:MOST_MODELS]]
    pairs = pairs_of(table)
    metrics: list[dict[str, Any]] = [
        {
            "label": column.label,
            "better": column.direction,
            "d": column.decimals,
            "v": [_short(m.value) if (m := site.metric(run, column.id)) else None for run in runs],
            "pairs": [_pair(pairs.get((column.id, a.id, b.id))) for i, a in enumerate(runs) for b in runs[i + 1 :]],
        }
        for column in table.metrics
    ]
    metrics += _human(site, table, runs)
    scored = next((c for c in table.metrics if any(c.id in run.samples.scores for run in runs)), None)
    shown = site.prompts_shown[table.id]
    return {
        "name": f"{table.benchmark} / {table.protocol}",
        "fingerprint": table.fingerprint,
        "models": [{"id": run.model, "title": site.title(run)} for run in runs],
        "metrics": metrics,
        "score": {"label": scored.label, "d": max(3, scored.decimals), "better": scored.direction} if scored else None,
        "wins": _wins(runs, scored.id, scored.decimals, scored.direction) if scored else [],
        "prompts": [_prompt(site, place, runs, scored.id if scored else "") for place in shown],
    }


def _short(value: float | None, digits: int = 7) -> float | None:
    return None if value is None else float(f"{value:.{digits}g}")


def _pair(pair: PairRecord | None) -> list[float] | None:
    if pair is None or pair.difference is None or pair.high is None:
        return None
    return [
        _short(pair.difference) or 0.0,
        _short(pair.high - pair.difference, 4) or 0.0,
        _short(pair.p or 0.0, 3) or 0.0,
        int(pair.is_paired),
    ]


def _human(site: Site, table: TableEntry, runs: list[RunEntry]) -> list[dict[str, Any]]:
    """Opinion on the main aspect as one more row, with the study's own paired differences."""
    study = site.studies.get(table.id)
    if study is None:
        return []
    aspect = main_aspect(study)
    means = {one["model"]: one["mean"] for one in opinions(study, aspect)}
    names = [
        next((n for n, folder in study.models.items() if folder == run.folder and n in means), None) for run in runs
    ]
    found: dict[tuple[str, str], list[float]] = {}
    tests = {
        (one["first"], one["second"]): one.get("t_p")
        for one in study.analysis["analysed"]["aspects"].get(aspect, {}).get("pair_tests") or []
    }
    for one in study.analysis["analysed"]["aspects"].get(aspect, {}).get("differences") or []:
        low, high = ends(one.get("interval"))
        p = tests.get((one["first"], one["second"]))
        if low is None or high is None or p is None:
            continue
        found[one["first"], one["second"]] = [
            _short(one["difference"]) or 0.0,
            _short(high - one["difference"], 4) or 0.0,
            _short(p, 3) or 0.0,
            1,
        ]
        found[one["second"], one["first"]] = [
            -(_short(one["difference"]) or 0.0),
            *found[one["first"], one["second"]][1:],
        ]
    pairs = [found.get((a, b)) if a and b else None for i, a in enumerate(names) for b in names[i + 1 :]]
    scale = study.scales.get(aspect, (1, 5))
    return [
        {
            "label": f"Opinion, {scale[0]:g}–{scale[1]:g}",
            "better": "higher",
            "d": 2,
            "v": [_short(means[name]) if name else None for name in names],
            "pairs": pairs,
        }
    ]


def _wins(runs: list[RunEntry], metric: str, decimals: int, direction: str) -> list[list[int]]:
    """For every pair: prompts where the first is better, where they print the same, where the second is better."""
    sign = 1 if direction == "higher" else -1
    rounded = [
        {
            s: round(v, decimals)
            for s, v in zip(run.samples.ids, run.samples.scores.get(metric, []), strict=False)
            if v is not None
        }
        for run in runs
    ]
    found = []
    for i, a in enumerate(rounded):
        for b in rounded[i + 1 :]:
            gaps = [sign * (a[name] - b[name]) for name in a.keys() & b.keys()]
            found.append([sum(g > 0 for g in gaps), sum(g == 0 for g in gaps), sum(g < 0 for g in gaps)])
    return found


def _prompt(site: Site, place: int, runs: list[RunEntry], metric: str) -> dict[str, Any]:
    prompt = site.board.prompts[place]
    clips = [run.clips.get(prompt.sample) for run in runs]
    return {
        "id": prompt.sample,
        "page": prompt.page,
        "text": prompt.prompt,
        "lang": language_of(prompt.prompt),
        "s": [_short(site.score(run, metric, prompt.sample)) if metric else None for run in runs],
        "c": [[c.clip, c.poster, c.sprite, c.width, c.height, c.frames, c.fps] if c and c.clip else 0 for c in clips],
    }
