"""The optimizer against the published update rule, and what it leaves alone."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from cogvideo.errors import UserError
from cogvideo.training.inherit import freeze_
from cogvideo.training.optimizer import clip_, make_optimizer, set_rate


def test_three_steps_of_decoupled_adam():
    """Loshchilov and Hutter's algorithm 2 on single numbers, in Python floats."""
    module = nn.Linear(1, 1).double()
    with torch.no_grad():
        module.weight.fill_(0.7)
        module.bias.fill_(-0.2)
    optimizer = make_optimizer(module, weight_decay=0.1, betas=(0.9, 0.95), eps=1e-8)
    expected = {"weight": 0.7, "bias": -0.2}
    moments = {name: [0.0, 0.0] for name in expected}
    for n, (rate, gradients) in enumerate([(0.1, (0.3, -2.0)), (0.2, (0.5, 1.0)), (0.05, (-1.0, 0.0))], 1):
        set_rate(optimizer, rate)
        for (name, parameter), gradient in zip(module.named_parameters(), gradients, strict=True):
            parameter.grad = torch.full_like(parameter, gradient)
            first, second = moments[name]
            moments[name] = [0.9 * first + 0.1 * gradient, 0.95 * second + 0.05 * gradient**2]
            first, second = moments[name][0] / (1 - 0.9**n), moments[name][1] / (1 - 0.95**n)
            decay = 0.1 if name == "weight" else 0.0
            expected[name] -= rate * (decay * expected[name] + first / (math.sqrt(second) + 1e-8))
        optimizer.step()
    for name, parameter in module.named_parameters():
        assert math.isclose(parameter.item(), expected[name], rel_tol=1e-6)


def test_groups(make_config, make_network):
    network = make_network(make_config())
    optimizer = make_optimizer(network, weight_decay=0.5)
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    spared = {names[id(p)] for group in optimizer.param_groups if not group["weight_decay"] for p in group["params"]}
    assert spared == {name for name in names.values() if "layernorm" in name or name.endswith("bias")}
    every = [names[id(p)] for group in optimizer.param_groups for p in group["params"]]
    assert sorted(every) == sorted(names.values())
    decayed = set(names.values()) - spared
    assert any("attn_distribution" in name for name in decayed)
    assert any("position_embeddings" in name for name in decayed)


def test_frozen_parameters_have_no_state(make_config, make_network):
    network = freeze_(make_network(make_config()), "temporal")
    optimizer = make_optimizer(network, weight_decay=0.5)
    with_state = {id(parameter) for parameter in optimizer.state}
    assert with_state == {id(p) for name, p in network.named_parameters() if name.startswith("mixins.")}
    network.requires_grad_(False)
    with pytest.raises(UserError, match="nothing to train"):
        make_optimizer(network, weight_decay=0.0)


def test_clipping_is_by_the_norm_of_everything():
    first, second = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(1))
    first.grad, second.grad = torch.tensor([3.0, 0.0]), torch.tensor([4.0])
    assert float(clip_([first, second], 0.1)) == 5.0
    assert torch.allclose(first.grad, torch.tensor([0.06, 0.0]), rtol=1e-4)
    assert torch.allclose(second.grad, torch.tensor([0.08]), rtol=1e-4)
    before = first.grad.clone()
    clip_([first, second], 10.0)
    assert torch.equal(first.grad, before)
