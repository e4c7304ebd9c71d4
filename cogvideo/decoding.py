"""A sequence token by token: prefill of the given frames, then steps against the caches.

B samples, R = B rows (or 2 B with guidance: the prompt's rows, then the guider's), N frames in feeding order,
F tokens of a frame, q tokens of a step (1, or 2 side by side in parallel decoding), V image tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, cast

import torch
from torch import Tensor
from torch.nn import functional

from cogvideo.cache import Cache, CacheSpec
from cogvideo.forward import CONSISTENT, Quirks, Text, forward, frame_inputs, frame_positions
from cogvideo.network import Network, project
from cogvideo.schedule import Slot, Step
from cogvideo.windows import Windows, layer_windows

if TYPE_CHECKING:
    from cogvideo.graphs import DeviceChoose

# Draws ids (B,) from logits (B, V) float32 for one slot.
Choose = Callable[[Tensor, Slot], Tensor]
Watch = Callable[[Slot, Tensor], None]


@dataclass(frozen=True)
class Plan:
    """How a sequence is decoded: what both stages, the first frame and every benchmark can ask for.

    `order`: natural index of each fed frame. `given`: frames seen in both directions (stage 2). `window`: side of the
    windows, None for full attention. `guidance_scale`: None for no guidance, else the second half of the rows is the
    guider's. `has_plus`: False for the first frame.
    """

    order: tuple[int, ...]
    given: int = 0
    window: int | None = None
    text_bonus: float = 0.0
    guidance_scale: float | None = None
    has_plus: bool = True
    quirks: Quirks = CONSISTENT

    def windows(self, grid: int) -> tuple[Windows, Windows] | None:
        """What decoding sees in even and odd layers, None without the temporal channel."""
        if not self.has_plus:
            return None
        odd = self.quirks.odd_windows
        return layer_windows(grid, self.window, 0, odd), layer_windows(grid, self.window, 1, odd)


class At(Protocol):
    """Where one token's key and value go, and which slots it sees."""

    @property
    def bias(self) -> Tensor:
        """What is added to its scores, (R, 1, 1, slots)."""
        ...

    def written(self, buffer: Tensor, part_RAd: Tensor) -> Tensor:
        """Write the token's key or value into a cache's buffer; the slots that it sees, (R, A, slots, d)."""
        ...


class Slice:
    """A place that the host knows: slots `start` to `own`, seen without a copy. `ring` is the base channel's frame."""

    def __init__(self, bias: Tensor, start: int, own: int, ring: int | None = None) -> None:
        self.bias = bias[..., : own + 1 - start]
        self._start, self._own, self._ring = start, own, ring

    def written(self, buffer: Tensor, part_RAd: Tensor) -> Tensor:
        if self._ring is not None:
            buffer = buffer[self._ring]
        buffer[:, :, self._own] = part_RAd
        return buffer[:, :, self._start : self._own + 1]


class Decoder:
    """One batch of sequences in work. `text` has R rows; all rows advance together.

    Raises ValueError if the text is longer than the size allows. Memory is allocated here and nowhere later.
    """

    def __init__(self, network: Network, text: Text, plan: Plan, *, rings: int = 1) -> None:
        config = network.config
        self.network = network
        self.text = text
        self.plan = plan
        self.rows, length = text.ids.shape
        if length > config.max_text_len:
            raise ValueError(
                f"the text is {length} ids long, the longest that this size takes is {config.max_text_len} ids"
            )
        spec = CacheSpec(config, self.rows, length, len(plan.order), plan.windows(config.grid), rings)
        self.cache = Cache(spec, network.dtype, network.device)
        network.fuse_()
        self._positions = frame_positions(network).detach()
        longest = max(spec.base_len, spec.plus_len(0), spec.plus_len(1))
        bias_RT = text.bias(plan.text_bonus, network.dtype)
        self.bias = functional.pad(bias_RT, (0, longest - bias_RT.shape[1]))[:, None, None]

    @torch.no_grad()
    def prefill(self, frames_RNF: Tensor, rows_at_once: int | None = None, *, is_kept: bool = True) -> Tensor | None:
        """Feed text and whole frames, in feeding order. Returns hidden states (R, T + N * F, h), None unless kept.

        `rows_at_once` bounds the memory of activations.
        """
        hidden = []
        count = frames_RNF.shape[1]
        for start in range(0, self.rows, rows_at_once or self.rows):
            end = min(start + (rows_at_once or self.rows), self.rows)
            part = Text(self.text.ids[start:end], self.text.is_real[start:end])
            hidden_RSH = forward(
                self.network,
                part,
                frame_inputs(frames_RNF[start:end], self.network.config.boi_id),
                self.plan.order[:count],
                given=min(self.plan.given, count),
                window=self.plan.window,
                text_bonus=self.plan.text_bonus,
                has_plus=self.plan.has_plus,
                quirks=self.plan.quirks,
                keeper=self.cache.rows(start, end),
            )
            if is_kept:
                hidden.append(hidden_RSH)
        return torch.cat(hidden) if is_kept else None

    def step(self, tokens_Rq: Tensor, slots: Step) -> Tensor:
        """Logits of the image tokens (R, q, V) float32 at `slots`, whose inputs are `tokens_Rq`."""
        F, T, rings = self.network.config.frame_len, self.cache.spec.text_len, self.cache.spec.rings
        places = torch.tensor([slot.frame * F + slot.cell for slot in slots], device=self.network.device)
        base: list[At] = [Slice(self.bias, 0, T + slot.cell, slot.fed % rings) for slot in slots]
        plus: list[list[At]] = [[], []]
        if self.plan.has_plus:
            plus = [
                [Slice(self.bias, *self.cache.plus_range(parity, slot.fed, slot.cell)) for slot in slots]
                for parity in (0, 1)
            ]
        return self.run(tokens_Rq, places, base, plus)

    @torch.no_grad()
    def run(self, tokens_Rq: Tensor, places_q: Tensor, base: Sequence[At], plus: Sequence[Sequence[At]]) -> Tensor:
        """One step at given places: rows of the position table, and where each token's keys are in both channels.

        `plus` is by the parity of the layer. Returns logits (R, q, V) float32. Nothing here waits for the device.
        """
        network = self.network
        x_RqH = network.transformer.word_embeddings(tokens_Rq) + self._positions.index_select(0, places_q)
        for index, layer in enumerate(network.layers):
            u_RqH = layer.input_layernorm(x_RqH)
            if self.plan.has_plus:
                attended_RqH = self._both_channels(index, u_RqH, base, plus[index % 2])
            else:
                qkv = self._heads(layer.attention.query_key_value(u_RqH), 3)
                attended_RqH = layer.attention.dense(self._context(self.cache.base[index], qkv, base))
            x_RqH = layer.after_attention(x_RqH, attended_RqH)
        return network.image_logits(network.transformer.final_layernorm(x_RqH))

    def _both_channels(self, index: int, u_RqH: Tensor, base: Sequence[At], plus: Sequence[At]) -> Tensor:
        """Both channels from one fused projection, mixed by the gate."""
        attention, channel = self.network.layers[index].attention, self.network.plus
        buffers = self.cache.plus[index]
        assert buffers is not None
        qkv = self._heads(project(u_RqH, *self.network.fused[index]), 6)
        base_RqH = attention.dense(self._context(self.cache.base[index], qkv[:, :, :3], base))
        plus_RqH = channel.dense[index](self._context(buffers, qkv[:, :, 3:], plus))
        return torch.lerp(plus_RqH, base_RqH, torch.sigmoid(channel.attn_distribution[index]))

    def _heads(self, qkv_RqX: Tensor, parts: int) -> Tensor:
        """(R, q, parts * h) -> (R, q, parts, A, d)."""
        return qkv_RqX.view(*qkv_RqX.shape[:2], parts, self.network.config.num_attention_heads, -1)

    def _context(self, buffers: tuple[Tensor, Tensor], qkv: Tensor, places: Sequence[At]) -> Tensor:
        """Write keys and values of the step's tokens, let each attend what it sees. (R, q, 3, A, d) -> (R, q, h)."""
        contexts = []
        for at, place in enumerate(places):
            q, k, v = qkv[:, at].unbind(1)
            keys, values = place.written(buffers[0], k), place.written(buffers[1], v)
            context = functional.scaled_dot_product_attention(q[:, :, None], keys, values, attn_mask=place.bias)
            contexts.append(context.transpose(1, 2).flatten(2))
        return contexts[0] if len(contexts) == 1 else torch.cat(contexts, dim=1)


@torch.no_grad()
def decode(
    network: Network,
    text: Text,
    frames_BNF: Tensor,
    plan: Plan,
    steps: Sequence[Step],
    choose: Choose,
    *,
    watch: Watch | None = None,
    rows_at_once: int | None = None,
    loop: Literal["auto", "host", "device"] = "auto",
) -> Tensor:
    """Fill in the ids of `frames_BNF` (feeding order) that are -1. Returns (B, N, F) ids.

    Frames before the first step's frame must be known and are prefilled; ids that are known in later frames are fed as
    they are (primed generation). `choose` draws ids from guided logits; `watch` sees those logits (tests).
    `loop`: who counts the steps. The device does with CUDA graphs (`graphs.py`) where there is a GPU and `choose` can
    draw there; "device" on a CPU runs the same steps without graphs. Ids are the same up to rounding.
    """
    guided = plan.guidance_scale is not None
    B = frames_BNF.shape[0]
    decoder = Decoder(network, text, plan, rings=max(len(step) for step in steps))
    ids_BNF = frames_BNF.clone()
    first = steps[0][0].fed

    def rows(part: Tensor) -> Tensor:
        return torch.cat([part, part]) if guided else part

    decoder.prefill(rows(ids_BNF[:, :first]), rows_at_once, is_kept=False)
    is_cuda = network.device.type == "cuda"
    if loop == "device" or (loop == "auto" and is_cuda and watch is None and hasattr(choose, "at")):
        from cogvideo.graphs import DeviceLoop, run_on_device

        draws = cast("DeviceChoose", choose)
        if is_cuda:
            return run_on_device(decoder, ids_BNF, steps, draws)
        return DeviceLoop(decoder, ids_BNF, steps, draws).run(is_captured=False)
    boi_B = torch.full((B,), network.config.boi_id, device=ids_BNF.device)
    for step in steps:
        tokens = [boi_B if slot.cell == 0 else ids_BNF[:, slot.fed, slot.cell - 1] for slot in step]
        logits_RqV = decoder.step(rows(torch.stack(tokens, dim=1)), step)
        if plan.guidance_scale is not None:
            own, guider = logits_RqV[:B], logits_RqV[B:]
            logits_RqV = guider + plan.guidance_scale * (own - guider)
        for at, slot in enumerate(step):
            if watch:
                watch(slot, logits_RqV[:, at])
            known_B = ids_BNF[:, slot.fed, slot.cell]
            ids_BNF[:, slot.fed, slot.cell] = torch.where(known_B >= 0, known_B, choose(logits_RqV[:, at], slot))
    return ids_BNF
