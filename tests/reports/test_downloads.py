"""Every table of a run report can be taken along, and what is taken says what the page says, to the last digit."""

from __future__ import annotations

import base64
import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest

from eval.notation import MINUS
from reports.downloads import ENDS, printed_cell, tables, text_table
from reports.run_page import write_report
from reports.site.exports import export, plain

html5lib = pytest.importorskip("html5lib")


def text_of(element: Any) -> str:
    return " ".join("".join(element.itertext()).split())


def taken(folder: Path) -> list[tuple[Any, dict[str, str]]]:
    """(table element, suffix -> text of its files) for every table; {} where a table has no files."""
    document = html5lib.parse((folder / "report.html").read_text(encoding="utf-8"), namespaceHTMLElements=False)
    found: list[tuple[Any, dict[str, str]]] = []
    for one in document.iter():
        if one.tag == "table":
            found.append((one, {}))
        elif one.tag == "p" and one.get("class") == "exports":
            for link in one.iter("a"):
                data = link.get("href").partition(";base64,")[2]
                found[-1][1][link.get("download").rpartition(".")[2]] = base64.b64decode(data).decode()
    return found


@pytest.fixture(scope="module")
def parts(full_run, few_printed):
    """The tables of a page with everything that a report can show."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("reports.printed.rows_for", lambda result, metric: few_printed if metric.label == "FVD" else [])
        write_report(full_run)
    return taken(full_run)


def test_every_table_has_files(parts) -> None:
    """The figure of the highest and lowest classes is drawn from the table of all classes, which has them."""
    without = [text_of(table)[:60] for table, files in parts if not files and "rows" not in (table.get("class") or "")]
    assert without == []
    kinds = {re.sub(r"\d+$", "0", json.loads(files["json"])["name"]) for _, files in parts if files}
    assert {"results", "generators", "differences-0", "same-0", "papers-0", "by-n-0", "classes", "audit"} <= kinds
    assert all(set(files) == {"csv", "json", "tex", "md", "bib"} for _, files in parts if files)


def test_page_csv_json_latex_and_markdown_say_the_same(parts) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    from reports.site.exports import table_schema

    numbers = 0
    for table, files in parts:
        if not files:
            continue
        value = json.loads(files["json"])
        jsonschema.validate(value, table_schema())
        # The last row of a figure holds its axis.
        is_figure = "rows" in (table.get("class") or "").split()
        shown = [text_of(row) for row in table.iter("tr") if row.find("th") is not None or not is_figure][1:]
        lines = list(csv.DictReader(io.StringIO(files["csv"])))
        tex = [line for line in files["tex"].splitlines() if line.endswith(r"\\")][1:]
        pipes = files["md"].splitlines()[2:]
        assert len(shown) == len(value["rows"]) == len(lines) == len(tex) == len(pipes), value["name"]
        for row, html, line, tex_row, pipe in zip(value["rows"], shown, lines, tex, pipes, strict=True):
            for key, cell in row["cells"].items():
                if "value" not in cell:
                    continue
                numbers += 1
                assert cell["text"] in html, (value["name"], key)
                assert line[key] == plain(cell["text"])
                decimals = len(line[key].partition(".")[2])
                assert cell["value"] == pytest.approx(float(line[key]), abs=0.5001 * 10**-decimals)
                assert cell["text"].replace(MINUS, "$-$") in tex_row
                assert cell["text"] in pipe.replace("\\", "")
                if "interval" in cell:
                    for end in ENDS.fullmatch(cell["interval"]).groups():
                        assert end in html
                        assert end.replace(MINUS, "$-$") in tex_row
                        assert end in pipe.replace("\\", "")
                    assert [line[f"{key} low"], line[f"{key} high"]] == [
                        plain(end) for end in ENDS.fullmatch(cell["interval"]).groups()
                    ]
    assert numbers > 25


def test_sources_of_printed_numbers_are_cited(parts) -> None:
    papers = [files["bib"] for _, files in parts if files and json.loads(files["json"])["name"].startswith("papers")]
    assert papers
    assert all("@misc{" in text for text in papers)


@pytest.mark.parametrize(
    ("text", "value"), [("1,209.0", 1209.0), (f"{MINUS}38.0", -38.0), ("+10.9", 10.9), ("undefined", None), ("", None)]
)
def test_a_printed_number_is_read_back(text, value) -> None:
    assert printed_cell(text).value == value


def test_ends_of_an_interval_are_read_back() -> None:
    cell = printed_cell("10.9", f"{MINUS}38.0 to +1,059.8")
    assert (cell.low, cell.high, cell.interval) == (-38.0, 1059.8, f"{MINUS}38.0 to +1,059.8")
    assert printed_cell("0.25", "0.20 – 0.31").interval == "0.20–0.31"
    assert printed_cell("0.25", "n too small").low is None


def test_hostile_text_in_a_table_is_only_text() -> None:
    """Every row keeps its columns, environments and braces are balanced, and no formula starts a cell."""
    hostile = [
        r"\input{/etc/passwd}",
        "a & b \\\\ c",
        "=1+1",
        "%$#_{}~^",
        "| x |",
        "<script>",
        "\x00\x1b[2J",
        "[k]",
        "",
    ]
    table = text_table("t", "T", ("Reason", "Clips"), [(name, "1") for name in hostile], "Clips")
    texts = export(table)
    body = [line for line in texts["tex"].splitlines() if line.endswith(r"\\")]
    assert len(body) == len(hostile) + 1
    for line in body:
        bare = re.sub(r"\\[\\&%$#_{}]", "", line.removesuffix(r"\\"))
        assert bare.count("&") == 1
        assert bare.count("{") == bare.count("}")
        assert not re.search(r"(?<!\\)[%#_]", bare)
    assert texts["tex"].count(r"\begin") == texts["tex"].count(r"\end") == 1
    rows = list(csv.reader(io.StringIO(texts["csv"])))
    assert all(not row[0].startswith(("=", "+", "@", "-")) for row in rows)
    assert all(len(re.findall(r"(?<!\\)\|", line)) == 3 for line in texts["md"].splitlines())


def test_an_empty_run_has_no_files(sample_runs) -> None:
    from reports.downloads import Shown, downloads

    assert downloads(sample_runs.result([]), Shown()) == {}
    assert tables(sample_runs.result([]), Shown()) == []
