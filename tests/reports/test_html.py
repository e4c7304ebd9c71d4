"""The report as the HTML standard reads it: no parse error, no repeated id, no dead link; small; whatever is in it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cogvideo.video import write_video
from reports.page import json_island, language_of, script, showable, stylesheet
from reports.run_page import write_report


def test_a_full_page_has_no_error_of_html(full_run, problems_of_html):
    assert problems_of_html(write_report(full_run).read_text(encoding="utf-8")) == []


def test_a_bare_page_has_no_error_of_html(sample_runs, tmp_path, problems_of_html):
    run = sample_runs.write_run(tmp_path / "a", sample_runs.result([]), protocol=None)
    text = write_report(run).read_text(encoding="utf-8")
    assert problems_of_html(text) == []
    assert "manifest.json is not in the folder" in text
    assert "samples.jsonl is not in the folder" in text


def test_the_tester_sees_what_is_wrong(problems_of_html):
    bad = '<!doctype html><title>x</title><p id="a"><p id="a"><a href="#b">x</a><table><div></table></b>'
    found = " ".join(problems_of_html(bad))
    for words in ("repeated id a", "dead link #b", "unexpected-"):
        assert words in found


def test_other_settings_of_the_machine_give_the_same_bytes(full_run):
    """With pictures and clips: another hash seed, locale, time zone and working folder, and nothing in the cache."""
    first = write_report(full_run).read_bytes()
    code = "import sys, pathlib; from reports.run_page import write_report; write_report(pathlib.Path(sys.argv[1]))"
    environ = os.environ | {
        "PYTHONHASHSEED": "99",
        "TZ": "Asia/Tokyo",
        "LC_ALL": "C",
        "COGEVAL_HOME": str(full_run.parent / "h"),
    }
    environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parents[2]), environ.get("PYTHONPATH", "")])
    if "COGEVAL_TEST_INSTALLED" in os.environ:
        environ["PYTHONPATH"] = os.environ.get("PYTHONPATH", "")
    subprocess.run([sys.executable, "-c", code, str(full_run)], check=True, env=environ, cwd=full_run.parent)
    assert (full_run / "report.html").read_bytes() == first


def test_style_and_script_keep_to_25_kibibytes():
    assert len(stylesheet().encode()) + len(script().encode()) <= 25 * 1024
    assert not re.search(r"https?:|@import|url\(|\bfetch\(|\bimport\b|\beval\(", stylesheet() + script())


def test_a_report_of_clips_that_do_not_compress_stays_under_one_and_a_half_megabytes(sample_runs, tmp_path):
    rng = np.random.default_rng(0)
    scores = {"clipsim/tats-16f-2048": [0.2 + i / 100 for i in range(9)]}
    run = sample_runs.write_run(tmp_path / "a", sample_runs.result(), scores=scores)
    (run / "samples").mkdir()
    for i in range(9):
        clip = rng.integers(0, 256, (16, 128, 128, 3), dtype=np.uint8)
        write_video(run / "samples" / f"{i:05d}.mp4", clip, fps=8)
    text = write_report(run).read_text(encoding="utf-8")
    assert len(text.encode()) <= 1_500_000
    assert text.count("<video") == text.count("poster=") == 8
    shown = re.findall(r'<video[^>]* src="([^"]{0,30})', text)
    assert all(address.startswith(("data:video/mp4", "samples/")) for address in shown)


def test_numbers_that_are_not_finite_are_said_to_be_undefined(full_run, sample_runs, tmp_path, problems_of_html):
    run = sample_runs.write_run(tmp_path / "a", sample_runs.result())
    values = json.loads((run / "result.json").read_text())
    values["metrics"][0]["value"] = float("nan")
    values["metrics"][1]["interval"]["high"] = float("inf")
    values["metrics"][1]["floor"] = float("-inf")
    (run / "result.json").write_text(json.dumps(values))
    text = write_report(run).read_text(encoding="utf-8")
    assert problems_of_html(text) == []
    assert "undefined: the record holds nan" in text
    assert "no interval: the record holds an end that is not finite" in text
    assert not re.search(r'[">]-?(nan|inf)\b', text)


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("水中的狮子", "zh"),
        ("العربية", "ar"),
        ("ねこ", "ja"),
        ("고양이", "ko"),
        ("אריה", "he"),
        ("a lion", ""),
        ("", ""),
    ],
)
def test_scripts_name_their_language(text, language):
    assert language_of(text) == language


def test_json_in_a_page_cannot_leave_its_element():
    text = json_island({"a": "</script><!--\u2028&", "b": [1, 2.5, None]})
    assert not re.search("[<>&\u2028]", text)
    assert json.loads(text) == {"a": "</script><!--\u2028&", "b": [1, 2.5, None]}
    with pytest.raises(ValueError, match="JSON"):
        json_island(float("nan"))


def test_what_no_page_may_hold_is_replaced():
    assert showable("a\x00b\x1bc\x85d\ufdd0e\U0001ffff") == "a\ufffdb\ufffdc\ufffdd\ufffde\ufffd"
    assert showable("tab\tline\n猫 e\u0301 \U0001f431") == "tab\tline\n猫 e\u0301 \U0001f431"
    assert showable("half \ud800") == "half ?"


def test_scripts_hold_no_backquotes_inside_backquotes() -> None:
    """`shipped` takes blanks out of scripts, not out of their texts, and it cannot see a text inside a text."""
    from reports.page import STATIC, shipped

    for path in STATIC.glob("*.js"):
        for text in re.findall(r"`(?:[^`\\]|\\.)*`", path.read_text(encoding="utf-8"), re.DOTALL):
            assert text.count("${") <= text.count("}"), (path.name, text)
            assert text in shipped(path) or "\n" in text, (path.name, text)
