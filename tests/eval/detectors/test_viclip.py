"""ViCLIP against open_clip's towers, which it extends, and against its definition written out with torch's layers."""

from __future__ import annotations

import math

import pytest
import torch
from open_clip.transformer import TextTransformer, VisionTransformer
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional

from cogvideo.errors import UserError
from eval.detectors import viclip
from eval.detectors.viclip import QuickGELU, TextTower, VideoTower, middle_frames
from eval.preprocess import VICLIP, apply

VISION = {"width": 32, "layers": 2, "heads": 4, "patch": 7, "size": 28, "frames": 4, "n_features": 12}
TEXT = {"width": 16, "layers": 2, "heads": 2, "context": 10, "vocabulary": 49408, "n_features": 12}
OPTIONS = {**VISION, "text_width": 16, "text_layers": 2, "text_heads": 2, "context": 10}


def randomised(network, seed=0):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in network.named_parameters():
            noise = torch.randn(value.shape, generator=generator)
            value.copy_(1 + 0.2 * noise if ".ln_" in f".{name}" and name.endswith("weight") else 0.2 * noise)
    return network.eval()


@pytest.fixture(scope="module")
def video():
    return randomised(VideoTower(**VISION))


@pytest.fixture(scope="module")
def text():
    return randomised(TextTower(**TEXT))


def clips(B=2, T=4, size=28, seed=1):
    return torch.randn((B, 3, T, size, size), generator=torch.Generator().manual_seed(seed))


def test_one_frame_is_open_clips_image_tower(text):
    """With one frame and no embedding of its time this is CLIP."""
    ours = randomised(VideoTower(**{**VISION, "frames": 1}))
    with torch.no_grad():
        ours.temporal_positional_embedding.zero_()
    theirs = VisionTransformer(
        image_size=28, patch_size=7, width=32, layers=2, heads=4, mlp_ratio=4.0, output_dim=12, act_layer=QuickGELU
    )
    state = {name: value for name, value in ours.state_dict().items() if name != "temporal_positional_embedding"}
    theirs.load_state_dict({**state, "conv1.weight": state["conv1.weight"][:, :, 0]})
    x = clips(T=1)
    with torch.no_grad():
        expected = functional.normalize(theirs.eval()(x[:, :, 0]), dim=-1)
        torch.testing.assert_close(ours(x)["embedding"], expected, rtol=1e-5, atol=1e-5)


def test_text_is_open_clips_text_tower(text):
    theirs = TextTransformer(
        context_length=10, vocab_size=49408, width=16, heads=2, layers=2, output_dim=12, act_layer=QuickGELU
    )
    missing = theirs.load_state_dict(text.state_dict(), strict=False)
    assert not missing.missing_keys
    assert not missing.unexpected_keys
    tokens, _ = viclip.tokeniser(10)(["a red square moving left", "rain", ""])
    with torch.no_grad():
        expected = functional.normalize(theirs.eval()(tokens), dim=-1)
        torch.testing.assert_close(text(tokens), expected, rtol=1e-5, atol=1e-5)


def test_all_frames_attend_to_each_other(video):
    """The definition by hand: tokens of all patches and frames, patch by patch, in the order of the authors' code."""
    x = clips()
    weights = video.state_dict()
    with torch.no_grad():
        found = []
        for clip in x:
            frames = functional.conv2d(clip.transpose(0, 1), weights["conv1.weight"][:, :, 0], stride=7).flatten(2)
            tokens = [weights["class_embedding"] + weights["positional_embedding"][0]]
            for place in range(16):
                for time in range(4):
                    here = frames[time, :, place] + weights["positional_embedding"][1 + place]
                    tokens.append(here + weights["temporal_positional_embedding"][0, time])
            h = functional.layer_norm(torch.stack(tokens), (32,), weights["ln_pre.weight"], weights["ln_pre.bias"])
            for block in video.transformer.resblocks:
                h = by_hand(block, h)
            h = functional.layer_norm(h[0], (32,), weights["ln_post.weight"], weights["ln_post.bias"])
            found.append(h @ weights["proj"])
        expected = torch.stack(found) / torch.stack(found).norm(dim=1, keepdim=True)
        torch.testing.assert_close(video(x)["embedding"], expected, rtol=1e-4, atol=1e-5)


def by_hand(block, x):
    """One residual block on tokens (N, D), head by head."""
    h = functional.layer_norm(x, (32,), block.ln_1.weight, block.ln_1.bias)
    q, k, v = functional.linear(h, block.attn.in_proj_weight, block.attn.in_proj_bias).split(32, dim=1)
    heads = [
        (q[:, s] @ k[:, s].T / math.sqrt(8)).softmax(dim=1) @ v[:, s]
        for s in (slice(i, i + 8) for i in range(0, 32, 8))
    ]
    x = x + functional.linear(torch.cat(heads, dim=1), block.attn.out_proj.weight, block.attn.out_proj.bias)
    h = functional.layer_norm(x, (32,), block.ln_2.weight, block.ln_2.bias)
    h = functional.linear(h, block.mlp.c_fc.weight, block.mlp.c_fc.bias)
    return x + functional.linear(h * torch.sigmoid(1.702 * h), block.mlp.c_proj.weight, block.mlp.c_proj.bias)


def test_frames_are_thinned_as_vbench_does():
    assert middle_frames(16, 8) == [0, 2, 4, 6, 8, 10, 12, 14]
    assert middle_frames(8, 8) == list(range(8))
    assert middle_frames(25, 8) == [1, 4, 7, 10, 13, 16, 19, 22]


def test_more_frames_are_thinned(video):
    x = clips(T=8)
    with torch.no_grad():
        assert torch.equal(video(x)["embedding"], video(x[:, :, middle_frames(8, 4)])["embedding"])


def test_names_and_shapes_of_the_published_network():
    with torch.device("meta"):
        tower = VideoTower(width=1024, layers=24, heads=16, patch=14, size=224, frames=8, n_features=768)
        words = TextTower(width=768, layers=12, heads=12, context=32, vocabulary=49408, n_features=768)
    shapes = {name: tuple(value.shape) for name, value in tower.state_dict().items()}
    assert shapes["conv1.weight"] == (1024, 3, 1, 14, 14)
    assert shapes["temporal_positional_embedding"] == (1, 8, 1024)
    assert shapes["transformer.resblocks.23.attn.in_proj_weight"] == (3072, 1024)
    assert shapes["transformer.resblocks.0.mlp.c_fc.weight"] == (4096, 1024)
    assert shapes["proj"] == (1024, 768)
    assert tuple(words.positional_embedding.shape) == (32, 768)
    # CLIP ViT-L/14 has 304.0 and 123.7 million parameters: eight times are added, 45 places of words are not there.
    assert sum(map(math.prod, shapes.values())) == 303_966_208 + 8 * 1024
    assert sum(p.numel() for p in words.parameters()) == 123_650_304 - 45 * 768


def test_detector(video, text, tmp_path):
    path = tmp_path / "viclip.pth"
    state = {f"vision_encoder.{name}": value for name, value in video.state_dict().items()}
    state |= {f"text_encoder.{name}": value for name, value in text.state_dict().items()}
    torch.save({"model": {**state, "temp": torch.tensor(0.01)}}, path)
    detector = viclip.load(path, options=OPTIONS)
    x = clips(B=3)
    with torch.no_grad():
        torch.testing.assert_close(detector(x)["embedding"], video(x)["embedding"])
    found = detector.encode_text(["a cat", "a very long story about a dog that runs over a green field in the rain"])
    assert found.shape == (2, 12)
    torch.testing.assert_close(found.norm(dim=1), torch.ones(2))
    assert "1 caption(s) are longer than the 10 tokens that viclip reads" in detector.warnings[0]
    with pytest.raises(UserError, match="at least 4 frames of 28x28 pixels, got 4 of 35x35"):
        detector(clips(size=35))
    less = {name: value.clone() for name, value in state.items() if name != "text_encoder.ln_final.bias"}
    save_file(less, tmp_path / "less.safetensors")
    with pytest.raises(UserError, match=r"1 missing \(text_encoder.ln_final.bias\)"):
        viclip.load(tmp_path / "less.safetensors", options=OPTIONS)


def test_pixels_are_vbenchs():
    """torchvision's own transforms, as VBench composes them for ViCLIP."""
    from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Normalize, Resize

    clip = torch.randint(0, 256, (2, 60, 90, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    steps = Compose([Resize(224, InterpolationMode.BICUBIC, antialias=False), CenterCrop(224)])
    scale = Normalize((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
    expected = scale(steps(clip.permute(0, 3, 1, 2)).float() / 255).permute(1, 0, 2, 3)
    assert nn.functional.l1_loss(apply(clip.numpy(), VICLIP), expected) < 1e-3
    assert (apply(clip.numpy(), VICLIP) - expected).abs().max() < 0.02
