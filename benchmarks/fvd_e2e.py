"""FVD end to end, arrays on disk -> number, ours beside a rival: CPU seconds, peak memory, value. Sides take turns.

python benchmarks/fvd_e2e.py --peer plain --n 16 --rounds 3
python benchmarks/fvd_e2e.py --peer cd-fvd --n 64 --rounds 5 --backend inductor --dtype bfloat16
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

SETS = ("real", "fake")
SIZE = (16, 240, 320)


def main() -> None:
    options = _options()
    if options.side:
        print(json.dumps(SIDES[options.side](options.folder, options)))
        return
    if options.peer == "cd-fvd" and importlib.util.find_spec("cdfvd") is None:
        sys.exit("cd-fvd cannot be imported: pip install cd-fvd, or --peer plain")
    for n in options.n:
        with tempfile.TemporaryDirectory() as folder:
            _write_inputs(Path(folder), n)
            _compare(Path(folder), n, options)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", choices=["plain", "cd-fvd", "none"], default="plain")
    parser.add_argument(
        "--n", type=lambda text: [int(n) for n in text.split(",")], default=[16], help="clips a set: 16,64"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--backend", choices=["eager", "inductor"], default="eager")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--side", choices=[*SIDES], help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def _compare(folder: Path, n: int, options: argparse.Namespace) -> None:
    """Run the sides in turn and print medians; the rival's figures divided by ours."""
    sides = ["ours"] + ([options.peer] if options.peer != "none" else [])
    runs: dict[str, list[dict[str, float]]] = {side: [] for side in sides}
    for _ in range(options.rounds):
        for side in sides:
            runs[side].append(_run(side, folder, options))
    shape = "x".join(map(str, SIZE))
    print(f"\n{n} + {n} clips of {shape}, {options.threads} thread(s), medians of {options.rounds} runs")
    print(f"{'side':24} {'cpu s':>8} {'of it work':>11} {'peak MiB':>9} {'FVD':>14}")
    middle = {s: {key: statistics.median(run[key] for run in runs[s]) for key in runs[s][0]} for s in sides}
    for side, row in middle.items():
        name = f"ours {options.backend} {options.dtype}" if side == "ours" else side
        print(f"{name:24} {row['cpu_s']:8.1f} {row['work_s']:11.1f} {row['peak_mib']:9.0f} {row['value']:14.8f}")
    if len(sides) == 2:
        ours, peer = (middle[side] for side in sides)
        ratios = "   ".join(f"{label} {peer[key] / ours[key]:.2f}x" for key, label in RATIOS.items())
        print(f"rival / ours: {ratios}   difference of values {abs(ours['value'] / peer['value'] - 1):.1e}")


RATIOS = {"cpu_s": "cpu", "work_s": "cpu of the work", "peak_mib": "memory"}


def _run(side: str, folder: Path, options: argparse.Namespace) -> dict[str, float]:
    """One side in its own process: its user and system seconds, its peak memory, what it printed."""
    passed = ["--backend", options.backend, "--dtype", options.dtype]
    command = [sys.executable, "-W", "ignore", __file__, "--side", side, "--folder", str(folder), *passed]
    threads = str(options.threads)
    environment = {**os.environ, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
    child = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True)
    assert child.stdout is not None
    with child.stdout as stdout:
        printed = stdout.read()
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        sys.exit(f"{side} failed")
    measured: dict[str, float] = json.loads(printed.splitlines()[-1])
    return {**measured, "cpu_s": usage.ru_utime + usage.ru_stime, "peak_mib": usage.ru_maxrss / 1024}


def _write_inputs(folder: Path, n: int) -> None:
    """Clips that move and differ between the sets, one file each, and weights for both sides."""
    T, H, W = SIZE
    for offset, name in enumerate(SETS):
        (folder / name).mkdir()
        for i in range(n):
            random = np.random.default_rng((offset, i))
            coarse = random.integers(0, 256, (H // 16 + 4, W // 16 + 4, 3))
            texture = np.kron(coarse, np.ones((16, 16, 1))).astype(np.uint8)
            dy, dx = random.integers(0, 3 + offset, 2)
            frames = [texture[dy * t : dy * t + H, dx * t : dx * t + W] for t in range(T)]
            np.save(folder / name / f"{i:05}.npy", np.stack(frames))
    code = "import sys, torch; from plain_i3d import random_i3d; torch.save(random_i3d().state_dict(), sys.argv[1])"
    here = str(Path(__file__).parent)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([here, os.environ.get("PYTHONPATH", "")])}
    subprocess.run([sys.executable, "-c", code, str(folder / "i3d.pt")], check=True, env=environment)


def _files(folder: Path, name: str) -> list[Path]:
    return sorted((folder / name).glob("*.npy"))


def _ours(folder: Path, options: argparse.Namespace) -> dict[str, float]:
    """Clips are read, prepared and passed on a few at a time; only features stay."""
    from eval.detectors.i3d import load
    from eval.metrics.frechet import frechet
    from eval.preprocess import I3D_DIRECT, apply, stacked

    detector = load(folder / "i3d.pt", dtype=options.dtype, backend=options.backend)
    if options.backend == "inductor":
        # Compiling takes its time once a shape; what is asked here is what a clip costs.
        detector(stacked([apply(np.load(_files(folder, "real")[0]), I3D_DIRECT)]))
    start = time.process_time()
    features = []
    for name in SETS:
        files, logits = _files(folder, name), []
        for i in range(0, len(files), detector.engine.piece):
            batch = stacked([apply(np.load(file), I3D_DIRECT) for file in files[i : i + detector.engine.piece]])
            logits.append(detector(batch)["logits"].numpy())
        features.append(np.concatenate(logits))
    value = frechet(*features, ddof=0)
    return {"value": value, "work_s": time.process_time() - start}


def _plain(folder: Path, _options: argparse.Namespace) -> dict[str, float]:
    """What evaluation scripts commonly do: the whole set as floats, batches of 16, scipy's matrix root."""
    import scipy.linalg
    import torch
    from plain_i3d import plain_i3d, random_i3d

    network = random_i3d()
    network.load_state_dict(torch.load(folder / "i3d.pt", weights_only=True))
    network = plain_i3d(network)
    start = time.process_time()
    moments = []
    for name in SETS:
        videos = np.stack([np.load(file) for file in _files(folder, name)])
        frames = torch.from_numpy(videos).float().flatten(end_dim=1).permute(0, 3, 1, 2).contiguous()
        frames = torch.nn.functional.interpolate(frames, (224, 224), mode="bilinear", align_corners=False)
        clips = frames.reshape(*videos.shape[:2], 3, 224, 224).transpose(1, 2).contiguous()
        clips = 2.0 * clips / 255 - 1
        with torch.no_grad():
            logits = torch.cat([network(clips[i : i + 16])["logits"] for i in range(0, len(clips), 16)])
        features = logits.double().numpy()
        moments.append((features.mean(0), np.cov(features, rowvar=False, ddof=0)))
    (mean_a, cov_a), (mean_b, cov_b) = moments
    root = np.real(np.trace(scipy.linalg.sqrtm(cov_a @ cov_b)))
    value = float(((mean_a - mean_b) ** 2).sum() + np.trace(cov_a + cov_b) - 2 * root)
    return {"value": value, "work_s": time.process_time() - start}


def _cd_fvd(folder: Path, _options: argparse.Namespace) -> dict[str, float]:
    """cd-fvd's own call on arrays."""
    import contextlib

    from cdfvd import fvd  # type: ignore[import-not-found]

    with contextlib.redirect_stdout(sys.stderr):
        evaluator = fvd.cdfvd("i3d", n_fake="full", ckpt_path=str(folder / "i3d.pt"), device="cpu")
        start = time.process_time()
        arrays = [np.stack([np.load(file) for file in _files(folder, name)]) for name in SETS]
        value = float(evaluator.compute_fvd(*arrays))
    return {"value": value, "work_s": time.process_time() - start}


SIDES: dict[str, Callable[[Path, Any], dict[str, float]]] = {"ours": _ours, "plain": _plain, "cd-fvd": _cd_fvd}

if __name__ == "__main__":
    main()
