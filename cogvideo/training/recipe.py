"""A complete configuration of one training run: everything that decides the weights besides data and seed. No torch."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from cogvideo.config import get_size
from cogvideo.errors import UserError
from cogvideo.training.schedule import Schedule

Task = Literal["tokenizer", "base", "stage1", "stage2", "superres"]
"""Image tokenizer, text-to-image transformer, key frames, frames between, direct super-resolution."""
Start = Literal["random", "release", "paper", "same"]
"""Random weights, an image network in one of two ways, or a network of the very same kind."""
Precision = Literal["auto", "fast", "float32", "bfloat16"]
"""By the device; bfloat16 where it is faster; or as named."""

NEVER = 1_000_000_000


@dataclass(frozen=True)
class Phase:
    """So many steps on records of at least this frame rate; 0 takes all."""

    steps: int
    min_fps: float = 0.0


@dataclass(frozen=True)
class TextRules:
    """How the text of a record becomes that of a training row, by chance for each row.

    `drop`: the share of captions left out, for guidance: what stands in their place is what guidance moves away from.
    `word_drop`: the chance of each id of the others to be left out, so that what one word asks for is learnt apart from
    the words beside it (not for single frames). `suffix`: the share of the others that say they are a video. For single
    frames: `photo` is the share of first frames without a duration, that say they are a photo; of the others,
    `duration` begin with theirs.
    """

    drop: float = 0.0
    word_drop: float = 0.0
    suffix: float = 0.0
    photo: float = 0.4
    duration: float = 0.8


@dataclass(frozen=True)
class CodebookRules:
    """What trains an image tokenizer besides gradients. Pixels count from -1 to 1.

    Loss: `squared` * MSE + `absolute` * L1 + `commitment` * distance to the own code + `edges` * L1 of differences of
    neighbouring pixels + `locality` * how far latents move of cells whose pixels stay while others change. `warm_up`
    steps go without codes, which then start as random outputs of the encoder. Codes move by running averages; one that
    fewer than `dead_share` of its fair part of vectors took becomes an output at random.
    """

    warm_up: int = 150
    decay: float = 0.98
    dead_share: float = 0.03
    squared: float = 2.0
    absolute: float = 0.25
    commitment: float = 0.25
    edges: float = 0.0
    locality: float = 0.0


@dataclass(frozen=True)
class TrainingRecipe:
    """One run. Defaults are those of the release's scripts (CogVideo, section 4 and appendix).

    `start`: where weights come from. `only_fps`: the frame rates of clips, all if empty. `is_tiled`: clips of a long
    record lie end to end, as generation makes them. `often`: words; records whose caption has one of them come twice in
    a pass, with a clip of their own each time. `batch_size` counts the rows of a step over all processes and
    parts. `window`: side of the windows of the temporal channel, None what the task has in the release. `held_out`: the
    share of the records, all of a video together, that is not trained on and whose loss is logged (the release: 50 of
    1,000).
    """

    name: str
    task: Task
    summary: str
    size: str = "release"
    phases: tuple[Phase, ...] = (Phase(500_000),)
    only_fps: tuple[float, ...] = ()
    is_tiled: bool = False
    often: tuple[str, ...] = ()
    batch_size: int = 416
    start: Start = "release"
    trained: Literal["temporal", "everything"] = "temporal"
    window: int | None = None
    optimizer: Literal["adamw", "muon"] = "adamw"
    lr: float = 2e-4
    warm_up: int = 500
    final_share: float = 0.1
    settling: int = 100
    betas: tuple[float, float] = (0.9, 0.95)
    eps: float = 1e-8
    weight_decay: float = 1e-4
    clip: float = 0.1
    dropout: float = 0.1
    text: TextRules = field(default_factory=TextRules)
    codebook: CodebookRules = field(default_factory=CodebookRules)
    held_out: float = 0.05
    precision: Precision = "auto"
    recompute: bool = False

    def __post_init__(self) -> None:
        """Raises UserError for what cannot be trained."""
        get_size(self.size)
        text = self.text
        shares = (text.drop, text.word_drop, text.suffix, text.photo, text.duration, self.final_share)
        rules = {
            "steps and batch size must be positive": min(self.batch_size, *(phase.steps for phase in self.phases)) > 0,
            "the learning rate must be positive": self.lr > 0,
            "the gradient's limit must be positive": self.clip > 0,
            "dropout must be from 0 to below 1": 0 <= self.dropout < 1,
            "shares must be from 0 to 1": all(0 <= share <= 1 for share in shares),
            "some records must be trained on": 0 <= self.held_out < 1,
        }
        for rule, holds in rules.items():
            if not holds:
                raise UserError(f"recipe {self.name} cannot be trained: {rule}")

    @property
    def steps(self) -> int:
        return sum(phase.steps for phase in self.phases)

    @property
    def schedule(self) -> Schedule:
        settling = 0 if self.start == "random" else self.settling
        return Schedule(self.lr, self.steps, self.warm_up, self.final_share, settling)

    def phase_of(self, step: int) -> int:
        """The number of the phase that a step, counted from 1, belongs to."""
        for number, phase in enumerate(self.phases):
            if step <= phase.steps:
                return number
            step -= phase.steps
        return len(self.phases) - 1

    def with_steps(self, steps: int) -> TrainingRecipe:
        """The same over another number of steps: phases and warm-up shrink or grow in proportion.

        No phase vanishes. Raises UserError for fewer steps than phases.
        """
        if steps < len(self.phases):
            raise UserError(f"recipe {self.name} has {len(self.phases)} phases, so at least as many steps; got {steps}")
        total, phases, begun, done = self.steps, [], 0, 0
        for left, phase in zip(range(len(self.phases) - 1, -1, -1), self.phases, strict=True):
            done += phase.steps
            end = min(max(round(done * steps / total), begun + 1), steps - left)
            phases.append(replace(phase, steps=end - begun))
            begun = end
        warm_up = round(self.warm_up * steps / total)
        codebook = replace(self.codebook, warm_up=round(self.codebook.warm_up * steps / total))
        return replace(self, phases=tuple(phases), warm_up=min(warm_up, steps), codebook=codebook)

    def values(self) -> dict[str, Any]:
        """As JSON types, without what changes no weights."""
        values: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        del values["summary"], values["recompute"]
        return values

    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits that tell configurations apart."""
        return hashlib.sha256(json.dumps(self.values(), sort_keys=True).encode()).hexdigest()[:16]
