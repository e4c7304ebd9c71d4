"""Pixels: every geometry, kernel and range, against numpy, against torch by hand, and by what must not change."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cogvideo.errors import MissingPrerequisite, UserError
from eval.preprocess import (
    C3D_TGAN2,
    CLIP_VIT_B_32,
    I3D_DIRECT,
    I3D_SHORT224_CROP,
    I3D_TF1,
    INCEPTION_CLEAN,
    INCEPTION_PYTORCH_FID,
    RAW_255,
    apply,
    clip_preprocess,
    covering_size,
    stacked,
    to_protocol_size,
)
from eval.protocol import ClipRule, Preprocess

KEEP = Preprocess("keep", geometry="none", scale="zero-255")


def noise(T=3, H=20, W=30, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (T, H, W, 3), dtype=np.uint8)


def as_THWC(prepared):
    return prepared.permute(1, 2, 3, 0).numpy()


@pytest.mark.parametrize(
    ("scale", "low", "high"),
    [("minus-one-one", -1, 1), ("zero-one", 0, 1), ("zero-255", 0, 255), ("signed-128", -1, 127 / 128)],
)
def test_ranges(scale, low, high):
    """All 256 levels stay apart, evenly spaced, and the ends are where the name says."""
    levels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, axis=3)
    prepared = as_THWC(apply(levels, replace(KEEP, scale=scale))).reshape(256, 3)[:, 0]
    np.testing.assert_allclose(prepared, np.linspace(low, high, 256), atol=2e-7 * max(1, high))


def test_shape_dtype_and_layout():
    prepared = apply(noise(5), I3D_DIRECT)
    assert prepared.shape == (3, 5, 224, 224)
    assert prepared.dtype == torch.float32
    # In memory as decoded: what makes the resize fast and the network's layout free.
    assert prepared.permute(1, 2, 3, 0).is_contiguous()
    batch = stacked([prepared, prepared])
    assert batch.shape == (2, 3, 5, 224, 224)
    assert batch.is_contiguous(memory_format=torch.channels_last_3d)
    assert torch.equal(batch[1], prepared)


def test_the_clip_is_left_alone():
    clip = noise()
    before = clip.copy()
    for spec in (KEEP, RAW_255, I3D_DIRECT, I3D_TF1, INCEPTION_CLEAN, CLIP_VIT_B_32):
        apply(clip, spec)
    to_protocol_size(clip, ClipRule(size=(8, 8)))
    assert np.array_equal(clip, before)


@pytest.mark.parametrize("view", ["read-only", "reversed", "strided"])
def test_every_kind_of_array_is_read(view):
    clip = noise(4)
    if view == "read-only":
        clip.flags.writeable = False
    clip = clip[::-1] if view == "reversed" else clip[:, ::2, 1::3] if view == "strided" else clip
    assert np.array_equal(as_THWC(apply(clip, KEEP)), clip)


def test_channels_are_reversed_for_bgr():
    clip = noise()
    assert np.array_equal(as_THWC(apply(clip, replace(KEEP, channels="bgr"))), clip[..., ::-1])


def test_mean_and_std():
    clip = noise()
    spec = replace(KEEP, scale="zero-one", mean=(0.1, 0.2, 0.3), std=(0.5, 0.25, 2.0))
    expected = (clip / 255 - np.array(spec.mean)) / np.array(spec.std)
    np.testing.assert_allclose(as_THWC(apply(clip, spec)), expected, atol=1e-6)


@pytest.mark.parametrize("spec", [I3D_DIRECT, I3D_SHORT224_CROP, I3D_TF1, INCEPTION_PYTORCH_FID, INCEPTION_CLEAN])
def test_a_flat_clip_stays_flat(spec):
    """Whatever the kernel: weights that do not sum to one would show."""
    prepared = apply(np.full((2, 33, 47, 3), 77, dtype=np.uint8), spec)
    expected = (77 - 128) / 128 if spec.scale == "signed-128" else 77 / 127.5 - 1
    assert prepared.shape[2:] == torch.Size(spec.size)
    torch.testing.assert_close(prepared, torch.full_like(prepared, expected), atol=1e-5, rtol=0)


@pytest.mark.parametrize("grid", ["half-pixel", "legacy", "align-corners"])
def test_a_clip_of_the_right_size_is_not_resized(grid):
    clip = noise(2, 14, 14)
    assert np.array_equal(as_THWC(apply(clip, replace(KEEP, geometry="stretch", size=(14, 14), grid=grid))), clip)


def ramp(n):
    """One frame whose value is its column."""
    return np.arange(n, dtype=np.uint8).reshape(1, 1, n, 1).repeat(4, axis=1).repeat(3, axis=3)


@pytest.mark.parametrize(
    ("grid", "source"),
    [
        ("half-pixel", lambda i, n, m: (i + 0.5) * n / m - 0.5),
        ("legacy", lambda i, n, m: i * n / m),
        ("align-corners", lambda i, n, m: i * (n - 1) / (m - 1)),
    ],
)
def test_where_a_grid_reads(grid, source):
    """On a ramp, bilinear interpolation gives the position that was read."""
    n, m = 40, 25
    prepared = apply(ramp(n), replace(KEEP, geometry="stretch", size=(4, m), grid=grid))
    expected = np.clip(source(np.arange(m), n, m), 0, n - 1)
    np.testing.assert_allclose(prepared[0, 0, 0].numpy(), expected, atol=1e-4)


def test_short_side_crop_by_hand():
    """VideoGPT's order: short side, the longer one rounded up, then the centre, the margin rounded down."""
    clip = noise(2, 10, 13)
    frames = torch.from_numpy(clip).permute(0, 3, 1, 2).float()
    larger = torch.nn.functional.interpolate(frames, (16, 21), mode="bilinear", align_corners=False)
    expected = larger[:, :, :, 2:18].permute(0, 2, 3, 1).numpy()
    spec = replace(KEEP, geometry="short-side-crop", size=(16, 16))
    np.testing.assert_allclose(as_THWC(apply(clip, spec)), expected, atol=1e-4)


def test_clip_is_prepared_as_torchvision_does():
    """open_clip's own chain of transforms, for sizes whose margins are even and odd, wide and tall."""
    from open_clip.transform import image_transform

    theirs = image_transform(32, is_train=False)
    for H, W in ((48, 64), (100, 60), (32, 32), (47, 101), (31, 65), (200, 33)):
        clip = noise(2, H, W)
        ours = apply(clip, clip_preprocess(32))
        for t in range(2):
            torch.testing.assert_close(ours[:, t], theirs(Image.fromarray(clip[t])), atol=1e-6, rtol=0)


@given(
    st.integers(1, 400),
    st.integers(1, 400),
    st.integers(1, 300),
    st.integers(1, 300),
    st.sampled_from(["ceil", "torchvision"]),
)
def test_the_covering_size_covers_and_keeps_the_shape(H, W, h, w, fit):
    height, width = covering_size((H, W), (h, w), fit)
    assert height >= h
    assert width >= w
    assert height == h or width == w
    # Within a pixel of the source's aspect ratio.
    assert abs(height - max(h, H * w / W)) < 1.001
    assert abs(width - max(w, W * h / H)) < 1.001


def mean_file(path, T=16):
    mean = np.arange(3 * T * 128 * 171, dtype=np.float32).reshape(3, T, 128, 171) / 1e5
    np.savez(path, mean=mean)
    return mean


def test_the_mean_clip_is_cut_as_tgan2_does(tmp_path):
    mean = mean_file(tmp_path / "mean2.npz")
    clip = noise(16, 112, 112)
    prepared = apply(clip, C3D_TGAN2, files={"c3d-tgan2-mean": tmp_path / "mean2.npz"})
    expected = clip[..., ::-1].transpose(3, 0, 1, 2) - mean[:, :, 8:120, 8:120]
    np.testing.assert_allclose(prepared.numpy(), expected, atol=1e-4)


def test_a_mean_clip_that_is_absent_or_does_not_fit(tmp_path):
    clip = noise(16, 8, 8)
    with pytest.raises(
        MissingPrerequisite, match=r"needs the mean clip 'c3d-tgan2-mean'.* weights fetch c3d-tgan2-mean"
    ):
        apply(clip, C3D_TGAN2)
    mean_file(tmp_path / "short.npz", T=8)
    with pytest.raises(UserError, match=r"is \(3, 8, 128, 171\).*does not cover clips of 16 frames of 112 x 112"):
        apply(clip, C3D_TGAN2, files={"c3d-tgan2-mean": tmp_path / "short.npz"})
    (tmp_path / "broken.npz").write_bytes(b"PK\x03\x04 broken")
    with pytest.raises(UserError, match="cannot read the mean clip"):
        apply(clip, C3D_TGAN2, files={"c3d-tgan2-mean": tmp_path / "broken.npz"})
    np.savez(tmp_path / "two.npz", a=np.zeros(3), b=np.zeros(3))
    with pytest.raises(UserError, match="should hold one mean clip"):
        apply(clip, C3D_TGAN2, files={"c3d-tgan2-mean": tmp_path / "two.npz"})


@pytest.mark.parametrize("clip", [noise().astype(np.float32), noise()[0], noise()[..., :2]])
def test_what_is_no_clip_is_refused(clip):
    with pytest.raises(ValueError, match=r"a clip is uint8 \(T, H, W, 3\)"):
        apply(clip, KEEP)


@pytest.mark.parametrize(
    "spec",
    [
        replace(I3D_TF1, antialias=True),
        replace(I3D_TF1, kernel="bicubic"),
        replace(CLIP_VIT_B_32, antialias=False),
        replace(CLIP_VIT_B_32, grid="legacy"),
    ],
)
def test_records_that_no_kernel_follows_are_refused(spec):
    with pytest.raises(ValueError, match="preprocessing"):
        apply(noise(), spec)


def test_protocol_size_takes_the_largest_centred_window():
    clip = noise(2, 24, 40)
    window = clip[:, :, 8:32]
    expected = np.stack([np.asarray(Image.fromarray(f).resize((12, 12), Image.Resampling.BILINEAR)) for f in window])
    assert np.array_equal(to_protocol_size(clip, ClipRule(size=(12, 12))), expected)


@pytest.mark.parametrize("resize", ["centre-crop-first", "short-side-crop", "stretch"])
@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize("source", [(24, 40), (40, 24), (7, 9), (16, 12)])
def test_protocol_size_is_the_rule_size(resize, antialias, source):
    clip = noise(2, *source)
    sized = to_protocol_size(clip, ClipRule(size=(16, 12), resize=resize, antialias=antialias))
    assert sized.shape == (2, 16, 12, 3)
    assert sized.dtype == np.uint8
    assert sized.flags.c_contiguous


def test_protocol_size_leaves_a_fitting_clip_and_no_size_alone():
    clip = noise(2, 16, 12)
    assert to_protocol_size(clip, ClipRule(size=(16, 12))) is clip
    assert to_protocol_size(clip, ClipRule(size=None)) is clip


@pytest.mark.parametrize("antialias", [True, False])
def test_protocol_size_rounds_and_never_darkens(antialias):
    """Cutting off the fraction would lower the mean by half a grey level."""
    clip = noise(4, 64, 64)
    sized = to_protocol_size(clip, ClipRule(size=(31, 31), antialias=antialias))
    fine = torch.nn.functional.interpolate(
        torch.from_numpy(clip).permute(0, 3, 1, 2).double(), (31, 31), mode="bilinear", antialias=antialias
    )
    assert abs(sized.mean() - fine.mean().item()) < 0.05


@settings(deadline=None, max_examples=25)
@given(st.integers(2, 40), st.integers(2, 40), st.integers(2, 40), st.integers(2, 40), st.booleans())
def test_protocol_size_stays_within_the_values_of_the_clip(H, W, h, w, antialias):
    clip = noise(1, H, W).clip(60, 200)
    sized = to_protocol_size(clip, ClipRule(size=(h, w), antialias=antialias))
    assert sized.shape == (1, h, w, 3)
    assert sized.min() >= 60
    assert sized.max() <= 200


def test_the_presets_and_the_protocol_size_load_no_torch():
    code = (
        "import sys, numpy as np\n"
        "from eval.preprocess import I3D_DIRECT, to_protocol_size\n"
        "from eval.protocol import ClipRule\n"
        "to_protocol_size(np.zeros((1, 8, 8, 3), np.uint8), ClipRule(size=(4, 4)))\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
