"""`cogeval report`: a page of finished runs, or one line that says why not, with nothing half-written."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import cogeval

RECORDS = Path(__file__).with_name("records")


@pytest.fixture
def run(sample_runs, tmp_path: Path) -> Path:
    return sample_runs.write_run(tmp_path / "a", sample_runs.result())


def test_it_writes_the_page_and_says_where(run, capsys):
    assert cogeval.main(["report", str(run)]) == 0
    assert capsys.readouterr().out == f"report  {run / 'report.html'}\n"
    first = (run / "report.html").read_bytes()
    assert cogeval.main(["report", str(run / "result.json")]) == 0
    assert (run / "report.html").read_bytes() == first


@pytest.mark.parametrize("version", sorted(path.name for path in RECORDS.iterdir()))
def test_records_of_every_schema_that_ever_was_make_a_page(version, tmp_path, problems_of_html):
    run = tmp_path / version
    shutil.copytree(RECORDS / version, run)
    assert cogeval.main(["report", str(run)]) == 0
    text = (run / "report.html").read_text(encoding="utf-8")
    assert "412.6" in text
    assert problems_of_html(text) == []


@pytest.mark.parametrize(
    ("file", "text", "words"),
    [
        ("result.json", "{", "damaged"),
        ("result.json", '{"schema_version": 99}', "has schema 99, this cogeval reads up to"),
        ("result.json", "[]", "damaged"),
        ("manifest.json", '{"benchmark": 3}', "damaged"),
        ("samples.jsonl", "{}\n", "line 1 is damaged"),
        ("comparison.json", '{"metrics": 1}', "damaged"),
        ("comparison.json", '{"schema_version": 99}', "has schema 99"),
    ],
)
def test_damaged_and_newer_records_are_one_line_and_no_page(run, sample_runs, tmp_path, capsys, file, text, words):
    good = sample_runs.write_run(tmp_path / "good", sample_runs.result())
    (run / file).write_text(text)
    assert cogeval.main(["report", str(good), str(run)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert words in captured.err
    assert captured.err.count("\n") == 1
    assert not (run / "report.html").exists()
    assert not (good / "report.html").exists(), "all runs are read before the first page is written"


def test_what_is_no_run_is_one_line(run, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    for place in (tmp_path / "empty", tmp_path / "nowhere"):
        assert cogeval.main(["report", str(place)]) == 2
        assert "run folder" in capsys.readouterr().err
    (run / "result.json").unlink()
    assert cogeval.main(["report", str(run)]) == 2
    assert "an unfinished run: repeat its command to finish it" in capsys.readouterr().err


def test_a_comparison_of_other_numbers_is_not_shown(full_run, tmp_path):
    run = tmp_path / full_run.name
    shutil.copytree(full_run, run)
    cogeval.main(["report", str(run)])
    assert "Other generators of this command" in (run / "report.html").read_text()
    found = json.loads((run / "comparison.json").read_text())
    found["metrics"][0]["fingerprint"] = "00000000"
    (run / "comparison.json").write_text(json.dumps(found))
    cogeval.main(["report", str(run)])
    assert "Other generators of this command" not in (run / "report.html").read_text()


def test_the_results_can_be_taken_along_with_the_digits_of_the_page(full_run):
    """The numbers of the page in each format, from the addresses in the page itself."""
    import base64
    import csv
    import io
    import re

    cogeval.main(["report", str(full_run)])
    text = (full_run / "report.html").read_text(encoding="utf-8")
    links = re.findall(r'href="data:[a-z/]+;base64,([^"]+)" download="results\.(\w+)"', text)
    files = {suffix: base64.b64decode(data).decode() for data, suffix in links}
    assert sorted(files) == ["bib", "csv", "json", "md", "tex"]
    for value in ("412.6", "398.1", "428.0", "61.8", "0.2931"):
        assert all(value in files[suffix] for suffix in ("csv", "json", "md", "tex"))
    rows = list(csv.DictReader(io.StringIO(files["csv"].lstrip("\ufeff"))))
    assert len(rows) == 4
    json.loads(files["json"])
    assert "@software{cogeval" in files["bib"]


def test_figures_for_a_paper_are_pdf_and_the_same_twice(full_run, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    run = tmp_path / full_run.name
    shutil.copytree(full_run, run)
    assert cogeval.main(["report", "--pdf", str(run)]) == 0
    files = sorted((run / "figures").iterdir())
    assert [path.name for path in files] == [
        "clipsim-tats-16f-2048.pdf",
        "fvd-tats-16f-2048-by-n.pdf",
        "fvd-tats-16f-2048.pdf",
        "is-tats-16f-2048.pdf",
        "kvd-tats-16f-2048.pdf",
    ]
    first = [path.read_bytes() for path in files]
    assert all(data.startswith(b"%PDF") and b"CreationDate" not in data for data in first)
    assert capsys.readouterr().out.count("figure  ") == 5
    assert cogeval.main(["report", "--pdf", str(run)]) == 0
    assert [path.read_bytes() for path in files] == first


def test_without_matplotlib_it_says_what_to_install(run, monkeypatch, capsys):
    import sys

    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert cogeval.main(["report", "--pdf", str(run)]) == 3
    assert "pip install 'cogeval[figures]'" in capsys.readouterr().err
