"""Muon for matrices and filters: its updates are orthogonal and of AdamW's size, and all else is left to AdamW."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from cogvideo.errors import UserError
from cogvideo.training.engine import Engine, Options
from cogvideo.training.optimizer import make_optimizer, set_rate


class Few(nn.Module):
    """A matrix, filters, a table and a norm."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(24, 40)
        self.filters = nn.Conv2d(3, 16, 3)
        self.table = nn.Embedding(10, 24)
        self.norm = nn.LayerNorm(24)


def stepped(module, rate, weight_decay=0.0):
    """What one step of random gradients moves, by name."""
    optimizer = make_optimizer(module, weight_decay=weight_decay, kind="muon")
    set_rate(optimizer, rate)
    before = {name: parameter.detach().clone() for name, parameter in module.named_parameters()}
    torch.manual_seed(1)
    for parameter in module.parameters():
        parameter.grad = torch.randn_like(parameter)
    optimizer.step()
    optimizer.zero_grad()
    assert all(parameter.grad is None for parameter in module.parameters())
    return {name: parameter.detach() - before[name] for name, parameter in module.named_parameters()}


@pytest.mark.parametrize("name", ["linear.weight", "filters.weight"])
def test_every_direction_of_a_matrix_moves_alike(name):
    """The singular values of an update are near one another, where those of a random gradient are not; and its size
    is 0.2 of the rate in root mean square, as Liu et al. 2025 have it."""
    moved = stepped(Few(), 1e-2)[name].flatten(1)
    found = torch.linalg.svdvals(moved)
    assert found.max() / found.min() < 2.5
    torch.manual_seed(1)
    drawn = torch.linalg.svdvals(torch.randn_like(moved))
    assert drawn.max() / drawn.min() > 4
    size = moved.square().mean().sqrt().item()
    expected = 0.2 * 1e-2 * math.sqrt(max(moved.shape)) / math.sqrt(max(moved.shape))
    assert 0.6 * expected < size < 1.3 * expected


@pytest.mark.parametrize(("dtype", "within"), [(torch.float32, 0.02), (torch.bfloat16, 0.01)])
def test_a_matrix_moves_as_torch_moves_it(dtype, within):
    """torch.optim.Muon, which computes in bfloat16, over several steps, tall and wide, with weight decay."""
    torch.manual_seed(0)
    ours, theirs = nn.Sequential(nn.Linear(24, 40), nn.Linear(40, 24), nn.Linear(24, 40)), []
    optimizer = make_optimizer(ours, weight_decay=0.1, kind="muon", dtype=dtype)
    set_rate(optimizer, 1e-2)
    theirs = [nn.Parameter(layer.weight.detach().clone()) for layer in ours]
    start = [one.detach().clone() for one in theirs]
    muon = torch.optim.Muon(theirs, 1e-2, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    for _ in range(4):
        for layer, other in zip(ours, theirs, strict=True):
            layer.weight.grad, layer.bias.grad = torch.randn_like(layer.weight), torch.zeros_like(layer.bias)
            other.grad = layer.weight.grad.clone()
        optimizer.step()
        muon.step()
    for layer, other, before in zip(ours, theirs, start, strict=True):
        moved, expected = layer.weight.detach() - before, other.detach() - before
        assert (moved - expected).norm() < within * expected.norm()


def test_all_else_is_adams():
    """Tables, biases and norms move as AdamW alone moves them."""
    torch.manual_seed(0)
    module = Few()
    same = Few()
    same.load_state_dict(module.state_dict())
    moved = stepped(module, 1e-2)
    adamw = make_optimizer(same, weight_decay=0.0)
    set_rate(adamw, 1e-2)
    before = {name: parameter.detach().clone() for name, parameter in same.named_parameters()}
    torch.manual_seed(1)
    for parameter in same.parameters():
        parameter.grad = torch.randn_like(parameter)
    adamw.step()
    for name, parameter in same.named_parameters():
        is_same = torch.allclose(parameter.detach() - before[name], moved[name], atol=1e-8)
        assert is_same == (name not in ("linear.weight", "filters.weight")), name


def test_stopped_and_resumed_is_the_same_as_not_stopped(tmp_path, make_engine, trained_of):
    whole = make_engine(tmp_path / "whole", optimizer="muon")
    whole.run()
    make_engine(tmp_path / "parts", optimizer="muon").run(until=3)
    second = make_engine(tmp_path / "parts", optimizer="muon")
    assert second.resume()
    second.run()
    first, again = trained_of(whole), trained_of(second)
    assert any(name.startswith("momentum_buffer.") for name in first)
    assert first.keys() == again.keys()
    assert all(torch.equal(first[name], again[name]) for name in first)


def test_a_network_that_is_spread_is_refused(tmp_path, make_engine):
    engine = make_engine(tmp_path, optimizer="muon")
    recipe = replace(engine.recipe, name="spread")
    with pytest.raises(UserError, match="recipe spread is trained with Muon, which needs whole matrices"):
        Engine(
            engine.task,
            recipe,
            engine.batches,
            tmp_path,
            device=torch.device("cpu"),
            options=Options(),
            is_sharded=True,
        )
