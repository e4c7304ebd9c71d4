"""What this machine can do and how much it uses: products of matrices a second, and memory."""

from __future__ import annotations

import sys
import time

import torch

CPU_SIDE, GPU_SIDE = 768, 8192


def peak_flops(device: torch.device, dtype: torch.dtype) -> float:
    """Operations a second of a square matrix product, the best of a few: what a share of the peak refers to.

    Measured, as tables of makers do not tell what the threads of this process may use. On a CPU its own time counts, so
    that other programs on the machine do not make the peak lower.
    """
    side = GPU_SIDE if device.type == "cuda" else CPU_SIDE
    matrix = torch.ones(side, side, device=device, dtype=dtype)
    best = float("inf")
    for _ in range(6):
        begin, begin_own = time.perf_counter(), time.process_time()
        torch.mm(matrix, matrix)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
            best = min(best, time.perf_counter() - begin)
        else:
            best = min(best, max(1e-6, (time.process_time() - begin_own) / torch.get_num_threads()))
    return 2.0 * side**3 / best


def peak_memory(device: torch.device) -> int:
    """The most bytes so far: of tensors on a GPU, of the whole process on a CPU. 0 where it is not known."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        import resource
    except ImportError:  # Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
