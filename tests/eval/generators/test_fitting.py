"""How a model's videos become a protocol's clips, checked against reading the same frames from a file."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cogvideo.errors import UserError
from cogvideo.video import read_clip, write_video
from eval.generators.fitting import Offer, fit, frames_needed, offer_words, read_ways
from eval.protocol import ClipRule, MetricSpec, Protocol, metric_fingerprint

METRIC = MetricSpec("fvd/x", "fvd")


def protocol(**rule: object) -> Protocol:
    return Protocol("p", "ucf101", "t", ClipRule(**rule), (METRIC,), n_fake=4, n_real=None, split="train")


def video(frames: int = 40, height: int = 32, width: int = 48) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (frames, height, width, 3), np.uint8)


@pytest.mark.parametrize(
    "rule",
    [
        {"frames": 16},
        {"frames": 9, "stride": 4},
        {"frames": 12, "fps": 6.0},
        {"frames": 12, "fps": 8.0},
        {"frames": 5, "fps": 4.0, "stride": 2},
        {"frames": 24, "fps": 30.0},
    ],
)
def test_frames_are_those_that_a_file_of_the_video_would_give(rule: dict, tmp_path: Path) -> None:
    whole = video()
    write_video(tmp_path / "a.mkv", whole, fps=16, codec="ffv1")
    fitting = fit("k", Offer(40, 32, 48, fps=16.0), protocol(**rule))
    wanted = read_clip(tmp_path / "a.mkv", frames=rule["frames"], stride=rule.get("stride", 1), fps=rule.get("fps"))
    np.testing.assert_array_equal(fitting.clip(whole), wanted)
    assert not fitting.departures
    need = frames_needed(protocol(**rule).clip, 16.0)
    np.testing.assert_array_equal(fit("k", Offer(need, 32, 48, 16.0), protocol(**rule)).clip(whole[:need]), wanted)


def test_too_few_frames_are_refused_or_repeated_by_name() -> None:
    offer, asked = Offer(8, 32, 48), protocol(frames=16)
    with pytest.raises(UserError, match=r"makes 8 frames of 48x32 pixels, p takes 16 frames.*fit=repeat-frames"):
        fit("k", offer, asked, frozenset())
    with pytest.raises(UserError, match=r"or choose a protocol of fewer$"):
        fit("k", offer, asked)
    fitting = fit("k", offer, asked, read_ways("k", "repeat-frames"))
    whole = video(8)
    np.testing.assert_array_equal(fitting.clip(whole), whole.repeat(2, axis=0))
    (departure,) = fitting.departures
    assert departure.startswith("repeat-frames: 16 frames are 8 of the model")


def test_small_frames_are_refused_or_enlarged_by_name() -> None:
    offer, asked = Offer(16, 32, 48), protocol(size=(64, 64))
    with pytest.raises(UserError, match=r"makes 16 frames of 48x32 pixels, p scores 64x64.*fit=enlarge"):
        fit("k", offer, asked, read_ways("k", "repeat-frames"))
    fitting = fit("k", offer, asked, read_ways("k", "enlarge,repeat-frames"))
    assert fitting.clip(video(16)).shape == (16, 64, 64, 3)
    (departure,) = fitting.departures
    assert departure.startswith("enlarge: 64x64 pixels are 48x32 of the model")
    flat = np.full((16, 32, 48, 3), 77, np.uint8)
    assert (fitting.clip(flat) == 77).all()


def test_larger_videos_are_left_to_the_protocols_own_resize() -> None:
    offer, asked = Offer(20, 64, 96), protocol(size=(64, 64))
    fitting = fit("k", offer, asked, read_ways("k", "enlarge"))
    assert (fitting.clip(video(20, 64, 96)).shape, fitting.departures) == ((16, 64, 96, 3), ())
    words = offer_words(offer, fitting, asked)
    assert words == (
        "The model makes 20 frames of 96x64 pixels; p scores the first 16, reduced to 64x64 by centre-crop-first."
    )


@pytest.mark.parametrize("overlap", [0, 1])
def test_given_frames_stand_in_front_of_what_follows_them(overlap: int) -> None:
    whole, given = video(12), video(5, 32, 48)[::-1]
    asked = protocol(frames=16, given=5)
    fitting = fit("k", Offer(12, 32, 48, overlap=overlap), asked)
    made = fitting.clip(whole, given)
    np.testing.assert_array_equal(made[:5], given)
    np.testing.assert_array_equal(made[5:], whole[overlap : overlap + 11])
    with pytest.raises(UserError, match=f"takes {11 + overlap} frames"):
        fit("k", Offer(10 + overlap, 32, 48, overlap=overlap), asked)


def test_a_rule_in_time_needs_the_models_rate() -> None:
    with pytest.raises(UserError, match=r"takes 8 frames/s by time; say with 'fps'"):
        fit("k", Offer(40, 32, 48), protocol(fps=8.0))


def test_given_frames_far_apart_and_unknown_ways_are_refused() -> None:
    with pytest.raises(UserError, match="frames 2 apart"):
        fit("k", Offer(40, 32, 48), protocol(stride=2, given=5))
    with pytest.raises(UserError, match=r"got 'repeat'; did you mean repeat-frames\?"):
        read_ways("k", "enlarge,repeat")


def test_each_departure_is_part_of_the_fingerprint_and_of_the_changes() -> None:
    plain = protocol(frames=16)
    asked = [plain, plain.departed(()), plain.departed(("a",)), plain.departed(("b",)), replace(plain, title="u")]
    prints = [metric_fingerprint(p, METRIC, weights_sha256="w", list_sha256="l", seed=0) for p in asked]
    assert prints[0] == prints[1] == prints[4]
    assert len({*prints}) == 3
    assert asked[2].changes == ("a",)
