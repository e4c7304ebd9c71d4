"""A table as CSV, JSON, LaTeX (booktabs), Markdown and BibTeX: the digits of the page in each, and nothing that runs.

A spreadsheet takes a cell that begins like a formula for one; such text gets an apostrophe in front. LaTeX and Markdown
escape what they would act on, so that a hostile name is only a name.
"""

from __future__ import annotations

import csv
import io
import json
import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from eval.notation import MINUS
from reports.page import showable
from reports.site.table import Cell, Table

FORMATS = (("csv", "CSV"), ("json", "JSON"), ("tex", "LaTeX"), ("md", "Markdown"), ("bib", "BibTeX"))
TABLE_SCHEMA = "table-1.schema.json"
FORMULA_STARTS = tuple("=+-@\t\r\n;|%＝＋－＠")
LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "%": r"\%",
    "&": r"\&",
    "_": r"\_",
    "#": r"\#",
    "$": r"\$",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "`": r"\textasciigrave{}",
    MINUS: r"$-$",
    "–": "--",
    "×": r"$\times$",
    "▲": "",
}
_MARKDOWN = re.compile(r"([\\`*_{}\[\]|#!~])")
_LATEX = str.maketrans(LATEX)
CITE_COGEVAL = """@software{cogeval,
  title = {cogeval: evaluation of text-to-video models},
  author = {{The cogeval authors}},
}"""


def export(table: Table) -> dict[str, str]:
    """Suffix -> text of each format."""
    return {
        "csv": as_csv(table),
        "json": as_json(table),
        "tex": as_latex(table),
        "md": as_markdown(table),
        "bib": as_bibtex(table.cite),
    }


def plain(text: str) -> str:
    """The printed digits as programs read them: no thousands comma, an ASCII minus."""
    return text.replace(",", "").replace(MINUS, "-").replace("+", "")


def _one_line(text: str) -> str:
    return " ".join(showable(text).split())


def as_csv(table: Table) -> str:
    """One header; a column with intervals is four: value, low, high, n. Words stand where a number is missing."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    header: list[str] = []
    for column in table.columns:
        header += [
            column.key,
            *([f"{column.key} {part}" for part in ("low", "high", "n")] if column.has_interval else []),
        ]
    writer.writerow([guarded(name) for name in header])
    for row in table.rows:
        cells: list[str] = []
        for column in table.columns:
            cell = row.cells[column.key]
            digits = plain(cell.text)
            is_number = cell.value is not None and re.fullmatch(r"-?\d+(\.\d+)?", digits)
            cells.append(digits if is_number and not cell.missing else guarded(cell.text))
            if column.has_interval:
                cells += [plain(cell.low_text), plain(cell.high_text), "" if cell.n is None else str(cell.n)]
        writer.writerow(cells)
    return out.getvalue()


def guarded(text: str) -> str:
    """Text that no spreadsheet runs: an apostrophe before what it would take for a formula, even after blanks."""
    line = _one_line(text)
    bare = line.lstrip("\u200b\u200c\u200d\ufeff\u202a\u202b\u202c\u202d\u202e")
    return f"'{line}" if text.startswith(FORMULA_STARTS) or bare.startswith(FORMULA_STARTS) else line


def as_json(table: Table) -> str:
    """Each cell with its printed text and, for numbers, value and interval at full length; a row a line."""
    rows = [
        _line({"id": row.id, "cells": {c.key: _cell(row.cells[c.key]) for c in table.columns}}) for row in table.rows
    ]
    return json_document(table, rows)


def json_document(table: Table, rows: Sequence[str]) -> str:
    """The file of a table whose rows are JSON already."""
    head = {
        "$schema": TABLE_SCHEMA,
        "name": table.name,
        "title": showable(table.title),
        "note": showable(table.note),
        "columns": [
            {"key": c.key, "label": showable(c.label), "note": showable(c.note), "direction": c.direction}
            for c in table.columns
        ],
    }
    lines = ",\n".join(rows)
    return f'{json.dumps(head, ensure_ascii=False, indent=1)[:-2]},\n "rows": [\n{lines}\n ]\n}}\n'


def _line(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def _cell(cell: Cell) -> dict[str, Any]:
    found: dict[str, Any] = {"text": showable(cell.text)}
    if cell.missing:
        return found | {"missing": cell.missing, **({"why": showable(cell.why)} if cell.why else {})}
    if cell.value is not None:
        found["value"] = cell.value
    if cell.low_text:
        found |= {"low": cell.low, "high": cell.high, "interval": cell.interval}
    if cell.n is not None:
        found["n"] = cell.n
    return found | ({"leading": True} if cell.leading else {})


def table_schema() -> dict[str, Any]:
    """The JSON schema of an exported table."""
    number = {"type": "number"}
    cell = {
        "type": "object",
        "required": ["text"],
        "additionalProperties": False,
        "properties": {
            "text": {"type": "string"},
            "value": number,
            "low": number,
            "high": number,
            "interval": {"type": "string"},
            "n": {"type": "integer", "minimum": 0},
            "missing": {"type": "string"},
            "why": {"type": "string"},
            "leading": {"const": True},
        },
    }
    column = {
        "type": "object",
        "required": ["key", "label"],
        "properties": {name: {"type": "string"} for name in ("key", "label", "note", "direction")},
    }
    row = {
        "type": "object",
        "required": ["id", "cells"],
        "properties": {"id": {"type": "string"}, "cells": {"type": "object", "additionalProperties": cell}},
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": TABLE_SCHEMA,
        "type": "object",
        "required": ["name", "title", "columns", "rows"],
        "properties": {
            "name": {"type": "string"},
            "title": {"type": "string"},
            "note": {"type": "string"},
            "columns": {"type": "array", "items": column},
            "rows": {"type": "array", "items": row},
        },
    }


def as_latex(table: Table) -> str:
    """A `tabular` for booktabs, numbers right. Characters beyond Latin need a Unicode engine, as every name does."""
    spec = "".join("r" if column.kind == "number" else "l" for column in table.columns)
    lines = [
        f"% {_latex_comment(table.title)}",
        r"% \usepackage{booktabs}; LuaLaTeX or XeLaTeX for names beyond Latin letters",
        rf"\begin{{tabular}}{{{spec}}}",
        r"\toprule",
        " & ".join(latex(_head(column.label, column.note)) for column in table.columns) + r" \\",
        r"\midrule",
    ]
    for row in table.rows:
        cells = [_latex_cell(row.cells[column.key]) for column in table.columns]
        # A row that begins with a bracket would be read as an argument of the line break before it.
        start = "{}" if cells and cells[0].startswith(("[", "*")) else ""
        lines.append(start + " & ".join(cells) + r" \\")
        if row.group:
            lines.append(r"\addlinespace")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"


def _head(label: str, note: str) -> str:
    return f"{label} ({note})" if note else label


def _latex_cell(cell: Cell) -> str:
    if cell.missing:
        return rf"\emph{{{latex(cell.text)}}}"
    text = latex(cell.text)
    if cell.leading:
        text = rf"\textbf{{{text}}}"
    return f"{text} ({latex(cell.interval)})" if cell.interval else text


@lru_cache(maxsize=1 << 15)
def latex(text: str) -> str:
    """Text that LaTeX prints and does not act on; invisible marks of direction are left out."""
    line = _one_line(text)
    if not line.isascii():
        line = "".join(c for c in line if unicodedata.category(c) != "Cf")
    return line.translate(_LATEX)


def _latex_comment(text: str) -> str:
    return _one_line(text).replace("\\", "/")


def as_markdown(table: Table) -> str:
    """A pipe table."""
    heads = [markdown(_head(column.label, column.note)) for column in table.columns]
    rules = ["---:" if column.kind == "number" else "---" for column in table.columns]
    rows = [[_markdown_cell(row.cells[column.key]) for column in table.columns] for row in table.rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in [heads, rules, *rows]) + "\n"


def _markdown_cell(cell: Cell) -> str:
    if cell.missing:
        return f"*{markdown(cell.text)}*"
    text = f"**{markdown(cell.text)}**" if cell.leading else markdown(cell.text)
    return f"{text} ({markdown(cell.interval)})" if cell.interval else text


@lru_cache(maxsize=1 << 15)
def markdown(text: str) -> str:
    """Text with everything escaped that Markdown or HTML inside it would act on."""
    line = _one_line(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _MARKDOWN.sub(r"\\\1", line).replace(":", "&#58;" if "://" in line or "script" in line else ":")


def as_bibtex(entries: Sequence[str]) -> str:
    """The tool, then every entry of the table once."""
    return "\n\n".join(dict.fromkeys([CITE_COGEVAL, *(entry.strip() for entry in entries if entry.strip())])) + "\n"


def bibtex_note(key: str, title: str, note: str) -> str:
    """An entry for a source that is known in words only."""
    name = re.sub(r"[^A-Za-z0-9]+", "", key) or "source"
    return f"@misc{{{name},\n  title = {{{latex(title)}}},\n  note = {{{latex(note)}}},\n}}"


def safe_bibtex(entry: str) -> str:
    """A card's own entry if it is one: it begins with `@`, its braces match, and nothing is outside them."""
    text = str(showable(entry)).strip()
    if not re.match(r"@[A-Za-z]+\s*\{", text):
        return ""
    depth = 0
    for place, character in enumerate(text):
        depth += (character == "{") - (character == "}")
        if depth < 0 or (depth == 0 and character == "}" and place != len(text) - 1):
            return ""
    return text if depth == 0 else ""
