"""The training loop that all embedded detectors share: counted steps, one seed, one thread."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import Tensor, nn


def fit(
    network: nn.Module,
    loss_of_step: Callable[[int], Tensor],
    *,
    steps: int,
    lr: float,
    progress: Callable[[str], None],
    every: int = 50,
) -> None:
    """AdamW under a one-cycle schedule (10 % warm-up), gradients clipped at 1.

    In float32: under bfloat16 autocast on CPU some gradients of 3D convolutions overflowed (torch 2.15), and at these
    widths it is hardly faster.
    """
    network.train()
    decayed = [p for p in network.parameters() if p.ndim >= 2]
    plain = [p for p in network.parameters() if p.ndim < 2]
    optimiser = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.01}, {"params": plain, "weight_decay": 0.0}], lr=lr, betas=(0.9, 0.99)
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, lr, total_steps=steps, pct_start=0.1)
    started, recent = time.perf_counter(), 0.0
    for step in range(steps):
        loss = loss_of_step(step)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        recent = loss.item() if step == 0 else 0.95 * recent + 0.05 * loss.item()
        if (step + 1) % every == 0 or step + 1 == steps:
            seconds = time.perf_counter() - started
            progress(f"step {step + 1:,} of {steps:,}, loss {recent:.3f}, {seconds:.0f} s")
    network.eval()
