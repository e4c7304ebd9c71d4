"""Files are read back with PyAV or Pillow alone, where that tests the writer and not the pair."""

import os
import resource
import subprocess
import sys
from fractions import Fraction

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cogvideo.errors import UserError
from cogvideo.video import probe, read_clip, write_video


def moving(n=6, height=48, width=64):
    """A smooth picture that moves."""
    t, y, x = np.mgrid[:n, :height, :width]
    return np.stack([(2 * x + 5 * t) % 200, 3 * y, x + y + t], -1).astype(np.uint8)


def plain(path):
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


@settings(max_examples=25, deadline=None)
@given(
    n=st.integers(1, 4),
    height=st.integers(2, 40),
    width=st.integers(2, 40),
    seed=st.integers(0, 2**32 - 1),
    suffix=st.sampled_from([".avi", ".mkv"]),
)
def test_lossless_is_lossless(tmp_path_factory, n, height, width, seed, suffix):
    clip = np.random.default_rng(seed).integers(0, 256, (n, height, width, 3), dtype=np.uint8)
    path = tmp_path_factory.mktemp("lossless") / f"x{suffix}"
    write_video(path, clip, fps=8, codec="ffv1")
    assert np.array_equal(plain(path), clip)
    assert np.array_equal(read_clip(path), clip)


@pytest.mark.parametrize(("codec", "suffix"), [("h264", ".mp4"), ("ffv1", ".avi"), ("ffv1", ".mkv"), ("gif", ".gif")])
def test_the_same_clip_gives_the_same_bytes(tmp_path, codec, suffix):
    for name in ("a", "b"):
        write_video(tmp_path / f"{name}{suffix}", moving(), fps=8, codec=codec)
    data = [(tmp_path / f"{name}{suffix}").read_bytes() for name in ("a", "b")]
    assert data[0] == data[1]
    for written in (av.library_versions["libavformat"], av.library_versions["libavcodec"]):
        assert ".".join(map(str, written)).encode() not in data[0]


@pytest.mark.parametrize("size", [48, 96, 160])
def test_what_lies_in_memory_beside_a_clip_is_not_in_its_bytes(tmp_path, size):
    """Soft clips whose sides are no multiple of 64: x264's macroblock trees gave several files by chance."""
    rng = np.random.default_rng(0)
    waves = 120 + 20 * np.sin(np.arange(6)[:, None] + np.arange(size) / 5)
    clip = (waves[:, :, None, None] + rng.integers(0, 25, (6, size, size, 3))).astype(np.uint8)
    found, kept = set(), []
    for number in range(12):
        kept = [*kept[-3:], rng.integers(0, 256, 9973 * (number + 1), dtype=np.uint8)]
        write_video(tmp_path / "x.mp4", clip, fps=4)
        found.add((tmp_path / "x.mp4").read_bytes())
    assert len(found) == 1


@pytest.mark.parametrize("fps", [8, 29.97, Fraction(30000, 1001), 12.5])
@pytest.mark.parametrize(("codec", "suffix"), [("h264", ".mp4"), ("ffv1", ".avi")])
def test_number_and_rate_of_frames_are_kept(tmp_path, codec, suffix, fps):
    path = tmp_path / f"x{suffix}"
    write_video(path, moving(7), fps=fps, codec=codec)
    info = probe(path, thorough=True)
    assert (info.n_frames, info.claimed_frames, info.is_variable_rate) == (7, 7, False)
    assert info.fps == Fraction(fps).limit_denominator(1001)


def test_h264_is_what_browsers_play(tmp_path):
    path = tmp_path / "x.mp4"
    write_video(path, moving(30), fps=8)
    data = path.read_bytes()
    assert 0 < data.find(b"moov") < data.find(b"mdat")
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        # The matrix that the pixels were made with is written down: 6 is BT.601, 1 is limited range.
        assert (stream.codec_context.colorspace, stream.codec_context.color_range) == (6, 1)
    assert np.abs(read_clip(path).astype(int) - moving(30)).mean() < 3


def test_solid_colours_survive_h264(tmp_path):
    clip = np.empty((8, 32, 32, 3), np.uint8)
    clip[:] = np.array([[230, 30, 30], [30, 200, 30], [30, 30, 220], [250, 250, 250]] * 2, np.uint8)[:, None, None]
    write_video(tmp_path / "x.mp4", clip, fps=8)
    assert np.abs(read_clip(tmp_path / "x.mp4").astype(int) - clip).max() <= 4


@pytest.mark.parametrize(("height", "width"), [(31, 33), (32, 33), (31, 32), (1, 1)])
def test_odd_sizes_repeat_the_last_row_and_column_in_h264(tmp_path, height, width):
    clip = moving(4, height, width)
    write_video(tmp_path / "x.mp4", clip, fps=8)
    back = read_clip(tmp_path / "x.mp4").astype(int)
    assert back.shape[1:3] == (height + height % 2, width + width % 2)
    assert np.abs(back[:, :height, :width] - clip).max() < 30
    assert np.abs(back[:, -1, :] - back[:, height - 1, :]).max() < 30
    assert np.abs(back[:, :, -1] - back[:, :, width - 1]).max() < 30


def test_long_clips_leave_room_for_their_index(tmp_path):
    rng = np.random.default_rng(0)
    clip = rng.integers(0, 256, (600, 16, 16, 3), dtype=np.uint8)
    write_video(tmp_path / "x.mp4", clip, fps=30)
    assert probe(tmp_path / "x.mp4", thorough=True).n_frames == 600


def test_gif_moves_at_the_rate_asked_for(tmp_path):
    write_video(tmp_path / "x.gif", moving(10), fps=10, codec="gif")
    with Image.open(tmp_path / "x.gif") as image:
        assert (image.n_frames, image.info["duration"]) == (10, 100)
        image.seek(9)
        last = np.asarray(image.convert("RGB"))
    assert np.abs(last.astype(int) - moving(10)[9]).mean() < 8
    with pytest.raises(UserError, match="at most 50 frames a second"):
        write_video(tmp_path / "fast.gif", moving(), fps=60, codec="gif")


def test_png_folder_holds_every_frame(tmp_path):
    for clip in (moving(12), moving(5)):
        write_video(tmp_path / "frames", clip, fps=8, codec="png")
        names = sorted(file.name for file in (tmp_path / "frames").iterdir())
        assert names == [f"{i:06d}.png" for i in range(len(clip))]
        assert np.array_equal(np.stack([np.asarray(Image.open(tmp_path / "frames" / name)) for name in names]), clip)
    (tmp_path / "frames" / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="other files than frames"):
        write_video(tmp_path / "frames", moving(), fps=8, codec="png")
    assert (tmp_path / "frames" / "notes.txt").read_text() == "mine"


def test_clips_that_are_views_are_written_as_they_look(tmp_path):
    clip = moving(12, 40, 40)[::-2, ::2, ::-1]
    write_video(tmp_path / "x.avi", clip, fps=8, codec="ffv1")
    assert np.array_equal(read_clip(tmp_path / "x.avi"), clip)


@pytest.mark.parametrize(
    ("name", "codec", "said"),
    [
        ("x.avi", "h264", r"\.mp4 or \.mov"),
        ("x.mp4", "ffv1", r"\.avi or \.mkv"),
        ("x", "gif", r"\.gif"),
        ("x.mp4", "h265", "unknown video codec 'h265'; known: h264, ffv1, gif, png"),
    ],
)
def test_codec_and_suffix_have_to_agree(tmp_path, name, codec, said):
    with pytest.raises(UserError, match=said):
        write_video(tmp_path / name, moving(), fps=8, codec=codec)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("shape", [(0, 8, 8, 3), (4, 8, 8), (4, 8, 8, 4), (4, 0, 8, 3)])
def test_what_is_no_clip_is_our_own_mistake(tmp_path, shape):
    with pytest.raises(ValueError, match="expected uint8"):
        write_video(tmp_path / "x.mp4", np.zeros(shape, np.uint8), fps=8)
    with pytest.raises(ValueError, match="expected uint8"):
        write_video(tmp_path / "x.mp4", np.zeros((4, 8, 8, 3), np.float32), fps=8)
    with pytest.raises(ValueError, match="frames per second"):
        write_video(tmp_path / "x.mp4", moving(), fps=0)


@pytest.mark.parametrize("codec", ["h264", "png"])
@pytest.mark.parametrize("place", ["missing/x.mp4", "file/x.mp4"])
def test_a_place_that_cannot_be_written_is_one_line(tmp_path, place, codec):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match=r"cannot write .*x\.mp4: .*; make room, or choose another place"):
        write_video(tmp_path / place, moving(), fps=8, codec=codec)
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


def test_sizes_that_ffmpeg_cannot_write_are_one_line(tmp_path):
    with pytest.raises(UserError, match=r"cannot write 1x1 as ffv1 .*; choose another codec or size"):
        write_video(tmp_path / "x.avi", moving(2, 1, 1), fps=8, codec="ffv1")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("codec", "name"), [("h264", "x.mp4"), ("ffv1", "x.avi"), ("gif", "x.gif"), ("png", "x")])
def test_a_full_disk_leaves_the_old_file_and_no_part_of_the_new(tmp_path, codec, name):
    write_video(tmp_path / name, moving(2, 8, 8), fps=8, codec=codec)
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    code = f"""
import resource, sys
import numpy as np
from cogvideo.errors import UserError
from cogvideo.video import write_video
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, {resource.RLIM_INFINITY}))
clip = np.random.default_rng(0).integers(0, 256, (8, 64, 64, 3), dtype=np.uint8)
try:
    write_video({os.fspath(tmp_path / name)!r}, clip, fps=8, codec={codec!r})
except UserError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"cannot write {tmp_path / name}: File too large; make room")
    assert done.stderr == ""
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before
