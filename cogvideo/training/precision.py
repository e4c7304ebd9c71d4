"""In which type a step computes: asked for, by the device, or bfloat16 where the machine is faster in it."""

from __future__ import annotations

from pathlib import Path

import torch

from cogvideo.training import state
from cogvideo.training.machine import peak_flops
from cogvideo.training.parallel import World
from cogvideo.training.recipe import Precision

# How much faster products have to be for rounding to be worth it. With matrix units of the type it is 2 to 16; without,
# every product is converted and bfloat16 takes up to thirty times as long.
WORTH = 1.3


def is_half(wanted: Precision, device: torch.device, out: Path, world: World) -> bool:
    """Whether steps are mixed with bfloat16, the same answer in every process.

    "auto": on a GPU. "fast": where products of matrices are faster in it, measured; a run that has begun in `out` stays
    what it is, on whatever machine it goes on.
    """
    if wanted != "fast":
        return wanted == "bfloat16" or (wanted == "auto" and device.type == "cuda")
    if begun := state.saved(out):
        return bool(state.read_facts(begun[-1]).get("precision") == "bfloat16")
    answer = torch.zeros(1, device=device)
    if world.is_first:
        answer += peak_flops(device, torch.bfloat16) > WORTH * peak_flops(device, torch.float32)
    return bool(world.from_first_(answer).item())
