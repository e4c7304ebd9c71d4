"""How many cores this process may use. No torch."""

from __future__ import annotations

import os


def available_cores() -> int:
    """Those that the scheduler gives this process, where it tells; else those of the machine.

    Several processes of `torchrun` on one machine share them.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    here = os.environ.get("LOCAL_WORLD_SIZE", "1")
    return max(1, cores // max(1, int(here))) if here.isdigit() else cores
