"""One process or several under `torchrun`: who this one is, what it shares, and how a task is spread over all.

Large transformers are sharded with FSDP2 (`fully_shard`), layer by layer: parameters, gradients and moments lie once in
the whole group, on GPUs (NCCL) as on CPUs (gloo). Small networks are kept whole by everyone.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor

from cogvideo.errors import UserError
from cogvideo.network import Network


@dataclass(frozen=True)
class World:
    """This process among `size` of them. Methods need every process to call them; alone they do nothing."""

    rank: int = 0
    size: int = 1

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    @property
    def is_alone(self) -> bool:
        return self.size == 1

    def add_(self, tensor: Tensor) -> Tensor:
        """The sum over all processes, in place."""
        if not self.is_alone:
            dist.all_reduce(tensor)
        return tensor

    def from_first_(self, tensor: Tensor) -> Tensor:
        """What the first process has, in place."""
        if not self.is_alone:
            dist.broadcast(tensor, 0)
        return tensor

    def wait(self) -> None:
        """Until every process is here."""
        if not self.is_alone:
            dist.barrier()


@contextmanager
def joined(device: torch.device) -> Iterator[tuple[World, torch.device]]:
    """The world that `torchrun` has set up around this process, and its own device; alone without `torchrun`."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1 or dist.is_initialized():
        yield (World(dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else World()), device
        return
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield World(dist.get_rank(), dist.get_world_size()), device
    finally:
        dist.destroy_process_group()


def require_share(batch_size: int, accumulate: int, world: World) -> int:
    """Rows of one process in one part of a step. Raises UserError if a batch cannot be shared evenly."""
    share, rest = divmod(batch_size, accumulate * world.size)
    if rest or not share:
        parts = f"{world.size} processes" + (f" in {accumulate} parts each" if accumulate > 1 else "")
        raise UserError(
            f"a batch of {batch_size} rows cannot be shared evenly by {parts}; take a multiple of "
            f"{accumulate * world.size} (--batch-size), or another number of processes"
        )
    return share


def shard_(task: nn.Module, network: Network, device: torch.device, *, half: bool) -> None:
    """Spread a transformer over the group, one unit a layer: only the layer that works is whole anywhere.

    A layer's own modules and those of its temporal channel are gathered together. `half`: gathered in bfloat16 on a
    GPU; what is kept, and what gradients are summed in, stays float32.
    """
    mesh = init_device_mesh(device.type, (dist.get_world_size(),))
    policy = MixedPrecisionPolicy(cast_forward_inputs=False)
    if half and device.type == "cuda":
        policy = MixedPrecisionPolicy(torch.bfloat16, torch.float32, cast_forward_inputs=False)
    settings: dict[str, Any] = {"mesh": mesh, "mp_policy": policy}
    for index, layer in enumerate(network.layers):
        parts: list[nn.Module] = [layer.input_layernorm, layer.attention.query_key_value, layer.attention.dense]
        if network.kind == "video":
            parts += [network.plus.query_key_value[index], network.plus.dense[index]]
        parts += [layer.third_layernorm, layer.post_attention_layernorm, layer.mlp, layer.fourth_layernorm]
        # A unit is gathered when its first module runs and let go when all have: every one of these runs once. In
        # super-resolution they run once for what is read and once for the cells, so it stays one unit.
        if network.kind != "superres":
            fully_shard(parts, **settings)
    fully_shard(task, **settings)


def average_gradients_(parameters: list[nn.Parameter], world: World) -> None:
    """The mean over all processes of gradients that everyone has whole, in one message."""
    if world.is_alone:
        return
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    world.add_(flat).div_(world.size)
    first = 0
    for gradient in gradients:
        gradient.copy_(flat[first : first + gradient.numel()].view_as(gradient))
        first += gradient.numel()


def whole(tensor: Tensor) -> Tensor:
    """A tensor as it is without sharding; every process has to ask."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
