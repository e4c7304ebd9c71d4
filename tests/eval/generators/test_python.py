"""`python:...`: what a function is handed, what of its answers counts, and what is said when it fails."""

import json
from dataclasses import replace

import numpy as np
import pytest

from cogvideo.errors import UserError
from eval.generators.contract import GeneratorContext, Rejection, Request
from eval.generators.spec import make_generator
from eval.protocol import ClipRule, Protocol

NOISE = """
import numpy as np
def make(prompts, seeds, *, frames, height, width):
    return [np.random.default_rng(s).integers(0, 256, (frames, height, width, 3), np.uint8) for s in seeds]
"""


def protocol(**rule):
    return Protocol("p", "ucf101", "t", ClipRule(**{"size": (8, 8), **rule}), (), n_fake=4, n_real=None, split="train")


def requests(n=3, **values):
    made = [Request(f"{k:05d}", k, f"prompt {k}", "YoYo", 10**18 + k, 16, 8, 8, 8.0) for k in range(n)]
    return [replace(request, **values) for request in made]


@pytest.fixture
def clips(tmp_path):
    def made(source, options="", asked=None, name="make", **rule):
        (tmp_path / "mine.py").write_text(source)
        generator = make_generator(f"python:{tmp_path / 'mine.py'}:{name}{options}", GeneratorContext())
        asked = requests() if asked is None else asked
        generator.preflight(asked, protocol(**rule))
        return generator.generate(asked)

    return made


def test_a_function_in_a_file_makes_the_clips_of_its_seeds(clips):
    made = clips(NOISE)
    for clip, request in zip(made, requests(), strict=True):
        wanted = np.random.default_rng(request.seed).integers(0, 256, (16, 8, 8, 3), np.uint8)
        np.testing.assert_array_equal(clip, wanted)
    for one, two in zip(made, clips(NOISE, "?batch=1"), strict=True):
        np.testing.assert_array_equal(one, two)


def test_a_function_of_a_module(tmp_path, monkeypatch):
    (tmp_path / "their_models.py").write_text(NOISE)
    monkeypatch.syspath_prepend(tmp_path)
    generator = make_generator("python:their_models.make", GeneratorContext())
    generator.preflight(requests(), protocol())
    assert [clip.shape for clip in generator.generate(requests())] == [(16, 8, 8, 3)] * 3
    described = generator.describe()
    assert described["argument"] == "their_models.make"
    assert json.loads(json.dumps(described)) == described


def test_it_is_handed_what_it_has_a_parameter_for(clips):
    source = """
import numpy as np
def make(prompts, seeds, fps, ids, labels, *, frames, scale=1, name="x", device):
    assert (prompts, seeds) == (["prompt 0"], [10**18]), (prompts, seeds)
    assert (fps, ids, labels, frames, scale, name, device) == (8.0, ["00000"], ["YoYo"], 31, 2.5, "a b", "cpu")
    return np.arange(31 * 8 * 8 * 3, dtype=np.uint64).reshape(1, 31, 8, 8, 3).astype(np.uint8)
"""
    (clip,) = clips(source, "?scale=2.5&name=a%20b", requests(1), stride=2)
    whole = np.arange(31 * 8 * 8 * 3, dtype=np.uint64).reshape(31, 8, 8, 3).astype(np.uint8)
    np.testing.assert_array_equal(clip, whole[::2])


def test_given_frames_are_handed_over_and_stand_in_front(clips):
    source = """
import numpy as np
def make(prompts, seeds, *, frames, priming):
    assert [p.shape for p in priming] == [(5, 8, 8, 3)] * 2
    return [np.concatenate([p, np.repeat(p[-1:], frames - 5, axis=0)]) for p in priming]
"""
    given = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3), np.uint8)
    made = clips(source, asked=requests(2, priming=given), given=5)
    for clip in made:
        np.testing.assert_array_equal(clip, np.concatenate([given, given[-1:].repeat(11, axis=0)]))
    with pytest.raises(UserError, match="no parameter 'priming'"):
        clips(NOISE, asked=requests(2, priming=given), given=5)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("np.zeros((9, 8, 8, 3), np.uint8)", "makes 9 frames of 8x8 pixels at 8 frames/s, p takes 16 frames"),
        ("np.zeros((16, 4, 8, 3), np.uint8)", "16 frames of 8x4 pixels at 8 frames/s, p scores 8x8"),
        ("np.zeros((16, 8, 8, 3), np.float32)", "got float32 (16, 8, 8, 3)"),
        ("np.zeros((16, 3, 8, 8), np.uint8)", "got uint8 (16, 3, 8, 8)"),
        ("None", "gave None"),
        ("[np.zeros((8, 8, 3), np.uint8), np.zeros((9, 8, 3), np.uint8)]", "frames of several sizes"),
    ],
)
def test_what_is_no_clip_is_rejected_with_its_reason(clips, answer, reason):
    source = f"import numpy as np\ndef make(prompts, seeds):\n    return [{answer}] * len(seeds)\n"
    for rejection in clips(source):
        assert isinstance(rejection, Rejection)
        assert reason in rejection.reason


def test_tensors_and_lists_of_frames_are_clips_too(clips):
    source = (
        "import torch\ndef make(p, s, frames):\n    return torch.full((len(s), frames, 8, 8, 3), 9, dtype=torch.uint8)"
    )
    assert all((clip == 9).all() for clip in clips(source))
    source = (
        "import numpy as np\ndef make(p, s, frames):\n    return [[np.full((8, 8, 3), 7, np.uint8)] * frames] * len(s)"
    )
    assert all(clip.shape == (16, 8, 8, 3) for clip in clips(source))


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        (
            "def make(p, s):\n    raise ValueError('no\\nmemory')",
            "",
            "raised ValueError: no memory, at sample 00000, in mine.py line 2",
        ),
        ("def make(p, s):\n    return [1]", "", "gave 1 clips for 3 prompts"),
        ("def make(p, s):\n    return 5", "", "expected a list of clips from mine.py:make, got int"),
        ("def make(p, s):\n    while True: pass", "?timeout=0.1", "took longer than 0.3 s for 3 samples"),
        ("def make(p):\n    return []", "", "expected mine.py:make(prompts, seeds, ...), it takes 1 by place"),
        ("def make(p, s, *, model):\n    return []", "", "needs model; say it as '?model=...'"),
        ("def make(p, s, *, model='a'):\n    return []", "?modell=b", "no option 'modell'; did you mean model?"),
        ("def make(p, s, *, frames):\n    return []", "?frames=5", "no option 'frames'"),
        ("def made(p, s):\n    return []", "", "there is no function 'make'; did you mean made?"),
        ("import nothing_of_the_kind", "", "cannot be imported: ModuleNotFoundError"),
        ("def make(p, s):\n    return []", "?batch=0", "at least 1 for 'batch'"),
    ],
)
def test_what_fails_is_told_in_one_line(clips, source, options, message):
    with pytest.raises(UserError) as caught:
        clips(source, options)
    assert message in str(caught.value)


def test_what_cannot_be_found_is_told(tmp_path):
    for argument, message in {
        "": "needs a function",
        "make": "expected package.module.function",
        "no_such_module_here.make": "cannot be imported: ModuleNotFoundError",
        f"{tmp_path}/absent.py:make": "no such file",
    }.items():
        with pytest.raises(UserError, match=message):
            make_generator(f"python:{argument}", GeneratorContext())


def test_what_it_prints_does_not_reach_the_answer(clips, capsys):
    clips("print('loading')\n" + NOISE.replace("    return", "    print('making')\n    return"))
    said = capsys.readouterr()
    assert said.out == ""
    assert "loading" in said.err
    assert "making" in said.err


def test_another_source_is_another_identity(clips, tmp_path):
    described = []
    for source in (NOISE, NOISE + "\n", NOISE):
        (tmp_path / "mine.py").write_text(source)
        described.append(make_generator(f"python:{tmp_path / 'mine.py'}:make", GeneratorContext()).describe())
    assert described[0] == described[2] != described[1]
    assert str(tmp_path) not in json.dumps(described)
