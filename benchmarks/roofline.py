"""How long a step must take at least: the bytes that it has to move, over the bandwidth that this machine shows.

h hidden size, V image tokens, T text slots, F tokens of a frame. Nothing here is taken from a data sheet.
"""

from __future__ import annotations

import resource
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from cogvideo.cache import CacheSpec
from cogvideo.config import ModelConfig
from cogvideo.decoding import Plan
from cogvideo.schedule import Slot, Step
from cogvideo.windows import layer_windows


@dataclass(frozen=True)
class StepBytes:
    """What one step reads and writes, in bytes: `weights` once, whatever the batch; `cache` for all rows."""

    weights: int
    cache: int

    @property
    def total(self) -> int:
        return self.weights + self.cache


def step_bytes(config: ModelConfig, plan: Plan, step: Step, rows: int, text_len: int, element_size: int) -> StepBytes:
    """Bytes of one step by the shapes: weights of the layers and of the head's image rows, keys and values seen.

    Activations, logits and the draw are not counted: they are the cost that a good step keeps small.
    """
    h, layers = config.hidden_size, config.num_layers
    per_layer = 12 * h * h + 17 * h + (4 * h * h + 5 * h if plan.has_plus else 0)
    weights = layers * per_layer + 2 * h + config.num_image_tokens * h
    seen = sum(_slots_seen(config, plan, slot, parity, text_len) for slot in step for parity in (0, 1)) * layers // 2
    written = len(step) * layers * (2 if plan.has_plus else 1)
    return StepBytes(weights * element_size, (seen + written) * rows * 2 * h * element_size)


def _slots_seen(config: ModelConfig, plan: Plan, slot: Slot, parity: int, text_len: int) -> int:
    """Keys that one token reads in both channels of a layer of this parity, without its own."""
    base = text_len + slot.cell
    if not plan.has_plus:
        return base
    windows = layer_windows(config.grid, plan.window, parity, plan.quirks.odd_windows)
    return base + text_len + slot.fed * windows.sizes[windows.groups[slot.cell]] + windows.ranks[slot.cell]


def cache_bytes(config: ModelConfig, plan: Plan, rows: int, text_len: int, element_size: int) -> int:
    """Bytes of our caches for so many rows."""
    windows = None
    if plan.has_plus:
        windows = (layer_windows(config.grid, plan.window, 0), layer_windows(config.grid, plan.window, 1))
    return CacheSpec(config, rows, text_len, len(plan.order), windows).bytes(element_size)


class Clock:
    """Seconds of a call: of the CPU alone on a CPU, so that others on the machine do not count; else until done."""

    def __init__(self, device: str) -> None:
        self.is_cpu = device == "cpu"
        self.unit = "cpu ms" if self.is_cpu else "ms"

    def __call__(self, work: Callable[[], object]) -> float:
        if self.is_cpu:
            start = time.process_time()
            work()
            return time.process_time() - start
        torch.cuda.synchronize()
        start = time.perf_counter()
        work()
        torch.cuda.synchronize()
        return time.perf_counter() - start


@dataclass(frozen=True)
class Bandwidth:
    """GB/s of this machine: `copy` reads and writes, `gemv` reads a matrix once for one row."""

    copy: float
    gemv: float


def bandwidth(clock: Clock, device: str, dtype: torch.dtype, rounds: int = 7) -> Bandwidth:
    """Medians over matrices that no cache holds, in the type that the networks have."""
    rows, columns = (16384, 8192) if device == "cpu" else (65536, 16384)
    matrix = torch.empty((rows, columns), dtype=dtype, device=device).normal_()
    target = torch.empty_like(matrix)
    row = torch.ones((1, columns), dtype=dtype, device=device)
    size = matrix.numel() * matrix.element_size() / 1e9
    works: list[Callable[[], object]] = [
        lambda: target.copy_(matrix),
        lambda: torch.nn.functional.linear(row, matrix),
    ]
    seconds: list[list[float]] = [[], []]
    for turn in range(rounds + 1):
        for at, work in enumerate(works):
            spent = clock(work)
            if turn:
                seconds[at].append(spent)
    return Bandwidth(2 * size / statistics.median(seconds[0]), size / statistics.median(seconds[1]))


def peak_memory(device: str) -> int:
    """Most bytes in use so far: of this process on a CPU, of PyTorch's allocator on a GPU."""
    if device == "cpu":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return torch.cuda.max_memory_allocated()
