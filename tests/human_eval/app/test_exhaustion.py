"""A server of its own is sent what is too much, and keeps its memory; killed, it is soon there again."""

from __future__ import annotations

import contextlib
import signal
import socket
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory of a process is read from /proc"),
]
MOST_GROWTH_MB = 50
SLOW_SOCKETS = 200


def memory_mb(server, name: str = "VmRSS") -> float:
    """What a server holds in memory now, or (VmHWM) the most since `forget_the_most`."""
    lines = Path(f"/proc/{server.process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:")) / 1024


def forget_the_most(server) -> None:
    Path(f"/proc/{server.process.pid}/clear_refs").write_text("5")


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
        # A server that is quick hangs up before the second piece; what it said then waits to be read.
        with contextlib.suppress(OSError):
            answer = answer or wire.recv(1000)
        return answer, taken


@pytest.fixture
def visitor(serve_process, study_folder: Path, make_visitor):
    return make_visitor(serve_process(study_folder), study_folder)


def test_what_is_too_much_is_refused_and_takes_no_memory(visitor) -> None:
    path, video = visitor.enter()
    for _ in range(20):
        visitor.ask("GET", path)
    forget_the_most(visitor.server)
    before = memory_mb(visitor.server)
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
    most = memory_mb(visitor.server, "VmHWM")
    print(f"memory {before:.0f} MB, at most {most - before:+.1f} MB; {taken / 2**20:.1f} MB were taken in pieces")
    assert most - before < MOST_GROWTH_MB
    assert visitor.ask("GET", path)[0] == 200


def test_two_hundred_slow_senders_hold_nobody_up(visitor) -> None:
    path, _ = visitor.enter()
    before = memory_mb(visitor.server)
    head = f"POST {path} HTTP/1.1\r\nhost: {visitor.host}\r\ncontent-length: 60000\r\n\r\n".encode()
    wires = [socket.create_connection(visitor.host.split(":"), timeout=60) for _ in range(SLOW_SOCKETS)]
    try:
        for wire in wires:
            wire.sendall(head)
        seconds = []
        for _ in range(5):
            for wire in wires:
                wire.sendall(b"x")
            for _ in range(20):
                begun = time.monotonic()
                assert visitor.ask("GET", path)[0] == 200
                seconds.append(time.monotonic() - begun)
            time.sleep(0.5)
        growth = memory_mb(visitor.server) - before
        p99 = sorted(seconds)[98]
        print(f"99 of 100 honest requests within {p99:.2f} s, slowest {max(seconds):.2f} s, memory {growth:+.1f} MB")
        assert p99 < 2
        assert growth < MOST_GROWTH_MB
        # They are given up, each with a word.
        answers = [wire.recv(1000) for wire in wires]
        assert {answer.split()[1] for answer in answers} == {b"408"}
    finally:
        for wire in wires:
            wire.close()


def test_a_killed_server_is_soon_there_again(visitor, serve_process, study_folder: Path) -> None:
    first = visitor.server
    path, _ = visitor.enter()
    first.stop(signal.SIGKILL)
    begun = time.monotonic()
    visitor.server = serve_process(study_folder, "--port", str(urlsplit(first.address).port))
    took = time.monotonic() - begun
    # The second figure of schedstat: how long it stood in the queue of a machine that does other things as well.
    waited = int(Path(f"/proc/{visitor.server.process.pid}/schedstat").read_text().split()[1]) / 1e9
    print(f"there after {took:.1f} s, {waited:.1f} s of them without a processor")
    assert visitor.ask("GET", path)[0] == 200
    assert took - waited < 3
