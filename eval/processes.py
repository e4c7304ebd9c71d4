"""This process among the others of `torchrun`: who it is, what all tell each other, and that one's end is everyone's.

Samples and features go through files. What passes here are short messages, over the store that `torchrun` sets up for
its processes: no collectives, so no GPU has to wait in one, and no network but the store's. torch is loaded only where
there are several processes.

with joined() as processes:
    everyone = processes.gather(json.dumps(own))    # in order of rank; also a barrier
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any, Protocol, TypeVar, cast

from cogvideo.errors import UserError

T = TypeVar("T")
PREFIX = "cogeval"
FAILED = f"{PREFIX}/failed"
POLL_S = 0.05
SLOW_POLL_S = 1.0
BEAT_S = 10.0
# A process whose machine went down or was cut off says nothing; one that is busy still beats.
PATIENCE_S = 300.0
JOIN_S = 300.0
LEAVE_S = 10.0
TORCHRUN_PREFIXES = ("TORCHELASTIC_", "TORCH_NCCL_")
TORCHRUN_NAMES = (
    "RANK",
    "LOCAL_RANK",
    "ROLE_RANK",
    "GROUP_RANK",
    "WORLD_SIZE",
    "LOCAL_WORLD_SIZE",
    "ROLE_WORLD_SIZE",
    "GROUP_WORLD_SIZE",
    "ROLE_NAME",
    "MASTER_ADDR",
    "MASTER_PORT",
)


class Store(Protocol):
    """What is used of `torch.distributed.Store`: keys and values that all processes see."""

    def set(self, key: str, value: str, /) -> None: ...
    def get(self, key: str, /) -> bytes: ...
    def check(self, keys: list[str], /) -> bool: ...
    def add(self, key: str, amount: int, /) -> int: ...
    def compare_set(self, key: str, expected: str, desired: str, /) -> bytes: ...


class EndedByAnotherError(Exception):
    """Another process has failed and said why; this one ends with the same code and says nothing."""

    def __init__(self, exit_code: int) -> None:
        super().__init__(f"another process ended with {exit_code}")
        self.exit_code = exit_code


class Processes:
    """This process alone. `Joined` has the same methods for one of several."""

    rank = 0
    size = 1

    @property
    def is_first(self) -> bool:
        """Whether this one holds the run's lock, scores, prints and writes the result."""
        return self.rank == 0

    @property
    def is_alone(self) -> bool:
        return self.size == 1

    def gather(self, value: str = "") -> list[str]:
        """What every process said in its call of the same number, in order of rank. Returns when all have called."""
        return [value]

    def check(self) -> None:
        """Raises EndedByAnotherError if another process has failed, UserError if one does not answer any more."""

    def pause(self, seconds: float = 0.2) -> None:
        """Wait a little for others, with `check`."""
        self.check()
        time.sleep(seconds)

    def same(self, what: str, value: Any) -> None:
        """Raises UserError unless all processes have the same `value` (anything that JSON can hold)."""
        digest = hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
        said = self.gather(digest)
        if digest != said[0]:
            raise UserError(
                f"process {self.rank} of {self.size} sees {what} that differs from what process 0 sees; data, weights,"
                " programs and COGEVAL_ variables have to be the same on all nodes"
            )


class Joined(Processes):
    """One of several processes, over a store that all of them reach."""

    def __init__(self, store: Store, rank: int, size: int, *, beat_s: float = BEAT_S, patience_s: float = PATIENCE_S):
        self.rank, self.size = rank, size
        self._store = store
        self._calls = 0
        self._beat_s, self._patience_s = beat_s, patience_s
        self._beats = [0] * size
        self._moved = [time.monotonic()] * size
        self._looked = 0.0
        self._is_over = threading.Event()
        self._heart = threading.Thread(target=self._beat, daemon=True)
        self._heart.start()

    def gather(self, value: str = "") -> list[str]:
        self._calls += 1
        keys = [f"{PREFIX}/{self._calls}/{rank}" for rank in range(self.size)]
        self._asked(self._store.set, keys[self.rank], value)
        wait_s = POLL_S
        while not self._asked(self._store.check, keys):
            self.pause(wait_s)
            wait_s = min(1.2 * wait_s, SLOW_POLL_S)
        return [self._asked(self._store.get, key).decode() for key in keys]

    def check(self) -> None:
        if self._asked(self._store.check, [FAILED]):
            raise EndedByAnotherError(int(json.loads(self._asked(self._store.get, FAILED))["code"]))
        now = time.monotonic()
        if now - self._looked < self._beat_s:
            return
        self._looked = now
        for rank in range(self.size):
            beats = self._asked(self._store.add, f"{PREFIX}/beat/{rank}", 0)
            if beats != self._beats[rank]:
                self._beats[rank], self._moved[rank] = beats, now
            elif rank != self.rank and now - self._moved[rank] > self._patience_s:
                raise UserError(
                    f"process {rank} of {self.size} has not answered for {self._patience_s:.0f} s (was its machine"
                    " stopped, or cut off?); finished samples are kept: run the same command again"
                )

    def report(self, code: int) -> bool:
        """Tell the others that this one fails with `code`. False if another one was first."""
        mine = json.dumps({"rank": self.rank, "code": code})
        with suppress(RuntimeError):  # the store is gone: nobody is left to be told
            return bool(json.loads(self._store.compare_set(FAILED, "", mine))["rank"] == self.rank)
        return True

    def leave(self, seconds: float = LEAVE_S) -> None:
        """Wait a moment until all are about to end: `torchrun` stops the others as soon as one has failed."""
        with suppress(RuntimeError):
            self._store.add(f"{PREFIX}/left", 1)
            until = time.monotonic() + seconds
            while self._store.add(f"{PREFIX}/left", 0) < self.size and time.monotonic() < until:
                time.sleep(POLL_S)
        self._is_over.set()
        self._heart.join(1.0)

    def _beat(self) -> None:
        with suppress(RuntimeError):
            while True:
                self._store.add(f"{PREFIX}/beat/{self.rank}", 1)
                if self._is_over.wait(self._beat_s / 2):
                    return

    def _asked(self, question: Callable[..., T], *about: Any) -> T:
        try:
            return question(*about)
        except RuntimeError as error:
            raise UserError(
                f"process {self.rank} of {self.size} has lost its connection to the others"
                f" ({str(error).splitlines()[0][:120]}); finished samples are kept: run the same command again"
            ) from None


@contextmanager
def joined() -> Iterator[Processes]:
    """This process among those that `torchrun` started, else alone.

    Of an error, the process that met it first tells; it leaves the block there as it is, and elsewhere as
    EndedByAnotherError. Raises UserError where the others cannot be found.
    """
    size = size_of_world()
    if size == 1:
        yield Processes()
        return
    processes = Joined(_store(), int(os.environ.get("RANK", "0")), size)
    try:
        yield processes
    except EndedByAnotherError:
        _outlast_torchrun()
        raise
    except BaseException as error:
        _outlast_torchrun()
        code = error.exit_code if isinstance(error, UserError) else 130 if isinstance(error, KeyboardInterrupt) else 1
        if not processes.report(code):
            raise EndedByAnotherError(_code_of(processes, code)) from error
        raise
    finally:
        processes.leave()


def size_of_world() -> int:
    """How many processes `torchrun` started; 1 without it. Raises UserError for a value that is no number."""
    return _whole_number("WORLD_SIZE", 1)


def local_rank() -> int:
    """Which of the processes on this machine this one is, from 0."""
    return _whole_number("LOCAL_RANK", 0)


def local_size() -> int:
    """How many of the processes are on this machine."""
    return max(1, _whole_number("LOCAL_WORLD_SIZE", 1))


def without_torchrun(environment: dict[str, str]) -> dict[str, str]:
    """The environment for a program of its own, which must not take itself for one of our processes."""
    return {
        name: value
        for name, value in environment.items()
        if name not in TORCHRUN_NAMES and not name.startswith(TORCHRUN_PREFIXES)
    }


def share(items: Sequence[Any], processes: Processes) -> list[Any]:
    """The part of this process: every `size`-th item, so that all of them get on at the same pace."""
    return list(items[processes.rank :: processes.size])


def _whole_number(name: str, otherwise: int) -> int:
    value = os.environ.get(name, "") or str(otherwise)
    if not value.isdigit():
        raise UserError(f"the variable {name} is {value!r}; expected a whole number, as torchrun sets it")
    return int(value)


def _store() -> Store:
    missing = [name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if not os.environ.get(name)]
    if missing:
        raise UserError(
            f"WORLD_SIZE says {os.environ['WORLD_SIZE']} processes, but {', '.join(missing)} is not set; start with"
            " torchrun, or unset WORLD_SIZE"
        )
    from torch.distributed.rendezvous import rendezvous

    try:
        store, _, _ = next(rendezvous("env://", timeout=timedelta(seconds=JOIN_S)))
    except (RuntimeError, ValueError) as error:
        place = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
        raise UserError(f"the other processes cannot be found at {place}: {str(error).splitlines()[0]}") from None
    return cast(Store, store)


def _outlast_torchrun() -> None:
    """This process is about to end with its own code, not with that of the signal that the first to end sets off."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _code_of(processes: Joined, otherwise: int) -> int:
    try:
        processes.check()
    except EndedByAnotherError as ended:
        return ended.exit_code
    except UserError:
        return otherwise
    return otherwise
