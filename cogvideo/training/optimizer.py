"""AdamW over what is trained, and over nothing else: two groups, with and without weight decay; or Muon for matrices.

Muon: K. Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/; scaled to AdamW's rates as in Liu et al. 2025
(arXiv 2502.16982), so that one schedule serves both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, Protocol, cast

import torch
from torch import Tensor, nn

from cogvideo.errors import UserError

Kind = Literal["adamw", "muon"]


class Optimizer(Protocol):
    """What training asks of an optimizer: torch's, or several of them as one."""

    @property
    def param_groups(self) -> list[dict[str, Any]]: ...

    @property
    def state(self) -> Mapping[Tensor, dict[str, Any]]: ...

    def zero_grad(self, set_to_none: bool = True) -> None: ...

    @property
    def step(self) -> Callable[[], Any]: ...


class MatrixMuon:
    """Muon, which takes matrices alone, with filters (out, in, height, width) as matrices of `out` rows."""

    def __init__(self, parameters: Sequence[nn.Parameter], weight_decay: float) -> None:
        self.parameters = parameters
        # They share the storage of the weights, which they move.
        self.matrices = [nn.Parameter(one.detach().view(len(one), -1)) for one in parameters]
        self.muon = torch.optim.Muon(self.matrices, 0.0, weight_decay, adjust_lr_fn="match_rms_adamw")
        self.param_groups = self.muon.param_groups
        for matrix in self.matrices:
            self.muon.state[matrix] = {"momentum_buffer": torch.zeros_like(matrix)}
        pairs = zip(parameters, self.matrices, strict=True)
        self.state: dict[Tensor, dict[str, Any]] = {parameter: self.muon.state[matrix] for parameter, matrix in pairs}

    def step(self) -> None:
        for parameter, matrix in zip(self.parameters, self.matrices, strict=True):
            matrix.grad = None if parameter.grad is None else parameter.grad.flatten(1)
        self.muon.step()  # type: ignore[no-untyped-call]

    def zero_grad(self, set_to_none: bool = True) -> None:
        for parameter, matrix in zip(self.parameters, self.matrices, strict=True):
            parameter.grad = matrix.grad = None


class Several:
    """Optimizers of different parameters, as one."""

    def __init__(self, parts: Sequence[Optimizer]) -> None:
        self.parts = parts
        self.param_groups = [group for part in parts for group in part.param_groups]
        self.state = {parameter: values for part in parts for parameter, values in part.state.items()}

    def step(self) -> None:
        for part in self.parts:
            part.step()

    def zero_grad(self, set_to_none: bool = True) -> None:
        for part in self.parts:
            part.zero_grad(set_to_none)


def make_optimizer(
    module: nn.Module,
    *,
    weight_decay: float,
    betas: tuple[float, float] = (0.9, 0.95),
    eps: float = 1e-8,
    kind: Kind = "adamw",
) -> Optimizer:
    """Decoupled Adam with its moments in place at zero, so that a checkpoint can be read into them.

    Biases and normalisation layers have no decay; gates and position tables do, as in the release. Parameters without
    gradients get no state. `kind` "muon": Muon for linear layers and convolutions, which have to be whole on every
    process, AdamW for everything else. Raises UserError if there is nothing to train.
    """
    spared = {id(parameter) for parameter in _spared(module)}
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    if not trained:
        raise UserError("there is nothing to train: every parameter is frozen")
    matrices = {id(parameter) for parameter in _matrices(module)} if kind == "muon" else set()
    groups = [
        {
            "params": [one for one in trained if id(one) not in spared and id(one) not in matrices],
            "weight_decay": weight_decay,
        },
        {"params": [one for one in trained if id(one) in spared], "weight_decay": 0.0},
    ]
    # Fused: one kernel for all parameters, on the CPU too, where many small tensors cost more than their numbers.
    adamw = torch.optim.AdamW([group for group in groups if group["params"]], 0.0, betas, eps, fused=True)
    for parameter in trained:
        if id(parameter) not in matrices:
            adamw.state[parameter] = {
                "step": torch.zeros((), dtype=torch.float32, device=parameter.device),
                "exp_avg": torch.zeros_like(parameter),
                "exp_avg_sq": torch.zeros_like(parameter),
            }
    wide = [one for one in trained if id(one) in matrices]
    return Several([adamw, MatrixMuon(wide, weight_decay)]) if wide else adamw


def set_rate(optimizer: Optimizer, rate: float) -> None:
    """The learning rate of the next step, in every group."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def clip_(parameters: list[nn.Parameter], limit: float) -> Tensor:
    """Scale gradients so that their norm over everything is at most `limit`; the norm before, also over all ranks."""
    norm = nn.utils.clip_grad_norm_(parameters, limit, foreach=True)
    whole: Tensor = norm.full_tensor() if hasattr(norm, "full_tensor") else norm
    return whole


def _matrices(module: nn.Module) -> Iterator[nn.Parameter]:
    """Weights of linear layers and convolutions; embeddings and tables of positions are rows, not maps."""
    for part in module.modules():
        if isinstance(part, nn.Linear | nn.Conv2d) and part.weight.requires_grad:
            yield cast(nn.Parameter, part.weight)


def _spared(module: nn.Module) -> Iterator[nn.Parameter]:
    for part in module.modules():
        if isinstance(part, nn.LayerNorm | nn.GroupNorm):
            yield from part.parameters(recurse=False)
        elif isinstance(bias := getattr(part, "bias", None), nn.Parameter):
            yield bias
