"""The machine and its caches: versions, processor, memory, disk, accelerator. Torch is imported in one function."""

from __future__ import annotations

import os
import platform
import re
import shutil
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from cogvideo.weights import cache_home, is_offline
from cogvideo.weights.places import hugging_face_hub, torch_checkpoints
from eval.doctor.checks import Check

GB = 1e9
LEAST_FREE_BYTES = 2e9
LEAST_MEMORY_BYTES = 2e9
SHOWN_PACKAGES = ("torch", "torchvision", "av", "numpy", "scipy", "open-clip-torch")
DECODERS = {"mpeg4": "UCF-101", "h264": "Kinetics, most mp4 files", "vp9": "webm files", "ffv1": "embedded data"}
ENCODERS = {"libx264": "videos to look at", "ffv1": "lossless samples"}


def machine() -> Iterator[Check]:
    """Python, packages at the versions that our own metadata asks for, FFmpeg, processor, memory."""
    version = platform.python_version()
    yield Check("python", sys.version_info >= (3, 11), version, ">= 3.11", "install Python 3.11 or newer")
    yield from _packages()
    yield from _ffmpeg()
    yield Check("processor", None, f"{_processor()}, {_cores()} cores usable")
    total, available = _memory()
    if total:
        found = f"{total / GB:.1f} GB, {available / GB:.1f} GB available"
        wanted = f"{LEAST_MEMORY_BYTES / GB:g} GB available"
        yield Check("memory", available >= LEAST_MEMORY_BYTES, found, wanted, "close other programs", is_optional=True)
    compiler = next((name for name in ("c++", "g++", "clang++") if shutil.which(name)), "")
    yield Check("compiler", None, compiler or "none; --backend inductor needs a C++ compiler, everything else does not")


def accelerators() -> Iterator[Check]:
    """What torch can compute on here."""
    import torch

    yield Check("threads", None, f"torch uses {torch.get_num_threads()} of {_cores()} cores")
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            device = torch.cuda.get_device_properties(index)
            has_bf16 = "bfloat16" if device.major >= 8 else "no bfloat16"
            yield Check(f"cuda:{index}", None, f"{device.name}, {device.total_memory / GB:.0f} GB, {has_bf16}")
    elif torch.backends.mps.is_available():
        yield Check("mps", None, "an Apple GPU; detectors are checked on CPU and CUDA only")
    else:
        built = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "built without CUDA"
        yield Check("gpu", None, f"none; torch is {built}, everything runs on the CPU")


def places() -> Iterator[Check]:
    """Where files are kept, whether they can be written, and how much room there is."""
    home = cache_home()
    from_where = "COGEVAL_HOME" if os.environ.get("COGEVAL_HOME") else "default"
    mend = "set COGEVAL_HOME to a folder that you can write"
    yield Check("cache", _is_writable(home), f"{home} ({from_where})", "a folder that can be written", mend)
    free = shutil.disk_usage(_existing(home)).free
    wanted = f"{LEAST_FREE_BYTES / GB:g} GB"
    mend = "free space or set COGEVAL_HOME to another disk"
    yield Check("free space", free >= LEAST_FREE_BYTES, f"{free / GB:.1f} GB", wanted, mend, is_optional=True)
    yield Check("PyTorch's cache", None, str(torch_checkpoints()))
    yield Check("Hugging Face's cache", None, str(hugging_face_hub()))
    yield Check(
        "network",
        None,
        "forbidden by COGEVAL_OFFLINE" if is_offline() else "allowed, for `fetch` and `diffusers:ID` alone",
    )


def is_at_least(found: str, wanted: str) -> bool:
    """Whether version `found` is `wanted` or newer, by their leading numbers ("2.11.0+cu128" is 2.11.0)."""

    def numbers(version: str) -> list[int]:
        digits = [int(part) for part in re.findall(r"\d+", re.split(r"[+a-z-]", version)[0])]
        return digits + [0] * (4 - len(digits))

    return numbers(found) >= numbers(wanted)


def _packages() -> Iterator[Check]:
    """One check for each package worth seeing or not as wanted, one for the rest together."""
    try:
        required = metadata.requires("cogeval") or []
    except metadata.PackageNotFoundError:
        yield Check("cogeval", False, "not installed", "an installed package", "run `python -m pip install .`")
        return
    yield Check("cogeval", None, metadata.version("cogeval"))
    n_silent = 0
    for line in required:
        parts = re.match(r"([A-Za-z0-9_.-]+)\s*>=\s*([0-9.]+)\s*(;.*)?$", line)
        if not parts or "extra" in (parts[3] or ""):
            continue
        name, wanted = parts[1].lower().replace("_", "-"), parts[2]
        try:
            found = metadata.version(name)
        except metadata.PackageNotFoundError:
            found = "not installed"
        ok = found[0].isdigit() and is_at_least(found, wanted)
        if ok and name not in SHOWN_PACKAGES:
            n_silent += 1
            continue
        yield Check(name, ok, found, f">= {wanted}", f"run `python -m pip install '{name}>={wanted}'`")
    yield Check("other packages", True, f"{n_silent} at the versions wanted")


def _ffmpeg() -> Iterator[Check]:
    import av
    from av.codec.codec import Codec, UnknownCodecError

    versions = {name: ".".join(map(str, numbers)) for name, numbers in av.library_versions.items()}
    yield Check("FFmpeg", None, f"libavcodec {versions.get('libavcodec')}, libswscale {versions.get('libswscale')}")
    for mode, wanted in (("r", DECODERS), ("w", ENCODERS)):
        absent = []
        for name in wanted:
            try:
                Codec(name, mode)  # type: ignore[arg-type]
            except UnknownCodecError:
                absent.append(name)
        word = "decoders" if mode == "r" else "encoders"
        reasons = ", ".join(f"{name} ({wanted[name]})" for name in absent)
        mend = "install PyAV from its wheel: `python -m pip install --force-reinstall --only-binary av av`"
        yield Check(word, not absent, f"without {reasons}" if absent else ", ".join(wanted), ", ".join(wanted), mend)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()


def _cores() -> int:
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def _memory() -> tuple[float, float]:
    """Total and available bytes, the limit of a container counted in; zeros where the system does not say."""
    try:
        rows = (line.split() for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines())
        kilobytes = {row[0].rstrip(":"): int(row[1]) for row in rows if len(row) > 1}
        total, available = kilobytes["MemTotal"] * 1024.0, kilobytes["MemAvailable"] * 1024.0
    except (OSError, KeyError, ValueError):
        return 0.0, 0.0
    try:
        group = Path("/sys/fs/cgroup")
        limit = float((group / "memory.max").read_text(encoding="ascii"))
        used = float((group / "memory.current").read_text(encoding="ascii"))
        total, available = min(total, limit), min(available, limit - used)
    except (OSError, ValueError):
        pass
    return total, available


def _existing(path: Path) -> Path:
    """The folder itself or the nearest one above it that exists."""
    return next(place for place in (path, *path.parents) if place.exists())


def _is_writable(path: Path) -> bool:
    place = _existing(path)
    return place.is_dir() and os.access(place, os.W_OK | os.X_OK)


def devices() -> list[str]:
    """Every device that detectors can run on here."""
    import torch

    return ["cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
