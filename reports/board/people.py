"""A study folder (`study.yaml`, `analysis/analysis.json`, an export) as an entry of the board; raters are numbered."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from cogvideo.errors import UserError
from reports.board.document import FileFacts, StudyEntry, Votes
from reports.board.names import slug
from reports.board.runs import file_facts

ANALYSIS_SCHEMA = 1
KEPT_VOTES = {
    "ratings": ("rater", "item", "model", "aspect", "score", "position"),
    "favourites": ("rater", "item", "choice"),
    "pairs": ("rater", "item", "model_a", "model_b", "winner"),
    "rankings": ("rater", "item", "ranking"),
}
CONSENT = ("who", "see", "pay", "kept", "how_long", "stopping", "checks")
CONSENT_WORDS = {
    "who": "Who asks",
    "see": "What raters see",
    "pay": "Pay",
    "kept": "What is kept",
    "how_long": "For how long",
    "stopping": "Stopping",
    "checks": "Checks",
}


def read_study(folder: Path) -> StudyEntry:
    """The entry, with its models under the study's own names. Raises UserError for what is absent or damaged."""
    design, analysis_file = folder / "study.yaml", folder / "analysis" / "analysis.json"
    if not design.is_file():
        raise UserError(f"{folder} has no study.yaml; expected the folder of a study (see cogeval human init)")
    if not analysis_file.is_file():
        raise UserError(f"{folder} has no analysis/analysis.json; run `cogeval human analyze {folder}` first")
    study = _design(design)
    analysis = _analysis(analysis_file)
    export, is_simulated = _export(folder)
    numbers = _numbers(analysis, export)
    models = {str(one.get("id", "")): one for one in _list(study, "models", design)}
    aspects = {str(one.get("id", "")): one for one in study.get("aspects") or []}
    name = str(study.get("name") or folder.name)
    return StudyEntry(
        id=slug(name, "study"),
        title=name,
        is_simulated=is_simulated or bool(study.get("sample")),
        models={one: Path(str(entry.get("source") or one)).name for one, entry in models.items()},
        titles={one: str(entry.get("title") or one) for one, entry in models.items()},
        items={
            str(one.get("id", "")): said(one.get("prompt"))
            for one in study.get("items") or []
            if one.get("role", "main") == "main"
        },
        scales={one: _scale(entry) for one, entry in aspects.items()},
        names={one: said(entry.get("name")) or one for one, entry in aspects.items()},
        consent=[
            (CONSENT_WORDS[key], text) for key in CONSENT if (text := said((study.get("consent") or {}).get(key)))
        ],
        design=_design_rows(study),
        analysis=_anonymous(analysis, numbers),
        votes=_votes(export, numbers) if export else {},
        inputs=_inputs(folder, design, analysis_file, export),
    )


def said(text: Any) -> str:
    """The English words of a text that may be in several languages, or whatever there is."""
    if isinstance(text, Mapping):
        return str(text.get("en") or next(iter(text.values()), ""))
    return str(text or "")


def _design(path: Path) -> dict[str, Any]:
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"cannot read {path}: {error}") from None
    if not isinstance(found, dict):
        raise UserError(f"{path} is damaged; expected the settings of a study")
    return found


def _list(study: Mapping[str, Any], name: str, path: Path) -> list[dict[str, Any]]:
    found = study.get(name)
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise UserError(f"{path} is damaged ({name}); expected a list")
    return found


def _scale(entry: Mapping[str, Any]) -> tuple[float, float]:
    scale = entry.get("scale") or {}
    return float(scale.get("low", 1)), float(scale.get("high", 5))


def _analysis(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"), parse_constant=_no_constant)
        schema = found["schema"]
        if schema > ANALYSIS_SCHEMA:
            raise UserError(f"{path} has schema {schema}, this cogeval reads up to {ANALYSIS_SCHEMA}; upgrade cogeval")
        if not isinstance(found["analysed"], dict) or not isinstance(found["models"], list):
            raise UserError(f"{path} is damaged; run `cogeval human analyze` again")
    except (OSError, UnicodeDecodeError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is damaged ({error}); run `cogeval human analyze` again") from None
    return dict(found)


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no number of JSON")


def _export(folder: Path) -> tuple[Path | None, bool]:
    """The folder of answers, and whether they are of synthetic raters."""
    if (folder / "export" / "ratings.csv").is_file():
        return folder / "export", False
    simulated = folder / "simulated" / "export"
    return (simulated, True) if (simulated / "ratings.csv").is_file() else (None, False)


def _numbers(analysis: Mapping[str, Any], export: Path | None) -> dict[str, str]:
    """Pseudonym -> `rater 7`, in the order of pseudonyms."""
    names = set((analysis.get("screening") or {}).get("raters") or {})
    if export is not None:
        for name in KEPT_VOTES:
            names |= {row.get("rater", "") for row in _rows(export / f"{name}.csv")}
    return {name: f"rater {number}" for number, name in enumerate(sorted(names - {""}), start=1)}


def _anonymous(value: Any, numbers: Mapping[str, str]) -> Any:
    """The same, with raters' pseudonyms as numbers wherever they stand."""
    if isinstance(value, Mapping):
        return {numbers.get(key, key): _anonymous(one, numbers) for key, one in value.items()}
    if isinstance(value, list):
        return [_anonymous(one, numbers) for one in value]
    if isinstance(value, str):
        if value in numbers:
            return numbers[value]
        for name, number in numbers.items():
            if name in value:
                value = value.replace(name, number)
    return value


def _rows(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        return []
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} is damaged ({error}); export the study again") from None


def _votes(export: Path, numbers: Mapping[str, str]) -> dict[str, Votes]:
    found = {}
    for name, columns in KEPT_VOTES.items():
        rows = _rows(export / f"{name}.csv")
        if rows:
            values = [[_value(row, column, numbers) for column in columns] for row in rows]
            found[name] = Votes(columns=list(columns), rows=sorted(values, key=lambda row: [str(one) for one in row]))
    return found


def _value(row: Mapping[str, str | None], column: str, numbers: Mapping[str, str]) -> str | float | int | None:
    text = row.get(column)
    if text is None or text == "":
        return None
    # The export puts an apostrophe before what a spreadsheet would run.
    text = text[1:] if text[:1] == "'" and text[1:2] in tuple("=+-@\t＝＋－＠") else text
    if column == "rater":
        return numbers.get(text, "rater")
    if column in ("score", "position"):
        try:
            return int(text) if text.lstrip("-").isdigit() else float(text)
        except ValueError:
            raise UserError(f"an answer of the export has the {column} {text!r}; export the study again") from None
    return text


def _design_rows(study: Mapping[str, Any]) -> list[tuple[str, str]]:
    quota, checks = study.get("quota") or {}, study.get("checks") or {}
    names = [said(one.get("name")) for one in study.get("aspects") or []]
    rows = [
        ("Preset", str(study.get("preset") or "")),
        (
            "Page",
            f"{study.get('layout') or 'joint'} layout, prompt {'shown' if study.get('prompt_shown') else 'hidden'}",
        ),
        ("Aspects", ", ".join(names)),
        ("Favourite", said((study.get("favourite") or {}).get("question"))),
        ("Pairs", said((study.get("pair") or {}).get("question"))),
        ("Raters wanted", str(quota.get("raters") or "")),
        (
            "Checks",
            ", ".join(
                f"{kind} {n}" for kind, n in checks.items() if n and kind in ("instructed", "gold", "trap", "repeat")
            ),
        ),
        ("Languages", ", ".join(map(str, study.get("languages") or []))),
        ("Seed", str(study.get("seed", ""))),
    ]
    return [(term, value) for term, value in rows if value]


def _inputs(folder: Path, design: Path, analysis: Path, export: Path | None) -> list[FileFacts]:
    paths: Sequence[Path] = [design, analysis, *(sorted(export.glob("*.csv")) if export else [])]
    return [file_facts(path, path.relative_to(folder).as_posix()) for path in paths]
