"""Counted operations against PyTorch's own counter over a real forward and backward."""

from __future__ import annotations

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode


@pytest.mark.parametrize(
    ("name", "trained"),
    [("base", "everything"), ("stage1", "temporal"), ("stage2", "temporal"), ("stage1", "everything")],
)
def test_a_row(name, trained, task_of, rows_of, make_config):
    """The head is computed again in backward, and for frames without a loss: a tenth at this size."""
    config = make_config(hidden_size=64)
    task = task_of(config, name, trained=trained)
    batch = task.prepare(rows_of(config, 2, 1 if name == "base" else config.frames))
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        task(batch)["loss"].backward()
    assert torch.isfinite(torch.tensor(task.flops))
    assert 0.97 < counter.get_total_flops() / (2 * task.flops) < 1.12
