"""Which rate and which starts: counted by hand, and against frames that were written with their numbers."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cogvideo.data.rates import (
    PAPER_RATES,
    PRESETS,
    at_least,
    lowest_rate,
    parse_rates,
    seconds_of,
    starts,
    strides,
    write_rate,
)
from cogvideo.errors import UserError
from cogvideo.video.timeline import Timeline


def timeline(frames, fps, first=0):
    """A file of constant rate, stamped in units of 1 / (fps * 100)."""
    fps = Fraction(fps)
    pts = tuple(first + 100 * n for n in range(frames))
    return Timeline(pts, 1 / (fps * 100), fps, ((0, 0),), True, True)


def test_the_lists_of_the_paper():
    assert [write_rate(rate) for rate in PAPER_RATES] == ["0.25", "0.5", "1", "2", "4", "8"]
    assert [write_rate(rate) for rate in PRESETS["stage1-late"]] == ["1", "2", "4", "8"]
    assert [write_rate(rate) for rate in PRESETS["stage2"]] == ["2", "4", "8"]
    assert [seconds_of(rate, 5) for rate in PAPER_RATES] == [16.0, 8.0, 4.0, 2.0, 1.0, 0.5]


@pytest.mark.parametrize(
    ("frames", "fps", "expected"),
    [
        (400, 25, "0.5"),  # 16 s: the last of five frames at 0.25 would come on show when the video ends
        (401, 25, "0.25"),
        (100, 25, "2"),  # 4 s
        (101, 25, "1"),
        (17, 8, "2"),  # the drawn shapes: 2.125 s
        (16, 8, "4"),
        (9, 8, "4"),
        (5, 8, "8"),
        (4, 8, None),
        (30, 4, "1"),  # 7.5 s
        (3, 4, None),  # 0.75 s would hold 0.5 s at 8, but there are no 5 frames in it
    ],
)
def test_lowest_rate(frames, fps, expected):
    found = lowest_rate(timeline(frames, fps), PAPER_RATES, 5)
    assert (None if found is None else write_rate(found)) == expected


def test_starts_by_hand():
    video = timeline(17, 8, first=300)
    assert list(starts(video, Fraction(2), 5)) == [0]
    assert list(starts(video, Fraction(4), 5)) == list(range(9))
    assert list(starts(video, Fraction(8), 5)) == list(range(13))
    assert list(starts(video, Fraction(8), 17)) == [0]
    assert list(starts(video, Fraction(8), 5, 1.0)) == [8, 9, 10, 11, 12]
    # Up to 1.5 s from the first frame: the last frame has to come on show before that.
    assert list(starts(video, Fraction(8), 5, 0.5, 1.5)) == [4, 5, 6, 7]
    assert list(starts(video, Fraction(8), 5, 1.0, 1.5)) == []


@settings(deadline=None, max_examples=100)
@given(
    frames=st.integers(1, 80),
    fps=st.sampled_from([Fraction(8), Fraction(25), Fraction(30000, 1001), Fraction(12)]),
    rate=st.sampled_from(PAPER_RATES),
    count=st.sampled_from([1, 5, 9, 17]),
)
def test_a_start_is_one_that_reading_can_serve(frames, fps, rate, count):
    """Against the reader's own rule for the frames that are on show."""
    video = timeline(frames, fps)
    possible = set(starts(video, rate, count))
    assert possible == {s for s in range(frames) if len(video.resample(s, rate, count)) == count}


@pytest.mark.parametrize(
    ("text", "expected"), [("1,2", [1, 2]), ("8, 0.5", [0.5, 8]), ("stage2", [2, 4, 8]), ("1/3", [1 / 3])]
)
def test_parse(text, expected):
    assert [float(rate) for rate in parse_rates(text)] == expected


@pytest.mark.parametrize("text", ["", "fast", "0", "-1,2", "1/0", "nan"])
def test_what_is_no_rate(text):
    with pytest.raises(UserError, match="expected frame rates"):
        parse_rates(text)


def test_minimum():
    assert at_least(PAPER_RATES, 1) == PAPER_RATES[2:]
    with pytest.raises(UserError, match="the lowest allowed is 9"):
        at_least(PAPER_RATES, 9)


def test_strides():
    assert list(strides(17, 5)) == [1, 2, 3, 4]
    assert list(strides(5, 5)) == [1]
    assert list(strides(8, 5)) == [1]
    assert [s for s in strides(33, 5) if 4 * s <= 32] == list(strides(33, 5))


def test_writing_is_exact():
    for rate in (*PAPER_RATES, Fraction(8, 3), Fraction(30000, 1001)):
        assert Fraction(write_rate(rate)) == rate
