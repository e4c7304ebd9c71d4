"""Our image tokenizer against icetk's, on a network with few channels; and its full-size table of parameters."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file

from cogvideo.vqvae import (
    IMAGE_TOKENIZERS,
    ImageTokenizer,
    ImageTokenizerConfig,
    StackConfig,
    load_image_tokenizer,
)
from cogvideo.vqvae.image_tokenizer import PIXEL_MEAN, PIXEL_STD

TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def folder(cogvideo_dir):
    if not (cogvideo_dir / "vqvae" / "vqvae.io.json").is_file():
        pytest.skip("this reference set has no vqvae/vqvae.io.json")
    return cogvideo_dir / "vqvae"


@pytest.fixture(scope="module")
def settings(folder):
    return json.loads((folder / "vqvae.io.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def expected(folder):
    return load_file(folder / "vqvae.io.safetensors")


def stack_of(sizes, blocks):
    return StackConfig(
        tuple(sizes["channels_mult"]),
        blocks=blocks,
        attention_at=tuple(sizes["attn_resolutions"]),
        nominal_size=sizes["resolution"],
    )


@pytest.fixture(scope="module")
def tokenizer(folder, settings):
    sizes = settings["config"]
    config = ImageTokenizerConfig(
        num_codes=sizes["n_embed"],
        code_dim=sizes["embedding_dim"],
        channels=sizes["channels"],
        encoder=stack_of(sizes["encoder"], sizes["encoder"]["num_res_blocks"]),
        # A decoder of the release has one block more than its setting says.
        decoders=tuple(stack_of(decoder, decoder["num_res_blocks"] + 1) for decoder in sizes["decoders"]),
    )
    return load_image_tokenizer(folder / "vqvae.weights.safetensors", config)


def rates(settings):
    return [int(name.removeprefix("rate")) for name in settings["levels"]]


def test_the_numbers_of_normalisation(settings, item):
    assert tuple(item(settings, "normalise_mean")) == PIXEL_MEAN
    assert tuple(item(settings, "normalise_std")) == PIXEL_STD


def test_number_of_parameters(tokenizer, settings, item):
    assert sum(parameter.numel() for parameter in tokenizer.parameters()) == item(settings, "params")


def test_encoder_output(tokenizer, expected, item):
    with torch.no_grad():
        ours = tokenizer.enc(item(expected, "normalized"))
    assert (ours - item(expected, "encoder_output")).abs().max() <= TOLERANCE


def test_ids_of_every_rate(tokenizer, settings, expected, item):
    for rate in rates(settings):
        ours = tokenizer.encode(item(expected, "image"), rate)
        assert torch.equal(ours, item(expected, f"rate{rate}.ids").long()), rate


def test_frames_of_every_rate(tokenizer, settings, expected, item):
    for rate in rates(settings):
        grid = tuple(settings["levels"][f"rate{rate}"]["grid"])
        theirs = item(expected, f"rate{rate}.decoded")
        ours = tokenizer.decode(item(expected, f"rate{rate}.ids"), rate, grid=grid, is_clamped=False)
        assert (ours - theirs).abs().max() <= TOLERANCE, rate
        clamped = tokenizer.decode(item(expected, f"rate{rate}.ids"), rate, grid=grid)
        assert (clamped - theirs.clamp(0, 1)).abs().max() <= TOLERANCE, rate


def test_full_size_parameters_are_those_of_the_list(cogvideo_dir):
    path = cogvideo_dir / "param_lists" / "icetk_vqvae.json"
    if not path.is_file():
        pytest.skip("this reference set has no param_lists/icetk_vqvae.json")
    listed = json.loads(path.read_text(encoding="utf-8"))
    with torch.device("meta"):
        network = ImageTokenizer(IMAGE_TOKENIZERS["release"])
    assert {name: list(value.shape) for name, value in network.state_dict().items()} == listed["tensors"]
    assert sorted(name for name, _ in network.named_buffers()) == sorted(listed["buffers"])
    assert sum(parameter.numel() for parameter in network.parameters()) == listed["parameters"]
    assert all(tensor.is_meta for tensor in (*network.parameters(), *network.buffers()))
