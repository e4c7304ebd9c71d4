"""AdamW over what is trained, and over nothing else: two groups, with and without weight decay."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from cogvideo.errors import UserError


def make_optimizer(
    module: nn.Module, *, weight_decay: float, betas: tuple[float, float] = (0.9, 0.95), eps: float = 1e-8
) -> torch.optim.AdamW:
    """Decoupled Adam with its moments in place at zero, so that a checkpoint can be read into them.

    Biases and normalisation layers have no decay; gates and position tables do, as in the release. Parameters without
    gradients get no state. Raises UserError if there is nothing to train.
    """
    spared = {id(parameter) for parameter in _spared(module)}
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    if not trained:
        raise UserError("there is nothing to train: every parameter is frozen")
    groups = [
        {"params": [one for one in trained if id(one) not in spared], "weight_decay": weight_decay},
        {"params": [one for one in trained if id(one) in spared], "weight_decay": 0.0},
    ]
    # Fused: one kernel for all parameters, on the CPU too, where many small tensors cost more than their numbers.
    optimizer = torch.optim.AdamW([group for group in groups if group["params"]], 0.0, betas, eps, fused=True)
    for parameter in trained:
        optimizer.state[parameter] = {
            "step": torch.zeros((), dtype=torch.float32, device=parameter.device),
            "exp_avg": torch.zeros_like(parameter),
            "exp_avg_sq": torch.zeros_like(parameter),
        }
    return optimizer


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """The learning rate of the next step, in every group."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def clip_(parameters: list[nn.Parameter], limit: float) -> Tensor:
    """Scale gradients so that their norm over everything is at most `limit`; the norm before, also over all ranks."""
    norm = nn.utils.clip_grad_norm_(parameters, limit, foreach=True)
    whole: Tensor = norm.full_tensor() if hasattr(norm, "full_tensor") else norm
    return whole


def _spared(module: nn.Module) -> Iterator[nn.Parameter]:
    for part in module.modules():
        if isinstance(part, nn.LayerNorm | nn.GroupNorm):
            yield from part.parameters(recurse=False)
        elif isinstance(bias := getattr(part, "bias", None), nn.Parameter):
            yield bias
