"""Timelines of the hierarchy, checked by counting frames backwards; and settings that cannot be."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from cogvideo.errors import UserError
from cogvideo.settings import TRAINED_SECONDS, GenerationSettings, Timeline, suited, unlike_release

COUNTS = (1, 2, 3, 5, 6, 7, 9, 10, 13, 16, 17, 24, 32, 33)


def rate_for(frames):
    return Timeline.possible_rates(frames)[-1]


@pytest.mark.parametrize(
    ("frames", "fps", "made", "seconds"),
    [
        (1, 8.0, 5, [0.5]),
        (5, 1.0, 5, [4.0]),
        (5, 0.25, 5, [16.0]),
        (9, 2.0, 9, [4.0, 2.0]),
        (16, 4.0, 17, [4.0, 2.0, 1.0]),
        (33, 8.0, 33, [4.0, 2.0, 1.0, 0.5]),
        (33, 2.0, 33, [16.0, 8.0, 4.0, 2.0]),
    ],
)
def test_rounds_and_durations(frames, fps, made, seconds):
    """Section 3.1 of the paper: five frames over four seconds at 1 frame a second, halved each round."""
    timeline = Timeline(frames, fps)
    assert timeline.made_frames == made
    assert timeline.rounds == len(seconds) - 1
    assert [timeline.seconds(number) for number in range(len(seconds))] == seconds


@pytest.mark.parametrize("frames", COUNTS)
def test_possible_rates_are_those_that_are_accepted(frames):
    rates = [0.125, 0.25, 0.5, 1, 2, 4, 8, 16, 32, 3, 7.5]
    accepted = []
    for fps in rates:
        try:
            Timeline(frames, fps)
        except UserError:
            continue
        accepted.append(fps)
    assert accepted == Timeline.possible_rates(frames)
    assert accepted
    for fps in accepted:
        assert all(Timeline(frames, fps).seconds(n) in TRAINED_SECONDS for n in range(Timeline(frames, fps).rounds + 1))


@pytest.mark.parametrize(
    ("frames", "fps", "parts"),
    [
        (33, 3, ("33 frames at 3", "0.25 to 8", "for 33 frames: 2, 4, 8")),
        (33, 1, ("2, 4, 8",)),
        (16, 16, ("for 16 frames: 1, 2, 4, 8",)),
        (33, math.nan, ("2, 4, 8",)),
        (33, math.inf, ("2, 4, 8",)),
        (33, 0, ("2, 4, 8",)),
        (130, 8, ("130 frames at 8", "at most 129 frames")),
        (10_000_000, 8, ("at most 129 frames",)),
        (0, 8, ("at least one frame, got 0",)),
    ],
)
def test_a_rate_that_training_never_saw_is_refused_with_those_that_it_did(frames, fps, parts):
    with pytest.raises(UserError) as error:
        Timeline(frames, fps)
    for part in parts:
        assert part in str(error.value)


def test_129_frames_are_the_most():
    assert [frames for frames in range(1, 300) if Timeline.possible_rates(frames)] == list(range(1, 130))
    assert Timeline(129, 8).seconds(0) == max(TRAINED_SECONDS)


def needed_by_round(frames, rounds, given):
    """Windows that make a frame which the wanted ones depend on, found from the end backwards."""
    wanted = set(range(given, frames))
    found = {}
    for number in range(rounds, 0, -1):
        step = 1 << rounds - number
        windows = set()
        for frame in wanted:
            if frame % (2 * step) == step:  # made in this round
                windows.add(frame // (4 * step))
        found[number] = sorted(windows)
        for window in windows:
            wanted |= {4 * step * window + place * step for place in (0, 2, 4)} - set(range(given))
    return found, wanted


@pytest.mark.parametrize("frames", range(1, 35))
def test_windows_are_those_that_the_wanted_frames_depend_on(frames):
    timeline = Timeline(frames, rate_for(frames))
    for given in range(frames):
        found, wanted = needed_by_round(frames, timeline.rounds, given)
        stride = timeline.step(0)
        keys = [key * stride for key in range(timeline.key_frames)]
        assert {frame for frame in wanted if frame % stride == 0} <= set(keys)
        for number, needed in found.items():
            windows = timeline.windows(number, given)
            assert set(needed) <= set(windows)
            # One too many at most: the last one, where what it makes lies past the end.
            assert len(windows) - len(needed) <= 1


def test_nothing_is_made_past_the_end_of_33_frames():
    timeline = Timeline(33, 8.0)
    assert [len(timeline.windows(number)) for number in (1, 2, 3)] == [2, 4, 8]
    assert [len(Timeline(17, 4.0).windows(number)) for number in (1, 2)] == [2, 4]
    assert [len(Timeline(10, 4.0).windows(number)) for number in (1, 2)] == [2, 3]
    assert Timeline(2, 1.0).key_frames == 2


@pytest.mark.parametrize(
    "changes",
    [
        {"guidance_scale": math.nan},
        {"between_guidance_scale": math.inf},
        {"text_bonus": math.nan},
        {"max_rows": 0},
        {"max_rows": -1},
        {"superres_frames": 0},
    ],
)
def test_settings_that_cannot_be_are_refused(changes):
    with pytest.raises(UserError):
        GenerationSettings(**changes)


def test_settings_of_a_card_and_back():
    values = {"video": {"temperature": 0.8}, "guidance_scale": 2.0, "first_frame_guidance_scale": 1.5}
    settings = suited(values, "here")
    assert settings.video == replace(GenerationSettings().video, temperature=0.8)
    assert (settings.guidance_scale, settings.first_frame_guidance_scale) == (2.0, 1.5)
    assert suited(unlike_release(settings), "here") == settings
    assert unlike_release(GenerationSettings()) == {}


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"is_greedy": True}, "unknown setting 'is_greedy'"),
        ({"video": {"speed": 1}}, "setting 'video' cannot be"),
        ({"video": 3}, "setting 'video' cannot be 3"),
        ({"video": {"temperature": 0}}, "temperatures"),
        ({"guidance_scale": math.inf}, "finite"),
        ({"guidance_scale": "much"}, "setting 'guidance_scale' cannot be 'much'"),
    ],
)
def test_settings_of_a_card_that_cannot_be(values, said):
    with pytest.raises(UserError, match=said) as caught:
        suited(values, "pipeline.json")
    assert str(caught.value).startswith("pipeline.json: ")
