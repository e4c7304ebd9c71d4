"""The paper's ablation on drawn shapes: two stages against one, inherited against random, for the same steps.

python benchmarks/ablation.py --work embedded --out ablation --steps 300 --clips 128

`--work` is what `cogeval train embedded` left behind: records, image network, image tokenizer, clusters. Every variant
is trained by its recipe for `--steps` steps and makes the same clips from the same first frames, which are the image
network's in every row, so that rows differ in the video network alone. FVD is that of the embedded protocol.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from embedded_model import SCORED, Judge
from torch import Tensor

from cogvideo.checkpoint.images import image_tokenizer_at
from cogvideo.checkpoint.loading import load_network
from cogvideo.clusters import ClusterTable, read_clusters
from cogvideo.config import get_size
from cogvideo.hierarchy import Hierarchy, Job
from cogvideo.network import Network, initialise_
from cogvideo.pipeline import frames_to_clip
from cogvideo.prompting import ENGLISH, Prompts
from cogvideo.settings import GenerationSettings, Timeline
from cogvideo.tokenizer import load_tokenizer
from cogvideo.training.embedded import SETTINGS
from eval.datasets.shapes_drawing import ShapeClass, classes, draw_clip
from eval.metrics.fvd import fvd

FRAMES, FPS, REAL = 17, 8.0, 640
# Recipe, and whether it starts from the image network.
TRAININGS = {
    "stage1": ("embedded-stage1", True),
    "stage2": ("embedded-stage2", True),
    "one-stage": ("embedded-one-stage", True),
    "random": ("embedded-random", False),
}


def main() -> None:
    options = _options()
    torch.set_num_threads(1)
    for name, (recipe, is_inherited) in TRAININGS.items():
        _train(options, name, recipe, options.work / "base" / "image" if is_inherited else None)
    known = classes("benchmark")
    wanted = [known[number % len(known)] for number in range(options.clips)]
    bench = Bench(options.work, wanted)
    stage1, stage2, one, random = (bench.network(options.out / name) for name in TRAININGS)
    first_B1F = bench.first_frames()
    rows: dict[str, Callable[[], Tensor]] = {
        "two stages, inherited": lambda: bench.two_stages(stage1, stage2, first_B1F),
        "one stage, overlap 1": lambda: bench.one_stage(one, first_B1F, 1),
        "one stage, overlap 2": lambda: bench.one_stage(one, first_B1F, 2),
        "two stages, random key frames": lambda: bench.two_stages(random, stage2, first_B1F),
        "the first frame alone": lambda: first_B1F.expand(-1, FRAMES, -1),
    }
    print(f"{options.steps} steps of each network, {len(wanted)} clips, first frames by the image network")
    print(f"{'':<32}{'FVD':>8}{'shape':>8}{'colour':>8}{'motion':>8}{'all':>8}")
    for what, make in rows.items():
        print(f"{what:<32}{bench.scores(make())}", flush=True)


class Bench:
    """The first frames, the sampler, and the judge that all variants share."""

    def __init__(self, work: Path, wanted: list[ShapeClass]) -> None:
        self.config = get_size("tiny")
        self.work, self.wanted = work, wanted
        self.jobs = [Job(one.caption, 1000 + number) for number, one in enumerate(wanted)]
        cpu = torch.device("cpu")
        self.tokenizer = image_tokenizer_at(work / "image_tokenizer", device=cpu, dtype=torch.float32)
        self.prompts = Prompts(load_tokenizer(self.config, None), self.config, ENGLISH)
        self.clusters: ClusterTable = read_clusters(work / "clusters.safetensors", self.config)
        self.judge = Judge()
        known = classes("benchmark")
        real = [known[number % len(known)] for number in range(REAL)]
        drawn = [draw_clip(one.shape, one.colour, one.motion, f"ablation/{n}") for n, one in enumerate(real)]
        self.real_ND = self._features(drawn)

    def network(self, folder: Path) -> Network:
        card = next(folder.glob("*/card.json"))
        return load_network(card.parent, "video", device="cpu", dtype=torch.float32, expect=self.config)

    def first_frames(self) -> Tensor:
        """(B, 1, F), by the image network in the place of a first stage's."""
        image = load_network(self.work / "base" / "image", "image", device="cpu", dtype=torch.float32)
        network = initialise_(Network(self.config), 0).eval()
        network.transformer.load_state_dict(image.transformer.state_dict())
        return self._hierarchy(network, None).tokens(self.jobs, Timeline(1, 2.0))

    def two_stages(self, stage1: Network, stage2: Network, first_B1F: Tensor) -> Tensor:
        return self._hierarchy(stage1, stage2).tokens(self.jobs, Timeline(FRAMES, FPS), first_B1F)

    def one_stage(self, network: Network, first_B1F: Tensor, overlap: int) -> Tensor:
        """Five frames at the full rate at a time, each five from the last ones of those before."""
        made, hierarchy = first_B1F, self._hierarchy(network, None)
        while made.shape[1] < FRAMES:
            given = made[:, -overlap:] if made.shape[1] >= overlap else made
            # Another seed for each five: else all of them draw the same numbers.
            jobs = [Job(job.prompt, job.seed + 7919 * made.shape[1]) for job in self.jobs]
            five = hierarchy.tokens(jobs, Timeline(5, FPS), given)
            made = torch.cat([made, five[:, given.shape[1] :]], dim=1)
        return made[:, :FRAMES]

    def scores(self, tokens_BTF: Tensor) -> str:
        clips = [frames_to_clip(self.tokenizer.decode(ids, self.config.compress_rate)) for ids in tokens_BTF]
        found = self.judge.right(clips, self.wanted)
        shares = "".join(f"{found[name].float().mean():>8.3f}" for name in ("shape", "colour", "motion", "all"))
        return f"{fvd(self._features(clips), self.real_ND):>8.1f}{shares}"

    def _hierarchy(self, stage1: Network, stage2: Network | None) -> Hierarchy:
        settings = GenerationSettings(**{**vars(SETTINGS), "is_parallel": True})
        return Hierarchy(stage1, stage2, self.prompts, self.clusters, settings)

    def _features(self, clips: list[Any]) -> Any:
        rows = torch.from_numpy(np.stack([clip[:SCORED] for clip in clips])).permute(0, 4, 1, 2, 3)
        return torch.cat([self.judge.video(part.float() / 127.5 - 1)["logits"] for part in rows.split(32)]).numpy()


def _train(options: argparse.Namespace, name: str, recipe: str, init: Path | None) -> None:
    out = options.out / name
    if any(out.glob("*/card.json")):
        return
    command = [sys.executable, "-m", "cogeval", "train", recipe, "--data", str(options.work / "records")]
    command += ["--out", str(out), "--steps", str(options.steps), "--threads", "1", "--quiet"]
    command += [*(("--init", str(init)) if init else ()), *(("--compile",) if options.compile else ())]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--clips", type=int, default=128)
    parser.add_argument("--compile", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()
