"""Real files from many encoders: each decodes as the table beside them says, or is refused in one line.

The folder is $COGEVAL_CLIPS_DIR, or ../shared/clips beside the repository.
"""

import os
import re
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
import pytest

from cogvideo.video import VideoError, probe, read_clip

ROOT = Path(os.environ.get("COGEVAL_CLIPS_DIR") or Path(__file__).resolve().parents[2] / ".." / "shared" / "clips")
ALIASES = {"libdav1d": "av1"}


class Row(NamedTuple):
    path: Path
    codec: str = ""
    width: int = 0
    height: int = 0
    fps: Fraction = Fraction(0)
    frames: int = 0


def table():
    """The rows of the README's table; a file that is said not to decode has no codec."""
    readme = ROOT / "README.md"
    lines = readme.read_text(encoding="utf-8").splitlines() if readme.is_file() else []
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    for row in cells:
        if not (ROOT / row[0]).is_file():
            continue
        found = re.fullmatch(r"(\S+) (\d+)x(\d+) (\S+) (\d+)", row[4])
        if found:
            codec, width, height, fps, frames = found.groups()
            yield Row(ROOT / row[0], ALIASES.get(codec, codec), int(width), int(height), Fraction(fps), int(frames))
        else:
            yield Row(ROOT / row[0])


ROWS = list(table())
GOOD = [row for row in ROWS if row.codec]
BAD = [row for row in ROWS if not row.codec]

pytestmark = pytest.mark.skipif(not ROWS, reason=f"no clips with a README table in {ROOT}")


def name(row):
    return row.path.name if isinstance(row, Row) else None


@pytest.mark.parametrize("row", GOOD, ids=name)
def test_a_file_holds_what_its_row_says(row):
    for thorough in (False, True):
        info = probe(row.path, thorough=thorough)
        assert (info.codec, info.width, info.height, info.fps) == (row.codec, row.width, row.height, row.fps)
        assert info.n_frames == row.frames
    assert info.duration_s == pytest.approx(float(row.frames / row.fps), rel=0.05)


@pytest.mark.parametrize("row", GOOD, ids=name)
def test_frames_are_the_same_wherever_reading_starts(row):
    rng = np.random.default_rng(sum(row.path.name.encode()))
    with av.open(str(row.path)) as container:
        # Without jumps and with FFmpeg's own threads.
        end = min(row.frames, 90)
        wanted = sorted({0, end - 1, *rng.integers(0, end, 3).tolist()})
        frames = enumerate(islice(container.decode(container.streams.video[0]), end))
        expected = {i: frame for i, frame in frames if i in wanted}
    for i in wanted:
        clip = read_clip(row.path, start=i, frames=1)
        assert clip.shape == (1, row.height, row.width, 3)
        if not expected[i].format.name.endswith("10le"):
            assert np.array_equal(clip[0], expected[i].to_ndarray(format="rgb24"))
        else:
            # PyAV interpolates chroma as if it lay elsewhere: the same picture, not the same bits.
            assert np.abs(clip[0].astype(int) - expected[i].to_ndarray(format="rgb24")).mean() < 4
    with pytest.raises(VideoError) as caught:
        read_clip(row.path, start=row.frames - 1, frames=2)
    assert caught.value.reason == "too-short"


@pytest.mark.parametrize("row", GOOD, ids=name)
def test_resampling_at_the_files_own_rate_changes_nothing(row):
    frames = min(row.frames, 8)
    if probe(row.path).is_variable_rate:
        pytest.skip("its frames are not evenly spaced")
    assert np.array_equal(read_clip(row.path, frames=frames, fps=row.fps), read_clip(row.path, frames=frames))


@pytest.mark.parametrize("row", BAD, ids=name)
def test_a_file_that_does_not_decode_is_refused(row, capfd):
    for look in (read_clip, lambda path: probe(path, thorough=True)):
        with pytest.raises(VideoError) as caught:
            look(row.path)
        assert caught.value.reason in ("damaged", "truncated", "not-a-video")
        assert str(row.path.name) in str(caught.value)
        assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""


def by_name(wanted):
    found = [row for row in GOOD if row.path.name == wanted]
    if not found:
        pytest.skip(f"{wanted} is not there")
    return found[0]


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_rotation_is_told_and_not_applied(degrees):
    row = by_name(f"decord_video_{degrees}.mov")
    assert probe(row.path).rotation == degrees
    assert read_clip(row.path).shape == (row.frames, row.height, row.width, 3)


def test_the_first_of_two_video_streams_is_read():
    row = by_name("torchcodec_nasa_13013.mp4")
    with av.open(str(row.path)) as container:
        assert len(container.streams.video) > 1
        assert container.streams.best("video").index != container.streams.video[0].index
    assert read_clip(row.path, frames=1).shape[1:3] == (row.height, row.width)


def test_the_range_flag_is_obeyed():
    row = by_name("torchcodec_bt709_full_range.mp4")
    with av.open(str(row.path)) as container:
        frame = next(container.decode(container.streams.video[0]))
        light = frame.to_ndarray()[: row.height].astype(float)
    # Full range: where there is no colour, R = G = B = Y.
    rgb = read_clip(row.path, frames=1)[0].astype(float)
    weighted = rgb @ [0.2126, 0.7152, 0.0722]
    inside = (rgb.min(-1) > 4) & (rgb.max(-1) < 251)
    assert inside.any()
    assert np.abs(weighted - light)[inside].max() <= 2.5
