"""When each frame of a file is shown, read from its packets without decoding them: about a millisecond a file.

The i-th decoded frame is shown at the i-th smallest timestamp, as long as no timestamp is missing or there twice.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from fractions import Fraction
from statistics import median_low
from typing import NamedTuple

import av
from av.packet import Packet
from av.video.stream import VideoStream

from cogvideo.video.opening import Source, broken

# Matroska rounds to milliseconds; a frame that should show at t may be stamped half of one later.
_ROUNDING_S = Fraction(1, 2000)

# One packet is one shown frame in these, in these containers. Elsewhere (VP8, field pictures in a transport stream)
# only decoding tells.
_COUNTABLE_CODECS = {"h264", "hevc", "av1", "mpeg4", "ffv1", "gif", "mjpeg", "png", "rawvideo"}
_COUNTABLE_CONTAINERS = {"avi", "mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "gif"}


class Stamp(NamedTuple):
    """One packet without its data."""

    pts: int | None
    dts: int | None
    is_key: bool
    is_discard: bool
    is_corrupt: bool


@dataclass(frozen=True)
class Timeline:
    """Sorted timestamps in units of `time_base`, the key frames among the packets as (pts, dts), and the mean rate.

    `is_ordered`: the timestamps are all there and all different. `is_countable`: packets and frames agree in number
    unless the data is damaged.
    """

    pts: tuple[int, ...]
    time_base: Fraction
    fps: Fraction
    keys: tuple[tuple[int, int], ...]
    is_ordered: bool
    is_countable: bool

    def __len__(self) -> int:
        return len(self.pts)

    @property
    def end(self) -> Fraction:
        """When the last frame stops being shown, in `time_base`: it stays as long as a frame does on average."""
        return self.pts[-1] + 1 / (self.fps * self.time_base) if self.pts else Fraction(0)

    @property
    def is_variable_rate(self) -> bool:
        """True if frames are not evenly spaced, beyond what rounding to the container's clock explains."""
        steps = [b - a for a, b in zip(self.pts, self.pts[1:], strict=False)]
        if not steps:
            return False
        typical = median_low(steps)
        rounding = 1 if typical > 2 else 0
        return (max(steps) - min(steps)) * 4 > max(typical, 4 * rounding)

    def resample(self, start: int, fps: Fraction, frames: int | None) -> list[int]:
        """Indices of the frames shown at t(start) + k / fps for k = 0, 1, ...; fewer than asked if the file ends."""
        if start >= len(self.pts):
            return []
        first = self.pts[start]
        step = 1 / (fps * self.time_base)
        if frames is None:
            frames = -((first - self.end) // step)
        rounding = _ROUNDING_S / self.time_base
        shown = (first + k * step for k in range(frames))
        return [bisect_right(self.pts, (t + rounding) // 1) - 1 for t in shown if t + rounding < self.end]

    def key_before(self, index: int) -> tuple[int, int, int]:
        """(frame index, pts, dts) of the last key frame that is shown no later than frame `index`."""
        pts, dts = max(key for key in self.keys if key[0] <= self.pts[index])
        return bisect_left(self.pts, pts), pts, dts


def read_timeline(source: Source) -> Timeline:
    """Walk over all packets of the stream. The container stands at its end afterwards."""
    stamps: list[Stamp] = []
    try:
        stamps.extend(stamp(packet) for packet in source.container.demux(source.stream) if packet.size)
    except av.FFmpegError as error:
        raise broken(source.path, len(stamps), error) from None
    return timeline_of(source, stamps)


def stamp(packet: Packet[VideoStream]) -> Stamp:
    """What the timeline keeps of a packet, so that its data can go."""
    return Stamp(packet.pts, packet.dts, packet.is_keyframe, packet.is_discard, packet.is_corrupt)


def timeline_of(source: Source, stamps: list[Stamp]) -> Timeline:
    """The timeline of all packets of the stream, in the order of the file."""
    time_base = source.stream.time_base or Fraction(1, 1000)
    fps = mean_rate(source)
    shown = [s for s in stamps if not s.is_discard]
    pts = sorted(s.pts for s in shown if s.pts is not None)
    is_ordered = len(set(pts)) == len(shown)
    if not is_ordered:
        pts = [round(i / (fps * time_base)) for i in range(len(shown))]
    keys = [(s.pts, s.pts if s.dts is None else s.dts) for s in shown if s.is_key and s.pts is not None]
    is_countable = (
        is_ordered
        and bool(shown)
        and len(shown) == len(stamps)
        # Pictures that lead the first key frame may refer to others that are not in the file, and are then left out.
        and shown[0].is_key
        and shown[0].pts == pts[0]
        and not any(s.is_corrupt for s in stamps)
        and source.stream.codec_context.codec.canonical_name in _COUNTABLE_CODECS
        and source.container.format.name in _COUNTABLE_CONTAINERS
        and not source.has_own_order
    )
    return Timeline(tuple(pts), time_base, fps, tuple(keys) if is_ordered else (), is_ordered, is_countable)


def mean_rate(source: Source) -> Fraction:
    """Frames a second as the container gives it; 25 if it gives none."""
    stream = source.stream
    return stream.average_rate or stream.guessed_rate or stream.base_rate or Fraction(25)
