"""Samples of one run: made, audited, kept, and turned into features, so that a kill loses only what is in flight.

A sample is finished when its line is in `samples.jsonl`, or in `parts/` where several processes share the work; its
exact frames wait in `spool/` until the shard of features that it belongs to is on the disk. Of several processes each
makes every so-many-th of the samples that are missing, and the features of every so-many-th shard, whoever made its
samples. The MP4 in `samples/` is for the eye and never scored.
"""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from cogvideo.errors import UserError
from cogvideo.video import write_video
from eval.audit import audit_clip, pixels_sha256
from eval.costs import Cost, Meter, Work
from eval.decoding import read_ref
from eval.features import SHARD, Arrays, Extractor, ShardFolder
from eval.generators.contract import Clip, Generator, Reconstruction, Rejection, Request
from eval.processes import Processes, share
from eval.protocol import Protocol
from eval.records import SAMPLES_FILE, LineReader, SampleLine, append_lines, part_file, whole_file
from eval.verdicts import judged_alone

NO_CLIP = "no-clip"
# A network file system may show what another node has written only after a while.
SHARED_FOLDER_S = 90.0
Notify = Callable[[str, int], None]


class SampleStore:
    """Makes what is missing of a run folder, or this process' part of it, and gives back every line in id order."""

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
        processes: Processes | None = None,
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
        self.processes = processes or Processes()
        rank, size = self.processes.rank, self.processes.size
        self._own_lines = run / SAMPLES_FILE if size == 1 else part_file(run, rank)
        self._others = [LineReader(part_file(run, other)) for other in range(size) if other != rank]
        self._shards = [self.requests[at : at + SHARD] for at in range(0, len(self.requests), SHARD)]
        self._next_shard = 0

    def complete(self, notify: Notify) -> list[SampleLine]:
        """Everything that is still to do; gives every line in id order, each sample judged alone.

        `notify(stage, n)` counts samples through generate, audit and features, those of other processes too. Other
        processes may still be at their features when this one returns.
        """
        # A sample that could not be had is asked for again: its person may have mended what was wrong.
        before = {line.id: judged_alone(line) for line in LineReader(self.run / SAMPLES_FILE).new()}
        self.lines = {name: line for name, line in before.items() if line.kind != NO_CLIP}
        mine = share([request for request in self.requests if request.id not in self.lines], self.processes)
        self.generator.begin(self.run / "generator", mine, self._prime)
        for at in range(0, len(mine), self.batch_size):
            self.processes.check()
            made = self._make(mine[at : at + self.batch_size])
            self._add(made, notify)
            self._proceed(notify)
        wait_s = 0.05
        while not self._proceed(notify):
            self.processes.pause(wait_s)
            wait_s = min(1.2 * wait_s, 1.0)
        return [self.lines[request.id] for request in self.requests]

    @property
    def work(self) -> Work:
        """What this process did for the features."""
        return Work.of(self.scoring, self.scored)

    def clear(self) -> None:
        """Once the features of all samples are there, their exact frames need not be."""
        shutil.rmtree(self.run / "spool", ignore_errors=True)

    def _add(self, lines: Sequence[SampleLine], notify: Notify) -> None:
        for line in lines:
            self.lines[line.id] = line
        notify("generate", len(lines))
        notify("audit", len(lines))

    def _proceed(self, notify: Notify) -> bool:
        """Take in what others have made, and make features of every shard of ours that is whole. True: all is done."""
        for reader in self._others:
            if lines := reader.new():
                self._add(lines, notify)
        while self._next_shard < len(self._shards):
            shard = self._shards[self._next_shard]
            if not all(request.id in self.lines for request in shard):
                return False
            if self._next_shard % self.processes.size == self.processes.rank:
                self._features(self._next_shard, shard)
            notify("features", len(shard))
            self._next_shard += 1
        return True

    def _make(self, batch: Sequence[Request]) -> list[SampleLine]:
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
        append_lines(self._own_lines, lines)
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
        verdict = audit_clip(clip, frames=self.protocol.clip.frames, sample_id=request.id)
        if not verdict.ok:
            found = {"kind": verdict.kind, "reason": verdict.reason, "frames_sha256": verdict.sha256}
            return line.model_copy(update=found)
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
                self.shards.write(number, ids, self._extracted(clips, ids))
            self.scoring.add(meter.cost)
            self.scored += len(good)
        for request in good:
            self._spooled(request.id).unlink(missing_ok=True)

    def _extracted(self, clips: Sequence[Clip], ids: Sequence[str]) -> Arrays:
        """Features of one shard. Clips of several sizes, of which most will be rejected, do not go in one batch."""
        sizes = [clip.shape[1:3] for clip in clips]
        found: list[tuple[list[int], Arrays]] = []
        for size in dict.fromkeys(sizes):
            rows = [row for row, of_row in enumerate(sizes) if of_row == size]
            arrays = self.extractor([clips[row] for row in rows], [ids[row] for row in rows], self.extractor.needs)
            found.append((rows, arrays))
        order = np.argsort([row for rows, _ in found for row in rows])
        return {name: np.concatenate([arrays[name] for _, arrays in found])[order] for name in found[0][1]}

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


def meet_in(run: Path, processes: Processes) -> None:
    """Until every process sees the folder as the first one has left it. Raises UserError if it is not one folder."""
    said = processes.gather(_look_of(run) if processes.is_first else "")[0]
    until = time.monotonic() + SHARED_FOLDER_S
    while not processes.is_first and _look_of(run) != said:
        if time.monotonic() > until:
            raise UserError(
                f"{run} is not one folder for process {processes.rank} and process 0; --out has to be on a disk that"
                " all nodes share"
            )
        processes.pause()
    processes.gather()


def _look_of(run: Path) -> str:
    digest = hashlib.sha256()
    for name in ("manifest.json", SAMPLES_FILE):
        with suppress(OSError):
            digest.update((run / name).read_bytes())
    return digest.hexdigest()
