"""Models against each other: paired differences, wins by prompt, prompts with their videos.

The page holds names and prompts; what belongs to a model is a script of its own, `data/pairs/TABLE/MODEL.js`, loaded
when somebody chooses it: scripts are all that a page from file:// may load. Without script the page shows the models of
a table against its first.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from statistics import NormalDist
from typing import Any

from eval.notation import better
from reports.board.document import Clip, MetricColumn, PairRecord, PromptEntry, RunEntry, TableEntry
from reports.board.ranking import LEVEL, holm
from reports.board.tables import ALONE
from reports.figures import difference_axis, mark_of
from reports.page import language_of
from reports.site.people_cells import ends, main_aspect, opinions
from reports.site.site import Site
from reports.site.table import Cell, Column, Row, Table, measured, words

NO_DIFFERENCE = "No difference found"
ALPHA = 0.05
QUANTILE = NormalDist().inv_cdf((1 + LEVEL) / 2)
# Rows of the page without script; the exports have all.
MOST_ROWS = 120


def page(site: Site) -> dict[str, Any]:
    """Everything that the template and the script show."""
    parts = [_part(site, table) for table in compared(site)]
    return site.frame("Compare", 0, "Compare", "players.css", "compare.css", "compare.js") | {
        "sections": parts,
        "island": {part["table"].id: part["island"] for part in parts},
    }


def _part(site: Site, table: TableEntry) -> dict[str, Any]:
    against = against_best(site, table)
    shown = chosen_rows(table, against)
    return {
        "table": table,
        "shown": replace(against, rows=shown),
        "n_left_out": len(against.rows) - len(shown),
        "exports": site.export(against, ""),
        "island": _island(site, table),
    }


def chosen_rows(table: TableEntry, against: Table) -> list[Row]:
    """All rows where they are few; else those of the metric that ranks the table, as many as fit."""
    if len(against.rows) <= MOST_ROWS:
        return list(against.rows)
    first = f"-{table.metrics[0].id}"
    return [row for row in against.rows if row.id.endswith(first)][:MOST_ROWS]


def scripts(site: Site) -> Iterator[tuple[str, str]]:
    """(path, text) of what compare.html loads of each model."""
    for table in compared(site):
        for run, row in zip(table.runs, _rows(site, table), strict=True):
            model = site.runs[run].model
            text = json.dumps(row, separators=(",", ":"), allow_nan=False)
            yield f"data/pairs/{table.id}/{model}.js", f"cogeval.row({json.dumps(f'{table.id}/{model}')},{text})\n"


def compared(site: Site) -> list[TableEntry]:
    """Tables with something to compare."""
    return [table for table in site.board.tables if len(table.runs) > 1 and table.rankings]


class Pairs:
    """Differences of a table both ways round: those of the board, else of two intervals taken as independent."""

    def __init__(self, site: Site, table: TableEntry) -> None:
        self._site, self._table = site, table
        self._held = {(one.metric, pair.first, pair.second): pair for one in table.rankings for pair in one.pairs}
        self.has_all = {one.metric: bool(one.pairs) or len(one.ranks) < 2 for one in table.rankings}

    def get(self, metric: str, first: str, second: str) -> PairRecord | None:
        """First minus second; None where one of them is not ranked."""
        if (pair := self._held.get((metric, first, second))) is not None:
            return pair
        if (pair := self._held.get((metric, second, first))) is not None:
            return _turned(pair)
        if self.has_all.get(metric, True):
            return None
        a, b = (self.alone(metric, name) for name in (first, second))
        return _independent(first, second, a, b) if a and b else None

    def alone(self, metric: str, run: str) -> tuple[float, float, int] | None:
        """(value, half width, n) of a ranked run, for a board that is too large to hold its pairs."""
        held = self._site.runs[run]
        found = self._site.metric(held, metric)
        if self._site.rank(self._table, held, metric) is None or found is None or found.value is None:
            return None
        inside = found.interval
        return (found.value, max(inside.high - found.value, found.value - inside.low), found.n_fake) if inside else None


def _turned(pair: PairRecord) -> PairRecord:
    turned: dict[str, Any] = {"first": pair.second, "second": pair.first}
    if pair.difference is not None and pair.low is not None and pair.high is not None:
        turned |= {"difference": -pair.difference, "low": -pair.high, "high": -pair.low}
    return pair.model_copy(update=turned)


def _independent(first: str, second: str, a: tuple[float, float, int], b: tuple[float, float, int]) -> PairRecord:
    gap, half = a[0] - b[0], math.hypot(a[1], b[1])
    p = math.erfc(QUANTILE * abs(gap) / half / math.sqrt(2)) if half else float(gap == 0)
    return PairRecord(
        first=first, second=second, difference=gap, low=gap - half, high=gap + half, p=p, n=min(a[2], b[2]), note=ALONE
    )


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
    pairs = Pairs(site, table)
    # With very many models only the metric that ranks them: the rest is on the models' pages, and a choice away.
    is_large = not all(pairs.has_all.values())
    metrics = table.metrics[:1] if is_large else table.metrics
    first, *others = [site.runs[name] for name in table.runs]
    rows = []
    axes = {
        c.id: difference_axis(
            [v for o in others if (p := pairs.get(c.id, o.id, first.id)) for v in (p.low, p.high) if v is not None]
        )
        for c in metrics
    }
    for other in others:
        found = {c.id: pair for c in metrics if (pair := pairs.get(c.id, other.id, first.id)) is not None}
        adjusted = holm({name: pair.p for name, pair in found.items() if pair.p is not None})
        for column in metrics:
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
    """What the script reads of a table: names, metrics, prompts. What belongs to a model is in `scripts`."""
    runs = [site.runs[name] for name in table.runs]
    metrics = [{"label": c.label, "better": c.direction, "d": c.decimals} for c in table.metrics]
    scored = _scored(table, runs)
    return {
        "name": f"{table.benchmark} / {table.protocol}",
        "fingerprint": table.fingerprint,
        "models": [{"id": run.model, "title": site.title(run)} for run in runs],
        "metrics": metrics + [head for head, _ in _human(site, table, runs)],
        "score": {"label": scored.label, "d": max(3, scored.decimals), "better": scored.direction} if scored else None,
        "prompts": [_prompt(site.board.prompts[place]) for place in site.prompts_shown[table.id]],
    }


def _scored(table: TableEntry, runs: list[RunEntry]) -> MetricColumn | None:
    """The first metric that scores single prompts."""
    return next((c for c in table.metrics if any(c.id in run.samples.scores for run in runs)), None)


def _prompt(prompt: PromptEntry) -> dict[str, str]:
    text, language = prompt.prompt, language_of(prompt.prompt)
    return {"id": prompt.sample, "page": prompt.page, "text": text, "lang": language}


def _rows(site: Site, table: TableEntry) -> Iterator[dict[str, Any]]:
    """Of each model: pairs by metric and other model, wins by other model, and score and clip by shown prompt.

    Where a board is too large for its pairs, `alone` has value and half width by metric instead.
    """
    runs = [site.runs[name] for name in table.runs]
    pairs = Pairs(site, table)
    scored = _scored(table, runs)
    human = [of for _, of in _human(site, table, runs)]
    wins = _wins(runs, scored.id, scored.decimals, scored.direction) if scored and all(pairs.has_all.values()) else []
    shown = [site.board.prompts[place] for place in site.prompts_shown[table.id]]
    for i, run in enumerate(runs):
        row: dict[str, Any] = {
            "pairs": [
                [_pair(pairs.get(c.id, run.id, other.id)) for other in runs] if pairs.has_all.get(c.id, True) else 0
                for c in table.metrics
            ]
            + [of[i] for of in human],
            "s": [_short(site.score(run, scored.id, p.sample)) if scored else None for p in shown],
            "c": [_clip(run.clips.get(p.sample)) for p in shown],
        }
        if wins:
            row["wins"] = wins[i]
        if not all(pairs.has_all.values()):
            held = [pairs.alone(c.id, run.id) for c in table.metrics]
            row["alone"] = [[_short(one[0], 9), _short(one[1])] if one else 0 for one in held]
        yield row


def _clip(clip: Clip | None) -> list[Any] | int:
    if clip is None or not clip.clip:
        return 0
    return [clip.clip, clip.poster, clip.sprite, clip.width, clip.height, clip.frames, clip.fps]


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


def _human(site: Site, table: TableEntry, runs: list[RunEntry]) -> list[tuple[dict[str, Any], list[list[Any]]]]:
    """Opinion on the main aspect as one more metric, with the study's own paired differences by model and model."""
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
    scale = study.scales.get(aspect, (1, 5))
    head = {"label": f"Opinion, {scale[0]:g}–{scale[1]:g}", "better": "higher", "d": 2}
    return [(head, [[found.get((a, b), 0) if a and b else 0 for b in names] for a in names])]


def _wins(runs: list[RunEntry], metric: str, decimals: int, direction: str) -> list[list[list[int]]]:
    """By model and model: prompts where the first is better, where they print the same, where the second is better."""
    import numpy as np

    ids = {name: place for place, name in enumerate(dict.fromkeys(s for run in runs for s in run.samples.ids))}
    scores = np.full((len(runs), len(ids)), np.nan)
    for row, run in zip(scores, runs, strict=True):
        for sample, value in zip(run.samples.ids, run.samples.scores.get(metric, []), strict=False):
            row[ids[sample]] = np.nan if value is None else round(value, decimals)
    scores *= 1 if direction == "higher" else -1
    return [[[int((a > b).sum()), int((a == b).sum()), int((a < b).sum())] for b in scores] for a in scores]
