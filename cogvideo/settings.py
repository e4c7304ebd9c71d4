"""What a person can choose about generation: samplers, guidance, frame rate. Defaults are the release's."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from cogvideo.errors import UserError
from cogvideo.forward import CONSISTENT, Quirks
from cogvideo.sampling import FIRST_FRAME, SUPERRES, VIDEO, SamplerSettings
from cogvideo.schedule import between_rounds

# Seconds that the five frames of a sequence span, of those that training used (CogVideo, section 4: from 0.25 to 8
# frames a second; the frames between were trained at 2, 4 and 8).
TRAINED_SECONDS = (16.0, 8.0, 4.0, 2.0, 1.0, 0.5)
KEY_FRAMES = 5
# The longest time at the highest rate.
MOST_FRAMES = 129


@dataclass(frozen=True)
class GenerationSettings:
    """How tokens are drawn. The same settings, seed and weights give the same tokens for any split into batches.

    `guidance_scale` acts on key frames, `first_frame_guidance_scale` on the first one and `between_guidance_scale` on
    the frames between (both off in the release); None turns guidance off. `text_bonus` is added to the attention scores
    of text wherever guidance is off. `is_parallel` decodes two frames between side by side where their windows allow
    it: fewer steps, the same samples. `is_greedy` takes the likeliest token of the likeliest cluster. `max_rows` bounds
    the sequences in work at once; None takes what fits in memory. `superres_frames`: frames that super-resolution has
    in work at once.
    Raises UserError for numbers that cannot be.
    """

    first_frame: SamplerSettings = FIRST_FRAME
    video: SamplerSettings = VIDEO
    superres: SamplerSettings = SUPERRES
    guidance_scale: float | None = 3.0
    first_frame_guidance_scale: float | None = None
    between_guidance_scale: float | None = None
    text_bonus: float = 1.4
    quirks: Quirks = CONSISTENT
    is_parallel: bool = False
    is_greedy: bool = False
    max_rows: int | None = None
    superres_frames: int = 12

    def __post_init__(self) -> None:
        scales = (
            self.guidance_scale,
            self.first_frame_guidance_scale,
            self.between_guidance_scale,
            self.text_bonus,
        )
        if not all(scale is None or math.isfinite(scale) for scale in scales):
            raise UserError(f"expected finite numbers for guidance and text bonus, got {scales}")
        if min(1 if self.max_rows is None else self.max_rows, self.superres_frames) < 1:
            raise UserError(
                f"expected at least one sequence and one frame in work, got {self.max_rows} and {self.superres_frames}"
            )


SAMPLERS = ("first_frame", "video", "superres")
SUITED = (*SAMPLERS, "guidance_scale", "first_frame_guidance_scale", "between_guidance_scale", "text_bonus")


def suited(values: Mapping[str, Any], where: str) -> GenerationSettings:
    """The settings that suit networks, from their card: the release's, but for `values`.

    A sampler is an object with any of its three numbers. Raises UserError, naming `where`, for what is unknown or
    cannot be.
    """
    settings = GenerationSettings()
    changes: dict[str, Any] = {}
    for name, value in values.items():
        if name not in SUITED:
            raise UserError(f"{where}: unknown setting {name!r}; known: {', '.join(SUITED)}")
        try:
            changes[name] = replace(getattr(settings, name), **value) if name in SAMPLERS else value
            settings = replace(settings, **changes)
        except (TypeError, ValueError, UserError) as error:
            raise UserError(f"{where}: setting {name!r} cannot be {value!r} ({error})") from None
    return settings


def unlike_release(settings: GenerationSettings) -> dict[str, Any]:
    """What `suited` reads: the settings that are not the release's, as JSON types."""
    release = GenerationSettings()
    values: dict[str, Any] = {}
    for one in fields(settings):
        mine, its = getattr(settings, one.name), getattr(release, one.name)
        if one.name in SUITED and mine != its:
            values[one.name] = asdict(mine) if one.name in SAMPLERS else mine
    return values


@dataclass(frozen=True)
class Timeline:
    """How many frames at which rate, and what that means for the hierarchy.

    Five key frames come first (fewer if fewer are asked for); each round doubles the rate until there are enough
    frames. What lies beyond the last frame is made only where a frame before it needs it.
    Raises UserError for fewer than one frame or for a rate that training never saw.
    """

    frames: int = 33
    fps: float = 8.0

    def __post_init__(self) -> None:
        if self.frames < 1:
            raise UserError(f"expected at least one frame, got {self.frames}")
        if not self.fps > 0 or any(self.seconds(number) not in TRAINED_SECONDS for number in range(self.rounds + 1)):
            possible = ", ".join(f"{rate:g}" for rate in self.possible_rates(self.frames))
            mend = f"rates that work for {self.frames} frames: {possible}"
            if not possible:
                mend = f"at most {MOST_FRAMES} frames can be made"
            raise UserError(
                f"{self.frames} frames at {self.fps:g} frames a second: CogVideo was trained at 0.25 to 8 frames a"
                f" second; {mend}"
            )

    @classmethod
    def possible_rates(cls, frames: int) -> list[float]:
        """The rates, frames a second, at which every sequence of so many frames has a trained duration."""
        rounds = between_rounds(frames)
        rates = (4 * 2**rounds / seconds for seconds in TRAINED_SECONDS)
        return [rate for rate in rates if 4 / rate in TRAINED_SECONDS]

    @property
    def rounds(self) -> int:
        """How often the frame rate is doubled."""
        return between_rounds(self.frames)

    @property
    def made_frames(self) -> int:
        """Frames that the hierarchy makes, 4 * 2 ** rounds + 1, before the end is cut off."""
        return (4 << self.rounds) + 1

    @property
    def key_frames(self) -> int:
        """Key frames that are needed."""
        return min(KEY_FRAMES, self.frames)

    def step(self, number: int) -> int:
        """How many of the final frames lie between two frames of a sequence in round `number`."""
        return 1 << self.rounds - number

    def windows(self, number: int, given: int = 0) -> list[int]:
        """Which of the sequences of round `number`, counted from the start, have a frame to make.

        Sequence k spans the frames 4 k to 4 k + 4 of this round's list. Those that end before the last `given` frame
        and those that begin at or after the last frame that was asked for have none.
        """
        step = self.step(number)
        count = -(-(self.frames - 1) // (4 * step))
        return [window for window in range(count) if (4 * window + 3) * step >= given]

    def seconds(self, number: int) -> float:
        """What a sequence of five frames spans in round `number`; round 0 makes the key frames."""
        return (4 << self.rounds - number) / self.fps
