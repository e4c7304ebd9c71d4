"""The whole network over whole frames at once: training, and the prefill of generation.

B rows, T text slots, N frames in the order they are fed, F tokens of a frame, S = T + N * F positions, h hidden size,
A heads, d = h / A, W windows, C cells of a window.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from cogvideo.network import Network
from cogvideo.windows import OddWindows, Windows, layer_windows

# The order of stage 2: the three given frames, then the two between them.
BETWEEN_ORDER = (0, 2, 4, 1, 3)


@dataclass(frozen=True)
class Quirks:
    """Where the released inference differs from its own training. The default is what training did.

    `seam_in_prefill`: given frames do not see across the wrap-around of shifted windows. `bonus_in_prefill`: the
    text-attention bonus acts in the temporal channel of the given frames too. `first_frame_sampler_to_the_end`: the
    first frame's last token is drawn with the first frame's sampler. `odd_windows`: whose windows decoding uses when
    a window's side is odd.
    """

    seam_in_prefill: bool = True
    bonus_in_prefill: bool = True
    first_frame_sampler_to_the_end: bool = True
    odd_windows: OddWindows = "training"


CONSISTENT = Quirks()
RELEASE = Quirks(
    seam_in_prefill=False, bonus_in_prefill=False, first_frame_sampler_to_the_end=False, odd_windows="release"
)
QUIRKS = {"consistent": CONSISTENT, "release": RELEASE}


@dataclass(frozen=True)
class Text:
    """Left-padded texts. `ids` (B, T), `is_real` (B, T): False on pads."""

    ids: Tensor
    is_real: Tensor

    @classmethod
    def padded(cls, texts: Sequence[Sequence[int]], pad_id: int, device: torch.device, length: int = 0) -> Text:
        """Texts of unequal length as one block, at least `length` wide."""
        width = max(length, *(len(text) for text in texts))
        rows = [[pad_id] * (width - len(text)) + list(text) for text in texts]
        real = [[False] * (width - len(text)) + [True] * len(text) for text in texts]
        ids = torch.tensor(rows, dtype=torch.long, device=device)
        return cls(ids, torch.tensor(real, dtype=torch.bool, device=device))

    @property
    def positions(self) -> Tensor:
        """Position ids (B, T): 0 on pads, then 0, 1, 2, ..."""
        return (self.is_real.cumsum(1) - 1).clamp_(min=0)

    def bias(self, bonus: float, dtype: torch.dtype) -> Tensor:
        """What is added to the scores of text keys, (B, T): the bonus, minus infinity on pads."""
        bias_BT = torch.full(self.ids.shape, bonus, dtype=dtype, device=self.ids.device)
        return bias_BT.masked_fill_(~self.is_real, float("-inf"))


class Keeper(Protocol):
    """Whoever keeps keys and values of a prefill. All are (B, A, positions, d)."""

    def keep_text(self, layer: int, base: tuple[Tensor, Tensor], plus: tuple[Tensor, Tensor] | None) -> None: ...

    def keep_frames(self, layer: int, plus: tuple[Tensor, Tensor]) -> None: ...


@dataclass(frozen=True)
class Masks:
    """Additive masks of one forward. `plus` and `windows` are by the parity of the layer."""

    text: Tensor
    base: Tensor
    plus: tuple[Tensor, Tensor] | None
    windows: tuple[Windows, Windows] | None


def frame_inputs(frames_BNF: Tensor, boi_id: int) -> Tensor:
    """What is fed for finished frames: BOI in the first slot, every token one slot later, the last token nowhere."""
    inputs_BNF = frames_BNF.roll(1, dims=-1)
    inputs_BNF[..., 0] = boi_id
    return inputs_BNF


def frame_positions(network: Network) -> Tensor:
    """Position embeddings of every frame slot in natural order, (frames * F, h): two tables in a row."""
    config = network.config
    start, end = config.image_position_offset, config.image_position_offset + config.frame_len
    base_FH = network.transformer.position_embeddings.weight[start:end]
    if network.kind == "image":
        return base_FH
    extra = (config.frames - 1) * config.frame_len
    return torch.cat([base_FH, network.mixins.extra_position_embedding.position_embeddings.weight[:extra]])


def forward(
    network: Network,
    text: Text,
    inputs_BNF: Tensor,
    order: Sequence[int],
    *,
    given: int = 0,
    window: int | None = None,
    text_bonus: float = 0.0,
    has_plus: bool = True,
    quirks: Quirks = CONSISTENT,
    keeper: Keeper | None = None,
    recompute: bool = False,
) -> Tensor:
    """Hidden states after the final layer norm, (B, T + N * F, h); rows of padded text slots mean nothing.

    `order`: the natural index of each fed frame. The first `given` frames see each other and themselves in both
    directions (the given frames of stage 2); every other token sees what was fed before it and itself. `window`: side
    of the windows of the temporal channel, None for full attention. `text_bonus` is added to the scores of text keys.
    Without `has_plus` the temporal channel and its gate are left out, as for the first frame. `recompute` trades time
    for memory in training. CogVideo, section 3.
    """
    config = network.config
    T = text.ids.shape[1]
    word = network.transformer.word_embeddings
    text_BTH = word(text.ids) + network.transformer.position_embeddings(text.positions)
    table = frame_positions(network).view(-1, config.frame_len, config.hidden_size)
    frames_BNFH = word(inputs_BNF) + table[list(order)]
    x_BSH = torch.cat([text_BTH, frames_BNFH.flatten(1, 2)], dim=1)
    x_BSH = functional.dropout(x_BSH, network.active_dropout, network.training)
    masks = _masks(network, text, len(order), given, window if has_plus else None, text_bonus, has_plus, quirks)
    for index in range(config.num_layers):
        if recompute and torch.is_grad_enabled():
            x_BSH = checkpoint(_block, network, index, x_BSH, T, masks, keeper, use_reentrant=False)
        else:
            x_BSH = _block(network, index, x_BSH, T, masks, keeper)
    hidden_BSH: Tensor = network.transformer.final_layernorm(x_BSH)
    return hidden_BSH


def _block(network: Network, index: int, x_BSH: Tensor, T: int, masks: Masks, keeper: Keeper | None) -> Tensor:
    layer = network.layers[index]
    attended_BSH = _attention(network, index, layer.input_layernorm(x_BSH), T, masks, keeper)
    return layer.after_attention(x_BSH, attended_BSH, network.active_dropout)


def _attention(network: Network, index: int, u_BSH: Tensor, T: int, masks: Masks, keeper: Keeper | None) -> Tensor:
    """Both channels and their mix. (B, S, h) -> (B, S, h)."""
    attention = network.layers[index].attention
    q, k, v = _heads(network, attention.query_key_value(u_BSH))
    text_q, text_k, text_v = (part[:, :, :T] for part in (q, k, v))
    text_context = _attend(network, text_q, text_k, text_v, masks.text)
    frame_context = _within_frames(network, q, k, v, T, masks.base)
    base_BSH: Tensor = attention.dense(_joined(torch.cat([text_context, frame_context], dim=2)))
    if masks.plus is None or masks.windows is None:
        if keeper:
            keeper.keep_text(index, (text_k, text_v), None)
        return base_BSH
    plus = network.plus
    plus_q, plus_k, plus_v = _heads(network, plus.query_key_value[index](u_BSH))
    if keeper:
        keeper.keep_text(index, (text_k, text_v), (plus_k[:, :, :T], plus_v[:, :, :T]))
        keeper.keep_frames(index, (plus_k[:, :, T:], plus_v[:, :, T:]))
    parity = index % 2
    context = _across_frames(network, plus_q, plus_k, plus_v, T, masks.windows[parity], masks.plus[parity])
    plus_BVH = plus.dense[index](_joined(context))
    gate_H = torch.sigmoid(plus.attn_distribution[index]).to(base_BSH.dtype)
    mixed_BVH = torch.lerp(plus_BVH, base_BSH[:, T:], gate_H)
    return torch.cat([base_BSH[:, :T], mixed_BVH], dim=1)


def _within_frames(network: Network, q: Tensor, k: Tensor, v: Tensor, T: int, bias: Tensor) -> Tensor:
    """Base channel of frame tokens: text and the own frame. (B, A, S, d) -> (B, A, N * F, d)."""
    B, A, S, d = q.shape
    F = network.config.frame_len
    N = (S - T) // F
    text_k, text_v = (part[:, None, :, :T].expand(B, N, A, T, d) for part in (k, v))
    q, k, v = (part[:, :, T:].reshape(B, A, N, F, d).transpose(1, 2) for part in (q, k, v))
    keys, values = torch.cat([text_k, k], dim=3), torch.cat([text_v, v], dim=3)
    context = _attend(network, q.flatten(0, 1), keys.flatten(0, 1), values.flatten(0, 1), bias)
    return context.view(B, N, A, F, d).transpose(1, 2).reshape(B, A, N * F, d)


def _across_frames(network: Network, q: Tensor, k: Tensor, v: Tensor, T: int, windows: Windows, bias: Tensor) -> Tensor:
    """Temporal channel: text and the cells of the own window in every fed frame. (B, A, S, d) -> (B, A, N * F, d)."""
    B, A, S, d = q.shape
    F = network.config.frame_len
    N = (S - T) // F
    cells = windows.cells.to(q.device)
    W, C = cells.shape
    if W == len(windows.sizes) == 1:  # Whole frames as they are: nothing has to be gathered.
        return _attend(network, q[:, :, T:], k, v, bias)

    def cut(part: Tensor) -> Tensor:
        frames = part[:, :, T:].reshape(B, A, N, F, d)[:, :, :, cells.flatten()]
        return frames.view(B, A, N, W, C, d).permute(0, 3, 1, 2, 4, 5).reshape(B * W, A, N * C, d)

    text_k, text_v = (part[:, None, :, :T].expand(B, W, A, T, d).flatten(0, 1) for part in (k, v))
    keys, values = torch.cat([text_k, cut(k)], dim=2), torch.cat([text_v, cut(v)], dim=2)
    context = _attend(network, cut(q), keys, values, bias)
    back = torch.empty_like(cells.flatten()).scatter_(0, cells.flatten(), torch.arange(F, device=q.device))
    context = context.view(B, W, A, N, C, d).permute(0, 2, 3, 1, 4, 5).reshape(B, A, N, F, d)
    return context[:, :, :, back].reshape(B, A, N * F, d)


def _attend(network: Network, q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    if q.device.type == "cpu" and torch.is_autocast_enabled("cpu") and torch.is_grad_enabled():
        # Backward of the CPU's kernel takes four times as long in bfloat16 as in float32.
        with torch.autocast("cpu", enabled=False):
            q, k, v, bias = q.float(), k.float(), v.float(), bias.float()
            return functional.scaled_dot_product_attention(q, k, v, attn_mask=bias, dropout_p=network.active_dropout)
    return functional.scaled_dot_product_attention(q, k, v, attn_mask=bias, dropout_p=network.active_dropout)


def _heads(network: Network, qkv: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(B, S, 3h) -> three times (B, A, S, d)."""
    B, S, _ = qkv.shape
    config = network.config
    q, k, v = qkv.view(B, S, 3, config.num_attention_heads, config.head_dim).permute(2, 0, 3, 1, 4).unbind(0)
    return q, k, v


def _joined(context: Tensor) -> Tensor:
    """(B, A, S, d) -> (B, S, h)."""
    return context.transpose(1, 2).flatten(2)


def _masks(
    network: Network,
    text: Text,
    N: int,
    given: int,
    window: int | None,
    bonus: float,
    has_plus: bool,
    quirks: Quirks,
) -> Masks:
    config, device, dtype = network.config, text.ids.device, network.dtype
    B, T = text.ids.shape
    F = config.frame_len
    text_BT = text.bias(bonus, dtype)
    # A padded slot asks too; it may see everything, so that no row of a softmax is empty.
    text_BTT = text_BT[:, None].expand(B, T, T).masked_fill(~text.is_real[:, :, None], 0.0)
    frame_NFF = torch.zeros(N, F, F, device=device, dtype=dtype)
    frame_NFF[given:] = _causal(F, device, dtype)
    base = torch.cat(
        [text_BT[:, None, None].expand(B, N, F, T), frame_NFF[None].expand(B, N, F, F)],
        dim=3,
    )
    base = base.flatten(0, 1)[:, None]
    if not has_plus:
        return Masks(text_BTT[:, None], base, None, None)
    plus_text_BT = text_BT if quirks.bonus_in_prefill else text.bias(0.0, dtype)
    windows = (layer_windows(config.grid, window, 0), layer_windows(config.grid, window, 1))
    plus = tuple(_plus_mask(part, plus_text_BT, N, given, quirks.seam_in_prefill) for part in windows)
    return Masks(text_BTT[:, None], base, (plus[0], plus[1]), windows)


def _causal(F: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """(F, F): a slot sees the slots before it and itself."""
    later = torch.ones(F, F, device=device, dtype=torch.bool).triu_(1)
    return torch.zeros(F, F, device=device, dtype=dtype).masked_fill_(later, float("-inf"))


def _plus_mask(windows: Windows, text_BT: Tensor, N: int, given: int, has_seam: bool) -> Tensor:
    """(B * W, 1, N * C, T + N * C), cells in the order frame fed, row, column."""
    B, T = text_BT.shape
    regions = windows.regions.to(text_BT.device)
    W, C = regions.shape
    place = torch.arange(N * C, device=text_BT.device)
    both_given = (place[:, None] < given * C) & (place[None] < given * C)
    allowed = (place[:, None] >= place[None]) | both_given
    same = (regions[:, :, None] == regions[:, None, :]).repeat(1, N, N)
    if not has_seam:
        same |= both_given
    cells = torch.zeros(W, N * C, N * C, device=text_BT.device, dtype=text_BT.dtype)
    cells.masked_fill_(~(allowed & same), float("-inf"))
    text = text_BT[:, None, None].expand(B, W, N * C, T)
    return torch.cat([text, cells[None].expand(B, W, N * C, N * C)], dim=3).flatten(0, 1)[:, None]
