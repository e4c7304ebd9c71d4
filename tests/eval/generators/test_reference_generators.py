"""Controls made from real clips: what each does to the frames, and that only the request decides."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cogvideo.errors import UserError
from cogvideo.video import read_clip, write_video
from eval.generators.contract import ClipRef, Generator, GeneratorContext, Rejection, Request
from eval.generators.reference import shuffled_order
from eval.generators.spec import make_generator
from eval.protocol import ClipRule, Protocol

T = 16
PINNED_ORDER = [1, 4, 2, 0, 6, 3, 7, 5]
PINNED_NOISE = [123, 240, 45, 5, 121, 122, 135, 28, 56, 203, 245, 47]
KINDS = ("real", "frozen", "shuffled", "reversed", "noise")


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 lossless frames of 24x32 noise, so that every frame differs from every other."""
    path = tmp_path_factory.mktemp("clips") / "a.avi"
    write_video(path, np.random.default_rng(1).integers(0, 256, (40, 24, 32, 3), np.uint8), fps=25, codec="ffv1")
    return path


def protocol(**rule: object) -> Protocol:
    return Protocol("p", "ucf101", "t", ClipRule(frames=T, **rule), (), n_fake=4, n_real=None, split="train")


def requests(video: Path | None, n: int = 4, **values: object) -> list[Request]:
    made = []
    for index in range(n):
        source = ClipRef(f"clip{index}", str(video), start=2 * index, frames=T) if video else None
        made.append(Request(f"{index:05d}", index, "p", "YoYo", 1000 + index, T, 0, 0, 25.0, source))
    return [replace(request, **values) for request in made]


def clips(kind: str, asked: list[Request], workers: int = 1, **rule: object) -> list:
    generator: Generator = make_generator(kind, GeneratorContext(workers=workers))
    generator.preflight(asked, protocol(**rule))
    return generator.generate(asked)


def frame_set(clip: np.ndarray) -> set[bytes]:
    return {frame.tobytes() for frame in clip}


def test_what_each_does(video: Path) -> None:
    asked = requests(video)
    sources = [read_clip(video, start=2 * index, frames=T) for index in range(4)]
    for real, source in zip(clips("real", asked), sources, strict=True):
        np.testing.assert_array_equal(real, source)
    for frozen, source in zip(clips("frozen", asked), sources, strict=True):
        np.testing.assert_array_equal(frozen, np.stack([source[0]] * T))
    for turned, source in zip(clips("reversed", asked), sources, strict=True):
        np.testing.assert_array_equal(turned, source[::-1])
    for shuffled, source in zip(clips("shuffled", asked), sources, strict=True):
        assert frame_set(shuffled) == frame_set(source)
        assert (shuffled != source).any()
    for noise, source in zip(clips("noise", asked), sources, strict=True):
        assert noise.shape == source.shape
        assert not frame_set(noise) & frame_set(source)


@pytest.mark.parametrize("kind", KINDS)
def test_batches_order_and_workers_change_nothing(video: Path, kind: str) -> None:
    asked = requests(video)
    whole = clips(kind, asked)
    backwards = clips(kind, asked[::-1], workers=3)[::-1]
    alone = [clips(kind, [request])[0] for request in asked]
    for one, two, three in zip(whole, backwards, alone, strict=True):
        assert one.dtype == np.uint8
        np.testing.assert_array_equal(one, two)
        np.testing.assert_array_equal(one, three)


@pytest.mark.parametrize("kind", ["shuffled", "noise"])
def test_the_seed_decides(video: Path, kind: str) -> None:
    one, other = clips(kind, [replace(requests(video)[0], seed=seed) for seed in (1, 2)])
    assert (one != other).any()


def test_shuffling_always_moves_and_is_uniform_otherwise() -> None:
    orders = [tuple(shuffled_order(3, seed)) for seed in range(1000)]
    assert set(orders) == {(0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)}
    counts = [orders.count(order) for order in set(orders)]
    assert sum((count - 200) ** 2 / 200 for count in counts) < 18.5  # 99.9 % with 4 degrees of freedom
    assert [tuple(shuffled_order(2, seed)) for seed in range(20)] == [(1, 0)] * 20
    assert [list(shuffled_order(n, 0)) for n in (0, 1)] == [[], [0]]


def test_noise_is_uniform_and_takes_the_protocols_size(video: Path) -> None:
    (clip,) = clips("noise", [replace(requests(video)[0], height=64, width=48)])
    assert clip.shape == (T, 64, 48, 3)
    counts = np.bincount(clip.ravel(), minlength=256)
    expected = clip.size / 256
    assert ((counts - expected) ** 2 / expected).sum() < 330.5  # 99.9 % with 255 degrees of freedom
    assert abs(np.corrcoef(clip[:-1].ravel(), clip[1:].ravel())[0, 1]) < 0.02


def test_random_numbers_are_pinned() -> None:
    """Another numpy or machine must draw the same, so these come from the raw stream and are written down here."""
    assert list(shuffled_order(8, 7)) == PINNED_ORDER
    (clip,) = make_generator("noise", GeneratorContext()).generate(
        [replace(requests(None, 1)[0], height=2, width=2, frames=1, seed=7)]
    )
    assert clip.ravel().tolist() == PINNED_NOISE


@pytest.mark.parametrize("kind", KINDS)
def test_given_frames_stay_in_front(video: Path, kind: str) -> None:
    source = read_clip(video, start=0, frames=T)
    (clip,) = clips(kind, [replace(requests(video)[0], priming=source[:5])], given=5)
    assert clip.shape == source.shape
    np.testing.assert_array_equal(clip[:5], source[:5])
    own, rest = clip[5:], source[5:]
    if kind == "real":
        np.testing.assert_array_equal(own, rest)
    elif kind == "frozen":
        np.testing.assert_array_equal(own, np.stack([source[4]] * 11))
    elif kind == "reversed":
        np.testing.assert_array_equal(own, rest[::-1])
    elif kind == "shuffled":
        assert frame_set(own) == frame_set(rest)
        assert (own != rest).any()
    else:
        assert not frame_set(own) & frame_set(rest)


def test_given_frames_at_the_protocols_size(video: Path) -> None:
    from eval.preprocess import to_protocol_size

    rule = ClipRule(frames=T, given=5, size=(16, 16))
    whole = to_protocol_size(read_clip(video, start=0, frames=T), rule)
    (clip,) = clips("real", [replace(requests(video)[0], priming=whole[:5])], given=5, size=(16, 16))
    np.testing.assert_array_equal(clip, whole)


@pytest.mark.parametrize("kind", KINDS)
def test_without_real_clips_it_says_so_before_the_first_clip(kind: str) -> None:
    asked = requests(None)
    with pytest.raises(UserError, match=r"4 of 4 samples have none, first sample 00000 \(class YoYo\)"):
        make_generator(kind, GeneratorContext()).preflight(asked, protocol())


def test_a_file_that_went_away_rejects_its_sample_only(video: Path, tmp_path: Path) -> None:
    asked = requests(video, 2)
    gone = ClipRef("gone", str(tmp_path / "gone.avi"), 0, T)
    first, second = clips("real", [replace(asked[0], source=gone), asked[1]])
    assert isinstance(first, Rejection)
    assert "gone.avi" in first.reason
    assert second.shape == (T, 24, 32, 3)


def test_progress_ends_at_one(video: Path) -> None:
    seen: list[float] = []
    generator = make_generator("real", GeneratorContext(workers=2))
    generator.generate(requests(video), seen.append)
    assert seen == [0.25, 0.5, 0.75, 1.0]


def test_kinds_describe_themselves_differently() -> None:
    described = [str(make_generator(kind, GeneratorContext()).describe()) for kind in KINDS]
    assert len(set(described)) == len(KINDS)
