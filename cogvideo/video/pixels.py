"""Decoded frames -> RGB, bit for bit what `ffmpeg -pix_fmt rgb24` gives.

The stream's own colour matrix and range are obeyed; untagged video is BT.601, limited range, at every size. Rotation
flags, sample aspect ratio and alpha are left aside: pixels as stored.
"""

from __future__ import annotations

from contextlib import suppress
from typing import cast

import numpy as np
from av import VideoFrame
from av.filter import Graph
from av.video.reformatter import Interpolation, VideoReformatter
from numpy.typing import NDArray

# Formats that swscale converts without looking at where chroma samples lie.
_DIRECT = {"yuv420p", "yuvj420p", "yuv422p", "yuvj422p", "rgb24", "bgr24", "bgr0", "rgb0", "bgra", "rgba", "gbrp"}


class RgbConverter:
    """Frames of one file -> (H, W, 3) uint8. Keeps what the first frame set up, for frames of the same kind."""

    def __init__(self) -> None:
        self._reformatter = VideoReformatter()
        self._graph: Graph | None = None
        self._kind: tuple[str, int, int] | None = None

    def __call__(self, frame: VideoFrame) -> NDArray[np.uint8]:
        """The picture, perhaps a view of memory that lives as long as the array."""
        if frame.format.name in _DIRECT and frame.width % 2 == 0 and frame.height % 2 == 0:
            # One thread: left to itself swscale starts a pool for every picture, which costs more than the picture.
            rgb = self._reformatter.reformat(frame, format="rgb24", interpolation=Interpolation.BICUBIC, threads=1)
        else:
            # Where chroma has to be interpolated only the scale filter knows where its samples lie.
            rgb = self._through_filters(frame)
        return cast(NDArray[np.uint8], rgb.to_ndarray())

    def _through_filters(self, frame: VideoFrame) -> VideoFrame:
        kind = (frame.format.name, frame.width, frame.height)
        if self._graph is None or kind != self._kind:
            self._graph, self._kind = _rgb_graph(frame), kind
        self._graph.push(frame)
        pulled = self._graph.pull()
        assert isinstance(pulled, VideoFrame)
        return pulled


def filter_graph() -> Graph:
    """An empty filter graph that starts no threads of its own, where PyAV lets us say so (version 18)."""
    graph = Graph()
    with suppress(AttributeError):
        graph.threads = 1
    return graph


def _rgb_graph(frame: VideoFrame) -> Graph:
    graph = filter_graph()
    source = graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base)
    graph.link_nodes(source, graph.add("scale"), graph.add("format", "pix_fmts=rgb24"), graph.add("buffersink"))
    graph.configure()
    return graph
