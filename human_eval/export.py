"""What was collected, as files: the tables of the analysis, every revision of every answer, and a book of codes.

The same study gives the same bytes, whichever database it is in: nothing that a database numbers is written, and all
rows stand in an order of their own. Previews are never among them.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cogvideo.errors import MissingPrerequisite
from eval.records import read_result, read_samples, whole_file
from human_eval.collected import Collected, collect
from human_eval.running import Running
from human_eval.spreadsheet import harmless
from human_eval.store.database import Database
from human_eval.study.design import Study, canonical, design_hash, said
from human_eval.study.sources import slug

if TYPE_CHECKING:
    from human_eval.analysis.tables import StudyTables

Row = dict[str, Any]

COLUMNS: dict[str, dict[str, str]] = {
    "ratings": {
        "rater": "pseudonym of the rater",
        "item": "prompt that the video was made from",
        "model": "model that made the video",
        "aspect": "what was rated",
        "score": "the point that was chosen, last revision",
        "position": "place on the page, from 1",
        "trial": "place of the page in the session, from 1, practice and checks counted",
    },
    "favourites": {
        "rater": "pseudonym of the rater",
        "item": "prompt of the page",
        "shown": "models in their order on the page, parted by |",
        "choice": "the chosen model, or none",
        "trial": "place of the page in the session",
    },
    "pairs": {
        "rater": "pseudonym of the rater",
        "item": "prompt of the page",
        "model_a": "model of video 1",
        "model_b": "model of video 2",
        "winner": "a, b, tie, or none if both were called bad",
        "strength": "how much better, 1 to 3, negative for b, 0 for a tie; empty where it was not asked",
        "trial": "place of the page in the session",
    },
    "rankings": {
        "rater": "pseudonym of the rater",
        "item": "prompt of the page",
        "ranking": "models from best to worst, parted by >",
        "trial": "place of the page in the session",
    },
    "checks": {
        "rater": "pseudonym of the rater",
        "check": "kind and place in the session",
        "kind": "gold, trap, instructed or repeat",
        "passed": "true or false",
        "reason": "what was wrong with the answer",
    },
    "timing": {
        "rater": "pseudonym of the rater",
        "item": "prompt of the page",
        "response_seconds": "from the page being served to its answers being finished, by the server's steady clock",
        "video_seconds": "length of one video of the page",
        "trial": "place of the page in the session",
    },
    "metrics": {
        "model": "model",
        "item": "prompt; empty for a value of the whole model",
        "metric": "name of the automatic metric",
        "value": "its value in the run that the study was built from",
        "direction": "higher or lower: which is better",
        "low": "low end of the value's interval in the run; empty where it has none",
        "high": "high end of it",
    },
    "raters": {
        "rater": "pseudonym",
        "source": "panel or link that the rater came by",
        "language": "language of the pages",
        "state": "live, complete, left or screened",
        "cell": "cell of the design, from 1",
        "started_ms": "time of consent, milliseconds since 1970 (UTC)",
        "finished_ms": "time of the last page; empty before it",
        "consent_version": "version of the consent text",
        "consent_sha256": "hash of the words that were agreed to",
        "screen": "what the environment check found, as JSON",
        "analysis": "the author's decision about the analysis; empty if none was taken",
        "payment": "the author's decision about payment; empty if none was taken",
    },
    "remarks": {"rater": "pseudonym", "words": "what the rater wrote on the last page", "at_ms": "when"},
    "events": {
        "rater": "pseudonym",
        "trial": "place of the page in the session",
        "page": "name of one rendering of the page",
        "seq": "order of the events of that rendering",
        "kind": "play, pause, end, stall, seek, blur, focus, error, ready, spread, blocked (nothing plays by itself)",
        "slot": "video on the page, 0 for all",
        "client_ms": "milliseconds since the page was opened, by the browser",
        "value": "position in milliseconds; for spread the 95th percentile of the videos' distance in milliseconds",
    },
}
NUMBERS = {"score", "position", "trial", "strength", "response_seconds", "video_seconds", "value", "cell"}
NUMBERS |= {"low", "high"}
NUMBERS |= {"started_ms", "finished_ms", "at_ms", "consent_version", "seq", "slot", "client_ms"}


def export_study(running: Running, database: Database, folder: Path, *, has_parquet: bool = False) -> list[Path]:
    """Write all files into a folder, each whole; the codebook, which holds the hashes of the others, comes last.

    Raises MissingPrerequisite if parquet is wanted and pyarrow is not there.
    """
    found = database.read(lambda connection: collect(connection, running))
    tables = tidy(running, found)
    files: dict[str, bytes] = {}
    for name, rows in tables.items():
        columns = list(columns_of(name, running.study))
        files[f"{name}.csv"] = as_csv(rows, columns)
        if has_parquet:
            files[f"{name}.parquet"] = _as_parquet(rows, columns)
    files["answers.jsonl"] = as_jsonl(found.answers)
    files["remarks.jsonl"] = as_jsonl(found.remarks)
    files["study.json"] = (canonical(running.study) + "\n").encode()
    book = codebook(running, found, tables, files)
    files["codebook.json"] = (json.dumps(book, ensure_ascii=False, indent=1) + "\n").encode()
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        with whole_file(folder / name) as temporary:
            temporary.write_bytes(data)
    return [folder / name for name in files]


def study_tables(running: Running, database: Database) -> StudyTables:
    """The tables as the analysis takes them."""
    import pandas as pd

    from human_eval.analysis.tables import TABLES, StudyTables

    found = database.read(lambda connection: collect(connection, running))
    tables = tidy(running, found)
    frames = {
        name: pd.DataFrame(tables[name], columns=list(columns_of(name, running.study)))
        for name in TABLES
        if tables.get(name)
    }
    scales = {aspect.id: (float(aspect.scale.low), float(aspect.scale.high)) for aspect in running.study.aspects}
    return StudyTables(**frames, scales=scales, models=tuple(model.id for model in running.study.models)).checked()


def columns_of(name: str, study: Study) -> dict[str, str]:
    """Columns of a table and what they mean; without what the study did not ask."""
    columns = COLUMNS[name]
    return columns if study.pair_has_strength else {k: v for k, v in columns.items() if k != "strength"}


def tidy(running: Running, found: Collected) -> dict[str, list[Row]]:
    """Rows of every table; those of the ratings hold finished, analysed pages only, with the answers that count."""
    tables: dict[str, list[Row]] = {name: [] for name in COLUMNS}
    for page in found.pages:
        if page.done_ms is None:
            continue
        models = [running.stimuli[stimulus].model for stimulus in page.stimuli]
        start = {"rater": page.rater, "item": page.item}
        end = {"trial": page.position}
        if page.kind == "main":
            _add_answers(running, tables, page.answers, models, start, end)
            if page.served_ms is not None:
                seconds = running.stimuli[page.stimuli[0]].seconds
                taken = {"response_seconds": (page.done_ms - page.served_ms) / 1000, "video_seconds": seconds}
                tables["timing"].append(start | taken | end)
        elif page.passed is not None:
            name = f"{page.kind}-{page.position}"
            check = {"rater": page.rater, "check": name, "kind": page.kind, "passed": page.passed}
            tables["checks"].append(check | {"reason": page.reason})
    tables["raters"] = found.raters
    tables["remarks"] = found.remarks
    tables["events"] = found.events
    tables["metrics"] = _metrics(running)
    return tables


def _add_answers(
    running: Running, tables: dict[str, list[Row]], answers: Mapping[str, str], models: list[str], start: Row, end: Row
) -> None:
    study = running.study
    for slot, model in enumerate(models, start=1):
        for aspect in study.aspects:
            if (value := answers.get(f"v{slot}.{aspect.id}")) is not None:
                score = {"model": model, "aspect": aspect.id, "score": int(value), "position": slot}
                tables["ratings"].append(start | score | end)
    if value := answers.get("favourite"):
        choice = "none" if value == "none" else models[int(value) - 1]
        tables["favourites"].append(start | {"shown": "|".join(models), "choice": choice} | end)
    ranks = {int(answers[f"v{slot}.rank"]): model for slot, model in enumerate(models, 1) if f"v{slot}.rank" in answers}
    if ranks:
        tables["rankings"].append(start | {"ranking": ">".join(ranks[rank] for rank in sorted(ranks))} | end)
    if value := answers.get("choice"):
        winner = {"1": "a", "2": "b", "bad": "none"}.get(value, value)
        strength: int | None = None
        if study.pair_has_strength:
            strength = int(answers.get("strength", 0)) * {"a": 1, "b": -1}.get(winner, 0)
        pair = {"model_a": models[0], "model_b": models[1], "winner": winner, "strength": strength}
        tables["pairs"].append(start | pair | end)


def _metrics(running: Running) -> list[Row]:
    """Automatic scores of the runs that the study was built from, where the runs are still there."""
    rows: list[Row] = []
    items = {item.id for item in running.study.items}
    for model in running.study.models:
        source = Path(model.source)
        if not model.source or not (source / "result.json").is_file():
            continue
        result = read_result(source)
        directions = {metric.id: metric.direction for metric in result.metrics}
        for metric in result.metrics:
            if metric.value is not None:
                row = {"model": model.id, "item": "", "metric": metric.id, "value": metric.value}
                inside = metric.interval
                ends = {"low": inside.low if inside else None, "high": inside.high if inside else None}
                rows.append(row | {"direction": metric.direction} | ends)
        for sample in read_samples(source).values():
            if slug(sample.id) in items:
                for name, value in sample.scores.items():
                    row = {"model": model.id, "item": slug(sample.id), "metric": name, "value": value}
                    rows.append(row | {"direction": directions.get(name, "higher")})
    return sorted(rows, key=lambda row: (row["model"], row["item"], row["metric"]))


def codebook(
    running: Running, found: Collected, tables: Mapping[str, Sequence[Row]], files: Mapping[str, bytes]
) -> dict[str, Any]:
    """What each column means, what each answer could have been, and the hash of every file."""
    study = running.study
    return {
        "study": study.name,
        "design_sha256": design_hash(study),
        "frozen_ms": found.frozen_ms,
        "deviations": found.deviations,
        "removed_raters": found.forgotten,
        "raters": {state: sum(row["state"] == state for row in found.raters) for state in sorted({"complete", "left"})},
        "models": {model.id: {"title": model.title, "role": model.role} for model in study.models},
        "items": {item.id: {"prompt": item.prompt, "label": item.label, "role": item.role} for item in study.items},
        "aspects": {
            aspect.id: {
                "name": said(aspect.name, "en"),
                "points": list(aspect.scale.points),
                "labels": {str(point): said(text, "en") for point, text in aspect.scale.labels.items()},
            }
            for aspect in study.aspects
        },
        "columns": {name: {"rows": len(tables[name]), "columns": columns_of(name, study)} for name in COLUMNS},
        "text": "in the text cells of the CSV files an apostrophe stands before what a spreadsheet would take for a "
        "formula; answers.jsonl and remarks.jsonl have every text as it was given",
        "sha256": {name: hashlib.sha256(data).hexdigest() for name, data in files.items()},
    }


def as_csv(rows: Iterable[Row], columns: list[str]) -> bytes:
    """A table as CSV (RFC 4180, UTF-8), and none of it a formula."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, quoting=csv.QUOTE_MINIMAL, lineterminator="\r\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow([_cell(column, row.get(column)) for column in columns])
    return buffer.getvalue().encode()


def _cell(column: str, value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    return harmless(str(value))


def as_jsonl(rows: Iterable[Mapping[str, Any]]) -> bytes:
    """A line of JSON a row, every text exactly as it is."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def _as_parquet(rows: list[Row], columns: list[str]) -> bytes:
    try:
        arrow, parquet = import_module("pyarrow"), import_module("pyarrow.parquet")
    except ImportError:
        raise MissingPrerequisite(
            "parquet files need pyarrow; install it with pip install 'cogeval[parquet]'"
        ) from None
    kinds = {"score": arrow.int64(), "passed": arrow.bool_()}
    fractions = {"value", "low", "high", "response_seconds", "video_seconds"}
    for column in NUMBERS - fractions - {"score"}:
        kinds[column] = arrow.int64()
    for column in fractions:
        kinds[column] = arrow.float64()
    table = arrow.table(
        {c: arrow.array([row.get(c) for row in rows], type=kinds.get(c, arrow.string())) for c in columns}
    )
    sink = io.BytesIO()
    parquet.write_table(table, sink)
    return sink.getvalue()
