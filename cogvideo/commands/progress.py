"""What generation shows while it works: a bar for each phase on a terminal, a line a batch elsewhere. On stderr."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cogvideo.pipeline import Progress

# What each phase counts, where it is not tokens.
UNITS = {"decoding": "videos", "super-resolution": "frames", "refinement": "passes"}


@contextmanager
def phase_bars(*, is_quiet: bool) -> Iterator[tuple[Any, Progress | None]]:
    """A function for lines, and one for progress: units, units a second, time left of the phase."""
    if is_quiet:
        yield (lambda _line: None), None
        return
    from rich import progress as bars
    from rich.console import Console

    console = Console(stderr=True, highlight=False, markup=False, emoji=False)
    columns = (
        bars.TextColumn("{task.description:>16}", markup=False),
        bars.BarColumn(18),
        bars.TextColumn("{task.completed:,.0f} of {task.total:,.0f} {task.fields[unit]}", markup=False),
        bars.TextColumn("{task.fields[rate]}", markup=False),
        bars.TimeRemainingColumn(compact=True, elapsed_when_finished=True),
    )
    is_live = console.is_terminal and not console.is_dumb_terminal
    with bars.Progress(*columns, console=console, transient=True, disable=not is_live) as shown:
        tasks: dict[str, bars.Task] = {}

        def progress(phase: str, done: int, total: int) -> None:
            if phase in tasks and tasks[phase].completed > done:  # the next batch
                for task in tasks.values():
                    shown.remove_task(task.id)
                tasks.clear()
            if phase not in tasks:
                shown.add_task(phase, total=total, unit=UNITS.get(phase, "tokens"), rate="")
                tasks[phase] = shown.tasks[-1]
            speed = tasks[phase].speed
            rate = "" if not speed else f"{speed:,.0f}/s" if speed >= 10 else f"{speed:.1f}/s"
            shown.update(tasks[phase].id, completed=done, total=total, rate=rate)

        yield lambda line: console.print(line, soft_wrap=True), progress


def duration(seconds: float) -> str:
    """`12 s`, `3 min 20 s`, `2 h 05 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
