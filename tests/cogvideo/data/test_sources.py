"""Layouts as they lie on disk; what is wrong with captions is said with file and line."""

from __future__ import annotations

import json

import pytest

from cogvideo.data.captions import class_phrase
from cogvideo.data.sources import open_source
from cogvideo.errors import UserError
from eval.datasets.shapes_drawing import classes


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")
    return root


UCF = ("Archery/v_Archery_g01_c01.avi", "Archery/v_Archery_g02_c01.avi", "YoYo/v_YoYo_g01_c01.avi")


@pytest.mark.parametrize(
    ("name", "phrase"),
    [
        ("ApplyEyeMakeup", "apply eye makeup"),
        ("Archery", "archery"),
        ("TaiChi", "tai chi"),
        ("YoYo", "yo yo"),
        ("TVNews2", "tv news 2"),
        ("abseiling", "abseiling"),
        ("playing squash or racquetball", "playing squash or racquetball"),
        ("riding_a_bike", "riding a bike"),
        ("射箭", "射箭"),
    ],
)
def test_class_phrase(name, phrase):
    assert class_phrase(name) == phrase


def test_captions_of_every_drawn_class_are_those_of_the_data_set():
    assert {one.name: class_phrase(one.name) for one in classes("all")} == {
        one.name: one.caption for one in classes("all")
    }


def test_ucf_layout(tmp_path):
    source = open_source(touch(tmp_path, *UCF, "ucfTrainTestlist/trainlist01.txt", ".hidden/v_A_g01_c01.avi"))
    assert source.layout == "ucf"
    assert [(pair.name, pair.caption) for pair in source.pairs] == [
        (UCF[0], "archery"),
        (UCF[1], "archery"),
        (UCF[2], "yo yo"),
    ]
    assert all(pair.path.is_file() for pair in source.pairs)


def test_files_side_by_side_have_the_class_of_their_name(tmp_path):
    source = open_source(touch(tmp_path, "v_TaiChi_g01_c01.avi"))
    assert [pair.caption for pair in source.pairs] == ["tai chi"]


def test_a_split_list(tmp_path):
    root = touch(tmp_path / "data", *(f"UCF-101/{name}" for name in UCF))
    only = tmp_path / "trainlist01.txt"
    only.write_text(f"{UCF[2]} 2\r\n{UCF[0]} 1\r\n")
    assert [pair.name for pair in open_source(root, only=only).pairs] == [f"UCF-101/{UCF[0]}", f"UCF-101/{UCF[2]}"]
    only.write_text(f"{UCF[0]} 1\nYoYo/v_YoYo_g09_c01.avi 2\n")
    with pytest.raises(UserError, match=r"trainlist01.txt line 2: data has no video 'YoYo/v_YoYo_g09_c01.avi'"):
        open_source(root, only=only)


def test_captions_by_class_and_by_file(tmp_path):
    root, table = touch(tmp_path / "data", *UCF), tmp_path / "captions.csv"
    table.write_text('class,caption\nArchery,"shooting, with a bow"\nYoYo,playing\n', encoding="utf-8-sig")
    assert [pair.caption for pair in open_source(root, captions=table).pairs] == ["shooting, with a bow"] * 2 + [
        "playing"
    ]
    table = tmp_path / "captions.jsonl"
    table.write_text("".join(json.dumps({"file": name, "caption": name[-7:]}) + "\n" for name in UCF))
    assert [pair.caption for pair in open_source(root, captions=table).pairs] == [name[-7:] for name in UCF]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("class,caption\nArchery,a\nYoYo,b\nJuggling,c\n", "captions.csv line 4: the folder has no class 'Juggling'"),
        ("class,caption\nArchery,a\n", "no caption for YoYo/v_YoYo_g01_c01.avi"),
        ("class,caption\nArchery,a\nArchery,b\n", "line 3: 'Archery' already has the caption 'a'"),
        ("class,caption\nArchery,\n", "line 2: expected text in the column 'caption'"),
        ("class,caption\nArchery,a,b\n", "line 2: expected 2 columns"),
        ("name,caption\nArchery,a\n", "line 2: expected the columns caption and class"),
        (f"file,caption\nx/{UCF[0]},a\n", "line 2: the folder has no video"),
        ("class,caption\n", "holds no caption"),
    ],
)
def test_captions_that_do_not_match(tmp_path, content, message):
    root, table = touch(tmp_path / "data", *UCF), tmp_path / "captions.csv"
    table.write_text(content)
    with pytest.raises(UserError, match=message) as error:
        open_source(root, captions=table)
    assert "\n" not in str(error.value)


def test_manifest(tmp_path):
    touch(tmp_path, "a.mp4", "sub/b.mp4")
    (tmp_path / "list.jsonl").write_text(
        '{"file": "sub/b.mp4", "caption": "two  words", "start": 1.5, "end": 4}\n\n'
        '{"file": "a.mp4", "caption": "x"}\n{"file": "a.mp4", "caption": "y"}\n'
    )
    source = open_source(tmp_path / "list.jsonl")
    assert source.layout == "manifest"
    assert [(p.name, p.caption, p.start_s, p.end_s, p.number) for p in source.pairs] == [
        ("sub/b.mp4", "two words", 1.5, 4.0, 0),
        ("a.mp4", "x", None, None, 0),
        ("a.mp4", "y", None, None, 1),
    ]
    (tmp_path / "manifest.csv").write_text("file,caption,start,end\na.mp4,x,,\n")
    assert [p.start_s for p in open_source(tmp_path).pairs] == [None]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("file,caption\na.mp4,x\nb.mp4,y\nc.mp4,z\n", r"m.csv line 3: there is no b.mp4 in .* \(and 1 more"),
        ("file,caption,start,end\na.mp4,x,5,4\n", "line 2: expected an end after 5 s, got 4 s"),
        ("file,caption,start,end\na.mp4,x,soon,\n", "line 2: expected seconds in the column 'start', got 'soon'"),
        ("file,caption,start,end\na.mp4,x,-1,\n", "line 2: expected seconds"),
        ("video,caption\na.mp4,x\n", "line 2: expected the columns file, caption"),
        ("file,caption\na.mp4,  \n", "line 2: expected text in the column 'caption'"),
        ('file,caption\na.mp4,"x\n', "not a line of a CSV file"),
        ("file,caption\n", "holds no video with a caption"),
    ],
)
def test_bad_manifests(tmp_path, content, message):
    touch(tmp_path, "a.mp4")
    (tmp_path / "m.csv").write_text(content)
    with pytest.raises(UserError, match=message) as error:
        open_source(tmp_path / "m.csv")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", ["{", "[1]", '{"file": 3, "caption": "x"}'])
def test_bad_json(tmp_path, content):
    (tmp_path / "m.jsonl").write_text(f"\n{content}\n")
    with pytest.raises(UserError, match=r"m.jsonl line 2"):
        open_source(tmp_path / "m.jsonl")


def kinetics(tmp_path, rows):
    table = tmp_path / "train.csv"
    table.write_text("label,youtube_id,time_start,time_end,split\n" + "".join(row + "\n" for row in rows))


def test_kinetics(tmp_path):
    touch(tmp_path, "train/playing chess/-a_b_000010_000020.mp4", "val/bare.mp4", "sailing/x_000001_000011.mkv")
    rows = ["playing chess,-a_b,10,20,train", "archery,bare,3,13,val", "sailing,gone,0,10,train", ",x,1,11,train"]
    kinetics(tmp_path, rows)
    source = open_source(tmp_path)
    assert source.layout == "kinetics"
    assert {pair.name.rpartition("/")[2]: pair.caption for pair in source.pairs} == {
        "-a_b_000010_000020.mp4": "playing chess",
        "bare.mp4": "archery",
        "x_000001_000011.mkv": "sailing",
    }
    assert source.missing == ("gone_000000_000010",)
    assert [pair.caption for pair in open_source(tmp_path, split="val").pairs] == ["archery"]
    with pytest.raises(UserError, match="unknown split 'dev'"):
        open_source(tmp_path, split="dev")


def test_a_bare_id_that_is_cut_twice_says_nothing(tmp_path):
    touch(tmp_path, "twice.mp4", "once.mp4")
    kinetics(tmp_path, ["a,twice,0,10,train", "b,twice,20,30,train", "c,once,0,10,train"])
    source = open_source(tmp_path)
    assert [pair.caption for pair in source.pairs] == ["c"]
    assert len(source.missing) == 2


def test_bad_kinetics(tmp_path):
    touch(tmp_path, "a.mp4", "test/bare.mp4")
    kinetics(tmp_path, [",bare,0,10,test"])
    with pytest.raises(UserError, match=r"test/bare.mp4 has no class: its row has no label"):
        open_source(tmp_path)
    kinetics(tmp_path, ["a,id,soon,10,train"])
    with pytest.raises(UserError, match=r"train.csv line 2"):
        open_source(tmp_path)
    kinetics(tmp_path, ["a,id,0,10,train"])
    with pytest.raises(UserError, match=r"holds none of the 1 clips that train.csv names"):
        open_source(tmp_path)


def test_what_is_no_source(tmp_path):
    with pytest.raises(UserError, match="there is nothing at"):
        open_source(tmp_path / "absent")
    with pytest.raises(UserError, match="it holds no video"):
        open_source(tmp_path)
    with pytest.raises(UserError, match=r"loose.mp4 lies in no class folder"):
        open_source(touch(tmp_path, "loose.mp4"))
    with pytest.raises(UserError, match="has no splits"):
        open_source(touch(tmp_path, *UCF), split="train")


def test_the_hash_is_of_names_times_and_captions(tmp_path):
    one, other = touch(tmp_path / "one", *UCF), touch(tmp_path / "other", *UCF)
    assert open_source(one).sha256 == open_source(other).sha256
    touch(other, "YoYo/v_YoYo_g01_c02.avi")
    assert open_source(one).sha256 != open_source(other).sha256
