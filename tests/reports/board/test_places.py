"""What a published board tells of the machine that measured: last names of paths, and nothing before them."""

from __future__ import annotations

import pytest

from reports.board.places import public_key, public_spec, spec_of, without_places


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("/data/ann/runs/ucf101", "…/ucf101"),
        ("/data/ann/my runs/ucf 101", "…/ucf 101"),
        ("cannot read /data/lab/a.avi: cut short", "cannot read …/a.avi: cut short"),
        ("--out=/srv/x/y", "--out=…/y"),
        ("'/srv/x/y'", "'…/y'"),
        (r"D:\Data\Ann\runs", "…/runs"),
        ("runs/ucf101", "runs/ucf101"),
        ("./runs/ucf101", "./runs/ucf101"),
        ("~/runs/ucf101", "~/runs/ucf101"),
        ("https://example.org/a/b.zip", "https://example.org/a/b.zip"),
        ("frames/s, and/or 1/2", "frames/s, and/or 1/2"),
        ("/tmp", "/tmp"),
        ("a red square\nmoving left", "a red square\nmoving left"),
    ],
)
def test_of_a_whole_path_the_last_name_stays(text: str, told: str) -> None:
    assert without_places(text) == told
    assert without_places(told) == told


def test_values_of_every_shape_are_gone_through() -> None:
    given = {"root": "/data/ucf/101", "n": 3, "list": [("a", "/x/y/z"), None, 0.5], "deep": {"is": True}}
    assert without_places(given) == {
        "root": "…/101",
        "n": 3,
        "list": [("a", "…/z"), None, 0.5],
        "deep": {"is": True},
    }


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ("folder:/data/my lab/samples?stride=2", "folder:…/samples?stride=2"),
        ("folder:samples/model-a", "folder:samples/model-a"),
        ("cogvideo?checkpoint=%2Fsrv%2Fweights%2Ftuned&seed=1", "cogvideo?checkpoint=…/tuned&seed=1"),
        ("folder:/a/what?/b?note=50%25", "folder:…/b?note=50%25"),
        ("command:/usr/bin/python3 /data/ann/run.py {requests}", "command:…/python3 …/run.py {requests}"),
        ("real", "real"),
    ],
)
def test_specifications_keep_what_is_no_place(spec: str, told: str) -> None:
    assert public_spec(spec) == told
    assert spec_of(public_key(spec)) == told


def test_folders_of_one_name_stay_two_models() -> None:
    first, second = public_key("folder:/a/one/samples"), public_key("folder:/a/two/samples")
    assert first != second
    assert first == public_key("folder:/a/one/samples")
    assert "one" not in first
    assert spec_of(first) == spec_of(second) == "folder:…/samples"
    assert public_key("folder:samples") == "folder:samples"
