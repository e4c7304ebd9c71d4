"""Our C3D and its preprocessing against TGANv2's, run in chainer on weights that follow the rule."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch

from eval.detectors.c3d import C3D, load
from eval.preprocess import C3D_TGAN2, apply, stacked

TOLERANCES = {"fc6": 1e-3, "fc7": 1e-3, "fc8": 1e-3, "prob": 1e-5}
# In the reference run these weights are divided by this, as else the softmax saturates.
FIRST_LAYER = ("conv1a/W", 64)


@pytest.fixture(scope="module")
def files(rule, reference_json, tmp_path_factory):
    """The weights and the mean clip as TGANv2 distributes them: npz files."""
    folder = tmp_path_factory.mktemp("c3d")
    state = rule.state(reference_json("c3d/param_shapes.json"))
    name, divisor = FIRST_LAYER
    state[name] = state[name] / np.float32(divisor)
    np.savez(folder / "weights.npz", **state)
    mean = 100 + 20 * rule.unit("c3d_mean", 3 * 16 * 128 * 171)
    np.savez(folder / "mean.npz", mean=mean.reshape(3, 16, 128, 171).astype(np.float32))
    return folder


@pytest.fixture(scope="module")
def prepared(rule, inputs, files, item):
    """Every input clip as the network reads it."""
    clips = [rule.video(size["name"], size["T"], size["H"], size["W"]) for size in item(inputs, "c3d")]
    return [apply(clip, C3D_TGAN2, files={C3D_TGAN2.subtract: files / "mean.npz"}) for clip in clips]


def test_names_and_shapes(reference_json):
    ours = {
        name.replace(".weight", "/W").replace(".bias", "/b"): list(value.shape)
        for name, value in C3D().state_dict().items()
    }
    assert ours == reference_json("c3d/param_shapes.json")


def test_inputs_follow_the_rule(rule, inputs, reference_json):
    for size, expected in zip(inputs["c3d"], reference_json("c3d/input_sha256.json"), strict=True):
        clip = rule.video(size["name"], size["T"], size["H"], size["W"])
        assert hashlib.sha256(clip.tobytes()).hexdigest() == expected


def test_preprocessing(prepared, reference_npz, item):
    outputs = reference_npz("c3d/outputs.npz")
    means = [float(clip.double().mean()) for clip in prepared]
    np.testing.assert_allclose(means, item(outputs, "pre_mean"), atol=1e-3)
    for clip, expected in zip(prepared, item(outputs, "pre_corner"), strict=True):
        ours = np.stack([clip[:, 0, 0, 0].numpy(), clip[:, -1, -1, -1].numpy()])
        np.testing.assert_allclose(ours, expected, atol=1e-3)


def test_outputs(prepared, files, reference_npz):
    outputs = reference_npz("c3d/outputs.npz")
    features = load(files / "weights.npz")(stacked(prepared))
    checked = 0
    for layer, tolerance in TOLERANCES.items():
        if layer in outputs:
            assert np.abs(features[layer].numpy() - outputs[layer]).max() <= tolerance, layer
            checked += 1
    if not checked:
        pytest.skip("this reference set has no outputs of C3D")


def test_the_padded_pools_of_other_ports_would_not_pass(prepared, files, reference_npz, item):
    """The tolerance tells the ceiling-mode pool of chainer from the (0, 1, 1) padding of the common PyTorch port."""
    expected = item(reference_npz("c3d/outputs.npz"), "fc8")[0]
    detector = load(files / "weights.npz")
    pool = torch.nn.functional.max_pool3d

    def padded(x, window, stride, ceil_mode):
        last = x.shape[2] == 2
        return pool(x, window, stride, padding=(0, 1, 1)) if last else pool(x, window, stride, ceil_mode=ceil_mode)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.nn.functional, "max_pool3d", padded)
        other = detector(prepared[0][None])["fc8"][0].numpy()
    assert np.abs(other - expected).max() > 100 * TOLERANCES["fc8"]
