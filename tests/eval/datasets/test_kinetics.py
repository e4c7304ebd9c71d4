"""Kinetics: annotation CSVs, file names that are parsed from the right, and the layouts that disks have."""

from pathlib import Path

import pytest

from cogvideo.errors import MissingPrerequisite, UserError
from eval.datasets.items import DataSet
from eval.registry import datasets

HEADER = "label,youtube_id,time_start,time_end,split\n"
# Ids that begin with '-', hold '_', and one that ends like a time; a label with comma and bracket.
ROWS = [
    ("arm wrestling", "-abc_DEF-12", 12, 22, "val"),
    ('"passing football (in game, not still)"', "__________a", 7, 17, "val"),
    ("massaging person's head", "x_000010_00", 100, 110, "val"),
    ("arm wrestling", "trainTRAIN0", 1, 11, "train"),
]
LABELS = ["arm wrestling", "passing football (in game, not still)", "massaging person's head", "arm wrestling"]


def write_csv(path: Path, text: str | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = "".join(",".join(map(str, row)) + "\n" for row in ROWS)
    path.write_text(HEADER + rows if text is None else text, encoding="utf-8")
    return path


def touch(path: Path, data: bytes = b"x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def stem(row: tuple) -> str:
    return f"{row[1]}_{row[2]:06d}_{row[3]:06d}"


def kinetics(root: Path, **options: object) -> DataSet:
    return datasets.get("kinetics600").make(root, **options)


def folder_of(label: str, style: str) -> str:
    under = label.replace(" ", "_")
    return under.translate(str.maketrans("", "", "'()")) if style == "torchvision" else under


@pytest.mark.parametrize("style", ["split/class", "class", "split", "flat", "torchvision", "spaces"])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".webm", ".avi"])
def test_layouts_in_the_wild(tmp_path: Path, style: str, suffix: str) -> None:
    write_csv(tmp_path / "kinetics_600.csv")
    for row, label in zip(ROWS, LABELS, strict=True):
        folder = {
            "split/class": f"{row[4]}/{folder_of(label, '')}",
            "class": folder_of(label, ""),
            "split": row[4],
            "flat": "",
            "torchvision": f"{row[4]}/{folder_of(label, 'torchvision')}",
            "spaces": label,
        }[style]
        touch(tmp_path / folder / f"{stem(row)}{suffix}")
    data = kinetics(tmp_path)
    assert [(item.id, item.label, item.group, item.split) for item in data.items] == [
        (stem(row), label, row[1], row[4]) for row, label in zip(ROWS, LABELS, strict=True)
    ]
    assert [item.path.name for item in data.items if item.path] == [f"{stem(row)}{suffix}" for row in ROWS]
    assert (data.missing, data.extra, data.broken) == ((), (), ())
    assert not any("another class" in note for note in data.notes)


def test_missing_clips_are_counted_and_listed(tmp_path: Path) -> None:
    csv = write_csv(tmp_path / "a.csv")
    touch(tmp_path / "clips" / f"{stem(ROWS[1])}.mp4")
    touch(tmp_path / "clips" / f"{stem(ROWS[2])}.mp4", b"")
    touch(tmp_path / "clips" / "holiday.mp4")
    data = kinetics(tmp_path / "clips", annotations=csv)
    assert [item.id for item in data.items] == [stem(ROWS[1])]
    assert data.missing == (stem(ROWS[0]), stem(ROWS[3]))
    assert data.broken == ((stem(ROWS[2]), "zero bytes"),)
    assert data.extra == ("holiday.mp4",)
    assert data.official_counts == {"val": 3, "train": 1}
    assert data.classes == tuple(sorted(set(LABELS)))


def test_split_takes_its_rows_and_leaves_others_alone(tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv")
    for row in ROWS:
        touch(tmp_path / row[4] / f"{stem(row)}.mp4")
    touch(tmp_path / "train" / "unlistedABC_000001_000011.mp4")
    data = kinetics(tmp_path, split="validate")
    assert {item.split for item in data.items} == {"val"}
    assert len(data.items) == 3
    assert (data.missing, data.extra) == ((), ())
    assert kinetics(tmp_path, split="train").missing == ()
    assert len(kinetics(tmp_path, split="train+val").items) == 4


def test_only_the_csv_of_the_split_is_read(tmp_path: Path) -> None:
    write_csv(tmp_path / "annotations" / "val.csv")
    write_csv(tmp_path / "annotations" / "train.csv", "not,a,kinetics,file\n")
    touch(tmp_path / f"{stem(ROWS[0])}.mp4")
    assert len(kinetics(tmp_path, split="val").items) == 1
    with pytest.raises(UserError, match=r"train.csv line 1: expected the columns label,youtube_id"):
        kinetics(tmp_path)


def test_bare_ids_count_where_they_are_unambiguous(tmp_path: Path) -> None:
    text = HEADER + "a,one_two-333,3,13,val\nb,twice_12345,1,11,val\nb,twice_12345,41,51,val\n"
    write_csv(tmp_path / "val.csv", text)
    touch(tmp_path / "one_two-333.webm")
    touch(tmp_path / "twice_12345.webm")
    data = kinetics(tmp_path)
    assert [item.id for item in data.items] == ["one_two-333_000003_000013"]
    assert len(data.missing) == 2
    assert any("fits several rows" in note for note in data.notes)
    assert data.extra == ("twice_12345.webm",)


def test_ids_of_any_length_match_by_the_annotations(tmp_path: Path) -> None:
    write_csv(tmp_path / "val.csv", HEADER + "flipping pancake,decord_flipping_a_pancake,0,10,val\n")
    touch(tmp_path / "decord_flipping_a_pancake.mkv")
    assert [item.label for item in kinetics(tmp_path).items] == ["flipping pancake"]


def test_test_lists_without_labels_take_the_folder(tmp_path: Path) -> None:
    write_csv(tmp_path / "a" / "val.csv")
    write_csv(tmp_path / "a" / "test.csv", "youtube_id,time_start,time_end,split\nTESTtest123,5,15,test\n")
    touch(tmp_path / "clips" / "test" / "arm_wrestling" / "TESTtest123_000005_000015.mp4")
    data = kinetics(tmp_path / "clips", annotations=tmp_path / "a")
    assert [(item.label, item.split) for item in data.items] == [("arm wrestling", "test")]
    only_test = kinetics(tmp_path / "clips", annotations=tmp_path / "a" / "test.csv")
    assert [item.label for item in only_test.items] == [""]


def test_is_cc_column_floats_and_bom(tmp_path: Path) -> None:
    text = "\ufefflabel,youtube_id,time_start,time_end,split,is_cc\r\narm wrestling,abcdefghijk,3.0,13.0,train,0\r\n"
    write_csv(tmp_path / "train.csv", text)
    touch(tmp_path / "abcdefghijk_000003_000013.mp4")
    assert [item.id for item in kinetics(tmp_path).items] == ["abcdefghijk_000003_000013"]


def test_the_copy_in_its_own_split_and_class_goes_first(tmp_path: Path) -> None:
    write_csv(tmp_path / "val.csv")
    name = f"{stem(ROWS[0])}.mp4"
    for folder in ("train/arm_wrestling", "val/arm_wrestling", "val/another"):
        touch(tmp_path / folder / name)
    data = kinetics(tmp_path)
    assert [item.path for item in data.items] == [tmp_path / "val" / "arm_wrestling" / name]
    assert data.extra == (f"train/arm_wrestling/{name}", f"val/another/{name}")


def test_another_class_folder_is_noted_and_the_csv_holds(tmp_path: Path) -> None:
    write_csv(tmp_path / "val.csv")
    touch(tmp_path / "massaging_person's_head" / f"{stem(ROWS[0])}.mp4")
    data = kinetics(tmp_path)
    assert data.items[0].label == "arm wrestling"
    assert any("1 files lie in another class's folder" in note for note in data.notes)


def test_repeated_rows_are_left_out(tmp_path: Path) -> None:
    write_csv(tmp_path / "val.csv", HEADER + "a,abcdefghijk,3,13,val\n" * 3)
    touch(tmp_path / "abcdefghijk_000003_000013.mp4")
    data = kinetics(tmp_path)
    assert len(data.items) == 1
    assert any("2 rows name a clip again" in note for note in data.notes)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("a,abcdefghijk,3", "line 3: expected 5 columns"),
        ("hammer, throw,abcdefghijk,3,13,val", "a text with a comma must be quoted"),
        ("a,abcdefghijk,three,13,val", "line 3: expected an id and two times in seconds"),
        ("a,,3,13,val", "line 3: expected an id and two times"),
        ('"a,abcdefghijk,3,13,val', "not a line of a CSV file"),
    ],
)
def test_wrong_rows_name_their_line(tmp_path: Path, line: str, expected: str) -> None:
    write_csv(tmp_path / "val.csv", HEADER + "a,0bcdefghijk,3,13,val\n" + line + "\n")
    with pytest.raises(UserError) as error:
        kinetics(tmp_path)
    assert expected in str(error.value)
    assert "val.csv" in str(error.value)


def test_without_annotations_it_says_what_to_fetch(tmp_path: Path) -> None:
    touch(tmp_path / "k" / "abcdefghijk_000003_000013.mp4")
    with pytest.raises(MissingPrerequisite, match="kinetics600 needs its annotation CSV") as error:
        kinetics(tmp_path / "k")
    assert error.value.exit_code == 3


def test_wrong_folder_wrong_split_wrong_number_of_classes(tmp_path: Path) -> None:
    csv = write_csv(tmp_path / "a" / "val.csv")
    touch(tmp_path / "clips" / "beach.mp4")
    with pytest.raises(UserError, match=r"holds none of the 4 clips .* saw 1 file \(beach.mp4\)"):
        kinetics(tmp_path / "clips", annotations=csv)
    with pytest.raises(UserError, match="unknown Kinetics split 'tset'; did you mean test"):
        kinetics(tmp_path / "clips", annotations=csv, split="tset")
    with pytest.raises(UserError, match="no clip of split test; the file has train, val"):
        kinetics(tmp_path / "clips", annotations=csv, split="test")
    with pytest.raises(UserError, match="no such annotation file"):
        kinetics(tmp_path / "clips", annotations=tmp_path / "none.csv")
    many = HEADER + "".join(f"label {i},id{i:09d},0,10,val\n" for i in range(401))
    with pytest.raises(UserError, match="401 classes, kinetics400 has 400"):
        datasets.get("kinetics400").make(tmp_path / "clips", annotations=write_csv(tmp_path / "b.csv", many))
