"""The rules of a board that can be trusted: each number with its address, protocol, direction, sampling, and papers."""

from __future__ import annotations

import json
import re

from eval.notation import number
from eval.records import GeneratorFacts
from reports.board.assemble import add_runs, add_studies, finish
from reports.board.document import Board
from reports.board.names import metric_page
from reports.board.runs import Vouched
from reports.board.tables import protocol_of
from reports.site import markup
from reports.site.build import write_site
from reports.site.table import Column, Row, Table, words
from reports.tables import generator_rows, protocol_rows


def test_every_number_has_an_address_and_a_protocol_in_full(board, site, lab) -> None:
    """From a row of the board to its run, from a number to its row there; and every setting stands beside it."""
    read = {name: lab.Page(text) for name, text in lab.pages(site).items()}
    runs = {run.id: run for run in board[0].runs}
    for run in runs.values():
        own = read[f"run/{run.id}.html"]
        addresses = [metric_page(metric.id) for metric in run.result.metrics]
        assert set(addresses) <= set(own.ids)
        links = read[f"model/{run.model}.html"].links
        assert {f"../run/{run.id}.html#{name}" for name in addresses} <= set(links)
    for table in board[0].tables:
        page = read[f"table/{table.id}.html"]
        assert {f"../run/{name}.html" for name in table.runs} <= set(page.links)
        settings = protocol_rows(protocol_of(runs[table.runs[0]]))
        assert len(settings) > 5
        for shown in (page, read[f"run/{table.runs[0]}.html"]):
            text = "|".join(shown.words)
            assert [pair for pair in settings if not all(word in text for word in pair)] == []


def test_a_reader_is_told_who_paid_what_was_seen_and_what_papers_say(sample_runs, lab, tmp_path) -> None:
    """Contamination, conflicts of interest, raters' pay; and the difference to the paper of a model of this name."""
    board = Board()
    names = ("CogVideo", "Other", "Third")
    runs = [
        lab.write_model(sample_runs, tmp_path / name, name, seed=k, fvd=626.0 - 50 * k) for k, name in enumerate(names)
    ]
    add_runs(board, [Vouched(path) for path in runs])
    board.models[1].card.overlap, board.models[1].card.funding = "UCF-101 was excluded", "Lab Y"
    add_studies(board, [lab.write_study(tmp_path / "study", runs, n_items=2)])
    finish(board, None, prompts=2)
    write_site(board, tmp_path / "site")
    told = {name: "|".join(lab.Page(text).words) for name, text in lab.pages(tmp_path / "site").items()}
    for term, said in (("Overlap with test data", "UCF-101 was excluded"), ("Who paid", "Lab Y")):
        assert f"{term}|{said}" in told[f"model/{board.models[1].id}.html"]
        assert f"{term}|not stated" in told[f"model/{board.models[0].id}.html"]
    assert "Pay|9 an hour" in told["human.html"]
    own = told[f"model/{board.models[0].id}.html"]
    printed = [board.papers[one.row] for one in board.tables[0].printed[lab.FVD]]
    values = [float(row.value) for row in printed if row.model.partition(" (")[0] == "CogVideo"]
    assert len(values) > 1
    for value in values:
        assert number(626.0 - value, 1, sign=True) in own
        assert ("inside our interval" if abs(626.0 - value) <= 20 else "outside our interval") in own
    assert "Difference to papers" not in told[f"model/{board.models[1].id}.html"]


def test_each_number_says_which_direction_is_better_and_none_is_an_average_of_others(board, site, lab) -> None:
    """In words and by an arrow, not by colour; the columns of a board are its metrics, as they were measured."""
    for table in board[0].tables:
        text = "".join(lab.Page((site / "table" / f"{table.id}.html").read_text(encoding="utf-8")).words)
        for direction, arrow in (("lower", "↓"), ("higher", "↑")):
            wanted = sum(column.direction == direction for column in table.metrics)
            assert text.count(f"{arrow} {direction} is better") == wanted
        held = json.loads((site / "data" / f"board-{table.id}.json").read_text(encoding="utf-8"))["rows"][0]["cells"]
        people = {key for key in held if key.startswith(("opinion", "preferred", "strength"))}
        assert set(held) - people == {"rank", "model", "measured", *(column.id for column in table.metrics)}


def test_a_model_says_how_it_was_sampled(sample_runs, lab, tmp_path) -> None:
    said = {
        "kind": "x",
        "options": {},
        "dtype": "bfloat16",
        "settings": {"guidance_scale": 2.5, "negative": None, "video": {"top_k": 4, "is_random": False}},
        "weights": {"parts": {"net": {"sha256": "ab" * 32}}},
    }
    rows = [
        ("Dtype", "bfloat16"),
        ("Guidance scale", "2.5"),
        ("Negative", "none"),
        ("Video", "top k 4, is random no"),
        ("Weights", f"parts net sha256 {'ab' * 32}"),
    ]
    assert generator_rows(GeneratorFacts(spec="x", title="X", description=said)) == rows
    folder = lab.write_model(sample_runs, tmp_path / "run", "Model <X>")
    record = json.loads((folder / "result.json").read_text())
    record["generator"]["description"] = said
    (folder / "result.json").write_text(json.dumps(record))
    made = Board()
    add_runs(made, [Vouched(folder)])
    finish(made, None, prompts=0)
    write_site(made, tmp_path / "site")
    for page in (f"model/{made.models[0].id}.html", f"run/{made.runs[0].id}.html"):
        words = lab.Page((tmp_path / "site" / page).read_text()).words
        assert [pair for pair in rows if not set(pair) <= set(words)] == [], page


def test_no_line_ends_inside_an_interval_that_stands_alone() -> None:
    texts = ("3.99–4.40", "−7.0 to +3.6", "1,094–2,000", "ucf101–shapes", "16 frames to 32", "none")
    columns = [Column("model", "Model"), *(Column(text, text) for text in texts)]
    cells = {"model": words("A"), **{text: words(text) for text in texts}}
    drawn = str(markup.rows(Table("t", "T", columns, [Row("a", cells)])))
    assert re.findall(r'<td class="whole"><bdi>([^<]+)', drawn) == list(texts[:3])
