"""What a piece of work took: seconds, peak memory, GPU-seconds where there is a GPU. torch is for the GPU alone.

GPU-seconds are those for which a GPU was held, whether it was busy or not: what a machine is paid for. The peak of a
piece of work is sampled: the system knows that of the whole process alone, and to reset it would hide it from others.
"""

from __future__ import annotations

import resource
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eval.records import SampleLine

SAMPLED_EVERY_S = 0.02


@dataclass
class Cost:
    """Seconds add up over pieces of work; of memory the most counts. Bytes are those of the process, and of the GPU."""

    seconds: float = 0.0
    peak_bytes: int = 0
    gpu_seconds: float = 0.0
    gpu_peak_bytes: int = 0

    def add(self, other: Cost) -> None:
        self.seconds += other.seconds
        self.gpu_seconds += other.gpu_seconds
        self.peak_bytes = max(self.peak_bytes, other.peak_bytes)
        self.gpu_peak_bytes = max(self.gpu_peak_bytes, other.gpu_peak_bytes)


@dataclass
class Work:
    """What one process did for the scores of a run: their cost, samples whose features it made, its own peak memory."""

    seconds: float = 0.0
    peak_bytes: int = 0
    gpu_seconds: float = 0.0
    gpu_peak_bytes: int = 0
    scored: int = 0
    process_peak_bytes: int = 0

    @classmethod
    def of(cls, cost: Cost, scored: int = 0) -> Work:
        return cls(**vars(cost), scored=scored, process_peak_bytes=peak_memory_bytes())


def cost_of_run(lines: Sequence[SampleLine], work: Sequence[Work]) -> dict[str, float]:
    """Seconds and peak memory of making a sample and of scoring it; GPU-seconds are of the whole run.

    `work` is what features and metrics took, in every process. What scoring took a sample is left out where an earlier
    run, which is not here to ask, made some of the features.
    """
    scoring = Cost()
    for part in work:
        scoring.add(Cost(part.seconds, part.peak_bytes, part.gpu_seconds, part.gpu_peak_bytes))
    scored = sum(part.scored for part in work)
    n = max(len(lines), 1)
    found = {
        "generate_seconds_per_sample": round(sum(line.seconds for line in lines) / n, 6),
        "generate_peak_memory_bytes": float(max((line.peak_memory_bytes for line in lines), default=0)),
        "generate_gpu_seconds": round(sum(line.gpu_seconds for line in lines), 3),
        "generate_gpu_peak_bytes": float(max((line.gpu_peak_bytes for line in lines), default=0)),
    }
    if scored >= sum(line.ok for line in lines):
        found |= {
            "score_seconds_per_sample": round(scoring.seconds / max(scored, 1), 6),
            "score_peak_memory_bytes": float(scoring.peak_bytes),
            "score_gpu_seconds": round(scoring.gpu_seconds, 3),
            "score_gpu_peak_bytes": float(scoring.gpu_peak_bytes),
        }
    peaks = [value for name, value in found.items() if name.endswith("peak_memory_bytes")]
    found["peak_memory_bytes"] = max(*peaks, *(float(part.process_peak_bytes) for part in work))
    return {name: value for name, value in found.items() if value or "gpu" not in name}


class Meter:
    """Measures the block that it is opened for.

    with Meter("cuda:0") as meter:
        ...
    print(meter.cost.seconds)
    """

    def __init__(self, device: str = "cpu") -> None:
        self.cost = Cost()
        self._device = device if device.startswith("cuda") else ""
        self._began = 0.0
        self._done = threading.Event()
        self._watch = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Self:
        self._watch.start()
        if self._device:
            import torch

            torch.cuda.synchronize(self._device)
            torch.cuda.reset_peak_memory_stats(self._device)
        self._began = time.perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._device and kind is None:
            import torch

            torch.cuda.synchronize(self._device)
            self.cost.gpu_peak_bytes = int(torch.cuda.max_memory_allocated(self._device))
        self.cost.seconds = time.perf_counter() - self._began
        self.cost.gpu_seconds = self.cost.seconds if self._device else 0.0
        self._done.set()
        self._watch.join()

    def _look(self) -> None:
        """Note the memory in use every few milliseconds, and once more at the end."""
        is_last = False
        while True:
            self.cost.peak_bytes = max(self.cost.peak_bytes, resident_bytes())
            if is_last:
                return
            is_last = self._done.wait(SAMPLED_EVERY_S)


def resident_bytes() -> int:
    """The memory that this process has in use, where the system tells; else the most that it ever had."""
    with suppress(OSError, ValueError, IndexError), open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123 - asked for often
        return int(file.read().split()[1]) * resource.getpagesize()
    return peak_memory_bytes()


def peak_memory_bytes() -> int:
    """The most memory that this process ever had in use."""
    # ru_maxrss is in KiB on Linux and in bytes on macOS.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
