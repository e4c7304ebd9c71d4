"""The one loop of all trainings: forward, backward, step, log, save; stop when asked to, or when numbers go wrong.

Steps are counted from 1. Rows, chance and learning rate of a step depend on the seed and its number alone, so that a
run that was interrupted is the run that was not.
"""

from __future__ import annotations

import hashlib
import math
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

import torch
from torch import Tensor

from cogvideo.errors import UserError
from cogvideo.training import state
from cogvideo.training.log import Entry, Listener, LogFile
from cogvideo.training.machine import peak_flops, peak_memory
from cogvideo.training.optimizer import clip_, make_optimizer, set_rate
from cogvideo.training.parallel import World, average_gradients_, require_share
from cogvideo.training.recipe import TrainingRecipe
from cogvideo.training.tasks import Batch, Task

# The release looks at 15 batches every 500 steps.
VALIDATION_BATCHES = 15


class Batches(Protocol):
    """The rows of every step, a function of the step's number alone."""

    def keys(self, step: int) -> Sequence[Any]:
        """What names the rows of a step, of all processes, in order; the same on each of them."""

    def load(self, keys: Sequence[Any]) -> Tensor:
        """The rows themselves."""


@dataclass(frozen=True)
class Options:
    """How a run is carried out. Nothing here changes the weights, besides `seed` and, by rounding, the parts.

    `accumulate`: parts that a batch is worked through in, for memory. `save_every`, `log_every`, `validate_every`:
    steps. `is_compiled`: by `torch.compile`, which rounds otherwise.
    """

    seed: int = 0
    accumulate: int = 1
    save_every: int = 500
    log_every: int = 50
    validate_every: int = 500
    is_half: bool = False
    is_compiled: bool = False
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """`is_finished`: all steps are done. Otherwise the run was stopped and saved at `step`."""

    step: int
    is_finished: bool
    loss: float


class Engine:
    """A task, the recipe it is trained by, its batches, and the folder that it writes to."""

    def __init__(
        self,
        task: Task,
        recipe: TrainingRecipe,
        batches: Batches,
        folder: Path,
        *,
        device: torch.device,
        held_out: Batches | None = None,
        options: Options | None = None,
        world: World | None = None,
        is_sharded: bool = False,
    ) -> None:
        """`held_out`: rows that are not trained on, whose loss is logged. `is_sharded`: FSDP averages the gradients.

        Raises UserError for a batch that cannot be shared evenly.
        """
        self.task, self.recipe, self.batches, self.folder = task, recipe, batches, folder
        self.held_out = held_out
        self.device, self.options, self.world = device, options or Options(), world or World()
        self.is_sharded = is_sharded
        self.share = require_share(recipe.batch_size, self.options.accumulate, self.world)
        self.trained = [parameter for parameter in task.parameters() if parameter.requires_grad]
        if recipe.optimizer == "muon" and is_sharded:
            raise UserError(
                f"recipe {recipe.name} is trained with Muon, which needs whole matrices: this network is spread over "
                "the processes; train it in one process"
            )
        self.optimizer = make_optimizer(
            task,
            weight_decay=recipe.weight_decay,
            betas=recipe.betas,
            eps=recipe.eps,
            kind=recipe.optimizer,
            dtype=torch.bfloat16 if self.options.is_half else torch.float32,
        )
        # What runs a batch: the task, or what the compiler made of it.
        self.runs: Callable[[Batch], dict[str, Tensor]] = torch.compile(task) if self.options.is_compiled else task
        self.step = 0

    def resume(self) -> bool:
        """Go on from the last checkpoint in the folder, if there is one.

        Raises UserError if it is of another recipe, seed, start or data, naming what differs.
        """
        found = state.saved(self.folder)
        if not found:
            return False
        facts = state.read_facts(found[-1])
        for name, ours in self._facts().items():
            if (theirs := facts.get(name)) != ours:
                raise UserError(
                    f"{self.folder} holds another training: {name} {_short(theirs)} there, {_short(ours)} now; give "
                    "the same settings, or another --out"
                )
        state.load_(found[-1], state.tensors_of(self.task, self.optimizer), self.world)
        self.step = facts["step"]
        return True

    def save(self) -> Path:
        """A checkpoint of the last step that was done."""
        tensors = state.tensors_of(self.task, self.optimizer)
        return state.save(self.folder, self.step, tensors, self._facts(), self.world)

    def run(self, listeners: Sequence[Listener] = (), *, until: int | None = None) -> Outcome:
        """Train to the last step of the recipe, or to `until`. SIGTERM and SIGINT end it with a checkpoint.

        Raises UserError, with step and rows, when loss or gradients are no longer finite: the weights from before that
        step are saved.
        """
        last = min(self.recipe.steps, until or self.recipe.steps)
        log = LogFile(self.folder, self.step) if self.world.is_first else None
        everyone = [*listeners, log] if log else []
        # The peak is measured once there is someone to tell.
        peak = peak_flops(self.device, torch.bfloat16 if self.options.is_half else torch.float32) if log else 1.0
        meter = _Meter(self.task, peak, self.device, self.world)
        loss = math.nan
        self.task.train()
        saved_at = self.step
        try:
            with _stop_signal() as is_asked_to_stop:
                while self.step < last:
                    numbers, should_stop = self._advance(is_asked_to_stop)
                    loss = numbers["loss"]
                    meter.count(self.recipe.batch_size)
                    if self.held_out and self.step % self.options.validate_every == 0:
                        numbers |= self.validate()
                    if self.step % self.options.log_every == 0 or self.step in (1, last) or should_stop:
                        entry = meter.entry(self.step, numbers)
                        for listener in everyone:
                            listener(entry)
                    if self.step % self.options.save_every == 0 or self.step == last or should_stop:
                        self.save()
                        saved_at = self.step
                    if should_stop and self.step < self.recipe.steps:
                        return Outcome(self.step, is_finished=False, loss=loss)
        finally:
            if log:
                log.close()
        if saved_at != self.step:
            self.save()
        return Outcome(self.step, is_finished=self.step >= self.recipe.steps, loss=loss)

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """The mean loss of the held-out rows, the same ones each time, without dropout; over all processes."""
        if self.held_out is None:
            return {}
        self.task.eval()
        total = torch.zeros((), device=self.device)
        for step in range(1, VALIDATION_BATCHES + 1):
            keys = self.held_out.keys(step)
            first = self.world.rank * self.share
            batch = self.task.prepare(self.held_out.load(keys[first : first + self.share]))
            with self._precision():
                total += self.task({name: tensor.to(self.device) for name, tensor in batch.items()})["loss"].float()
        self.task.train()
        return {"validation_loss": float(self.world.add_(total)) / self.world.size / VALIDATION_BATCHES}

    def _advance(self, is_asked_to_stop: list[bool]) -> tuple[dict[str, float], bool]:
        """One step: its numbers, averaged over all rows, and whether anyone was asked to stop."""
        step = self.step + 1
        keys = self.batches.keys(step)
        rate = self.recipe.schedule.rate(step)
        self._seed(step)
        set_rate(self.optimizer, rate)
        totals = self._gradients(keys)
        names = [*totals, "stop"]
        flags = torch.tensor([float(bool(is_asked_to_stop))], device=self.device)
        summed = self.world.add_(torch.cat([torch.stack([totals[name] for name in totals]).float(), flags]))
        *means, stop = (summed / self.world.size).tolist()
        if not self.is_sharded:
            average_gradients_(self.trained, self.world)
        norm = float(clip_(self.trained, self.recipe.clip))
        numbers = dict(zip(names, means, strict=False)) | {"grad_norm": norm, "lr": rate}
        if not all(math.isfinite(numbers[name]) for name in ("loss", "grad_norm")):
            self._refuse(step, keys, numbers)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.task.after_step()
        self.step = step
        return numbers, stop > 0

    def _gradients(self, keys: Sequence[Any]) -> dict[str, Tensor]:
        """Gradients of this process's rows, part after part; the means of what the task gives."""
        accumulate = self.options.accumulate
        totals: dict[str, Tensor] = {}
        first = self.world.rank * accumulate * self.share
        for part in range(accumulate):
            begin = first + part * self.share
            batch = self.task.prepare(self.batches.load(keys[begin : begin + self.share]))
            batch = {name: tensor.to(self.device, non_blocking=True) for name, tensor in batch.items()}
            if self.is_sharded:
                self.task.set_requires_gradient_sync(part == accumulate - 1)  # type: ignore[operator]
            with self._precision():
                found = self.runs(batch)
            (found["loss"] / accumulate).backward()  # type: ignore[no-untyped-call]
            for name, value in found.items():
                totals[name] = totals.get(name, 0) + value.detach() / accumulate
        return totals

    def _precision(self) -> AbstractContextManager[object]:
        if self.options.is_half:
            return torch.autocast(self.device.type, torch.bfloat16)
        return nullcontext()

    def _seed(self, step: int) -> None:
        """Dropout of this rank and the task's own chance: of the seed and the step, not of what was drawn before."""
        torch.manual_seed(_number(self.options.seed, step, "dropout", self.world.rank))
        own = torch.Generator().manual_seed(_number(self.options.seed, step, "task", 0))
        self.task.before_step(step, own)

    def _refuse(self, step: int, keys: Sequence[Any], numbers: dict[str, float]) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        where = self.save()
        named = ", ".join(map(str, keys[:8])) + (", ..." if len(keys) > 8 else "")
        raise UserError(
            f"step {step} gave loss {numbers['loss']:g} and gradient norm {numbers['grad_norm']:g}, which cannot be "
            f"trained on; the weights before it are in {where}; its rows: {named}; look at them, or lower --lr"
        )

    def _facts(self) -> dict[str, Any]:
        """What has to be the same to go on."""
        return {
            "recipe": self.recipe.name,
            "settings": self.recipe.fingerprint(),
            "seed": self.options.seed,
            **self.options.facts,
        }


class _Meter:
    """Speed, share of the peak and memory since the last entry."""

    def __init__(self, task: Task, peak: float, device: torch.device, world: World) -> None:
        self.task, self.peak, self.device, self.world = task, peak * world.size, device, world
        self.begin = self.since = time.perf_counter()
        self.rows = 0

    def count(self, rows: int) -> None:
        self.rows += rows

    def entry(self, step: int, numbers: dict[str, float]) -> Entry:
        now = time.perf_counter()
        speed = self.rows / (now - self.since)
        self.since, self.rows = now, 0
        return {
            "step": step,
            **{name: value for name, value in numbers.items() if name != "stop"},
            "tokens_per_second": speed * self.task.tokens,
            "peak_share": speed * self.task.flops / self.peak,
            "memory_bytes": peak_memory(self.device),
            "seconds": now - self.begin,
        }


@contextmanager
def _stop_signal() -> Iterator[list[bool]]:
    """A list that SIGTERM or SIGINT puts something in. A second signal acts as it would have."""
    asked: list[bool] = []
    before: dict[signal.Signals, Any] = {}

    def ask(number: int, frame: FrameType | None) -> None:
        asked.append(True)
        for name, handler in before.items():
            signal.signal(name, handler)

    try:
        for name in (signal.SIGTERM, signal.SIGINT):
            before[name] = signal.signal(name, ask)
    except ValueError:  # Not in the main thread: whoever runs us there stops us in another way.
        yield asked
        return
    try:
        yield asked
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)


def _number(*key: int | str) -> int:
    """63 bits of a key."""
    return int.from_bytes(hashlib.sha256("\n".join(map(str, key)).encode()).digest()[:8], "big") >> 1


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 24 else f"{text[:24]}..."
