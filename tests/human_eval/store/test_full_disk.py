"""A real disk of 1 MB that runs full under a server, and has room again."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest

from human_eval.simulate.forms import read_page

pytestmark = pytest.mark.slow
BALLAST = 300_000


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A tmpfs of 1 MB."""
    folder = tmp_path / "small"
    folder.mkdir()
    if os.name != "posix" or os.getuid() != 0:
        pytest.skip("a disk of 1 MB is mounted by root only")
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"a disk of 1 MB cannot be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_full_disk_acknowledges_nothing_that_is_lost_and_goes_on_after(
    small_disk: Path, serve_process, study_folder: Path, make_visitor
) -> None:
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(BALLAST))
    server = serve_process(study_folder, "--database", f"sqlite:///{small_disk}/study.db")
    visitor = make_visitor(server, study_folder)
    path, _ = visitor.enter()
    form = next(form for form in read_page(visitor.ask("GET", path)[2].decode())[0] if form.action == path)
    base = {name: form.values[name] for name in ("form", "page", "base")}
    acknowledged: dict[int, str] = {}

    def save(seq: int) -> int:
        value = str(1 + seq % 5)
        body = urlencode(base | {"seq": str(seq), "v1.texture": value})
        status, _, told = visitor.ask("POST", path, body, accept="application/json")
        if status == 200:
            assert json.loads(told)["answers"]["v1.texture"] == value
            acknowledged[seq] = value
        return status

    seq, refused = 0, 0
    while refused < 3:
        seq += 1
        assert seq < 20_000
        status = save(seq)
        assert status in (200, 503)
        refused = refused + 1 if status == 503 else 0
    before = len(acknowledged)
    assert before > 10
    # Nobody comes in meanwhile, and whoever asks is told when to come again.
    other = make_visitor(server, study_folder, ordinal=1)
    consent = read_page(other.ask("GET", "/")[2].decode())[0][0]
    given = urlencode(consent.values | dict.fromkeys(consent.boxes, "1") | {"decision": "yes"})
    assert other.ask("POST", "/consent", given)[0] == 503
    assert other.last_headers["retry-after"]
    ballast.unlink()
    assert [save(seq + k) for k in range(50)] == [200] * 50
    assert other.enter()[0].startswith("/t/")
    server.stop()
    with sqlite3.connect(small_disk / "study.db") as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        stored = dict(
            connection.execute(
                "SELECT submission.seq, answer.value FROM submission JOIN answer "
                "ON answer.trial_id = submission.trial_id AND answer.revision = submission.revision"
            )
        )
    connection.close()
    print(f"{before} saves acknowledged before the disk was full, {len(acknowledged) - before} after")
    assert stored == acknowledged
