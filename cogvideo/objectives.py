"""What CogVideo is trained on: records of tokens, and the cross entropy of the frames that a stage makes.

B rows, T text slots, N frames in natural order, F tokens of a frame, h hidden size, P positions of a chunk.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from cogvideo.config import ModelConfig
from cogvideo.errors import UserError
from cogvideo.forward import BETWEEN_ORDER, Text, forward, frame_inputs
from cogvideo.network import Network

Stage = Literal[1, 2]

# Positions whose logits exist at the same time: 1024 x 20000 float32 are 80 MB.
CHUNK = 1024


@dataclass(frozen=True)
class Loss:
    """`mean`: what is minimised, over the frames that the stage makes. `per_token` (B, N, F): every cross entropy, in
    nats and in natural order; it has a gradient where the stage makes the frame and none elsewhere.
    """

    mean: Tensor
    per_token: Tensor

    @property
    def frame_means(self) -> Tensor:
        """The mean of each frame (N,), also of the frames that are not trained; without gradient."""
        return self.per_token.detach().mean((0, 2))


def read_records(records: Tensor, config: ModelConfig, frames: int | None = None) -> tuple[Text, Tensor]:
    """Texts and frames (B, N, F) of training rows: text slots, then image ids frame after frame.

    N is `frames`, or that of the size. Pads in the text, leading or trailing, are dropped; the rest is cut to
    `text_len` ids and padded on the left to exactly that. Raises UserError for rows that this size cannot have.
    """
    N = frames or config.frames
    images = N * config.frame_len
    if records.dim() != 2 or records.shape[1] <= images:
        raise UserError(
            f"training records must be rows of some text ids and {images} image ids, got shape "
            f"{tuple(records.shape)}; is this the size that they were written for?"
        )
    ids = records.long()
    text_BT, frames_BNF = ids[:, :-images], ids[:, -images:].view(len(ids), N, config.frame_len)
    _check_range(text_BT, "text", config.vocab_size)
    _check_range(frames_BNF.flatten(1), "image", config.num_image_tokens)
    texts = [[token for token in row if token != config.pad_id][: config.text_len] for row in text_BT.tolist()]
    return Text.padded(texts, config.pad_id, ids.device, config.text_len), frames_BNF


def trained_frames(stage: Stage, frames: int) -> list[bool]:
    """Which frames a stage makes: all but the first in stage 1, those between the given ones in stage 2."""
    return [frame > 0 if stage == 1 else frame % 2 == 1 for frame in range(frames)]


def stage_hidden(
    network: Network,
    text: Text,
    frames_BNF: Tensor,
    stage: Stage,
    *,
    window: int | None = None,
    recompute: bool = False,
) -> tuple[Tensor, Tensor]:
    """Hidden states of text (B, T, h) and of frames in natural order (B, N, F, h), with the masks of a stage.

    `window`: side of the windows; None is what the stage has in the release, full attention in stage 1 and the
    windows of the size in stage 2. CogVideo, sections 3.2 and 3.3.
    """
    config = network.config
    T, N = text.ids.shape[1], frames_BNF.shape[1]
    order, given = (tuple(range(N)), 0) if stage == 1 else (BETWEEN_ORDER, 3)
    if stage == 2 and len(BETWEEN_ORDER) != N:
        raise ValueError(f"stage 2 is trained on {len(BETWEEN_ORDER)} frames, not on {N}")
    inputs_BNF = frame_inputs(frames_BNF[:, list(order)], config.boi_id)
    side = config.window if stage == 2 and window is None else window
    hidden_BSH = forward(network, text, inputs_BNF, order, given=given, window=side, recompute=recompute)
    fed_BNFH = hidden_BSH[:, T:].view(len(frames_BNF), N, config.frame_len, -1)
    return hidden_BSH[:, :T], fed_BNFH[:, [order.index(frame) for frame in range(N)]]


def stage_loss(
    network: Network,
    text: Text,
    frames_BNF: Tensor,
    stage: Stage,
    *,
    window: int | None = None,
    recompute: bool = False,
) -> Loss:
    """Cross entropy over the image tokens, for frames in natural order. CogVideo, section 3.2.

    Arguments are those of `stage_hidden`. Logits are made for a chunk of positions at a time and again for the
    gradient, and only for the image tokens. Frames that the stage is given cost no gradient.
    """
    _, hidden_BNFH = stage_hidden(network, text, frames_BNF, stage, window=window, recompute=recompute)
    made = trained_frames(stage, frames_BNF.shape[1])
    losses = []
    for frame, is_made in enumerate(made):
        with torch.set_grad_enabled(is_made and torch.is_grad_enabled()):
            losses.append(_cross_entropy(network, hidden_BNFH[:, frame], frames_BNF[:, frame]))
    mean = torch.stack([loss for loss, is_made in zip(losses, made, strict=True) if is_made]).mean()
    return Loss(mean, torch.stack(losses, dim=1))


def _cross_entropy(network: Network, hidden_BFH: Tensor, ids_BF: Tensor) -> Tensor:
    """(B, F) in float32."""
    hidden_PH, ids_P = hidden_BFH.flatten(0, 1), ids_BF.flatten()
    losses = []
    for start in range(0, len(ids_P), CHUNK):
        part = slice(start, start + CHUNK)
        losses.append(checkpoint(_chunk, network, hidden_PH[part], ids_P[part], use_reentrant=False))
    return torch.cat(losses).view(ids_BF.shape)


def _chunk(network: Network, hidden_PH: Tensor, ids_P: Tensor) -> Tensor:
    return functional.cross_entropy(network.image_logits(hidden_PH), ids_P, reduction="none")


def _check_range(ids_BX: Tensor, what: str, end: int) -> None:
    wrong = ((ids_BX < 0) | (ids_BX >= end)).nonzero()
    if len(wrong):
        row, slot = wrong[0].tolist()
        raise UserError(
            f"training record {row} has {what} id {int(ids_BX[row, slot])} in {what} slot {slot}; ids must be "
            f"0..{end - 1}: is this the size that it was written for?"
        )
