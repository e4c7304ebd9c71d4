"""Progress on stderr: what was chosen and why, then one line a stage; plain lines where there is no terminal."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from types import TracebackType
from typing import Self

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live

from eval.notation import count, fingerprint
from eval.records import Choice
from eval.terminal.console import Line, encoding_of, make_console, signs_for

STAGES = ("plan", "generate", "audit", "features", "score", "write")
BAR_CELLS = 28
COUNT_CELLS = 13
NAME_CELLS = max(len(name) for name in STAGES) + 1
REDRAWS_PER_SECOND = 4
BAR_WIDTH = 2 + NAME_CELLS + BAR_CELLS + 2 + COUNT_CELLS
RATE_AFTER_S = 2.0


@dataclass(frozen=True)
class Stage:
    """One line: how far, since when (seconds of the clock), and what to say of it."""

    name: str
    state: str = "waiting"
    total: int = 0
    done: int = 0
    had: int = 0
    unit: str = ""
    note: str = ""
    count: str = ""
    began: float = 0.0
    took: float | None = None

    def share(self) -> float:
        if self.state == "finished":
            return 1.0
        return min(1.0, self.done / self.total) if self.total else 0.0

    def count_words(self) -> str:
        """`waiting`, `1,389 / 2,048`, or the finished count with its unit."""
        if self.count or self.state == "waiting":
            return self.count or "waiting"
        if self.state == "finished":
            return f"{count(self.done)} {self.unit}".strip() if self.done or self.unit else "done"
        if not self.total:
            return f"{count(self.done)} {self.unit}".strip() if self.done else "running"
        return f"{count(self.done)} / {count(self.total)}"

    def elapsed(self, now: float) -> float:
        return self.took if self.took is not None else now - self.began

    def note_words(self, now: float) -> str:
        """The caller's note; else, while it runs, the time left and the rate of what was made in this run."""
        made, spent = self.done - self.had, self.elapsed(now)
        if self.note or self.state != "running" or made <= 0 or spent < RATE_AFTER_S or not self.total:
            return self.note
        rate = made / spent
        per = f"{rate:.1f} {self.unit or 'items'}/s" if rate >= 0.1 else f"{1 / rate:.0f} s each"
        return f"{clock_words((self.total - self.done) / rate)} left, {per}"


class Stages:
    """A block of stage lines on stderr, reused for every generator of a run.

    with Stages() as stages:
        stages.header("ucf101", "tats-16f-2048", "b41e09d7", choices)
        stages.generator("Model A")
        stages.start("generate", 2048, unit="clips", done=640)
        stages.advance("generate", 8)
        stages.finish("generate")

    With a terminal the lines redraw at most 8 times a second; without one (or on a dumb one) each finished stage is
    one plain line; with `quiet` nothing is written. Stages that never started stay "waiting".
    """

    def __init__(
        self,
        *,
        quiet: bool = False,
        console: Console | None = None,
        names: Iterable[str] = STAGES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.console = console or make_console(stderr=True)
        self.quiet = quiet
        self.clock = clock
        self.names = tuple(names)
        self._stages: dict[str, Stage] = {}
        self._live: Live | None = None
        self._has_header = False
        self._is_open = True
        self._reset(self.names)

    @property
    def is_live(self) -> bool:
        """Whether lines are redrawn: on a terminal that can move its cursor."""
        return not self.quiet and self.console.is_terminal and not self.console.is_dumb_terminal

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._stop_running()
        self._close()

    def header(self, title: str, protocol_name: str, fingerprint_: str, choices: Iterable[Choice] = ()) -> None:
        """What runs, under which protocol, then a line for each choice with its reason."""
        if self.quiet:
            return
        encoding = self.console.encoding
        line = Line(encoding).add(f"cogeval {_version()}  ").add(title, "title").add("  ").add(protocol_name, "accent")
        if fingerprint_:
            line.add(f"  fingerprint {fingerprint(fingerprint_)}", "dim")
        self._print(line)
        shown = list(choices)
        width = max([8, *(len(choice.name) for choice in shown)]) + 1
        for choice in shown:
            reason = choice.reason or ("" if choice.origin == "automatic" else f"from {choice.origin}")
            line = Line(encoding).add("  ").add(choice.name, "dim", width=width).add(choice.value)
            self._print(line.add(f"  {reason}", "dim") if reason else line)
        self._has_header = True

    def generator(self, title: str, note: str = "", names: Iterable[str] = ()) -> None:
        """A new block of stage lines for the next generator; the lines of the one before stay on the screen.

        `names` are the stages of this block if it has fewer than all.
        """
        self._close()
        self._reset(tuple(names) or self.names)
        if self.quiet:
            return
        if self._has_header:
            self.console.print()
        line = Line(self.console.encoding).add(title, "title")
        self._print(line.add(f"  {note}", "dim") if note else line)
        self._has_header = True

    def start(self, name: str, total: int = 0, *, unit: str = "", done: int = 0, note: str = "") -> None:
        """The stage begins; `done` of `total` were there before this run (they do not count for the rate)."""
        self._set(Stage(name, "running", total=total, done=done, had=done, unit=unit, note=note, began=self.clock()))

    def advance(self, name: str, n: int = 1, note: str = "", *, count: str = "") -> None:
        """`n` more are done. A note or a count text replaces the automatic one until the next call gives another."""
        stage = self._running(name)
        self._set(replace(stage, done=stage.done + n, note=note or stage.note, count=count or stage.count))

    def finish(self, name: str, note: str = "", *, count: str = "") -> None:
        """The stage is complete. Without a terminal this writes its line."""
        stage = self._running(name)
        took = self.clock() - stage.began
        stage = replace(stage, state="finished", note=note or stage.note, count=count or stage.count, took=took)
        self._set(stage)
        if not self.quiet and not self.is_live:
            self._print_plain(stage)

    def message(self, text: str, role: str = "warn") -> None:
        """A line above the stages that stays."""
        if not self.quiet:
            self._print(Line(self.console.encoding).add("! ", role).add(text))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for stage in self._stages.values():
            # Once a block is closed, a stage that never began has nothing to tell.
            if self._is_open or stage.state != "waiting":
                yield self.line(stage, encoding_of(console, options)).fit(options.max_width)

    def line(self, stage: Stage, encoding: str | None, *, has_bar: bool = True) -> Line:
        """One stage as text; on a narrow terminal the bar goes before the numbers do."""
        signs, now = signs_for(encoding), self.clock()
        line = Line(encoding).add("  ").add(stage.name, width=NAME_CELLS)
        if has_bar and self.console.width >= BAR_WIDTH:
            done = round(stage.share() * BAR_CELLS)
            if stage.state != "finished":
                done = min(done, BAR_CELLS - 1)
            role = {"finished": "ok", "running": "accent", "stopped": "warn"}.get(stage.state, "dim")
            line.add(signs.done * done, role).add(signs.left * (BAR_CELLS - done), "dim").add("  ")
        line.add(stage.count_words(), width=COUNT_CELLS, right=True)
        if stage.state == "waiting":
            return line
        note = stage.note_words(now)
        is_timed = stage.total > 0 or stage.state != "running" or stage.elapsed(now) >= 1
        line.add("  ").add(clock_words(stage.elapsed(now)) if is_timed else "", "dim", width=7)
        return line.add(f"  {note}", "warn" if stage.state == "stopped" else "dim") if note else line

    def _set(self, stage: Stage) -> None:
        if stage.name not in self._stages:
            raise ValueError(f"no stage {stage.name!r}; there are {', '.join(self._stages)}")
        self._stages[stage.name] = stage
        if self.is_live and self._live is None:
            if self._has_header:
                self.console.print()
            self._live = Live(
                self,
                console=self.console,
                refresh_per_second=REDRAWS_PER_SECOND,
                redirect_stdout=False,
                redirect_stderr=True,
            )
            self._live.start(refresh=True)

    def _running(self, name: str) -> Stage:
        stage = self._stages.get(name)
        if stage is None or stage.state == "waiting":
            self.start(name)
            stage = self._stages[name]
        return stage

    def _stop_running(self) -> None:
        for name, stage in self._stages.items():
            if stage.state == "running":
                took = self.clock() - stage.began
                self._stages[name] = replace(stage, state="stopped", note="stopped", took=took)
                if not self.quiet and not self.is_live:
                    self._print_plain(self._stages[name])

    def _close(self) -> None:
        self._is_open = False
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _reset(self, names: Iterable[str]) -> None:
        self._is_open = True
        self._stages = {name: Stage(name) for name in names}

    def _print_plain(self, stage: Stage) -> None:
        self._print(self.line(stage, self.console.encoding, has_bar=False))

    def _print(self, line: Line) -> None:
        self.console.print(line.fit(self.console.width))


def clock_words(seconds: float) -> str:
    """`0:38:12`; days are hours."""
    whole = max(0, int(seconds))
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"


def _version() -> str:
    try:
        return version("cogeval")
    except PackageNotFoundError:
        return "(not installed)"
