"""Other people's models through the door: pipelines, a function and a program in one table beside CogVideo."""

import json
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest

import cogeval
from eval.audit import pixels_sha256
from eval.records import read_manifest, read_result, read_samples

FUNCTION = """
import numpy as np
def soft_noise(prompts, seeds, *, frames, height, width):
    coarse = [np.random.default_rng(s).integers(0, 256, (frames, height // 8, width // 8, 3), np.uint8) for s in seeds]
    return [clip.repeat(8, axis=1).repeat(8, axis=2) for clip in coarse]
"""
PROGRAM = """
import json, os, sys
import numpy as np
sys.path.insert(0, os.path.dirname(__file__))
from mine import soft_noise
for line in open(sys.argv[1], encoding="utf-8"):
    one = json.loads(line)
    (clip,) = soft_noise([one["prompt"]], [one["seed"]], frames=one["frames"], height=one["height"], width=one["width"])
    np.save(one["output"], clip)
"""
PIPELINES = {
    "cogvideox": "steps=1",
    "modelscope": "steps=1",
    "animatediff": "steps=1",
    "wan": "steps=1&frames=17&size=64x64",
}
SMALL = ("--samples", "4", "--metric", "fvd", "--workers", "0", "--no-floor", "--replicates", "20", "--quiet")


@pytest.fixture
def door(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(FUNCTION)
    (tmp_path / "program.py").write_text(PROGRAM)

    def run(*arguments):
        code = cogeval.main([str(argument) for argument in arguments])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def program(options="?format=npy"):
    return f"command:{shlex.quote(sys.executable)} program.py {{requests}}{options}"


def generators(*specs):
    return [word for spec in specs for word in ("--generator", spec)]


@pytest.mark.slow
def test_everything_stands_in_one_table_beside_cogvideo(door, tiny_pipeline):
    pipelines = [f"diffusers:{tiny_pipeline(name)}?{options}" for name, options in PIPELINES.items()]
    everything = [*pipelines, "python:mine.py:soft_noise", program(), "cogvideo"]
    code, out, err = door("ucf101", *SMALL, *generators(*everything), "--json")
    assert code == 0, err
    runs = [run["result"] for run in json.loads(out)["runs"]]
    assert len(runs) == 7
    assert len({run["metrics"][0]["fingerprint"] for run in runs}) == 1
    assert len({run["metrics"][0]["value"] for run in runs}) == 6
    function, command = runs[4:6]
    assert function["metrics"][0]["value"] == command["metrics"][0]["value"]
    for run in runs:
        assert run["counts"]["ok"] == 4
        assert run["generator"]["description"]["kind"] in ("diffusers", "python", "command", "cogvideo")
    code, out, err = door("ucf101", *SMALL, *generators(*everything))
    assert code == 0, err
    for name in (*PIPELINES, "mine.py:soft_noise", "program.py", "cogvideo-tiny"):
        assert name in out.replace("\n", "")


def test_a_departure_makes_a_run_of_its_own_fingerprint(door, tiny_pipeline):
    plain, made_to_fit = (
        f"diffusers:{tiny_pipeline('animatediff')}?steps=1{more}" for more in ("", "&frames=8&fit=repeat-frames")
    )
    code, out, err = door("ucf101", *SMALL, *generators(plain, made_to_fit), "--json")
    assert code == 0, err
    runs = [Path(run["run"]) for run in json.loads(out)["runs"]]
    one, other = map(read_result, runs)
    assert one.metrics[0].fingerprint != other.metrics[0].fingerprint
    assert one.fingerprint != other.fingerprint
    assert any("repeat-frames: 16 frames are 8" in reason for reason in other.not_comparable_because)
    assert read_manifest(runs[1]).protocol["fitted"][0].startswith("repeat-frames")
    code, out, err = door("compare", *runs)
    assert code == 0, err
    assert "not ranked together" in " ".join(out.split())


def test_a_run_of_a_program_is_resumed_where_it_stopped(door, tmp_path):
    whole = door("ucf101", *SMALL, *generators(program()), "--json", "--out", "whole")
    assert whole[0] == 0, whole[2]
    source = (tmp_path / "program.py").read_text()
    # Fails after three videos; its text is the same, so that the run is the same one.
    (tmp_path / "fail").touch()
    source += "    if one['id'] == '00002' and __import__('os').path.exists('fail'): sys.exit('no more memory')\n"
    (tmp_path / "program.py").write_text(source)
    code, out, err = door("ucf101", *SMALL, *generators(program()), "--json")
    assert (code, out) == (2, "")
    assert "it said: no more memory" in err
    (tmp_path / "fail").unlink()
    code, out, err = door("ucf101", *SMALL, *generators(program()), "--json")
    assert code == 0, err
    (run,) = (Path(one["run"]) for one in json.loads(out)["runs"])
    asked = (run / "generator" / "requests-00003.jsonl").read_text().splitlines()
    assert [json.loads(line)["id"] for line in asked] == ["00003"]
    first = Path(json.loads(whole[1])["runs"][0]["run"])
    assert read_result(run).metrics[0].value == read_result(first).metrics[0].value
    frames = [[line.frames_sha256 for line in read_samples(folder).values()] for folder in (run, first)]
    assert frames[0] == frames[1]


def test_a_sample_that_could_not_be_had_is_asked_for_again(door, tmp_path):
    (tmp_path / "mine.py").write_text(
        FUNCTION + "def sometimes(p, s, *, frames, height, width, ids):\n"
        "    made = soft_noise(p, s, frames=frames, height=height, width=width)\n"
        "    from pathlib import Path\n"
        "    return [None if i == '00001' and Path('bad').exists() else c for i, c in zip(ids, made)]\n"
    )
    (tmp_path / "bad").touch()
    code, _, err = door("ucf101", *SMALL, *generators("python:mine.py:sometimes"))
    assert code == 2
    assert "1 of 4 samples were rejected, first 00001: the function gave None" in err
    (tmp_path / "bad").unlink()
    code, out, err = door("ucf101", *SMALL, *generators("python:mine.py:sometimes"), "--json")
    assert code == 0, err
    (run,) = (Path(one["run"]) for one in json.loads(out)["runs"])
    clip = np.random.default_rng(read_samples(run)["00001"].seed).integers(0, 256, (16, 8, 8, 3), np.uint8)
    clip = clip.repeat(8, axis=1).repeat(8, axis=2)
    assert read_samples(run)["00001"].frames_sha256 == pixels_sha256(clip)


def test_a_hubs_name_offline_is_one_line_and_exit_3(door, tmp_path, monkeypatch):
    monkeypatch.delenv("COGEVAL_OFFLINE", raising=False)
    code, out, err = door("ucf101", *SMALL, "--generator", "diffusers:somebody/some-video-model", "--offline")
    monkeypatch.delenv("COGEVAL_OFFLINE", raising=False)
    assert (code, out) == (3, "")
    (line,) = [line for line in err.splitlines() if line.startswith("error: ")]
    assert "somebody/some-video-model is not in the hub's cache" in line
    assert not (tmp_path / "runs").exists()
