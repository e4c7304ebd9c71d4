"""CogVideo as a whole: prompts in, clips out.

model = CogVideo.load("weights/cogvideo"); model.generate(["一只猫在跳舞"])[0].clip
B samples, T frames, F tokens of a frame, H x W pixels.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cogvideo.assembly import (
    RESIDENT_SHARE,
    Networks,
    image_tokenizer_of,
    load_networks,
    prompts_of,
    random_image_tokenizer,
    random_networks,
)
from cogvideo.checkpoint.memory import available_memory
from cogvideo.config import ModelConfig
from cogvideo.errors import UserError
from cogvideo.hierarchy import Hierarchy, Job
from cogvideo.settings import GenerationSettings, Timeline
from cogvideo.superres.direct import DirectSuperResolution
from cogvideo.superres.iterative import IterativeSuperResolution
from cogvideo.vqvae import clip_to_frames, frames_to_clip

__all__ = [
    "Clip",
    "CogVideo",
    "Networks",
    "Progress",
    "Video",
    "image_tokenizer_of",
    "job_seed",
    "prompts_of",
    "random_image_tokenizer",
]

Clip = NDArray[np.uint8]
# Called with the phase, and how many of its units (tokens, frames, passes of frames, videos) are done of how many.
Progress = Callable[[str, int, int], None]
LARGEST_SEED = 2**63 - 1


@dataclass(frozen=True)
class Video:
    """One sample: `clip` uint8 (T, H, W, 3) RGB, and what it was made from; `tokens` (T, F) before super-resolution."""

    prompt: str
    sample: int
    seed: int
    fps: float
    clip: Clip
    tokens: NDArray[np.int32]


class CogVideo:
    """The generator. Networks stay on `device`; those that do not fit beside each other are moved there when needed."""

    def __init__(self, networks: Networks, device: torch.device | str = "cpu") -> None:
        self.networks = networks
        self.device = torch.device(device)
        self.config = networks.stage1.config
        self.seconds: dict[str, float] = {}

    @classmethod
    def load(
        cls,
        checkpoint: Path | str,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype | None = None,
        stage2: bool = True,
        superres: bool = True,
        iterative: bool = False,
    ) -> CogVideo:
        """The pipeline in a folder: converted (`cogeval convert`) or as released (SAT_HOME).

        `dtype` None keeps the files' own; half-precision files are computed in bfloat16 on a CPU, which has no fast
        float16. `stage2` (for more than five frames, if the folder has it), `superres` and `iterative` load those
        networks. Raises UserError for files that do not fit each other or, together, the memory, and
        MissingPrerequisite that names an absent part; all that before a network is read.
        """
        place = torch.device(device)
        networks = load_networks(checkpoint, place, dtype, stage2=stage2, superres=superres, iterative=iterative)
        return cls(networks, place)._settled()

    @classmethod
    def random(
        cls,
        size: str | ModelConfig = "tiny",
        *,
        seed: int = 0,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        stage2: bool = True,
        superres: bool = True,
        iterative: bool = False,
        text_model: Path | None = None,
    ) -> CogVideo:
        """A pipeline of any size with random weights, the same for a seed. Its videos are noise: for trying and timing.

        Raises UserError for an unknown size or too little memory, MissingPrerequisite without a text model where the
        size needs one.
        """
        networks = random_networks(
            size, seed, dtype, stage2=stage2, superres=superres, iterative=iterative, text_model=text_model
        )
        return cls(networks, device)._settled()

    def generate(
        self,
        prompts: Sequence[str],
        *,
        frames: int = 33,
        fps: float = 8.0,
        seed: int = 0,
        samples: int = 1,
        seeds: Sequence[int] | None = None,
        given: Sequence[Clip] | None = None,
        superres: bool = True,
        iterative: bool = False,
        settings: GenerationSettings | None = None,
        progress: Progress | None = None,
    ) -> list[Video]:
        """`samples` videos of each prompt, prompt after prompt, all of them in work together.

        `given` are the first frames of each prompt's video, uint8 (t, H, W, 3), t >= 1, of any size: their centre is
        kept. `seeds` are the samples' own seeds (one for each video); without them they follow from `seed`, the
        prompt and the sample's number, so that a video does not depend on what is asked for beside it. `superres`
        makes frames three times as wide; `iterative` refines them. `settings` None takes those that suit the networks.
        Raises UserError for prompts that are empty or too long, for frames or rates that cannot be, and for too little
        memory, before work.
        """
        timeline = Timeline(frames, fps)
        jobs = self._jobs(prompts, samples, seed, seeds)
        settings = settings or self.networks.settings
        report = _Report(progress)
        hierarchy = self._hierarchy(settings, report)
        hierarchy.check(jobs, timeline)
        texts = self._superres_texts(prompts, superres, iterative)
        known = self._encoded(given, len(prompts), samples, timeline) if given is not None else None
        report.totals = hierarchy.count(len(jobs), timeline, 0 if known is None else known.shape[1])
        with self._on_device(self.networks.stage1, self.networks.stage2), report.timed():
            tokens_BTF = hierarchy.tokens(jobs, timeline, known)
        fine_BTF = tokens_BTF
        if superres:
            own_texts = [text for text in texts for _ in range(samples)]
            fine_BTF = self._fine(tokens_BTF, own_texts, jobs, settings, report, iterative)
        videos = []
        for number, (job, low_TF, fine_TF) in enumerate(zip(jobs, tokens_BTF, fine_BTF, strict=True)):
            with report.timed("decoding"):
                clip_THWC = self.decode(fine_TF)
            report("decoding", number + 1, len(jobs))
            ids = low_TF.cpu().numpy().astype(np.int32)
            videos.append(Video(job.prompt, number % samples, job.seed, fps, clip_THWC, ids))
        self.seconds = report.seconds
        return videos

    def check(
        self,
        prompts: Sequence[str],
        *,
        frames: int = 33,
        fps: float = 8.0,
        superres: bool = True,
        iterative: bool = False,
        settings: GenerationSettings | None = None,
    ) -> None:
        """Raise the UserError that `generate` would, without work: for prompts that are made a few at a time."""
        hierarchy = self._hierarchy(settings or self.networks.settings, _Report(None))
        hierarchy.check(self._jobs(prompts, 1, 0, None), Timeline(frames, fps))
        self._superres_texts(prompts, superres, iterative)

    def encode(self, clip_THWC: Clip) -> Tensor:
        """Image tokens (T, F) of a clip of any size, its centre, at the size of frames before super-resolution."""
        with self._on_device(self.networks.image_tokenizer):
            frames_T3HW = clip_to_frames(clip_THWC, self.config.frame_pixels)
            return self.networks.image_tokenizer.encode(frames_T3HW, self.config.compress_rate)

    def decode(self, tokens_TF: Tensor) -> Clip:
        """The clip (T, H, W, 3) of image tokens on a square grid of any side."""
        with self._on_device(self.networks.image_tokenizer):
            return frames_to_clip(self.networks.image_tokenizer.decode(tokens_TF, self.config.compress_rate))

    def _hierarchy(self, settings: GenerationSettings, report: _Report) -> Hierarchy:
        networks = self.networks
        return Hierarchy(
            networks.stage1, networks.stage2, networks.prompts, networks.clusters, settings, report.advance, self.device
        )

    def _jobs(self, prompts: Sequence[str], samples: int, seed: int, seeds: Sequence[int] | None) -> list[Job]:
        if samples < 1 or not prompts:
            raise UserError(f"expected at least one prompt and one sample, got {len(prompts)} and {samples}")
        asked = [(prompt, sample) for prompt in prompts for sample in range(samples)]
        if seeds is None:
            return [Job(prompt, job_seed(seed, prompt, sample)) for prompt, sample in asked]
        if len(seeds) != len(asked):
            raise UserError(f"expected a seed for each of {len(asked)} videos, got {len(seeds)}")
        if wrong := [own for own in seeds if not 0 <= own <= LARGEST_SEED]:
            raise UserError(f"expected seeds from 0 to {LARGEST_SEED}, got {wrong[0]}")
        return [Job(prompt, own) for (prompt, _), own in zip(asked, seeds, strict=True)]

    def _encoded(self, given: Sequence[Clip], prompts: int, samples: int, timeline: Timeline) -> Tensor:
        """Tokens (B, t, F) of given frames, the same for the samples of a prompt."""
        lengths = {len(clip) for clip in given}
        if timeline.frames == 1:
            raise UserError("given frames leave nothing to make of a single one; ask for more frames")
        if len(given) != prompts or len(lengths) != 1 or not 0 < min(lengths) < timeline.frames:
            counts = ", ".join(map(str, sorted(lengths))) or "none"
            raise UserError(
                f"expected given frames for each of {prompts} prompts, as many for all, from 1 to"
                f" {timeline.frames - 1}; got them for {len(given)}: {counts}"
            )
        # The same clip for every prompt is encoded once.
        tokens = {id(clip): self.encode(clip) for clip in {id(clip): clip for clip in given}.values()}
        return torch.stack([tokens[id(clip)] for clip in given]).repeat_interleave(samples, 0)

    def _superres_texts(self, prompts: Sequence[str], is_on: bool, is_refined: bool) -> list[list[int]]:
        """Ids for super-resolution, none if it is off. Raises UserError for a network that is not there."""
        networks = self.networks
        if is_refined and not is_on:
            raise UserError("iterative super-resolution refines what direct super-resolution makes, which is off")
        if is_on and networks.superres is None:
            raise UserError("super-resolution is on, but its network was not loaded; use --no-super-resolution")
        if is_refined and networks.iterative is None:
            raise UserError("iterative super-resolution is on, but its network was not loaded")
        return [networks.prompts.superres(prompt) for prompt in prompts] if is_on else []

    def _fine(
        self,
        tokens_BTF: Tensor,
        texts: list[list[int]],
        jobs: Sequence[Job],
        settings: GenerationSettings,
        report: _Report,
        is_refined: bool,
    ) -> Tensor:
        """Super-resolved tokens (B, T, 9 F)."""
        network, B = self.networks.superres, len(jobs)
        assert network is not None
        flat_NF = tokens_BTF.flatten(0, 1)
        seeds_B = torch.tensor([job.seed for job in jobs])
        with self._on_device(network), report.timed("super-resolution"):
            fine_NC = DirectSuperResolution(network).upscale(
                texts,
                flat_NF,
                self.networks.clusters,
                settings=settings.superres,
                seeds=seeds_B,
                batch_frames=settings.superres_frames,
                is_greedy=settings.is_greedy,
                progress=report.phase("super-resolution"),
            )
        if is_refined:
            fine_NC = self._refined(fine_NC, jobs, seeds_B, settings, report)
        return fine_NC.view(B, -1, fine_NC.shape[1])

    def _refined(
        self, fine_NC: Tensor, jobs: Sequence[Job], seeds_B: Tensor, settings: GenerationSettings, report: _Report
    ) -> Tensor:
        network = self.networks.iterative
        assert network is not None
        with self._on_device(network), report.timed("refinement"):
            return IterativeSuperResolution(network).refine(
                [self.networks.prompts.iterative(job.prompt) for job in jobs],
                fine_NC,
                seeds=seeds_B,
                batch_frames=settings.superres_frames,
                is_greedy=settings.is_greedy,
                progress=report.phase("refinement"),
            )

    def _settled(self) -> CogVideo:
        """With every network on the device, if they fit there together with a reserve for caches."""
        waiting = [part for part in self._parts() if _place(part) != self.device.type]
        need = sum(parameter.nbytes for part in waiting for parameter in part.parameters())
        free = available_memory(self.device) if waiting else None
        if free is None or need < free * RESIDENT_SHARE:
            for part in waiting:
                part.to(self.device)
        return self

    def _parts(self) -> list[torch.nn.Module]:
        networks = self.networks
        every = (networks.stage1, networks.stage2, networks.superres, networks.iterative, networks.image_tokenizer)
        return [part for part in every if part is not None]

    @contextmanager
    def _on_device(self, *parts: torch.nn.Module | None) -> Iterator[None]:
        """Have these parts on the device; those that live elsewhere go back afterwards."""
        guests = [part for part in parts if part is not None and _place(part) != self.device.type]
        try:
            for part in guests:
                part.to(self.device)
            yield
        finally:
            for part in guests:
                part.to("cpu")


class _Report:
    """Counts what is done in each phase, and the seconds that it took."""

    def __init__(self, progress: Progress | None) -> None:
        self._progress = progress
        self._done: dict[str, int] = {}
        self._since = 0.0
        self._current = ""
        self.totals: dict[str, int] = {}
        self.seconds: dict[str, float] = {}

    def __call__(self, phase: str, done: int, total: int) -> None:
        if self._progress:
            self._progress(phase, done, total)

    def advance(self, phase: str, count: int) -> None:
        """So many tokens more; a phase's time runs until the next one begins."""
        self._switch(phase)
        self._done[phase] = self._done.get(phase, 0) + count
        self(phase, self._done[phase], self.totals.get(phase, 0))

    def phase(self, name: str) -> Callable[[int, int], None]:
        return lambda done, total: self(name, done, total)

    @contextmanager
    def timed(self, phase: str = "prefill") -> Iterator[None]:
        """Time what is inside as `phase`, or as the phases that it reports."""
        self._switch(phase)
        try:
            yield
        finally:
            self._switch("")

    def _switch(self, phase: str) -> None:
        if phase == self._current:
            return
        now = time.perf_counter()
        if self._current:
            self.seconds[self._current] = self.seconds.get(self._current, 0.0) + now - self._since
        self._current, self._since = phase, now


def job_seed(seed: int, prompt: str, sample: int) -> int:
    """The seed of one video, from the seed of the whole, its prompt and its number among that prompt's samples."""
    digest = hashlib.sha256(f"{seed}\n{sample}\n{prompt}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def _place(part: torch.nn.Module) -> str:
    return next(part.parameters()).device.type
