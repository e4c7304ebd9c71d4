"""What a step minimises, as modules from a batch to numbers: single frames, both stages, super-resolution.

B rows, T text slots, N frames, F tokens of a frame, C cells of a super-resolved frame.
"""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional

from cogvideo.forward import Text, forward, frame_inputs
from cogvideo.network import Network
from cogvideo.objectives import Stage, read_records, stage_loss
from cogvideo.superres.direct import DirectSuperResolution
from cogvideo.training.flops import image_flops, stage_flops, superres_flops

Batch = dict[str, Tensor]


class Task(nn.Module):
    """`forward(batch)` gives means over the rows of a batch by name: "loss" is minimised, the others are logged.

    `tokens` and `flops` (forward and backward, nothing computed twice) are those of one row.
    """

    tokens: int
    flops: float

    def prepare(self, rows: Tensor) -> Batch:
        """The tensors of a batch, on the CPU, from rows as the data has them."""
        return {"rows": rows}

    @abstractmethod
    def forward(self, batch: Batch) -> dict[str, Tensor]: ...

    def before_step(self, step: int, generator: torch.Generator) -> None:
        """Called with the step's number, from 1, and the step's own chance, the same on every rank."""

    def after_step(self) -> None:
        """Called once the parameters have moved."""

    def learned(self) -> dict[str, Tensor]:
        """What else a checkpoint has to hold, besides what has gradients; read back into these very tensors."""
        return {}


class StageTask(Task):
    """Frames 1 to 4 from those before (stage 1), or 1 and 3 from those around them (stage 2). CogVideo, section 3."""

    def __init__(self, network: Network, stage: Stage, window: int | None, *, recompute: bool = False) -> None:
        super().__init__()
        self.network, self.stage, self.window, self.recompute = network, stage, window, recompute
        config = network.config
        self.tokens = config.frames * config.frame_len
        self.flops = stage_flops(network, stage, window)

    def prepare(self, rows: Tensor) -> Batch:
        text, frames_BNF = read_records(rows, self.network.config)
        return {"ids": text.ids, "is_real": text.is_real, "frames": frames_BNF}

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        text = Text(batch["ids"], batch["is_real"])
        loss = stage_loss(self.network, text, batch["frames"], self.stage, window=self.window, recompute=self.recompute)
        return {"loss": loss.mean} | {f"frame_{n}": mean for n, mean in enumerate(loss.frame_means)}


class ImageTask(Task):
    """Every token of a single frame from its text and the tokens before it: CogView2's part."""

    def __init__(self, network: Network, *, recompute: bool = False) -> None:
        super().__init__()
        self.network, self.recompute = network, recompute
        self.tokens = network.config.frame_len
        self.flops = image_flops(network)

    def prepare(self, rows: Tensor) -> Batch:
        text, frames_BNF = read_records(rows, self.network.config, frames=1)
        return {"ids": text.ids, "is_real": text.is_real, "frames": frames_BNF}

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        network, frames_B1F = self.network, batch["frames"]
        inputs_B1F = frame_inputs(frames_B1F, network.config.boi_id)
        text = Text(batch["ids"], batch["is_real"])
        hidden_BSH = forward(network, text, inputs_B1F, (0,), has_plus=False, recompute=self.recompute)
        logits_BFV = network.image_logits(hidden_BSH[:, text.ids.shape[1] :])
        return {"loss": functional.cross_entropy(logits_BFV.flatten(0, 1), frames_B1F.flatten())}


class SuperresTask(Task):
    """All cells of a super-resolved frame at once, from its text and its low-resolution tokens (CogView2, direct).

    Rows are text slots (any pads), low-resolution tokens, then cells. What is fed for the cells says nothing of them,
    as in the one step that generation makes.
    """

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network
        self.superres = [DirectSuperResolution(network)]
        config = network.config
        self.tokens = config.frame_len + config.superres_grid**2
        self.flops = superres_flops(network)

    def prepare(self, rows: Tensor) -> Batch:
        config = self.network.config
        cells = config.superres_grid**2
        ids, slots = rows.long(), config.superres_text_len
        low_BF, cells_BC = ids[:, -cells - config.frame_len : -cells], ids[:, -cells:]
        texts = ids[:, : -cells - config.frame_len].tolist()
        kept = [[one for one in row if one not in (0, config.pad_id)][: slots - 1] for row in texts]
        text = Text.padded(kept, 0, rows.device, slots)
        return {"ids": text.ids, "is_real": text.is_real, "low": low_BF, "cells": cells_BC}

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        superres = self.superres[0]
        prefix = superres.read(Text(batch["ids"], batch["is_real"]), batch["low"])
        empty_BC = torch.full_like(batch["cells"], self.network.config.boi_id)
        logits_BCV = self.network.image_logits(superres.hidden(prefix, empty_BC))
        return {"loss": functional.cross_entropy(logits_BCV.flatten(0, 1), batch["cells"].flatten())}
