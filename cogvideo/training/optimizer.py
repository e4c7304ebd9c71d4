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


MOMENTUM, ROUNDS = 0.95, 5
# Of the polynomial that takes every singular value towards 1, as Jordan chose them.
CUBIC = (3.4445, -4.7750, 2.0315)


class MatrixMuon:
    """Muon, which takes matrices alone, with filters (out, in, height, width) as matrices of `out` rows.

    torch.optim.Muon orthogonalises in bfloat16 whatever the run computes in, and one matrix after another: a CPU
    without bfloat16 units spent more time on that than on the network. Here it is done in `dtype`, equal shapes
    together.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], weight_decay: float, dtype: torch.dtype) -> None:
        self.dtype = dtype
        self.param_groups: list[dict[str, Any]] = [
            {"params": list(parameters), "lr": 0.0, "weight_decay": weight_decay}
        ]
        self.state: dict[Tensor, dict[str, Any]] = {
            one: {"momentum_buffer": torch.zeros_like(one).flatten(1)} for one in parameters
        }

    @torch.no_grad()
    def step(self) -> None:
        for group in self.param_groups:
            alike: dict[tuple[int, ...], list[nn.Parameter]] = {}
            for one in group["params"]:
                if one.grad is not None:
                    # A wide matrix and its transpose are the same task.
                    alike.setdefault(tuple(sorted((len(one), one[0].numel()))), []).append(one)
            for several in alike.values():
                self._move(several, group["lr"], group["weight_decay"])

    def _move(self, parameters: list[nn.Parameter], rate: float, weight_decay: float) -> None:
        wide = []
        for one in parameters:
            grad_RC = cast(Tensor, one.grad).flatten(1)
            average_RC = self.state[one]["momentum_buffer"].lerp_(grad_RC, 1 - MOMENTUM)
            update_RC = grad_RC.lerp(average_RC, MOMENTUM)
            wide.append(update_RC.T if _is_tall(update_RC) else update_RC)
        moves = orthogonal(torch.stack(wide), self.dtype).to(parameters[0].dtype)
        scale = 0.2 * rate * max(moves.shape[1:]) ** 0.5
        for one, move_RC in zip(parameters, moves, strict=True):
            turned_RC = move_RC.T if _is_tall(one.flatten(1)) else move_RC
            one.mul_(1 - rate * weight_decay).sub_(turned_RC.reshape(one.shape), alpha=scale)

    def zero_grad(self, set_to_none: bool = True) -> None:
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.grad = None


def orthogonal(updates_NRC: Tensor, dtype: torch.dtype) -> Tensor:
    """Matrices (N, R, C), R <= C, with nearly the same singular vectors and all singular values near 1, in `dtype`.

    Newton-Schulz: an odd polynomial of the matrix is that polynomial of its singular values.
    """
    linear, cubic, quintic = CUBIC
    x_NRC = updates_NRC.to(dtype)
    x_NRC = x_NRC / torch.linalg.matrix_norm(x_NRC, keepdim=True).clamp(min=1e-7)
    for _ in range(ROUNDS):
        gram_NRR = x_NRC @ x_NRC.mT
        factor_NRR = torch.baddbmm(gram_NRR, gram_NRR, gram_NRR, beta=cubic, alpha=quintic)
        x_NRC = torch.baddbmm(x_NRC, factor_NRR, x_NRC, beta=linear)
    return x_NRC


def _is_tall(matrix_RC: Tensor) -> bool:
    return len(matrix_RC) > matrix_RC.shape[1]


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
    dtype: torch.dtype = torch.bfloat16,
) -> Optimizer:
    """Decoupled Adam with its moments in place at zero, so that a checkpoint can be read into them.

    Biases and normalisation layers have no decay; gates and position tables do, as in the release. Parameters without
    gradients get no state. `kind` "muon": Muon for linear layers and convolutions, which have to be whole on every
    process, AdamW for everything else; it orthogonalises in `dtype`. Raises UserError if there is nothing to train.
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
    return Several([adamw, MatrixMuon(wide, weight_decay, dtype)]) if wide else adamw


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
