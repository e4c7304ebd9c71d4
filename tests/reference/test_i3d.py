"""Our I3D against the public implementations, on weights and videos that follow the rule."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cogvideo.errors import UserError
from eval.detectors.i3d import I3D, as_detector
from eval.detectors.state import fit_state
from eval.preprocess import I3D_DIRECT, I3D_SHORT224_CROP, I3D_TF1, apply, stacked

PIPES = {"direct": I3D_DIRECT, "short224crop": I3D_SHORT224_CROP, "tf1legacy": I3D_TF1}
LAYERS = {"logits": "logits", "pool1024": "pooled"}
TOLERANCE = 2e-3


@pytest.fixture(scope="module")
def state(rule, reference_json):
    shapes = reference_json("i3d/param_shapes.json")
    return {name: torch.from_numpy(np.asarray(value)) for name, value in rule.state(shapes).items()}


@pytest.fixture(scope="module")
def detector(state):
    """The detector for an eps, made once."""
    made = {}

    def get(eps):
        if eps not in made:
            network = I3D(bn_eps=eps)
            fit_state(network, state, "i3d", None)
            made[eps] = as_detector("i3d", network)
        return made[eps]

    return get


def parsed(key):
    """(pipe, eps, set, layer) of a key such as direct_eps1e-5__real__logits."""
    pipe_eps, which, layer = key.split("__")
    pipe, eps = pipe_eps.split("_eps")
    return pipe, float(eps), which, layer


def test_names_and_shapes_of_the_state_dict(reference_json):
    ours = {name: list(value.shape) for name, value in I3D().state_dict().items()}
    assert ours == reference_json("i3d/param_shapes.json")


def test_videos_follow_the_rule(rule, inputs, item, reference_npz):
    videos = reference_npz("i3d/videos.npz")
    for name, size in item(inputs, "i3d_sets").items():
        for i in range(size["n"]):
            ours = rule.video(f"{name}{i}", size["T"], size["H"], size["W"])
            assert np.array_equal(ours, item(videos, name)[i]), f"{name}{i}"


@pytest.mark.parametrize("pipe", PIPES)
def test_features(pipe, detector, reference_npz):
    """Two videos of each set for every eps; all of them run in the end-to-end test of FVD."""
    features = reference_npz("i3d/features.npz")
    videos = reference_npz("i3d/videos.npz")
    keys = [key for key in features if parsed(key)[0] == pipe and parsed(key)[3] in LAYERS]
    if not keys:
        pytest.skip(f"this reference set has no features of {pipe}")
    outputs = {}
    for key in keys:
        _, eps, which, layer = parsed(key)
        rows = sorted({0, len(videos[which]) - 1})
        if (eps, which) not in outputs:
            clips = stacked([apply(videos[which][row], PIPES[pipe]) for row in rows])
            outputs[eps, which] = detector(eps)(clips)
        ours = outputs[eps, which][LAYERS[layer]].numpy()
        assert np.abs(ours - features[key][rows]).max() <= TOLERANCE, key


def test_every_pipe_of_the_set_is_known(reference_npz):
    assert {parsed(key)[0] for key in reference_npz("i3d/features.npz")} <= set(PIPES)


def test_single_runs(detector, rule, inputs, item, reference_json, monkeypatch):
    """Clip lengths other than 16, where TensorFlow's padding is uneven."""
    monkeypatch.setattr(detector(1e-5).engine, "piece", 1)
    runs = reference_json("i3d/single_runs.json")
    for size in item(inputs, "i3d_single"):
        expected = item(runs, "{T}x{H}x{W}".format(**size))["logits"]
        clip = rule.video(size["name"], size["T"], size["H"], size["W"])
        ours = detector(1e-5)(apply(clip, I3D_DIRECT)[None])["logits"][0].numpy()
        assert np.abs(ours - expected).max() <= TOLERANCE, size


@pytest.mark.parametrize("frames", [1, 8])
def test_short_clips_are_refused(detector, frames):
    with pytest.raises(UserError, match=f"at least 9 frames, got {frames}"):
        detector(1e-5)(torch.zeros(1, 3, frames, 32, 32))
