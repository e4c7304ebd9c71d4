"""Runs and studies to a board: what is ranked with what, what is missing in words, what changed, what is refused."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest

from cogvideo.errors import UserError
from eval.records import Choice, Counts, read_result, write_record
from reports.board.agreement import over_clips, over_models, pair_accuracy
from reports.board.assemble import add_runs, add_studies, finish, remove
from reports.board.cards import read_cards
from reports.board.changes import ranks_of
from reports.board.document import Board
from reports.board.incoming import check_incoming
from reports.board.runs import Vouched
from reports.board.stored import board_text, json_schema, read_board, write_board
from reports.board.tables import one_table

FIXTURES = Path(__file__).parents[1] / "fixtures"


@pytest.fixture
def folders(sample_runs, lab, tmp_path) -> list[Path]:
    """Three models under one protocol, the first two alike, and one under another."""
    made = [
        lab.write_model(sample_runs, tmp_path / f"model-{name}", f"Model {name.upper()}", fvd=fvd, clipsim=sim, seed=k)
        for k, (name, fvd, sim) in enumerate([("a", 400.0, 0.300), ("b", 401.0, 0.3001), ("c", 700.0, 0.250)])
    ]
    other = lab.write_other_protocol(sample_runs, tmp_path / "model-d", "Model D")
    return [*made, other]


def build(folders, before=None, **more) -> Board:
    board = before.model_copy(deep=True) if before else Board()
    add_runs(board, [Vouched(path) for path in folders])
    finish(board, before, **more)
    return board


def test_each_fingerprint_has_its_own_table_and_ranks(folders) -> None:
    board = build(folders)
    assert [(t.protocol, len(t.runs)) for t in board.tables] == [("tats-16f-2048", 3), ("tats-8f-2048", 1)]
    assert "clip.frames (16 | 8)" in board.tables[0].differs[board.tables[1].id]
    ranks = {board.run(one.run).model: (one.low, one.high) for one in board.tables[0].rankings[0].ranks}
    assert ranks == {"model-a": (1, 2), "model-b": (1, 2), "model-c": (3, 3)}
    assert all(pair.is_paired for pair in board.tables[0].rankings[0].pairs)
    assert all(pair.is_paired for pair in board.tables[0].rankings[1].pairs)


def test_a_board_does_not_tell_where_files_lay(folders) -> None:
    """Neither what is exported nor what is ranked knows the folders of the machine that measured."""
    for name, folder in (("one", folders[0]), ("two", folders[1])):
        result = read_result(folder)
        result.generator.spec = f"folder:/data/annabel/{name}/samples"
        result.generator.title = ""
        result.data.root = "/data/annabel/ucf101"
        result.settings.append(Choice(name="out", value="/data/annabel/my runs", origin="flag"))
        result.warnings.append("2 clips of /data/annabel/one/samples are short")
        write_record(folder / "result.json", result)
    board = build(folders)
    text = board_text(board)
    assert "annabel" not in text
    assert str(folders[0].parent) not in text
    told = board.runs[0].result
    assert (told.generator.spec, told.data.root, told.settings[-1].value) == (
        "folder:…/samples",
        "…/ucf101",
        "…/my runs",
    )
    assert len({run.model for run in board.runs}) == len(folders)
    # Further runs of the two are known as theirs.
    again = board.model_copy(deep=True)
    add_runs(again, [Vouched(path) for path in folders])
    assert len(again.models) == len(board.models)
    # So they are on a board from before, which has whole paths.
    old = board.model_copy(deep=True)
    old.models = [
        one.model_copy(update={"keys": [f"folder:/data/annabel/{n}/samples" for n in ("one", "two")]})
        if one.id == board.runs[0].model
        else one
        for one in old.models
    ]
    old.runs = []
    add_runs(old, [Vouched(folders[0])])
    assert len(old.models) == len(board.models)
    assert old.runs[0].model == board.runs[0].model


def test_two_protocols_in_one_ranking_cannot_be_built(folders) -> None:
    with pytest.raises(UserError, match=r"never ranked together: they differ in .*clip.frames"):
        one_table(build(folders))
    one_table(build(folders[:3]))
    board = build(folders)
    first, second = board.tables
    first.runs.append(second.runs[0])
    with pytest.raises(UserError, match="two protocols are never ranked together"):
        write_board(board, folders[0].parent / "board.json")
    board = build(folders[:3])
    board.tables[0].rankings[0].ranks[0].fingerprint = "ffffffff"
    with pytest.raises(UserError, match="two protocols are never ranked together"):
        write_board(board, folders[0].parent / "board.json")


def test_one_metric_of_another_fingerprint_is_refused(folders) -> None:
    result = read_result(folders[0])
    result.metrics[1].fingerprint = "deadbeef"
    write_record(folders[0] / "result.json", result)
    with pytest.raises(UserError, match=r"deadbeef.*two protocols are never ranked together"):
        build(folders[:3])


def test_the_document_survives_and_is_the_same_text(folders, tmp_path) -> None:
    board = build(folders)
    write_board(board, tmp_path / "board.json")
    assert board_text(read_board(tmp_path / "board.json")) == board_text(board) == (tmp_path / "board.json").read_text()
    assert board_text(build(folders)) == board_text(board)
    assert json_schema()["properties"]["tables"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda v: v | {"schema_version": 99}, "upgrade cogeval"),
        (lambda v: v | {"schema_version": "1"}, "no board"),
        (lambda v: v | {"surprise": 1}, "damaged"),
        (lambda v: v | {"runs": v["runs"][:1]}, "names the run"),
        (lambda v: v | {"models": v["models"] * 2}, "each needs its own"),
        (lambda v: v | {"redirects": {"../../x": "model/a"}}, "names no page"),
        (lambda v: v | {"media": {"../x.mp4": {"name": "x", "bytes": 1, "sha256": "0" * 64}}}, "media file"),
    ],
)
def test_damaged_and_newer_boards_are_one_line(folders, tmp_path, change, said) -> None:
    path = tmp_path / "board.json"
    path.write_text(json.dumps(change(json.loads(board_text(build(folders))))))
    with pytest.raises(UserError, match=said) as caught:
        read_board(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"schema_version": 1, "title": NaN}', "[" * 9000])
def test_what_is_no_board(tmp_path, text) -> None:
    (tmp_path / "board.json").write_text(text)
    with pytest.raises(UserError):
        read_board(tmp_path / "board.json")


def test_what_is_missing_is_said(sample_runs, lab, folders) -> None:
    failed = lab.write_model(sample_runs, folders[0].parent / "failed", "Failed", seed=7)
    result = read_result(failed)
    result.metrics[0].value, result.metrics[0].note, result.metrics[0].interval = None, "too few clips", None
    write_record(failed / "result.json", result)
    partial = lab.write_model(sample_runs, folders[0].parent / "partial", "Partial", seed=8)
    result = read_result(partial)
    write_record(
        partial / "result.json", result.model_copy(update={"counts": Counts(planned=30, made=24, ok=24, rejected=0)})
    )
    smaller = lab.write_model(sample_runs, folders[0].parent / "smaller", "Smaller", seed=9)
    result = read_result(smaller)
    result.metrics[0].n_fake = 12
    write_record(smaller / "result.json", result)
    unfinished = lab.write_model(sample_runs, folders[0].parent / "unfinished", "Unfinished", seed=10)
    (unfinished / "result.json").unlink()
    board = build([*folders[:3], failed, partial, smaller, unfinished])
    why = {board.run(name).model: text for name, text in board.tables[0].rankings[0].unranked.items()}
    assert why["failed"] == "failed: too few clips"
    assert why["partial"] == "partial run, 24 of 30 clips"
    assert "a distance falls with n" in why["smaller"]
    assert board.run(board.tables[0].runs[-1]).state == "unfinished"
    assert len(board.tables[0].rankings[0].ranks) == 3


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_numbers_that_are_none_are_refused(folders, value) -> None:
    text = (folders[0] / "result.json").read_text()
    (folders[0] / "result.json").write_text(text.replace("400.0", "NaN" if math.isnan(value) else "Infinity"))
    with pytest.raises(UserError, match=r"not finite|damaged"):
        build(folders)


def test_a_second_measurement_replaces_and_stays(sample_runs, lab, folders) -> None:
    before = build(folders[:3])
    again = lab.write_model(sample_runs, folders[0].parent / "again", "Model A", fvd=900.0, seed=0, date="2026-11-14")
    after = build([again], before)
    table = after.tables[0]
    assert len(table.runs) == 3
    assert len(table.older) == 1
    texts = [change.text for change in after.publishes[-1].changes]
    assert texts[0] == "Model A measured again on ucf101 / tats-16f-2048"
    assert any(t.startswith("Model A moved from 1–2 to 3") and "Model A was measured again" in t for t in texts)
    assert after.publishes[-1].date == "2026-11-14"
    assert [one.number for one in after.publishes] == [1, 2]


def test_nothing_new_is_no_publish(folders) -> None:
    before = build(folders)
    after = build(folders, before)
    assert board_text(after) == board_text(before)


def test_removed_rows_leave_a_stone_and_do_not_come_back(folders) -> None:
    before = build(folders[:3])
    board = before.model_copy(deep=True)
    with pytest.raises(UserError, match="did you mean model-b"):
        remove(board, "model-bb", "x")
    with pytest.raises(UserError, match="needs a reason"):
        remove(board, "model-b", " ")
    remove(board, "model-b", "trained on the test set")
    assert finish(board, before)
    assert [stone.reason for stone in board.tombstones] == ["trained on the test set"] * 2
    assert "model-b" not in {model.id for model in board.models}
    assert board.publishes[-1].changes[0].text == "Model B removed: trained on the test set"
    assert any("Model B was removed" in change.text for change in board.publishes[-1].changes[1:])
    with pytest.raises(UserError, match="does not come back"):
        build(folders[:3], board)


def test_cards_rename_and_redirect(folders, tmp_path) -> None:
    before = build(folders[:3])
    (tmp_path / "cards.yaml").write_text(
        "measured_by: Lab X\nmodels:\n  better-a:\n    title: Better A\n    generators: ['folder:Model A']\n"
        "    aliases: [ancient-a]\n    type: Diffusion\n    open_weights: true\n"
    )
    board = before.model_copy(deep=True)
    add_runs(board, [], read_cards(tmp_path / "cards.yaml"))
    finish(board, before)
    assert board.redirects == {"model/model-a": "model/better-a", "model/ancient-a": "model/better-a"}
    assert board.model("better-a").card.type == "Diffusion"
    assert {run.model for run in board.runs} == {"better-a", "model-b", "model-c"}
    (tmp_path / "cards.yaml").write_text("models:\n  x:\n    colour: red\n")
    with pytest.raises(UserError, match=r"models.x.colour"):
        read_cards(tmp_path / "cards.yaml")
    (tmp_path / "cards.yaml").write_text("models:\n  x:\n    link: 'javascript:alert(1)'\n")
    with pytest.raises(UserError, match="https"):
        read_cards(tmp_path / "cards.yaml")


def test_prompts_are_chosen_by_rule_and_stay_chosen(folders) -> None:
    board = build(folders[:3], prompts=5)
    chosen = {prompt.sample for prompt in board.prompts if prompt.page}
    assert len(chosen) == 5
    assert {p.sample for p in build(folders[:3], prompts=8).prompts if p.page} > chosen
    assert {p.sample for p in build(folders[:1], prompts=5).prompts if p.page} == chosen


def test_a_study_joins_its_table_and_names_no_rater(folders, lab, tmp_path) -> None:
    study = lab.write_study(tmp_path / "study", folders[:3])
    board = Board()
    add_runs(board, [Vouched(path) for path in folders])
    add_studies(board, [study])
    finish(board, None)
    assert board.studies[0].table == board.tables[0].id
    assert not board.studies[0].is_simulated
    assert "r-0" not in board_text(board)
    assert board.studies[0].analysis["notes"] == ["rater 1 was quick"]
    by_metric = {one.metric: one for one in board.agreement}
    clipsim = {(c.by, c.kind): c for c in by_metric[lab.CLIPSIM].coefficients}
    assert clipsim["model", "spearman"].n == 3
    assert clipsim["clip", "spearman"].n == 9
    assert by_metric[lab.FVD].accuracy == 1.0
    (study / "analysis" / "analysis.json").write_text('{"schema": 9}')
    with pytest.raises(UserError, match="upgrade"):
        add_studies(board, [study])
    shutil.rmtree(study / "analysis")
    with pytest.raises(UserError, match="human analyze"):
        add_studies(board, [study])


def test_correlations_against_known_answers() -> None:
    one = over_models([1, 2, 3, 4, 5, 6], [2, 1, 4, 3, 6, 5], "spearman")
    assert one.value == pytest.approx(29 / 35)
    half = 1.959964 * math.sqrt((1 + one.value**2 / 2) / 3)
    assert (one.low, one.high) == pytest.approx([math.tanh(math.atanh(one.value) + s * half) for s in (-1, 1)])
    assert over_models([1, 2], [1, 2], "kendall").note == "it needs three models"
    assert over_models([1, 1, 1], [1, 2, 3], "kendall").value is None
    assert over_models([1, 2, 3], [1, 2, 3], "spearman").low is None
    x = np.arange(40.0)
    clips = over_clips(x, x + np.random.default_rng(0).normal(size=40), [str(i // 4) for i in range(40)], "kendall")
    assert clips.low < clips.value < clips.high
    assert pair_accuracy([1, 2, 3], [3, 2, 1], "lower") == (1.0, 3)
    assert pair_accuracy([1, 1], [1, 2], "higher") == (0.5, 1)
    assert pair_accuracy([1], [1], "higher") == (None, 0)


def test_a_run_from_elsewhere_is_checked(sample_runs, lab, folders) -> None:
    board = build(folders[:3])
    path = lab.write_model(sample_runs, folders[0].parent / "sent", "Sent", seed=3)
    assert any("one of the board's" in line for line in check_incoming(board, path))
    with pytest.raises(UserError, match="would stand in no order"):
        check_incoming(board, folders[3])
    text = (path / "samples.jsonl").read_text()
    (path / "samples.jsonl").write_text(text.replace('"seed":3,', '"seed":4,', 1))
    with pytest.raises(UserError, match="another prompt or seed"):
        check_incoming(board, path)
    (path / "samples.jsonl").write_text("".join(text.splitlines(keepends=True)[:-1]))
    with pytest.raises(UserError, match=r"result.json counts 24 of 24 clips, the samples are 23 of 24"):
        check_incoming(board, path)
    (path / "samples.jsonl").write_text(
        text.replace('"scores":{"clipsim/vit-b-32":0.', '"scores":{"clipsim/vit-b-32":0.9', 1)
    )
    with pytest.raises(UserError, match="by its samples"):
        check_incoming(board, path)


def test_records_of_the_first_schema_load() -> None:
    """Written by the version that introduced it; kept here for as long as this version is read."""
    folder = FIXTURES / "records-1"
    board = build([folder])
    assert board.runs[0].state == "complete"
    assert board.tables[0].metrics[0].id == "fvd/16f-shapes"
    assert ranks_of(board) == {f"{board.tables[0].id}/frozen": (1, 1)}
