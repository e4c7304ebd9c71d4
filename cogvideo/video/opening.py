"""Opening a video file, and why it cannot be opened.

Which stream: the first video stream that is not a cover picture. One decoding thread: at these sizes threads inside
a decoder cost more than they give, and the callers already work on several files at once.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import av
import numpy as np
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream
from numpy.typing import NDArray

from cogvideo.errors import UserError

Clip = NDArray[np.uint8]

# Named, so that a text file is not drawn as ANSI art and a playlist does not make us open other files or addresses.
_CONTAINERS = (
    "avi,mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,gif,mpegts,mpeg,mpegvideo,flv,asf,nut,ogg,h264,hevc,m4v,ivf,"
    "yuv4mpegpipe,wav,mp3,flac,aac,png_pipe,jpeg_pipe,webp_pipe,image2"
)


class VideoError(UserError):
    """A video that cannot be read as asked. `reason` is a short code, the message one line for people.

    Codes: missing, is-a-folder, empty-file, not-a-video, no-video-stream, no-decoder, truncated, damaged, too-short,
    size-changes, unreadable; the audit adds one-frame, variable-rate, wrong-size, rotated.
    """

    def __init__(self, message: str, reason: str = "unreadable") -> None:
        super().__init__(message)
        self.reason = reason

    def __reduce__(self) -> tuple[type[VideoError], tuple[str, str]]:
        return type(self), (str(self), self.reason)


@dataclass(frozen=True)
class Source:
    """An open video file and the stream that is read."""

    path: Path
    container: InputContainer
    stream: VideoStream

    @property
    def claimed_frames(self) -> int:
        """What the header promises, 0 if it says nothing."""
        return int(self.stream.frames)

    @property
    def has_own_order(self) -> bool:
        """True for B-frames in AVI, which stores no presentation time: its timestamps are guesses of the demuxer."""
        return self.container.format.name == "avi" and self.stream.codec_context.has_b_frames


@contextmanager
def open_video(path: str | os.PathLike[str]) -> Iterator[Source]:
    """The file's first video stream, ready to decode. Raises VideoError if there is none."""
    # The full path, because FFmpeg takes what stands before a colon for a protocol.
    file = Path(path).absolute()
    _check_file(file)
    try:
        container = av.open(str(file), options={"format_whitelist": _CONTAINERS})
    except av.FFmpegError as error:
        raise _cannot_open(file, error) from None
    with container:
        yield Source(file, container, _first_video_stream(container, file))


def broken(path: Path, index: int, error: Exception | None = None) -> VideoError:
    """The error for data that does not decode: cut short if the file ends too early, else damaged."""
    if is_cut_short(path):
        return VideoError(f"{path} is cut short after {index} frames; copy or make the file again", "truncated")
    detail = f" ({getattr(error, 'strerror', '') or error})" if error else ""
    return VideoError(f"{path} is damaged: frame {index} does not decode{detail}; copy or make it again", "damaged")


def is_cut_short(path: Path) -> bool:
    """True if the file ends before its outermost element does; False if its kind of container does not tell."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(4096)
        if head.startswith(b"GIF8"):
            file.seek(max(0, size - 64))
            return not file.read().rstrip(b"\0").endswith(b"\x3b")
        if head[4:8] == b"ftyp":
            return _mp4_end(file) > size
    if head[:4] == b"RIFF":
        return size < 8 + int.from_bytes(head[4:8], "little")
    return head.startswith(b"\x1a\x45\xdf\xa3") and _matroska_end(head) > size


def _mp4_end(file: BinaryIO) -> int:
    """Where the last top-level box ends."""
    end = 0
    while len(box := (file.seek(end), file.read(16))[1]) >= 8:
        length = int.from_bytes(box[:4], "big")
        if length == 1:
            length = int.from_bytes(box[8:], "big")
        if length < 8:
            break
        end += length
    return end


def _matroska_end(head: bytes) -> int:
    """Where the segment ends, 0 if that is not written. EBML numbers: leading zero bits are the length, all ones
    mean "unknown"."""
    at = head.find(b"\x18\x53\x80\x67") + 4
    if at < 4 or at + 8 > len(head) or not head[at]:
        return 0
    length = 9 - head[at].bit_length()
    unknown = (1 << 7 * length) - 1
    value = int.from_bytes(head[at : at + length], "big") & unknown
    return 0 if value == unknown else at + length + value


def _check_file(file: Path) -> None:
    try:
        size = file.stat().st_size
    except OSError as error:
        if isinstance(error, FileNotFoundError | NotADirectoryError):
            raise VideoError(f"{file} does not exist; expected a video file there", "missing") from None
        raise VideoError(f"{file} cannot be read: {error.strerror}; check the rights on it") from None
    if file.is_dir():
        raise VideoError(f"{file} is a folder; expected a video file, so name a file inside it", "is-a-folder")
    if size == 0:
        raise VideoError(f"{file} is empty (0 bytes); copy or make the file again", "empty-file")


def _cannot_open(file: Path, error: av.FFmpegError) -> VideoError:
    if isinstance(error, PermissionError):
        return VideoError(f"{file} cannot be read: {error.strerror}; check the rights on it")
    with file.open("rb") as opened:
        head = opened.read(12)
    is_video = head[4:8] in (b"ftyp", b"mdat", b"moov") or head.startswith((b"RIFF", b"\x1a\x45\xdf\xa3", b"GIF8"))
    if is_video:
        return VideoError(f"{file} starts like a video but is cut short; copy or make the file again", "truncated")
    return VideoError(f"{file} is not a video that FFmpeg knows; convert it to MP4, MKV or AVI", "not-a-video")


def _first_video_stream(container: InputContainer, file: Path) -> VideoStream:
    for stream in container.streams.video:
        if stream.disposition & Disposition.attached_pic:
            continue
        if stream.codec_context is None:
            raise VideoError(
                f"{file} holds a codec that this FFmpeg cannot decode; convert it to H.264, e.g. ffmpeg -i IN OUT.mp4",
                "no-decoder",
            )
        stream.codec_context.thread_count = 1
        return stream
    kinds = ", ".join(sorted({stream.type for stream in container.streams})) or "nothing"
    raise VideoError(f"{file} has no video stream (it holds: {kinds}); give a file with pictures", "no-video-stream")
