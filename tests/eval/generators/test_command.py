"""`command:...`: what a program is handed, what of its videos counts, and that nothing of it is left running."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cogvideo.errors import MissingPrerequisite, UserError
from cogvideo.video import read_clip, write_video
from eval.generators.contract import GeneratorContext, Rejection, Request
from eval.generators.spec import make_generator
from eval.protocol import ClipRule, Protocol

# Writes soft noise of each seed as lossless arrays, and notes which ids it was asked for.
PROGRAM = """
import json, os, sys
import numpy as np
asked = [json.loads(line) for line in open(sys.argv[1], encoding="utf-8")]
with open(os.path.join(os.path.dirname(__file__), "asked.txt"), "a") as notes:
    notes.write(" ".join(one["id"] for one in asked) + "\\n")
for one in asked:
    shape = (one["frames"], one["height"] or 8, one["width"] or 8, 3)
    np.save(one["output"], np.random.default_rng(one["seed"]).integers(0, 256, shape, np.uint8))
"""


def protocol(**rule):
    return Protocol("p", "ucf101", "t", ClipRule(**{"size": (8, 8), **rule}), (), n_fake=4, n_real=None, split="train")


def requests(n=3, **values):
    made = [Request(f"{k:05d}", k, f"prompt {k}", "YoYo", 10**18 + k, 16, 8, 8, 8.0) for k in range(n)]
    return [replace(request, **values) for request in made]


def noise(request, frames=16):
    return np.random.default_rng(request.seed).integers(0, 256, (frames, 8, 8, 3), np.uint8)


@pytest.fixture
def program(tmp_path):
    """The generator of a program with this source, whose place in the run is `tmp_path / run`."""

    def made(source=PROGRAM, options="?format=npy", asked=None, words="{requests}", **rule):
        path = tmp_path / "my model.py"
        path.write_text(source)
        command = f"{shlex.quote(sys.executable)} {shlex.quote(str(path))} {words}"
        generator = make_generator(f"command:{command}{options}", GeneratorContext())
        asked = requests() if asked is None else asked
        generator.preflight(asked, protocol(**rule))
        generator.begin(tmp_path / "run", asked, lambda request: request)
        return generator

    return made


def asked_for(tmp_path):
    return (tmp_path / "asked.txt").read_text().splitlines()


def test_a_program_makes_all_samples_in_one_go(program, tmp_path):
    generator = program()
    for request in requests():
        (clip,) = generator.generate([request])
        np.testing.assert_array_equal(clip, noise(request))
    assert asked_for(tmp_path) == ["00000 00001 00002"]
    assert generator.peak_bytes > 1 << 20


def test_while_it_runs_the_videos_that_are_there_are_counted(program, monkeypatch):
    monkeypatch.setattr("eval.generators.command.process.WATCH_S", 0.0)
    generator, said = program(), []
    generator.tell = said.append
    generator.generate(requests())
    assert said
    assert set(said) <= {f"{n} of 3 videos written" for n in range(4)}


def test_several_processes_share_the_videos_and_not_the_logs(tmp_path, monkeypatch):
    """Each runs the program for its own samples, which does not take itself for one of them."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("MASTER_PORT", "1")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6")
    path = tmp_path / "program.py"
    path.write_text(PROGRAM + "\nprint([os.environ.get(n) for n in ('WORLD_SIZE', 'RANK', 'CUDA_VISIBLE_DEVICES')])\n")
    for number in range(2):
        context = GeneratorContext(device=f"cuda:{number}", process=number)
        spec = f"command:{shlex.quote(sys.executable)} {shlex.quote(str(path))} {{requests}}?format=npy"
        generator = make_generator(spec, context)
        mine = requests()[number::2]
        generator.preflight(requests(), protocol())
        generator.begin(tmp_path / "run", mine, lambda request: request)
        for request in mine:
            np.testing.assert_array_equal(generator.generate([request])[0], noise(request))
    logs = [(tmp_path / "run" / name).read_text().strip() for name in ("stdout.log", "stdout-1.log")]
    assert logs == ["[None, None, '4']", "[None, None, '6']"]
    assert len(list((tmp_path / "run" / "videos").iterdir())) == 3


def test_batches_are_as_large_as_they_are_asked_for(program, tmp_path):
    made = program(options="?format=npy&batch=2").generate(requests(3))
    np.testing.assert_array_equal(made[2], noise(requests(3)[2]))
    assert asked_for(tmp_path) == ["00000 00001", "00002"]


def test_the_request_says_everything(program, tmp_path):
    given = noise(requests(1)[0], 5)
    asked = requests(1, prompt="eine Katze; $(touch hurt) 'x'", priming=given)
    source = """
import json, os, sys
(line,) = [json.loads(line) for line in open(os.environ["COGEVAL_REQUESTS_FILE"], encoding="utf-8")]
assert sys.argv[1:] == ["--into", os.environ["COGEVAL_VIDEOS_DIR"], "a;b", "$(touch hurt)"], sys.argv
json.dump(line, open(os.path.join(os.path.dirname(__file__), "line.json"), "w"))
"""
    generator = program(source, "", asked, words="--into {videos} 'a;b' '$(touch hurt)'", given=5)
    (rejection,) = generator.generate(asked)
    assert "wrote no video 00000.mp4" in rejection.reason
    line = json.loads((tmp_path / "line.json").read_text())
    priming = line.pop("priming")
    assert line == {
        "id": "00000",
        "prompt": asked[0].prompt,
        "label": "YoYo",
        "seed": 10**18,
        "frames": 16,
        "fps": 8.0,
        "width": 8,
        "height": 8,
        "output": str(tmp_path / "run" / "videos" / "00000.mp4"),
        "priming_frames": 5,
    }
    np.testing.assert_array_equal(read_clip(priming), given)
    assert not list(tmp_path.rglob("hurt"))
    assert not Path("hurt").exists()


def test_a_video_of_any_suffix_counts(program, tmp_path):
    clip = np.random.default_rng(0).integers(0, 256, (20, 8, 8, 3), np.uint8)
    write_video(tmp_path / "ready.mkv", clip, fps=8, codec="ffv1")
    source = """
import json, os, shutil, sys
for line in open(sys.argv[1]):
    target = json.loads(line)["output"]
    shutil.copy(os.path.join(os.path.dirname(__file__), "ready.mkv"), target[:-4] + ".mkv")
"""
    (made,) = program(source, "", requests(1)).generate(requests(1))
    np.testing.assert_array_equal(made, clip[:16])


@pytest.mark.parametrize(
    ("write", "reason"),
    [
        ("pass", "the program wrote no video 00000.mp4"),
        ("open(o, 'w')", "00000.mp4"),
        ("open(o, 'w').write('x' * 999)", "00000.mp4"),
        ("np.save(o[:-4], np.zeros((9, 8, 8, 3), np.uint8))", "makes 9 frames of 8x8 pixels"),
        ("np.save(o[:-4], np.zeros((16, 4, 4, 3), np.uint8))", "4x4 pixels at 8 frames/s, p scores 8x8"),
        ("np.save(o[:-4], np.zeros((16, 8, 8, 3)))", "got float64 (16, 8, 8, 3)"),
        ("open(o[:-4] + '.npy', 'w').write('x')", "00000.npy is no array"),
        ("open(o, 'w'), open(o[:-4] + '.gif', 'w')", "several videos of one sample: 00000.gif, 00000.mp4"),
    ],
)
def test_what_is_no_video_is_rejected_with_its_reason(program, write, reason):
    head = "import json, sys\nimport numpy as np\nfor line in open(sys.argv[1]):\n"
    source = f"{head}    o = json.loads(line)['output']\n    {write}\n"
    (rejection,) = program(source, "", requests(1)).generate(requests(1))
    assert isinstance(rejection, Rejection)
    assert reason in rejection.reason
    assert "\n" not in rejection.reason


def test_what_is_whole_is_not_made_again(program, tmp_path):
    program().generate(requests())
    videos = tmp_path / "run" / "videos"
    (videos / "00001.npy").write_bytes((videos / "00001.npy").read_bytes()[:-100])
    made = program().generate(requests())
    for clip, request in zip(made, requests(), strict=True):
        np.testing.assert_array_equal(clip, noise(request))
    assert asked_for(tmp_path) == ["00000 00001 00002", "00001"]
    (videos / "00002.npy").unlink()
    later = program(asked=[])
    np.testing.assert_array_equal(later.generate(requests()[2:])[0], noise(requests()[2]))
    assert asked_for(tmp_path)[2:] == ["00002"]


def test_a_failing_program_is_told_with_its_last_words_and_keeps_what_it_made(program, tmp_path):
    failing = PROGRAM.replace("for one in asked:", "for one in asked[:2]:") + "sys.exit('out of\\n memory')\n"
    with pytest.raises(UserError) as caught:
        program(failing).generate(requests())
    assert "ended with exit code 1; it said: out of memory" in str(caught.value)
    program().generate(requests())
    assert asked_for(tmp_path) == ["00000 00001 00002", "00002"]


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()


def wait_for(condition, seconds=20.0):
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    return condition()


# A program with a child of its own; both ignore the polite signal.
STUBBORN = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
stay = "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(600)"
child = subprocess.Popen([sys.executable, "-c", stay])
here = os.path.dirname(__file__)
open(os.path.join(here, "pids.tmp"), "w").write(f"{os.getpid()} {child.pid}")
os.rename(os.path.join(here, "pids.tmp"), os.path.join(here, "pids"))
time.sleep(600)
"""


def test_a_program_that_takes_too_long_is_stopped_with_all_that_it_started(program, tmp_path, monkeypatch):
    from eval.generators.command import process

    monkeypatch.setattr(process, "GRACE_S", 0.2)
    with pytest.raises(UserError, match=r"took longer than 3 s for 3 samples and was stopped"):
        program(STUBBORN, "?timeout=1").generate(requests())
    for pid in map(int, (tmp_path / "pids").read_text().split()):
        assert wait_for(lambda pid=pid: not alive(pid))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_run_stops_its_program(tmp_path, number):
    (tmp_path / "stubborn.py").write_text(STUBBORN)
    (tmp_path / "driver.py").write_text(
        "import signal, sys\n"
        "from pathlib import Path\n"
        "from eval.generators.command import process\n"
        # Where the tests run in the background, what they start ignores Ctrl-C.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "process.GRACE_S = 0.2\n"
        "here = Path(__file__).parent\n"
        "program = [sys.executable, str(here / 'stubborn.py')]\n"
        "process.run(program, environment={}, stdout=here / 'o', stderr=here / 'e')\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    driver = subprocess.Popen([sys.executable, str(tmp_path / "driver.py")], env=environment, stderr=subprocess.DEVNULL)
    try:
        assert wait_for((tmp_path / "pids").exists, 60)
        driver.send_signal(number)
        driver.wait(20)
    finally:
        driver.kill()
    for pid in map(int, (tmp_path / "pids").read_text().split()):
        assert wait_for(lambda pid=pid: not alive(pid))


def test_what_cannot_be_run_is_told(program):
    for argument, message in {
        "": "needs a program",
        "a 'b": "cannot split",
        "x?fromat=mp4": "no option 'fromat'; did you mean format?",
        "x?format=mp5": "for 'format', got 'mp5'",
        "x?timeout=-1": "a number above 0 for 'timeout'",
    }.items():
        with pytest.raises(UserError, match=message.replace("?", r"\?")):
            make_generator(f"command:{argument}", GeneratorContext())
    absent = make_generator("command:no-such-program-here {requests}", GeneratorContext())
    with pytest.raises(MissingPrerequisite, match="no program 'no-such-program-here' is found"):
        absent.preflight(requests(), protocol())


def test_another_program_is_another_identity_and_a_place_is_not(program, tmp_path):
    first, second = program().describe(), program(PROGRAM + "\n").describe()
    assert first != second
    assert str(tmp_path) not in json.dumps(first)
    assert program(options="?format=npy&timeout=9&batch=2").describe() == first
