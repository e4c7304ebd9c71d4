"""Whether a network fits before it is loaded: what it takes, what this machine or this GPU has left."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch

from cogvideo.config import ModelConfig
from cogvideo.errors import UserError
from cogvideo.network import Kind

UNLIMITED = 1 << 60


def parameter_count(config: ModelConfig, kind: Kind) -> int:
    """Parameters of a network, counted without building it.

    With h = hidden_size a layer of CogView2 has 12 h^2 + 17 h: 3 h^2 + 3 h and h^2 + h in attention, 8 h^2 + 5 h in
    the feed-forward part, 8 h in four layer norms. A layer of the second channel has 4 h^2 + 4 h, and h for its gate.
    """
    h, layers = config.hidden_size, config.num_layers
    rows = config.vocab_size + config.max_sequence_length + 2
    if kind != "image":
        rows += config.extra_positions if kind == "video" else config.superres_grid**2
    plus = {"image": 0, "iterative": 0, "superres": 4 * h * h + 4 * h, "video": 4 * h * h + 5 * h}[kind]
    return layers * (12 * h * h + 17 * h + plus) + rows * h


def network_bytes(config: ModelConfig, kind: Kind, dtype: torch.dtype) -> int:
    """Bytes of a network's parameters in a type, without building it."""
    return parameter_count(config, kind) * dtype.itemsize


def available_memory(device: torch.device | str = "cpu") -> int | None:
    """Bytes that can still be taken on a device; None where the system does not tell.

    On Linux the smaller of what the kernel calls available and what the control group still allows (a container, a
    job of a cluster); its file pages count as free, as the kernel gives them up first.
    """
    device = torch.device(device)
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    if device.type not in ("cpu", "mps"):
        return None
    by_system = {"linux": linux_available, "win32": _windows_available}
    return by_system.get(sys.platform, _posix_available)()


def require_memory(needed_bytes: int, device: torch.device | str, what: str) -> None:
    """Raise UserError, saying what is needed and what is there, if `what` does not fit on the device.

    Call it before work starts. A system that does not tell its memory passes.
    """
    available = available_memory(device)
    if available is None or needed_bytes <= available:
        return
    place = torch.device(device).type
    mend = (
        "take a half-precision type, a smaller size or another GPU"
        if place == "cuda"
        else "close other programs, take a half-precision type, a smaller size or a machine with more memory"
    )
    raise UserError(
        f"not enough memory for {what}: {readable_bytes(needed_bytes)} are needed on {device}, "
        f"{readable_bytes(available)} are free; {mend}"
    )


def readable_bytes(size: int) -> str:
    """`15.4 GB`, in powers of ten as disks are sold and files are listed."""
    value, units = float(size), ["B", "kB", "MB", "GB", "TB"]
    while value >= 1000 and len(units) > 1:
        value, units = value / 1000, units[1:]
    return f"{value:.0f} B" if units[0] == "B" else f"{value:.1f} {units[0]}"


def linux_available(root: Path = Path("/")) -> int | None:
    """What /proc and the control groups under `root` leave, in bytes."""
    known = [value for value in (_meminfo(root), *_control_groups(root)) if value is not None]
    return max(0, min(known)) if known else None


def _meminfo(root: Path) -> int | None:
    for line in _lines(root / "proc/meminfo"):
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None


def _control_groups(root: Path) -> list[int]:
    """What each control group of this process leaves, up to the root: a limit may stand at any height."""
    left = []
    for line in _lines(root / "proc/self/cgroup"):
        _, _, rest = line.partition(":")
        controllers, _, place = rest.partition(":")
        if controllers == "":
            top, names = root / "sys/fs/cgroup", ("memory.max", "memory.current")
        elif "memory" in controllers.split(","):
            top, names = root / "sys/fs/cgroup/memory", ("memory.limit_in_bytes", "memory.usage_in_bytes")
        else:
            continue
        own = top / place.strip("/")
        # Inside a container the path may be the host's, which is not mounted: then the top is the container's own.
        for folder in (own, *own.parents):
            limit, used = (_number(folder / name) for name in names)
            if limit is not None and used is not None and limit < UNLIMITED:
                left.append(limit - used + _file_pages(folder))
            if folder == top:
                break
    return left


def _file_pages(folder: Path) -> int:
    fields = dict(line.split()[:2] for line in _lines(folder / "memory.stat") if len(line.split()) >= 2)
    return int(fields.get("inactive_file", 0)) + int(fields.get("active_file", 0))


def _number(path: Path) -> int | None:
    text = "".join(_lines(path)).strip()
    return int(text) if text.isdecimal() else None


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return []


def _posix_available() -> int | None:
    """Free pages where the system counts them, else (macOS) all of its memory."""
    for name in ("SC_AVPHYS_PAGES", "SC_PHYS_PAGES"):
        try:
            return os.sysconf(name) * os.sysconf("SC_PAGE_SIZE")
        except (OSError, ValueError):
            continue
    return None


def _windows_available() -> int | None:
    import ctypes

    class MemoryStatus(ctypes.Structure):
        _fields_ = (
            ("length", ctypes.c_ulong),
            ("load", ctypes.c_ulong),
            *((name, ctypes.c_ulonglong) for name in ("total", "available", "a", "b", "c", "d", "e")),
        )

    status = MemoryStatus(length=ctypes.sizeof(MemoryStatus))
    kernel = getattr(ctypes, "windll").kernel32  # noqa: B009 - mypy knows it on Windows alone
    return int(status.available) if kernel.GlobalMemoryStatusEx(ctypes.byref(status)) else None
