"""Clip -> video file, whole or not at all: encoded in memory, written under another name, then renamed.

The same clip gives the same bytes (one thread, no dates, no names of encoders) on the same FFmpeg.
"""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from uuid import uuid4

import av
import numpy as np
from av import CodecContext, VideoFrame
from av.codec.codec import UnknownCodecError
from av.codec.context import Flags
from av.video.codeccontext import VideoCodecContext
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter
from av.video.stream import VideoStream

from cogvideo.errors import UserError
from cogvideo.video.opening import Clip
from cogvideo.video.pixels import filter_graph


@dataclass(frozen=True)
class _Recipe:
    """How one codec is written: file suffix -> FFmpeg's name of the container."""

    containers: dict[str, str]
    encode: Callable[[Clip, Fraction, str], bytes]


def write_video(path: str | os.PathLike[str], clip_THWC: Clip, *, fps: float | Fraction, codec: str = "h264") -> None:
    """Write a clip (T, H, W, 3) uint8 RGB.

    "h264": .mp4 for people and browsers (yuv420p, BT.601, index at the front); an odd height or width is made even
    by repeating the last row or column. "ffv1": .avi or .mkv, lossless: `read_clip` gives the same pixels.
    "gif": 256 colours, at most 50 fps, times rounded to 1/100 s. "png": a folder of 000000.png, 000001.png, ...
    Raises UserError when the file cannot be written (nothing half-written stays) or the suffix does not fit.
    """
    if clip_THWC.dtype != np.uint8 or clip_THWC.ndim != 4 or clip_THWC.shape[-1] != 3 or 0 in clip_THWC.shape:
        raise ValueError(f"expected uint8 (T, H, W, 3), got {clip_THWC.dtype} {clip_THWC.shape}")
    rate = Fraction(fps).limit_denominator(1001)
    if rate <= 0:
        raise ValueError(f"expected frames per second above 0, got {fps}")
    target = Path(path)
    if codec == "png":
        _write_pictures(target, clip_THWC)
        return
    if codec not in _RECIPES:
        raise UserError(f"unknown video codec {codec!r}; known: {', '.join([*_RECIPES, 'png'])}")
    recipe = _RECIPES[codec]
    container = recipe.containers.get(target.suffix.lower())
    if container is None:
        raise UserError(f"{target}: {codec} is written to {' or '.join(recipe.containers)} files; change the suffix")
    try:
        data = recipe.encode(clip_THWC, rate, container)
    except (av.FFmpegError, UnknownCodecError) as error:
        _, height, width, _ = clip_THWC.shape
        raise UserError(
            f"{target}: this FFmpeg cannot write {width}x{height} as {codec} ({error}); choose another codec or size"
        ) from None
    with _written_whole(target) as temporary:
        temporary.write_bytes(data)


def encode_mp4(clip_THWC: Clip, *, fps: float | Fraction, quality: int = 16) -> bytes:
    """The bytes of the .mp4 that `write_video` would write, at another `quality` (x264's crf: 16 good, 40 small).

    Raises UserError when this FFmpeg cannot write a clip of that shape.
    """
    try:
        return _encode_h264(clip_THWC, Fraction(fps).limit_denominator(1001), "mp4", quality)
    except (av.FFmpegError, UnknownCodecError) as error:
        _, height, width, _ = clip_THWC.shape
        raise UserError(f"this FFmpeg cannot write {width}x{height} as h264 ({error}); choose another size") from None


def _encode_h264(clip_THWC: Clip, rate: Fraction, container: str, quality: int = 16) -> bytes:
    n, height, width, _ = clip_THWC.shape
    even_THWC = np.pad(clip_THWC, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    frames = _frames(even_THWC, "yuv420p")
    # Room for the index before the pictures, so that a player can start at once: under 64 bytes a frame.
    options = {"moov_size": str(2048 + 64 * n)}
    # Without macroblock trees, whose code for x86 reads memory that nobody wrote: the bytes would differ by chance.
    encoder = {"preset": "veryfast", "crf": str(quality), "mbtree": "0"}
    return _encode(frames, "libx264", "yuv420p", rate, container, options, encoder)


def _encode_ffv1(clip_THWC: Clip, rate: Fraction, container: str) -> bytes:
    # Level 3 with checksums: damage is noticed when reading.
    encoder = {"level": "3", "slices": "4", "slicecrc": "1", "g": "1"}
    return _encode(_frames(clip_THWC, "bgr0"), "ffv1", "bgr0", rate, container, {}, encoder)


def _encode_gif(clip_THWC: Clip, rate: Fraction, container: str) -> bytes:
    if rate > 50:
        raise UserError(f"a GIF shows at most 50 frames a second, {float(rate):g} were asked for; write an .mp4")
    return _encode(_with_palette(clip_THWC, rate), "gif", "pal8", rate, container, {}, {})


_RECIPES = {
    "h264": _Recipe({".mp4": "mp4", ".mov": "mov"}, _encode_h264),
    "ffv1": _Recipe({".avi": "avi", ".mkv": "matroska"}, _encode_ffv1),
    "gif": _Recipe({".gif": "gif"}, _encode_gif),
}


def _frames(clip_THWC: Clip, pixel_format: str) -> Iterator[VideoFrame]:
    convert = VideoReformatter()
    for picture in clip_THWC:
        rgb = VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
        if pixel_format == "yuv420p":
            yield convert.reformat(
                rgb,
                format=pixel_format,
                dst_colorspace=Colorspace.ITU601,
                dst_color_range=ColorRange.MPEG,
                threads=1,
            )
        else:
            yield rgb if pixel_format == "rgb24" else convert.reformat(rgb, format=pixel_format, threads=1)


def _encode(
    frames: Iterator[VideoFrame],
    codec: str,
    pixel_format: str,
    rate: Fraction,
    container: str,
    options: dict[str, str],
    encoder_options: dict[str, str],
) -> bytes:
    buffer = io.BytesIO()
    first = next(frames)
    with av.open(buffer, "w", format=container, options={"fflags": "bitexact", **options}) as out:
        stream = out.add_stream(codec, rate=rate, options=encoder_options)
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = first.width, first.height, pixel_format
        context = stream.codec_context
        context.thread_count = 1
        context.flags |= Flags.bitexact
        context.time_base = 1 / rate
        if pixel_format == "yuv420p":
            context.color_range, context.colorspace = first.color_range, first.colorspace
        for index, frame in enumerate((first, *frames)):
            frame.pts, frame.time_base = index, 1 / rate
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return buffer.getvalue()


def _with_palette(clip_THWC: Clip, rate: Fraction) -> Iterator[VideoFrame]:
    """The frames in 256 colours, chosen over the whole clip."""
    graph = filter_graph()
    _, height, width, _ = clip_THWC.shape
    rgb = av.VideoFormat("rgb24", width, height)
    source = graph.add_buffer(width=width, height=height, format=rgb, time_base=1 / rate)
    split, colours, paint, sink = (graph.add(name) for name in ("split", "palettegen", "paletteuse", "buffersink"))
    source.link_to(split)
    split.link_to(paint, 0, 0)
    split.link_to(colours, 1, 0)
    colours.link_to(paint, 0, 1)
    paint.link_to(sink)
    graph.configure()
    for index, frame in enumerate(_frames(clip_THWC, "rgb24")):
        frame.pts, frame.time_base = index, 1 / rate
        graph.vpush(frame)
    graph.vpush(None)
    for _ in range(len(clip_THWC)):
        yield graph.vpull()


def _write_pictures(folder: Path, clip_THWC: Clip) -> None:
    if folder.is_dir() and any(not (file.stem.isdigit() and file.suffix == ".png") for file in folder.iterdir()):
        raise UserError(f"{folder} holds other files than frames; choose a folder that does not exist yet")
    with _written_whole(folder) as temporary:
        temporary.mkdir()
        for index, frame in enumerate(_frames(clip_THWC, "rgb24")):
            encoder = CodecContext.create("png", "w")
            assert isinstance(encoder, VideoCodecContext)
            encoder.width, encoder.height, encoder.pix_fmt = frame.width, frame.height, "rgb24"
            encoder.time_base = Fraction(1, 25)
            encoder.thread_count = 1
            frame.pts = 0
            packets = [*encoder.encode(frame), *encoder.encode()]
            (temporary / f"{index:06d}.png").write_bytes(b"".join(bytes(packet) for packet in packets))


@contextmanager
def _written_whole(target: Path) -> Iterator[Path]:
    """A name beside the target that takes its place when all went well, and vanishes when not."""
    temporary = target.with_name(f".{target.name}.{uuid4().hex}.part")
    try:
        yield temporary
        if temporary.is_dir() and target.is_dir():
            shutil.rmtree(target)
        temporary.replace(target)
    except OSError as error:
        raise UserError(
            f"cannot write {target}: {error.strerror or error}; make room, or choose another place that can be written"
        ) from None
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            with suppress(OSError):
                temporary.unlink()
