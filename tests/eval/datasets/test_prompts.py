"""Files of prompts in three forms, their captions and videos, and what is wrong with some of them."""

import json
from collections import Counter
from pathlib import Path

import pytest

from cogvideo.errors import UserError
from eval.datasets.items import DataSet
from eval.datasets.prompts import draw_caption, open_


def write(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def msr_vtt(path: Path, n: int = 40, captions: int = 20) -> Path:
    rows = [{"id": f"video{i}", "captions": [f"caption {i}-{k}" for k in range(captions)]} for i in range(n)]
    return write(path, "\n".join(json.dumps(row) for row in rows) + "\n")


def test_text_file(tmp_path: Path) -> None:
    data = open_(write(tmp_path / "p.txt", "\ufeffa cat\r\n\r\n  一只猫 \r\na cat\r\n"))
    assert [(item.id, item.caption) for item in data.items] == [
        ("line-000001", "a cat"),
        ("line-000003", "一只猫"),
        ("line-000004", "a cat"),
    ]
    assert data.notes == ("1 prompts stand there more than once", "1 empty lines were skipped, the first is line 2")


def test_text_file_without_a_last_line_end(tmp_path: Path) -> None:
    assert (
        open_(write(tmp_path / "a.txt", "x\ny")).list_sha256 == open_(write(tmp_path / "b.txt", "x\ny\n")).list_sha256
    )


def test_the_same_records_as_csv_tsv_and_jsonl(tmp_path: Path) -> None:
    rows = [("s1", "a red, round ball", "ball"), ("s2", 'a "quoted" dog', "dog")]
    csv = write(tmp_path / "a.csv", 'ID,prompt,label\ns1,"a red, round ball",ball\ns2,"a ""quoted"" dog",dog\n')
    tsv = write(tmp_path / "a.tsv", 'id\tprompt\tlabel\ns1\ta red, round ball\tball\ns2\t"a ""quoted"" dog"\tdog\n')
    lines = [json.dumps({"id": i, "prompt": p, "label": c}) for i, p, c in rows]
    jsonl = write(tmp_path / "a.jsonl", "\n\n".join(lines))
    for path in (csv, tsv, jsonl):
        data = open_(path)
        assert [(item.id, item.caption, item.label) for item in data.items] == rows
        assert data.classes == ("ball", "dog")
    assert len({open_(path).list_sha256 for path in (csv, tsv, jsonl)}) == 1


def test_videos_are_found_beside_the_file_and_missing_ones_listed(tmp_path: Path) -> None:
    (tmp_path / "v").mkdir()
    write(tmp_path / "v" / "a.mp4", b"x")
    write(tmp_path / "v" / "empty.mp4", b"")
    data = open_(write(tmp_path / "p.csv", "prompt,video\none,v/a.mp4\ntwo,v/b.mp4\nthree,v/empty.mp4\nfour,\n"))
    assert [item.path for item in data.items] == [tmp_path / "v" / "a.mp4", None, None, None]
    assert data.missing == ("v/b.mp4 (line 3)",)
    assert data.broken == (("line-000004", "v/empty.mp4: zero bytes"),)


def test_clips_of_one_video_share_a_group(tmp_path: Path) -> None:
    data = open_(write(tmp_path / "p.csv", "prompt,video\none,a.mp4\ntwo,a.mp4\nthree,\n"))
    assert len({item.group for item in data.items}) == 2


def test_one_caption_a_video_drawn_by_the_seed(tmp_path: Path) -> None:
    path = msr_vtt(tmp_path / "msrvtt.jsonl")
    data = open_(path, seed=3)
    assert all(item.caption == item.captions[item.caption_index] for item in data.items)
    assert all(len(item.captions) == 20 for item in data.items)
    assert data == open_(path, seed=3)
    chosen = [[item.caption_index for item in open_(path, seed=seed).items] for seed in (3, 4)]
    assert chosen[0] != chosen[1]
    assert data.list_sha256 != open_(path, seed=4).list_sha256
    assert "40 items have 20 captions; one of each was drawn with seed 3" in data.notes


def test_a_choice_does_not_depend_on_the_other_items(tmp_path: Path) -> None:
    def chosen(data: DataSet) -> dict[str, int]:
        return {item.id: item.caption_index for item in data.items}

    few, many = open_(msr_vtt(tmp_path / "a.jsonl", n=5)), open_(msr_vtt(tmp_path / "b.jsonl", n=40))
    assert chosen(few).items() < chosen(many).items()


def test_draws_are_uniform() -> None:
    counts = Counter(draw_caption(f"video{i}", 20, seed=0) for i in range(20_000))
    chi_squared = sum((count - 1000) ** 2 / 1000 for count in counts.values())
    assert len(counts) == 20
    assert chi_squared < 43.8  # 99.9 % of the distribution with 19 degrees of freedom


@pytest.mark.parametrize("cell", ['"[""one"", ""two | three""]"', "one | two"])
def test_captions_in_a_csv_cell(tmp_path: Path, cell: str) -> None:
    item = open_(write(tmp_path / "p.csv", f"id,captions\na,{cell}\n")).items[0]
    assert len(item.captions) == 2
    assert item.caption in item.captions


def test_a_prompt_beside_captions_is_the_choice(tmp_path: Path) -> None:
    item = open_(write(tmp_path / "p.jsonl", '{"prompt": "b", "captions": ["a", "b", "c"]}')).items[0]
    assert (item.caption, item.caption_index) == ("b", 1)


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("p.txt", b"a cat\na d\xf6g\n", "p.txt line 2: expected UTF-8 text, byte 0xf6 is not"),
        ("p.txt", "a cat\n".encode("utf-16"), "p.txt line 1: expected UTF-8 text, this file is UTF-16"),
        ("p.txt", b"\n\n", "holds no prompt"),
        ("p.csv", b"promt,id\na,b\n", "got promt, id; did you mean prompt?"),
        ("p.csv", b"", "line 1: expected a column 'prompt' (or 'captions'), got an empty file"),
        ("p.csv", b"prompt,prompt\na,b\n", "line 1: column 'prompt' stands there twice"),
        ("p.csv", b"id,prompt\n1,a\n2,b\n1,c\n", "line 4: id '1' was already used in line 2"),
        ("p.csv", b"id,prompt\n1,a\n2,\n", "line 3: the prompt is empty"),
        ("p.csv", b"id,prompt\n1,a dog, running\n", "line 2: expected 2 columns (id, prompt), got 3"),
        ("p.csv", b'id,prompt\n1,"a\nb"\n2,"c\n', "not a line of a CSV file"),
        ("p.csv", b"id,prompt\n1,\"a\nb\"\n1,c\n", "line 4: id '1' was already used in line 2"),
        ("p.jsonl", b'{"prompt": "a"}\n{"prompt": }\n', "p.jsonl line 2: not JSON"),
        ("p.jsonl", b'"a cat"\n', "line 1: expected an object"),
        ("p.jsonl", b'{"prompt": 3}\n', "line 1: expected text for 'prompt', got 3"),
        ("p.jsonl", b'{"captions": []}\n', "line 1: the list of captions is empty"),
        ("p.jsonl", b'{"captions": ["a", 1]}\n', "line 1: expected a list of texts for 'captions'"),
        ("p.jsonl", b'{"prompt": "z", "captions": ["a"]}\n', "line 1: the prompt 'z' is not among the captions"),
        ("p.docx", b"x", "expected a file of prompts in .txt, .csv, .tsv or .jsonl, got .docx"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_in_one_line(tmp_path: Path, name: str, content: bytes, expected: str) -> None:
    with pytest.raises(UserError) as error:
        open_(write(tmp_path / name, content))
    assert expected in str(error.value)
    assert error.value.exit_code == 2


def test_folder_or_nothing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="got the folder"):
        open_(tmp_path)
    with pytest.raises(UserError, match="no such file of prompts"):
        open_(tmp_path / "x.txt")
