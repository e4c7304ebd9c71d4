"""`cogeval data check`: what is there, missing, extra and broken, and the exit code that says so."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from cogeval import main
from cogvideo.video import write_video

CLIPS = Path(os.environ.get("COGEVAL_CLIPS_DIR", Path(__file__).parents[3].parent / "shared" / "clips"))
NAMES = ("Ab/v_Ab_g01_c01", "Ab/v_Ab_g02_c01", "Cd/v_Cd_g01_c01")


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """Two classes of our own in UCF-101's layout, with videos that decode."""
    root = tmp_path / "small"
    lists = root / "ucfTrainTestlist"
    lists.mkdir(parents=True)
    (lists / "classInd.txt").write_text("1 Ab\n2 Cd\n")
    (lists / "trainlist01.txt").write_text("Ab/v_Ab_g01_c01.avi 1\nCd/v_Cd_g01_c01.avi 2\n")
    (lists / "testlist01.txt").write_text("Ab/v_Ab_g02_c01.avi\n")
    for number, name in enumerate(NAMES):
        path = root / f"{name}.avi"
        path.parent.mkdir(exist_ok=True)
        write_video(path, np.full((8, 16, 16, 3), 40 * number, np.uint8), fps=8, codec="ffv1")
    return root


def check(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = main(["data", "check", *map(str, arguments)])
    out, err = capsys.readouterr()
    return code, out, err


def test_everything_there(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = check(capsys, small, "--decode")
    assert (code, err) == (0, "")
    assert "found    3 of 3 (train 2 of 2, test 1 of 1), 3 videos, 2 classes" in out
    assert [line.split() for line in out.splitlines()[-3:]] == [["missing", "0"], ["extra", "0"], ["broken", "0"]]


def test_missing_extra_and_broken_are_named(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (small / f"{NAMES[0]}.avi").rename(small / "Ab" / "v_Ab_g07_c01.avi")
    (small / f"{NAMES[1]}.avi").write_bytes(b"")
    code, out, err = check(capsys, small, "--json")
    report = json.loads(out)
    assert code == 2
    assert err == f"error: small in {small}: 1 missing, 1 broken\n"
    assert report["missing"] == ["Ab/v_Ab_g01_c01.avi"]
    assert report["extra"] == ["Ab/v_Ab_g07_c01.avi"]
    assert report["broken"] == [{"id": "Ab/v_Ab_g02_c01.avi", "reason": "zero bytes"}]
    assert report["found"] == {"train": 1, "test": 0}
    text = check(capsys, small)[1]
    for name in ("Ab/v_Ab_g01_c01.avi", "Ab/v_Ab_g07_c01.avi", "Ab/v_Ab_g02_c01.avi: zero bytes"):
        assert name in text


def test_only_decoding_finds_damage_inside(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = small / f"{NAMES[2]}.avi"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert check(capsys, small)[0] == 0
    code, out, err = check(capsys, small, "--decode", "--json")
    assert code == 2
    assert [entry["id"] for entry in json.loads(out)["broken"]] == ["Cd/v_Cd_g01_c01.avi"]
    assert "1 broken" in err


def test_long_lists_are_cut_unless_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = "".join(f"prompt {i},v/{i}.mp4\n" for i in range(30))
    (tmp_path / "p.csv").write_text("prompt,video\n" + rows)
    code, out, _ = check(capsys, tmp_path / "p.csv")
    assert code == 2
    assert "... and 20 more (--all names them)" in out
    assert "v/29.mp4 (line 31)" not in out
    assert "v/29.mp4 (line 31)" in check(capsys, tmp_path / "p.csv", "--all")[1]


def test_a_file_of_prompts_is_guessed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "p.txt").write_text("a\nb\n")
    code, out, _ = check(capsys, tmp_path / "p.txt")
    assert code == 0
    assert "found    2 of 2, 0 videos" in out


def test_kinetics_is_guessed_from_its_annotations(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "k700_val.csv").write_text("label,youtube_id,time_start,time_end,split\na,abcdefghijk,1,11,val\n")
    (tmp_path / "abcdefghijk_000001_000011.mp4").write_bytes(b"x")
    code, out, _ = check(capsys, tmp_path, "--json")
    assert (code, json.loads(out)["dataset"]) == (0, "kinetics700")
    assert check(capsys, tmp_path, "--dataset", "kinetics400", "--split", "val")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((), "looks like no data set: expected UCF-101's class folders"),
        (("--dataset", "ucf"), "unknown dataset 'ucf'; did you mean ucf101"),
        (("--dataset", "ucf101"), "is not ucf101: expected class folders"),
        (("--dataset", "kinetics600", "--lists", "x"), "data set kinetics600 has no --lists"),
        (("--dataset", "ucf101", "--annotations", "x"), "data set ucf101 has no --annotations"),
    ],
)
def test_one_line_and_exit_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: tuple, expected: str
) -> None:
    (tmp_path / "beach.mp4").write_bytes(b"x")
    code, out, err = check(capsys, tmp_path, *arguments)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert expected in err


def test_real_ucf_clips(capsys: pytest.CaptureFixture[str]) -> None:
    if not (CLIPS / "ucf101").is_dir():
        pytest.skip(f"no clips at {CLIPS}")
    code, out, err = check(capsys, CLIPS / "ucf101", "--decode", "--split", "3")
    assert code == 2
    assert "found    2 of 13,320 (train 2 of 9,624, test 0 of 3,696), 2 videos, 101 classes" in out
    assert "13,318 missing, 0 broken" in err


def test_shapes_are_not_drawn_over_something(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.txt").write_text("x")
    assert main(["data", "shapes", str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith("error: ")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
