"""A board of 70 models, more than have all their pairs: page sizes, tables and their files, any two compared."""

from __future__ import annotations

import gzip
import json
import math
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from scipy import stats

from reports.board.document import Board
from reports.site import sample_table
from reports.site.build import files
from reports.site.exports import export
from reports.site.sample_table import SampleTable
from reports.site.site import Site

KIB = 1024


@pytest.fixture(scope="module")
def invented() -> ModuleType:
    """`benchmarks/site.py`, which invents boards of any size."""
    import importlib.util

    name = "cogeval_benchmark_site"
    spec = importlib.util.spec_from_file_location(name, Path(__file__).parents[3] / "benchmarks" / "site.py")
    assert spec is not None
    assert spec.loader is not None
    sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


def built(invented: ModuleType, *size: int) -> tuple[Board, dict[str, str]]:
    board = invented.invented(*size[:3])
    invented.ranked(board, size[3])
    return board, dict(files(board))


@pytest.fixture(scope="module")
def large(invented) -> tuple[Board, dict[str, str]]:
    return built(invented, 70, 3, 40, 4)


def row_of(texts: dict[str, str], table: str, model: str) -> dict[str, Any]:
    found = re.fullmatch(r'cogeval\.row\("([^"]+)",(.*)\)\n', texts[f"data/pairs/{table}/{model}.js"])
    assert found
    assert found[1] == f"{table}/{model}"
    return json.loads(found[2])


@pytest.mark.slow
def test_every_page_keeps_its_budget_at_fifty_models(invented) -> None:
    """Index 300 KiB (100 gzipped), as every table page of the same kind; all others 200; scripts 25 together."""
    _, texts = built(invented, 50, 12, 30, 30)
    sizes = {path: len(text.encode()) for path, text in texts.items()}
    boards = [path for path in sizes if path == "index.html" or path.startswith("table/")]
    assert max(sizes[path] for path in boards) <= 300 * KIB
    assert len(gzip.compress(texts["index.html"].encode())) <= 100 * KIB
    others = {path: size for path, size in sizes.items() if path.endswith(".html") and path not in boards}
    assert {path: size for path, size in others.items() if size > 200 * KIB} == {}
    assert max(size for path, size in sizes.items() if path.startswith("data/pairs/")) <= 200 * KIB
    assert sum(size for path, size in sizes.items() if path.startswith("assets/") and path.endswith(".js")) <= 25 * KIB


def test_pairs_in_a_models_file_are_those_of_the_board(invented) -> None:
    board, texts = built(invented, 5, 3, 30, 2)
    table = board.tables[0]
    models = [board.run(name).model for name in table.runs]
    assert len({pair for ranking in table.rankings for pair in [len(ranking.pairs)]}) == 1
    for n, ranking in enumerate(table.rankings):
        for pair in ranking.pairs:
            first, second = (models.index(board.run(name).model) for name in (pair.first, pair.second))
            gap, half, p, paired = row_of(texts, table.id, models[first])["pairs"][n][second]
            back = row_of(texts, table.id, models[second])["pairs"][n][first]
            assert gap == pytest.approx(pair.difference, rel=1e-5)
            assert (gap - half, gap + half) == pytest.approx((pair.low, pair.high), abs=1e-3 * half + 1e-12)
            assert (p, bool(paired)) == (pytest.approx(pair.p, rel=1e-2), pair.is_paired)
            assert back == [pytest.approx(-gap), half, p, paired]


def test_wins_are_counted_from_printed_scores(invented) -> None:
    board, texts = built(invented, 4, 2, 30, 2)
    table = board.tables[0]
    runs = [board.run(name) for name in table.runs]
    column = table.metrics[0]
    for run in runs:
        wins = row_of(texts, table.id, run.model)["wins"]
        for other, (better, same, worse) in zip(runs, wins, strict=True):
            pairs = zip(run.samples.scores[column.id], other.samples.scores[column.id], strict=True)
            gaps = [round(a, column.decimals) - round(b, column.decimals) for a, b in pairs]
            assert better == sum(gap > 0 for gap in gaps)
            assert (same, worse) == (gaps.count(0.0), sum(gap < 0 for gap in gaps))


def test_a_board_too_large_for_its_pairs_compares_two_intervals(large) -> None:
    board, texts = large
    table = board.tables[0]
    assert all(not ranking.pairs for ranking in table.rankings)
    row = row_of(texts, table.id, "model-007")
    assert row["pairs"] == [0, 0, 0]
    found = next(
        m for m in board.run(next(n for n in table.runs if "007" in n)).result.metrics if m.id == table.metrics[0].id
    )
    assert row["alone"][0] == pytest.approx([found.value, found.interval.high - found.value], rel=1e-5)
    exported = json.loads(texts[f"data/compare-{table.id}.json"])
    assert len(exported["rows"]) == 69
    first = board.run(table.runs[0])
    best = next(m for m in first.result.metrics if m.id == table.metrics[0].id)
    cell = next(one for one in exported["rows"] if one["id"].startswith("model-007"))["cells"]
    gap = cell["difference"]
    half = math.hypot(best.interval.high - best.value, found.interval.high - found.value)
    assert gap["value"] == pytest.approx(found.value - best.value)
    assert gap["high"] == pytest.approx(found.value - best.value + half)
    assert cell["p"]["value"] == pytest.approx(2 * stats.norm.sf(1.959964 * abs(gap["value"]) / half), rel=1e-4)
    assert "not paired" in texts["compare.html"]


def test_a_large_table_says_n_once_and_shows_a_hundred_rows_first(large, invented) -> None:
    board, texts = built(invented, 110, 40, 4, 1)
    page = texts["index.html"]
    assert 'data-most="100"' in page
    assert "Show all 110 models" in page
    assert page.count("n = 4</span>") == 40
    assert page.count("<tr id=") == 110
    value = json.loads(texts[f"data/board-{board.tables[0].id}.json"])
    shown = re.findall(r"<td data-v=\"[^\"]*\">(?:<b[^>]*>)?([^<]+?)(?:</b>)? <small>([^<]*)</small>", page)
    cells = [cell for row in value["rows"] for cell in row["cells"].values() if "n" in cell]
    assert shown == [(cell["text"], cell["interval"]) for cell in cells]
    assert "data-most" not in large[1]["index.html"]


@pytest.mark.parametrize("value", [0.5, None, 0.0, -0.00001, 1234.5])
def test_files_of_samples_are_those_of_their_cells(large, monkeypatch, value) -> None:
    """Written by column, byte for byte what cells of all samples give; hostile words too."""
    board = large[0].model_copy(deep=True)
    monkeypatch.setattr(sample_table, "SAMPLES_SHOWN", 10**6)
    run = board.runs[0]
    run.samples.scores["metric-00/x"][3] = value
    board.prompts[3].prompt = '=1+1, "quoted"\n<script> \u2028 一 \x00'
    board.prompts[4].label = ""
    table = SampleTable(Site(board), run)
    assert len(table.shown.rows) == 40
    assert table.texts() == export(table.shown)


def test_a_page_of_many_samples_shows_the_lowest_and_the_highest(large, monkeypatch) -> None:
    monkeypatch.setattr(sample_table, "SAMPLES_SHOWN", 6)
    run = large[0].runs[0]
    table = SampleTable(Site(large[0]), run)
    scores = sorted(run.samples.scores["metric-00/x"])
    assert [row.cells["metric-00/x"].value for row in table.shown.rows] == [*scores[:3], *scores[-3:]]
    assert len(table.texts()["csv"].splitlines()) == 41
    assert len(json.loads(table.texts()["json"])["rows"]) == 40
