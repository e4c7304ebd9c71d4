"""The two sides of the decoding benchmarks over the same random weights and caches: ours, and the plain decoder.

B videos or windows, R rows (2 B with guidance), A heads, d head size, T text slots, F tokens of a frame, q slots.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from plain_cogvideo import KeysValues, PlainCache, PlainDecoder, plain_sample
from torch import Tensor
from torch.nn import init

from cogvideo.clusters import automatic_clusters
from cogvideo.config import ModelConfig
from cogvideo.decoding import Decoder, Plan
from cogvideo.forward import BETWEEN_ORDER, Text
from cogvideo.graphs import DeviceLoop, Key
from cogvideo.network import Kind, Network
from cogvideo.sampling import VIDEO, guided, sample
from cogvideo.schedule import Slot, Step, sequential, wavefront
from cogvideo.windows import layer_windows

GUIDER_TEXT = 8


@dataclass(frozen=True)
class Stage:
    """A sequence of generation: its plan, its first decoded frame, and how many such sequences a video has."""

    name: str
    plan: Plan
    first: int

    def steps(self, config: ModelConfig, is_parallel: bool = False) -> list[Step]:
        """Every step of one sequence, one token each, or as many as can be decoded side by side."""
        if not is_parallel:
            return sequential(self.plan.order, self.first, config.frame_len)
        tables = [layer_windows(config.grid, self.plan.window, parity) for parity in (0, 1)]
        seen = [
            sorted({near for table in tables for near in table.members(table.groups[cell])})
            for cell in range(config.frame_len)
        ]
        return wavefront(self.plan.order, self.first, seen)


def stage(name: str, config: ModelConfig) -> Stage:
    """ "first" (the first frame), "1" (key frames, with guidance) or "2" (frames between)."""
    plans = {
        "first": (Plan((0,), text_bonus=1.4, has_plus=False), 0),
        "1": (Plan(tuple(range(config.frames)), guidance_scale=3.0), 1),
        "2": (Plan(BETWEEN_ORDER, given=3, window=config.window, text_bonus=1.4), 3),
    }
    return Stage(name, *plans[name])


def random_network(
    config: ModelConfig, device: str, dtype: torch.dtype, seed: int = 0, kind: Kind = "video"
) -> Network:
    """A network of random weights, drawn where it will be: 15 GB need not pass through the host."""
    with torch.device("meta"):
        network = Network(config, kind)
    network = network.to(dtype).to_empty(device=device).eval().requires_grad_(False)
    generator = torch.Generator(device).manual_seed(seed)
    for name, parameter in network.named_parameters():
        if name.endswith("layernorm.weight"):
            init.ones_(parameter)
        else:
            # Gates and biases too, so that each of them matters when logits are compared.
            init.normal_(parameter, std=0.02 if parameter.dim() > 1 else 0.2, generator=generator)
    return network


class History:
    """What was decoded before, as random keys and values: the cost of a step does not depend on them."""

    def __init__(self, network: Network, stage: Stage, text: Text, seed: int = 1) -> None:
        config = network.config
        self.lengths = [int(real) for real in text.is_real.sum(1)]
        generator = torch.Generator(network.device).manual_seed(seed)
        R, T = text.ids.shape
        F, N = config.frame_len, len(stage.plan.order)

        def pair(length: int) -> KeysValues:
            shape = (2, R, config.num_attention_heads, length, config.head_dim)
            both = torch.empty(shape, dtype=network.dtype, device=network.device).normal_(generator=generator)
            return both[0], both[1]

        self.text_base = [pair(T) for _ in range(config.num_layers)]
        self.text_plus = [pair(T) for _ in range(config.num_layers)]
        self.frame_base = [pair(F) for _ in range(config.num_layers)]
        self.frame_plus = [pair(N * F) for _ in range(config.num_layers)]

    def plain_cache(self, rows: slice, slot: Slot, frame_len: int) -> PlainCache:
        """What the plain decoder has in its caches before it comes to `slot`. Rows of one text length."""
        length = self.lengths[rows.start]
        before = slot.fed * frame_len + slot.cell

        def cut(layers: list[KeysValues], slots: slice) -> list[KeysValues]:
            return [(k[rows, :, slots].contiguous(), v[rows, :, slots].contiguous()) for k, v in layers]

        text = slice(self.text_base[0][0].shape[2] - length, None)
        return PlainCache(
            cut(self.text_base, text),
            cut(self.text_plus, text),
            cut(self.frame_base, slice(slot.cell)),
            cut(self.frame_plus, slice(before)),
        )


class Ours:
    """Our decoder with its caches full, stepped anywhere."""

    def __init__(self, network: Network, stage: Stage, batch: int, text_len: int, rings: int = 1) -> None:
        self.network = network
        self.stage = stage
        self.batch = batch
        self.text = random_text(network, stage, batch, text_len)
        self.decoder = Decoder(network, self.text, stage.plan, rings=rings)
        self.table = automatic_clusters(network.config, 500).to(network.device)
        generator = torch.Generator(network.device).manual_seed(2)
        F, device = network.config.frame_len, network.device
        self.uniforms = torch.rand((batch, F, 2), dtype=torch.float64, device=device, generator=generator)
        ids = torch.randint(network.config.num_image_tokens, (batch, F), device=device, generator=generator)
        self.tokens = ids.roll(1, 1)
        self.tokens[:, 0] = network.config.boi_id

    def fill(self, history: History | None) -> None:
        """Put `history` into the caches, or random numbers without keeping them."""
        cache = self.decoder.cache
        if history is None:
            for buffers in (*cache.base, *(pair for pair in cache.plus if pair)):
                for buffer in buffers:
                    buffer.normal_()
            return
        rows, T = cache.rows(0, self.text.ids.shape[0]), self.text.ids.shape[1]
        for index in range(self.network.config.num_layers):
            plus = history.text_plus[index] if self.stage.plan.has_plus else None
            rows.keep_text(index, history.text_base[index], plus)
            if plus:
                rows.keep_frames(index, history.frame_plus[index])
            for buffer, part in zip(cache.base[index], history.frame_base[index], strict=True):
                buffer[:, :, :, T:] = part

    def logits(self, step: Step) -> Tensor:
        """(R, q, V) float32."""
        tokens_Bq = self.tokens[:, [slot.cell for slot in step]]
        rows = self.text.ids.shape[0] // self.batch
        return self.decoder.step(tokens_Bq.repeat(rows, 1), step)

    def guided(self, logits_RqV: Tensor) -> Tensor:
        """What is drawn from, (B, q, V)."""
        scale = self.stage.plan.guidance_scale
        return logits_RqV if scale is None else guided(logits_RqV[: self.batch], logits_RqV[self.batch :], scale)

    @torch.no_grad()
    def run(self, step: Step) -> list[Tensor]:
        """The step and its draws: ids (B,) of each slot."""
        logits_BqV = self.guided(self.logits(step))
        return [
            sample(logits_BqV[:, at], VIDEO, self.table, self.uniforms[:, slot.cell]) for at, slot in enumerate(step)
        ]


class OnDevice:
    """Our steps as generation runs them on a GPU: CUDA graphs replayed; on a CPU the same steps without graphs."""

    has_own_last_cell = False

    def __init__(self, ours: Ours, schedule: list[Step]) -> None:
        self.ours = ours
        self.schedule = schedule
        config, device = ours.network.config, ours.network.device
        frames = len(ours.stage.plan.order)
        # Known ids are fed and kept; what is drawn beside them costs the same.
        ids_BNF = ours.tokens.roll(-1, 1)[:, None].repeat(1, frames, 1)
        ids_BNF[:, :, -1] = 0  # the place of what is fed first
        self.seen = torch.zeros((ours.batch, config.num_image_tokens), device=device)
        self.loop = DeviceLoop(ours.decoder, ids_BNF, schedule, self)
        self.keys = [key for key, count in self.loop._runs() for _ in range(count)]
        self.graphs: dict[Key, torch.cuda.CUDAGraph] = {}

    def at(self, logits_BV: Tensor, place_1: Tensor, *, is_last_cell: bool) -> Tensor:
        """See `cogvideo.graphs.DeviceChoose`. The last slot's logits stay in `seen`."""
        self.seen.copy_(logits_BV)
        frame_len = self.ours.network.config.frame_len
        uniforms_B2 = self.ours.uniforms.index_select(1, place_1 % frame_len)[:, 0]
        return sample(logits_BV, VIDEO, self.ours.table, uniforms_B2)

    def made(self, steps: int) -> None:
        """Nobody watches the progress."""

    @torch.no_grad()
    def prepare(self, step: Step) -> None:
        """Put the loop in front of `step`, and capture its graph if it is the first of its kind."""
        index = self.schedule.index(step)
        self.key = self.keys[index]
        self.loop._cursor.fill_(index)
        if self.ours.network.device.type == "cuda" and self.key not in self.graphs:
            self.graphs[self.key] = self.loop._captured(self.key, None)

    @torch.no_grad()
    def run(self, _: Step) -> None:
        """The step that was prepared."""
        if self.key in self.graphs:
            self.graphs[self.key].replay()
        else:
            self.loop._advance(self.key)

    def difference(self, steps: Sequence[Step], history: History) -> float:
        """Largest difference to the steps that the host counts, in standard deviations of the logits."""
        worst = 0.0
        for step in steps:
            self.ours.fill(history)
            reference = self.ours.guided(self.ours.logits(step))[:, -1]
            self.ours.fill(history)
            self.prepare(step)
            self.run(step)
            worst = max(worst, ((self.seen - reference).abs().max() / reference.std()).item())
        return worst


class Plain:
    """The plain decoder, one pass for the prompts and one for the guider."""

    def __init__(self, ours: Ours, history: History) -> None:
        self.ours = ours
        self.history = history
        self.passes: list[PlainDecoder] = []

    def prepare(self, step: Step) -> None:
        """Caches as they are before `step`; not part of what is timed."""
        B, config = self.ours.batch, self.ours.network.config
        starts = range(0, self.ours.text.ids.shape[0], B)
        (slot,) = step
        self.passes = []  # the old caches go before the new ones come
        for start in starts:
            cache = self.history.plain_cache(slice(start, start + B), slot, config.frame_len)
            self.passes.append(PlainDecoder(self.ours.network, self.ours.stage.plan, cache))

    def logits(self, step: Step) -> list[Tensor]:
        """(B, V) float32 of each pass."""
        (slot,) = step
        return [each.step(self.ours.tokens[:, slot.cell], slot) for each in self.passes]

    @torch.no_grad()
    def run(self, step: Step) -> list[Tensor]:
        """The step and its draws."""
        logits_BqV = self.ours.guided(torch.cat(self.logits(step))[:, None])
        return [plain_sample(logits_BqV[:, 0], VIDEO, self.ours.table)]


def random_text(network: Network, stage: Stage, batch: int, text_len: int) -> Text:
    """Prompts of `text_len` ids, and with guidance the guider's shorter ones below them."""
    config = network.config
    text = [config.num_image_tokens + 5] * min(text_len, config.max_text_len)
    rows = [text] * batch
    if stage.plan.guidance_scale is not None:
        rows += [text[: min(GUIDER_TEXT, len(text))]] * batch
    return Text.padded(rows, config.pad_id, network.device)


def largest_difference(ours: Ours, plain: Plain, steps: Sequence[Step]) -> float:
    """Largest difference of the two sides' logits over some steps, in units of the logits' standard deviation."""
    worst = 0.0
    for step in steps:
        ours.fill(plain.history)  # the step before has put its own key where history had another
        plain.prepare(step)
        reference = torch.cat(plain.logits(step))
        gap = (ours.logits(step)[:, 0] - reference).abs().max() / reference.std()
        worst = max(worst, gap.item())
    return worst
