"""The load run of the documentation, small: every row is there, nobody is refused, the database is never locked."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_two_processes_of_raters_lose_nothing_and_lock_nothing(
    repository: Path, request: pytest.FixtureRequest, kind: str
) -> None:
    """How fast it is stands in docs/human_study.md; a test only counts."""
    words = [sys.executable, str(repository / "benchmarks" / "human_load.py"), "--raters", "12", "--trials", "5"]
    if kind == "postgres":
        words += ["--database", request.getfixturevalue("postgres_url")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(repository), *filter(None, sys.path)])}
    done = subprocess.run(words, capture_output=True, text=True, timeout=300, env=environment)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert "failed 0, complete 12, rows 60 of 60" in said
    assert re.search(r"12 raters x 5 trials: [\d,]+ requests", said)
    assert "locked" not in said.lower()
    assert "Traceback" not in said
