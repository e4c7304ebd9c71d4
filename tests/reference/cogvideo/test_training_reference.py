"""The training forward, its losses and its gradients against the released code, from raw records on."""

from __future__ import annotations

import re

import pytest
import torch

from cogvideo.forward import frame_inputs, frame_positions
from cogvideo.network import Network
from cogvideo.objectives import read_records, stage_hidden, stage_loss, trained_frames

LOGITS = 2e-4  # the tolerance that the set states for float32
GRADIENT = 2e-5  # of gradients whose norm is 0.04 to 1.4; the same bound relative to the norm

CASES = ["train_stage1", "train_stage1_window", "train_stage2"]


@pytest.fixture(scope="module", params=["tiny", "release_constants"])
def folder(request, cogvideo_dir):
    path = cogvideo_dir / request.param
    if not path.is_dir():
        pytest.skip(f"this reference set has no {path.name}")
    return path


@pytest.fixture(scope="module", params=CASES)
def case(request, folder, tensors, settings, fixture_config):
    """(facts, expected, config, network with only the trained tensors in need of a gradient)."""
    expected = tensors(folder / f"{request.param}.io.safetensors")
    facts = settings(folder / f"{request.param}.io.json")
    config = fixture_config(folder)
    weights = tensors(folder / "stage1.weights.safetensors")
    if facts["stage"] == 2:
        base = {name: tensor for name, tensor in weights.items() if name.startswith("transformer.")}
        weights = base | tensors(folder / "stage2.mixins.safetensors")
    network = Network(config)
    network.load_state_dict(weights)
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name in facts["trainable"])
    return facts, expected, config, network


@pytest.fixture
def batch(case):
    _, expected, config, _ = case
    return read_records(expected["records"].int(), config)


def window(facts, config):
    """Only the case that says so has windows in stage 1; stage 2 has those of its size."""
    return config.window if facts["case"].endswith("_window") else None


def test_records_become_texts_and_frames(case, batch):
    _, expected, config, _ = case
    text, frames = batch
    boi = torch.full((len(frames), 1), config.boi_id)
    assert torch.equal(torch.cat([text.ids, boi, frames.flatten(1)], 1), expected["sample_text"])
    assert torch.equal(text.is_real.long(), expected["attention_mask_totxt"])
    T = text.ids.shape[1]
    assert torch.equal(frames.flatten(1), expected["labels"][:, T:])


def test_network_input(case, batch):
    _, expected, config, _ = case
    text, frames = batch
    assert torch.equal(torch.cat([text.ids, frame_inputs(frames, config.boi_id).flatten(1)], 1), expected["tokens"])


def test_positions(case, batch):
    _, expected, config, network = case
    text, _ = batch
    T = text.ids.shape[1]
    ids = expected["position_ids"].expand(len(text.ids), -1)
    assert torch.equal(text.positions[text.is_real], ids[:, :T][text.is_real])
    first_of_extra = config.image_position_offset + config.frame_len
    base, extra = network.transformer.position_embeddings, network.mixins.extra_position_embedding.position_embeddings
    for row in ids[:, T:]:
        rows = [base.weight[p] if p < first_of_extra else extra.weight[p - first_of_extra] for p in row.tolist()]
        assert torch.equal(frame_positions(network), torch.stack(rows))


def test_loss_mask(case, batch):
    facts, expected, config, _ = case
    text, frames = batch
    mask = torch.tensor(trained_frames(facts["stage"], config.frames)).repeat_interleave(config.frame_len).long()
    T = text.ids.shape[1]
    assert expected["loss_mask"][:, : T + 1].sum() == 0
    assert torch.equal(mask.expand(len(frames), -1), expected["loss_mask"][:, T + 1 :])


def test_hidden_states_and_logits(case, batch):
    facts, expected, config, network = case
    text, frames = batch
    with torch.no_grad():
        text_hidden, frame_hidden = stage_hidden(network, text, frames, facts["stage"], window=window(facts, config))
    hidden = torch.cat([text_hidden, frame_hidden.flatten(1, 2)], 1)
    is_real = torch.cat([text.is_real, torch.ones(len(frames), hidden.shape[1] - text.ids.shape[1]).bool()], 1)
    assert (hidden - expected["final_hidden"])[is_real].abs().max() < LOGITS
    positions = expected["logits_positions"]
    kept = is_real[:, positions]
    assert (network.all_logits(hidden[:, positions]) - expected["logits"])[kept].abs().max() < LOGITS
    images = network.image_logits(hidden[:, positions]) - expected["logits"][..., : config.num_image_tokens]
    assert images[kept].abs().max() < LOGITS


@pytest.mark.parametrize("recompute", [False, True], ids=["kept", "recomputed"])
def test_losses_and_gradients(case, batch, recompute):
    """Exactly the trained tensors get a gradient, and it is the released one."""
    facts, expected, config, network = case
    text, frames = batch
    network.zero_grad(set_to_none=True)
    network.train()  # no dropout: it is 0 unless asked for
    loss = stage_loss(network, text, frames, facts["stage"], window=window(facts, config), recompute=recompute)
    loss.mean.backward()
    assert (loss.per_token.flatten(1) - expected["per_token_loss"]).abs().max() < LOGITS
    assert abs(float(loss.mean.detach()) - float(expected["loss"])) < 2e-5
    assert abs(float(loss.mean.detach()) - facts["loss"]) < 2e-5
    logs = [name for name in expected if name.startswith("log.")]
    assert len(logs) == len(facts["log"])
    for name in logs:
        frame = int(re.search(r"_f(\d+)_", name)[1])
        assert abs(float(loss.frame_means[frame]) - float(expected[name])) < 2e-5, name
        assert abs(float(loss.frame_means[frame]) - facts["log"][name.removeprefix("log.")]) < 2e-5, name

    gradients = {name: parameter.grad for name, parameter in network.named_parameters() if parameter.grad is not None}
    assert set(gradients) == set(facts["trainable"]) == set(facts["grad_norm"])
    assert {name.split(".")[0] for name in gradients} == {"mixins"}
    for name, norm in facts["grad_norm"].items():
        assert float(gradients[name].norm()) == pytest.approx(norm, rel=1e-4), name
    stored = [name for name in expected if name.startswith("grad.")]
    for name in stored:
        ours = gradients[name.removeprefix("grad.")]
        assert (ours - expected[name]).abs().max() < GRADIENT * max(1.0, float(expected[name].norm())), name
    assert stored
