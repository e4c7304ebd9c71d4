"""A run that was killed at any moment and started again gives the same result as one left alone.

So does another batch size and another number of workers: what differs is in the volatile parts alone.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from eval.records import read_result, read_samples, stable_view

COMMAND = [
    sys.executable,
    *("-m", "cogeval", "ucf101", "--generator", "shuffled", "--samples", "48", "--real-samples", "64"),
    *("--quiet", "--json"),
    *("--metric", "fvd", "--metric", "inception-score", "--metric", "clipsim", "--metric", "fid"),
]


def start(out: Path, home: Path, *flags: str, **kwargs) -> subprocess.Popen:
    environment = {**os.environ, "COGEVAL_HOME": str(home), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*COMMAND, "--out", str(out), *flags],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=out.parent,
        text=True,
        start_new_session=True,
        **kwargs,
    )


def finish(process: subprocess.Popen) -> Path:
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    return Path(json.loads(output)["runs"][0]["run"])


def kill(process: subprocess.Popen) -> None:
    """SIGKILL to the process and its decode workers."""
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


@pytest.fixture(scope="module")
def left_alone(tmp_path_factory):
    """A run of one go, with its folder and the seconds that it took."""
    place = tmp_path_factory.mktemp("alone")
    began = time.monotonic()
    run = finish(start(place / "runs", place / "home", "--batch-size", "8", "--workers", "1"))
    return run, time.monotonic() - began


@pytest.mark.slow
def test_killed_at_ten_random_moments(left_alone, tmp_path):
    alone, seconds = left_alone
    moments = random.Random(20)
    finished_before = 0
    kills = 0
    while kills < 10:
        process = start(tmp_path / "runs", tmp_path / "home", "--workers", "1")
        try:
            process.wait(timeout=moments.uniform(0.15, 1.0) * seconds)
        except subprocess.TimeoutExpired:
            kill(process)
            kills += 1
        else:
            # It got through between kills: begin the samples again, so that later kills hit something.
            for path in (tmp_path / "runs").rglob("result.json"):
                path.unlink()
            process.communicate()
        for run in (tmp_path / "runs" / "ucf101").glob("*"):
            found = len(read_samples(run))
            assert found >= finished_before, "a finished sample was lost"
            finished_before = found
    again = finish(start(tmp_path / "runs", tmp_path / "home", "--workers", "1"))
    assert again.name == alone.name
    assert stable_view(read_result(again)) == stable_view(read_result(alone))
    assert not list(again.rglob("*.tmp"))
    assert not (again / "spool").exists()


@pytest.mark.slow
@pytest.mark.parametrize(("batch_size", "workers"), [("1", "4"), ("48", "0")])
def test_batch_size_and_workers_change_nothing(left_alone, tmp_path, batch_size, workers):
    alone, _ = left_alone
    other = finish(start(tmp_path / "runs", tmp_path / "home", "--batch-size", batch_size, "--workers", workers))
    assert stable_view(read_result(other)) == stable_view(read_result(alone))
    assert {i: s.frames_sha256 for i, s in read_samples(other).items()} == {
        i: s.frames_sha256 for i, s in read_samples(alone).items()
    }


def test_another_seed_gives_other_samples_in_another_folder(left_alone, tmp_path):
    alone, _ = left_alone
    other = finish(start(tmp_path / "runs", alone.parents[2] / "home", "--seed", "1", "--workers", "0"))
    assert other.name != alone.name
    first, second = read_result(alone), read_result(other)
    assert first.fingerprint == second.fingerprint
    assert first.metrics[0].value != second.metrics[0].value
