"""Direct super-resolution of one frame after another, ours beside attention that gathers a patch for every cell.

python benchmarks/superres.py --size tiny,small --frames 2 --rounds 3
python benchmarks/superres.py --size small --frames 2 --batch 2 --tile 6 --sides ours
python benchmarks/superres.py --size medium --frames 12 --batch 12 --device cuda --dtype bfloat16
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
from torch import Tensor

from cogvideo.clusters import automatic_clusters
from cogvideo.config import get_size
from cogvideo.network import Network, initialise_
from cogvideo.superres.direct import DirectSuperResolution
from cogvideo.superres.levels import Prefix, plus_projections
from cogvideo.superres.neighbourhood import DEFAULT_TILE

COLUMNS = ("network_s", "total_s", "peak_mib")


def main() -> None:
    options = _options()
    if options.side:
        print(json.dumps(_measure(options)))
        return
    for size in options.size.split(","):
        runs: dict[str, list[dict[str, float]]] = {side: [] for side in options.sides.split(",")}
        for _ in range(options.rounds):
            for side in runs:
                runs[side].append(_run(side, size, options))
        _print(size, runs, options)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="tiny,small")
    parser.add_argument("--frames", type=int, default=2)
    parser.add_argument("--batch", type=int, default=1, help="frames at once")
    parser.add_argument("--tile", type=int, default=DEFAULT_TILE, help="side of our tiles, in cells")
    parser.add_argument("--text", type=int, default=20, help="tokens of the prompt")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--sides", default="ours,gather", help="ours, gather, or both")
    parser.add_argument("--side", choices=["ours", "gather"], help=argparse.SUPPRESS)
    return parser.parse_args()


def _print(size: str, runs: dict[str, list[dict[str, float]]], options: argparse.Namespace) -> None:
    """Medians for each side, and the rival's figures divided by ours."""
    where = f"{options.device}, {options.dtype}, {options.threads} thread(s)"
    print(f"\n{size}: {options.frames} frames in batches of {options.batch}, {where}, medians of {options.rounds} runs")
    print(f"{'side':8} {'network s/frame':>16} {'with draws':>11} {'MiB above weights':>18}")
    middle = {side: {key: statistics.median(run[key] for run in its) for key in COLUMNS} for side, its in runs.items()}
    for side, row in middle.items():
        print(f"{side:8} {row['network_s']:16.3f} {row['total_s']:11.3f} {row['peak_mib']:18.0f}")
    if len(middle) == 2:
        # Where ours fits into what torch had freed before, there is no ratio of memory to print.
        keys = [key for key in COLUMNS if middle["ours"][key] > 0]
        ratios = [f"{key} {middle['gather'][key] / middle['ours'][key]:.2f}x" for key in keys]
        print(f"gather / ours: {'   '.join(ratios)}")


def _run(side: str, size: str, options: argparse.Namespace) -> dict[str, float]:
    """One side in its own process, so that peak memory is its own."""
    passed = {**vars(options), "side": side, "size": size}
    command = [sys.executable, "-W", "ignore", __file__]
    command += [part for key, value in passed.items() for part in (f"--{key}", str(value))]
    threads = str(options.threads)
    environment = {**os.environ, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.exit(f"{side} failed")
    measured: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return measured


@torch.no_grad()
def _measure(options: argparse.Namespace) -> dict[str, float]:
    torch.set_num_threads(options.threads)
    config = get_size(options.size)
    network = initialise_(Network(config, "superres"), 0).eval().to(options.device, getattr(torch, options.dtype))
    direct = DirectSuperResolution(network, tile=options.tile)
    generator = torch.Generator().manual_seed(0)
    frames_NF = torch.randint(config.num_image_tokens, (options.frames, config.frame_len), generator=generator)
    frames_NF = frames_NF.to(options.device)
    texts = [[config.num_image_tokens + 5] * min(options.text, config.superres_text_len)] * options.frames
    table = automatic_clusters(config, 500)
    kernels = {"ours": direct.hidden, "gather": lambda prefix, inputs: _gathered(direct, prefix, inputs)}
    _warm_up(options)
    before = _peak_mib(options.device, reset=True)
    clock = time.process_time if options.device == "cpu" else time.perf_counter
    start = clock()
    for first in range(0, options.frames, options.batch):
        batch = slice(first, first + options.batch)
        prefix = direct.read(direct.text(texts[batch]), frames_NF[batch])
        kernels[options.side](prefix, _empty(direct, len(prefix.lengths)))
    if options.device != "cpu":
        torch.cuda.synchronize()
    network_s = clock() - start
    if options.side == "gather":
        direct.hidden = lambda prefix, inputs, cells: _gathered(direct, prefix, inputs)[:, cells]  # type: ignore
    start = clock()
    direct.upscale(texts, frames_NF, table, batch_frames=options.batch).cpu()
    total_s = clock() - start
    return {
        "network_s": network_s / options.frames,
        "total_s": total_s / options.frames,
        "peak_mib": _peak_mib(options.device) - before,
    }


@torch.no_grad()
def _warm_up(options: argparse.Namespace) -> None:
    """Load what torch loads at its first products, with a network that takes no memory to speak of."""
    small = initialise_(Network(get_size("tiny"), "superres"), 0).to(options.device, getattr(torch, options.dtype))
    direct = DirectSuperResolution(small)
    frames_NF = torch.zeros(1, small.config.frame_len, dtype=torch.int64, device=options.device)
    direct.upscale([[0]], frames_NF, automatic_clusters(small.config))


def _empty(direct: DirectSuperResolution, frames: int) -> Tensor:
    config = direct.network.config
    return torch.full((frames, config.superres_grid**2), config.boi_id, device=direct.network.device)


def _peak_mib(device: str, *, reset: bool = False) -> float:
    """Peak memory since the last reset; on a CPU the resident memory that Linux counts."""
    if device != "cpu":
        if reset:
            torch.cuda.reset_peak_memory_stats()
        return torch.cuda.max_memory_allocated() / 2**20
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def _gathered(direct: DirectSuperResolution, prefix: Prefix, inputs_NC: Tensor) -> Tensor:
    """The yardstick: keys and values of its patch are copied for every cell of the batch, then two small products."""
    network, its = direct.network, direct.neighbourhood
    heads = network.config.num_attention_heads
    positions = network.mixins.extra_position_embedding.position_embeddings.weight
    x_NCH = network.transformer.word_embeddings(inputs_NC) + positions
    coarse = its.grid // its.scale
    low_CK, sees_low = _patches(its.grid, coarse, its.scale, its.cross_patch, its.cross_patch)
    high_CK, sees_high = _patches(its.grid, its.grid, 1, its.patch_rows, its.patch_columns)
    keys_CK = torch.cat([low_CK, high_CK + coarse**2], dim=1).to(x_NCH.device)
    sees_C1K = torch.cat([sees_low, sees_high], dim=1).to(x_NCH.device)[:, None]
    layers = zip(network.layers, plus_projections(network), prefix.layers, strict=True)
    for layer, (query_key_value, dense), low in layers:
        qkv = query_key_value(layer.input_layernorm(x_NCH))
        N, C, h = x_NCH.shape
        rows = torch.cat([torch.stack(low), qkv[:, :, h:]], dim=1)
        k, v = rows[:, keys_CK].view(N, C, -1, 2, heads, h // heads).unbind(3)
        q = qkv[:, :, :h].view(N, C, heads, -1)
        scores = torch.einsum("ncad,nckad->ncak", q, k) / (h // heads) ** 0.5
        weights = scores.masked_fill(~sees_C1K, float("-inf")).softmax(-1)
        context = torch.einsum("ncak,nckad->ncad", weights, v).reshape(N, C, h)
        x_NCH = layer.after_attention(x_NCH, dense(context))
    hidden: Tensor = network.transformer.final_layernorm(x_NCH)
    return hidden


def _patches(grid: int, key_grid: int, scale: int, rows: int, columns: int) -> tuple[Tensor, Tensor]:
    """For every cell the keys around its place and which of them are inside of the image, (C, K) each."""
    cell = torch.arange(grid * grid)
    row = cell[:, None, None] // grid // scale + torch.arange(rows)[None, :, None] - rows // 2
    column = cell[:, None, None] % grid // scale + torch.arange(columns)[None, None] - columns // 2
    inside = (row >= 0) & (row < key_grid) & (column >= 0) & (column < key_grid)
    return (row * key_grid + column).where(inside, 0).flatten(1), inside.flatten(1)


if __name__ == "__main__":
    main()
