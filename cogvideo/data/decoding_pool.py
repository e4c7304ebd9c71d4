"""Videos cut in several processes, answered in order, a bounded number at a time; a crash costs one video.

FFmpeg lets go of the interpreter, but the rest of the work does not, and a process that dies is not ours.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

from cogvideo.data.cutting import Cutting, CutVideo, Skipped, cut_video
from cogvideo.data.sources import Pair
from cogvideo.errors import UserError

# Videos that are decoded or wait for each process: enough that none is idle, few enough for the memory.
AHEAD = 3

Answer = CutVideo | Skipped


def cut_videos(pairs: Sequence[Pair], cutting: Cutting, workers: int) -> Generator[Answer, None, None]:
    """The answer for each pair, in order, whatever `workers` is; 0 works in this process."""
    if workers == 0:
        yield from (cut_video(pair, cutting) for pair in pairs)
        return
    first = 0
    while first < len(pairs):
        # A new pool goes on where one broke; the video at fault is tried alone and then left out.
        for answer in _from_pool(pairs[first:], cutting, workers):
            if answer is None:
                yield _alone(pairs[first], cutting)
                first += 1
                break
            yield answer
            first += 1


def _from_pool(pairs: Sequence[Pair], cutting: Cutting, workers: int) -> Generator[Answer | None, None, None]:
    """Answers in order; None, at the end, for the first pair whose answer a crash has cost."""
    pool = _pool(workers)
    waiting: deque[Future[Answer]] = deque()
    left = iter(pairs)
    try:
        for _ in range(AHEAD * workers):
            if (pair := next(left, None)) is not None:
                waiting.append(pool.submit(cut_video, pair, cutting))
        while waiting:
            answer = waiting.popleft().result()
            if (pair := next(left, None)) is not None:
                waiting.append(pool.submit(cut_video, pair, cutting))
            yield answer
    except BrokenProcessPool:
        yield None
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _alone(pair: Pair, cutting: Cutting) -> Answer:
    """One video in a process of its own, so that a crash can only be its own fault.

    Raises UserError if no process can begin at all: then it is not the videos' fault.
    """
    with _pool(1) as pool:
        try:
            pool.submit(os.getpid).result()
        except BrokenProcessPool:
            raise UserError(
                "processes that decode videos end as soon as they begin; a script that tokenises keeps its work under "
                "`if __name__ == '__main__':`, or takes no processes (--workers 0)"
            ) from None
        try:
            return pool.submit(cut_video, pair, cutting).result()
        except BrokenProcessPool:
            return Skipped("crash", f"{pair.path} makes the decoder crash; convert it anew, or take it out")


def _pool(workers: int) -> ProcessPoolExecutor:
    # Not forked: this process has threads of torch, whose locks a copy would hold for ever.
    return ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"), initializer=_begin)


def _begin() -> None:
    """In a worker: Ctrl-C is the parent's to handle, and a worker whose parent was killed ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if parent := multiprocessing.parent_process():

        def end_with_parent() -> None:
            parent.join()
            os._exit(1)

        threading.Thread(target=end_with_parent, daemon=True).start()
