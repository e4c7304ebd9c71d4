"""FVD from videos and from features, against the exact value and against what each tool prints."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from eval.detectors.i3d import I3D, as_detector
from eval.detectors.state import fit_state
from eval.metrics.frechet import frechet
from eval.preprocess import I3D_DIRECT, I3D_SHORT224_CROP, I3D_TF1, apply, stacked

PIPES = {"direct": I3D_DIRECT, "short224crop": I3D_SHORT224_CROP, "tf1legacy": I3D_TF1}
# Values of an entry: what we compute, and how near it must be. Tools with sqrtm or float32 differ in later digits.
UNBIASED, BIASED = "exact_unbiased_cov", "exact_biased_cov"
POOLED = "exact_unbiased_cov on pooled 1024-d features (not FVD)"
TOOLS = {
    "cdfvd_and_styleganv (1/N, sqrtm)": (0, 1e-5),
    "tats (1/(N-1), SVD root, float32)": (1, 1e-2),
    "fvd-comparison (np.cov, sqrtm)": (1, 1e-5),
}


@pytest.fixture(scope="module")
def entries(reference_json):
    return reference_json("i3d/fvd.json")


@pytest.fixture(scope="module")
def features(reference_npz):
    return reference_npz("i3d/features.npz")


def pair(features, entry, layer, item):
    return [item(features, f"{entry}__{which}__{layer}") for which in ("real", "fake")]


@pytest.mark.parametrize(("key", "ddof"), [(UNBIASED, 1), (BIASED, 0)])
def test_from_features(key, ddof, entries, features, item):
    checked = 0
    for entry, values in entries.items():
        if key in values:
            ours = frechet(*pair(features, entry, "logits", item), ddof=ddof)
            assert ours == pytest.approx(values[key], rel=1e-8), entry
            checked += 1
    if not checked:
        pytest.skip(f"this reference set has no {key}")


def test_from_pooled_features(entries, features, item):
    checked = 0
    for entry, values in entries.items():
        if POOLED in values:
            assert frechet(*pair(features, entry, "pool1024", item)) == pytest.approx(values[POOLED], rel=1e-8)
            checked += 1
    if not checked:
        pytest.skip("this reference set has no pooled features")


@pytest.mark.parametrize("tool", TOOLS)
def test_what_tools_print(tool, entries, features, item):
    """The named conventions bring us to each tool's own number, up to the error of its square root."""
    ddof, tolerance = TOOLS[tool]
    for entry, values in entries.items():
        ours = frechet(*pair(features, entry, "logits", item), ddof=ddof)
        assert ours == pytest.approx(item(values, tool), rel=tolerance), entry


@pytest.mark.slow
@pytest.mark.parametrize("pipe", PIPES)
def test_from_videos(pipe, entries, rule, reference_json, reference_npz, item):
    """Videos -> preprocessing -> I3D -> Frechet, at the first eps that the set has for the pipe: 48 clips."""
    found = [(entry, values) for entry, values in entries.items() if entry.startswith(pipe + "_eps")]
    if not found:
        pytest.skip(f"this reference set has no FVD of {pipe}")
    entry, values = found[-1]
    state = rule.state(reference_json("i3d/param_shapes.json"))
    network = I3D(bn_eps=float(entry.split("_eps")[1]))
    fit_state(network, {name: torch.from_numpy(np.asarray(value)) for name, value in state.items()}, "i3d", None)
    detector = as_detector("i3d", network)
    videos = reference_npz("i3d/videos.npz")
    logits = [
        detector(stacked([apply(video, PIPES[pipe]) for video in item(videos, which)]))["logits"].numpy()
        for which in ("real", "fake")
    ]
    assert frechet(*logits) == pytest.approx(item(values, UNBIASED), rel=2e-3)
    assert frechet(*logits, ddof=0) == pytest.approx(item(values, BIASED), rel=2e-3)
