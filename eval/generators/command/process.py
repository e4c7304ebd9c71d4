"""One program, run to its end or stopped with everything that it started. No shell anywhere."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

POLL_S = 0.05
WATCH_S = 1.0
GRACE_S = 5.0
TAIL_BYTES = 4096
TAIL_CHARACTERS = 300


@dataclass(frozen=True)
class Ended:
    """How a program ended: exit code (negative: the signal), whether its time was over, peak memory in bytes."""

    code: int
    is_overrun: bool
    peak_bytes: int


def run(
    argv: Sequence[str],
    *,
    environment: Mapping[str, str],
    stdout: Path,
    stderr: Path,
    seconds: float | None = None,
    watch: Callable[[], None] = lambda: None,
) -> Ended:
    """Run `argv` in a process group of its own, with `environment` and with its output appended to two files.

    When the time is over, or this process is told to stop (Ctrl-C, SIGTERM), the whole group gets SIGTERM and, if that
    does not end it, SIGKILL. Nothing of the group outlives this call. `watch` is called about
    once a second while it runs. Raises OSError if the program cannot be started.
    """
    with stdout.open("ab") as out, stderr.open("ab") as err, _terminated_as_interrupted():
        process = subprocess.Popen(
            list(argv),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            env=dict(environment),
            start_new_session=True,
        )
        deadline = None if seconds is None else time.monotonic() + seconds
        is_overrun = False
        watched = time.monotonic()
        try:
            while not _has_ended(process):
                if time.monotonic() - watched > WATCH_S:
                    watch()
                    watched = time.monotonic()
                if deadline is not None and time.monotonic() > deadline:
                    is_overrun = True
                    break
                time.sleep(POLL_S)
        finally:
            peak_bytes = _stop_group(process)
    return Ended(process.returncode, is_overrun, peak_bytes)


def tail(path: Path) -> str:
    """The last words of a log in one line, for a message; empty if there are none."""
    with suppress(OSError), path.open("rb") as file:
        file.seek(0, os.SEEK_END)
        file.seek(max(0, file.tell() - TAIL_BYTES))
        text = file.read().decode("utf-8", "replace")
        words = " ".join("".join(c if c.isprintable() else " " for c in text).split())
        return words if len(words) <= TAIL_CHARACTERS else f"... {words[-TAIL_CHARACTERS:]}"
    return ""


def _has_ended(process: subprocess.Popen[bytes]) -> bool:
    """Whether the leader is done. It is not waited for, so that its group's number is nobody else's yet."""
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _stop_group(process: subprocess.Popen[bytes]) -> int:
    """End what is left of the group and collect the leader. Gives its peak memory in bytes."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGTERM)
    deadline = time.monotonic() + GRACE_S
    while not _has_ended(process) and time.monotonic() < deadline:
        time.sleep(POLL_S)
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    # In KiB on Linux and in bytes on macOS.
    return usage.ru_maxrss * (1 if os.uname().sysname == "Darwin" else 1024)


@contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """Inside it SIGTERM raises as Ctrl-C does, so that the program is stopped before we are."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
