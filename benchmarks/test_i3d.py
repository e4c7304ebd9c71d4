"""I3D forward: plain, ours eager, and on request compiled or in bfloat16, in turns; CPU seconds as ratios.

python -m pytest benchmarks/test_i3d.py -s
COGEVAL_BENCH_COMPILE=1 COGEVAL_BENCH_ROUNDS=5 python -m pytest benchmarks/test_i3d.py -s
"""

from __future__ import annotations

import copy
import os
import statistics
import sys
import time
from pathlib import Path

import pytest
import torch

from eval.detectors.i3d import as_detector

sys.path.insert(0, str(Path(__file__).parent))
from plain_i3d import plain_i3d, random_i3d

ROUNDS = int(os.environ.get("COGEVAL_BENCH_ROUNDS", "3"))
CLIPS = 2


@pytest.fixture(scope="module")
def measured():
    """Name -> (median CPU seconds a clip, logits); every round runs each variant once."""
    torch.set_num_threads(1)
    network = random_i3d()
    plain = plain_i3d(copy.deepcopy(network))
    variants = {"plain": lambda x: plain(x), "eager": as_detector("i3d", copy.deepcopy(network))}
    variants["eager bfloat16"] = as_detector("i3d", copy.deepcopy(network), dtype="bfloat16")
    if os.environ.get("COGEVAL_BENCH_COMPILE"):
        for name, dtype in (("compiled", "float32"), ("compiled bfloat16", "bfloat16")):
            variants[name] = as_detector("i3d", copy.deepcopy(network), dtype=dtype, backend="inductor")
    batch = torch.rand((CLIPS, 3, 16, 224, 224), generator=torch.Generator().manual_seed(0)) * 2 - 1
    # Each side gets the layout that its own preprocessing makes.
    inputs = {name: batch if name == "plain" else batch.to(memory_format=torch.channels_last_3d) for name in variants}
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    logits = {}
    with torch.no_grad():
        for name, run in variants.items():
            logits[name] = run(inputs[name])["logits"]
        for _ in range(ROUNDS):
            for name, run in variants.items():
                start = time.process_time()
                run(inputs[name])
                seconds[name].append((time.process_time() - start) / CLIPS)
    middle = {name: statistics.median(values) for name, values in seconds.items()}
    print(f"\n{'I3D, 16 x 224 x 224':22} {'cpu ms/clip':>12} {'vs plain':>9} {'error of logits':>16}")
    for name in variants:
        error = _relative_error(logits[name], logits["plain"])
        print(f"{name:22} {1000 * middle[name]:12.0f} {middle['plain'] / middle[name]:8.2f}x {error:16.1e}")
    return middle, logits


def _relative_error(logits, reference):
    return ((logits - reference).norm() / reference.norm()).item()


@pytest.mark.parametrize(
    ("variant", "tolerance"),
    [("eager", 1e-5), ("compiled", 1e-5), ("eager bfloat16", 2e-2), ("compiled bfloat16", 2e-2)],
)
def test_same_logits(variant, tolerance, measured):
    logits = measured[1]
    if variant not in logits:
        pytest.skip("set COGEVAL_BENCH_COMPILE=1 to compile, which takes minutes")
    assert _relative_error(logits[variant], logits["plain"]) <= tolerance
