"""`cogeval compare` through the door: text, exit codes, and one JSON object."""

from __future__ import annotations

import json

import pytest

import cogeval


@pytest.fixture
def runs(sample_runs, tmp_path):
    models = {"base": ("Base", 400.0), "worse": ("Worse", 500.0), "near": ("Near", 401.0)}
    return {
        key: str(sample_runs.write_run(tmp_path / key, sample_runs.model(title, value, 4.0)))
        for key, (title, value) in models.items()
    }


@pytest.fixture
def odd(sample_runs, tmp_path):
    found = sample_runs.model("Odd", 300.0, 4.0, fingerprint="aaaa0000")
    return str(sample_runs.write_run(tmp_path / "odd", found, protocol=sample_runs.other_frames(8)))


def run(capsys, *arguments: str) -> tuple[int, str, str]:
    code = cogeval.main(["compare", *arguments])
    out, err = capsys.readouterr()
    return code, out, err


def test_the_table_and_the_readings(capsys, runs):
    code, out, err = run(capsys, *runs.values())
    assert code == 0
    assert err == ""
    assert "UCF-101  3 runs" in out
    assert "Near − Worse" not in out or "Worse − Near" not in out
    assert "No difference found" in out
    assert "Base is lower than Worse (better)" in out
    assert "FVD from papers" in out


@pytest.mark.parametrize(("run_name", "expected"), [("worse", 5), ("near", 0)])
def test_a_regression_is_exit_5_only_when_asked(capsys, runs, run_name, expected):
    arguments = (runs[run_name], "--baseline", runs["base"])
    assert run(capsys, *arguments)[0] == 0
    code, out, _ = run(capsys, *arguments, "--fail-on-regression")
    assert code == expected
    assert ("is worse than the baseline in fvd/tats-16f-2048" in out) == (expected == 5)


def test_json_is_one_object_with_full_numbers(capsys, runs):
    code, out, _ = run(capsys, *runs.values(), "--json", "--baseline", runs["base"], "--fail-on-regression")
    assert code == 5
    found = json.loads(out)
    assert [entry["name"] for entry in found["runs"]] == ["Base", "Worse", "Near"]
    (group,) = found["groups"]
    assert [(entry["run"], entry["rank"]) for entry in group["order"]] == [
        ("Base", [1, 2]),
        ("Near", [1, 2]),
        ("Worse", [3, 3]),
    ]
    assert group["order"][0]["interval"] == {"low": 396.0, "high": 404.0, "level": 0.95, "method": "invented"}
    assert [d["reading"] for d in group["differences"]] == ["higher", "none"]
    assert found["regressions"] == [{"run": "Worse", "metric": "fvd/tats-16f-2048"}]


def test_two_fingerprints_are_shown_apart(capsys, runs, odd):
    code, out, _ = run(capsys, runs["base"], odd, "--published", "none")
    assert code == 0
    assert "are not ranked together: they differ in clip.frames (16 | 8)" in " ".join(out.split())
    assert "Difference" not in out


@pytest.mark.parametrize("asked", [["--strict"], ["--metric", "fvd"]])
def test_one_ranking_of_two_fingerprints_is_one_line_and_exit_2(capsys, runs, odd, asked):
    code, out, err = run(capsys, runs["base"], odd, *asked)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert "clip.frames (16 | 8)" in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["{base}"], "at least two different runs, got 1"),
        (["{base}", "{base}"], "at least two different runs, got 1"),
        (["{base}", "nowhere"], "no run folder nowhere"),
        (["{base}", "{worse}", "--fail-on-regression"], "needs --baseline"),
        (["{base}", "{worse}", "--metric", "fvdd"], "did you mean"),
        (["{odd}", "{worse}", "--baseline", "{base}", "--fail-on-regression"], "shares no metric"),
        ([], "RUN"),
    ],
)
def test_bad_usage_is_one_line_and_exit_2(capsys, runs, odd, arguments, words):
    code, out, err = run(capsys, *(text.format(**runs, odd=odd) for text in arguments))
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert words in err


def test_a_question_without_an_answer_does_not_pass(capsys, sample_runs, tmp_path):
    """No interval, so nothing can be called: a check that finds nothing must not look like a check that passed."""
    folders = []
    for name in ("base", "new"):
        found = sample_runs.result([sample_runs.metric("FVD", 400.0)], generator={"spec": name, "title": name})
        folders.append(str(sample_runs.write_run(tmp_path / name, found)))
    code, _, err = run(capsys, folders[1], "--baseline", folders[0], "--fail-on-regression")
    assert code == 2
    assert "cannot be compared with the baseline in any metric: n too small for an interval" in err


def test_damaged_and_newer_results_are_one_line(capsys, sample_runs, tmp_path, runs):
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "result.json").write_text('{"schema_version": 99}')
    code, _, err = run(capsys, runs["base"], str(broken))
    assert code == 2
    assert "schema 99" in err
    (broken / "result.json").write_text('{"status": ')
    code, _, err = run(capsys, runs["base"], str(broken))
    assert code == 2
    assert "damaged" in err
