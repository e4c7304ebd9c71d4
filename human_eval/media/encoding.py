"""Clips -> videos that are alike in everything but their pictures: size, rate, length, and every byte count.

All clips of a set are encoded with the same settings; SEI units (where x264 writes its name and options) are left out;
picture k of each video is filled up to the largest picture k of the set, so that the index tells nothing either.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction

import av
import numpy as np
from av import VideoFrame
from av.codec.context import Flags
from av.video.codeccontext import VideoCodecContext
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter

from cogvideo.errors import UserError
from cogvideo.video import Clip
from human_eval.media.mp4 import PARAMETERS, SLICES, Picture, Track, units, write_mp4

LEAST_SIDE = 256
MOST_SIDE = 1280
MOST_SECONDS = 60
MOST_BYTES = 30_000_000


def encode_alike(clips: Mapping[str, Clip], rate: Fraction, quality: int = 16) -> dict[str, bytes]:
    """MP4 files of clips (T, H, W, 3) uint8 of one shape, all of the same length in bytes.

    H.264 main profile, yuv420p, no B-pictures, index first. Raises UserError where the shapes differ or a video would
    be longer than a browser should be asked to load (60 s, 30 MB).
    """
    shapes = {clip.shape for clip in clips.values()}
    if len(shapes) != 1:
        raise UserError(f"videos of one page have to have one shape, got {sorted(shapes)}; give media.size and seconds")
    (shape,) = shapes
    if shape[0] / rate > MOST_SECONDS:
        raise UserError(f"a video lasts {float(shape[0] / rate):.0f} s, a page shows at most {MOST_SECONDS} s")
    tracks = {name: encode(clip, rate, quality) for name, clip in clips.items()}
    # A filler unit has six bytes at least, so every picture gets one, the largest too.
    largest = (max(track.pictures[k].size for track in tracks.values()) for k in range(shape[0]))
    sizes = [size + 6 for size in largest]
    if sum(sizes) > MOST_BYTES:
        raise UserError(
            f"a video would have {sum(sizes) / 1e6:.0f} MB, at most {MOST_BYTES / 1e6:.0f} are served; "
            "set media.size, media.seconds or a higher media.quality number"
        )
    return {name: write_mp4(track, sizes) for name, track in tracks.items()}


def encode(clip_THWC: Clip, rate: Fraction, quality: int) -> Track:
    """One clip as H.264 pictures without any unit that is neither parameters nor picture."""
    n, height, width, _ = clip_THWC.shape
    context = av.CodecContext.create("libx264", "w")
    assert isinstance(context, VideoCodecContext)
    context.width, context.height, context.pix_fmt = width, height, "yuv420p"
    context.framerate, context.time_base = rate, 1 / rate
    context.thread_count = 1
    context.flags |= Flags.bitexact
    context.color_range, context.colorspace = ColorRange.MPEG, Colorspace.ITU601
    context.options = {
        "preset": "medium",
        "crf": str(quality),
        "profile": "main",
        # The level follows from the shape; a fixed key distance and no B-pictures keep the index the same.
        "x264-params": f"bframes=0:keyint={max(1, n)}:min-keyint={max(1, n)}:scenecut=0:ref=2:aud=0:repeat-headers=1",
    }
    convert = VideoReformatter()
    data: list[list[bytes]] = []
    for k, pixels in enumerate(clip_THWC):
        frame = convert.reformat(
            VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24"),
            format="yuv420p",
            dst_colorspace=Colorspace.ITU601,
            dst_color_range=ColorRange.MPEG,
            threads=1,
        )
        frame.pts, frame.time_base = k, 1 / rate
        data += [units(bytes(packet)) for packet in context.encode(frame)]
    data += [units(bytes(packet)) for packet in context.encode(None)]
    sets = [unit for unit in (part for packet in data for part in packet) if unit[0] & 31 in PARAMETERS]
    sequence = next(unit for unit in sets if unit[0] & 31 == 7)
    picture = next(unit for unit in sets if unit[0] & 31 == 8)
    pictures = tuple(Picture(tuple(unit for unit in packet if unit[0] & 31 in SLICES)) for packet in data)
    assert len(pictures) == n
    return Track(width, height, rate, sequence, picture, pictures)


def target_size(sizes: Sequence[tuple[int, int]], longest: int = 0) -> tuple[int, int]:
    """(height, width) that all clips of a study are shown at: the largest area, at least 256 and at most 1280 (or
    `longest`) on the longer side, even."""
    height, width = max(sizes, key=lambda size: (size[0] * size[1], size))
    side = longest or min(max(height, width, LEAST_SIDE), MOST_SIDE)
    scale = Fraction(side, max(height, width))
    return tuple(max(2, round(length * scale / 2) * 2) for length in (height, width))  # type: ignore[return-value]


def fit(clip_THWC: Clip, height: int, width: int) -> Clip:
    """The clip at a size: cut in the middle to the shape, then resized (bicubic), so that nobody sees bars."""
    _, h, w, _ = clip_THWC.shape
    if h * width > w * height:
        keep = max(1, round(w * height / width))
        clip_THWC = clip_THWC[:, (h - keep) // 2 : (h - keep) // 2 + keep]
    elif h * width < w * height:
        keep = max(1, round(h * width / height))
        clip_THWC = clip_THWC[:, :, (w - keep) // 2 : (w - keep) // 2 + keep]
    if clip_THWC.shape[1:3] == (height, width):
        return clip_THWC
    convert = VideoReformatter()
    return np.stack(
        [
            convert.reformat(
                VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24"),
                width=width,
                height=height,
                format="rgb24",
                interpolation=Interpolation.BICUBIC,
                threads=1,
            ).to_ndarray()
            for pixels in clip_THWC
        ]
    )


def in_time(clip_THWC: Clip, rate: Fraction, target: Fraction, frames: int) -> Clip:
    """The first `frames` frames at another rate: at each moment the frame that is on show then."""
    index = [min(len(clip_THWC) - 1, int(k * rate / target)) for k in range(frames)]
    return clip_THWC[index]
