"""The server is killed again and again while fifty raters save: what was acknowledged is there afterwards."""

from __future__ import annotations

import http.client
import json
import random
import signal
import sqlite3
import threading
import time
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import pytest

from human_eval.app.entrance import check_number
from human_eval.running import open_running
from human_eval.simulate.forms import read_page

WRITERS, KILLS = 50, 20


class Writer:
    """A rater who saves one more answer for ever, and remembers what was acknowledged."""

    def __init__(self, address: str, name: str) -> None:
        self.address, self.name = urlsplit(address).netloc, name
        self.cookie, self.form, self.acknowledged = "", None, 0

    def request(self, method: str, path: str, values: dict[str, str] | None = None, accept: str = "text/html"):
        connection = http.client.HTTPConnection(self.address, timeout=10)
        headers = {"accept": accept, "content-type": "application/x-www-form-urlencoded"}
        if self.cookie:
            headers["cookie"] = self.cookie
        try:
            connection.request(method, path, urlencode(values or {}) if method == "POST" else None, headers)
            reply = connection.getresponse()
            body = reply.read().decode()
            for header in reply.headers.get_all("set-cookie") or []:
                self.cookie = header.partition(";")[0]
            return reply.status, reply.headers.get("location", ""), body
        finally:
            connection.close()

    def enter(self, running, ordinal_of) -> None:
        _, _, body = self.request("GET", f"/?rater={self.name}")
        form = read_page(body)[0][0]
        values = form.values | dict.fromkeys(form.boxes, "1") | {"decision": "yes"}
        assert self.request("POST", "/consent", values)[0] == 303
        _, _, body = self.request("GET", "/check")
        form = read_page(body)[0][0]
        number = str(check_number(running, ordinal_of(self.name)))
        assert self.request("POST", "/check", form.values | {"number": number})[0] == 303
        _, where, _ = self.request("GET", "/now")
        _, _, body = self.request("GET", where)
        self.form = read_page(body)[0][0]

    def save(self, k: int) -> None:
        base = {name: self.form.values[name] for name in ("form", "page", "base")}
        value = str(1 + k % 5)
        status, _, body = self.request(
            "POST", self.form.action, base | {"seq": str(k), "v1.texture": value}, accept="application/json"
        )
        if status == 200:
            assert json.loads(body)["answers"]["v1.texture"] == value
            self.acknowledged = k


@pytest.mark.slow
def test_nothing_acknowledged_is_lost_to_kills(serve_process, study_folder: Path) -> None:
    running = open_running(study_folder)
    server = serve_process(study_folder)
    port = str(urlsplit(server.address).port)

    def ordinal_of(name: str) -> int:
        with sqlite3.connect(study_folder / "study.db") as connection:
            found = connection.execute(
                "SELECT ordinal FROM enrolment JOIN rater ON rater.id = rater_id WHERE outside_hash = ?",
                (running.outside_hash("link", name),),
            ).fetchone()[0]
        connection.close()
        return found

    writers = [Writer(server.address, f"w{k}") for k in range(WRITERS)]
    for writer in writers:
        writer.enter(running, ordinal_of)
    stop = threading.Event()

    def work(writer: Writer) -> None:
        k = 0
        while not stop.is_set():
            k += 1
            try:
                writer.save(k)
            except (OSError, http.client.HTTPException):
                time.sleep(0.05)

    threads = [threading.Thread(target=work, args=(writer,)) for writer in writers]
    for thread in threads:
        thread.start()
    lots, slowest = random.Random(1), 0.0
    try:
        for _ in range(KILLS):
            time.sleep(lots.uniform(0.2, 0.6))
            server.stop(signal.SIGKILL)
            begun = time.monotonic()
            server = serve_process(study_folder, "--port", port)
            slowest = max(slowest, time.monotonic() - begun)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    server.stop()
    with sqlite3.connect(study_folder / "study.db") as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        stored = dict(
            connection.execute(
                "SELECT outside_hash, max(seq) FROM submission JOIN trial ON trial.id = trial_id "
                "JOIN enrolment ON enrolment.id = enrolment_id JOIN rater ON rater.id = rater_id GROUP BY outside_hash"
            )
        )
    connection.close()
    lost = [w.name for w in writers if w.acknowledged > stored.get(running.outside_hash("link", w.name), 0)]
    total = sum(writer.acknowledged for writer in writers)
    print(f"{total} saves of {WRITERS} writers, {KILLS} kills, lost: {len(lost)}; slowest start {slowest:.1f} s")
    assert lost == []
    assert total > WRITERS
