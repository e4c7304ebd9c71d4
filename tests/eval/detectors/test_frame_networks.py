"""Inception and CLIP: what goes in and out, and what is said when something does not fit."""

from __future__ import annotations

import copy
import json
import warnings

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from cogvideo.errors import UserError
from eval.detectors import clip, inception
from eval.preprocess import INCEPTION_PYTORCH_FID, apply

CONFIG = {
    "embed_dim": 16,
    "quick_gelu": True,
    "vision_cfg": {"image_size": 16, "layers": 1, "width": 16, "head_width": 8, "patch_size": 8},
    "text_cfg": {"context_length": 12, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}


@pytest.fixture(scope="module")
def small_clip(tmp_path_factory):
    """A detector, the network it was saved from, and the file."""
    torch.manual_seed(0)
    network = clip.build(CONFIG)
    path = tmp_path_factory.mktemp("clip") / "clip.safetensors"
    save_file(network.state_dict(), path)
    return clip.load(path, options={"config": CONFIG}), network, path


def frames(B=2, T=3, size=16):
    return torch.rand((B, 3, T, size, size), generator=torch.Generator().manual_seed(0))


def test_clip_embeds_frames(small_clip):
    detector, network, _ = small_clip
    batch = frames()
    found = detector(batch)["embedding"]
    assert found.shape == (2, 3, 16)
    with torch.no_grad():
        one = network.encode_image(batch[1, :, 2][None])[0]
    torch.testing.assert_close(found[1, 2], one / one.norm(), atol=1e-5, rtol=1e-5)


def test_clip_embeds_text(small_clip):
    detector, network, _ = small_clip
    captions = ["a dog", "a red ball rolls", "a dog"]
    found = detector.encode_text(captions)
    tokens, cut = detector.tokenise(captions)
    assert cut == [False] * 3
    with torch.no_grad():
        expected = torch.nn.functional.normalize(network.encode_text(tokens), dim=-1)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert torch.equal(found[0], found[2])


def test_long_captions_are_reported_once(small_clip):
    _, _, path = small_clip
    detector = clip.load(path, options={"config": CONFIG})
    fits, long = " ".join(["dog"] * 10), " ".join(["dog"] * 11)
    detector.encode_text([fits])
    assert detector.warnings == []
    cut = detector.encode_text([fits, long])
    detector.encode_text([long])
    assert torch.equal(cut[0], cut[1])
    assert detector.warnings == [
        f"1 caption(s) are longer than the 12 tokens that clip reads, and lost their end: first {long!r}"
    ]


def test_clip_records_its_preprocessing(small_clip):
    spec = small_clip[0].preprocess
    assert spec.name == "clip-bicubic-16"
    assert spec.size == (16, 16)
    assert (spec.kernel, spec.antialias, spec.backend, spec.rounding) == ("bicubic", True, "pil", "nearest")
    with pytest.raises(UserError, match=r"reads frames of \(16, 16\) pixels, got \(8, 8\): prepare .* clip-bicubic-16"):
        small_clip[0](frames(size=8))


def test_clip_config_as_text(small_clip):
    """Protocol options hold plain values, so a table may come as JSON."""
    detector, _, path = small_clip
    other = clip.load(path, options={"config": json.dumps(CONFIG)})
    assert torch.equal(other(frames())["embedding"], detector(frames())["embedding"])


def test_openai_archives_are_read(small_clip, tmp_path):
    """OpenAI ships a traced network in float16 with numbers beside the tensors; only the tensors are taken."""
    detector, network, _ = small_clip
    archived = copy.deepcopy(network)
    archived.register_buffer("input_resolution", torch.tensor(16))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(archived, (frames(1, 1)[:, :, 0], detector.tokenise(["a dog"])[0]), check_trace=False)
        torch.jit.save(traced.half(), str(tmp_path / "openai.pt"))
    loaded = clip.load(tmp_path / "openai.pt", options={"config": CONFIG})
    found, expected = loaded(frames())["embedding"], detector(frames())["embedding"]
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, atol=5e-3, rtol=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"model": "ViT-B-33-quickgelu"},
            r"open_clip has no model 'ViT-B-33-quickgelu'; did you mean ViT-B-32-quickgelu",
        ),
        ({"model": "ViT-B-16-SigLIP"}, "builds OpenAI's kind of CLIP only"),
        ({"config": {**CONFIG, "depth": 3}}, "no table of a CLIP model: .*depth"),
    ],
)
def test_models_that_cannot_be_built(options, message, small_clip):
    with pytest.raises(UserError, match=message):
        clip.load(small_clip[2], options=options)


def test_weights_of_another_clip(small_clip):
    wider = {**CONFIG, "embed_dim": 8}
    with pytest.raises(UserError, match=r"2 of another shape \(text_projection is 16x16, expected 16x8, visual"):
        clip.load(small_clip[2], options={"config": wider})


@pytest.fixture(scope="module")
def inception_state():
    """Random weights in the names of the file, from the network itself; nothing is downloaded for it."""
    from pytorch_fid import inception as theirs

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(theirs, "load_state_dict_from_url", lambda *_a, **_k: {})
        patch.setattr(torch.nn.Module, "load_state_dict", lambda *_a, **_k: None)
        torch.manual_seed(0)
        network = theirs.fid_inception_v3()
    state = network.state_dict()
    for name, value in state.items():
        if name.endswith("running_var"):
            value.uniform_(0.5, 1.5)
        elif name.endswith("conv.weight"):
            value.normal_(std=(2 / (value.numel() / value.shape[0])) ** 0.5)
    return state


def test_inception_is_pytorch_fids(inception_state, tmp_path):
    """Folded, in another layout and fed with prepared frames, against their class doing everything itself."""
    from pytorch_fid import inception as theirs

    torch.save(inception_state, tmp_path / "inception.pth")
    detector = inception.load(tmp_path / "inception.pth")
    detector.engine.piece = 1
    frame = np.random.default_rng(0).integers(0, 256, (1, 40, 50, 3), dtype=np.uint8)
    ours = detector(apply(frame, INCEPTION_PYTORCH_FID)[None])
    assert theirs.load_state_dict_from_url.__module__.startswith("torch")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(theirs, "load_state_dict_from_url", lambda *_a, **_k: inception_state)
        network = theirs.InceptionV3([0, 1, 2, 3]).eval()
    with torch.no_grad():
        expected = network(torch.from_numpy(frame).permute(0, 3, 1, 2).float() / 255)
    for name, maps in zip(inception.LAYERS, expected, strict=True):
        assert ours[name].shape == (1, 1, int(name))
        torch.testing.assert_close(ours[name][0, 0], maps.mean((0, 2, 3)), atol=1e-3, rtol=1e-3)


def test_inception_weights_that_do_not_fit(inception_state, tmp_path):
    state = dict(inception_state)
    del state["fc.bias"]
    torch.save(state, tmp_path / "inception.pth")
    with pytest.raises(UserError, match=r"do not fit: Missing key\(s\).*fc\.bias") as caught:
        inception.load(tmp_path / "inception.pth")
    assert "\n" not in str(caught.value)
