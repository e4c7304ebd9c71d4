"""Exports: the page's digits in each format, and hostile text that stays text."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from reports.site.exports import as_csv, as_json, as_latex, as_markdown, bibtex_note, guarded, latex, plain, safe_bibtex
from reports.site.table import Column, Row, Table, absent, measured, words

REFERENCE = Path(os.environ.get("COGEVAL_REFERENCE_DIR", Path(__file__).parents[3] / ".." / "shared" / "reference"))
HOSTILE = [
    "=1+1",
    "@SUM(1,1)",
    "\t=1+1",
    "\u202e=1+1",
    "＝1+1",
    "<script>window.__x=1</script>",
    "% & _ # $ { } ~ ^ \\ (LaTeX)",
    "\\input{/etc/passwd}",
    "[1em] x",
    "a|b\nc",
    "half \ud800",
    "水中的狮子",
]
FILE = REFERENCE / "human" / "hostile_strings.json"


def hostile() -> list[str]:
    more = json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else {}
    found = [
        text for part in (more.values() if isinstance(more, dict) else [more]) for text in part if isinstance(text, str)
    ]
    return HOSTILE + found


def table(names=("Model A", "Model B")) -> Table:
    columns = [
        Column("model", "Model"),
        Column("fvd", "FVD", "lower is better", "number", has_interval=True, direction="lower"),
        Column("gap", "Difference", "", "number"),
    ]
    rows = [
        Row(
            f"row-{i}",
            {
                "model": words(name),
                "fvd": measured(1209.04 + i, 1, 1180.0, 1240.55, 2048, leading=i == 0),
                "gap": measured(-13.44, 1, sign=True),
            },
        )
        for i, name in enumerate(names)
    ]
    rows.append(Row("none", {"model": words("None"), "fvd": absent("not run"), "gap": absent("failed", "no clips")}))
    return Table("board-x", "A table", columns, rows)


def test_the_same_digits_everywhere() -> None:
    made = table()
    rows = list(csv.DictReader(io.StringIO(as_csv(made))))
    cells = json.loads(as_json(made))["rows"]
    tex = [line for line in as_latex(made).splitlines() if line.endswith(r"\\")][1:]
    pipes = as_markdown(made).splitlines()[2:]
    for row, cell, tex_row, pipe, shown in zip(rows, cells, tex, pipes, made.rows, strict=True):
        printed = shown.cells["fvd"].text
        assert plain(cell["cells"]["fvd"]["text"]) == row["fvd"] == plain(printed)
        assert printed in tex_row
        assert printed in pipe
        assert row["fvd low"] == plain(shown.cells["fvd"].low_text)
        if "value" in cell["cells"]["fvd"]:
            assert f"{cell['cells']['fvd']['value']:.1f}" == row["fvd"]
            assert f"{cell['cells']['fvd']['low']:.1f}" == row["fvd low"]
    assert rows[0] == {
        "model": "Model A",
        "fvd": "1209.0",
        "fvd low": "1180.0",
        "fvd high": "1240.5",
        "fvd n": "2048",
        "gap": "-13.4",
    }
    assert rows[2]["fvd"] == "not run"
    assert r"\textbf{1,209.0} (1,180.0--1,240.5)" in as_latex(made)
    assert r"$-$13.4" in as_latex(made)


@pytest.mark.parametrize("text", hostile(), ids=range(len(hostile())))
def test_hostile_text_stays_text(text) -> None:
    made = table([text])
    cell = next(csv.DictReader(io.StringIO(as_csv(made))))["model"]
    assert not cell.lstrip("\u202e\u200b").startswith(("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠"))
    json.loads(as_json(made))
    body = [line for line in as_latex(made).splitlines() if line.endswith(r"\\")][1]
    assert "\\input" not in body
    # Without what LaTeX knows as escapes, nothing that it would act on is left.
    bare = re.sub(r"\\(?:text\w+\{\}|[{}%&_#$]|textbf|\\)|\$(?:-|\\times)\$", "", body.split(" & ")[0])
    assert not re.search(r"[\\%&_#$^~]", bare)
    assert "<script" not in as_markdown(made).lower()
    assert "<img" not in as_markdown(made).lower()
    assert len(as_markdown(made).splitlines()) == 4


def test_a_negative_number_is_no_formula_and_a_minus_in_a_name_is() -> None:
    assert guarded("-2+3") == "'-2+3"
    assert guarded(" =1") == "'=1"
    assert guarded("Model A") == "Model A"
    assert '"-13.4"' not in as_csv(table())


def test_latex_compiles(tmp_path) -> None:
    engine = shutil.which("lualatex") or shutil.which("xelatex") or shutil.which("tectonic")
    if engine is None:
        pytest.skip("no LuaLaTeX, XeLaTeX or Tectonic here; the escaping is tested without")
    text = "\n".join(
        [r"\documentclass{article}\usepackage{booktabs}\begin{document}", as_latex(table(hostile())), r"\end{document}"]
    )
    (tmp_path / "t.tex").write_text(text, encoding="utf-8", errors="replace")
    options = [] if "tectonic" in engine else ["-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape"]
    assert subprocess.run([engine, *options, "t.tex"], cwd=tmp_path, capture_output=True, check=False).returncode == 0


def test_bibtex() -> None:
    good = "@article{a,\n title = {A {B}},\n}"
    assert safe_bibtex(good) == good
    for bad in ("", "a{b}", "@article{a", "@article{a}} @string{x={y}}", "@a{b} \\input{x}"):
        assert safe_bibtex(bad) == ""
    assert bibtex_note("a b", "50 % & more", "x").startswith("@misc{ab,\n  title = {50 \\% \\& more}")
    assert latex("a − b") == "a $-$ b"
