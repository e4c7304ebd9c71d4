"""Our resizers against those of the tools, on one frame of a rule video."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from eval.preprocess import apply
from eval.protocol import Preprocess

PLAIN = Preprocess("test", scale="zero-255")
# What each tool does, by the name of its item; the target size is read from the name.
TOOLS = {
    "torch_bilinear": PLAIN,
    "torch_bilinear_antialias": replace(PLAIN, antialias=True),
    "torch_bilinear_aligncorners": replace(PLAIN, grid="align-corners"),
    "pil_bilinear_uint8": replace(PLAIN, antialias=True, backend="pil", rounding="nearest"),
    "pil_bicubic_uint8": replace(PLAIN, antialias=True, backend="pil", rounding="nearest", kernel="bicubic"),
    "cleanfid_clean": replace(PLAIN, antialias=True, backend="pil", kernel="bicubic"),
    "cleanfid_legacy_pytorch": PLAIN,
    "cdfvd_loader": replace(PLAIN, geometry="short-side-crop", antialias=True, scale="zero-one"),
    "tats_loader": replace(PLAIN, geometry="short-side-crop", scale="zero-one"),
}


def parsed(key):
    """(tool, target size) of an item's name such as torch_bilinear_224x224_sub8 or cdfvd_loader_res48."""
    match = re.fullmatch(r"(.+?)_(?:res)?(\d+)(?:x(\d+))?(?:_sub\d+)?", key)
    return (match[1], (int(match[2]), int(match[3] or match[2]))) if match else (key, (0, 0))


def sampled(frame_HWC, shape):
    """Every n-th pixel, where the reference kept only those."""
    step = -(-frame_HWC.shape[0] // shape[0])
    return frame_HWC[::step, ::step]


@pytest.mark.parametrize("tool", TOOLS)
def test_resize(tool, reference_npz):
    arrays = reference_npz("resize.npz")
    items = {key: size for key in arrays for name, size in [parsed(key)] if name == tool}
    if not items:
        pytest.skip(f"this reference set has no item of {tool}")
    for key, size in items.items():
        prepared = apply(arrays["src"][None], replace(TOOLS[tool], size=size))
        ours, theirs = sampled(prepared[:, 0].permute(1, 2, 0).numpy(), arrays[key].shape), arrays[key]
        assert ours.shape == theirs.shape
        if theirs.dtype == np.uint8:
            assert np.array_equal(ours, theirs), key
        else:
            # The set accepts a thousandth of the range, 0.255 grey levels; loaders give [0, 1] or [-0.5, 0.5].
            scale, shift = (255, 0.5 if theirs.min() < 0 else 0) if TOOLS[tool].scale == "zero-one" else (1, 0)
            assert np.abs(ours - (theirs + shift)).max() * scale <= 1e-3 * 255, key


def test_every_item_of_the_set_is_known(reference_npz):
    names = {parsed(key)[0] for key in reference_npz("resize.npz")} - {"src"}
    assert names <= set(TOOLS), f"no test knows {sorted(names - set(TOOLS))}"


def test_the_source_is_the_rule_video(reference_npz, rule, inputs, item):
    size = item(inputs, "resize")
    video = rule.video(size["name"], size["T"], size["H"], size["W"])
    assert np.array_equal(video[0], reference_npz("resize.npz")["src"])


@pytest.mark.parametrize(("key", "grid"), [("tf1", "legacy"), ("tf2", "half-pixel")])
def test_tensorflow_grids(key, grid, reference_npz, item):
    arrays = reference_npz("tf1_resize.npz")
    theirs = item(arrays, key)
    prepared = apply(arrays["src"], Preprocess("test", size=(224, 224), grid=grid, scale="zero-255"))
    ours = prepared.permute(1, 2, 3, 0).numpy()
    step = 224 // theirs.shape[1]
    assert np.abs(ours[:, ::step, ::step] - theirs).max() <= 1e-3


def test_the_two_tensorflow_grids_differ(reference_npz):
    """The reason why a protocol names its grid: a grey level or more, far above the tolerance of the tests above."""
    src = reference_npz("tf1_resize.npz")["src"]
    half = apply(src, Preprocess("a", size=(224, 224), scale="zero-255"))
    legacy = apply(src, Preprocess("b", size=(224, 224), grid="legacy", scale="zero-255"))
    assert (half - legacy).abs().max() > 1
