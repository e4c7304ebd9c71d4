"""Token-by-token decoding of CogVideo: time of a step, the floor that memory sets, and the ratio to a plain decoder.

python benchmarks/generation.py --size small --baseline plain
python benchmarks/generation.py --size release --stage 1 --device cuda --dtype bfloat16 --baseline plain --rounds 5
python benchmarks/generation.py --size release --report memory
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
if "--threads" not in sys.argv:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
import whole_video
from decoding_sides import History, OnDevice, Ours, Plain, Stage, largest_difference, random_network, stage
from roofline import Bandwidth, Clock, bandwidth, cache_bytes, peak_memory, step_bytes

from cogvideo.checkpoint.memory import network_bytes
from cogvideo.config import ModelConfig, get_size
from cogvideo.network import Kind, Network
from cogvideo.schedule import Step

# With float32 the two sides differ by the order of sums; more means that they do not compute the same.
FLOAT32_TOLERANCE = 1e-3
# Of one H200.
GPU_GB = 139


def main() -> None:
    options = _options()
    torch.set_num_threads(options.threads)
    config = _config(options)
    dtype = getattr(torch, options.dtype)
    names = ["first", "1", "2"] if options.stage == "all" else [options.stage]
    if options.report == "memory":
        _print_memory(config, dtype, options)
        return
    if options.end_to_end:
        whole_video.run(config, dtype, options)
        return
    clock = Clock(options.device)
    shown = bandwidth(clock, options.device, dtype)
    network = random_network(config, options.device, dtype)
    rows = [_measure(network, stage(name, config), shown, clock, options) for name in names]
    if options.json:
        print(json.dumps({"machine": _machine(options), "bandwidth": vars(shown), "stages": rows}))
    else:
        _print(config, shown, rows, clock, options)
    if any(row.get("difference", 0.0) > FLOAT32_TOLERANCE for row in rows) and dtype == torch.float32:
        sys.exit("the two sides give different logits: nothing above may be compared")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="small", help="a named size")
    parser.add_argument("--layers", type=int, help="instead of the size's")
    parser.add_argument("--hidden", type=int, help="instead of the size's")
    parser.add_argument("--heads", type=int, help="instead of the size's")
    parser.add_argument("--stage", choices=["first", "1", "2", "all"], default="all")
    parser.add_argument("--batch", type=int, default=1, help="videos; in stage 2 sequences of five frames")
    parser.add_argument("--text", type=int, default=64, help="ids of the prompt")
    parser.add_argument("--context", type=int, help="only steps with so many positions before them, text included")
    parser.add_argument("--steps", type=int, default=12, help="steps timed in a round, spread over the stage")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", choices=["float32", "bfloat16", "float16"], default="float32")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--baseline", choices=["plain"], help="take turns with the plain decoder")
    parser.add_argument("--wavefront", action="store_true", help="stage 2: two frames side by side")
    parser.add_argument("--end-to-end", action="store_true", help="whole videos, phase by phase")
    parser.add_argument("--frames", type=int, default=33, help="with --end-to-end")
    parser.add_argument("--superres", action=argparse.BooleanOptionalAction, default=True, help="with --end-to-end")
    parser.add_argument("--loop", choices=["auto", "host", "device"], default="auto", help="who counts our steps")
    parser.add_argument("--report", choices=["roofline", "memory"], default="roofline")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def _is_on_device(options: argparse.Namespace) -> bool:
    """CUDA graphs on a GPU, unless the host is asked for."""
    return options.loop == "device" or (options.loop == "auto" and options.device != "cpu")


def _config(options: argparse.Namespace) -> ModelConfig:
    chosen = {"num_layers": options.layers, "hidden_size": options.hidden, "num_attention_heads": options.heads}
    changed = {name: value for name, value in chosen.items() if value}
    size = get_size(options.size)
    return replace(size, **changed, name=f"{size.name}, changed") if changed else size


def _measure(
    network: Network, its: Stage, shown: Bandwidth, clock: Clock, options: argparse.Namespace
) -> dict[str, Any]:
    """Medians over interleaved rounds; a round runs each chosen step once on each side."""
    config = network.config
    is_parallel = options.wavefront and its.plan.given > 0
    schedule = its.steps(config, is_parallel)
    chosen = _chosen(schedule, config, options)
    ours = Ours(network, its, options.batch, options.text, rings=max(map(len, schedule)))
    history = History(network, its, ours.text) if options.baseline else None
    ours.fill(history)
    row: dict[str, Any] = {"stage": its.name, "steps": len(schedule), "batch": options.batch}
    row["rows"], T = ours.text.ids.shape
    plain = Plain(ours, history) if history else None
    on_device = OnDevice(ours, schedule) if _is_on_device(options) else None
    single = _chosen(its.steps(config), config, options) if is_parallel else chosen
    if plain:
        row["difference"] = largest_difference(ours, plain, single)
        if on_device and history:
            row["difference"] = max(row["difference"], on_device.difference(chosen, history))
    moved = [step_bytes(config, its.plan, step, row["rows"], T, network.dtype.itemsize) for step in chosen]
    seconds: dict[str, list[float]] = {"ours": [], "plain": []}
    for turn in range(options.rounds + 1):
        spent = {"ours": 0.0, "plain": 0.0}
        for step, lone in zip(chosen, single, strict=True):
            if on_device:
                on_device.prepare(step)
            spent["ours"] += clock(partial((on_device or ours).run, step))
            if plain:
                plain.prepare(lone)
                spent["plain"] += clock(partial(plain.run, lone))
        if turn:  # the first round allocates and warms up
            for side, value in spent.items():
                seconds[side].append(value / len(chosen))
    step_s = statistics.median(seconds["ours"])
    tokens = statistics.fmean(len(step) for step in chosen) * options.batch
    floor = statistics.fmean(each.total for each in moved) / 1e9
    row |= {
        "context": [T + sum(slot.fed for slot in step[:1]) * config.frame_len + step[0].cell for step in chosen],
        "ms_per_step": step_s * 1e3,
        "ms_per_token": step_s * 1e3 / tokens,
        "tokens_per_s": tokens / step_s,
        "weights_mb": moved[0].weights / 1e6,
        "cache_mb": statistics.fmean(each.cache for each in moved) / 1e6,
        "floor_ms_gemv": floor / shown.gemv * 1e3,
        "floor_ms_copy": floor / shown.copy * 1e3,
        "all_steps_s": step_s * len(schedule),
        "peak_gb": peak_memory(options.device) / 1e9,
    }
    if plain:
        row["plain_ms_per_step"] = statistics.median(seconds["plain"]) * 1e3
        row["plain_all_steps_s"] = row["plain_ms_per_step"] * len(its.steps(config)) / 1e3
    return row


def _chosen(schedule: list[Step], config: ModelConfig, options: argparse.Namespace) -> list[Step]:
    """Steps spread evenly over the schedule, or around one context length."""
    count = min(options.steps, len(schedule))
    if options.context is None:
        return [schedule[int((at + 0.5) * len(schedule) / count)] for at in range(count)]
    place = options.context - min(options.text, config.max_text_len)
    at = next((at for at, step in enumerate(schedule) if step[0].fed * config.frame_len + step[0].cell >= place), None)
    if at is None:
        sys.exit(f"--context {options.context} is beyond the last step of this stage")
    start = min(at, len(schedule) - count)
    return schedule[start : start + count]


def _print(
    config: ModelConfig, shown: Bandwidth, rows: list[dict[str, Any]], clock: Clock, options: argparse.Namespace
) -> None:
    print(f"{_machine(options)}, {options.dtype}; medians of {options.rounds} interleaved rounds")
    print(
        f"size {config.name}: {config.num_layers} layers, hidden {config.hidden_size}; "
        f"batch {options.batch}, prompt of {options.text}"
    )
    print(f"bandwidth in this run: copy {shown.copy:.1f} GB/s (read + write), one-row product {shown.gemv:.1f} GB/s")
    for row in rows:
        contexts = f"{min(row['context'])} to {max(row['context'])}"
        print(f"\nstage {row['stage']}: {row['steps']} steps of {row['rows']} rows; timed at contexts {contexts}")
        print(
            f"  ours    {row['ms_per_step']:9.2f} {clock.unit}/step {row['ms_per_token']:9.2f} {clock.unit}/token",
            end="",
        )
        print(f" {row['tokens_per_s']:9.1f} tokens/s; all steps {row['all_steps_s']:.1f} s")
        if "plain_ms_per_step" in row:
            plain = row["plain_ms_per_step"]
            print(f"  plain   {plain:9.2f} {clock.unit}/step; all steps {row['plain_all_steps_s']:.1f} s")
            print(f"  ratio   {plain / row['ms_per_step']:9.2f}x a step", end="")
            print(f", {row['plain_all_steps_s'] / row['all_steps_s']:.2f}x the stage; ", end="")
            print(f"logits differ by {row['difference']:.1e} of their standard deviation")
        print(f"  bytes   {row['weights_mb']:9.1f} MB weights + {row['cache_mb']:.1f} MB keys and values a step")
        for name in ("gemv", "copy"):
            floor = row[f"floor_ms_{name}"]
            print(f"  floor   {floor:9.2f} ms by {name}: {100 * floor / row['ms_per_step']:.0f} % of it reached")
        print(f"  memory  {row['peak_gb']:9.2f} GB at the peak of this process, both sides")


def _print_memory(config: ModelConfig, dtype: torch.dtype, options: argparse.Namespace) -> None:
    """Counted from the shapes; nothing is built."""
    kinds: dict[str, Kind] = {"stage 1": "video", "stage 2": "video", "super-resolution": "superres"}
    sizes = {name: network_bytes(config, kind, dtype) for name, kind in kinds.items()}
    print(f"size {config.name}, {options.dtype}, prompt of {options.text}; counted from the shapes")
    for name, size in sizes.items():
        print(f"  weights of {name:18} {size / 1e9:8.2f} GB")
    total = sum(sizes.values())
    print(f"  {'all three':29} {total / 1e9:8.2f} GB")
    # The last round of stage 2 has 8 sequences of five frames for one video.
    for name, rows in (("first", 1), ("1", 2), ("2", 1), ("2", 8)):
        size = cache_bytes(config, stage(name, config).plan, rows, options.text, dtype.itemsize)
        more = int((GPU_GB * 1e9 - total) / size)
        print(
            f"  caches, stage {name:5}, {rows} row(s) {size / 1e9:8.2f} GB; with all three networks "
            f"{(total + size) / 1e9:.2f} GB; {max(0, more)} times on {GPU_GB} GB"
        )


def _machine(options: argparse.Namespace) -> str:
    if options.device == "cpu":
        names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
        return f"{names[0].partition(':')[2].strip()}, {options.threads} thread(s), CPU time"
    return torch.cuda.get_device_name()


if __name__ == "__main__":
    main()
