"""VideoMAE against transformers' own, which splits queries, keys and values, with the same weights."""

from __future__ import annotations

import math
import re

import pytest
import torch
from safetensors.torch import save_file

from cogvideo.errors import UserError
from eval.detectors import videomae
from eval.detectors.videomae import VideoMAE, sine_table

TINY = {"width": 24, "depth": 3, "heads": 3, "hidden": 40, "n_classes": 5, "frames": 4, "size": 28, "patch": 7}


def randomised(network, seed=0):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in network.named_parameters():
            noise = torch.randn(value.shape, generator=generator)
            value.copy_(1 + 0.2 * noise if "norm" in name and name.endswith("weight") else 0.3 * noise)
    return network.eval()


def clips(B=3, seed=1, **sizes):
    given = {**TINY, **sizes}
    shape = (B, 3, given["frames"], given["size"], given["size"])
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def network():
    return randomised(VideoMAE(**TINY))


def test_against_transformers(network):
    transformers = pytest.importorskip("transformers")
    config = transformers.VideoMAEConfig(
        image_size=28,
        patch_size=7,
        num_frames=4,
        tubelet_size=2,
        hidden_size=24,
        num_hidden_layers=3,
        num_attention_heads=3,
        intermediate_size=40,
        layer_norm_eps=1e-6,
        use_mean_pooling=True,
        num_labels=5,
    )
    theirs = transformers.VideoMAEForVideoClassification(config).eval()
    theirs.load_state_dict(as_transformers(network.state_dict()))
    x = clips()
    with torch.no_grad():
        hidden = theirs.videomae(x.transpose(1, 2)).last_hidden_state
        pooled = theirs.fc_norm(hidden.mean(1))
        logits = theirs(x.transpose(1, 2)).logits
        ours = network(x)
    assert pooled.std() > 0.1, "a dead network would agree with anything"
    torch.testing.assert_close(ours["pooled"], pooled, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(ours["logits"], logits, rtol=1e-5, atol=1e-5)


def as_transformers(state):
    """The checkpoint's names and joint matrices as transformers has them."""
    names = {
        "patch_embed.proj": "videomae.embeddings.patch_embeddings.projection",
        "attn.proj": "attention.output.dense",
        "mlp.fc1": "intermediate.dense",
        "mlp.fc2": "output.dense",
        "norm1": "layernorm_before",
        "norm2": "layernorm_after",
        "head": "classifier",
    }
    found = {}
    for name, value in state.items():
        block = re.match(r"blocks\.(\d+)\.", name)
        place = f"videomae.encoder.layer.{block[1]}." if block else ""
        rest = name[block.end() :] if block else name
        if rest == "attn.qkv.weight":
            for part, matrix in zip(("query", "key", "value"), value.chunk(3), strict=True):
                found[f"{place}attention.attention.{part}.weight"] = matrix
        elif rest in ("attn.q_bias", "attn.v_bias"):
            part = "query" if rest == "attn.q_bias" else "value"
            found[f"{place}attention.attention.{part}.bias"] = value
        else:
            stem, _, leaf = rest.rpartition(".")
            found[f"{place}{names.get(stem, stem)}.{leaf}"] = value
    return found


def test_places_are_sines():
    table = sine_table(7, 6)[0]
    for n, column in ((0, 0), (3, 0), (3, 1), (6, 4), (5, 5)):
        angle = n / 10000 ** (2 * (column // 2) / 6)
        assert table[n, column].item() == pytest.approx(math.cos(angle) if column % 2 else math.sin(angle), abs=1e-6)


def test_names_and_size_of_the_published_network():
    """ViT-giant: 1,011 million parameters (Wang et al. 2023); names of the fine-tuned checkpoint."""
    with torch.device("meta"):
        network = VideoMAE()
    shapes = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    assert sum(map(math.prod, shapes.values())) == pytest.approx(1.011e9, rel=2e-3)
    assert len(shapes) == 2 + 40 * 13 + 2 + 2
    assert shapes["patch_embed.proj.weight"] == (1408, 3, 2, 14, 14)
    assert shapes["blocks.39.attn.qkv.weight"] == (3 * 1408, 1408)
    assert shapes["blocks.0.attn.q_bias"] == shapes["blocks.0.attn.v_bias"] == (1408,)
    assert shapes["blocks.0.mlp.fc1.weight"] == (6144, 1408)
    assert shapes["fc_norm.weight"] == (1408,)
    assert shapes["head.weight"] == (174, 1408)


@pytest.mark.parametrize("kind", ["module", "safetensors"])
def test_checkpoint_loads(network, tmp_path, kind):
    if kind == "module":
        path = tmp_path / "vit.pth"
        torch.save({"module": network.state_dict()}, path)
    else:
        path = tmp_path / "vit.safetensors"
        save_file(network.state_dict(), path)
    detector = videomae.load(path, options=TINY)
    assert dict(detector.layers) == {"pooled": 24, "logits": 5}
    x = clips(B=2)
    with torch.no_grad():
        torch.testing.assert_close(detector(x)["pooled"], network(x)["pooled"], rtol=1e-5, atol=1e-5)


def test_order_of_time_matters(network):
    x = clips(B=1)
    with torch.no_grad():
        there, back = network(x)["pooled"], network(x.flip(2))["pooled"]
    assert (there - back).abs().max() > 1e-3


def test_bad_input(network, tmp_path):
    with pytest.raises(UserError, match="reads clips of 4 x 28 x 28"):
        network(clips(size=35))
    path = tmp_path / "vit.safetensors"
    save_file({**network.state_dict(), "more": torch.zeros(1)}, path)
    with pytest.raises(UserError, match=r"1 unexpected \(more\)"):
        videomae.load(path, options=TINY)
