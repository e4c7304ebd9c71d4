"""What each phase asks of the networks: texts, guidance, samplers, given frames; and that it is counted right."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch

from cogvideo import hierarchy as module
from cogvideo.forward import QUIRKS
from cogvideo.hierarchy import Hierarchy, Job
from cogvideo.sampling import FIRST_FRAME, VIDEO
from cogvideo.settings import GenerationSettings, Timeline

JOBS = [Job("a red circle", 1), Job("a blue square", 2)]


@pytest.fixture(scope="module")
def model(make_pipeline):
    return make_pipeline()


@dataclass
class Call:
    """One sequence batch: `words` are the texts of its rows, `known` the frames (natural order) that were given."""

    plan: object
    words: list[str]
    frames: torch.Tensor
    steps: int
    is_stage2: bool


@pytest.fixture
def spied(model, monkeypatch):
    """Runs a hierarchy; gives tokens, calls of the decoder, draws as (phase, frame, cell, rows, sampler)."""

    def run(frames=9, fps=4.0, jobs=JOBS, given=None, settings=None, advance=None):
        calls, draws, phase = [], [], [""]
        settings = settings or GenerationSettings()
        networks = model.networks

        def told(name, tokens):
            phase[0] = name
            if advance:
                advance(name, tokens)

        whole = Hierarchy(networks.stage1, networks.stage2, networks.prompts, networks.clusters, settings, told)
        original, tokenizer = module.decode, networks.prompts.tokenizer

        def decode(network, text, frames_BNF, plan, steps, choose, **choices):
            words = [tokenizer.decode(ids[real].tolist()) for ids, real in zip(text.ids, text.is_real, strict=True)]
            calls.append(Call(plan, words, frames_BNF, sum(len(step) for step in steps), network is networks.stage2))
            return original(network, text, frames_BNF, plan, steps, choose, **choices)

        def sample(logits, sampler, table, uniforms):
            draws.append((phase[0], len(logits), sampler))
            return original_sample(logits, sampler, table, uniforms)

        original_sample = module.sample
        monkeypatch.setattr(module, "decode", decode)
        monkeypatch.setattr(module, "sample", sample)
        try:
            tokens = whole.tokens(jobs, Timeline(frames, fps), given)
        finally:
            monkeypatch.undo()
        return tokens, calls, draws, whole

    return run


def test_texts_and_plans_are_those_of_the_release(spied):
    """Fact sheet of the release: photograph; duration 4, then 2 and 1; the guider says that it is a video."""
    _, calls, _, _ = spied(17, 4.0)
    first, keys, *between = calls
    assert first.words == ["a red circle photo", "a blue square photo"]
    assert (first.plan.order, first.plan.has_plus, first.plan.text_bonus) == ((0,), False, 1.4)
    assert first.plan.guidance_scale is None
    assert keys.words == ["4.0s\na red circle video", "4.0s\na blue square video", *["4.0s\nvideo"] * 2]
    assert (keys.plan.order, keys.plan.window, keys.plan.given) == ((0, 1, 2, 3, 4), None, 0)
    assert (keys.plan.guidance_scale, keys.plan.text_bonus) == (3.0, 0.0)
    assert [call.words for call in between] == [
        ["2.0s\na red circle"] * 2 + ["2.0s\na blue square"] * 2,
        ["1.0s\na red circle"] * 4 + ["1.0s\na blue square"] * 4,
    ]
    for call in between:
        assert (call.plan.order, call.plan.window, call.plan.given) == ((0, 2, 4, 1, 3), 2, 3)
        assert (call.plan.guidance_scale, call.plan.text_bonus) == (None, 1.4)
        assert call.is_stage2
    assert not first.is_stage2
    assert not keys.is_stage2


def test_the_first_frame_is_guided_away_from_its_suffix_alone(spied):
    tokens, calls, *_ = spied(frames=1, fps=1.0, settings=GenerationSettings(first_frame_guidance_scale=2.0))
    assert (calls[0].plan.guidance_scale, calls[0].plan.text_bonus) == (2.0, 0.0)
    assert calls[0].words == [*(f"{job.prompt} photo" for job in JOBS), "photo", "photo"]
    assert len(tokens) == len(JOBS)


def test_guidance_of_one_is_none(spied):
    """Then the logits are the prompt's own."""
    plain = spied(frames=1, fps=1.0, settings=GenerationSettings(text_bonus=0.0))[0]
    guided = spied(frames=1, fps=1.0, settings=GenerationSettings(first_frame_guidance_scale=1.0))[0]
    assert torch.equal(plain, guided)


def test_guidance_goes_where_it_is_asked_for(spied):
    settings = GenerationSettings(guidance_scale=None, between_guidance_scale=2.0)
    _, calls, _, _ = spied(9, 4.0, settings=settings)
    _, keys, between = calls
    # Without guidance there is no suffix, and the bonus of text is on.
    assert keys.words == ["2.0s\na red circle", "2.0s\na blue square"]
    assert (keys.plan.guidance_scale, keys.plan.text_bonus) == (None, 1.4)
    assert between.words == ["1.0s\na red circle"] * 2 + ["1.0s\na blue square"] * 2 + ["1.0s\nvideo"] * 4
    assert (between.plan.guidance_scale, between.plan.text_bonus) == (2.0, 0.0)


@pytest.mark.parametrize("quirks", ["consistent", "release"])
def test_the_first_frame_has_its_own_sampler(spied, model, quirks):
    """The release draws its last token as those of the other frames."""
    _, _, draws, _ = spied(5, 1.0, settings=GenerationSettings(quirks=QUIRKS[quirks]))
    F = model.config.frame_len
    samplers = [sampler for phase, _, sampler in draws if phase == "first frame"]
    assert samplers == [FIRST_FRAME] * (F - 1) + [FIRST_FRAME if quirks == "consistent" else VIDEO]
    assert {sampler for phase, _, sampler in draws if phase != "first frame"} == {VIDEO}


@pytest.mark.parametrize(
    ("frames", "fps"), [(1, 8.0), (2, 1.0), (5, 1.0), (6, 4.0), (9, 4.0), (13, 4.0), (16, 4.0), (17, 4.0), (33, 8.0)]
)
def test_what_is_counted_beforehand_is_what_is_drawn(spied, model, frames, fps):
    """For numbers of given frames that make a difference, in either order of decoding."""
    for given in sorted({0, 1, 4, 5, 6, 8, frames - 1} & set(range(frames))):
        told = {}

        def advance(phase, tokens, told=told):
            told[phase] = told.get(phase, 0) + tokens

        known = torch.full((2, given, model.config.frame_len), 3)
        settings = GenerationSettings(is_parallel=given in (0, 5))
        tokens, _, draws, whole = spied(frames, fps, given=known, settings=settings, advance=advance)
        drawn = {}
        for phase, rows, _ in draws:
            drawn[phase] = drawn.get(phase, 0) + rows
        assert told == drawn == whole.count(2, Timeline(frames, fps), given)
        assert tokens.shape == (2, frames, model.config.frame_len)
        assert (tokens[:, :given] == 3).all()
        assert (tokens >= 0).all()


def test_windows_that_are_known_are_skipped_and_their_neighbours_see_them(spied, model):
    """16 frames, 5 of them given: frames 0, 4, 8, 12, 16 are keys, and 0 to 4 are known already."""
    F = model.config.frame_len
    given = torch.arange(5)[:, None].expand(2, 5, F)
    _, calls, _, _ = spied(16, 4.0, given=given)
    keys, first_round, second_round = calls
    assert len(keys.frames) == 2
    assert (keys.frames[:, 0] == 0).all()
    assert (keys.frames[:, 1] == 4).all()
    assert (keys.frames[:, 2:] == -1).all()
    # Round 1: frames 0 2 4 6 8 (2 is given) and 8 10 12 14 16, in the order of feeding.
    assert len(first_round.frames) == 4
    for row in (0, 2):
        assert first_round.frames[row, :, 0].tolist()[:2] == [0, 4]
        assert first_round.frames[row, 3, 0] == 2
        assert (first_round.frames[row, 4] == -1).all()
    # Round 2: 0 1 2 3 4 is whole; three windows a sample are left.
    assert len(second_round.frames) == 6
    assert (second_round.frames[[0, 3], 0] == 4).all()


def test_frames_past_the_end_are_not_made(spied):
    """10 of 17: of the last round's four windows the one from 12 on is left out; of 2 frames, 2 keys are made."""
    whole, _, _, _ = spied(17, 4.0)
    part, calls, _, _ = spied(10, 4.0)
    assert torch.equal(part, whole[:, :10])
    assert [len(call.frames) for call in calls] == [2, 2, 4, 6]
    keys, _, _, _ = spied(5, 1.0)
    two, calls, _, _ = spied(2, 1.0)
    assert torch.equal(two, keys[:, :2])
    assert calls[-1].frames.shape[1] == 2


def test_parallel_decoding_takes_fewer_steps(spied, model):
    def steps(settings):
        _, calls, _, _ = spied(9, 4.0, settings=settings)
        return calls[-1].steps

    F = model.config.frame_len
    assert steps(GenerationSettings()) == steps(GenerationSettings(is_parallel=True)) == 2 * F
    whole = Hierarchy(
        model.networks.stage1,
        model.networks.stage2,
        model.networks.prompts,
        model.networks.clusters,
        GenerationSettings(is_parallel=True),
    )
    assert F < len(whole._steps(whole._between_plan(), 3)) < 2 * F
    assert len(whole._steps(whole._key_plan(5), 1)) == 4 * F
