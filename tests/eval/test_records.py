"""Records: written whole, read back equal, damaged or newer ones refused in one line, torn lines never count."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cogvideo.errors import UserError
from eval.records import (
    SCHEMA_VERSION,
    Counts,
    DataFacts,
    GeneratorFacts,
    LineReader,
    MetricResult,
    Result,
    SampleLine,
    append_lines,
    fold_parts,
    part_file,
    read_result,
    read_samples,
    stable_view,
    whole_file,
    write_record,
    write_samples,
)


def result(**changes):
    values = {
        "status": "complete",
        "comparable": False,
        "not_comparable_because": ["embedded"],
        "benchmark": "ucf101",
        "protocol_name": "p",
        "fingerprint": "0" * 8,
        "generator": GeneratorFacts(spec="noise", title="Noise"),
        "seed": 0,
        "counts": Counts(planned=2, made=2, ok=2, rejected=0),
        "data": DataFacts(name="shapes", list_sha256="a" * 64, n_items=2, n_reference=2),
        "metrics": [],
    }
    return Result(**{**values, **changes})


def metric(value):
    return MetricResult(
        id="fvd/x",
        metric="fvd",
        label="FVD",
        direction="lower",
        decimals=1,
        value=value,
        n_fake=2,
        fingerprint="0" * 8,
    )


def line(number, **changes):
    values = {"id": f"{number:05d}", "index": number, "prompt": "a «shape»\n", "seed": number, "ok": True, **changes}
    return SampleLine(**values)


def test_a_result_is_read_back_equal(tmp_path):
    written = result(metrics=[metric(1.5)])
    write_record(tmp_path / "result.json", written)
    assert read_result(tmp_path) == written
    assert read_result(tmp_path / "result.json") == written


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_what_is_no_number_is_refused_and_the_old_file_stays(tmp_path, value):
    write_record(tmp_path / "result.json", result())
    with pytest.raises(UserError, match=r"metrics\[0\]\.value"):
        write_record(tmp_path / "result.json", result(metrics=[metric(value)]))
    assert read_result(tmp_path) == result()
    assert [path.name for path in tmp_path.iterdir()] == ["result.json"]


def test_times_memory_and_machine_are_not_in_the_stable_view():
    one = result(timing={"score": 1.0}, cost={"peak_memory_bytes": 1.0}, environment={"torch": "2"}, created="now")
    assert stable_view(one) == stable_view(result())
    assert stable_view(one) != stable_view(result(seed=1))


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "damaged"),
        ('{"status": "comp', "damaged"),
        ("[]", "damaged"),
        (json.dumps({"schema_version": SCHEMA_VERSION + 1}), "upgrade cogeval"),
        (json.dumps({**result().model_dump(), "seed": "soup"}), "seed"),
    ],
)
def test_a_bad_record_is_one_line(tmp_path, text, part):
    (tmp_path / "result.json").write_text(text)
    with pytest.raises(UserError, match=part) as caught:
        read_result(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_folder_without_a_result_and_one_that_is_not_text(tmp_path):
    with pytest.raises(UserError, match=r"cannot read .*result\.json"):
        read_result(tmp_path)
    (tmp_path / "result.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="not UTF-8"):
        read_result(tmp_path)


def test_fields_of_a_later_minor_version_do_not_disturb(tmp_path):
    (tmp_path / "result.json").write_text(json.dumps({**result().model_dump(), "mood": "good"}))
    assert read_result(tmp_path) == result()


def test_a_failure_inside_whole_file_leaves_the_old_one_and_nothing_else(tmp_path):
    path = tmp_path / "x.txt"
    path.write_text("old")

    def interrupted():
        with whole_file(path) as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_where_a_folder_should_be_is_one_line(tmp_path):
    (tmp_path / "runs").write_text("")
    with pytest.raises((UserError, FileExistsError, NotADirectoryError)):
        write_record(tmp_path / "runs" / "result.json", result())


@given(cut=st.integers(0, 500))
@settings(deadline=None)
def test_a_line_cut_anywhere_by_a_kill_is_made_again(tmp_path_factory, cut):
    run = tmp_path_factory.mktemp("run")
    path = run / "samples.jsonl"
    append_lines(path, [line(0), line(1)])
    whole = path.read_bytes()
    path.write_bytes(whole[: max(0, len(whole) - cut)])
    before = read_samples(run)
    assert set(before) <= {"00000", "00001"}
    append_lines(path, [line(k) for k in range(3) if f"{k:05d}" not in before])
    assert [sample.index for sample in read_samples(run).values()] == [0, 1, 2]


def test_the_last_line_of_a_sample_wins_and_a_broken_one_in_the_middle_is_named(tmp_path):
    path = tmp_path / "samples.jsonl"
    append_lines(path, [line(0), line(0, seed=9)])
    assert read_samples(tmp_path)["00000"].seed == 9
    path.write_bytes(b"{soup}\n" + path.read_bytes())
    with pytest.raises(UserError, match="line 1 is damaged"):
        read_samples(tmp_path)


def test_samples_are_written_anew_with_their_scores(tmp_path):
    append_lines(tmp_path / "samples.jsonl", [line(0), line(1)])
    write_samples(tmp_path, [s.model_copy(update={"scores": {"m": 0.5}}) for s in read_samples(tmp_path).values()])
    assert [s.scores for s in read_samples(tmp_path).values()] == [{"m": 0.5}] * 2


def test_parts_of_several_processes_are_read_and_folded_in_order(tmp_path):
    old = [SampleLine(id="00000", index=0, prompt="", seed=1, ok=False, kind="no-clip")]
    append_lines(tmp_path / "samples.jsonl", old)
    for rank, ids in enumerate((("00000", "00002"), ("00001", "00003"))):
        lines = [SampleLine(id=i, index=int(i), prompt="", seed=2, ok=True) for i in ids]
        append_lines(part_file(tmp_path, rank), lines)
    with part_file(tmp_path, 1).open("a") as file:
        file.write('{"id": "00005", "torn')
    assert {i: line.seed for i, line in read_samples(tmp_path).items()} == dict.fromkeys(
        ("00000", "00001", "00002", "00003"), 2
    )
    fold_parts(tmp_path)
    assert not (tmp_path / "parts").exists()
    assert list(read_samples(tmp_path)) == ["00000", "00001", "00002", "00003"]


def test_a_reader_gives_whole_lines_as_they_come(tmp_path):
    path = tmp_path / "some.jsonl"
    reader = LineReader(path)
    assert reader.new() == []
    lines = [SampleLine(id=f"{k}", index=k, prompt="é\u2028", seed=k, ok=True) for k in range(3)]
    append_lines(path, lines[:2])
    assert reader.new() == lines[:2]
    assert reader.new() == []
    text = (lines[2].model_dump_json() + "\n").encode()
    for at in (1, len(text) // 2, len(text)):
        with path.open("ab") as file:
            file.write(text[:at] if at == 1 else text[1 : len(text) // 2] if at < len(text) else text[len(text) // 2 :])
        assert reader.new() == ([] if at < len(text) else lines[2:])
    with path.open("ab") as file:
        file.write(b"nonsense\n")
    with pytest.raises(UserError, match="line 4 is damaged"):
        reader.new()
