"""`report.html`: whole, alone, the same bytes twice, the terminal's digits, and strings that stay in their place."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest

from cogvideo.errors import UserError
from eval.notation import interval_of, number
from eval.records import Counts
from reports.page import script, script_hash
from reports.printed import printed_numbers
from reports.run_page import lead, write_report
from reports.samples import choose, inside
from reports.tables import audit_rows, command

REFERENCE = Path(os.environ.get("COGEVAL_REFERENCE_DIR", Path(__file__).parents[2] / ".." / "shared" / "reference"))
HOSTILE_FILE = REFERENCE / "human" / "hostile_strings.json"
OURS = [
    "<script>window.__x=1</script>",
    '"><svg onload=window.__x=1>',
    "{{7*7}}",
    "javascript:window.__x=1",
    "a\u202egnp.4pm",
    "\x00\x1b[2J\x85",
    "</title><script>window.__x=1</script>",
    "half \ud800",
]
VOID = {"meta", "link", "br", "img", "input", "hr", "source"}


class Page(HTMLParser):
    """The page as a parser sees it: elements with attributes, text, and whether every element is closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.troubles: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.troubles.append(f"</{tag}> at {self.getpos()}")

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self.words).split())

    def values(self, attribute: str) -> list[str]:
        return [attrs[attribute] or "" for _, attrs in self.elements if attribute in attrs]


def page_of(run: Path) -> Page:
    return Page(write_report(run).read_text(encoding="utf-8"))


@pytest.fixture
def run(sample_runs, tmp_path):
    scores = {"clipsim/tats-16f-2048": [0.2 + i / 100 for i in range(9)]}
    folder = sample_runs.write_run(tmp_path / "model-a-7f3a2c91", sample_runs.result(), scores=scores)
    (folder / "samples").mkdir()
    for i in range(9):
        (folder / "samples" / f"{i:05d}.mp4").write_bytes(b"not a real video")
    return folder


def test_every_number_has_the_digits_of_the_terminal(run, sample_runs):
    page = page_of(run)
    for metric in sample_runs.sketch_metrics():
        assert number(metric.value, metric.decimals) in page.text
        assert interval_of(metric) in page.text
    sentence = "FVD 412.6, 95 % interval 398.1 to 428.0, from 2,048 generated clips of 16 frames at 128 × 128."
    assert sentence in page.text
    assert "Two real sets of the same size differ by 61.8." in page.text
    labels = page.values("aria-label")
    assert "FVD 412.6, 95 % interval 398.1 – 428.0, floor 61.8, n = 2,048" in labels


def test_the_page_stands_alone(run):
    page = page_of(run)
    assert page.troubles == []
    assert page.open == []
    tags = [tag for tag, _ in page.elements]
    assert not {"iframe", "object", "embed", "form", "base"} & set(tags)
    assert tags.count("link") == tags.count("script") == 1
    addresses = page.values("href") + page.values("src")
    assert not [a for a in addresses if ":" in unquote(a) and not a.startswith("data:")]
    inside = [a[1:] for a in addresses if a.startswith("#")]
    ids = page.values("id")
    assert len(ids) == len(set(ids))
    assert set(inside) <= set(ids)
    files = [a for a in addresses if not a.startswith(("#", "data:"))]
    assert files
    assert [a for a in files if not (run / unquote(a)).is_file()] == []
    text = (run / "report.html").read_text()
    assert not re.search(r"url\(|@import|\son[a-z]+=\"|\sstyle=", text)


def test_only_our_script_may_run(run):
    page = page_of(run)
    text = (run / "report.html").read_text()
    ours = script()
    assert f"<script>{ours}</script>" in text
    (policy,) = [attrs["content"] for tag, attrs in page.elements if attrs.get("http-equiv")]
    assert f"script-src {script_hash(ours)};" in policy
    assert "default-src 'none'" in policy


def test_the_same_records_give_the_same_bytes_in_any_process(run):
    first = write_report(run).read_bytes()
    code = "import sys, pathlib; from reports.run_page import write_report; write_report(pathlib.Path(sys.argv[1]))"
    environ = os.environ | {"PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo", "LC_ALL": "C"}
    subprocess.run([sys.executable, "-c", code, str(run)], check=True, env=environ, cwd=Path(__file__).parents[2])
    assert (run / "report.html").read_bytes() == first
    assert [p.name for p in run.iterdir() if "tmp" in p.name] == []


def test_a_comparable_run_says_so_and_another_says_why_not(run, sample_runs, tmp_path):
    assert "Comparable" in page_of(run).text
    assert "Not comparable" not in page_of(run).text
    counts = Counts(planned=2048, made=2048, ok=1536, rejected=512, reasons={"wrong frame count": 512})
    found = sample_runs.result(
        comparable=False,
        not_comparable_because=["embedded data", "features in bfloat16"],
        status="partial",
        counts=counts,
    )
    page = page_of(sample_runs.write_run(tmp_path / "b", found))
    for words in ("Not comparable with published numbers", "embedded data", "features in bfloat16"):
        assert words in page.text
    assert "Partial: 1,536 of 2,048" in page.text
    assert "1,536 of 2,048 clips scored; 512 rejected: wrong frame count (512)" in page.text
    assert page.values("class").count("k k-partial") == 4 + 1, "four metrics and the legend"


def test_embedded_data_are_marked_at_the_top(run, sample_runs, tmp_path):
    import dataclasses

    assert "Embedded data" not in page_of(run).text
    embedded = dataclasses.replace(sample_runs.PROTOCOL, embedded=True)
    page = page_of(sample_runs.write_run(tmp_path / "b", sample_runs.result(), protocol=embedded))
    assert "Embedded data" in page.text
    assert "All of them differ from this run: data: embedded data set and networks, which no paper used" in page.text


def test_printed_numbers_of_other_settings_stand_apart_with_what_differs(run, sample_runs):
    page = page_of(run)
    printed = printed_numbers(sample_runs.result(), sample_runs.PROTOCOL)
    assert [(block.label, block.same, len(block.apart)) for block in printed.blocks] == [
        ("FVD", None, 61),
        ("IS", None, 56),
    ]
    assert page.values("class").count("badge paper bare") == 61 + 56
    assert "No printed FVD or IS has the same setting as this run" in page.text
    assert "117 printed numbers of other settings, and what differs" in page.text
    assert "split, resolution, samples" in page.text
    assert "disputed: CogVideo UCF: 626/50.46" in page.text


def test_a_printed_number_of_the_same_setting_stands_on_one_axis_with_the_run(run, sample_runs, monkeypatch):
    from eval.published import PublishedRow

    facts = {"dataset": "ucf101", "metric": "FVD", "setting": "trained on UCF-101 train", "source": "x", "frames": 16}
    rows = [
        PublishedRow(model="Alpha", year=2022, value=332, resolution=128, samples=2048, confidence="high", **facts),
        PublishedRow(model="Beta", value=577, std=15, resolution=128, samples=2048, confidence="high", **facts),
        PublishedRow(model="Gamma", value=100, resolution=256, samples=2048, confidence="high", **facts),
    ]
    monkeypatch.setattr("reports.printed.rows_for", lambda result, metric: rows if metric.label == "FVD" else [])
    (block,) = printed_numbers(sample_runs.result(), sample_runs.PROTOCOL).blocks
    assert [(row.name, row.value, row.kind) for row in block.same.rows] == [
        ("Alpha", "332", "paper"),
        ("This run", "412.6", "own"),
        ("Beta", "577", "paper"),
    ]
    assert [row.name for row in block.apart] == ["Gamma"]
    places = [float(row.mark.value.rstrip("%")) for row in block.same.rows]
    assert places == sorted(places)
    assert (places[1] - places[0]) / (places[2] - places[1]) == pytest.approx((412.6 - 332) / (577 - 412.6), abs=1e-3)
    labels = page_of(run).values("aria-label")
    assert "Alpha (2022) 332, from paper, no interval printed" in labels
    assert "Beta 577, from paper, ± 15 as printed" in labels


def test_works_from_the_result_alone(sample_runs, tmp_path):
    folder = sample_runs.write_run(tmp_path / "a", sample_runs.result(), protocol=None)
    page = page_of(folder)
    assert page.troubles == []
    assert "the run's protocol is not recorded" in page.text
    assert "manifest.json" not in page.values("href")
    assert not [tag for tag, _ in page.elements if tag == "video"]


def test_what_is_missing_is_in_words(sample_runs, tmp_path):
    metrics = [
        sample_runs.metric("FVD", None, note="all features are equal"),
        sample_runs.metric("KVD", 3.0, kind="kvd", floor_note="no held-out real clips"),
    ]
    page = page_of(sample_runs.write_run(tmp_path / "a", sample_runs.result(metrics)))
    assert "undefined: all features are equal" in page.text
    assert "no floor: no held-out real clips" in page.text
    assert "n too small for an interval" in page.text
    assert "None" not in re.sub(r"None was recorded", "", page.text)
    none = page_of(sample_runs.write_run(tmp_path / "b", sample_runs.result([])))
    assert "No metric was scored." in none.text
    assert lead(sample_runs.result([])) == [("No metric of this run has a value.", "")]


def test_a_run_that_cannot_be_read_leaves_no_page(tmp_path):
    (tmp_path / "result.json").write_text("{")
    with pytest.raises(UserError, match="damaged"):
        write_report(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["result.json"]


def test_samples_are_chosen_by_rule(run, sample_runs):
    from eval.records import read_samples

    result, samples = sample_runs.result(), list(read_samples(run).values())
    rule, chosen = choose(result, samples)
    assert rule == "Chosen by rule from CLIPSIM, and at random with seed 0; never by hand."
    assert [(one.rule, one.score, one.sample.id) for one in chosen[:3]] == [
        ("Best", "0.2800", "00008"),
        ("Median", "0.2400", "00004"),
        ("Worst", "0.2000", "00000"),
    ]
    assert {one.rule for one in chosen[3:]} == {"Random, seed 0"}
    assert len({one.sample.id for one in chosen}) == len(chosen) == 8
    assert choose(result, samples[::-1]) == (rule, chosen)
    others = {choose(result.model_copy(update={"seed": seed}), samples)[1][3].sample.id for seed in range(20)}
    assert len(others) > 1


@pytest.mark.parametrize(
    "file", ["../secret.mp4", "/etc/passwd", "", "samples", "missing.mp4", "javascript:alert(1)", "\0"]
)
def test_only_files_of_the_run_are_shown(run, file):
    (run.parent / "secret.mp4").write_bytes(b"x")
    assert inside(run, file) is None
    assert inside(run, "samples/00000.mp4") == (run / "samples" / "00000.mp4").resolve()


def test_a_video_that_cannot_be_read_says_so_in_its_place(run):
    page = page_of(run)
    assert page.text.count("This video cannot be read:") == 8
    (run / "samples" / "00008.mp4").unlink()
    page = page_of(run)
    assert page.text.count("This video cannot be read:") == 7
    assert page.text.count("This video is not in the folder.") == 1


def test_the_command_repeats_the_run_and_is_quoted(sample_runs):
    settings = [
        {"name": "data", "value": "my data/UCF 101", "origin": "flag"},
        {"name": "offline", "value": "True", "origin": "environment"},
        {"name": "out", "value": "elsewhere", "origin": "flag"},
        {"name": "device", "value": "cpu", "origin": "automatic", "reason": "no GPU"},
    ]
    facts = {"spec": "folder:$(rm -rf x)", "title": "x"}
    assert command(sample_runs.result(settings=settings, generator=facts)) == (
        "cogeval ucf101 --generator 'folder:$(rm -rf x)' --protocol tats-16f-2048 --seed 0 "
        "--data 'my data/UCF 101' --offline"
    )


def test_the_audit_adds_up_to_what_was_planned(sample_runs):
    counts = Counts(planned=10, made=9, ok=5, rejected=4, reasons={"too short": 1, "broken": 2})
    rows = audit_rows(sample_runs.result(counts=counts))
    assert rows == [
        ("Accepted", "5", "50.0 %"),
        ("broken", "2", "20.0 %"),
        ("too short", "1", "10.0 %"),
        ("Rejected, reason not recorded", "1", "10.0 %"),
        ("Not made", "1", "10.0 %"),
    ]
    assert sum(int(n) for _, n, _ in rows) == 10


def hostile_strings() -> list[str]:
    if not HOSTILE_FILE.exists():
        return OURS
    return OURS + list(json.loads(HOSTILE_FILE.read_text(encoding="utf-8"))["text"])


def hostile_run(sample_runs, folder: Path, text: str) -> Path:
    """One string in every place that a stranger can fill."""
    text = text.encode("utf-8", "replace").decode()
    metric = sample_runs.metric("FVD", 412.6, 398.1, 428.0, warnings=[text], details={text: text})
    metric.per_class[text] = 0.5
    weights = metric.weights.model_copy(update={"name": f"i3d-{text}"})
    metric = metric.model_copy(update={"label": text, "weights": weights, "floor_note": text})
    found = sample_runs.result(
        [metric, sample_runs.metric("KVD", None, note=text, kind="kvd")],
        generator={"spec": text, "title": text},
        benchmark_title=text,
        warnings=[text, f"{text}: {text}"],
        comparable=False,
        not_comparable_because=[text],
        status="partial",
        counts={"planned": 4, "made": 4, "ok": 3, "rejected": 1, "reasons": {text: 1}},
        settings=[{"name": text, "value": text, "origin": "flag", "reason": text}],
        licences={text: text},
        environment={text: text},
        created=text,
    )
    data = found.data.model_copy(
        update={"title": text, "root": text, "missing": [text], "extra": [text], "broken": [(text, text)]}
    )
    return sample_runs.write_run(folder, found.model_copy(update={"data": data}), prompts=[text] * 3, label=text)


def test_no_string_gets_out_of_its_place(sample_runs, tmp_path):
    plain = page_of(hostile_run(sample_runs, tmp_path / "plain", "plain"))
    expected = sorted(tag for tag, _ in plain.elements)
    names = {name for _, attrs in plain.elements for name in attrs}
    for number_, text in enumerate(hostile_strings()):
        page = page_of(hostile_run(sample_runs, tmp_path / str(number_), text))
        assert page.troubles == [], repr(text)
        tags = sorted(tag for tag, _ in page.elements)
        # A colon makes a headed warning of a plain one; the number of elements is the same either way.
        assert tags == expected, repr(text)
        assert {name for _, attrs in page.elements for name in attrs} <= names | {"lang"}, repr(text)
        raw = (tmp_path / str(number_) / "report.html").read_text(encoding="utf-8")
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", raw), repr(text)
        shown = re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", "\ufffd", text.encode("utf-8", "replace").decode())
        assert " ".join(f"{shown} on {shown}".split()) in page.text, "the text is there as it was, not computed or cut"


def test_chinese_prompts_carry_their_language(sample_runs, tmp_path):
    folder = sample_runs.write_run(
        tmp_path / "a", sample_runs.result(), prompts=["水中的狮子", "a lion", "العربية", "two"]
    )
    text = write_report(folder).read_text(encoding="utf-8")
    assert '<p dir="auto" lang="zh">水中的狮子</p>' in text
    assert '<p dir="auto">a lion</p>' in text
    assert '<p dir="auto" lang="ar">العربية</p>' in text
