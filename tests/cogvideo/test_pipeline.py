"""Prompts to clips: what decides a video and what does not, the order of its frames, and refusals before work."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from cogvideo import CogVideo, GenerationSettings
from cogvideo.config import get_size
from cogvideo.decoding import decode
from cogvideo.errors import MissingPrerequisite, UserError
from cogvideo.hierarchy import Hierarchy
from cogvideo.pipeline import job_seed

PROMPTS = ["a red circle moving left", "blue square", "a green cross"]
PICTURES = np.random.default_rng(0).integers(0, 256, (8, 24, 40, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def model(make_pipeline):
    return make_pipeline(superres=True, iterative=True)


def make(model, prompts=PROMPTS, frames=9, fps=4.0, **choices):
    settings = choices.pop("settings", None) or GenerationSettings()
    return model.generate(prompts, frames=frames, fps=fps, settings=settings, **choices)


def assert_same(some, others):
    assert len(some) == len(others)
    for one, other in zip(some, others, strict=True):
        assert (one.prompt, one.sample, one.seed, one.fps) == (other.prompt, other.sample, other.seed, other.fps)
        assert np.array_equal(one.tokens, other.tokens)
        assert np.array_equal(one.clip, other.clip)


def differ(one, other):
    """A sizeable part of the tokens: one alone could be an accident of rounding."""
    return (one.tokens != other.tokens).mean() > 0.2


@pytest.fixture(scope="module")
def together(model):
    return make(model, PROMPTS[:2], samples=2)


def test_videos_have_the_sizes_that_were_asked_for(model, together):
    config = model.config
    assert [(video.prompt, video.sample) for video in together] == [(p, s) for p in PROMPTS[:2] for s in (0, 1)]
    for video in together:
        assert video.clip.shape == (9, config.superres_pixels, config.superres_pixels, 3)
        assert video.clip.dtype == np.uint8
        assert video.tokens.shape == (9, config.frame_len)
        assert video.tokens.min() >= 0
        assert video.tokens.max() < config.num_image_tokens
        assert video.seed == job_seed(0, video.prompt, video.sample)


@pytest.fixture(scope="module")
def coarse(model):
    return make(model, samples=2, superres=False)


@pytest.mark.parametrize("changes", [{"max_rows": 1}, {"max_rows": 3}, {"is_parallel": True}], ids=str)
def test_how_tokens_are_split_changes_no_video(model, coarse, changes):
    assert_same(coarse, make(model, samples=2, superres=False, settings=GenerationSettings(**changes)))


@pytest.mark.parametrize("frames", [1, 7])
def test_how_super_resolution_is_split_changes_no_video(model, together, frames):
    settings = GenerationSettings(superres_frames=frames, is_parallel=True)
    assert_same(together[:3], make(model, PROMPTS[:2], samples=2, settings=settings)[:3])


@pytest.mark.parametrize(("size", "superres"), [(1, True), (2, False), (4, False)])
def test_a_video_does_not_depend_on_what_is_made_beside_it(model, together, coarse, size, superres):
    """In batches of any size with the samples' own seeds, as the command does it."""
    alone, together = [], together[:3] if superres else coarse
    for start in range(0, len(together), size):
        part = together[start : start + size]
        seeds = [video.seed for video in part]
        made = make(model, [video.prompt for video in part], seeds=seeds, superres=superres)
        alone += [replace(video, sample=wanted.sample) for video, wanted in zip(made, part, strict=True)]
    assert_same(together, alone)


def test_guidance_of_the_frames_between_changes_nothing_beside_either(model):
    settings = GenerationSettings(between_guidance_scale=2.0)
    together = make(model, superres=False, settings=settings)
    narrow = replace(settings, max_rows=1, is_parallel=True)
    assert_same(together, [make(model, [prompt], superres=False, settings=narrow)[0] for prompt in PROMPTS])
    unguided = make(model, superres=False)
    assert all((one.tokens != other.tokens).any() for one, other in zip(together, unguided, strict=True))


def test_seed_sample_prompt_and_rate_decide(model, together):
    assert_same(together[:1], make(model, PROMPTS[:1]))
    assert differ(together[0], together[1])
    assert differ(together[0], make(model, PROMPTS[:1], seed=1, superres=False)[0])
    same_seed = make(model, PROMPTS[:2], superres=False, seeds=[7, 7])
    assert differ(*same_seed)
    assert differ(same_seed[0], make(model, PROMPTS[:1], superres=False, seeds=[8])[0])
    # Another rate is another duration in the text of key frames; the first frame has none.
    slower = make(model, PROMPTS[:1], superres=False, seeds=[7], fps=2.0)[0]
    assert not np.array_equal(same_seed[0].tokens, slower.tokens)
    assert np.array_equal(same_seed[0].tokens[0], slower.tokens[0])


@pytest.mark.parametrize(
    "changes",
    [
        {"guidance_scale": 1.0},
        {"guidance_scale": None},
        {"text_bonus": 0.0},
        {"is_greedy": True},
    ],
    ids=str,
)
def test_every_setting_reaches_what_it_is_for(model, changes):
    usual = make(model, PROMPTS[:1], superres=False)[0]
    assert not np.array_equal(
        usual.tokens, make(model, PROMPTS[:1], superres=False, settings=GenerationSettings(**changes))[0].tokens
    )


def test_greedy_videos_need_no_seed(model):
    settings = GenerationSettings(is_greedy=True)
    assert np.array_equal(
        make(model, seed=1, settings=settings)[0].clip, make(model, seed=2, settings=settings)[0].clip
    )


def test_refinement_is_another_picture_of_the_same_tokens(model, together):
    refined = make(model, PROMPTS[:2], 5, iterative=True)
    for plain, fine in zip(make(model, PROMPTS[:2], 5), refined, strict=True):
        assert np.array_equal(plain.tokens, fine.tokens)
        assert (plain.clip != fine.clip).mean() > 0.05
    one_by_one = GenerationSettings(superres_frames=1)
    assert_same(refined[1:], make(model, PROMPTS[1:2], 5, iterative=True, settings=one_by_one))


@pytest.mark.parametrize(("frames", "fps"), [(1, 8.0), (2, 1.0), (5, 1.0), (9, 2.0), (16, 4.0), (17, 4.0), (33, 8.0)])
def test_frame_counts(model, frames, fps):
    video = make(model, PROMPTS[:1], frames, fps, superres=False)[0]
    assert video.clip.shape[0] == video.tokens.shape[0] == frames
    assert video.fps == fps
    assert video.tokens.min() >= 0
    # Neighbours are different frames: nothing was repeated to fill up.
    assert all((one != other).any() for one, other in zip(video.tokens, video.tokens[1:], strict=False))


# --- given frames


@pytest.mark.parametrize(("frames", "fps", "counts"), [(16, 4.0, (1, 5)), (9, 4.0, (1, 5, 8)), (5, 4.0, (1, 4))])
def test_given_frames_keep_their_tokens_and_their_places(model, frames, fps, counts):
    """At strides 4, 2 and 1: key frames fall on some of the given frames, known frames between on the others."""
    for count in counts:
        given = PICTURES[:count]
        primed = make(model, PROMPTS[:2], frames, fps, given=[given, given[::-1]], superres=False)
        for video, clip in zip(primed, (given, given[::-1]), strict=True):
            assert np.array_equal(video.tokens[:count], model.encode(clip).numpy())
            assert video.tokens.shape == (frames, model.config.frame_len)
            assert video.tokens.min() >= 0
        assert (primed[0].tokens[count:] != primed[1].tokens[count:]).mean() > 0.1


@pytest.mark.parametrize(("frames", "fps"), [(16, 4.0), (9, 4.0), (5, 4.0)])
def test_a_video_goes_on_from_its_own_beginning_as_it_was(model, frames, fps, monkeypatch):
    """Primed with its own first frames, each seed makes the same video again: every place and draw is as it was."""
    whole = make(model, PROMPTS[:2], frames, fps, superres=False)
    tokens = {id(video.clip): torch.from_numpy(video.tokens).long() for video in whole}
    for count in sorted({1, 2, 4, 5, 6, 8, 9, frames - 1} & set(range(frames))):
        monkeypatch.setattr(model, "encode", lambda clip, count=count: tokens[id(clip.base)][:count])
        clips = [one.clip[:count] for one in whole]
        again = make(model, PROMPTS[:2], frames, fps, given=clips, superres=False)
        for one, other in zip(whole, again, strict=True):
            assert np.array_equal(one.tokens, other.tokens), count


def test_given_frames_of_any_shape_are_cut_to_the_centre(model):
    side = model.config.frame_pixels
    frames = np.random.default_rng(1).integers(0, 256, (2, side, side, 3), dtype=np.uint8)
    wide = np.pad(frames, ((0, 0), (0, 0), (9, 9), (0, 0)), constant_values=255)
    high = np.pad(frames, ((0, 0), (3, 3), (0, 0), (0, 0)))
    assert torch.equal(model.encode(wide), model.encode(frames))
    assert torch.equal(model.encode(high), model.encode(frames))
    assert torch.equal(model.encode(frames[::-1]), model.encode(frames).flip(0))
    assert model.encode(PICTURES).shape == (8, model.config.frame_len)


def test_samples_of_a_prompt_share_its_given_frames(model):
    primed = make(model, PROMPTS[:2], given=[PICTURES[:2], PICTURES[2:4]], samples=2, superres=False)
    starts = [video.tokens[:2] for video in primed]
    assert np.array_equal(starts[0], starts[1])
    assert np.array_equal(starts[2], starts[3])
    assert not np.array_equal(starts[0], starts[2])


# --- order and place


class Painted:
    """In place of the image tokenizer: each cell is a square of the grey that its token says."""

    def __init__(self, image_tokenizer):
        self._parameters = list(image_tokenizer.parameters())

    def parameters(self):
        return iter(self._parameters)

    def decode(self, ids_BN, rate):
        grid = math.isqrt(ids_BN.shape[1])
        cells = ids_BN.view(-1, 1, grid, grid).float() / 255
        return cells.expand(-1, 3, -1, -1).repeat_interleave(rate, 2).repeat_interleave(rate, 3)


@pytest.fixture
def painted(model, monkeypatch):
    """Clips show tokens as they are."""
    monkeypatch.setattr(model.networks, "image_tokenizer", Painted(model.networks.image_tokenizer))
    return model


def shown(clip_THWC, rate):
    """The tokens (T, rows, columns) that a painted clip shows."""
    assert (clip_THWC == clip_THWC[..., :1]).all()
    tokens = clip_THWC[:, ::rate, ::rate, 0]
    assert (clip_THWC[..., 0] == tokens.repeat(rate, 1).repeat(rate, 2)).all()
    return tokens


def test_every_token_shows_in_its_frame_and_its_place(painted):
    """Cells are rows from the top, each from the left; frames in the order of their tokens."""
    config = painted.config
    for video in make(painted, frames=17, superres=False):
        tokens = video.tokens.reshape(-1, config.grid, config.grid)
        assert np.array_equal(shown(video.clip, config.compress_rate), tokens)


def test_frames_after_super_resolution_stand_in_the_same_order(painted, monkeypatch):
    """Frame k has the token k in every cell, and becomes what it becomes alone."""
    config = painted.config
    drawn = torch.arange(17)[:, None].expand(17, config.frame_len)
    monkeypatch.setattr(Hierarchy, "tokens", lambda *_: torch.stack([drawn, drawn.flip(0)]))
    plain = make(painted, PROMPTS[:2], 17, superres=False)
    assert shown(plain[0].clip, config.compress_rate)[:, 0, 0].tolist() == list(range(17))
    assert shown(plain[1].clip, config.compress_rate)[:, 0, 0].tolist() == list(range(16, -1, -1))
    settings = GenerationSettings(is_greedy=True)
    fine = make(painted, PROMPTS[:2], 17, settings=settings)
    alone = {}
    for k in (0, 5, 16):
        monkeypatch.setattr(Hierarchy, "tokens", lambda *_, k=k: drawn[None, k : k + 1].expand(2, -1, -1))
        first, second = make(painted, PROMPTS[:2], 1, settings=settings)
        assert np.array_equal(fine[0].clip[k], first.clip[0])
        assert np.array_equal(fine[1].clip[16 - k], second.clip[0])
        alone[k] = first.clip.tobytes()
    assert len(set(alone.values())) == 3


# --- progress


def test_progress_reaches_its_total_in_every_phase_and_counts_what_is_drawn(model):
    for frames, fps, given in ((1, 8.0, 0), (2, 1.0, 0), (16, 4.0, 0), (9, 4.0, 5), (9, 4.0, 6), (16, 4.0, 5)):
        told = {}
        clips = [PICTURES[:given]] * 2 if given else None

        def progress(phase, done, total, told=told):
            told.setdefault(phase, []).append((done, total))

        is_refined = frames == 2
        make(model, PROMPTS[:2], frames, fps, given=clips, iterative=is_refined, progress=progress)
        wanted = {"super-resolution", "decoding"} | ({"refinement"} if is_refined else set())
        wanted |= set() if given else {"first frame"}
        wanted |= {"key frames"} if frames > 1 else set()
        wanted |= {"frames between"} if frames > 5 else set()
        assert set(told) == wanted
        for counts in told.values():
            assert len({total for _, total in counts}) == 1
            assert [done for done, _ in counts] == sorted({done for done, _ in counts})
            assert counts[-1][0] == counts[-1][1]


def test_seconds_tell_where_the_time_went(model):
    make(model, PROMPTS[:1], 6, iterative=True)
    phases = {"first frame", "key frames", "frames between", "super-resolution", "refinement", "decoding"}
    assert phases <= set(model.seconds)
    assert all(took >= 0 for took in model.seconds.values())


# --- refusals, all of them before anything is drawn


@pytest.fixture
def idle(model, monkeypatch):
    """A model that must not start to work."""
    monkeypatch.setattr(Hierarchy, "tokens", lambda *_: pytest.fail("work has begun"))
    return model


@pytest.mark.parametrize(
    ("choices", "parts"),
    [
        ({"prompts": []}, ("at least one prompt",)),
        ({"prompts": [" "]}, ("empty",)),
        ({"prompts": ["a red elefant"]}, ("elefant",)),
        ({"prompts": ["a red circle", "a red circle a red circle moving left"]}, ("9 tokens", "at most 8")),
        ({"samples": 0}, ("one sample",)),
        ({"seeds": [1]}, ("a seed for each of 3", "got 1")),
        ({"seeds": [1, 2, -3]}, ("-3",)),
        ({"seeds": [1, 2, 2**63]}, (str(2**63),)),
        ({"fps": 3.0}, ("for 9 frames: 0.5, 1, 2, 4, 8",)),
        ({"given": [PICTURES[:1]]}, ("each of 3 prompts", "for 1")),
        ({"given": [PICTURES[:1], PICTURES[:2], PICTURES[:1]]}, ("as many for all", "1, 2")),
        ({"given": [PICTURES[:0]] * 3}, ("from 1 to 8", "0")),
        ({"given": [np.zeros((9, 8, 8, 3), np.uint8)] * 3}, ("from 1 to 8", "9")),
        ({"given": [PICTURES[:1]] * 3, "frames": 1}, ("nothing to make",)),
        ({"iterative": True, "superres": False}, ("off",)),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, dict) else "",
)
def test_what_cannot_be_is_refused_before_work(idle, choices, parts):
    with pytest.raises(UserError) as error:
        make(idle, **choices)
    for part in parts:
        assert part in str(error.value)


def test_networks_that_were_not_loaded_are_named(make_pipeline, monkeypatch):
    bare = make_pipeline(stage2=False)
    with pytest.raises(UserError, match="super-resolution is on"):
        make(bare, frames=5)
    with pytest.raises(UserError, match=r"9 frames need the network of stage 2.*at most 5 frames"):
        make(bare, frames=9, superres=False)
    assert make(bare, PROMPTS[:1], frames=5, superres=False)[0].clip.shape[0] == 5
    fine = make_pipeline(superres=True)
    monkeypatch.setattr(Hierarchy, "tokens", lambda *_: pytest.fail("work has begun"))
    with pytest.raises(UserError, match="iterative super-resolution is on"):
        make(fine, iterative=True)


def test_check_refuses_what_generate_would(idle):
    idle.check(PROMPTS, frames=9, fps=4.0, iterative=True)
    with pytest.raises(UserError, match="at most 8"):
        idle.check([*PROMPTS, "a red circle a red circle moving left"], frames=9, fps=4.0)
    with pytest.raises(UserError, match="off"):
        idle.check(PROMPTS, superres=False, iterative=True)


def test_too_little_memory_for_one_sequence_is_told_before_work(idle, monkeypatch):
    monkeypatch.setattr("cogvideo.hierarchy.available_memory", lambda _device: 1000)
    with pytest.raises(UserError, match=r"not enough memory for one sequence: its caches take .* kB, 1.0 kB are free"):
        make(idle)


def test_memory_bounds_what_is_in_work_and_changes_no_video(model, coarse, monkeypatch):
    """Room for few sequences at once: the same videos."""
    monkeypatch.setattr("cogvideo.hierarchy.available_memory", lambda _device: 1_000_000)
    rows = []

    def spy(network, text, frames_BNF, *more, **choices):
        rows.append(len(frames_BNF))
        return decode(network, text, frames_BNF, *more, **choices)

    monkeypatch.setattr("cogvideo.hierarchy.decode", spy)
    assert_same(coarse, make(model, samples=2, superres=False))
    # 6 first frames, 6 sequences of key frames with guidance, 12 of frames between.
    assert sum(rows) == 6 + 6 + 12
    assert rows[0] == 6
    assert 1 < max(rows[1:]) < 6


def test_networks_too_large_for_the_machine_are_refused_before_one_is_made(monkeypatch):
    monkeypatch.setattr("cogvideo.assembly.available_memory", lambda _device: 10**9)
    monkeypatch.setattr("cogvideo.checkpoint.memory.available_memory", lambda _device: 10**9)
    monkeypatch.setattr("cogvideo.assembly.Network", lambda *_: pytest.fail("work has begun"))
    with pytest.raises(MissingPrerequisite, match="ice-text-model"):
        CogVideo.random("release")
    sizes = replace(get_size("release"), text_pieces=48, name="")
    with pytest.raises(UserError, match=r"not enough memory .* GB are needed on cpu, 1.0 GB are free"):
        CogVideo.random(sizes)


def test_nan_is_an_error_and_not_a_video(make_pipeline):
    broken = make_pipeline()
    broken.networks.stage1.transformer.final_layernorm.bias.data[0] = torch.nan
    with pytest.raises(UserError, match=r"NaN while making first frame.*float32"):
        make(broken, superres=False)


# --- random weights


def test_random_weights_follow_from_their_seed_alone(pipeline_config):
    one = CogVideo.random(pipeline_config(), seed=3)
    bare = CogVideo.random(pipeline_config(), seed=3, superres=False, stage2=False)
    other = CogVideo.random(pipeline_config(), seed=4, superres=False)
    words = [model.networks.stage1.transformer.word_embeddings.weight for model in (one, bare, other)]
    assert torch.equal(words[0], words[1])
    assert not torch.equal(words[0], words[2])
    assert torch.equal(
        one.networks.image_tokenizer.quantize.embed.weight, bare.networks.image_tokenizer.quantize.embed.weight
    )
    assert bare.networks.superres is None
    assert bare.networks.stage2 is None
    assert not torch.equal(words[0], one.networks.stage2.transformer.word_embeddings.weight)


def test_random_weights_leave_the_global_generator_alone(pipeline_config):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    CogVideo.random(pipeline_config(), superres=False)
    assert torch.equal(before, torch.get_rng_state())


def test_a_rate_that_no_image_tokenizer_has_is_refused(pipeline_config):
    with pytest.raises(UserError, match=r"compress rate .* \(8\), got 4"):
        CogVideo.random(pipeline_config(compress_rate=4))
