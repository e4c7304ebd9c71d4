"""Our way around pytorch-fid's Inception against itself, on weights that follow the rule."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch

from eval.detectors.inception import LAYERS, load
from eval.preprocess import INCEPTION_PYTORCH_FID, apply


@pytest.fixture(scope="module")
def detector(rule, reference_json, tmp_path_factory):
    shapes = reference_json("inception/param_shapes.json")
    path = tmp_path_factory.mktemp("inception") / "weights.pth"
    torch.save({name: torch.from_numpy(np.asarray(value)) for name, value in rule.state(shapes).items()}, path)
    return load(path)


def test_inputs_follow_the_rule(rule, inputs, reference_json):
    for size, expected in zip(inputs["inception"], reference_json("inception/input_sha256.json"), strict=True):
        frame = rule.video(size["name"], size["T"], size["H"], size["W"])[0]
        assert hashlib.sha256(frame.tobytes()).hexdigest() == expected


def test_features(detector, rule, inputs, item, reference_npz, monkeypatch):
    monkeypatch.setattr(detector.engine, "piece", 1)
    outputs = reference_npz("inception/outputs.npz")
    checked = 0
    for i, size in enumerate(item(inputs, "inception")):
        clip = rule.video(size["name"], size["T"], size["H"], size["W"])[:1]
        features = detector(apply(clip, INCEPTION_PYTORCH_FID)[None])
        for layer in LAYERS:
            key = f"im{i}_{layer}"
            if key in outputs:
                np.testing.assert_allclose(features[layer][0, 0].numpy(), outputs[key], atol=2e-3, rtol=1e-3)
                checked += 1
    if not checked:
        pytest.skip("this reference set has no features of Inception")
