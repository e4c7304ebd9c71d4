"""Decode workers: the same clips in the same order whatever their number, and none that outlives a killed parent."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from cogvideo.errors import UserError
from cogvideo.video import write_video
from eval.decoding import DecodePool
from eval.generators.contract import ClipRef


@pytest.fixture
def refs(tmp_path):
    rng = np.random.default_rng(0)
    found = []
    for number in range(20):
        path = tmp_path / f"{number}.avi"
        write_video(path, rng.integers(0, 256, (6, 16, 16, 3), dtype=np.uint8), fps=8, codec="ffv1")
        found.append(ClipRef(path.name, str(path), number % 3, 3))
    return found


@pytest.mark.parametrize("workers", [1, 3])
def test_order_and_pixels_do_not_depend_on_workers(refs, workers):
    with DecodePool(0) as alone, DecodePool(workers) as pool:
        for one, other in zip(alone.clips(refs), pool.clips(refs), strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_broken_file_is_an_answer_of_probes_and_an_error_of_clips(refs, tmp_path, workers):
    (tmp_path / "3.avi").write_bytes(b"")
    with DecodePool(workers) as pool:
        answers = list(pool.probes(ref.path for ref in refs))
        assert [isinstance(answer, UserError) for answer in answers].index(True) == 3
        assert answers[4].n_frames == 6
        with pytest.raises(UserError, match=r"3\.avi"):
            list(pool.clips(refs))


SCRIPT = """
import sys, time
from eval.decoding import DecodePool
if __name__ == "__main__":
    with DecodePool(1) as pool:
        list(pool.probes([sys.argv[1]]))
        print(*pool._executor._processes, flush=True)
        time.sleep(60)
"""


def test_workers_end_when_their_parent_is_killed(refs, tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(SCRIPT)
    command = [sys.executable, str(script), refs[0].path]
    parent = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONSAFEPATH": ""})
    worker = int(parent.stdout.readline())
    os.kill(worker, 0)
    os.kill(parent.pid, signal.SIGKILL)
    parent.communicate()
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            os.kill(worker, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    os.kill(worker, signal.SIGKILL)
    pytest.fail("the worker outlived its parent")
