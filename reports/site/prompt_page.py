"""A prompt: its text and what all models made of it, in step; scores of each clip, and what people said of it."""

from __future__ import annotations

from collections import Counter
from typing import Any

from reports.board.document import PromptEntry, RunEntry, StudyEntry, TableEntry
from reports.site.films import film
from reports.site.people_cells import main_aspect
from reports.site.site import PLAYERS, Site
from reports.site.table import Cell, Column, Row, Table, absent, measured, words

AT_ONCE = 6
MOST_GROUPS = 2


def page(site: Site, place: int) -> dict[str, Any]:
    """Everything that the template shows. `place` is the prompt's in the board's list."""
    up = "../"
    prompt = site.board.prompts[place]
    parts = [_part(site, table, place, up) for table in site.board.tables if place in site.prompts_shown[table.id]]
    return site.frame(prompt.prompt[:80] or prompt.sample, 1, "", *PLAYERS) | {
        "prompt": prompt,
        "sections": parts,
    }


def _part(site: Site, table: TableEntry, place: int, up: str) -> dict[str, Any]:
    prompt = site.board.prompts[place]
    runs = [site.runs[name] for name in table.runs]
    scored = [c for c in table.metrics if any(c.id in run.samples.scores for run in runs)]
    study = site.studies.get(table.id)
    rated = _ratings(study, prompt.sample) if study else {}
    columns = [Column("model", "Model"), Column("seed", "Seed", "", "number")]
    columns += [Column(c.id, c.label, f"{c.direction} is better", "number") for c in scored]
    if study and rated:
        columns += [
            Column("opinion", "Opinion", study.names.get(main_aspect(study), ""), "number"),
            Column("votes", "Votes", "", "number"),
        ]
    rows = [Row(run.model, _cells(site, run, prompt, scored, study, rated, up)) for run in runs]
    shown = Table(
        f"prompt-{prompt.page}-{table.fingerprint}",
        f"Scores of {prompt.sample}",
        columns,
        rows,
        cite=site.cites([run.model for run in runs]),
    )
    first = scored[0] if scored else None
    films = [
        film(
            site,
            run,
            prompt,
            up,
            marker=number % AT_ONCE + 1,
            metric=first.id if first else "",
            decimals=first.decimals if first else 3,
        )
        for number, run in enumerate(runs)
        if prompt.sample in run.clips
    ]
    without = [site.title(run) for run in runs if prompt.sample not in run.clips]
    return {
        "table": table,
        "groups": [
            films[start : start + AT_ONCE] for start in range(0, min(len(films), AT_ONCE * MOST_GROUPS), AT_ONCE)
        ],
        "more": films[AT_ONCE * MOST_GROUPS :],
        "without": without,
        "metric": first.label if first else "",
        "shown": shown,
        "exports": site.export(shown, up),
        "study": study if rated else None,
    }


def _cells(
    site: Site,
    run: RunEntry,
    prompt: PromptEntry,
    scored: list[Any],
    study: StudyEntry | None,
    rated: dict[str, tuple[float, int, int]],
    up: str,
) -> dict[str, Cell]:
    rejected = next((reason or kind for sample, kind, reason in run.samples.rejected if sample == prompt.sample), "")
    seed = site.seed(run, prompt.sample)
    cells = {
        "model": words(site.title(run), href=f"{up}model/{run.model}.html"),
        "seed": words(seed) if seed is not None else absent("not run"),
    }
    for column in scored:
        value = site.score(run, column.id, prompt.sample)
        if value is not None:
            cells[column.id] = measured(value, max(column.decimals, 3))
        elif rejected:
            cells[column.id] = absent("failed", rejected)
        else:
            cells[column.id] = absent(
                "failed" if site.metric(run, column.id) is None and run.result is None else "not run"
            )
    if study and rated:
        name = next((one for one, folder in study.models.items() if folder == run.folder), "")
        if name in rated:
            mean, n, votes = rated[name]
            cells["opinion"] = Cell(f"{mean:.2f}", value=mean, n=n, two=f"n = {n}") if n else absent("not in study")
            cells["votes"] = Cell(f"{votes}", value=float(votes))
        else:
            cells["opinion"] = cells["votes"] = absent("not in study")
    return cells


def _ratings(study: StudyEntry, item: str) -> dict[str, tuple[float, int, int]]:
    """The study's model -> (mean rating of the main aspect, answers, favourite votes) for one item."""
    if item not in study.items:
        return {}
    aspect = main_aspect(study)
    scores: dict[str, list[float]] = {}
    if "ratings" in study.votes:
        columns = study.votes["ratings"].columns
        at = {name: columns.index(name) for name in ("item", "model", "aspect", "score")}
        for row in study.votes["ratings"].rows:
            score = row[at["score"]]
            if row[at["item"]] == item and row[at["aspect"]] == aspect and isinstance(score, int | float):
                scores.setdefault(str(row[at["model"]]), []).append(float(score))
    votes: Counter[str] = Counter()
    if "favourites" in study.votes:
        columns = study.votes["favourites"].columns
        item_at, choice_at = columns.index("item"), columns.index("choice")
        votes.update(str(row[choice_at]) for row in study.votes["favourites"].rows if row[item_at] == item)
    found = {}
    for model in study.models:
        given = scores.get(model, [])
        if given or votes:
            found[model] = (sum(given) / len(given) if given else 0.0, len(given), votes[model])
    return found
