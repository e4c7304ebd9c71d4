"""What a video file holds: size, rate, number of frames, codec."""

from __future__ import annotations

import os
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
from av import VideoFrame

from cogvideo.video.opening import Source, broken, is_cut_short, open_video
from cogvideo.video.reading import decoded_frames
from cogvideo.video.timeline import Stamp, Timeline, mean_rate, stamp, timeline_of


@dataclass(frozen=True)
class VideoInfo:
    """The first video stream of a file. Sizes in pixels as stored, before rotation.

    `n_frames` is the number of frames that come out of the decoder; `is_decoded` tells whether every one was decoded
    to know it, or counted as a packet. `claimed_frames` is the header's word, 0 if it has none. `rotation`: degrees
    (0, 90, 180, 270) by which a player turns the picture clockwise; `read_clip` does not.
    """

    path: Path
    width: int
    height: int
    fps: Fraction
    n_frames: int
    duration_s: float
    codec: str
    pixel_format: str
    rotation: int
    is_variable_rate: bool
    has_audio: bool
    claimed_frames: int = 0
    is_decoded: bool = False


def probe(path: str | os.PathLike[str], *, count: bool = True, thorough: bool = False) -> VideoInfo:
    """Look at a video file.

    `count` walks over the packets (about a millisecond) and decodes only the first frame where codec and container
    give one frame a packet; in other files every frame is decoded. Damage inside a packet does not show that way:
    `thorough` decodes every frame and refuses damaged and truncated files. Without `count` the number of frames is
    the header's claim (0 if it has none) and the rate is taken as constant.
    Raises VideoError for a file that is not a readable video.
    """
    with open_video(path) as source:
        first, n_decoded, stamps = _walk(source, to_end=count or thorough, decodes_all=thorough)
        timeline = timeline_of(source, stamps) if count or thorough else None
        if thorough:
            n_frames = n_decoded
            if is_cut_short(source.path):
                raise broken(source.path, n_frames)
        elif timeline is None:
            n_frames = source.claimed_frames
        elif timeline.is_countable:
            n_frames = len(timeline)
        else:
            with open_video(path) as again:
                n_frames = sum(1 for _ in decoded_frames(again))
            thorough = True
        return _info(source, first, n_frames, timeline, is_decoded=thorough)


def _walk(source: Source, *, to_end: bool, decodes_all: bool) -> tuple[VideoFrame, int, list[Stamp]]:
    """The first frame, the number of decoded frames, and the stamps of all packets that were read."""
    first: VideoFrame | None = None
    n_decoded = 0
    stamps: list[Stamp] = []
    try:
        for packet in source.container.demux(source.stream):
            if packet.size:
                stamps.append(stamp(packet))
            if first is None or decodes_all:
                for frame in packet.decode():
                    if frame.is_corrupt:
                        raise broken(source.path, n_decoded)
                    first = first or frame
                    n_decoded += 1
            if first is not None and not to_end:
                break
    except av.FFmpegError as error:
        raise broken(source.path, n_decoded, error) from None
    if first is None:
        raise broken(source.path, 0)
    return first, n_decoded, stamps


def _info(source: Source, first: VideoFrame, n_frames: int, timeline: Timeline | None, is_decoded: bool) -> VideoInfo:
    fps = mean_rate(source)
    if timeline is not None and timeline.is_ordered and timeline.pts:
        duration_s = float((timeline.end - timeline.pts[0]) * timeline.time_base)
    else:
        duration_s = float(n_frames / fps)
    return VideoInfo(
        path=source.path,
        width=first.width,
        height=first.height,
        fps=fps,
        n_frames=n_frames,
        duration_s=duration_s,
        codec=source.stream.codec_context.codec.canonical_name,
        pixel_format=first.format.name,
        # FFmpeg counts against the clock.
        rotation=-first.rotation % 360,
        is_variable_rate=timeline is not None and timeline.is_variable_rate,
        has_audio=bool(source.container.streams.audio),
        claimed_frames=source.claimed_frames,
        is_decoded=is_decoded,
    )
