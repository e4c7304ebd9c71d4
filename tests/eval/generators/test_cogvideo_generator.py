"""CogVideo as a generator: what decides a clip, what is checked before the first one, and whole runs with it.

The size `dot` is that of conftest.py, at which a clip takes a fraction of a second.
"""

import json
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.models._meta import _KINETICS400_CATEGORIES

import cogeval
from cogvideo.checkpoint.loading import save_network
from cogvideo.errors import MissingPrerequisite, UserError
from cogvideo.pipeline import CogVideo
from cogvideo.prompting import ENGLISH, Prompts
from cogvideo.settings import GenerationSettings
from cogvideo.video import read_clip
from eval.datasets.class_phrases import chinese_phrase, is_chinese, kinetics_phrases
from eval.datasets.ucf101 import class_table
from eval.generators.cogvideo import CogVideoGenerator
from eval.generators.contract import GeneratorContext, Request
from eval.generators.spec import make_generator
from eval.protocol import ClipRule, Protocol
from eval.records import read_manifest, read_result, read_samples, stable_view

pytestmark = pytest.mark.usefixtures("dot")
PROMPTS = ("a red circle moving left", "a blue square growing", "a white cross moving up")


@pytest.fixture
def never_loaded(monkeypatch):
    """Loading networks is an error: what is checked beforehand has to do without."""

    def refuse(*_, **__):
        raise AssertionError("the networks were loaded")

    monkeypatch.setattr(CogVideo, "random", refuse)
    monkeypatch.setattr(CogVideo, "load", refuse)


def protocol(**rule):
    return Protocol(
        "p", "ucf101", "t", ClipRule(**{"size": (64, 64), **rule}), (), n_fake=4, n_real=None, split="train"
    )


def requests(n=3, **values):
    made = [
        Request(f"{k:05d}", k, PROMPTS[k % 3], "YoYo", 10**18 + k, values.pop("frames", 16), 64, 64, 8.0)
        for k in range(n)
    ]
    return [replace(request, **values) for request in made]


def generator(options="", **context):
    return make_generator(f"cogvideo?size=dot{options}", GeneratorContext(**context))


def clips(options="", asked=None, **rule):
    asked = requests() if asked is None else asked
    made = generator(options)
    made.preflight(asked, protocol(**rule))
    return made.generate(asked)


# What decides a clip


def test_small_networks_work_in_as_many_lanes_as_there_are_cores(monkeypatch):
    """The clips are the same for any number, and their progress counts to the end."""
    made = []
    for cores in (1, 2, 3):
        monkeypatch.setattr("eval.generators.cogvideo.available_cores", lambda cores=cores: cores)
        own, told, asked = generator(), [], requests(4)
        assert own.at_once == 32 * cores
        own.preflight(asked, protocol())
        made.append(np.stack(own.generate(asked, told.append)))
        assert told[-1] == 1.0
        assert len(told) == 4
    assert (made[0] == made[1]).all()
    assert (made[0] == made[2]).all()


def test_a_clip_depends_on_its_request_alone():
    asked = requests(4)
    whole = clips(asked=asked)
    backwards = clips(asked=asked[::-1])[::-1]
    alone = [clips(asked=[request])[0] for request in asked]
    for one, two, three in zip(whole, backwards, alone, strict=True):
        assert (one.shape, one.dtype) == ((16, 64, 64, 3), np.uint8)
        np.testing.assert_array_equal(one, two)
        np.testing.assert_array_equal(one, three)
    assert len({clip.tobytes() for clip in whole}) == 4
    same_prompt = clips(asked=[replace(asked[0], seed=seed) for seed in (5, 6)])
    assert (same_prompt[0] != same_prompt[1]).any()


def test_seeds_of_any_size_are_masked_into_63_bits():
    asked = requests(1)[0]
    low, high = clips(asked=[replace(asked, seed=12), replace(asked, seed=12 + (7 << 63))])
    np.testing.assert_array_equal(low, high)


def test_the_pipeline_itself_makes_the_same_frames():
    model = CogVideo.random("dot", superres=False)
    asked = requests(2)
    videos = model.generate(
        [r.prompt for r in asked],
        frames=17,
        fps=4.0,
        seeds=[r.seed for r in asked],
        superres=False,
        settings=GenerationSettings(guidance_scale=None),
    )
    made = clips("&guidance-scale=off&fps=4&frames=17", asked)
    for clip, video in zip(made, videos, strict=True):
        np.testing.assert_array_equal(clip, video.clip[:16])


@pytest.mark.parametrize(
    ("option", "is_new"),
    [
        ("guidance-scale=off", True),
        ("between-guidance-scale=4", True),
        ("temperature=3", True),
        ("top-k=1", True),
        ("fps=4", True),
        ("frames=33", True),
        ("weights-seed=1", True),
        ("parallel=off", False),
        ("max-rows=1", False),
    ],
)
def test_options_change_samples_and_identity_or_neither(option, is_new):
    first, second = generator(), generator(f"&{option}")
    made = []
    for one in (first, second):
        one.preflight(requests(2), protocol())
        made.append(np.stack(one.generate(requests(2))))
    assert (made[0] != made[1]).any() == is_new
    assert (first.describe() != second.describe()) == is_new
    assert json.loads(json.dumps(second.describe())) == second.describe()


def test_release_quirks_and_types_are_in_the_identity():
    described = [generator(option).describe() for option in ("", "&quirks=release", "&dtype=bfloat16", "&superres=on")]
    assert len({json.dumps(one, sort_keys=True) for one in described}) == 4


def test_a_stride_takes_every_other_frame_of_the_video():
    asked = requests(1, frames=5)
    (strided,) = clips(asked=asked, frames=5, stride=2)
    (whole,) = clips(asked=asked, frames=9)
    np.testing.assert_array_equal(strided, whole[::2])


def test_given_frames_are_in_front_and_decide_what_follows():
    given = np.zeros((2, 5, 64, 64, 3), np.uint8)
    given[1, :, :32] = 255
    request = requests(1)[0]
    asked = [replace(request, priming=given[k]) for k in (0, 1, 0)]
    one, two, again = clips(asked=asked, given=5)
    np.testing.assert_array_equal(one[:5], given[0])
    np.testing.assert_array_equal(two[:5], given[1])
    assert (one[5:] != two[5:]).any()
    np.testing.assert_array_equal(one, again)


def test_super_resolved_clips_come_at_the_size_of_given_frames():
    given = np.random.default_rng(0).integers(0, 256, (5, 64, 64, 3), np.uint8)
    (clip,) = clips("&superres=on", [replace(requests(1)[0], priming=given)], given=5)
    assert clip.shape == (16, 64, 64, 3)
    np.testing.assert_array_equal(clip[:5], given)


# What the protocol's size asks for


@pytest.mark.parametrize(
    ("size", "options", "pixels"),
    [
        ((64, 64), "", 64),
        ((48, 64), "", 64),
        ((65, 64), "", 192),
        ((128, 128), "", 192),
        (None, "", 192),
        (None, "&superres=off", 64),
        ((64, 64), "&superres=on", 192),
        ((64, 64), "&iterative=on", 192),
    ],
)
def test_super_resolution_is_on_where_frames_would_be_too_small(size, options, pixels):
    asked = requests(1, frames=2)
    (clip,) = clips(options, asked, size=size, frames=2)
    assert clip.shape == (2, pixels, pixels, 3)


@pytest.mark.usefixtures("never_loaded")
@pytest.mark.parametrize(
    ("size", "options", "said"),
    [
        ((256, 256), "", "makes frames of 192x192 pixels, p scores 256x256"),
        ((64, 128), "&superres=off", "leave 'superres=off' out"),
    ],
)
def test_frames_that_are_too_small_are_refused(size, options, said):
    with pytest.raises(UserError, match=said):
        generator(options).preflight(requests(), protocol(size=size))


# What is refused before anything is loaded


@pytest.mark.usefixtures("never_loaded")
@pytest.mark.parametrize(
    ("prompt", "said"),
    [
        ("a red cirle moving left", "unknown word 'cirle'.*did you mean circle"),
        ("a red circle moving left a red circle", "too long: 9 tokens"),
        (" ", "the prompt is empty"),
    ],
)
def test_the_whole_plan_is_read_first(prompt, said):
    asked = [*requests(2), replace(requests(1)[0], id="00002", prompt=prompt)]
    with pytest.raises(UserError, match=said):
        generator().preflight(asked, protocol())


@pytest.mark.usefixtures("never_loaded")
@pytest.mark.parametrize(
    ("options", "rule", "said"),
    [
        ("&frames=15", {}, "15 frames are fewer than the 16 that p takes"),
        ("&frames=16", {"stride": 2}, "fewer than the 31"),
        ("&fps=7", {}, "rates that work for 16 frames"),
        ("", {"given": 5, "stride": 2}, "gives frames 2 apart"),
    ],
)
def test_frames_and_rates_that_cannot_be(options, rule, said):
    with pytest.raises(UserError, match=said):
        generator(options).preflight(requests(), protocol(**rule))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("cogvideo?size=dot&guidance=3", "no option 'guidance'.*did you mean guidance-scale"),
        ("cogvideo?size=dto", "unknown size 'dto'.*did you mean dot"),
        ("cogvideo?size=dot&guidance-scale=on", "expected a number above 0 for 'guidance-scale', got 'on'"),
        ("cogvideo?size=dot&fps=-1", "expected a number above 0 for 'fps'"),
        ("cogvideo?size=dot&temperature=nan", "expected a number above 0 for 'temperature'"),
        ("cogvideo?size=dot&top-k=0", "whole number of at least 1 for 'top-k'"),
        ("cogvideo?size=dot&superres=yes", "expected auto or on or off for 'superres', got 'yes'"),
        ("cogvideo?size=dot&quirks=releas", "did you mean release"),
        ("cogvideo?size=dot&dtype=float8", "expected auto or float32"),
        ("cogvideo?size=dot&iterative=on&superres=off", "leave one of them out"),
        ("cogvideo?size=dot&weights-seed=4294967296", "at most 4294967295"),
        ("cogvideo:there?size=dot", "there has weights of its own; leave 'size' out"),
        ("cogvideo:/no/such/folder", "expected a folder of CogVideo networks"),
    ],
)
def test_bad_texts_get_one_line(text, said):
    with pytest.raises(UserError, match=said) as caught:
        make_generator(text, GeneratorContext())
    assert "\n" not in str(caught.value)


def test_without_weights_it_says_so(monkeypatch, tmp_path):
    monkeypatch.setattr("cogvideo.shipped.FOLDER", tmp_path / "nowhere")
    with pytest.raises(MissingPrerequisite, match="cogvideo-tiny is not in this installation"):
        make_generator("cogvideo", GeneratorContext())
    with pytest.raises(MissingPrerequisite, match="ice-text-model"):
        make_generator("cogvideo?size=small", GeneratorContext())


@pytest.mark.usefixtures("never_loaded")
def test_too_little_memory_is_told_before_work(monkeypatch):
    from cogvideo.checkpoint import memory

    monkeypatch.setattr(memory, "available_memory", lambda _device: 1000)
    with pytest.raises(UserError, match="not enough memory for size dot"):
        generator().preflight(requests(), protocol())


# Prompts in Chinese


class AnyText:
    """A tokenizer of one id a word, which keeps the texts that it was given."""

    vocab_size, fingerprint, special = 211, "any", {}

    def __init__(self):
        self.read = []

    def encode(self, text):
        self.read.append(text)
        return [166 + len(word) % 8 for word in text.split()]


def chinese_generator():
    model = CogVideo.random("dot", superres=False)
    words = AnyText()
    model.networks.prompts = Prompts(words, model.config, ENGLISH)
    model.networks.language, model.networks.name = "zh", "chinese"
    return CogVideoGenerator.around(model), words


def test_classes_are_given_as_chinese_phrases_and_the_sample_names_its_own():
    (yoyo,) = [row for row in class_table() if row["name"] == "YoYo"]
    asked = [
        Request("00000", 0, yoyo["en"], "YoYo", 1, 2, 64, 64, 8.0),
        Request("00001", 1, "YoYo", "YoYo", 2, 2, 64, 64, 8.0),
        Request("00002", 2, "tai chi", "tai chi", 3, 2, 64, 64, 8.0),
        Request("00003", 3, "a prompt of one's own", "YoYo", 4, 2, 64, 64, 8.0),
        Request("00004", 4, "一只猫", "YoYo", 5, 2, 64, 64, 8.0),
    ]
    made, words = chinese_generator()
    made.preflight(asked, protocol(frames=2))
    assert made.origins == {
        "00000": {"prompt": yoyo["zh"]},
        "00001": {"prompt": yoyo["zh"]},
        "00002": {"prompt": kinetics_phrases()["tai chi"]},
    }
    assert [note.partition(" prompts")[0] for note in made.notes] == ["3 of 5", "1 of 5"]
    words.read.clear()
    made.generate(asked)
    expected = [yoyo["zh"], kinetics_phrases()["tai chi"], "a prompt of one's own", "一只猫"]
    assert all(any(read.startswith(text) for read in words.read) for text in expected)
    assert not any(read.startswith((yoyo["en"], "YoYo", "tai chi")) for read in words.read)


def test_english_networks_read_prompts_as_they_are():
    made = generator()
    made.preflight(requests(), protocol())
    assert made.origins == {}
    assert made.notes == ()


def test_every_class_has_a_chinese_phrase():
    names = {row["name"] for row in class_table()} | set(_KINETICS400_CATEGORIES)
    assert len(names) == 501
    phrases = {name: chinese_phrase(name, name) for name in names}
    assert all(phrase and is_chinese(phrase) for phrase in phrases.values())
    assert len(kinetics_phrases()) == 722
    assert not [phrase for phrase in kinetics_phrases().values() if not is_chinese(phrase) or phrase != phrase.strip()]
    assert chinese_phrase("archery", "abseiling") is None


# Networks from a folder


@pytest.fixture
def folder(tmp_path):
    """The random networks of `dot`, as a folder of converted ones."""
    networks = CogVideo.random("dot", seed=3).networks
    place = tmp_path / "dots"
    for part in ("stage1", "stage2", "superres"):
        save_network(getattr(networks, part), place / part, part, source="made by a test", licence="none")
    torch.save({"module": networks.image_tokenizer.state_dict()}, place / "image_tokenizer")
    return place


def test_a_folder_gives_the_clips_of_its_networks(folder, monkeypatch):
    asked = requests(2)
    made = make_generator(f"cogvideo:{folder}", GeneratorContext())
    described = made.describe()
    made.preflight(asked, protocol())
    for clip, other in zip(made.generate(asked), clips("&weights-seed=3", asked), strict=True):
        np.testing.assert_array_equal(clip, other)
    assert made.not_comparable == ()
    assert generator().not_comparable == ("random weights, which nobody trained",)
    parts = described["weights"]["parts"]
    (card,) = [json.loads((folder / part / "card.json").read_text()) for part in ("stage1",)]
    assert parts["stage1"]["model.safetensors"]["sha256"] == card["files"]["model.safetensors"]["sha256"]
    assert {"stage1", "stage2", "superres", "image_tokenizer"} <= parts.keys()
    assert made.name == "cogvideo-dots"


def test_an_absent_network_is_named_before_work(folder, monkeypatch):
    monkeypatch.setattr(CogVideo, "load", lambda *_, **__: pytest.fail("the networks were loaded"))
    for part, rule in (("superres", {"size": (128, 128)}), ("stage2", {})):
        (folder / part).rename(folder / f"no-{part}")
        with pytest.raises(MissingPrerequisite, match=f"has no {part}"):
            make_generator(f"cogvideo:{folder}", GeneratorContext()).preflight(requests(), protocol(**rule))
    made = make_generator(f"cogvideo:{folder}", GeneratorContext())
    made.preflight(requests(frames=5), protocol(frames=5))


def test_only_tensors_are_read_of_a_folder(folder):
    with (folder / "image_tokenizer").open("wb") as file:
        pickle.dump({"module": Path}, file)
    with pytest.raises(UserError):
        make_generator(f"cogvideo:{folder}", GeneratorContext()).reconstruction()


# Whole runs


@pytest.fixture
def door(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        code = cogeval.main([str(argument) for argument in arguments])
        said = capsys.readouterr()
        assert code == 0, said.err
        return [Path(one["run"]) for one in json.loads(said.out)["runs"]]

    return run


SMALL = (
    "--samples",
    "4",
    "--real-samples",
    "12",
    "--no-floor",
    "--metric",
    "fvd",
    "--workers",
    "0",
    "--quiet",
    "--json",
)


def hashes(run):
    return {name: line.frames_sha256 for name, line in read_samples(run).items()}


@pytest.mark.parametrize("command_name", ["ucf101", "kinetics600"])
def test_a_run_is_the_same_for_any_batch_and_when_it_is_resumed(door, command_name):
    spec = "cogvideo?size=dot&guidance-scale=2"
    command = (command_name, "--generator", spec, *SMALL)
    (run,) = door(*command, "--out", "a", "--batch-size", "4")
    (other,) = door(*command, "--out", "b", "--batch-size", "1")
    found = read_result(run)
    assert found.status == "complete"
    assert not found.comparable
    assert found.not_comparable_because[0] == "random weights, which nobody trained"
    assert "random weights, which nobody trained" in (run / "report.html").read_text()
    assert hashes(run) == hashes(other)
    assert stable_view(found) == stable_view(read_result(other))
    assert run.name == other.name
    # As after a kill: two samples are finished, their features are not.
    lines = (other / "samples.jsonl").read_text().splitlines(keepends=True)
    (other / "samples.jsonl").write_text("".join(lines[:2]))
    (other / "result.json").unlink()
    for shard in (other / "features").iterdir():
        shard.unlink()
    door(*command, "--out", "b", "--batch-size", "3")
    assert hashes(run) == hashes(other)
    assert stable_view(found) == stable_view(read_result(other))
    if command_name == "kinetics600":
        assert_given_frames_are_real(run)


def assert_given_frames_are_real(run):
    """To what MP4 leaves of them; the frames that random weights make are far from them."""
    from eval.registry import datasets

    root = datasets.get("shapes").make().root
    for sample in read_manifest(run).planned:
        real = read_clip(root / sample.source.item_id, start=sample.source.start, frames=16).astype(float)
        shown = read_clip(run / read_samples(run)[sample.id].file).astype(float)
        distance = np.abs(real - shown).mean(axis=(1, 2, 3))
        assert distance[:5].max() < 8 < 12 < distance[5:].min()


def test_it_is_listed_with_its_options(capsys):
    assert cogeval.main(["list", "generators", "--json"]) == 0
    (row,) = [row for row in json.loads(capsys.readouterr().out)["generators"] if row["name"] == "cogvideo"]
    assert "guidance-scale" in row["options"]
