"""A server of its own is sent what is too much, and keeps its memory; killed, it is soon there again."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import time
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import pytest

from human_eval.app.entrance import check_number
from human_eval.running import open_running
from human_eval.simulate.forms import read_page

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory of a process is read from /proc"),
]
MOST_GROWTH_MB = 50
SLOW_SOCKETS = 200


class Visitor:
    """Somebody at the server of a study, one connection for each request."""

    def __init__(self, server, folder: Path) -> None:
        self.server, self.running, self.cookie = server, open_running(folder), ""
        self.host = urlsplit(server.address).netloc

    def ask(self, method: str, path: str, body=None, **headers: str) -> tuple[int, str, bytes]:
        connection = http.client.HTTPConnection(self.host, timeout=60)
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        headers.setdefault("content-type", "application/x-www-form-urlencoded")
        try:
            connection.request(method, path, body, {"cookie": self.cookie} | headers)
            reply = connection.getresponse()
            for header in reply.headers.get_all("set-cookie") or []:
                self.cookie = header.partition(";")[0]
            return reply.status, reply.headers.get("location", ""), reply.read()
        finally:
            connection.close()

    def enter(self) -> tuple[str, str]:
        """To the first page; its path and the address of a video on it."""
        form = read_page(self.ask("GET", "/")[2].decode())[0][0]
        given = form.values | dict.fromkeys(form.boxes, "1") | {"decision": "yes"}
        self.ask("POST", "/consent", urlencode(given))
        form = read_page(self.ask("GET", "/check")[2].decode())[0][0]
        self.ask("POST", "/check", urlencode(form.values | {"number": str(check_number(self.running, 0))}))
        _, path, _ = self.ask("GET", "/now")
        return path, read_page(self.ask("GET", path)[2].decode())[1][0]

    def memory_mb(self, name: str = "VmRSS") -> float:
        """What the server holds in memory now, or (VmHWM) the most since `forget_the_most`."""
        lines = Path(f"/proc/{self.server.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:")) / 1024

    def forget_the_most(self) -> None:
        Path(f"/proc/{self.server.process.pid}/clear_refs").write_text("5")


def sent_until_refused(host: str, head: bytes, piece: bytes, pieces: int) -> tuple[bytes, int]:
    """The start of the answer, and how many bytes the server took before it hung up."""
    with socket.create_connection(host.split(":"), timeout=60) as wire:
        wire.sendall(head)
        answer, taken = b"", 0
        with contextlib.suppress(OSError):
            for k in range(pieces):
                wire.sendall(piece)
                taken += len(piece)
                if k == 1:
                    answer = wire.recv(1000)
        return answer, taken


@pytest.fixture
def visitor(serve_process, study_folder: Path) -> Visitor:
    return Visitor(serve_process(study_folder), study_folder)


def test_what_is_too_much_is_refused_and_takes_no_memory(visitor: Visitor) -> None:
    path, video = visitor.enter()
    for _ in range(20):
        visitor.ask("GET", path)
    visitor.forget_the_most()
    before = visitor.memory_mb()
    head = f"POST {path} HTTP/1.1\r\nhost: {visitor.host}\r\ncookie: {visitor.cookie}\r\n"

    # 100 MB that say so, and 100 MB that come in pieces without a word about how many.
    named = (head + "content-length: 104857600\r\n\r\n").encode()
    reply, _ = sent_until_refused(visitor.host, named, b"x" * 10_000, 10_500)
    assert reply.startswith(b"HTTP/1.1 413")
    chunk = b"8001\r\n" + b"x" * 0x8001 + b"\r\n"
    reply, taken = sent_until_refused(visitor.host, (head + "transfer-encoding: chunked\r\n\r\n").encode(), chunk, 3200)
    assert reply.startswith(b"HTTP/1.1 413")

    fields = "&".join(f"f{k}=1" for k in range(10_000))
    assert visitor.ask("POST", path, fields)[0] in (400, 413)
    short = "&".join(["a="] * 10_000)
    assert visitor.ask("POST", path, short)[0] == 400
    parts = "bytes=" + ",".join(["0-1"] * 10)
    assert visitor.ask("GET", video, range=parts)[0] == 200
    # A header of a million parts is more than a header may be: the connection ends before the application sees it.
    with contextlib.suppress(OSError):
        assert visitor.ask("GET", video, range="bytes=" + ",".join(["0-1"] * 10**6))[0] in (400, 431)
    most = visitor.memory_mb("VmHWM")
    print(f"memory {before:.0f} MB, at most {most - before:+.1f} MB; {taken / 2**20:.1f} MB were taken in pieces")
    assert most - before < MOST_GROWTH_MB
    assert visitor.ask("GET", path)[0] == 200


def test_two_hundred_slow_senders_hold_nobody_up(visitor: Visitor) -> None:
    path, _ = visitor.enter()
    before = visitor.memory_mb()
    head = f"POST {path} HTTP/1.1\r\nhost: {visitor.host}\r\ncontent-length: 60000\r\n\r\n".encode()
    wires = [socket.create_connection(visitor.host.split(":"), timeout=60) for _ in range(SLOW_SOCKETS)]
    try:
        for wire in wires:
            wire.sendall(head)
        seconds = []
        for _ in range(5):
            for wire in wires:
                wire.sendall(b"x")
            for _ in range(5):
                begun = time.monotonic()
                assert visitor.ask("GET", path)[0] == 200
                seconds.append(time.monotonic() - begun)
            time.sleep(0.5)
        growth = visitor.memory_mb() - before
        print(f"slowest honest request {max(seconds):.2f} s, memory {growth:+.1f} MB")
        assert growth < MOST_GROWTH_MB
        # They are given up, each with a word.
        answers = [wire.recv(1000) for wire in wires]
        assert {answer.split()[1] for answer in answers} == {b"408"}
    finally:
        for wire in wires:
            wire.close()


def test_a_killed_server_is_soon_there_again(serve_process, study_folder: Path) -> None:
    first = serve_process(study_folder)
    visitor = Visitor(first, study_folder)
    path, _ = visitor.enter()
    first.stop(signal.SIGKILL)
    begun = time.monotonic()
    visitor.server = serve_process(study_folder, "--port", str(urlsplit(first.address).port))
    took = time.monotonic() - begun
    fields = Path(f"/proc/{visitor.server.process.pid}/stat").read_text().rpartition(")")[2].split()
    work = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    print(f"there after {took:.1f} s, {work:.1f} s of them work")
    assert visitor.ask("GET", path)[0] == 200
    # Work, not time: on a machine that does other things as well the time says nothing.
    assert work < 3
