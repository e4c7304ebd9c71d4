"""Real clips as an image tokenizer leaves them: a protocol of its own, and the same on both sides."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import cogeval
from cogvideo.errors import MissingPrerequisite, UserError
from cogvideo.pipeline import CogVideo
from cogvideo.video import read_clip
from eval.compare import compare_runs
from eval.decoding import read_ref
from eval.generators.cogvideo import CogVideoGenerator
from eval.generators.contract import Generator, GeneratorContext
from eval.generators.spec import make_generator
from eval.pairing import REFERENCE_FILE, ReferenceRecord
from eval.protocol import AS_THEY_ARE, ClipRule, metric_fingerprint, protocol_from
from eval.protocols import PROTOCOLS
from eval.published import PublishedRow, matches
from eval.reconstruction import against, find_reconstruction, read_reference, split_name
from eval.records import read_manifest, read_record, read_result
from eval.registry import Entry, generators

pytestmark = pytest.mark.usefixtures("dot")
KNOWN = {"weights_sha256": "w", "list_sha256": "l", "seed": 0}
CONTEXT = GeneratorContext()


def dots(options=""):
    return make_generator(f"cogvideo?size=dot{options}", CONTEXT)


def noise(frames=4, height=64, width=64):
    return np.random.default_rng(0).integers(0, 256, (frames, height, width, 3), np.uint8)


# The tokenizer


def test_it_is_the_models_own_encoding_and_decoding():
    model = CogVideo.random("dot", superres=False)
    clip = noise(6, 80, 100)
    expected = model.decode(model.encode(clip))
    for one in (dots(), CogVideoGenerator.around(model)):
        found = one.reconstruction()
        assert found.pixels == 64
        np.testing.assert_array_equal(found.apply(clip), expected)
        assert found.not_comparable == ("random weights, which nobody trained",)
    assert (expected[0] != expected[1]).any()
    assert dots("&superres=on").reconstruction().apply(clip).shape == (6, 192, 192, 3)


def test_its_identity_is_that_of_its_weights_and_size():
    def identity(options=""):
        return dots(options).reconstruction().identity

    assert identity() == identity("&guidance-scale=off")
    assert len({identity(), identity("&weights-seed=1"), identity("&superres=on")}) == 3
    model = CogVideo.random("dot", superres=False)
    assert CogVideoGenerator.around(model).reconstruction().identity == identity()
    model.networks.image_tokenizer.quantize.embed.weight.data[3] += 0.001
    assert CogVideoGenerator.around(model).reconstruction().identity != identity()


def test_the_large_networks_are_not_loaded(monkeypatch):
    monkeypatch.setattr(CogVideo, "random", lambda *_, **__: pytest.fail("loaded"))
    assert dots().reconstruction().apply(noise()).shape == (4, 64, 64, 3)


@pytest.mark.parametrize(
    ("text", "found"),
    [("real", (False, "")), ("reconstructed", (True, "")), ("reconstructed:a/b:c", (True, "a/b:c"))],
)
def test_what_may_be_written(text, found):
    assert read_reference(text) == found


@pytest.mark.parametrize("text", ["reconstruct", "real:folder", "reconstructed:", ""])
def test_what_may_not(text):
    with pytest.raises(UserError, match="expected real, reconstructed or reconstructed:DIR"):
        read_reference(text)


def test_one_tokenizer_has_to_be_meant():
    real = make_generator("real", CONTEXT)
    assert find_reconstruction("", {"real": real, "a": dots()}, CONTEXT).pixels == 64
    with pytest.raises(UserError, match="none of the generators has"):
        find_reconstruction("", {"real": real}, CONTEXT)
    with pytest.raises(UserError, match="have their own: a, b"):
        find_reconstruction("", {"a": dots(), "b": dots(), "real": real}, CONTEXT)
    with pytest.raises(UserError, match="expected a folder of CogVideo networks at nowhere"):
        find_reconstruction("nowhere", {"a": dots()}, CONTEXT)


# The protocol


@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=PROTOCOLS)
def test_it_is_a_protocol_of_its_own(protocol):
    other = protocol.against_reconstructed("image tokenizer 12ab at 160 px")
    assert split_name(other.name) == (protocol.name, True)
    assert split_name(protocol.name) == (protocol.name, False)
    assert other.is_reconstructed
    assert not protocol.is_reconstructed
    assert protocol_from(json.loads(json.dumps(protocol.__dict__, default=lambda o: o.__dict__))) == protocol
    prints = set()
    for named in ("image tokenizer 12ab at 160 px", "image tokenizer 34cd at 160 px"):
        changed = protocol.against_reconstructed(named)
        prints |= {metric_fingerprint(changed, spec, **KNOWN) for spec in changed.metrics}
    assert len(prints) == 2 * len(protocol.metrics)
    # Also with the names left alone: it is the reference that makes it another number.
    unnamed = {metric_fingerprint(other, spec, **KNOWN) for spec in protocol.metrics}
    assert not unnamed & {metric_fingerprint(protocol, spec, **KNOWN) for spec in protocol.metrics}


def test_only_cogvideos_protocols_have_published_rows_of_that_kind():
    found = {name for name, p in PROTOCOLS.items() if p.against_reconstructed("x").published}
    assert found == {"cogvideo-2022", "cogvideo-kinetics600"}


def test_published_rows_match_their_own_reference_alone():
    plain = replace(PROTOCOLS["cogvideo-2022"], n_fake=2048)
    row = PublishedRow(
        model="CogVideo",
        dataset="ucf101",
        metric="FVD",
        value=500,
        setting="trained on UCF-101 train+test",
        resolution=128,
        frames=16,
        samples=2048,
        source="here",
        confidence="high",
    )
    starred = row.model_copy(update={"reference": "reconstructed"})
    reconstructed = plain.against_reconstructed("image tokenizer 12ab")
    assert matches(row, plain) == (True, [])
    assert matches(starred, reconstructed) == (True, [])
    assert matches(starred, plain) == (False, ["reference: reconstructed clips, here real ones"])
    assert matches(row, reconstructed) == (False, ["reference: real clips, here reconstructed ones"])
    assert "reconstructed" in starred.facts
    assert "reconstructed" not in row.facts


def test_frames_smaller_than_the_protocols_are_refused():
    protocol = replace(PROTOCOLS["cogvideo-2022"], clip=ClipRule(size=(128, 128)))
    with pytest.raises(UserError, match="scores 128x128, the image tokenizer makes frames of 64x64"):
        against(protocol, dots().reconstruction())
    assert against(protocol, dots("&superres=on").reconstruction()).is_reconstructed


# Whole runs


@pytest.fixture
def door(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        code = cogeval.main([str(argument) for argument in arguments])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


SMALL = ("--samples", "6", "--real-samples", "8", "--metric", "fvd", "--workers", "0", "--quiet", "--json")


def runs(out):
    return [Path(one["run"]) for one in json.loads(out)["runs"]]


class Echo(Generator):
    """The reference's own clips: what the tokenizer makes of the real clip of each request."""

    name = title = "Echo"

    def describe(self):
        return {"kind": "echo"}

    def reconstruction(self):
        return dots().reconstruction()

    def generate(self, requests, progress=None):
        return [self.reconstruction().apply(read_ref(request.source)) for request in requests]


@pytest.fixture
def echo(monkeypatch):
    monkeypatch.setitem(generators.entries, "echo", Entry("echo", lambda *_: Echo(), "", {}))


@pytest.mark.usefixtures("echo")
def test_a_perfect_prediction_scores_zero_with_its_given_frames(door):
    """The given frames of a sample are those of the reference: tokenised on both sides, or on neither."""
    command = ("kinetics600", *SMALL, "--real-samples", "6", "--no-floor", "--generator", "echo")
    code, out, err = door(*command, "--reference", "reconstructed")
    assert code == 0, err
    (run,) = runs(out)
    found = read_result(run)
    assert found.metrics[0].value == pytest.approx(0, abs=1e-6)
    assert found.protocol_name == "kinetics600-shapes+reconstructed"
    assert any("passed through the image tokenizer as the reference was" in text for text in found.warnings)
    assert any("no number of another reference" in text for text in found.warnings)
    sample = read_manifest(run).planned[0]
    clip = read_clip(run / "samples" / f"{sample.id}.mp4").astype(float)
    _, out, _ = door(*command)
    (plain,) = runs(out)
    assert read_result(plain).metrics[0].value > 1
    shown = read_clip(plain / "samples" / f"{sample.id}.mp4").astype(float)
    assert np.abs(clip[:5] - shown[:5]).mean() > 20 > 2 > np.abs(clip[5:] - shown[5:]).mean()


def test_it_has_features_and_numbers_of_its_own(door):
    both = ("--generator", "real", "--generator", "cogvideo?size=dot")
    code, out, err = door("ucf101", *SMALL, *both, "--reference", "reconstructed")
    assert code == 0, err
    starred = runs(out)
    code, out, err = door("ucf101", *SMALL, *both)
    assert code == 0, err
    plain = runs(out)
    for one, other in zip(starred, plain, strict=True):
        assert one != other
        found, usual = read_result(one), read_result(other)
        assert found.metrics[0].value != usual.metrics[0].value
        assert found.metrics[0].floor != usual.metrics[0].floor
        assert (found.metrics[0].id, usual.metrics[0].id) == ("fvd/16f-shapes+reconstructed", "fvd/16f-shapes")
        assert found.not_comparable_because[0] == "random weights, which nobody trained"
        folders = [read_record(run / REFERENCE_FILE, ReferenceRecord).folders for run in (one, other)]
        assert folders[0].keys() == folders[1].keys()
        assert not set(folders[0].values()) & set(folders[1].values())
        assert read_manifest(other).protocol["reference"] == AS_THEY_ARE
    compared = compare_runs([starred[0], plain[0]])
    assert [len(group.members) for group in compared.groups] == [1, 1]
    (split,) = compared.splits
    assert any("image tokenizer" in field for field in split.differing)
    with pytest.raises(UserError, match="not ranked together"):
        compare_runs([starred[0], plain[0]], is_strict=True)
    assert len(compare_runs(starred).groups) == 1


def test_it_can_be_asked_for_by_the_protocols_name_or_the_environment(door, monkeypatch):
    names = []
    for flags in (("--reference", "reconstructed"), ("--protocol", "ucf101-shapes+reconstructed")):
        code, out, err = door("ucf101", *SMALL, "--generator", "cogvideo?size=dot", "--dry-run", *flags)
        assert code == 0, err
        names.append(runs(out)[0].name)
    monkeypatch.setenv("COGEVAL_REFERENCE", "reconstructed")
    _, out, _ = door("ucf101", *SMALL, "--generator", "cogvideo?size=dot", "--dry-run")
    names.append(runs(out)[0].name)
    assert len(set(names)) == 1


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--generator", "real", "--reference", "reconstructed"), "needs an image tokenizer"),
        (("--generator", "real", "--reference", "reconstructed:gone"), "expected a folder of CogVideo networks"),
        (("--generator", "real", "--reference", "reconstruct"), "did you mean reconstructed"),
        (("--generator", "real", "--protocol", "ucf101-shape+reconstructed"), "did you mean ucf101-shapes"),
    ],
)
def test_what_cannot_be_is_one_line_before_work(door, tmp_path, flags, said):
    code, _, err = door("ucf101", *SMALL, *flags)
    assert code == 2
    assert said in err
    assert not (tmp_path / "runs").exists()


def test_prompts_without_videos_have_nothing_to_reconstruct(door, tmp_path):
    (tmp_path / "prompts.txt").write_text("a red circle moving left\na blue square growing\n")
    command = ("prompts", "prompts.txt", "--protocol", "prompts-shapes", "--generator", "cogvideo?size=dot")
    code, _, err = door(*command, "--reference", "reconstructed", "--workers", "0", "--quiet")
    assert code == 2
    assert "no real clips" in err


def test_no_weights_is_a_missing_prerequisite(monkeypatch, tmp_path):
    monkeypatch.setattr("cogvideo.shipped.FOLDER", tmp_path / "nowhere")
    with pytest.raises(MissingPrerequisite):
        make_generator("cogvideo", CONTEXT)
