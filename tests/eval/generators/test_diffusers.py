"""`diffusers:DIR` on miniature pipelines: what decides a clip, what is checked before weights are loaded, what is kept.

Every pipeline is made from configuration with random weights and saved as a user's would be; nothing is fetched.
"""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from cogvideo.errors import MissingPrerequisite, UserError
from cogvideo.video import write_video
from eval.generators.contract import ClipRef, GeneratorContext, Request
from eval.generators.spec import make_generator
from eval.protocol import ClipRule, Protocol

pytestmark = pytest.mark.slow
TEXT_TO_VIDEO = {
    "cogvideox": "steps=2&frames=17",
    "modelscope": "steps=2",
    "animatediff": "steps=2",
    "wan": "steps=2&frames=17&size=64x64",
}
PROMPTS = ("a red circle moving left", "a blue square growing", "a white cross moving up")


def protocol(**rule):
    return Protocol(
        "p", "ucf101", "t", ClipRule(**{"size": (64, 64), **rule}), (), n_fake=4, n_real=None, split="train"
    )


def requests(n=2, **values):
    made = [Request(f"{k:05d}", k, PROMPTS[k % 3], "YoYo", 10**18 + k, 16, 64, 64, 8.0) for k in range(n)]
    return [replace(request, **values) for request in made]


@pytest.fixture
def generator(tiny_pipeline):
    def made(name, options="", **context):
        options = options or TEXT_TO_VIDEO.get(name, "steps=2")
        return make_generator(f"diffusers:{tiny_pipeline(name)}?{options}", GeneratorContext(**context))

    return made


@pytest.fixture
def clips(generator):
    def made(name, options="", asked=None, **rule):
        asked = requests() if asked is None else asked
        one = generator(name, options)
        one.preflight(asked, protocol(**rule))
        return one.generate(asked)

    return made


# What decides a clip


@pytest.mark.parametrize("name", TEXT_TO_VIDEO)
def test_a_clip_depends_on_its_request_alone(clips, name):
    asked = requests()
    whole = clips(name, asked=asked)
    backwards = clips(name, asked=asked[::-1])[::-1]
    for one, two, request in zip(whole, backwards, asked, strict=True):
        assert (one.shape, one.dtype) == ((16, 64, 64, 3), np.uint8)
        assert one.std() > 5
        np.testing.assert_array_equal(one, two)
        np.testing.assert_array_equal(one, clips(name, asked=[request])[0])
    of_one_prompt = clips(name, asked=[replace(asked[0], seed=5), replace(asked[0], seed=6)])
    assert (of_one_prompt[0] != of_one_prompt[1]).any()


@pytest.mark.parametrize("name", TEXT_TO_VIDEO)
def test_a_larger_batch_moves_last_bits_at_most_and_says_so(generator, clips, name):
    options = TEXT_TO_VIDEO[name]
    apart, together = clips(name, options), clips(name, f"{options}&batch=2")
    for one, two in zip(apart, together, strict=True):
        assert np.abs(one.astype(int) - two).max() <= 1
    made = generator(name, f"{options}&batch=2")
    made.preflight(requests(), protocol())
    assert any("2 samples were made in one call" in note for note in made.notes)


@pytest.mark.parametrize("name", TEXT_TO_VIDEO)
def test_the_library_alone_makes_the_same_frames(tiny_pipeline, clips, name):
    import diffusers
    import torch

    pipeline = diffusers.DiffusionPipeline.from_pretrained(tiny_pipeline(name), local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    request = requests(1)[0]
    frames = pipeline(
        request.prompt,
        num_frames=17 if "frames=17" in TEXT_TO_VIDEO[name] else 16,
        height=64,
        width=64,
        num_inference_steps=3,
        guidance_scale=2.0,
        negative_prompt="dark",
        generator=torch.Generator().manual_seed(request.seed),
        output_type="np",
    ).frames[0]
    options = TEXT_TO_VIDEO[name].replace("steps=2", "steps=3") + "&guidance=2&negative-prompt=dark"
    (clip,) = clips(name, options, [request])
    np.testing.assert_array_equal(clip, np.round(np.asarray(frames)[:16] * 255).astype(np.uint8))


def test_options_change_samples_and_identity_together(generator, clips):
    plain = clips("modelscope")
    for option in (
        "steps=3",
        "steps=2&guidance=3",
        "steps=2&dtype=bfloat16",
        "steps=2&scheduler=EulerDiscreteScheduler",
    ):
        assert any((a != b).any() for a, b in zip(plain, clips("modelscope", option), strict=True)), option
        assert generator("modelscope", option).describe() != generator("modelscope").describe()


def test_a_motion_adapter_turns_a_pipeline_of_pictures_into_one_of_videos(tiny_pipeline, clips):
    options = f"steps=2&motion-adapter={tiny_pipeline('motion-adapter')}&scheduler-beta_schedule=scaled_linear"
    spec = options.replace("/", "%2F")
    for clip in clips("stable-diffusion", spec):
        assert (clip.shape, clip.std() > 5) == ((16, 64, 64, 3), True)
    with pytest.raises(UserError, match=r"StableDiffusionPipeline .* makes pictures"):
        clips("stable-diffusion", "steps=2")


# What is kept


@pytest.mark.parametrize("name", TEXT_TO_VIDEO)
def test_the_description_holds_the_resolved_pipeline(generator, tiny_pipeline, name):
    made = generator(name)
    made.preflight(requests(), protocol())
    described = made.describe()
    assert json.loads(json.dumps(described, allow_nan=False)) == described
    index = json.loads((tiny_pipeline(name) / "model_index.json").read_text())
    assert described["pipeline"] == index["_class_name"]
    assert described["scheduler"]["class"] == index["scheduler"][1]
    saved = json.loads((tiny_pipeline(name) / "scheduler" / "scheduler_config.json").read_text())
    assert saved.items() - {("_diffusers_version", saved["_diffusers_version"])} <= {
        ("_class_name", index["scheduler"][1]),
        *((key, value) for key, value in described["scheduler"]["config"].items() if not isinstance(value, list)),
    }
    assert set(described["components"]) == {k for k, v in index.items() if isinstance(v, list) and v[1]} - {"scheduler"}
    assert described["call"]["num_inference_steps"] == 2
    assert str(tiny_pipeline(name).parent) not in json.dumps(described)


def test_other_weights_are_another_identity(generator, tiny_pipeline, tmp_path):
    copy = tmp_path / "modelscope"
    shutil.copytree(tiny_pipeline("modelscope"), copy)
    before = generator("modelscope", "steps=2").describe()
    same = make_generator(f"diffusers:{copy}?steps=2", GeneratorContext()).describe()
    assert same == before
    weights = copy / "unet" / "diffusion_pytorch_model.safetensors"
    changed = bytearray(weights.read_bytes())
    changed[-1] ^= 1
    weights.write_bytes(changed)
    assert make_generator(f"diffusers:{copy}?steps=2", GeneratorContext()).describe() != before


def test_prompts_that_are_cut_are_counted(generator):
    made = generator("modelscope")
    asked = [*requests(2), *requests(1, prompt="x" * 200)]
    made.preflight(asked, protocol())
    assert "1 of 3 prompts are longer than the 77 tokens that the pipeline reads." in made.notes


# What is checked before weights are loaded


def prepare(generator, name, options, **rule):
    generator(name, options).preflight(requests(), protocol(**rule))


def refused(generator, name, options, *parts, kind=UserError, **rule):
    with pytest.raises(kind) as caught:
        prepare(generator, name, options, **rule)
    line = str(caught.value)
    assert "\n" not in line
    for part in parts:
        assert part in line


def test_frames_and_sizes_that_do_not_fit_are_refused_with_both_sides(generator):
    refused(generator, "cogvideox", "frames=9", "makes 9 frames of 64x64 pixels, p takes 16 frames", "fit=repeat")
    refused(generator, "cogvideox", "frames=16", "not 16", "write frames=13 or frames=17")
    refused(generator, "wan", "frames=18&size=64x64", "write frames=17 or frames=21")
    refused(generator, "modelscope", "size=32x32", "32x32 pixels, p scores 64x64", "fit=enlarge")


def test_the_pipelines_own_frames_and_size_are_known_from_its_files(generator):
    notes = {}
    for name, options in {"cogvideox": "steps=2", "animatediff": "steps=2", "wan": "steps=2"}.items():
        made = generator(name, options)
        made.preflight(requests(), protocol())
        notes[name] = made.notes[0]
    assert notes == {
        "cogvideox": "The model makes 17 frames of 64x64 pixels; p scores the first 16.",
        "animatediff": "The model makes 16 frames of 64x64 pixels; p scores all of them.",
        "wan": "The model makes 81 frames of 832x480 pixels; p scores the first 16, reduced to 64x64 by"
        " centre-crop-first.",
    }


def test_what_is_asked_to_fit_is_made_to_fit_and_told(generator):
    made = generator("animatediff", "steps=1&frames=8&size=32x32&fit=repeat-frames,enlarge")
    made.preflight(requests(1), protocol())
    assert [departure.partition(":")[0] for departure in made.departures] == ["repeat-frames", "enlarge"]
    (clip,) = made.generate(requests(1))
    assert clip.shape == (16, 64, 64, 3)
    np.testing.assert_array_equal(clip[::2], clip[1::2])


def test_larger_frames_reach_the_protocol_as_they_are(clips):
    (clip,) = clips("animatediff", "steps=1&size=96x64", requests(1))
    assert clip.shape == (16, 64, 96, 3)


def test_bad_options_and_folders(generator, tiny_pipeline, tmp_path):
    refused(generator, "wan", "stepps=2", "no option 'stepps'", "did you mean steps?")
    refused(generator, "wan", "size=64", "WIDTHxHEIGHT")
    refused(generator, "wan", "offload=model", "the device is cpu")
    refused(generator, "wan", "with-seed=1", "WanPipeline has no free argument 'seed'")
    refused(generator, "wan", "with-prompt=x", "no free argument 'prompt'")
    refused(generator, "wan", "scheduler-shfit=2", "no setting 'shfit'", "did you mean shift")
    refused(generator, "wan", "scheduler=DIMScheduler", "did you mean DDIMScheduler", kind=MissingPrerequisite)
    refused(generator, "wan", "revision=main", "is a folder, which has no 'revision'")
    with pytest.raises(UserError, match="needs a pipeline"):
        make_generator("diffusers", GeneratorContext())
    with pytest.raises(UserError, match="no such folder: a/b/c"):
        make_generator("diffusers:a/b/c", GeneratorContext())
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"has no model_index\.json"):
        make_generator(f"diffusers:{tmp_path / 'empty'}", GeneratorContext())
    copy = tmp_path / "wan"
    shutil.copytree(tiny_pipeline("wan"), copy)
    (copy / "transformer" / "diffusion_pytorch_model.safetensors").unlink()
    made = make_generator(f"diffusers:{copy}", GeneratorContext())
    with pytest.raises(MissingPrerequisite, match="no weights of 'transformer'"):
        made.preflight(requests(), protocol())
    (copy / "model_index.json").write_text('{"_class_name": "WanderPipeline"}')
    with pytest.raises(MissingPrerequisite, match="has no pipeline 'WanderPipeline'"):
        make_generator(f"diffusers:{copy}", GeneratorContext())
    (copy / "model_index.json").write_text("{")
    with pytest.raises(UserError, match="cannot read"):
        make_generator(f"diffusers:{copy}", GeneratorContext())


def test_a_hubs_pipeline_that_is_not_here_is_exit_3_offline(monkeypatch, tmp_path):
    import huggingface_hub.constants

    monkeypatch.setenv("COGEVAL_OFFLINE", "1")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(MissingPrerequisite) as caught:
        make_generator("diffusers:somebody/some-pipeline", GeneratorContext())
    assert "somebody/some-pipeline is not in the hub's cache, and --offline forbids" in str(caught.value)
    assert caught.value.exit_code == 3


def test_a_hubs_cache_serves_offline_and_its_commit_is_the_identity(monkeypatch, tmp_path, tiny_pipeline):
    import huggingface_hub.constants

    commit = "0123456789abcdef0123456789abcdef01234567"
    home = tmp_path / "models--somebody--animatediff"
    shutil.copytree(tiny_pipeline("animatediff"), home / "snapshots" / commit)
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text(commit)
    monkeypatch.setenv("COGEVAL_OFFLINE", "1")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    made = make_generator("diffusers:somebody/animatediff?steps=2", GeneratorContext())
    assert made.describe()["files"] == {"hub": "somebody/animatediff", "commit": commit}
    made.preflight(requests(1), protocol())
    local = make_generator(f"diffusers:{tiny_pipeline('animatediff')}?steps=2", GeneratorContext())
    local.preflight(requests(1), protocol())
    np.testing.assert_array_equal(made.generate(requests(1))[0], local.generate(requests(1))[0])


# From a picture


def test_given_frames_are_continued_and_stand_in_front(clips):
    given = np.zeros((2, 5, 64, 64, 3), np.uint8)
    given[1, :, :32] = 255
    asked = [requests(1, priming=frames)[0] for frames in given]
    first, second = clips("cogvideox-i2v", "steps=2&frames=17", asked, given=5)
    assert first.shape == second.shape == (16, 64, 64, 3)
    np.testing.assert_array_equal(first[:5], given[0])
    np.testing.assert_array_equal(second[:5], given[1])
    assert (first[5:] != second[5:]).any()


def test_who_gives_the_picture_is_asked_and_told(generator, tmp_path):
    refused(generator, "cogvideox", "steps=2", "gives 5 frames to continue", "reads text alone", given=5)
    refused(generator, "cogvideox", "steps=2&image=real", "reads text alone; leave 'image' out")
    refused(generator, "cogvideox-i2v", "frames=17", "p gives none", "image=real")
    refused(generator, "cogvideox-i2v", "frames=17&size=96x64", "another shape", given=5)
    refused(generator, "cogvideox-i2v", "frames=17&image=real", "2 of 2 samples have none")
    write_video(
        tmp_path / "a.mkv", np.random.default_rng(0).integers(0, 256, (20, 48, 64, 3), np.uint8), fps=8, codec="ffv1"
    )
    asked = requests(1, source=ClipRef("a", str(tmp_path / "a.mkv"), start=2, frames=16))
    made = generator("cogvideox-i2v", "frames=17&steps=2&image=real")
    made.preflight(asked, protocol())
    assert made.departures[0].startswith("image=real: ")
    assert made.generate(asked)[0].shape == (16, 64, 64, 3)
