"""The engine: scores do not depend on how clips are batched, and what a machine cannot do is said in one line."""

from __future__ import annotations

import pytest
import torch

from cogvideo.errors import MissingPrerequisite, UserError
from eval.detectors import engine as engine_module
from eval.detectors.contract import Detector
from eval.detectors.engine import Engine, FrameDetector, VideoDetector
from eval.detectors.i3d import I3D, as_detector
from eval.registry import detectors


class Video(torch.nn.Module):
    """A small real network, which also counts its passes and their sizes."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv = torch.nn.Conv3d(3, 8, 3)
        self.sizes = []

    def forward(self, x):
        self.sizes.append(len(x))
        y = self.conv(x).relu().mean((2, 3, 4))
        return {"a": y, "b": y * 2, "unused": y}


class Frames(torch.nn.Module):
    def forward(self, x):
        return {"mean": x.mean((2, 3))}


def clips(n, seed=0):
    return torch.rand((n, 3, 5, 6, 7), generator=torch.Generator().manual_seed(seed))


def video_detector(piece=4, **choice):
    return VideoDetector("video", Engine(Video(), device="cpu", piece=piece, **choice), {"a": 8, "b": 8}, min_frames=5)


@pytest.mark.parametrize("split", [1, 2, 3, 5, 10])
def test_features_do_not_depend_on_the_batch(split):
    """Bit for bit: every pass has the same size, filled up with zeros."""
    detector = video_detector()
    whole = detector(clips(10))
    parts = [detector(clips(10)[i : i + split]) for i in range(0, 10, split)]
    for layer in ("a", "b"):
        assert torch.equal(torch.cat([part[layer] for part in parts]), whole[layer])


def test_every_pass_has_the_same_size():
    detector = video_detector(piece=4)
    detector(clips(10))
    assert detector.engine.network.sizes == [4, 4, 4]


def test_only_the_named_layers_in_float32():
    found = video_detector(dtype="bfloat16")(clips(3))
    assert sorted(found) == ["a", "b"]
    assert all(value.dtype == torch.float32 and value.shape == (3, 8) for value in found.values())
    exact = video_detector()(clips(3))
    # Rounded to eight bits, so different; but of the same network.
    assert not torch.equal(found["a"], exact["a"])
    torch.testing.assert_close(found["a"], exact["a"], atol=0.02, rtol=0.02)


def test_i3d_runs_in_bfloat16():
    """The pooling kernel that the CPU lacks in bfloat16 is not needed."""
    network = I3D(10, 1 / 16)
    batch = torch.rand((1, 3, 16, 64, 64), generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        exact = network.eval()(batch)["pooled"]
    rough = as_detector("i3d", network, dtype="bfloat16")(batch)["pooled"]
    assert not torch.equal(rough, exact)
    assert (rough - exact).norm() <= 0.05 * exact.norm()


def test_frames_are_put_back_in_order():
    detector = FrameDetector("frames", Engine(Frames(), device="cpu", piece=4), {"mean": 3})
    batch = clips(2)
    found = detector(batch)["mean"]
    assert found.shape == (2, 5, 3)
    torch.testing.assert_close(found, batch.mean((3, 4)).transpose(1, 2))
    # The layout in which clips are prepared must give the same.
    last = batch.permute(0, 2, 3, 4, 1).contiguous().permute(0, 4, 1, 2, 3)
    torch.testing.assert_close(detector(last)["mean"], found)


def test_short_clips_are_refused():
    with pytest.raises(UserError, match="detector video needs clips of at least 5 frames, got 4"):
        video_detector()(clips(1)[:, :, :4])


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"dtype": "float16"}, "unknown dtype 'float16' of a detector; known: float32, bfloat16"),
        ({"backend": "jit"}, "unknown backend 'jit' of a detector; known: eager, inductor"),
    ],
)
def test_unknown_choices(choice, message):
    with pytest.raises(UserError, match=message):
        video_detector(**choice)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has the device")
def test_a_device_that_is_not_there():
    with pytest.raises(MissingPrerequisite, match=r"device 'cuda' cannot be used: .*choose another --device") as caught:
        Engine(Video(), device="cuda", piece=1)
    assert "\n" not in str(caught.value)


def test_no_compiler(monkeypatch):
    monkeypatch.setattr(engine_module.shutil, "which", lambda _name: None)
    with pytest.raises(MissingPrerequisite, match=r"needs a C\+\+ compiler .* or use backend 'eager'"):
        video_detector(backend="inductor")


def test_a_compiler_that_fails(monkeypatch):
    """A compiler that is there but cannot compile: the first call says so in one line."""

    def fail(*_args, **_kwargs):
        raise RuntimeError("cannot find Python.h\nand a long log")

    def compile_to(network, **_kwargs):
        return torch._dynamo.optimize(fail)(network)

    monkeypatch.setattr(engine_module.torch, "compile", compile_to)
    with pytest.raises(MissingPrerequisite, match=r"cannot compile here: .*use backend 'eager'") as caught:
        video_detector(backend="inductor")(clips(1))
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_compiled_is_eager():
    """The compiled network gives the same numbers, also inside inference mode and for a ragged last pass."""
    compiled, eager = video_detector(backend="inductor"), video_detector()
    with torch.inference_mode():
        found = compiled(clips(6))
    torch.testing.assert_close(found["a"], eager(clips(6))["a"], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("name", ["i3d", "i3d-torchscript", "c3d", "c3d-torchscript", "inception", "clip"])
def test_registered_loaders_ask_for_their_weights(name):
    entry = detectors.get(name)
    assert entry.facts["layers"]
    assert entry.summary
    with pytest.raises(MissingPrerequisite, match=f"detector {name} needs a weight file"):
        entry.make(None, device="cpu", dtype="float32", backend="eager", options={})


def test_detectors_that_read_no_text_say_so():
    assert isinstance(video_detector(), Detector)
    with pytest.raises(TypeError, match="detector video does not read text"):
        video_detector().encode_text(["a"])
