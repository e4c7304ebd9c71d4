"""TorchScript detectors on small programs that are called as StyleGAN-V calls its own."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch

from cogvideo.errors import MissingPrerequisite, UserError
from eval.detectors.torchscript import load_c3d, load_i3d
from eval.preprocess import RAW_255, apply, stacked


class SmallI3D(torch.nn.Module):
    """Means of a clip's corners in the range that the keywords ask for, so that a test can compute them by hand."""

    def forward(self, x: torch.Tensor, rescale: bool = True, resize: bool = True, return_features: bool = False):
        x = x.float()
        if rescale:
            x = 2 * x / 255 - 1
        if resize:
            x = x[:, :, :, ::2, ::2]
        logits = x.mean(dim=[2, 3, 4])
        return logits if return_features else logits.softmax(1)


class SmallC3D(torch.nn.Module):
    """Brightness of the three channels as probabilities, or as features."""

    def forward(self, x: torch.Tensor, return_features: bool = False):
        features = x.float().mean(dim=[2, 3, 4])
        return features if return_features else features.softmax(1)


class Wrong(torch.nn.Module):
    def forward(self, x: torch.Tensor):
        return x.float().mean(dim=[2, 3, 4])


def script(module, path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(module), str(path))
    return path


@pytest.fixture(scope="module")
def clips():
    noise = np.random.default_rng(0).integers(0, 256, (3, 16, 8, 10, 3), dtype=np.uint8)
    return noise, stacked([apply(clip, RAW_255) for clip in noise])


def test_i3d_reads_raw_clips_and_returns_logits(clips, tmp_path):
    raw, batch = clips
    detector = load_i3d(script(SmallI3D(), tmp_path / "i3d.pt"), options={"n_features": 3})
    expected = (2 * raw[:, :, ::2, ::2].astype(float) / 255 - 1).mean((1, 2, 3))
    np.testing.assert_allclose(detector(batch)["logits"].numpy(), expected, atol=1e-5)
    assert detector.layers == {"logits": 3}


def test_i3d_on_prepared_clips_neither_rescales_nor_resizes(clips, tmp_path):
    raw, batch = clips
    options = {"rescale": False, "resize": False, "n_features": 3}
    detector = load_i3d(script(SmallI3D(), tmp_path / "i3d.pt"), options=options)
    expected = raw.astype(float).mean((1, 2, 3)) / 255
    np.testing.assert_allclose(detector(batch / 255)["logits"].numpy(), expected, atol=1e-5)


def test_i3d_half_prepared_is_refused(tmp_path):
    with pytest.raises(UserError, match="rescale and resize go together"):
        load_i3d(script(SmallI3D(), tmp_path / "i3d.pt"), options={"rescale": False})


def test_i3d_short_clips_are_refused(tmp_path):
    detector = load_i3d(script(SmallI3D(), tmp_path / "i3d.pt"))
    with pytest.raises(UserError, match="at least 9 frames, got 8"):
        detector(torch.zeros(1, 3, 8, 4, 4))


def test_c3d_probabilities_and_their_logarithm(clips, tmp_path):
    raw, batch = clips
    detector = load_c3d(script(SmallC3D(), tmp_path / "c3d.pt"), options={"n_features": 3})
    layers = detector(batch)
    brightness = raw.astype(float).mean((1, 2, 3))
    expected = np.exp(brightness) / np.exp(brightness).sum(1, keepdims=True)
    np.testing.assert_allclose(layers["prob"].numpy(), expected, rtol=1e-4)
    np.testing.assert_allclose(layers["logits"].softmax(1).numpy(), layers["prob"].numpy(), rtol=1e-5)


def test_c3d_a_hard_zero_stays_finite(tmp_path):
    detector = load_c3d(script(SmallC3D(), tmp_path / "c3d.pt"), options={"n_features": 3})
    clip = torch.zeros(1, 3, 16, 4, 4)
    clip[:, 0] = 255
    layers = detector(clip)
    assert layers["prob"][0].tolist() == [1, 0, 0]
    assert torch.isfinite(layers["logits"]).all()
    torch.testing.assert_close(layers["logits"].softmax(1), layers["prob"])


def test_c3d_features(clips, tmp_path):
    raw, batch = clips
    options = {"n_features": 3, "return_features": True}
    detector = load_c3d(script(SmallC3D(), tmp_path / "c3d.pt"), options=options)
    np.testing.assert_allclose(detector(batch)["features"].numpy(), raw.astype(float).mean((1, 2, 3)), rtol=1e-5)


def test_c3d_that_returns_no_probabilities_is_refused(clips, tmp_path):
    detector = load_c3d(script(Wrong(), tmp_path / "wrong.pt"))
    with pytest.raises(UserError, match="returns no probabilities"):
        detector(clips[1])


def test_a_network_with_other_keywords_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"cannot be called with rescale, resize, return_features; it takes x"):
        load_i3d(script(Wrong(), tmp_path / "wrong.pt"))


def test_a_file_that_is_no_program_is_refused(tmp_path):
    torch.save({"a": torch.zeros(1)}, tmp_path / "state.pt")
    with pytest.raises(UserError, match=r"state.pt is no TorchScript file") as caught:
        load_i3d(tmp_path / "state.pt")
    assert "\n" not in str(caught.value)
    with pytest.raises(MissingPrerequisite, match="no weight file at"):
        load_c3d(tmp_path / "absent.pt")


@pytest.mark.parametrize("choice", [{"dtype": "bfloat16"}, {"backend": "inductor"}])
def test_precision_and_compiler_are_those_of_the_file(choice, tmp_path):
    with pytest.raises(UserError, match="runs as its file was made"):
        load_c3d(script(SmallC3D(), tmp_path / "c3d.pt"), **choice)
