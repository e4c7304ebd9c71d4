"""Training rows and losses against the rules of the fact sheet, and the memory that they promise not to take."""

from __future__ import annotations

import pytest
import torch

from cogvideo import objectives
from cogvideo.errors import UserError
from cogvideo.objectives import read_records, stage_hidden, stage_loss, trained_frames

LENGTHS = (2, 6, 0)


def rows(config, texts, frames):
    """Raw rows: each text and pads up to text_len, then the frames."""
    padded = [text + [config.pad_id] * (config.text_len - len(text)) for text in texts]
    return torch.cat([torch.tensor(padded), frames.flatten(1)], 1).int()


def test_records(make_config, draw):
    config = make_config()
    texts, frames = draw(config, LENGTHS)
    text, read = read_records(rows(config, texts, frames), config)
    assert torch.equal(read, frames)
    assert text.ids.shape == (3, config.text_len)
    assert [row[real].tolist() for row, real in zip(text.ids, text.is_real, strict=True)] == texts
    assert text.is_real.tolist() == [[i >= config.text_len - len(t) for i in range(config.text_len)] for t in texts]


def test_pads_anywhere_are_dropped(make_config, draw):
    """One leading pad as some files have it, and pads in the middle."""
    config = make_config()
    _, frames = draw(config, (1,))
    p = config.pad_id
    for raw in ([p, 30, 31, 32, p, p], [p, p, 30, p, 31, 32], [30, 31, 32, p, p, p]):
        text, _ = read_records(rows(config, [raw], frames), config)
        assert text.ids.tolist() == [[p, p, p, 30, 31, 32]]


def test_longer_text_parts_are_cut(make_config, draw):
    """The cut comes after the pads are gone, and keeps the front."""
    config = make_config()
    _, frames = draw(config, (1,))
    raw = torch.tensor([[config.pad_id, *range(29, 29 + config.text_len + 1)]])
    text, read = read_records(torch.cat([raw, frames.flatten(1)], 1).int(), config)
    assert text.ids.tolist() == [list(range(29, 29 + config.text_len))]
    assert torch.equal(read, frames)


@pytest.mark.parametrize("position", [0, -1])
@pytest.mark.parametrize("wrong", [-1, 10**6])
def test_ids_of_another_size_are_refused(position, wrong, make_config, draw):
    config = make_config()
    texts, frames = draw(config, LENGTHS)
    records = rows(config, texts, frames)
    records[1, position] = wrong
    with pytest.raises(UserError, match=f"training record 1 has .* id {wrong}") as error:
        read_records(records, config)
    assert "\n" not in str(error.value)


def test_a_text_id_among_the_images_is_refused(make_config, draw):
    config = make_config()
    texts, frames = draw(config, (1,))
    frames[0, 2, 3] = config.num_image_tokens
    with pytest.raises(UserError, match=f"image id {config.num_image_tokens} in image slot 35"):
        read_records(rows(config, texts, frames), config)


@pytest.mark.parametrize("shape", [(80,), (2, 80), (2, 40), (1, 2, 100)])
def test_rows_of_another_length_are_refused(shape, make_config):
    with pytest.raises(UserError, match="rows of some text ids and 80 image ids"):
        read_records(torch.zeros(shape, dtype=torch.int32), make_config())


def test_trained_frames():
    assert trained_frames(1, 5) == [False, True, True, True, True]
    assert trained_frames(2, 5) == [False, True, False, True, False]


@pytest.mark.parametrize("chunk", [1, 7, 10**6])
@pytest.mark.parametrize(("stage", "window"), [(1, None), (1, 2), (2, None)])
def test_loss_and_gradient_are_those_of_all_logits(stage, window, chunk, make_config, make_network, draw, monkeypatch):
    """Against the plain way: every logit at once, the mask of the stage, one backward; also for the head itself."""
    network = make_network(make_config())
    config = network.config
    texts, frames = draw(config, LENGTHS)
    text, _ = read_records(rows(config, texts, frames), config)
    _, hidden = stage_hidden(network, text, frames, stage, window=window)
    logits = network.image_logits(hidden)
    plain = -logits.log_softmax(-1).gather(-1, frames[..., None])[..., 0]
    mask = torch.tensor([0.0, 1, 1, 1, 1] if stage == 1 else [0.0, 1, 0, 1, 0])[None, :, None].expand_as(plain)
    ((plain * mask).sum() / mask.sum()).backward()
    expected = {name: parameter.grad.clone() for name, parameter in network.named_parameters()}

    network.zero_grad(set_to_none=True)
    monkeypatch.setattr(objectives, "CHUNK", chunk)
    loss = stage_loss(network, text, frames, stage, window=window)
    loss.mean.backward()
    assert torch.allclose(loss.per_token, plain, atol=1e-5)
    assert torch.allclose(loss.mean, (plain * mask).sum() / mask.sum(), atol=1e-5)
    assert torch.allclose(loss.frame_means, plain.mean((0, 2)), atol=1e-5)
    assert not loss.frame_means.requires_grad
    for name, parameter in network.named_parameters():
        assert torch.allclose(parameter.grad, expected[name], atol=1e-5), name


def test_logits_are_made_a_chunk_at_a_time(make_config, make_network, draw, monkeypatch):
    """Never more positions than a chunk has, and never a column that is not an image token."""
    network = make_network(make_config())
    texts, frames = draw(network.config, LENGTHS)
    text, _ = read_records(rows(network.config, texts, frames), network.config)
    shapes = []
    image_logits = type(network).image_logits

    def watched(self, hidden):
        logits = image_logits(self, hidden)
        shapes.append((tuple(logits.shape), torch.is_grad_enabled() and hidden.requires_grad))
        return logits

    monkeypatch.setattr(objectives, "CHUNK", 10)
    monkeypatch.setattr(type(network), "image_logits", watched)
    monkeypatch.setattr(type(network), "all_logits", None)
    stage_loss(network, text, frames, 2).mean.backward()
    assert {shape[1] for shape, _ in shapes} == {network.config.num_image_tokens}
    assert max(shape[0] for shape, _ in shapes) == 10
    with_gradient = sum(shape[0] for shape, has_gradient in shapes if has_gradient)
    positions = 3 * network.config.frame_len
    assert with_gradient == 2 * 2 * positions  # frames 1 and 3, forwards and again backwards
    assert sum(shape[0] for shape, _ in shapes) == with_gradient + 3 * positions


def test_gradients_reach_what_is_trained_alone(make_config, make_network, draw):
    network = make_network(make_config())
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name.startswith("mixins."))
    texts, frames = draw(network.config, LENGTHS)
    text, _ = read_records(rows(network.config, texts, frames), network.config)
    stage_loss(network, text, frames, 1, recompute=True).mean.backward()
    for name, parameter in network.named_parameters():
        assert (parameter.grad is None) == name.startswith("transformer."), name


def test_without_gradient(make_config, make_network, draw):
    """Validation needs no graph."""
    network = make_network(make_config())
    texts, frames = draw(network.config, LENGTHS)
    text, _ = read_records(rows(network.config, texts, frames), network.config)
    with torch.no_grad():
        loss = stage_loss(network, text, frames, 2)
    assert not loss.mean.requires_grad
    assert torch.allclose(loss.mean, stage_loss(network, text, frames, 2).mean)


def test_given_frames_of_stage_2_do_not_see_what_is_made(make_config, make_network, draw):
    """Neither do two frames that are made see anything later; changing one moves only what may see it."""
    network = make_network(make_config())
    texts, frames = draw(network.config, LENGTHS)
    text, _ = read_records(rows(network.config, texts, frames), network.config)
    with torch.no_grad():
        before = stage_hidden(network, text, frames, 2)[1]
        for changed, may_move in ((1, {1, 3}), (3, {3}), (4, {0, 1, 2, 3, 4})):
            others = frames.clone()
            others[:, changed] = (others[:, changed] + 1) % network.config.num_image_tokens
            moved = (stage_hidden(network, text, others, 2)[1] - before).abs().amax((0, 2, 3)) > 1e-6
            assert {frame for frame in range(5) if moved[frame]} == may_move


def test_stage_2_needs_five_frames(make_config, make_network, draw):
    network = make_network(make_config())
    texts, frames = draw(network.config, LENGTHS, 3)
    text, _ = read_records(rows(network.config, texts, draw(network.config, LENGTHS)[1]), network.config)
    with pytest.raises(ValueError, match="trained on 5 frames, not on 3"):
        stage_loss(network, text, frames, 2)
