"""UCF-101 on disk: the official lists, the label traps, and folders that are something else."""

import os
import shutil
from collections import Counter
from pathlib import Path

import pytest

from cogvideo.errors import MissingPrerequisite, UserError
from eval.datasets.ucf101 import class_names, class_phrases, class_table, open_
from eval.datasets.ucf_layout import read_layout

CLIPS = Path(os.environ.get("COGEVAL_CLIPS_DIR", Path(__file__).parents[3].parent / "shared" / "clips"))
LISTS = CLIPS / "ucf101" / "ucfTrainTestlist"
needs_lists = pytest.mark.skipif(not LISTS.is_dir(), reason=f"official split lists are not at {LISTS}")


def touch(path: Path, data: bytes = b"x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def small_set(root: Path, *, ends: str = "\r\n") -> Path:
    """Two classes of our own in the layout: Ab has groups 1 and 2, Cd has group 1; group 2 of Ab is the test list."""
    lists = root / "ucfTrainTestlist"
    touch(lists / "classInd.txt", f"1 Cd{ends}2 Ab{ends}".encode())
    touch(lists / "trainlist01.txt", f"Ab/v_Ab_g01_c01.avi 2{ends}Cd/v_Cd_g01_c01.avi 1{ends}".encode())
    touch(lists / "testlist01.txt", f"Ab/v_Ab_g02_c01.avi{ends}".encode())
    for name in ("Ab/v_Ab_g01_c01", "Ab/v_Ab_g02_c01", "Cd/v_Cd_g01_c01"):
        touch(root / f"{name}.avi")
    return root


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All 13,320 names of the official lists as one-byte files in class folders, lists beside them."""
    if not LISTS.is_dir():
        pytest.skip(f"official split lists are not at {LISTS}")
    base = tmp_path_factory.mktemp("ucf")
    shutil.copytree(LISTS, base / "ucfTrainTestlist")
    for name in class_names():
        (base / "UCF-101" / name).mkdir(parents=True)
    for line in official_lines("trainlist01.txt") + official_lines("testlist01.txt"):
        (base / "UCF-101" / line.split()[0]).write_bytes(b"x")
    return base


def official_lines(name: str) -> list[str]:
    return (LISTS / name).read_text(encoding="ascii").splitlines()


@pytest.mark.parametrize(("split", "n_train", "n_test"), [(1, 9537, 3783), (2, 9586, 3734), (3, 9624, 3696)])
def test_official_splits(whole: Path, split: int, n_train: int, n_test: int) -> None:
    data = open_(whole / "UCF-101", split=split)
    counts = Counter(item.split for item in data.items)
    assert counts == {"train": n_train, "test": n_test} == data.official_counts
    assert len(data.items) == 13320
    assert (data.missing, data.extra, data.broken) == ((), (), ())
    train = {item.group for item in data.select("train")}
    test = {item.group for item in data.select("test")}
    assert len(train | test) == 101 * 25
    assert not train & test
    clips_a_class = Counter(item.label for item in data.items)
    assert (min(clips_a_class.values()), max(clips_a_class.values())) == (100, 167)


def test_the_folder_above_is_as_good(whole: Path) -> None:
    assert open_(whole).list_sha256 == open_(whole / "UCF-101").list_sha256


def test_splits_have_their_own_hash(whole: Path) -> None:
    assert len({open_(whole, split=split).list_sha256 for split in (1, 2, 3)}) == 3


def test_order_and_labels_are_the_lists(whole: Path) -> None:
    lines = official_lines("trainlist02.txt")
    items = open_(whole, split=2).select("train")
    numbers = {name: number for number, name in enumerate(open_(whole).classes, 1)}
    assert [f"{item.id} {numbers[item.label]}" for item in items] == lines


def test_flat_form_finds_every_class(whole: Path, tmp_path: Path) -> None:
    flat = tmp_path / "flat"
    flat.mkdir()
    for path in (whole / "UCF-101").glob("*/*.avi"):
        (flat / path.name).write_bytes(b"x")
    data = open_(flat, lists=whole / "ucfTrainTestlist")
    assert data.list_sha256 == open_(whole).list_sha256
    assert (data.missing, data.extra) == ((), ())
    handstand = [item for item in data.items if item.label == "HandstandPushups"]
    assert len(handstand) == 128
    assert all(item.path and item.path.name.startswith("v_HandStandPushups_") for item in handstand)


@needs_lists
def test_class_table_is_the_official_one() -> None:
    official = [line.split(" ") for line in official_lines("classInd.txt")]
    assert [(str(row["id"]), row["name"]) for row in class_table()] == [tuple(pair) for pair in official]
    for kind in ("train", "test"):
        counts = Counter(line.split("/")[0] for line in official_lines(f"{kind}list01.txt"))
        assert counts == {row["name"]: row[f"{kind}01"] for row in class_table()}
    stems = {line.split("/")[0]: line.split("/")[1].split("_g")[0] for line in official_lines("trainlist01.txt")}
    assert stems == {row["name"]: row["file_stem"] for row in class_table()}


def test_folder_sort_is_not_the_official_order() -> None:
    names = class_names()
    by_sort = sorted(names)
    assert [i for i, (a, b) in enumerate(zip(names, by_sort, strict=True), 1) if a != b] == [35, 36, 47, 48]


def test_phrases_in_two_languages() -> None:
    phrases = class_phrases()
    for table in phrases.values():
        assert list(table) == list(class_names())
        assert len(set(table.values())) == 101
    assert all(phrase.isascii() for phrase in phrases["en"].values())
    assert all(any("\u4e00" <= sign <= "\u9fff" for sign in phrase) for phrase in phrases["zh"].values())


def test_real_clips_and_13318_missing() -> None:
    if not (CLIPS / "ucf101").is_dir():
        pytest.skip(f"no clips at {CLIPS}")
    data = open_(CLIPS / "ucf101", language="zh")
    assert [(item.label, item.caption, item.group, item.split) for item in data.items] == [
        ("ApplyEyeMakeup", "画眼妆", "ApplyEyeMakeup/g01", "test"),
        ("BaseballPitch", "棒球投球", "BaseballPitch/g01", "test"),
    ]
    assert len(data.missing) == 13318
    assert "ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi" in data.missing


@pytest.mark.parametrize("ends", ["\r\n", "\n", "\r\n\r\n"])
def test_layout_takes_any_classes_and_line_ends(tmp_path: Path, ends: str) -> None:
    data = read_layout(small_set(tmp_path, ends=ends), name="mine", captions={"en": {"Ab": "an ab"}})
    assert data.classes == ("Cd", "Ab")
    assert [(i.id, i.label, i.caption, i.group, i.split) for i in data.items] == [
        ("Ab/v_Ab_g01_c01.avi", "Ab", "an ab", "Ab/g01", "train"),
        ("Cd/v_Cd_g01_c01.avi", "Cd", "Cd", "Cd/g01", "train"),
        ("Ab/v_Ab_g02_c01.avi", "Ab", "an ab", "Ab/g02", "test"),
    ]


def test_missing_extra_and_broken_are_named(tmp_path: Path) -> None:
    root = small_set(tmp_path)
    (root / "Cd" / "v_Cd_g01_c01.avi").unlink()
    (root / "Ab" / "v_Ab_g02_c01.avi").write_bytes(b"")
    touch(root / "Ab" / "v_Ab_g09_c01.avi")
    touch(root / "Zz" / "v_Zz_g01_c01.avi")
    touch(root / "Ab" / "._v_Ab_g01_c01.avi")
    touch(root / "Ab" / "notes.txt")
    data = read_layout(root)
    assert data.missing == ("Cd/v_Cd_g01_c01.avi",)
    assert data.broken == (("Ab/v_Ab_g02_c01.avi", "zero bytes"),)
    assert data.extra == ("Ab/v_Ab_g09_c01.avi", "Zz/v_Zz_g01_c01.avi")
    assert [item.id for item in data.items] == ["Ab/v_Ab_g01_c01.avi"]


def test_dead_link_is_broken(tmp_path: Path) -> None:
    root = small_set(tmp_path)
    video = root / "Cd" / "v_Cd_g01_c01.avi"
    video.unlink()
    video.symlink_to(tmp_path / "gone.avi")
    assert read_layout(root).broken == (("Cd/v_Cd_g01_c01.avi", "link to a file that is not there"),)


def test_converted_container_is_taken_and_noted(tmp_path: Path) -> None:
    root = small_set(tmp_path)
    (root / "Cd" / "v_Cd_g01_c01.avi").rename(root / "Cd" / "v_Cd_g01_c01.mp4")
    touch(root / "Ab" / "v_Ab_g01_c01.mp4")
    data = read_layout(root)
    assert {item.id: item.path.suffix for item in data.items if item.path} == {
        "Ab/v_Ab_g01_c01.avi": ".avi",
        "Cd/v_Cd_g01_c01.avi": ".mp4",
        "Ab/v_Ab_g02_c01.avi": ".avi",
    }
    assert data.extra == ("Ab/v_Ab_g01_c01.mp4",)
    assert any("1 files were converted" in note for note in data.notes)


@pytest.mark.parametrize(
    ("file", "content", "expected"),
    [
        ("trainlist01.txt", "Ab/v_Ab_g01_c01.avi 2\nAbb/v_A_g1_c1.avi 1\n", "line 2: unknown class 'Abb'; did you"),
        ("trainlist01.txt", "Ab/v_Ab_g01_c01.avi\n", "trainlist01.txt line 1: expected 'Class/file.avi LABEL', got"),
        ("trainlist01.txt", "Ab/v_Ab_g01_c01.avi 1\n", "expected label 2 for class Ab (labels count from 1), got '1'"),
        ("trainlist01.txt", "Ab/v_Ab_g01_c01.avi two\n", "line 1: expected label 2"),
        ("trainlist01.txt", "v_Ab_g01_c01.avi 2\n", "line 1: expected 'Class/file.avi LABEL'"),
        ("testlist01.txt", "Ab/v_Ab_g02_c01.avi\nnonsense\n", "line 2: expected 'Class/file.avi', got 'nonsense'"),
        ("testlist01.txt", "Ab/v_Ab_g01_c01.avi\n", "already listed in"),
        ("testlist01.txt", "Ab/v_Ab_g01_c07.avi\n", "line 1: group Ab/g01 is on both sides of the split"),
        ("classInd.txt", "1 Cd\n3 Ab\n", "classInd.txt line 2: expected class number 2, got 3"),
        ("classInd.txt", "Cd\nAb\n", "classInd.txt line 1: expected 'NUMBER CLASS'"),
        ("classInd.txt", "1 Cd\n2 Cd\n", "classInd.txt line 2: class 'Cd' is listed twice"),
    ],
)  # fmt: skip
def test_wrong_line_of_a_list(tmp_path: Path, file: str, content: str, expected: str) -> None:
    root = small_set(tmp_path)
    (root / "ucfTrainTestlist" / file).write_text(content)
    with pytest.raises(UserError) as error:
        read_layout(root)
    assert expected in str(error.value)
    assert file in str(error.value)
    assert "\n" not in str(error.value)


def test_list_that_is_not_utf8_names_its_line(tmp_path: Path) -> None:
    root = small_set(tmp_path)
    (root / "ucfTrainTestlist" / "testlist01.txt").write_bytes(b"Ab/v_Ab_g02_c01.avi\nAb/v_\xe9_g02_c01.avi\n")
    with pytest.raises(UserError, match=r"testlist01.txt line 2: expected UTF-8 text, byte 0xe9"):
        read_layout(root)


def test_class_list_of_another_set(tmp_path: Path) -> None:
    root = small_set(tmp_path)
    with pytest.raises(UserError, match=r"classInd.txt line 1: unknown class 'Cd'"):
        open_(root)
    with pytest.raises(UserError, match=r"expected class 1 to be 'Ab', got 'Cd' \(another order\)"):
        read_layout(root, classes=("Ab", "Cd"))


def test_folder_that_is_not_ucf101(tmp_path: Path) -> None:
    touch(tmp_path / "holiday" / "beach.mp4")
    touch(tmp_path / "readme.txt")
    with pytest.raises(UserError) as error:
        open_(tmp_path)
    assert error.value.exit_code == 2
    assert "is not ucf101: expected class folders" in str(error.value)
    assert "saw 1 folder (holiday/) and 1 file (readme.txt)" in str(error.value)


def test_videos_without_lists_need_the_lists(tmp_path: Path) -> None:
    touch(tmp_path / "deep" / "YoYo" / "v_YoYo_g01_c01.avi")
    with pytest.raises(MissingPrerequisite, match="needs its split lists: expected ucfTrainTestlist/"):
        open_(tmp_path / "deep")


def test_lists_without_videos(tmp_path: Path) -> None:
    root = small_set(tmp_path)
    shutil.rmtree(root / "Ab")
    shutil.rmtree(root / "Cd")
    with pytest.raises(UserError, match="expected class folders"):
        read_layout(root)


@pytest.mark.parametrize("split", [0, 4, "one"])
def test_unknown_split(tmp_path: Path, split: object) -> None:
    with pytest.raises(UserError, match="official splits 1, 2 and 3"):
        open_(tmp_path, split=split)


def test_absent_split_list_says_what_is_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"trainlist02.txt, found trainlist01.txt there"):
        read_layout(small_set(tmp_path), split=2)


def test_no_such_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        open_(tmp_path / "nothing")
