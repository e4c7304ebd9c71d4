"""Posters, strips and clips: what is in them, how large they are, and that the same video gives the same bytes."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cogvideo.errors import UserError
from cogvideo.video import probe, read_clip, write_video
from reports.media import Asset, Budget, make_media, write_assets


@pytest.fixture(scope="module")
def grey(tmp_path_factory) -> Path:
    """Sixteen frames whose brightness is their number: what is shown tells which frame it is."""
    path = tmp_path_factory.mktemp("video") / "grey.mp4"
    frames = np.broadcast_to((np.arange(16) * 15 + 10)[:, None, None, None], (16, 48, 96, 3)).astype(np.uint8)
    write_video(path, frames, fps=8)
    return path


def picture(asset: Asset) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(asset.data)).convert("RGB")).astype(float)


def test_the_poster_is_the_first_frame_and_the_strip_eight_evenly_spread(grey):
    media = make_media(grey)
    assert picture(media.poster).shape == (48, 96, 3)
    assert picture(media.poster).mean() == pytest.approx(10, abs=3)
    strip = picture(media.sprite)
    assert strip.shape == (48, 8 * 96, 3)
    seen = [(strip[:, 96 * k + 8 : 96 * k + 88].mean() - 10) / 15 for k in range(8)]
    assert seen == pytest.approx([0, 2, 4, 6, 9, 11, 13, 15], abs=0.4)
    assert (media.width, media.height, media.frames, media.fps) == (96, 48, 16, 8.0)


def test_a_clip_that_fits_is_the_file_itself(grey):
    media = make_media(grey)
    assert media.clip.data == grey.read_bytes()
    assert media.clip.name == f"{media.clip.sha256[:16]}.mp4"
    assert media.source_sha256 == media.clip.sha256
    assert media.clip.data_uri.startswith("data:video/mp4;base64,")


def test_everything_keeps_to_its_budget_with_pictures_that_do_not_compress(tmp_path):
    clip = np.random.default_rng(1).integers(0, 256, (12, 240, 320, 3), dtype=np.uint8)
    write_video(tmp_path / "a.mp4", clip, fps=8)
    budget = Budget(clip=60_000, side=320)
    media = make_media(tmp_path / "a.mp4", budget)
    assert len(media.poster.data) <= budget.poster
    assert len(media.sprite.data) <= budget.sprite
    assert len(media.clip.data) <= budget.clip
    (tmp_path / "b.mp4").write_bytes(media.clip.data)
    info = probe(tmp_path / "b.mp4")
    assert (info.codec, info.pixel_format, info.n_frames) == ("h264", "yuv420p", 12)
    assert make_media(tmp_path / "a.mp4", replace(budget, clip=200)).clip is None


def test_lossless_files_become_clips_that_a_browser_plays(tmp_path):
    frames = np.broadcast_to((np.arange(16) * 15 + 10)[:, None, None, None], (16, 64, 64, 3)).astype(np.uint8)
    write_video(tmp_path / "a.avi", frames, fps=8, codec="ffv1")
    media = make_media(tmp_path / "a.avi")
    (tmp_path / "b.mp4").write_bytes(media.clip.data)
    assert probe(tmp_path / "b.mp4").codec == "h264"
    assert np.abs(read_clip(tmp_path / "b.mp4").astype(float).mean((1, 2, 3)) - frames.mean((1, 2, 3))).max() < 4


def test_the_same_video_gives_the_same_bytes_and_the_cache_is_believed_only_when_whole(grey, tmp_path):
    first = make_media(grey, cache=tmp_path)
    assert make_media(grey, cache=tmp_path) == first == make_media(grey)
    (folder,) = tmp_path.iterdir()
    (folder / first.poster.name).write_bytes(b"damaged")
    assert make_media(grey, cache=tmp_path) == first
    assert (folder / first.poster.name).read_bytes() == first.poster.data
    (folder / "media.json").write_text("{")
    assert make_media(grey, cache=tmp_path) == first


def test_what_is_no_video_is_refused_in_one_line(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"not a video")
    with pytest.raises(UserError) as caught:
        make_media(tmp_path / "a.mp4", cache=tmp_path / "cache")
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="cannot read"):
        make_media(tmp_path / "missing.mp4")
    assert not (tmp_path / "cache").exists()


def test_files_are_written_once(tmp_path):
    assets = [Asset(".webp", b"one"), Asset(".mp4", b"two"), Asset(".webp", b"one")]
    assert write_assets(tmp_path / "m", assets) == 2
    assert write_assets(tmp_path / "m", assets) == 0
    assert sorted(path.name for path in (tmp_path / "m").iterdir()) == sorted({asset.name for asset in assets})
