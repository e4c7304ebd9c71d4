"""What is cut out of a video, read off frames that carry their number as a grey level."""

from __future__ import annotations

import hashlib
import importlib
import os
import pickle
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from cogvideo.data.cutting import Cutting, CutVideo, Skipped, cut_video, square
from cogvideo.data.decoding_pool import cut_videos
from cogvideo.data.rates import PAPER_RATES
from cogvideo.data.sources import Pair
from cogvideo.video.timeline import read_timeline


def pair(path, **window):
    return Pair(path, path.name, "a red square growing", **window)


def numbers(video, step=4):
    """(C, T): the number of the source's frame that each frame is."""
    levels = video.frames.reshape(*video.frames.shape[:2], -1)
    assert (levels == levels[..., :1]).all()
    return (levels[..., 0] // step).tolist()


@pytest.mark.parametrize(
    ("frames", "fps", "rates", "count", "expected"),
    [
        (17, 8, PAPER_RATES, 5, [0, 4, 8, 12, 16]),
        (17, 8, (Fraction(4), Fraction(8)), 5, None),
        (17, 8, (Fraction(8),), 17, list(range(17))),
        # 25 frames a second at 8: frame k shows what is on at k / 8 seconds, k * 3.125 rounded down.
        (13, 25, PAPER_RATES, 5, [0, 3, 6, 9, 12]),
        (51, 25, PAPER_RATES, 5, [0, 12, 25, 37, 50]),
    ],
)
def test_frames(tmp_path, write_grey, frames, fps, rates, count, expected):
    path = write_grey(tmp_path / "v.avi", frames, rate=fps)
    video = cut_video(pair(path), Cutting(count, 64, rates))
    assert isinstance(video, CutVideo)
    assert video.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    (found,) = numbers(video)
    (clip,) = video.clips
    assert clip.start_s == pytest.approx(clip.start / fps)
    if expected is None:
        expected = [clip.start + 2 * k for k in range(5)]
    assert found == expected


def test_several_clips_start_at_different_frames_and_keep_those_of_fewer(tmp_path, write_grey):
    path = write_grey(tmp_path / "v.avi", 30)
    by_count = {}
    for clips in (1, 3, 8, 100):
        video = cut_video(pair(path), Cutting(5, 64, (Fraction(8),), clips, seed=3))
        starts = [clip.start for clip in video.clips]
        assert starts == sorted(set(starts))
        assert numbers(video) == [list(range(start, start + 5)) for start in starts]
        by_count[clips] = set(starts)
    assert by_count[1] < by_count[3] < by_count[8] < by_count[100] == set(range(26))
    other = cut_video(pair(path), Cutting(5, 64, (Fraction(8),), 8, seed=4))
    assert {clip.start for clip in other.clips} != by_count[8]


def test_a_window_of_the_video(tmp_path, write_grey):
    path = write_grey(tmp_path / "v.avi", 60)
    video = cut_video(pair(path, start_s=3.0, end_s=5.125), Cutting(5, 64, PAPER_RATES, 9))
    assert numbers(video) == [[24, 28, 32, 36, 40]]
    short = cut_video(pair(path, start_s=3.0, end_s=3.5), Cutting(5, 64, PAPER_RATES))
    assert isinstance(short, Skipped)
    assert short.code == "too-few-frames"
    assert "from 3 s to 3.5 s" in short.reason


def test_where_only_decoding_counts_the_frames(tmp_path, write_grey):
    """B-frames in AVI: the file says nothing that can be relied on about when a frame is shown."""
    path = write_grey(
        tmp_path / "v.avi", 30, codec="mpeg4", pixel_format="yuv420p", rate=25, step=8, bf="2", qmin="2", qmax="2"
    )
    video = cut_video(pair(path), Cutting(5, 64, (Fraction(8),), 3))
    for clip, found in zip(video.clips, video.frames[..., 32, 32, 0].tolist(), strict=True):
        wanted = [clip.start + int(k * 25 / 8 + 0.0125) for k in range(5)]
        assert np.abs(np.array(found) - 8 * np.array(wanted)).max() < 4


def test_frames_that_were_announced_and_are_not_there(tmp_path, write_grey, monkeypatch):
    """Such a file is decoded to its end, and cut as long as it really is."""

    def announce(source):
        told = read_timeline(source)
        return replace(told, pts=tuple(told.pts[1] * n for n in range(60)), is_countable=False)

    path = write_grey(tmp_path / "v.avi", 30)
    monkeypatch.setattr("cogvideo.data.cutting.read_timeline", announce)
    video = cut_video(pair(path), Cutting(5, 64, (Fraction(1), Fraction(4)), 40))
    assert {clip.rate for clip in video.clips} == {Fraction(4)}
    assert [clip.start for clip in video.clips] == list(range(22))
    assert numbers(video) == [[start + 2 * k for k in range(5)] for start in range(22)]


@pytest.mark.parametrize(("content", "code"), [(None, "missing"), (b"", "empty-file"), (b"text" * 50, "not-a-video")])
def test_what_is_no_video_is_an_answer(tmp_path, content, code):
    path = tmp_path / "v.avi"
    if content is not None:
        path.write_bytes(content)
    answer = cut_video(pair(path), Cutting(5, 64, PAPER_RATES))
    assert isinstance(answer, Skipped)
    assert answer.code == code
    assert str(path) in answer.reason
    assert "\n" not in answer.reason


def test_damage_and_shortness(tmp_path, write_grey):
    path = write_grey(tmp_path / "v.avi", 17)
    (tmp_path / "cut.avi").write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    answers = {
        name: cut_video(pair(tmp_path / name), Cutting(count, 64, PAPER_RATES))
        for name, count in (("cut.avi", 17), ("v.avi", 18))
    }
    assert all(isinstance(answer, Skipped) for answer in answers.values())
    assert answers["v.avi"].code == "too-few-frames"
    assert "17 at 8 a second, expected 18 at one of 0.25, 0.5, 1, 2, 4, 8" in answers["v.avi"].reason


@pytest.mark.parametrize("shape", [(64, 64), (128, 128), (240, 320), (97, 61), (160, 64), (30, 40)])
def test_square_is_what_generation_does_with_given_frames(shape):
    # Not above: the processes that this file starts import it, and need no torch.
    from cogvideo.vqvae.frames import clip_to_frames

    picture = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    expected = clip_to_frames(picture[None], 64)[0].permute(1, 2, 0).mul(255).numpy()
    found = square(picture, 64)
    assert found.shape == (64, 64, 3)
    # Pillow rounds to whole levels once between rows and columns.
    assert np.abs(found - expected).max() <= (0 if shape == (64, 64) else 1.51)


# In a module of its own: workers import what they are given by name, and a test's own module cannot be imported.
CRASHING = """
import os
import signal

from cogvideo.data.cutting import cut_video


def crash(pair, cutting):
    if pair.name == "crash.avi":
        os.kill(os.getpid(), signal.SIGKILL)
    return cut_video(pair, cutting)
"""


def answers_of(pairs, cutting, workers):
    return [
        answer if isinstance(answer, Skipped) else (answer.clips, answer.sha256, answer.frames.tobytes())
        for answer in cut_videos(pairs, cutting, workers)
    ]


def test_any_workers_give_the_same_answers_in_order(tmp_path, write_grey):
    pairs = [pair(write_grey(tmp_path / f"{n}.avi", 10 + n)) for n in range(9)]
    (tmp_path / "3.avi").write_bytes(b"")
    cutting = Cutting(5, 16, PAPER_RATES, 2)
    expected = answers_of(pairs, cutting, 0)
    assert isinstance(expected[3], Skipped)
    assert answers_of(pairs, cutting, 2) == expected


def test_a_decoder_that_dies_costs_one_video(tmp_path, write_grey, monkeypatch):
    (tmp_path / "crashing_decoder.py").write_text(CRASHING)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("cogvideo.data.decoding_pool.cut_video", importlib.import_module("crashing_decoder").crash)
    names = ["a.avi", "b.avi", "crash.avi", "c.avi", "d.avi"]
    pairs = [pair(write_grey(tmp_path / name, 8)) for name in names]
    answers = list(cut_videos(pairs, Cutting(5, 16, PAPER_RATES), 1))
    assert [isinstance(answer, CutVideo) for answer in answers] == [True, True, False, True, True]
    assert answers[2].code == "crash"
    assert "crash.avi" in answers[2].reason


def test_processes_that_cannot_begin_are_not_the_fault_of_videos(tmp_path, write_grey):
    """As in a script without `if __name__ == "__main__":`, whose processes run it anew and end."""
    write_grey(tmp_path / "a.avi", 8)
    script = tmp_path / "script.py"
    script.write_text(
        "from pathlib import Path\n"
        "from cogvideo.data.cutting import Cutting\n"
        "from cogvideo.data.decoding_pool import cut_videos\n"
        "from cogvideo.data.rates import PAPER_RATES\n"
        "from cogvideo.data.sources import Pair\n"
        f"path = Path({str(tmp_path / 'a.avi')!r})\n"
        "list(cut_videos([Pair(path, path.name, 'a red square growing')], Cutting(5, 16, PAPER_RATES), 1))\n"
    )
    run = subprocess.run(
        [sys.executable, script],
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert run.returncode == 1
    assert run.stderr.splitlines()[-1].startswith("cogvideo.errors.UserError: processes that decode videos end as soon")


def test_answers_travel_between_processes():
    skipped = Skipped("crash", "x")
    assert pickle.loads(pickle.dumps(skipped)) == skipped
