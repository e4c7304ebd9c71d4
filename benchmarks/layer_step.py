"""One layer of the release's width at one token of a key frame, and the head: the plain decoder beside ours.

python benchmarks/layer_step.py --width 3072 --pos 1300,1990
python benchmarks/layer_step.py --width 3072 --pos 1300,1990 --dtype bfloat16 --rounds 15
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
if "--threads" not in sys.argv:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from decoding_sides import History, Ours, Plain, largest_difference, random_network, stage
from roofline import Clock, bandwidth

from cogvideo.config import ModelConfig
from cogvideo.schedule import Slot

# So few image tokens that the head costs nothing where a layer is timed.
FEW_TOKENS = 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=int, default=3072)
    parser.add_argument("--pos", default="1300,1990", help="frame tokens before the one that is timed")
    parser.add_argument("--text", type=int, default=64, help="ids of the prompt; the guider has 8")
    parser.add_argument("--layers", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--repeats", type=int, default=3, help="steps a round")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", choices=["float32", "bfloat16", "float16"], default="float32")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    dtype, clock = getattr(torch, options.dtype), Clock(options.device)
    config = ModelConfig(
        num_layers=options.layers,
        hidden_size=options.width,
        num_attention_heads=options.width // 64,
        num_image_tokens=FEW_TOKENS,
        text_pieces=48,
        vocab_size=FEW_TOKENS + 51,
    )
    shown = bandwidth(clock, options.device, dtype)
    print(f"{options.layers} layer(s), width {options.width}, {options.dtype}, {options.threads} thread(s)")
    print(f"prompt and guider as one batch of two rows (ours) and as two passes (plain); {options.rounds} rounds")
    print(f"bandwidth in this run: copy {shown.copy:.1f} GB/s (read + write), one-row product {shown.gemv:.1f} GB/s")
    print(f"{'':14} {'plain ' + clock.unit:>13} {'ours ' + clock.unit:>13} {'ratio':>7} {'difference':>11}")

    its = stage("1", config)
    network = random_network(config, options.device, dtype)
    ours = Ours(network, its, 1, options.text)
    history = History(network, its, ours.text)
    ours.fill(history)
    plain = Plain(ours, history)
    for position in map(int, options.pos.split(",")):
        fed, cell = divmod(position, config.frame_len)
        step = (Slot(fed, fed, cell),)
        difference = largest_difference(ours, plain, [step])
        sides = {"plain": partial(plain.logits, step), "ours": partial(ours.logits, step)}
        spent = _taking_turns(clock, options, sides, partial(plain.prepare, step))
        _print(f"position {position}", spent, f"{difference:11.1e}")

    head_config = ModelConfig(num_layers=1, hidden_size=options.width, num_attention_heads=options.width // 64)
    V, h = head_config.num_image_tokens, head_config.hidden_size
    weight = network.transformer.word_embeddings.weight
    head = torch.empty((V, h), dtype=dtype, device=options.device).normal_(std=0.02)
    weight.data, network.config = head, head_config
    hidden = torch.empty((2, 1, h), dtype=dtype, device=options.device).normal_()
    passes = plain.passes

    def plain_head() -> None:
        for row, each in zip(hidden.split(1), passes, strict=True):
            each.head(row)

    spent = _taking_turns(clock, options, {"plain": plain_head, "ours": lambda: network.image_logits(hidden)})
    _print(f"head, {V:,}", spent, "")


def _taking_turns(
    clock: Clock,
    options: argparse.Namespace,
    sides: dict[str, Callable[[], object]],
    prepare: Callable[[], object] = lambda: None,
) -> dict[str, float]:
    """Median milliseconds of each side."""
    spent: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(options.rounds + 1):
        for name, work in sides.items():
            seconds = 0.0
            for _ in range(options.repeats):
                prepare()
                seconds += clock(work)
            if turn:
                spent[name].append(seconds / options.repeats * 1e3)
    return {name: statistics.median(values) for name, values in spent.items()}


def _print(what: str, spent: dict[str, float], tail: str) -> None:
    print(f"{what:14} {spent['plain']:13.2f} {spent['ours']:13.2f} {spent['plain'] / spent['ours']:6.2f}x {tail}")


if __name__ == "__main__":
    main()
