"""Reading and writing `study.yaml`: whatever is wrong with it is said in one line, with the line of the file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from cogvideo.errors import UserError
from eval.records import whole_file
from human_eval.study.design import SCHEMA_VERSION, Study

HEAD = """\
# The design of a human study, made by `cogeval human init`. Edit it freely before the first rater enters; from then
# on its hash is frozen, and what is changed is recorded as a deviation. `cogeval human plan` checks it.
# Texts are {en: ..., zh: ...}; a plain string serves all languages.
"""


def read_study(folder: Path) -> Study:
    """The design of a study folder (or of its `study.yaml`). Raises UserError with the place of the first error."""
    path = folder / "study.yaml" if folder.is_dir() else folder
    if not path.is_file():
        raise UserError(f"{path} does not exist; make a study with: cogeval human init {folder} --runs A B")
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"{path} cannot be read as UTF-8 text ({getattr(error, 'strerror', None) or 'bad bytes'})"
        ) from None
    return parse_study(text, str(path))


def parse_study(text: str, place: str = "study.yaml") -> Study:
    """The design in a text. Raises UserError: file, line, field, what is wrong."""
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        at = f", line {mark.line + 1}" if mark else ""
        raise UserError(f"{place}{at}: not readable as YAML: {getattr(error, 'problem', None) or error}") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{place}: not readable as YAML: {error}") from None
    if not isinstance(values, dict):
        raise UserError(f"{place}: expected names and values as in name: my-study, got {type(values).__name__}")
    version = values.get("schema_version", SCHEMA_VERSION)
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise UserError(f"{place} has schema {version}, this cogeval reads up to {SCHEMA_VERSION}; upgrade cogeval")
    try:
        return Study.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        field = _dotted(first["loc"])
        line = _line(node, first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        if first["type"] == "extra_forbidden":
            message = f"there is no such setting{_near(first['loc'])}"
        elif first["type"] == "missing":
            message = "is missing"
        raise UserError(f"{place}, line {line}: {f'{field}: ' if field else ''}{message}") from None


def write_study(path: Path, study: Study) -> None:
    """The design as a file for people, written whole. What is left at its default and empty is left out."""
    values = study.model_dump(mode="json", exclude_none=True)
    text = HEAD + yaml.safe_dump(_short(values), allow_unicode=True, sort_keys=False, width=110)
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _short(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _short(part) for key, part in value.items() if part not in ({}, [], "")}
    return [_short(part) for part in value] if isinstance(value, list) else value


def _dotted(loc: tuple[int | str, ...]) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc).lstrip(".")


def _line(node: yaml.Node | None, loc: tuple[int | str, ...]) -> int:
    """The line of the file that a place is at, from 1; of what is around it where it is not there."""
    line: int = 1
    for part in loc:
        found: yaml.Node | None = None
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                if str(key.value) == str(part):
                    found, line = value, key.start_mark.line + 1
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            found = node.value[part]
            line = found.start_mark.line + 1
        if found is None:
            break
        node = found
    return line


def _near(loc: tuple[int | str, ...]) -> str:
    from difflib import get_close_matches

    kind: Any = Study
    for part in loc[:-1]:
        if isinstance(part, int):
            continue
        annotation = kind.model_fields[part].annotation
        inner = [one for one in (annotation, *getattr(annotation, "__args__", ())) if hasattr(one, "model_fields")]
        if not inner:
            return ""
        kind = inner[0]
    near = get_close_matches(str(loc[-1]), kind.model_fields, n=1, cutoff=0.6)
    return f"; did you mean {near[0]}?" if near else f"; there are {', '.join(kind.model_fields)}"
