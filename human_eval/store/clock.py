"""The study's clock: milliseconds that never go back, whatever the machine's clock does."""

from __future__ import annotations

import time
from collections.abc import Callable


class Clock:
    """Wall time at the start, monotonic from there on; a restart goes on after the last time that was stored.

    So an hour that the machine steps back changes no order and makes no duration negative.
    """

    def __init__(
        self,
        wall: Callable[[], float] = time.time,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self._steady = steady
        self._start_ms = int(wall() * 1000)
        self._start = steady()

    def not_before(self, stored_ms: int) -> None:
        """Go on after a time that is already in the database."""
        behind = stored_ms + 1 - self.now_ms()
        if behind > 0:
            self._start_ms += behind

    def now_ms(self) -> int:
        return self._start_ms + int((self._steady() - self._start) * 1000)


class StillClock(Clock):
    """A clock that somebody else moves: for simulated raters, and for tests."""

    def __init__(self, start_ms: int = 1_700_000_000_000) -> None:
        self._now = start_ms

    def not_before(self, stored_ms: int) -> None:
        self._now = max(self._now, stored_ms + 1)

    def now_ms(self) -> int:
        return self._now

    def move(self, ms: int) -> None:
        self._now += ms
