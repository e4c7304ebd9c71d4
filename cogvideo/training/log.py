"""What a run says: a line of JSON a step in `log.jsonl`, a progress line on a terminal, TensorBoard if it is there."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

LOG_NAME = "log.jsonl"

Entry = dict[str, Any]


class Listener(Protocol):
    """Whoever wants to know of a step."""

    def __call__(self, entry: Entry) -> None: ...


class LogFile:
    """`log.jsonl` in the folder of a run. On resumption, lines from after the checkpoint are taken out."""

    def __init__(self, folder: Path, last_step: int) -> None:
        self.path = folder / LOG_NAME
        kept = [entry for entry in read_log(folder) if entry["step"] <= last_step]
        temporary = self.path.with_name(f".{LOG_NAME}.{os.getpid()}.tmp")
        temporary.write_text("".join(json.dumps(entry) + "\n" for entry in kept), encoding="utf-8")
        temporary.replace(self.path)
        self._file = self.path.open("a", encoding="utf-8")

    def __call__(self, entry: Entry) -> None:
        self._file.write(json.dumps(entry) + "\n")
        self._file.flush()

    def close(self) -> None:
        self._file.close()


def read_log(folder: Path) -> list[Entry]:
    """The entries of a run so far; a line that a crash has cut short is left out."""
    entries = []
    with suppress(FileNotFoundError):
        for line in (folder / LOG_NAME).read_text(encoding="utf-8").splitlines():
            with suppress(ValueError):
                entries.append(json.loads(line))
    return entries


@contextmanager
def progress_line(name: str, total: int, done: int, *, is_quiet: bool) -> Iterator[Listener]:
    """Loss, speed and time left on stderr; where there is no terminal, a line now and then."""
    from rich import progress as bars
    from rich.console import Console

    console = Console(stderr=True, highlight=False, markup=False, emoji=False)
    is_live = console.is_terminal and not console.is_dumb_terminal and not is_quiet
    columns = (
        bars.TextColumn("{task.description}", markup=False),
        bars.BarColumn(24),
        bars.MofNCompleteColumn(),
        bars.TextColumn("{task.fields[said]}", markup=False),
        bars.TimeRemainingColumn(),
    )
    with bars.Progress(*columns, console=console, refresh_per_second=4, disable=not is_live) as shown:
        task = shown.add_task(name, total=total, completed=done, said="")

        def show(entry: Entry) -> None:
            said = _said(entry)
            shown.update(task, completed=entry["step"], said=said)
            if not is_live and not is_quiet:
                console.print(f"{name} {entry['step']}/{total}  {said}", soft_wrap=True)

        yield show


def tensorboard(folder: Path) -> Listener | None:
    """Scalars for TensorBoard in the folder of a run, if that package is installed."""
    try:
        from torch.utils.tensorboard.writer import SummaryWriter
    except ImportError:
        return None
    writer = SummaryWriter(str(folder / "tensorboard"))

    def write(entry: Entry) -> None:
        for name, value in entry.items():
            if isinstance(value, float):
                writer.add_scalar(name, value, entry["step"])

    return write


def _said(entry: Entry) -> str:
    speed = f"{entry['tokens_per_second']:,.0f} tokens/s"
    return f"loss {entry['loss']:.4f}  {speed}  {entry['peak_share']:.0%} of peak"
