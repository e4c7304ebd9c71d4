"""Samples of one run: made, audited, kept, and turned into features, so that a kill loses only what is in flight.

A sample is finished when its line is in `samples.jsonl`; its exact frames wait in `spool/` until the shard of
features that it belongs to is on the disk. The MP4 in `samples/` is for the eye and never scored.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from cogvideo.errors import UserError
from cogvideo.video import write_video
from eval.audit import audit_clip, pixels_sha256
from eval.costs import Cost, Meter
from eval.decoding import read_ref
from eval.features import SHARD, Extractor, ShardFolder
from eval.generators.contract import Clip, Generator, Reconstruction, Rejection, Request
from eval.protocol import Protocol
from eval.records import SampleLine, append_lines, read_samples, whole_file

NO_CLIP = "no-clip"
Notify = Callable[[str, int], None]


class SampleStore:
    """Makes what is missing of a run folder and gives back every line in id order."""

    def __init__(
        self,
        run: Path,
        generator: Generator,
        requests: Sequence[Request],
        protocol: Protocol,
        extractor: Extractor,
        *,
        batch_size: int,
        keep_videos: bool = True,
        reconstruction: Reconstruction | None = None,
    ) -> None:
        self.run = run
        self.generator = generator
        self.requests = list(requests)
        self.protocol = protocol
        self.extractor = extractor
        self.batch_size = max(batch_size, generator.at_once)
        self.keep_videos = keep_videos
        self.reconstruction = reconstruction
        self.shards = ShardFolder(run / "features")
        self.lines: dict[str, SampleLine] = {}
        # Of the features that were made here: after a resumption they may be fewer than the samples.
        self.scoring = Cost()
        self.scored = 0
        self._seen: dict[str, str] = {}
        # The first good sample's (height, width): samples are made in id order, so it is the same after a resumption.
        self._size: tuple[int, int] | None = None

    def complete(self, notify: Notify) -> list[SampleLine]:
        """Everything that is still to do. `notify(stage, n)` counts samples through generate, audit and features."""
        # A sample that could not be had is asked for again: its person may have mended what was wrong.
        self.lines = {name: line for name, line in read_samples(self.run).items() if line.kind != NO_CLIP}
        pending = [request for request in self.requests if request.id not in self.lines]
        self.generator.begin(self.run / "generator", pending, self._prime)
        shards = [self.requests[at : at + SHARD] for at in range(0, len(self.requests), SHARD)]
        next_shard = 0
        for batch in self._batches():
            for line in self._make(batch):
                self.lines[line.id] = line
                notify("generate", 1)
                notify("audit", 1)
            while next_shard < len(shards) and all(request.id in self.lines for request in shards[next_shard]):
                self._features(next_shard, shards[next_shard])
                notify("features", len(shards[next_shard]))
                next_shard += 1
        shutil.rmtree(self.run / "spool", ignore_errors=True)
        return [self.lines[request.id] for request in self.requests]

    def _batches(self) -> Iterator[list[Request]]:
        """Unfinished requests in order, `batch_size` at a time; finished ones in between pass by as empty batches."""
        waiting: list[Request] = []
        for request in self.requests:
            line = self.lines.get(request.id)
            if line is None:
                waiting.append(request)
            elif line.ok:
                self._seen.setdefault(line.frames_sha256, line.id)
                self._size = self._size or (line.height, line.width)
            if len(waiting) == self.batch_size:
                yield waiting
                waiting = []
        yield waiting

    def _make(self, batch: Sequence[Request]) -> list[SampleLine]:
        if not batch:
            return []
        primed = [self._prime(request) for request in batch]
        with Meter(self.extractor.device) as meter:
            clips = self.generator.generate(primed)
        if len(clips) != len(batch):
            raise RuntimeError(f"generator {self.generator.name} gave {len(clips)} clips for {len(batch)} requests")
        took = meter.cost
        cost: dict[str, Any] = {
            "seconds": round(took.seconds / len(batch), 6),
            "peak_memory_bytes": max(took.peak_bytes, self.generator.peak_bytes),
            "gpu_seconds": round(took.gpu_seconds / len(batch), 6),
            "gpu_peak_bytes": took.gpu_peak_bytes,
        }
        lines = [
            self._audit(request, clip).model_copy(update=cost) for request, clip in zip(primed, clips, strict=True)
        ]
        append_lines(self.run / "samples.jsonl", lines)
        return lines

    def _prime(self, request: Request) -> Request:
        """The request with the frames that its generator is given: real ones, whatever the reference is."""
        given = self.protocol.clip.given
        if not given or request.source is None:
            return request
        from eval.preprocess import to_protocol_size

        real = to_protocol_size(read_ref(request.source), self.protocol.clip)
        return replace(request, priming=real[:given])

    def _given_frames(self, request: Request) -> Clip | None:
        """The frames that a clip starts with when it is scored: those of the request's own clip in the reference."""
        if request.priming is None or request.source is None or self.reconstruction is None:
            return request.priming
        from eval.preprocess import to_protocol_size

        # All of the clip, as for the reference: its last bits may depend on how many frames are in work.
        whole = self.reconstruction.apply(read_ref(request.source))
        return to_protocol_size(whole, self.protocol.clip)[: len(request.priming)]

    def _audit(self, request: Request, clip: Clip | Rejection) -> SampleLine:
        line = SampleLine(
            id=request.id,
            index=request.index,
            prompt=request.prompt,
            label=request.label,
            seed=request.seed,
            ok=False,
            origin=dict(self.generator.origins.get(request.id, {})),
        )
        if isinstance(clip, Rejection):
            return line.model_copy(update={"kind": NO_CLIP, "reason": clip.reason})
        given = self._given_frames(request)
        if given is not None and len(clip) == self.protocol.clip.frames:
            clip = self._with_given_frames(clip, given)
        verdict = audit_clip(
            clip, frames=self.protocol.clip.frames, size=self._size, sample_id=request.id, seen=self._seen
        )
        if not verdict.ok:
            found = {"kind": verdict.kind, "reason": verdict.reason, "frames_sha256": verdict.sha256}
            return line.model_copy(update=found)
        self._seen.setdefault(verdict.sha256, request.id)
        self._size = self._size or (clip.shape[1], clip.shape[2])
        with whole_file(self._spooled(request.id)) as temporary, temporary.open("wb") as file:
            np.save(file, clip)
        name = ""
        if self.keep_videos:
            name = f"samples/{request.id}.mp4"
            (self.run / "samples").mkdir(exist_ok=True)
            write_video(self.run / name, clip, fps=request.fps)
        return line.model_copy(
            update={
                "ok": True,
                "file": name,
                "height": clip.shape[1],
                "width": clip.shape[2],
                "frames_sha256": verdict.sha256,
                "warnings": list(verdict.warnings),
            }
        )

    def _with_given_frames(self, clip: Clip, given: Clip) -> Clip:
        """All frames are scored, and the given ones are the real ones, whatever a codec or a model made of them."""
        from eval.preprocess import to_protocol_size

        whole = np.array(to_protocol_size(clip, self.protocol.clip))
        whole[: len(given)] = given
        return whole

    def _features(self, number: int, shard: Sequence[Request]) -> None:
        good = [request for request in shard if self.lines[request.id].ok]
        ids = [request.id for request in good]
        if good and self.shards.ids(number) != ids:
            clips = [self._frames_again(request) for request in good]
            with Meter(self.extractor.device) as meter:
                self.shards.write(number, ids, self.extractor(clips, ids, self.extractor.needs))
            self.scoring.add(meter.cost)
            self.scored += len(good)
        for request in good:
            self._spooled(request.id).unlink(missing_ok=True)

    def _frames_again(self, request: Request) -> Clip:
        """The exact frames of a finished sample: from the spool, or made again and checked against their hash."""
        try:
            clip: Clip = np.load(self._spooled(request.id))
        except (OSError, ValueError, EOFError):
            primed = self._prime(request)
            made = self.generator.generate([primed])[0]
            if isinstance(made, Rejection):
                raise UserError(f"sample {request.id} cannot be made again: {made.reason}") from None
            given = self._given_frames(primed)
            clip = self._with_given_frames(made, given) if given is not None else made
        if pixels_sha256(clip) != self.lines[request.id].frames_sha256:
            raise UserError(
                f"sample {request.id} in {self.run} is not the one that was finished before (its frames changed);"
                " the generator or its files changed: run with --on-existing redo"
            )
        return clip

    def _spooled(self, sample_id: str) -> Path:
        return self.run / "spool" / f"{sample_id}.npy"
