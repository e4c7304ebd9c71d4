"""I3D and C3D: padding, pools, folding and narrow instances, against layers written out by hand."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch.nn import functional

from cogvideo.errors import UserError
from eval.detectors import c3d, i3d
from eval.detectors.c3d import C3D, from_chainer
from eval.detectors.i3d import I3D
from eval.detectors.layers import SamePool3d, Unit3D, fold_batch_norm, scaled, tensorflow_padding

NARROW = 1 / 16


def randomised(network, seed=0):
    """Weights that keep activations alive, and batch norms that do something."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in network.state_dict().items():
            noise = torch.rand(value.shape, generator=generator) if value.is_floating_point() else value
            if name.endswith(("running_var", "bn.weight")):
                value.copy_(0.5 + noise)
            elif value.ndim < 2:
                value.copy_(0.2 * (noise - 0.5) if value.is_floating_point() else noise)
            else:
                value.copy_((noise - 0.5) * 2 * (6 / (value.numel() / value.shape[0])) ** 0.5)
    return network.eval()


def clips(B=2, T=16, H=64, W=64, seed=1):
    return torch.rand((B, 3, T, H, W), generator=torch.Generator().manual_seed(seed)) * 2 - 1


@pytest.mark.parametrize("size", range(1, 12))
@pytest.mark.parametrize(("kernel", "stride"), [(7, 2), (3, 2), (2, 2), (3, 1), (1, 1), (1, 2)])
def test_same_padding_gives_the_ceiling(size, kernel, stride):
    before, after = tensorflow_padding(size, kernel, stride)
    assert after - before in (0, 1)
    assert (size + before + after - kernel) // stride + 1 == -(-size // stride)


@pytest.mark.parametrize("size", [(9, 7, 8), (4, 5, 6), (2, 3, 3), (16, 14, 15)])
@pytest.mark.parametrize(("kernel", "stride"), [((1, 3, 3), (1, 2, 2)), ((3, 3, 3), (2, 2, 2)), ((2, 2, 2), (2, 2, 2))])
def test_same_pool_is_a_pool_of_the_padded_input(size, kernel, stride):
    x = torch.rand((1, 2, *size), generator=torch.Generator().manual_seed(0))
    t, h, w = map(tensorflow_padding, size, kernel, stride)
    expected = functional.max_pool3d(functional.pad(x, (*w, *h, *t)), kernel, stride)
    assert torch.equal(SamePool3d(kernel, stride)(x), expected)


@pytest.mark.parametrize(("kernel", "stride"), [(7, 2), (3, 1), (1, 1)])
@pytest.mark.parametrize("size", [(9, 8, 7), (5, 6, 6)])
def test_unit_is_a_convolution_of_the_padded_input(kernel, stride, size):
    unit = randomised(Unit3D(3, 8, kernel, stride))
    x = torch.rand((2, 3, *size), generator=torch.Generator().manual_seed(0))
    t, h, w = (tensorflow_padding(n, kernel, stride) for n in size)
    padded = functional.pad(x, (*w, *h, *t))
    expected = functional.relu(unit.bn(functional.conv3d(padded, unit.conv3d.weight, stride=stride)))
    torch.testing.assert_close(unit(x), expected)


def test_the_memory_layout_is_kept_through_i3d():
    """A layer that returned another layout would cost a third of the speed, and nothing else would show it."""
    network = fold_batch_norm(randomised(I3D(10, 1 / 8))).to(memory_format=torch.channels_last_3d)
    seen = {}

    def note(name):
        return lambda _module, _inputs, y: seen.update({name: y.is_contiguous(memory_format=torch.channels_last_3d)})

    for name, module in network.named_modules():
        if isinstance(module, (Unit3D, SamePool3d)):
            module.register_forward_hook(note(name))
    with torch.no_grad():
        network(clips(2).to(memory_format=torch.channels_last_3d))
    assert len(seen) == 57 + 4 + 9
    assert [name for name, kept in seen.items() if not kept] == []


@pytest.mark.parametrize("size", [(4, 5, 6), (1, 1, 1)])
def test_unit_in_both_memory_layouts(size):
    unit = randomised(Unit3D(16, 8))
    x = torch.rand((2, 16, *size), generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(unit(x.to(memory_format=torch.channels_last_3d)), unit(x.clone()), atol=1e-6, rtol=1e-5)


def test_channel_counts():
    assert [scaled(c, 1) for c in (16, 24, 208, 1024)] == [16, 24, 208, 1024]
    assert [scaled(c, 1 / 8) for c in (16, 64, 384, 1024)] == [8, 8, 48, 128]


@pytest.mark.parametrize("eps", [1e-5, 1e-3])
def test_folding_changes_nothing(eps):
    network = randomised(I3D(10, NARROW, bn_eps=eps))
    with torch.no_grad():
        before = network(clips())
        folded = fold_batch_norm(copy.deepcopy(network))
        after = folded(clips())
    assert not any("bn" in name for name in folded.state_dict())
    for layer in before:
        torch.testing.assert_close(after[layer], before[layer], atol=2e-5, rtol=1e-4)


def test_eps_of_the_batch_norm_matters():
    """Else `bn_eps`, which every protocol names, would be an idle option."""
    with torch.no_grad():
        a, b = (randomised(I3D(10, NARROW, bn_eps=eps))(clips())["logits"] for eps in (1e-5, 1e-3))
    assert (a - b).abs().max() > 1e-4


@pytest.mark.parametrize(("frames", "size", "left"), [(16, 64, (2, 2)), (9, 64, (2, 2)), (33, 32, (5, 1))])
def test_the_last_pool_of_i3d(frames, size, left):
    """The mean over windows of two frames and the whole picture is the explicit average pool."""
    network = randomised(I3D(10, NARROW))
    explicit = copy.deepcopy(network)
    explicit.pool = (2, left[1], left[1])
    batch = clips(T=frames, H=size, W=size)
    with torch.no_grad():
        torch.testing.assert_close(network(batch)["pooled"], explicit(batch)["pooled"])
        torch.testing.assert_close(network(batch)["logits"], explicit(batch)["logits"])


def test_i3d_logits_are_the_mean_over_time_of_a_convolution():
    network = randomised(I3D(10, NARROW))
    kept = {}
    network.Mixed_5c.register_forward_hook(lambda _module, _inputs, output: kept.update(x=output))
    with torch.no_grad():
        ours = network(clips(T=32))["logits"]
        steps = network.logits.conv3d(functional.avg_pool3d(kept["x"], (2, 2, 2), stride=1))
    assert steps.shape[2] == 3
    torch.testing.assert_close(ours, steps.mean((2, 3, 4)), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("frames", [1, 8])
def test_i3d_refuses_short_clips(frames):
    with pytest.raises(UserError, match=f"at least 9 frames, got {frames}"):
        I3D(10, NARROW)(clips(1, T=frames))


def test_i3d_learns():
    """A narrow network takes a gradient step in training mode: nothing is changed in place that is needed later."""
    network = I3D(3, NARROW, dropout=0.5).train()
    loss = functional.cross_entropy(network(clips())["logits"], torch.tensor([0, 2]))
    loss.backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in network.parameters())


def test_i3d_detector():
    network = randomised(I3D(10, NARROW))
    with torch.no_grad():
        expected = network(clips())
    detector = i3d.as_detector("i3d", network)
    assert detector.layers == {"logits": 10, "pooled": 64}
    assert detector.min_frames == 9
    assert not detector.is_frame_network
    features = detector(clips())
    for layer, n in detector.layers.items():
        assert features[layer].shape == (2, n)
        torch.testing.assert_close(features[layer], expected[layer], atol=2e-5, rtol=1e-4)


def test_i3d_from_a_file(tmp_path):
    network = randomised(I3D(10, NARROW, bn_eps=1e-3))
    torch.save(network.state_dict(), tmp_path / "i3d.pt")
    options = {"n_classes": 10, "width": NARROW, "bn_eps": 1e-3}
    loaded = i3d.load(tmp_path / "i3d.pt", options=options)
    with torch.no_grad():
        torch.testing.assert_close(loaded(clips())["logits"], network(clips())["logits"], atol=2e-5, rtol=1e-4)
    with pytest.raises(UserError, match=r"logits.conv3d.weight is 10x64x1x1x1, expected 400x64x1x1x1"):
        i3d.load(tmp_path / "i3d.pt", options={"width": NARROW})


@pytest.mark.parametrize("size", [(16, 32, 32), (16, 40, 24)])
def test_c3d_by_hand(size):
    """Every layer written out, with pools that keep the ragged window, on a layout with channels last too."""
    network = randomised(C3D(7, NARROW, size))
    x = clips(2, *size)
    y = x
    for names, pool in (("1a", (1, 2, 2)), ("2a", 2), ("3a 3b", 2), ("4a 4b", 2), ("5a 5b", 2)):
        for name in names.split():
            layer = getattr(network, f"conv{name}")
            y = functional.relu(functional.conv3d(y, layer.weight, layer.bias, padding=1))
        y = functional.max_pool3d(y, pool, ceil_mode=True)
    for name in ("fc6", "fc7"):
        y = functional.relu(getattr(network, name)(y.reshape(2, -1)))
    logits = network.fc8(y)
    with torch.no_grad():
        outputs = network(x)
        last = network.to(memory_format=torch.channels_last_3d)(x.to(memory_format=torch.channels_last_3d))
    for found in (outputs, last):
        torch.testing.assert_close(found["fc7"], y, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(found["fc8"], logits, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(found["prob"], logits.softmax(1), atol=1e-6, rtol=1e-4)


def test_c3d_refuses_another_size():
    with pytest.raises(UserError, match=r"reads clips of 16 x 32 x 32 .* got 16 x 32 x 40"):
        C3D(7, NARROW, (16, 32, 32))(clips(1, 16, 32, 40))


def test_c3d_from_chainer_names(tmp_path):
    network = randomised(C3D(7, NARROW))
    chainer = {
        name.replace(".weight", "/W").replace(".bias", "/b"): v.numpy() for name, v in network.state_dict().items()
    }
    np.savez(tmp_path / "c3d.npz", **chainer)
    assert "conv1a/W" in chainer
    assert from_chainer({"conv1a/W": 1, "fc8/b": 2, "other": 3}) == {"conv1a.weight": 1, "fc8.bias": 2, "other": 3}
    detector = c3d.load(tmp_path / "c3d.npz", options={"n_classes": 7, "width": NARROW})
    assert detector.layers == {"fc6": 256, "fc7": 256, "fc8": 7, "prob": 7}
    batch = clips(1, 16, 112, 112)
    with torch.no_grad():
        torch.testing.assert_close(detector(batch)["fc8"], network(batch)["fc8"], atol=1e-5, rtol=1e-4)
