"""From prompts to image tokens: first frame, key frames, and the frames between, round by round.

B samples, F tokens of a frame, n frames of a list, R sequences of a batch, V image tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from cogvideo.cache import CacheSpec
from cogvideo.checkpoint.memory import available_memory, readable_bytes
from cogvideo.clusters import ClusterTable
from cogvideo.decoding import Plan, decode
from cogvideo.errors import UserError
from cogvideo.forward import BETWEEN_ORDER, Text
from cogvideo.network import Network
from cogvideo.prompting import Prompts
from cogvideo.randomness import Stream, stream, uniform
from cogvideo.sampling import SamplerSettings, greedy, sample
from cogvideo.schedule import Slot, Step, sequential, wavefront
from cogvideo.settings import GenerationSettings, Timeline

# Called with the phase ("first frame", "key frames", "frames between") and the tokens just made.
Advance = Callable[[str, int], None]
GIVEN_BETWEEN = 3
# Frames of a sequence, and the key of the uniforms of all of them.
FRAMES, EVERY_FRAME = 5, -1
# Rows of a prefill at once: whole frames need far more memory for activations than steps do.
PREFILL_ROWS = 8
# Part of the free memory that caches may take, and the most sequences in work at once.
CACHE_SHARE = 0.6
MOST_ROWS = 256


@dataclass(frozen=True)
class Job:
    """One sample to make: what it shows, and the seed that decides it."""

    prompt: str
    seed: int


@dataclass
class _Draw:
    """Draws the ids of one batch; the same for a seed, a stream and a place, whatever is beside it in the batch."""

    table: ClusterTable
    seeds: Tensor
    streams: int | Tensor
    frame_len: int
    settings: SamplerSettings
    settings_of_last_cell: SamplerSettings
    is_greedy: bool
    advance: Callable[[int], None]
    has_nan: Tensor = field(init=False)
    _uniforms: dict[int, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.has_nan = torch.zeros((), dtype=torch.bool, device=self.seeds.device)

    def __call__(self, logits_RV: Tensor, slot: Slot) -> Tensor:
        self.advance(len(logits_RV))
        frame_RF2 = self._of_frame(slot.frame)
        return self._draw(logits_RV, frame_RF2[:, slot.cell], is_last_cell=slot.cell == self.frame_len - 1)

    @property
    def has_own_last_cell(self) -> bool:
        return self.settings_of_last_cell != self.settings

    def at(self, logits_RV: Tensor, place_1: Tensor, *, is_last_cell: bool) -> Tensor:
        """Draw where the device knows the place alone; see `graphs.DeviceChoose`."""
        if EVERY_FRAME not in self._uniforms:
            frames = [self._of_frame(frame) for frame in range(FRAMES)]
            self._uniforms[EVERY_FRAME] = torch.cat(frames, dim=1)
        return self._draw(
            logits_RV, self._uniforms[EVERY_FRAME].index_select(1, place_1)[:, 0], is_last_cell=is_last_cell
        )

    def made(self, steps: int) -> None:
        self.advance(len(self.seeds) * steps)

    def _draw(self, logits_RV: Tensor, uniforms_R2: Tensor, *, is_last_cell: bool) -> Tensor:
        settings = self.settings_of_last_cell if is_last_cell else self.settings
        self.has_nan.logical_or_(logits_RV.isnan().any())
        if self.is_greedy:
            return greedy(logits_RV, settings, self.table)
        return sample(logits_RV, settings, self.table, uniforms_R2)

    def _of_frame(self, frame: int) -> Tensor:
        """Uniforms (R, F, 2) of a whole frame: one call is cheaper than one a token."""
        if frame not in self._uniforms:
            positions = torch.arange(frame * self.frame_len, (frame + 1) * self.frame_len, device=self.seeds.device)
            self._uniforms[frame] = uniform(self.seeds, self.streams, positions)
        return self._uniforms[frame]


class Hierarchy:
    """The two networks at work. CogVideo, section 3.1: sequential key frames, then recursive interpolation."""

    def __init__(
        self,
        stage1: Network,
        stage2: Network | None,
        prompts: Prompts,
        table: ClusterTable,
        settings: GenerationSettings,
        advance: Advance | None = None,
        device: torch.device | None = None,
    ) -> None:
        self.config = stage1.config
        self.stage1 = stage1
        self.stage2 = stage2
        self.prompts = prompts
        self.device = device or stage1.device
        self.table = table.to(self.device)
        self.settings = settings
        self._advance = advance or (lambda _phase, _tokens: None)

    def tokens(self, jobs: Sequence[Job], timeline: Timeline, given_BgF: Tensor | None = None) -> Tensor:
        """Image tokens (B, frames, F) of every job. `given_BgF` are the tokens of its first frames, if they are known.

        Given frames keep their place: they are key frames where the key frames fall on them, and known frames between
        elsewhere. Raises UserError for prompts that are empty or too long, before anything is made.
        """
        F, made = self.config.frame_len, timeline.made_frames
        self.check(jobs, timeline)
        known = torch.full((len(jobs), made, F), -1, device=self.device)
        if given_BgF is not None:
            count = min(given_BgF.shape[1], made)
            known[:, :count] = given_BgF[:, :count].to(known.device)
        stride = timeline.step(0)
        frames = known[:, ::stride][:, : timeline.key_frames].clone()
        if (frames[:, 0] < 0).any():
            frames[:, :1] = self._first_frame(jobs)
        if (frames < 0).any():
            frames = self._key_frames(jobs, frames, timeline.seconds(0))
        for number in range(1, timeline.rounds + 1):
            frames = self._between(jobs, frames, known[:, :: timeline.step(number)], number, timeline)
        return frames[:, : timeline.frames]

    def check(self, jobs: Sequence[Job], timeline: Timeline) -> None:
        """Everything about prompts and memory that can be known beforehand. Raises UserError."""
        if self.stage2 is None and timeline.rounds:
            raise UserError(
                f"{timeline.frames} frames need the network of stage 2, which these weights lack;"
                " ask for at most 5 frames"
            )
        for prompt in dict.fromkeys(job.prompt for job in jobs):
            self.prompts.first_frame(prompt)
            for number in range(timeline.rounds + 1):
                self._texts([prompt], timeline.seconds(number), is_key=number == 0)
        widest = self.config.max_text_len
        self._rows_at_once(self.stage1, self._key_plan(timeline.key_frames), widest, 1)
        if self.stage2 is not None and timeline.rounds:
            self._rows_at_once(self.stage2, self._between_plan(), widest, 1 + self.settings.is_parallel)

    def count(self, jobs: int, timeline: Timeline, given: int = 0) -> dict[str, int]:
        """Tokens that each phase draws, for a progress bar."""
        F = self.config.frame_len
        known_keys = len(range(0, given, timeline.step(0)))
        counts = {
            "first frame": 0 if given else jobs * F,
            "key frames": max(0, timeline.key_frames - max(1, known_keys)) * jobs * F,
            "frames between": 0,
        }
        for number in range(1, timeline.rounds + 1):
            windows = timeline.windows(number, given)
            # A frame that is known in all of them is not stepped through.
            is_known = all((4 * window + 1) * timeline.step(number) < given for window in windows)
            counts["frames between"] += len(windows) * (1 if is_known else 2) * jobs * F
        return {phase: tokens for phase, tokens in counts.items() if tokens}

    def _first_frame(self, jobs: Sequence[Job]) -> Tensor:
        """(B, 1, F), by the base transformer alone."""
        settings, quirks = self.settings, self.settings.quirks
        scale = settings.first_frame_guidance_scale
        bonus = 0.0 if scale is not None else settings.text_bonus
        plan = Plan((0,), text_bonus=bonus, has_plus=False, guidance_scale=scale, quirks=quirks)
        last = settings.first_frame if quirks.first_frame_sampler_to_the_end else settings.video
        unknown = torch.full((len(jobs), 1, self.config.frame_len), -1, device=self.device)
        return self._run(
            self.stage1,
            plan,
            unknown,
            [self.prompts.first_frame(job.prompt) for job in jobs],
            [] if scale is None else [self.prompts.first_frame_guider()] * len(jobs),
            "first frame",
            [job.seed for job in jobs],
            stream(Stream.FIRST_FRAME),
            (settings.first_frame, last),
        )

    def _key_frames(self, jobs: Sequence[Job], frames_B5F: Tensor, seconds: float) -> Tensor:
        """(B, up to 5, F) from lists whose first frames are known."""
        plan = self._key_plan(frames_B5F.shape[1])
        own, guider = self._texts([job.prompt for job in jobs], seconds, is_key=True)
        seeds, both = [job.seed for job in jobs], (self.settings.video,) * 2
        return self._run(self.stage1, plan, frames_B5F, own, guider, "key frames", seeds, stream(Stream.STAGE1), both)

    def _between(
        self, jobs: Sequence[Job], frames_BnF: Tensor, known: Tensor, number: int, timeline: Timeline
    ) -> Tensor:
        """(B, 2n - 1, F): two frames more for every three neighbours, each pair in a sequence of its own."""
        stage2, settings = self.stage2, self.settings
        assert stage2 is not None
        B, n, F = frames_BnF.shape
        pairs = (n - 1) // 2
        longer = torch.empty((B, 2 * n - 1, F), dtype=frames_BnF.dtype, device=frames_BnF.device)
        longer[:, ::2] = frames_BnF
        longer[:, 1::2] = known[:, 1::2]
        # Natural places in a sequence: 0, 2, 4 are given, 1 and 3 are wanted.
        sequences = longer.unfold(1, 5, 4).permute(0, 1, 3, 2).reshape(B * pairs, 5, F).clone()
        is_wanted = torch.zeros(pairs, dtype=torch.bool, device=sequences.device)
        is_wanted[timeline.windows(number)] = True
        is_open = (sequences < 0).flatten(1).any(1) & is_wanted.repeat(B)
        rows = is_open.nonzero()[:, 0]
        if len(rows):
            samples = [jobs[row // pairs] for row in rows.tolist()]
            own, guider = self._texts([job.prompt for job in samples], timeline.seconds(number), is_key=False)
            order = list(BETWEEN_ORDER)
            made = self._run(
                stage2,
                self._between_plan(),
                sequences[rows][:, order],
                own,
                guider,
                "frames between",
                [job.seed for job in samples],
                stream(Stream.STAGE2, number, rows % pairs),
                (settings.video,) * 2,
            )
            sequences[rows] = made[:, [order.index(place) for place in range(5)]]
        longer[:, :-1] = sequences.view(B, pairs, 5, F)[:, :, :4].reshape(B, 4 * pairs, F)
        return longer

    def _key_plan(self, frames: int) -> Plan:
        scale = self.settings.guidance_scale
        bonus = 0.0 if scale is not None else self.settings.text_bonus
        order = tuple(range(frames))
        return Plan(order, text_bonus=bonus, guidance_scale=scale, quirks=self.settings.quirks)

    def _between_plan(self) -> Plan:
        scale = self.settings.between_guidance_scale
        return Plan(
            BETWEEN_ORDER,
            given=GIVEN_BETWEEN,
            window=self.config.window,
            text_bonus=0.0 if scale is not None else self.settings.text_bonus,
            guidance_scale=scale,
            quirks=self.settings.quirks,
        )

    def _texts(
        self, prompts: Sequence[str], seconds: float, *, is_key: bool
    ) -> tuple[list[list[int]], list[list[int]]]:
        """Ids of the prompts' rows, and of the guider's rows if there is guidance."""
        if is_key:
            is_guided = self.settings.guidance_scale is not None
            own = [self.prompts.key_frames(prompt, seconds, is_guided) for prompt in prompts]
            return own, [self.prompts.key_frames_guider(seconds)] * len(own) if is_guided else []
        own = [self.prompts.between(prompt, seconds) for prompt in prompts]
        is_guided = self.settings.between_guidance_scale is not None
        return own, [self.prompts.between_guider(seconds)] * len(own) if is_guided else []

    def _run(
        self,
        network: Network,
        plan: Plan,
        frames_RNF: Tensor,
        own: list[list[int]],
        guider: list[list[int]],
        phase: str,
        seeds: list[int],
        streams: int | Tensor,
        samplers: tuple[SamplerSettings, SamplerSettings],
    ) -> Tensor:
        """Decode sequences, as many at once as there is room for."""
        first = int((frames_RNF >= 0).all(-1).all(0).cumprod(0).sum())
        steps = self._steps(plan, first)
        width = max(map(len, own + guider))
        at_once = self._rows_at_once(network, plan, width, max(map(len, steps)))
        device = self.device
        results = []
        for start in range(0, len(own), at_once):
            part = slice(start, start + at_once)
            draw = _Draw(
                self.table,
                torch.tensor(seeds[part], device=device),
                streams[part] if isinstance(streams, Tensor) else streams,
                self.config.frame_len,
                *samplers,
                self.settings.is_greedy,
                lambda tokens: self._advance(phase, tokens),
            )
            text = Text.padded(own[part] + guider[part], self.config.pad_id, device, width)
            results.append(decode(network, text, frames_RNF[part], plan, steps, draw, rows_at_once=PREFILL_ROWS))
            if bool(draw.has_nan):
                raise UserError(
                    f"the network gave NaN while making {phase}; check the weights, or try float32 (--dtype float32)"
                )
        return torch.cat(results)

    def _steps(self, plan: Plan, first: int) -> list[Step]:
        if not (self.settings.is_parallel and plan.given):
            return sequential(plan.order, first, self.config.frame_len)
        tables = plan.windows(self.config.grid) or ()
        seen = [
            sorted({cell for table in tables for cell in table.members(table.groups[cell_])})
            for cell_ in range(self.config.frame_len)
        ]
        return wavefront(plan.order, first, seen)

    def _rows_at_once(self, network: Network, plan: Plan, width: int, rings: int) -> int:
        """How many sequences fit: `max_rows` if a person said so, else by the memory that caches may take."""
        if self.settings.max_rows:
            return self.settings.max_rows
        spec = CacheSpec(
            self.config,
            2 if plan.guidance_scale is not None else 1,
            width,
            len(plan.order),
            plan.windows(self.config.grid),
            rings,
        )
        row_bytes = spec.bytes(network.dtype.itemsize)
        free = available_memory(self.device)
        if free is None:
            return MOST_ROWS
        if row_bytes > free:
            raise UserError(
                f"not enough memory for one sequence: its caches take {readable_bytes(row_bytes)},"
                f" {readable_bytes(free)} are free; use a smaller size, --dtype bfloat16, or another device"
            )
        return max(1, min(MOST_ROWS, int(free * CACHE_SHARE / row_bytes)))
