"""Both ways to start a stage from an image network, against the rules of the release and of the paper."""

from __future__ import annotations

import pytest
import torch

from cogvideo.errors import UserError
from cogvideo.forward import Text, forward, frame_inputs
from cogvideo.network import Network
from cogvideo.training.inherit import freeze_, inherit_video_


@pytest.fixture
def started(make_config, make_network):
    """An image network and a stage that inherits it, by the way it starts."""

    def make(start, **changes):
        config = make_config(**changes)
        donor = make_network(config)
        source = Network(config, "image").eval()
        source.transformer.load_state_dict(donor.transformer.state_dict())
        stage = make_network(config, seed=1)
        return source, inherit_video_(stage, source, start, seed=3)

    return make


@pytest.mark.parametrize("start", ["release", "paper"])
def test_what_is_copied(start, started):
    source, stage = started(start)
    for name, tensor in source.state_dict().items():
        assert torch.equal(stage.state_dict()[name], tensor)
    for index, layer in enumerate(source.layers):
        for part in ("weight", "bias"):
            ours = getattr(stage.plus.query_key_value[index], part)
            assert torch.equal(ours, getattr(layer.attention.query_key_value, part))
        assert not stage.plus.attn_distribution[index].any()
        is_copied = torch.equal(stage.plus.dense[index].weight, layer.attention.dense.weight)
        assert is_copied == (start == "paper")


def test_the_release_draws_the_output_projection(started):
    """N(0, 0.02), bias 0, another draw in each layer, the same for a seed."""
    (_, stage), (_, again) = started("release"), started("release")
    weights = torch.stack([dense.weight for dense in stage.plus.dense]).detach()
    assert not any(dense.bias.any() for dense in stage.plus.dense)
    assert abs(float(weights.std()) - 0.02) < 0.001
    assert abs(float(weights.mean())) < 0.001
    assert not torch.equal(weights[0], weights[1])
    assert torch.equal(weights, torch.stack([dense.weight for dense in again.plus.dense]))


def test_positions_are_repeated_frame_after_frame(started):
    """150 rows of frames of 16: nine whole frames and six rows."""
    source, stage = started("release")
    config = stage.config
    extra = stage.mixins.extra_position_embedding.position_embeddings.weight
    for row in range(config.extra_positions):
        slot = config.image_position_offset + row % config.frame_len
        assert torch.equal(extra[row], source.transformer.position_embeddings.weight[slot])


def first_frames(source, stage, draw):
    config = stage.config
    texts, frames = draw(config, (2, 6, 4))
    text = Text.padded(texts, config.pad_id, torch.device("cpu"), config.text_len)
    inputs = frame_inputs(frames, config.boi_id)
    T, F = config.text_len, config.frame_len
    with torch.no_grad():
        alone = forward(source, text, inputs[:, :1], (0,), has_plus=False)[:, T:]
        video = forward(stage, text, inputs, range(config.frames))[:, T:]
    return alone, video[:, :F], video[:, F : 2 * F]


def test_the_paper_starts_as_the_image_model(started, draw):
    """On frame 0; the second frame sees the first one, so it is another."""
    alone, first, second = first_frames(*started("paper"), draw)
    assert torch.allclose(first, alone, atol=2e-5)
    assert not torch.allclose(second, alone, atol=0.1)


def test_the_paper_starts_as_the_image_model_whatever_the_gates(started, draw):
    source, stage = started("paper")
    with torch.no_grad():
        for gate in stage.plus.attn_distribution:
            gate.normal_(generator=torch.Generator().manual_seed(0))
    alone, first, _ = first_frames(source, stage, draw)
    assert torch.allclose(first, alone, atol=2e-5)


def test_the_release_does_not(started, draw):
    alone, first, _ = first_frames(*started("release"), draw)
    assert not torch.allclose(first, alone, atol=0.1)


def test_only_the_temporal_channel_is_trained(make_config, make_network):
    stage = freeze_(make_network(make_config()), "temporal")
    trained = {name for name, parameter in stage.named_parameters() if parameter.requires_grad}
    assert trained == {name for name, _ in stage.named_parameters() if not name.startswith("transformer.")}
    assert all(parameter.requires_grad for parameter in freeze_(stage, "everything").parameters())


def test_others_are_refused(make_config, make_network):
    config = make_config()
    image, video = Network(config, "image"), make_network(config)
    with pytest.raises(UserError, match="expected a network of kind 'video' to start, got 'image'"):
        inherit_video_(image, image, "paper")
    with pytest.raises(UserError, match=r"another size: transformer\.word_embeddings\.weight is \[46, 32\]"):
        inherit_video_(video, Network(make_config(vocab_size=46), "image"), "paper")
    with pytest.raises(UserError, match="no temporal channel"):
        freeze_(image, "temporal")
