"""Our CLIP detector against open_clip driven by hand, on a small model with weights that follow the rule."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from eval.detectors.clip import build, load
from eval.preprocess import apply


@pytest.fixture(scope="module")
def meta(reference_json):
    return reference_json("clip/meta.json")


@pytest.fixture(scope="module")
def outputs(reference_npz):
    return reference_npz("clip/outputs.npz")


@pytest.fixture(scope="module")
def detector(rule, meta, tmp_path_factory):
    path = tmp_path_factory.mktemp("clip") / "weights.safetensors"
    save_file({name: torch.from_numpy(np.asarray(value)) for name, value in rule.state(meta["shapes"]).items()}, path)
    return load(path, options={"config": meta["config"]})


@pytest.fixture(scope="module")
def prepared(detector, rule, inputs, item):
    clips = [rule.video(size["name"], size["T"], size["H"], size["W"]) for size in item(inputs, "clip")]
    return [apply(clip, detector.preprocess) for clip in clips]


@pytest.fixture(scope="module")
def text(detector, meta, item):
    return detector.encode_text(item(meta, "prompts")).numpy()


def test_tokens(detector, meta, item):
    tokens, cut = detector.tokenise(item(meta, "prompts"))
    assert tokens.tolist() == item(meta, "token_ids")
    assert not any(cut)


def test_preprocessing(prepared, outputs, item):
    for i, clip in enumerate(prepared):
        expected = item(outputs, f"video{i}_preprocessed_frame0")
        assert np.abs(clip[:, 0].numpy() - expected).max() <= 2e-2, i


def test_text(text, outputs, item):
    expected = item(outputs, "text_features")
    assert np.abs(text - expected / np.linalg.norm(expected, axis=1, keepdims=True)).max() <= 1e-5
    np.testing.assert_allclose(np.linalg.norm(text, axis=1), 1, rtol=1e-6)


def test_cosines(detector, prepared, text, outputs, item):
    for i, clip in enumerate(prepared):
        frames_TD = detector(clip[None])["embedding"][0].numpy()
        cosines = frames_TD @ text.T
        assert np.abs(cosines - item(outputs, f"video{i}_cos")).max() <= 1e-5, i
        assert np.abs(cosines.mean(0) - item(outputs, "clipsim_mean_over_frames")[i]).max() <= 1e-5, i
        adjacent = (frames_TD[1:] * frames_TD[:-1]).sum(1).mean()
        assert abs(adjacent - item(outputs, "frame_consistency_adjacent")[i]) <= 1e-5, i


def test_names_and_shapes_of_vit_b_32(reference_json):
    import open_clip

    with torch.device("meta"):
        clip = build(open_clip.get_model_config("ViT-B-32-quickgelu"))
    ours = {name: list(value.shape) for name, value in clip.state_dict().items()}
    assert ours == reference_json("clip/vit_b32_param_shapes.json")
