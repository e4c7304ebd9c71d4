"""Frames are counted by a number that is drawn into each picture; colours are checked against the standards."""

import os
import pickle
import subprocess
import sys
import wave
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from cogvideo.errors import UserError
from cogvideo.video import VideoError, probe, read_clip


def numbered(n, height=48, width=64, step=2):
    """Pictures whose mean tells their number."""
    clip = np.zeros((n, height, width, 3), np.uint8)
    clip += (np.arange(n) * step).astype(np.uint8)[:, None, None, None]
    clip[:, : height // 4, : width // 4] //= 2
    return clip


def encode(path, clip, *, codec="ffv1", pixel_format="bgr0", rate=25, stamps=None, **options):
    """Written with PyAV alone, so that the reader is not tested against our own writer."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=rate, options=options)
        stream.width, stream.height, stream.pix_fmt = clip.shape[2], clip.shape[1], pixel_format
        for i, picture in enumerate(clip):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format=pixel_format)
            frame.pts = i if stamps is None else stamps[i]
            if stamps is not None:
                frame.time_base = Fraction(1, 1000)
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return path


def plain_loop(path):
    """Every frame, the way a tutorial does it."""
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def numbers(clip):
    return (clip[:, -1, -1, 0] // 2).tolist()


@pytest.fixture(scope="module")
def lossless(tmp_path_factory):
    return encode(tmp_path_factory.mktemp("video") / "numbered.mkv", numbered(100))


@pytest.fixture(scope="module")
def noisy_h264(tmp_path_factory):
    """B-frames, five groups of pictures, and content that no two frames share."""
    rng = np.random.default_rng(1)
    clip = numbered(100) + rng.integers(0, 40, (100, 48, 64, 3), dtype=np.uint8)
    folder = tmp_path_factory.mktemp("video")
    return encode(folder / "b.mp4", clip, codec="libx264", pixel_format="yuv420p", g="20", bf="3", **{"b-pyramid": "2"})


@pytest.mark.parametrize(
    ("start", "frames", "stride"),
    [(0, 16, 1), (0, 16, 4), (5, 3, 7), (60, 10, 1), (99, 1, 1), (30, 7, 10), (24, 2, 75)],
)
def test_the_frames_asked_for_come(lossless, start, frames, stride):
    clip = read_clip(lossless, start=start, frames=frames, stride=stride)
    assert clip.dtype == np.uint8
    assert np.array_equal(clip, numbered(100)[start : start + frames * stride : stride])


def test_all_frames_without_a_number(lossless):
    assert np.array_equal(read_clip(lossless), numbered(100))
    assert numbers(read_clip(lossless, start=40, stride=30)) == [40, 70]
    assert numbers(read_clip(lossless, start=4, stride=90)) == [4, 94]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi"])
@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
def test_a_late_start_gives_the_same_bits_as_decoding_everything(tmp_path, codec, suffix):
    rng = np.random.default_rng(2)
    clip = numbered(90) + rng.integers(0, 40, (90, 48, 64, 3), dtype=np.uint8)
    path = encode(tmp_path / f"x{suffix}", clip, codec=codec, pixel_format="yuv420p", g="12", bf="2")
    everything = plain_loop(path)
    assert len(everything) == 90
    for start in (24, 25, 35, 36, 37, 47, 48, 60, 71, 88, 89):
        assert np.array_equal(read_clip(path, start=start, frames=1)[0], everything[start]), start
    assert np.array_equal(read_clip(path, start=30, frames=10, stride=6), everything[30::6][:10])


def test_a_stream_that_refreshes_row_by_row_has_no_place_to_start(tmp_path):
    rng = np.random.default_rng(2)
    clip = numbered(80) + rng.integers(0, 40, (80, 48, 64, 3), dtype=np.uint8)
    options = {"x264-params": "intra-refresh=1:keyint=12"}
    path = encode(tmp_path / "x.mp4", clip, codec="libx264", pixel_format="yuv420p", **options)
    everything = plain_loop(path)
    for start in (30, 50, 75, 79):
        assert np.array_equal(read_clip(path, start=start, frames=1)[0], everything[start]), start


def test_a_late_start_does_not_decode_what_comes_before(noisy_h264, monkeypatch):
    from cogvideo.video import reading

    converted = []
    jumped = reading._jump
    monkeypatch.setattr(
        reading, "_jump", lambda *args: (pair for pair in jumped(*args) if converted.append(pair[0]) is None)
    )
    clip = read_clip(noisy_h264, start=67, frames=2)
    assert 40 <= converted[0] <= 67
    assert len(converted) < 30
    assert np.array_equal(clip, plain_loop(noisy_h264)[67:69])


def test_timestamps_that_disagree_with_the_frames_mean_decoding_from_the_start(noisy_h264, monkeypatch):
    from dataclasses import replace

    from cogvideo.video import reading

    real = reading.read_timeline
    monkeypatch.setattr(
        reading, "read_timeline", lambda source: replace(real(source), pts=tuple(p + 7 for p in real(source).pts))
    )
    monkeypatch.setattr(reading.Timeline, "key_before", lambda self, index: (40, 0, 0))
    assert np.array_equal(read_clip(noisy_h264, start=67, frames=2), plain_loop(noisy_h264)[67:69])


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi"])
def test_resampling_takes_the_frame_on_show(tmp_path, suffix):
    codec = {"codec": "libx264", "pixel_format": "yuv420p", "qp": "1"} if suffix == ".mp4" else {}
    path = encode(tmp_path / f"thirty{suffix}", numbered(60, step=4), rate=30, **codec)

    def shown(**asked):
        return [round(n) for n in read_clip(path, **asked)[:, -1, -1, 0] / 4]

    # At 8 frames a second every 3.75th frame of 30 is on show, whatever clock the container has.
    assert shown(frames=8, fps=8) == [int(k * 30 / 8) for k in range(8)]
    assert shown(start=31, frames=4, fps=8, stride=2) == [31 + int(k * 7.5) for k in range(4)]
    assert shown(frames=60, fps=30) == list(range(60))
    assert shown(fps=30) == list(range(60))
    assert shown(frames=6, fps=60) == [0, 0, 1, 1, 2, 2]


def test_resampling_follows_uneven_timestamps(tmp_path):
    stamps = [0, 40, 80, 480, 520, 1000, 1040]
    path = encode(tmp_path / "uneven.mkv", numbered(7), stamps=stamps)
    assert numbers(read_clip(path, frames=5, fps=4)) == [0, 2, 3, 4, 5]
    assert probe(path).is_variable_rate
    assert not probe(encode(tmp_path / "even.mkv", numbered(7), rate=30)).is_variable_rate


def test_too_few_frames_is_an_error_and_nothing_is_repeated(lossless):
    for asked in ({"frames": 101}, {"start": 95, "frames": 6}, {"frames": 16, "stride": 7}, {"start": 100}):
        with pytest.raises(VideoError, match=r"numbered\.mkv has 100 frames") as caught:
            read_clip(lossless, **asked)
        assert caught.value.reason == "too-short"
    assert len(read_clip(lossless, frames=32, fps=8)) == 32
    with pytest.raises(VideoError, match="33 frames at 8 fps") as caught:
        read_clip(lossless, frames=33, fps=8)
    assert caught.value.reason == "too-short"


@pytest.mark.parametrize("wrong", [{"start": -1}, {"frames": 0}, {"stride": 0}, {"fps": 0}])
def test_arguments_out_of_range_are_our_own_mistake(lossless, wrong):
    with pytest.raises(ValueError, match="out of range"):
        read_clip(lossless, **wrong)


@pytest.mark.parametrize(
    ("matrix", "full", "kr", "kb"),
    [(5, False, 0.299, 0.114), (2, False, 0.299, 0.114), (1, False, 0.2126, 0.0722), (1, True, 0.2126, 0.0722)],
    ids=["bt601", "untagged", "bt709", "bt709-full"],
)
@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv444p", "yuv420p10le"])
def test_colours_follow_the_tags_of_the_file(tmp_path, matrix, full, kr, kb, pixel_format):
    colours = [(90, 110, 170), (140, 80, 150), (60, 160, 100), (200, 128, 128), (16, 128, 128)]
    path = tmp_path / "colours.mkv"
    scale = 4 if pixel_format.endswith("10le") else 1
    with av.open(str(path), "w") as out:
        stream = out.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 32, 32, pixel_format
        stream.codec_context.colorspace = matrix
        stream.codec_context.color_range = 2 if full else 1
        for i, yuv in enumerate(colours):
            frame = av.VideoFrame(32, 32, pixel_format)
            frame.colorspace, frame.color_range, frame.pts = matrix, 2 if full else 1, i
            for plane, value in zip(frame.planes, yuv, strict=True):
                dtype = np.uint16 if scale > 1 else np.uint8
                plane.update(np.full(plane.buffer_size // dtype().itemsize, value * scale, dtype))
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    clip = read_clip(path)
    for picture, (y, u, v) in zip(clip, colours, strict=True):
        assert (picture == picture[0, 0]).all()
        light = y / 255 if full else (y - 16) / 219
        blue, red = ((c - 128) / (255 if full else 224) * 2 for c in (u, v))
        r, b = light + red * (1 - kr), light + blue * (1 - kb)
        g = (light - kr * r - kb * b) / (1 - kr - kb)
        expected = np.clip(np.array([r, g, b]) * 255, 0, 255)
        assert np.abs(picture[0, 0] - expected).max() <= 3.0


@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv422p", "yuv444p", "yuv420p10le", "gray", "bgr0", "yuva420p"])
@pytest.mark.parametrize("size", [(48, 64), (31, 33), (32, 31)])
def test_pixels_are_those_of_ffmpegs_own_scale_filter(tmp_path, pixel_format, size):
    height, width = size
    rng = np.random.default_rng(3)
    clip = rng.integers(0, 256, (2, height // 4 + 1, width // 4 + 1, 3), dtype=np.uint8)
    clip = np.ascontiguousarray(clip.repeat(4, 1).repeat(4, 2)[:, :height, :width])
    path = encode(tmp_path / "x.mkv", clip, pixel_format=pixel_format)
    graph = av.filter.Graph()
    with av.open(str(path)) as container:
        source = graph.add_buffer(template=container.streams.video[0])
        graph.link_nodes(source, graph.add("scale"), graph.add("format", "pix_fmts=rgb24"), graph.add("buffersink"))
        graph.configure()
        expected = []
        for frame in container.decode(video=0):
            graph.push(frame)
            expected.append(graph.pull().to_ndarray())
    assert np.array_equal(read_clip(path), np.stack(expected))


def test_a_size_that_changes_is_refused(tmp_path):
    path = tmp_path / "changes.h264"
    data = b""
    for size in (64, 96):
        with av.open(str(tmp_path / f"{size}.h264"), "w", format="h264") as out:
            stream = out.add_stream("libx264", rate=25)
            stream.width = stream.height = size
            stream.pix_fmt = "yuv420p"
            for picture in numbered(3, size, size):
                out.mux(stream.encode(av.VideoFrame.from_ndarray(picture)))
            out.mux(stream.encode())
        data += (tmp_path / f"{size}.h264").read_bytes()
    path.write_bytes(data)
    assert len(read_clip(path, frames=3)) == 3
    with pytest.raises(VideoError, match="changes its size from 64x64 to 96x96 at frame 3") as caught:
        read_clip(path)
    assert caught.value.reason == "size-changes"


def test_decoding_workers_load_no_torch():
    code = (
        "import sys; import cogvideo.video; "
        "print(sorted({m.split('.')[0] for m in sys.modules} & {'torch', 'pandas', 'scipy', 'eval', 'pydantic'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_errors_come_back_from_worker_processes(tmp_path):
    with pytest.raises(VideoError) as caught:
        read_clip(tmp_path / "nothing.mp4")
    again = pickle.loads(pickle.dumps(caught.value))
    assert (str(again), again.reason, again.exit_code) == (str(caught.value), "missing", 2)


def refused(tmp_path, lossless, noisy_h264):
    """Name of a bad file -> the reason that is expected."""

    def make(name, data):
        path = tmp_path / name
        path.write_bytes(data)
        return path

    good, h264 = lossless.read_bytes(), noisy_h264.read_bytes()
    sound = tmp_path / "sound.wav"
    with wave.open(str(sound), "wb") as out:
        out.setparams((1, 2, 8000, 0, "NONE", ""))
        out.writeframes(bytes(16_000))
    (tmp_path / "folder.mp4").mkdir()
    gif = encode(tmp_path / "whole.gif", numbered(20), codec="gif", pixel_format="rgb8").read_bytes()
    avi = encode(tmp_path / "whole.avi", numbered(20)).read_bytes()
    playlist = f"#EXTM3U\n#EXTINF:1,\n{lossless}\n#EXT-X-ENDLIST\n".encode()
    middle = len(good) // 2
    return {
        tmp_path / "none.mp4": "missing",
        tmp_path / "folder.mp4": "is-a-folder",
        make("empty.mp4", b""): "empty-file",
        make("noise.avi", np.random.default_rng(0).bytes(50_000)): "not-a-video",
        make("text.txt", b"hello\n" * 100): "not-a-video",
        make("list.m3u8", playlist): "not-a-video",
        make("list.mp4", playlist): "not-a-video",
        sound: "no-video-stream",
        make("half.mp4", h264[: len(h264) // 2]): "truncated",
        make("half.mkv", good[:middle]): "truncated",
        make("half.avi", avi[: len(avi) // 2]): "truncated",
        make("half.gif", gif[: len(gif) // 2]): "truncated",
        make("flipped.mkv", good[:middle] + bytes(255 - x for x in good[middle : middle + 64]) + good[middle + 64 :]): (
            "damaged"
        ),
    }


def test_every_bad_file_is_refused_with_one_line(tmp_path, lossless, noisy_h264, capfd):
    for path, reason in refused(tmp_path, lossless, noisy_h264).items():
        with pytest.raises(UserError) as caught:
            probe(path, thorough=True)
        assert caught.value.reason == reason, (path, str(caught.value))
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)
        if reason not in ("truncated", "damaged"):
            for look in (probe, read_clip, lambda p: probe(p, count=False)):
                with pytest.raises(UserError) as caught:
                    look(path)
                assert caught.value.reason == reason
    printed = capfd.readouterr()
    assert printed.out + printed.err == ""


def test_what_lies_before_the_damage_can_be_read(tmp_path, lossless):
    good = lossless.read_bytes()
    path = tmp_path / "half.mkv"
    path.write_bytes(good[: len(good) // 2])
    assert np.array_equal(read_clip(path, frames=16), numbered(100)[:16])
    with pytest.raises(VideoError, match="cut short after") as caught:
        read_clip(path, frames=100)
    assert caught.value.reason == "truncated"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_rights_is_refused(tmp_path, lossless):
    path = tmp_path / "locked.mkv"
    path.write_bytes(lossless.read_bytes())
    path.chmod(0)
    with pytest.raises(VideoError, match="check the rights"):
        probe(path)


def test_probe_tells_what_is_in_the_file(lossless, noisy_h264, tmp_path):
    info = probe(noisy_h264)
    assert (info.width, info.height, info.fps, info.n_frames, info.codec) == (64, 48, 25, 100, "h264")
    assert (info.pixel_format, info.rotation, info.has_audio, info.is_decoded) == ("yuv420p", 0, False, False)
    assert info.duration_s == pytest.approx(4.0)
    assert isinstance(info.fps, Fraction)
    assert isinstance(info.path, Path)
    assert probe(noisy_h264, thorough=True).is_decoded
    # B-frames in AVI: what is a frame is known after decoding only.
    avi = encode(tmp_path / "b.avi", numbered(30), codec="mpeg4", pixel_format="yuv420p", bf="2")
    assert (probe(avi).n_frames, probe(avi).is_decoded) == (30, True)
    assert probe(lossless, count=False).n_frames == 0


def test_a_path_with_a_colon_is_a_path(lossless, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("file:a 100%.mkv").write_bytes(lossless.read_bytes())
    assert probe("file:a 100%.mkv").n_frames == 100
