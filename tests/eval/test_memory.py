"""Memory does not grow with the number of videos: eight times as many clips, the same peak."""

import json
import os
import subprocess
import sys

import numpy as np

from cogvideo.video import write_video

# 448 more clips of 16 x 96 x 96 would be 198 MB if they were kept, and more as the network's input.
ALLOWED_BYTES = 50_000_000

SCRIPT = """
import json, resource, sys
from pathlib import Path
import torch
from eval.decoding import DecodePool
from eval.detectors.contract import Detector
from eval.features import Extractor, RealFeatures, needs_of
from eval.generators.contract import ClipRef
from eval.plan import RealClip
from eval.protocol import ClipRule, MetricSpec, Preprocess, Protocol
from eval.registry import Entry, detectors

class Means(Detector):
    name, layers, chunk = "means", {"colour": 3}, 8
    def __call__(self, clips_BCTHW):
        return {"colour": clips_BCTHW.mean(dim=(2, 3, 4))}

detectors.entries["means"] = Entry("means", lambda *_, **__: Means(), "", {})
rule = ClipRule(frames=16, choice="first", size=(96, 96))
spec = MetricSpec("m", "fvd", "means", "", "colour", Preprocess("p", geometry="none"))
needs = needs_of(Protocol("p", "ucf101", "", rule, (spec,), 2, None, "all"))
paths = sys.argv[1:]
peaks = []
with DecodePool(0) as pool:
    for n in (64, 512):
        clips = [RealClip(ClipRef(f"{n}-{k}", paths[k % len(paths)], 0, 16), "", "", "") for k in range(n)]
        features = RealFeatures(Extractor(needs, rule, {}), pool)
        features.compute(clips, lambda _: None)
        assert len(features.load(clips, needs[0], "colour")) == n
        peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
print(json.dumps(peaks))
"""


def test_peak_memory_is_the_same_for_64_and_512_videos(tmp_path):
    rng = np.random.default_rng(0)
    for number in range(4):
        clip = rng.integers(0, 256, (16, 12, 12, 3), dtype=np.uint8).repeat(8, axis=1).repeat(8, axis=2)
        write_video(tmp_path / f"{number}.avi", clip, fps=8, codec="ffv1")
    environment = {**os.environ, "COGEVAL_HOME": str(tmp_path / "home"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", SCRIPT, *map(str, sorted(tmp_path.glob("*.avi")))]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    few, many = json.loads(done.stdout)
    unit = 1 if sys.platform == "darwin" else 1024
    assert (many - few) * unit < ALLOWED_BYTES
