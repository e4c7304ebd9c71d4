"""Real clips from disk, decoded by worker processes in a fixed order. No torch, so that a worker stays small.

Shapes: T frames, H x W pixels; clips are uint8 (T, H, W, 3) RGB.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing.connection import wait
from types import TracebackType
from typing import TypeVar

from cogvideo.errors import UserError
from cogvideo.video import VideoInfo, probe, read_clip
from eval.generators.contract import Clip, ClipRef

A = TypeVar("A")
R = TypeVar("R")


class DecodePool:
    """Decodes with `workers` processes, or in this one with `workers=0`. Order and pixels do not depend on it."""

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self._executor: ProcessPoolExecutor | None = None

    def __enter__(self) -> DecodePool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._executor is not None:
            self._executor.shutdown(wait=False, cancel_futures=True)
            self._executor = None

    def clips(self, refs: Iterable[ClipRef]) -> Iterator[Clip]:
        """The clips of `refs` in order, a few read ahead. Raises VideoError for one that does not decode."""
        return self._ordered(read_ref, refs)

    def probes(self, paths: Iterable[str]) -> Iterator[VideoInfo | UserError]:
        """What each file is, in order; the error instead where it is no usable video."""
        return self._ordered(_probe, paths, group=8)

    def _ordered(self, work: Callable[[A], R], items: Iterable[A], group: int = 1) -> Iterator[R]:
        """Map in order; each message to a worker carries `group` items, because a probe is cheaper than a message."""
        if self.workers == 0:
            yield from map(work, items)
            return
        if self._executor is None:
            # Never fork: torch may already run threads in this process.
            method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
            context = multiprocessing.get_context(method)
            self._executor = ProcessPoolExecutor(self.workers, mp_context=context, initializer=_end_with_parent)
        waiting: deque[Future[list[R]]] = deque()
        batch: list[A] = []
        for item in items:
            batch.append(item)
            if len(batch) == group:
                waiting.append(self._executor.submit(_each, work, batch))
                batch = []
            if len(waiting) > 4 * self.workers:
                yield from waiting.popleft().result()
        if batch:
            waiting.append(self._executor.submit(_each, work, batch))
        while waiting:
            yield from waiting.popleft().result()


def read_ref(ref: ClipRef) -> Clip:
    """The window that `ref` names. Raises VideoError."""
    return read_clip(ref.path, start=ref.start, frames=ref.frames, stride=ref.stride, fps=ref.fps)


def _end_with_parent() -> None:
    """A worker whose parent was killed would wait for work for ever: let it end when the parent does."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        watch = threading.Thread(target=lambda: (wait([parent.sentinel]), os._exit(1)), daemon=True)
        watch.start()


def _probe(path: str) -> VideoInfo | UserError:
    try:
        return probe(path)
    except UserError as error:
        return error


def _each(work: Callable[[A], R], items: list[A]) -> list[R]:
    return [work(item) for item in items]
