"""Video file -> clip: the frames that are asked for and no more.

Frames are counted as decoded, from 0. A late start jumps to the key frame before it when the timestamps say exactly
which frame that is, and the frames that come out are checked against them; else decoding starts at the beginning.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from itertools import count

import av
import numpy as np
from av import VideoFrame

from cogvideo.video.opening import Clip, Source, VideoError, broken, is_cut_short, open_video
from cogvideo.video.pixels import RgbConverter
from cogvideo.video.timeline import Timeline, read_timeline

# Walking over the packets and jumping costs about as much as decoding this many small frames.
_JUMP_FROM = 24


class _OutOfStepError(Exception):
    """The frames after a jump are not those that the timestamps announced."""


@dataclass(frozen=True)
class _Window:
    """What is asked for; see `read_clip`."""

    start: int
    frames: int | None
    stride: int
    fps: float | Fraction | None

    def __post_init__(self) -> None:
        is_valid = self.start >= 0 and self.stride >= 1 and (self.frames is None or self.frames >= 1)
        if not is_valid or (self.fps is not None and self.fps <= 0):
            raise ValueError(f"out of range: {self}")

    def indices(self, timeline: Timeline | None) -> Iterable[int]:
        """The frames to take; they never fall, may repeat, and may end early where a timeline was needed."""
        if self.fps is not None and timeline is not None:
            fps = Fraction(self.fps).limit_denominator(100_000) / self.stride
            return timeline.resample(self.start, fps, self.frames)
        if self.frames is None:
            return count(self.start, self.stride)
        return range(self.start, self.start + self.frames * self.stride, self.stride)

    def __str__(self) -> str:
        number = f"{self.frames or 'some'} frames"
        return number + f" at stride {self.stride}" * (self.stride > 1) + (f" at {self.fps} fps" if self.fps else "")


def read_clip(
    path: str | os.PathLike[str],
    *,
    start: int = 0,
    frames: int | None = None,
    stride: int = 1,
    fps: float | Fraction | None = None,
) -> Clip:
    """Frames `start`, `start + stride`, ... of a video as RGB, `frames` of them or (None) as many as there are.

    With `fps`, the frames that are on show at t(start) + k * stride / fps seconds; a frame is shown until the next
    one is, the last for as long as frames last on average.

    Returns uint8 (T, H, W, 3), as stored: rotation flags and sample aspect ratio are not applied. Pixels equal those
    of `ffmpeg -noautorotate -pix_fmt rgb24` (matrix and range of the file; BT.601 limited where it has no tag).
    Raises VideoError for a file that cannot be read, is damaged in what had to be decoded, changes its size, or has
    fewer frames than asked; ValueError for arguments out of range.
    """
    window = _Window(start, frames, stride, fps)
    with open_video(path) as source:
        timeline = read_timeline(source) if fps is not None or start >= _JUMP_FROM else None
        if timeline is None:
            return _collect(source, enumerate(decoded_frames(source)), window, timeline)
        with suppress(_OutOfStepError):
            return _collect(source, _jump(source, timeline, start), window, timeline)
    with open_video(path) as source:
        return _collect(source, enumerate(decoded_frames(source)), window, timeline)


def _collect(
    source: Source, decoded: Iterator[tuple[int, VideoFrame]], window: _Window, timeline: Timeline | None
) -> Clip:
    """The frames of the window out of the decoded ones, in one array."""
    to_rgb = RgbConverter()
    index, taken = -1, -1
    clip_THWC: Clip | None = None
    pictures: list[Clip] = []
    for target in window.indices(timeline):
        while index < target:
            try:
                index, frame = next(decoded)
            except StopIteration:
                if window.frames is None and pictures:
                    return np.stack(pictures)
                raise _too_short(source, index + 1, window) from None
        if taken == index:
            # A frame that stays on show.
            picture = pictures[-1]
        else:
            picture, taken = to_rgb(frame), index
        if pictures and picture.shape != pictures[0].shape:
            raise _size_changes(source, pictures[0], picture, index)
        if window.frames is None:
            pictures.append(picture.copy())
        else:
            if clip_THWC is None:
                clip_THWC = np.empty((window.frames, *picture.shape), np.uint8)
            clip_THWC[len(pictures)] = picture
            pictures.append(clip_THWC[len(pictures)])
        # Gone before the next one is made, which then gets the same memory.
        del picture
    if len(pictures) < (window.frames or 1):
        raise _too_short(source, len(timeline or ()), window)
    return np.stack(pictures) if clip_THWC is None else clip_THWC


def decoded_frames(source: Source) -> Iterator[VideoFrame]:
    """Every frame from the beginning. Raises VideoError at the first that is damaged."""
    index = 0
    try:
        for frame in source.container.decode(source.stream):
            if frame.is_corrupt:
                raise broken(source.path, index)
            yield frame
            index += 1
    except av.FFmpegError as error:
        raise broken(source.path, index, error) from None


def _jump(source: Source, timeline: Timeline, start: int) -> Iterator[tuple[int, VideoFrame]]:
    """Decoded frames from the key frame before `start` on. Raises _OutOfStepError if in doubt which."""
    if not timeline.is_countable or start >= len(timeline):
        raise _OutOfStepError
    key, pts, dts = timeline.key_before(start)
    is_sorted_by_dts = source.container.format.name.startswith(("mov", "avi"))
    index = key
    try:
        source.container.seek(dts if is_sorted_by_dts else pts, stream=source.stream)
        for frame in source.container.decode(source.stream):
            if index == key and frame.pts is not None and frame.pts < pts:
                continue
            if index >= len(timeline) or frame.pts != timeline.pts[index] or frame.is_corrupt:
                raise _OutOfStepError
            yield index, frame
            index += 1
    except av.FFmpegError:
        raise _OutOfStepError from None
    if index < len(timeline):
        raise _OutOfStepError


def _too_short(source: Source, n_frames: int, window: _Window) -> VideoError:
    if is_cut_short(source.path):
        return broken(source.path, n_frames)
    return VideoError(
        f"expected {window} from frame {window.start} on, but {source.path} has {n_frames} frames; "
        "give a longer video or ask for fewer frames",
        "too-short",
    )


def _size_changes(source: Source, old: Clip, new: Clip, index: int) -> VideoError:
    return VideoError(
        f"{source.path} changes its size from {old.shape[1]}x{old.shape[0]} to {new.shape[1]}x{new.shape[0]} "
        f"at frame {index}; re-encode it at one size",
        "size-changes",
    )
