"""Peak memory of 1,000 and of 10,000 generated videos, their throughput, and which part of the work sets it.

python benchmarks/many_videos.py [--samples 1000,10000] [--metric fvd] [--protocol ucf101-shapes-128]

Each count is a whole `cogeval ucf101` in a process of its own: samples made by the `noise` control, audited, spooled,
turned into features (those of the embedded I3D, unless another metric is named) and scored. Then the parts of the work
are measured one by one on real clips, always with the I3D.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np


def whole_run(samples: int, out: Path, *, metric: str, protocol: str) -> dict[str, float]:
    """Peak bytes, CPU and wall seconds of one run, and what its result says of features."""
    command = [
        *(sys.executable, "-m", "cogeval", "ucf101", "--generator", "noise", "--samples", str(samples)),
        *(
            "--protocol",
            protocol,
            "--metric",
            metric,
            "--no-floor",
            "--no-keep-videos",
            "--replicates",
            "20",
            "--workers",
            "0",
        ),
        *("--quiet", "--json", "--out", str(out)),
    ]
    began = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, "OMP_NUM_THREADS": "1"}) as process:
        assert process.stdout is not None
        said = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    result = json.loads(said)["runs"][0]["result"]
    assert result["counts"]["ok"] == samples
    unit = 1 if sys.platform == "darwin" else 1024
    return {
        "peak": usage.ru_maxrss * unit,
        "cpu": usage.ru_utime + usage.ru_stime,
        "wall": time.perf_counter() - began,
        "samples": result["timing"]["samples"],
    }


def parts(folder: Path, n: int) -> dict[str, float]:
    """CPU seconds a clip of decoding, of the spool (written, read and checked), of making noise, and of the network."""
    import torch

    from eval.audit import audit_clip, pixels_sha256
    from eval.datasets.shapes import open_
    from eval.decoding import DecodePool
    from eval.detectors.weights import find_weights
    from eval.features import SHARD, Extractor, needs_of
    from eval.generators.contract import Clip, ClipRef
    from eval.protocols import DEFAULTS, get_protocol

    torch.set_num_threads(1)
    protocol = get_protocol(DEFAULTS["ucf101"][True], "ucf101")
    metrics = tuple(spec for spec in protocol.metrics if spec.metric == "fvd")
    protocol = protocol.changed("fvd alone", metrics=metrics)
    items = [item for item in open_().items if item.path is not None][:n]
    refs = [ClipRef(item.id, str(item.path), 0, protocol.clip.frames) for item in items]
    extractor = Extractor(needs_of(protocol), protocol.clip, find_weights(protocol))
    extractor.check()
    clips: list[Clip] = []
    found = {}
    with DecodePool(0) as pool:
        found["decode"] = cpu_seconds(lambda: clips.extend(pool.clips(refs)))

    def spool() -> None:
        for number, clip in enumerate(clips):
            audit_clip(clip, frames=protocol.clip.frames)
            np.save(folder / f"{number}.npy", clip)
            pixels_sha256(np.load(folder / f"{number}.npy"))

    def network() -> None:
        for at in range(0, n, SHARD):
            shard = clips[at : at + SHARD]
            extractor(shard, [str(at + k) for k in range(len(shard))], extractor.needs)

    found["spool and audit"] = cpu_seconds(spool)
    network()  # the first pass is slower
    found["network"] = cpu_seconds(network)
    return {name: seconds / len(clips) for name, seconds in found.items()}


def cpu_seconds(work: Callable[[], object]) -> float:
    before = resource.getrusage(resource.RUSAGE_SELF)
    work()
    after = resource.getrusage(resource.RUSAGE_SELF)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", default="1000,10000", help="counts, each a run of its own")
    parser.add_argument("--metric", default="fvd", help="whose features are made")
    parser.add_argument("--protocol", default="ucf101-shapes-128", help="one that has the metric, on embedded data")
    parser.add_argument("--clips", type=int, default=320, help="clips for the parts")
    given = parser.parse_args()
    print("samples   peak MiB   CPU s   wall s   samples/s (wall)   samples/s (CPU)")
    peaks = []
    with tempfile.TemporaryDirectory() as folder:
        for count in map(int, given.samples.split(",")):
            run = whole_run(count, Path(folder) / str(count), metric=given.metric, protocol=given.protocol)
            peaks.append((count, run["peak"]))
            print(
                f"{count:7,} {run['peak'] / 2**20:10.1f} {run['cpu']:7.1f} {run['wall']:8.1f}"
                f" {count / run['samples']:18.1f} {count / run['cpu']:17.1f}",
                flush=True,
            )
        if len(peaks) > 1:
            (few, low), (many, high) = peaks[0], peaks[-1]
            print(f"growth: {(high - low) / 2**20:.1f} MiB, {(high - low) / (many - few) / 1024:.2f} KiB a sample")
        for name, seconds in parts(Path(folder), given.clips).items():
            print(f"{name:16} {1000 * seconds:7.2f} CPU ms a clip, {1 / seconds:8.1f} clips/s on one core")


if __name__ == "__main__":
    main()
