"""What a program is handed and what it gives back: a JSONL file of requests, and one video for each line.

A request's line has `id`, `prompt`, `label`, `seed`, `frames`, `fps`, `width`, `height` (null where the protocol leaves
the size open), `output`, and where frames are given `priming` (a lossless video of them) with `priming_frames`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from cogvideo.errors import UserError
from cogvideo.video import VideoError, read_clip, write_video
from eval.audit import audit_video_file
from eval.datasets.video_files import VIDEO_SUFFIXES
from eval.generators.contract import Clip, Rejection, Request
from eval.generators.fitting import Offer, fit, frames_needed
from eval.protocol import Protocol
from eval.records import whole_file

ARRAY = ".npy"
FORMATS = (*sorted(suffix[1:] for suffix in VIDEO_SUFFIXES), ARRAY[1:])


class Exchange:
    """The folder of one run's requests and videos. Each `process` of several that use it has logs of its own."""

    def __init__(self, kind: str, folder: Path, protocol: Protocol, suffix: str, process: int = 0) -> None:
        self.folder = folder
        self.videos = folder / "videos"
        number = f"-{process}" if process else ""
        self.stdout, self.stderr = folder / f"stdout{number}.log", folder / f"stderr{number}.log"
        self._kind = kind
        self._protocol = protocol
        self._suffix = suffix

    def write(self, name: str, requests: Iterable[Request]) -> Path:
        """The file of these requests; given frames are written one after the other. Their old videos are removed."""
        self.videos.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"requests-{name}.jsonl"
        with whole_file(path) as temporary, temporary.open("w", encoding="utf-8") as file:
            for request in requests:
                for old in self._candidates(request):
                    old.unlink(missing_ok=True)
                file.write(json.dumps(self._line(request), ensure_ascii=False) + "\n")
        return path

    def written(self, requests: Iterable[Request]) -> int:
        """How many of the requests have a file; nobody has looked into it yet."""
        there = {path.stem for path in self.videos.iterdir()}
        return sum(request.id in there for request in requests)

    def read(self, request: Request) -> Clip | Rejection:
        """The protocol's frames of the request's video, or why there are none."""
        found = [path for path in self._candidates(request) if path.is_file()]
        if not found:
            return Rejection(f"the program wrote no video {request.id}{self._suffix}")
        if len(found) > 1:
            return Rejection(f"the program wrote several videos of one sample: {', '.join(p.name for p in found)}")
        try:
            return self._array(found[0], request) if found[0].suffix == ARRAY else self._video(found[0], request)
        except (VideoError, UserError) as error:
            return Rejection(str(error).replace(f"{self.videos}/", ""))

    def _array(self, path: Path, request: Request) -> Clip | Rejection:
        try:
            video = np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            return Rejection(f"{path.name} is no array of numpy: {error}")
        if not isinstance(video, np.ndarray) or video.dtype != np.uint8 or video.ndim != 4 or video.shape[-1] != 3:
            came = f"{video.dtype} {video.shape}" if isinstance(video, np.ndarray) else "several arrays"
            return Rejection(f"expected uint8 (frames, height, width, 3) in {path.name}, got {came}")
        frames, height, width = video.shape[:3]
        offer = Offer(frames, height, width, request.fps, self._protocol.clip.given)
        return fit(self._kind, offer, self._protocol).clip(video, request.priming)

    def _video(self, path: Path, request: Request) -> Clip:
        rule = self._protocol.clip
        info = audit_video_file(path, frames=rule.frames, stride=rule.stride, fps=rule.fps)
        # Frames were counted above, by time or by number; what is left to judge is the size.
        fit(
            self._kind,
            Offer(frames_needed(rule, request.fps), info.height, info.width, request.fps, overlap=rule.given),
            self._protocol,
        )
        return read_clip(path, frames=rule.frames, stride=rule.stride, fps=rule.fps)

    def _candidates(self, request: Request) -> list[Path]:
        """Where a video of the request may lie: under the name that was asked for, with any suffix of a video."""
        return [self.videos / f"{request.id}{suffix}" for suffix in (*sorted(VIDEO_SUFFIXES), ARRAY)]

    def _line(self, request: Request) -> dict[str, object]:
        line: dict[str, object] = {
            "id": request.id,
            "prompt": request.prompt,
            "label": request.label,
            "seed": request.seed,
            "frames": frames_needed(self._protocol.clip, request.fps),
            "fps": request.fps,
            "width": request.width or None,
            "height": request.height or None,
            "output": str((self.videos / f"{request.id}{self._suffix}").resolve()),
        }
        if request.priming is not None:
            priming = self.folder / "priming" / f"{request.id}.mkv"
            priming.parent.mkdir(parents=True, exist_ok=True)
            write_video(priming, request.priming, fps=request.fps, codec="ffv1")
            line |= {"priming": str(priming.resolve()), "priming_frames": len(request.priming)}
        return line
