"""The whole small model from drawn videos: tokenizer, records, clusters, image network, both stages, pipeline folder.

Every part is a training or a file of its own, whole or not there, so that the chain can be stopped anywhere.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch

from cogvideo.checkpoint.cards import CARD_NAME, PipelineCard, write_card
from cogvideo.checkpoint.convert import convert
from cogvideo.checkpoint.images import image_tokenizer_at
from cogvideo.checkpoint.sharing import share
from cogvideo.checkpoint.staging import staged
from cogvideo.config import ModelConfig, get_size
from cogvideo.cores import available_cores
from cogvideo.data.cluster_codes import CLUSTERS, cluster_codes, write_clusters
from cogvideo.data.record_card import CARD_NAME as RECORDS_CARD
from cogvideo.data.sources import open_source
from cogvideo.data.tokenizing import TokenizeSettings, tokenize
from cogvideo.devices import choose_device
from cogvideo.errors import UserError
from cogvideo.prompting import ENGLISH, Prompts
from cogvideo.sampling import SamplerSettings
from cogvideo.settings import GenerationSettings, unlike_release
from cogvideo.tokenizer import load_tokenizer
from cogvideo.training.recipes import get_recipe

SIZE = "tiny"
# Of the image network on a CPU: more of them would have too few rows of a batch each.
PROCESSES = 2
# Drawn clips: 17 frames at 8 a second, which hold clips of 5 at 8, 4 and 2.
RECORD_FRAMES = 17
RECORD_RATES = (Fraction(8),)
DRAWN = "`cogeval data shapes DIR --classes training --groups 48 --seed 1 --style plain`"
# Colder, more clips are named right, but two of one prompt may then be the same to the pixel (docs/training.md).
SETTINGS = GenerationSettings(
    first_frame=SamplerSettings(0.7, 6, 0.7),
    video=SamplerSettings(0.3, 4, 0.8),
    guidance_scale=1.0,
    first_frame_guidance_scale=1.0,
    text_bonus=0.0,
)
# The image network is in both stages, frozen: first frames are made by that of stage 1.
STAGES = ("stage1", "stage2")


class Stopped(Exception):  # noqa: N818 - it names the state
    """A part was asked to stop, and has saved."""


def make_embedded(
    data: Path,
    out: Path,
    *,
    steps: int | None = None,
    seed: int = 0,
    workers: int = 1,
    device: str = "auto",
    is_compiled: bool = False,
    is_quiet: bool = False,
) -> Path | None:
    """The pipeline folder in `out`, made of the videos in `data`; None if it was stopped by a signal.

    What is there already is kept. `steps` replaces the number of steps of every training, for trials. Raises UserError
    as the parts do.
    """
    runs = _Runs(out, steps=steps, seed=seed, device=device, is_compiled=is_compiled, is_quiet=is_quiet)
    pipeline = out / "pipeline"
    if (pipeline / "pipeline.json").is_file():
        return pipeline
    cores = available_cores()
    has_gpu = choose_device(device).type == "cuda"
    with _forwarded(runs):
        try:
            runs.all({"tokenizer": (data, None)}, threads=cores)
            # What ships is rounded, and ids belong to what ships.
            tokenizer = out / "image_tokenizer"
            if not (tokenizer / CARD_NAME).is_file():
                convert(str(out / "tokenizer" / "image_tokenizer"), tokenizer, dtype="float16")
            _records(data, out / "records", get_size(SIZE), tokenizer, seed, workers, device)
            _clusters(tokenizer, out / "clusters.safetensors", seed)
            runs.all({"base": (out / "records", None)}, processes=PROCESSES if cores > 1 and not has_gpu else 1)
            base = out / "base" / "image"
            threads = max(1, cores // 2)
            runs.all(dict.fromkeys(STAGES, (out / "records", base)), threads=threads)
            longer = {f"{stage}-second": (out / "records", out / stage / stage) for stage in STAGES}
            runs.all(longer, threads=threads)
        except Stopped:
            return None
    _assemble(out, pipeline, tokenizer, seed)
    return pipeline


class _Runs:
    """Trainings as processes of their own: two of them with one thread each use two cores better than one with two."""

    def __init__(
        self, out: Path, *, steps: int | None, seed: int, device: str, is_compiled: bool, is_quiet: bool
    ) -> None:
        self.out, self.steps, self.seed, self.device = out, steps, seed, device
        self.is_compiled, self.is_quiet = is_compiled, is_quiet
        self.is_stopped = False
        self.running: list[subprocess.Popen[bytes]] = []

    def all(self, wanted: Mapping[str, tuple[Path, Path | None]], threads: int = 1, processes: int = 1) -> None:
        """Train parts side by side, of their data and starting networks. Raises Stopped, or UserError if one fails."""
        for name, (data, init) in wanted.items():
            folder = self.out / name
            if not any(path.is_file() for path in folder.glob(f"*/{CARD_NAME}")):
                command = self._command(name, folder, data, init, threads, processes)
                # What they answer is not the answer of the whole.
                self.running.append(subprocess.Popen(command, stdout=subprocess.DEVNULL))
        codes = [process.wait() for process in self.running]
        self.running = []
        if self.is_stopped:
            raise Stopped
        for name in wanted:
            if any(codes) or not any(path.is_file() for path in (self.out / name).glob(f"*/{CARD_NAME}")):
                raise UserError(f"training of {name} did not end well (exit {codes}); its line is above")

    def stop(self) -> None:
        """Ask all to save and end."""
        self.is_stopped = True
        for process in self.running:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)

    def _command(
        self, name: str, folder: Path, data: Path, init: Path | None, threads: int, processes: int
    ) -> list[str]:
        recipe = get_recipe(f"embedded-{name}")
        flags: Sequence[Any] = ("--data", data, "--out", folder, "--seed", self.seed, "--device", self.device)
        flags = (*flags, "--threads", threads, *(("--init", init) if init else ()))
        # The image tokenizer gains nothing by it.
        flags = (*flags, *(("--compile",) if self.is_compiled and recipe.task != "tokenizer" else ()))
        flags = (*flags, *(("--steps", self.steps) if self.steps else ()), *(("--quiet",) if self.is_quiet else ()))
        launcher = ["torch.distributed.run", "--standalone", "--nproc-per-node", str(processes), "-m"]
        start = [sys.executable, "-m", *(launcher if processes > 1 else ()), "cogeval"]
        return [*start, "train", recipe.name, *map(str, flags)]


@contextmanager
def _forwarded(runs: _Runs) -> Iterator[None]:
    """SIGTERM goes on to the parts; SIGINT reaches them by itself."""

    def stop(number: int, frame: object) -> None:
        runs.stop()

    before = {name: signal.signal(name, stop) for name in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)


def _records(data: Path, out: Path, config: ModelConfig, tokenizer: Path, seed: int, workers: int, device: str) -> None:
    if (out / RECORDS_CARD).is_file():
        return
    tokenize(
        open_source(data),
        out,
        config=config,
        image_tokenizer=image_tokenizer_at(tokenizer, device=choose_device(device), dtype=torch.float32),
        prompts=Prompts(load_tokenizer(config, None), config, ENGLISH),
        settings=TokenizeSettings(RECORD_RATES, RECORD_FRAMES, seed=seed),
        workers=workers,
    )


def _clusters(tokenizer: Path, path: Path, seed: int) -> None:
    if not path.is_file():
        codes_KD = image_tokenizer_at(tokenizer).quantize.embed.weight.detach().float().numpy()
        write_clusters(path, cluster_codes(codes_KD, CLUSTERS[len(codes_KD)], seed=seed))


def _assemble(out: Path, pipeline: Path, tokenizer: Path, seed: int) -> None:
    """Everything in half precision, in one folder, whole or not at all."""
    with staged(pipeline) as place:
        for role in STAGES:
            convert(str(out / f"{role}-second" / role), place / role, dtype="float16")
        share(place / "stage2", place / "stage1")
        convert(str(tokenizer), place / "image_tokenizer")
        shutil.copyfile(out / "clusters.safetensors", place / "clusters.safetensors")
        card = PipelineCard(
            name=f"cogvideo-{SIZE}",
            sizes=get_size(SIZE).layout(),
            settings=unlike_release(SETTINGS),
            frames=RECORD_FRAMES,
            licence="Apache-2.0",
            note=f"trained on drawn shapes: {DRAWN}, `cogeval train embedded --data DIR --seed {seed}`",
        )
        write_card(place, card)
