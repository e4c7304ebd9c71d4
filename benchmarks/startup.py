"""What it costs to ask `cogeval` for help: CPU and wall seconds, memory, beside Python alone and `import torch`.

python benchmarks/startup.py [--rounds 9]

The rivals take turns in each round, so that a busy machine slows all of them. Medians are printed, and the least,
which is nearest to an idle machine. Targets there: at most 0.06 CPU s, 150 ms and 15 MiB.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

COMMAND = shutil.which("cogeval", path=Path(sys.executable).parent) or "cogeval"
RIVALS = {
    "python, nothing": ["-c", "pass"],
    "import argparse": ["-c", "import argparse"],
    "import click": ["-c", "import click"],
    "cogeval --version": [COMMAND, "--version"],
    "cogeval --help": [COMMAND, "--help"],
    "cogeval ucf101 --help": [COMMAND, "ucf101", "--help"],
    "import numpy": ["-c", "import numpy"],
    "import torch": ["-c", "import torch"],
}


class Cost(NamedTuple):
    """Of one process: user and system seconds, wall seconds, greatest resident memory in MiB."""

    cpu_s: float
    wall_s: float
    peak_mib: float


def cost(arguments: list[str]) -> Cost:
    """Run Python once and ask the system what it used. Raises RuntimeError if the process fails."""
    start = time.perf_counter()
    silent = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
    child = os.posix_spawn(sys.executable, [sys.executable, *arguments], os.environ, file_actions=silent)
    _, status, usage = os.wait4(child, 0)
    wall_s = time.perf_counter() - start
    if status:
        raise RuntimeError(f"{' '.join(arguments)} left with {os.waitstatus_to_exitcode(status)}")
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return Cost(usage.ru_utime + usage.ru_stime, wall_s, usage.ru_maxrss / unit)


def main() -> None:
    """Print one row a rival."""
    parser = argparse.ArgumentParser(description="Start-up cost of the cogeval command.")
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for arguments in RIVALS.values():
            cost(arguments)  # fills the bytecode and disk caches
        rows: dict[str, list[Cost]] = {name: [] for name in RIVALS}
        for _ in range(rounds):
            for name, arguments in RIVALS.items():
                rows[name].append(cost(arguments))
    print(f"{'':<24}{'cpu s':>9}{'least':>9}{'wall s':>9}{'least':>9}{'MiB':>9}   medians of {rounds} rounds")
    for name, costs in rows.items():
        cpu_s, wall_s, peak_mib = (statistics.median(values) for values in zip(*costs, strict=True))
        least = Cost(*(min(values) for values in zip(*costs, strict=True)))
        print(f"{name:<24}{cpu_s:>9.3f}{least.cpu_s:>9.3f}{wall_s:>9.3f}{least.wall_s:>9.3f}{peak_mib:>9.1f}")


if __name__ == "__main__":
    main()
