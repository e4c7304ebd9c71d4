"""A training step: tokens a second, share of the machine's peak, time and peak memory, with rivals in one run.

python benchmarks/training.py                                  # tiny: all tasks, float32 beside bfloat16
python benchmarks/training.py --size small --tasks stage1 --batch 1 --recompute both --rounds 1
python benchmarks/training.py --tasks base --threads 1,2 --precision bfloat16
python benchmarks/training.py --size medium --tasks stage1 --batch 4 --device cuda --recompute both

Each measurement has a process of its own, and rivals take turns: the best of all rounds is shown. CPU seconds are those
of all threads, so that a busy machine changes them little.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from cogvideo.config import get_size
from cogvideo.network import Network, initialise_
from cogvideo.training.codebook import TokenizerTask
from cogvideo.training.engine import Engine, Options
from cogvideo.training.inherit import freeze_
from cogvideo.training.machine import peak_flops, peak_memory
from cogvideo.training.recipe import CodebookRules, Phase, TrainingRecipe
from cogvideo.training.tasks import ImageTask, StageTask, Task
from cogvideo.vqvae.config import IMAGE_TOKENIZERS
from cogvideo.vqvae.image_tokenizer import ImageTokenizer

BATCHES = {"tokenizer": 64, "base": 16, "stage1": 4, "stage2": 4}


def main() -> None:
    options = _options()
    if options.one:
        print(json.dumps(_measure(json.loads(options.one))))
        return
    recompute = {"no": [False], "yes": [True], "both": [False, True]}[options.recompute]
    sides = [
        {
            "size": options.size,
            "device": options.device,
            "steps": options.steps,
            "task": task,
            "batch": batch or BATCHES[task],
        }
        | {"precision": precision, "threads": threads, "recompute": again}
        for task, batch, precision, threads, again in itertools.product(
            options.tasks.split(","),
            map(int, options.batch.split(",")),
            options.precision.split(","),
            map(int, options.threads.split(",")),
            recompute,
        )
    ]
    found: list[list[dict[str, float]]] = [[] for _ in sides]
    for _ in range(options.rounds):
        for side, results in zip(sides, found, strict=True):
            results.append(_run(side))
    print(f"{options.size} on {options.device}; tokens are those of images")
    head = "task       batch threads type      recompute   step s    cpu s  tokens/s  tokens/cpu s  peak %     MiB"
    print(head)
    for side, results in zip(sides, found, strict=True):
        wall, cpu = (min(result[name] for result in results) for name in ("wall_s", "cpu_s"))
        best = results[0]
        share = max(result["flops"] / result["cpu_s"] / result["peak"] for result in results)
        if options.device != "cpu":
            share = max(result["flops"] / result["wall_s"] / result["peak"] for result in results)
        print(
            f"{side['task']:<10} {side['batch']:>5} {side['threads']:>7} {side['precision']:<9} "
            f"{'yes' if side['recompute'] else 'no':<9} {wall:>8.3f} {cpu:>8.3f} {best['tokens'] / wall:>9,.0f} "
            f"{best['tokens'] / cpu:>13,.0f} {share:>7.0%} {min(r['memory'] for r in results) / 2**20:>7,.0f}"
        )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="tiny")
    parser.add_argument("--tasks", default="tokenizer,base,stage1,stage2")
    parser.add_argument("--batch", default="0", help="rows of a step; 0: those of the embedded recipes")
    parser.add_argument("--precision", default="float32,bfloat16")
    parser.add_argument("--threads", default="1")
    parser.add_argument("--recompute", choices=["no", "yes", "both"], default="no")
    parser.add_argument("--steps", type=int, default=5, help="timed steps of a measurement; the best counts")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    return parser.parse_args()


def _run(side: dict[str, Any]) -> dict[str, float]:
    environment = os.environ | {"OMP_NUM_THREADS": str(side["threads"])}
    command = [sys.executable, __file__, "--one", json.dumps(side)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def _measure(side: dict[str, Any]) -> dict[str, float]:
    torch.set_num_threads(side["threads"])
    device, is_half = torch.device(side["device"]), side["precision"] == "bfloat16"
    peak = peak_flops(device, torch.bfloat16 if is_half else torch.float32)
    task = _task(side)
    recipe = TrainingRecipe("benchmark", side["task"], "", phases=(Phase(100),), batch_size=side["batch"], dropout=0.0)
    with tempfile.TemporaryDirectory() as folder:
        batches = _Rows(task, side["size"], side["batch"])
        options = Options(is_half=is_half, save_every=1000)
        engine = Engine(task.to(device), recipe, batches, Path(folder), device=device, options=options)
        marks: list[tuple[float, float]] = []

        def mark(entry: dict[str, Any]) -> None:
            marks.append((time.perf_counter(), time.process_time()))

        # The engine logs and thereby waits for the device; saving happens after the last mark.
        engine.options = Options(is_half=is_half, save_every=1000, log_every=1)
        engine.run([mark], until=side["steps"] + 2)
    spans = [(b[0] - a[0], b[1] - a[1]) for a, b in itertools.pairwise(marks[1:])]
    return {
        "wall_s": min(wall for wall, _ in spans),
        "cpu_s": min(cpu for _, cpu in spans),
        "tokens": side["batch"] * task.tokens,
        "flops": side["batch"] * task.flops,
        "peak": peak / (1 if device.type == "cuda" else side["threads"]),
        "memory": peak_memory(device),
    }


def _task(side: dict[str, Any]) -> Task:
    config, name = get_size(side["size"]), side["task"]
    if name == "tokenizer":
        tokenizer = ImageTokenizer(IMAGE_TOKENIZERS[side["size"]])
        return TokenizerTask(tokenizer, config.compress_rate, config.frame_pixels, CodebookRules(warm_up=0))
    if name == "base":
        return ImageTask(initialise_(Network(config, "image"), 0), recompute=side["recompute"])
    network = freeze_(initialise_(Network(config), 0), "temporal")
    return StageTask(network, 1 if name == "stage1" else 2, None, recompute=side["recompute"])


class _Rows:
    """Random rows of a task."""

    def __init__(self, task: Task, size: str, batch: int) -> None:
        config, generator = get_size(size), torch.Generator().manual_seed(0)
        if isinstance(task, TokenizerTask):
            side = config.frame_pixels
            self.rows = torch.randint(0, 256, (batch, side, side, 3), generator=generator).to(torch.uint8)
            return
        text = torch.full((batch, config.text_len), config.pad_id)
        text[:, :6] = config.num_image_tokens + 6
        images = torch.randint(0, config.num_image_tokens, (batch, task.tokens), generator=generator)
        self.rows = torch.cat([text, images], 1).int()

    def keys(self, step: int) -> list[int]:
        return list(range(len(self.rows)))

    def load(self, keys: list[int]) -> torch.Tensor:
        return self.rows[keys]


if __name__ == "__main__":
    main()
