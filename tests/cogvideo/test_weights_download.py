"""Downloads against a server on this machine: whole, interrupted, refused, changed, too slow, on a full disk."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from cogvideo.errors import MissingPrerequisite, UserError
from cogvideo.weights import Patience, WeightEntry, WeightStore

BODY = hashlib.shake_256(b"weights").digest(300_000)
SHA256 = hashlib.sha256(BODY).hexdigest()
QUICK = Patience(timeout_s=5, attempts=3, pause_s=0.001)
NAME = "i3d-example"


class Server(ThreadingHTTPServer):
    """Serves `body` at every path, as told by the attributes, and keeps the headers of every request."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.body = BODY
        self.etag = '"one"'
        self.has_ranges = True
        self.has_length = True
        self.cut_at: list[int] = []  # after how many bytes of the file each of the next answers breaks off
        self.statuses: list[int] = []  # errors that the next requests get
        self.content_type = "application/octet-stream"
        self.redirect = ""
        self.delay_s = 0.0
        self.stall_at: int | None = None  # after how many bytes the answer waits for `stall`
        self.stall = threading.Event()
        self.requests: list[dict[str, str]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/file.pt"

    @property
    def ranges(self) -> list[str | None]:
        return [request.get("range") for request in self.requests]

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is part of the tests."""


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        told = self.server
        told.requests.append({key.lower(): value for key, value in self.headers.items()})
        if told.redirect:
            self.send_response(302)
            self.send_header("Location", told.redirect)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if told.statuses:
            self.send_error(told.statuses.pop(0))
            return
        time.sleep(told.delay_s)
        first, asked = 0, self.headers.get("Range")
        same = self.headers.get("If-Range") in (None, told.etag)
        if asked and told.has_ranges and same:
            first = int(asked.removeprefix("bytes=").removesuffix("-"))
            if first >= len(told.body):
                self.send_error(416)
                return
        self.send_response(206 if first else 200)
        if first:
            self.send_header("Content-Range", f"bytes {first}-{len(told.body) - 1}/{len(told.body)}")
        if told.has_length:
            self.send_header("Content-Length", str(len(told.body) - first))
        if told.etag:
            self.send_header("ETag", told.etag)
        self.send_header("Content-Type", told.content_type)
        self.end_headers()
        end = told.cut_at.pop(0) if told.cut_at else len(told.body)
        if told.stall_at is not None:
            self.wfile.write(told.body[first : told.stall_at])
            told.stall.wait(30)
            first = told.stall_at
        self.wfile.write(told.body[first:end])

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name of the base class
        """Silence."""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


Open = Callable[..., WeightStore]


@pytest.fixture
def open_store(server: Server, tmp_path: Path) -> Open:
    def make(sha256: str = "", patience: Patience = QUICK, **settings: object) -> WeightStore:
        entry = WeightEntry(NAME, "file.pt", "pickle", url=server.url, sha256=sha256, licence="MIT")
        return WeightStore({NAME: entry}, home=tmp_path / "home", patience=patience, **settings)  # type: ignore[arg-type]

    return make


def left_over(store: WeightStore) -> set[str]:
    """What lies in the folder of the weights, locks aside."""
    folder = store.folder(NAME)
    return {path.name for path in folder.iterdir() if path.name != ".lock"} if folder.exists() else set()


def test_a_whole_download_is_handed_out_pinned_and_not_fetched_twice(server: Server, open_store: Open) -> None:
    store, seen = open_store(), []
    file = store.fetch(NAME, lambda done, total: seen.append((done, total)))
    assert file.path.read_bytes() == BODY
    assert (file.sha256, file.origin, file.is_verified, file.licence) == (SHA256, "fetched", False, "MIT")
    assert left_over(store) == {"file.pt", "pin.json"}
    assert seen[0] == (0, len(BODY))
    assert seen[-1] == (len(BODY), len(BODY))
    assert seen == sorted(seen)
    pin = json.loads((store.folder(NAME) / "pin.json").read_text())
    assert (pin["sha256"], pin["size"], pin["url"]) == (SHA256, len(BODY), server.url)
    assert store.fetch(NAME) == file == store.get(NAME)
    assert len(server.requests) == 1


def test_a_public_hash_that_is_met_makes_the_file_verified(open_store: Open) -> None:
    assert open_store(SHA256).fetch(NAME).is_verified


def test_an_answer_without_length_is_taken_to_its_end(server: Server, open_store: Open) -> None:
    server.has_length = False
    assert open_store().fetch(NAME).path.read_bytes() == BODY


def test_an_interrupted_download_goes_on_where_it_stopped(server: Server, open_store: Open) -> None:
    server.cut_at = [100_000]
    store = open_store(patience=Patience(timeout_s=5, attempts=1))
    with pytest.raises(MissingPrerequisite, match=r"ended at 100,000 of 300,000 bytes; 100,000 bytes are kept"):
        store.fetch(NAME)
    assert left_over(store) == {"file.pt.part", "file.pt.part.json"}
    assert store.status(NAME).state == "partial"
    with pytest.raises(MissingPrerequisite, match="100,000 bytes are here already"):
        store.get(NAME)
    assert open_store().fetch(NAME).path.read_bytes() == BODY
    assert server.ranges == [None, "bytes=100000-"]
    assert server.requests[1]["if-range"] == '"one"'
    assert left_over(store) == {"file.pt", "pin.json"}


def test_breaks_in_one_call_are_resumed_as_long_as_there_is_progress(server: Server, open_store: Open) -> None:
    server.cut_at = [50_000, 100_000, 150_000, 200_000, 250_000]
    assert open_store().fetch(NAME).path.read_bytes() == BODY
    assert server.ranges == [None, *(f"bytes={n}000-" for n in (50, 100, 150, 200, 250))]


def test_a_server_that_never_gets_further_is_given_up(server: Server, open_store: Open) -> None:
    server.cut_at = [50_000] * 100
    with pytest.raises(MissingPrerequisite, match="50,000 bytes are kept"):
        open_store().fetch(NAME)
    assert len(server.requests) == QUICK.attempts


def test_without_ranges_the_download_starts_again(server: Server, open_store: Open) -> None:
    server.has_ranges = False
    server.cut_at = [100_000]
    assert open_store().fetch(NAME).path.read_bytes() == BODY
    assert server.ranges == [None, "bytes=100000-"]


def test_without_etag_only_a_known_hash_allows_to_resume(server: Server, open_store: Open) -> None:
    server.etag = ""
    server.cut_at = [100_000]
    assert open_store().fetch(NAME).path.read_bytes() == BODY
    assert server.ranges == [None, None]
    server.requests.clear()
    server.cut_at = [100_000]
    (open_store().folder(NAME) / "file.pt").unlink()
    assert open_store(SHA256).fetch(NAME).path.read_bytes() == BODY
    assert server.ranges == [None, "bytes=100000-"]


@pytest.mark.parametrize("respects_if_range", [True, False])
def test_another_version_on_the_server_is_not_glued_to_the_first(
    server: Server, open_store: Open, monkeypatch: pytest.MonkeyPatch, respects_if_range: bool
) -> None:
    server.cut_at = [100_000]
    with pytest.raises(MissingPrerequisite):
        open_store(patience=Patience(timeout_s=5, attempts=1)).fetch(NAME)
    server.body, server.etag = BODY[::-1], '"two"'
    if not respects_if_range:
        real = Handler.do_GET

        def careless(handler: Handler) -> None:
            del handler.headers["If-Range"]
            real(handler)

        monkeypatch.setattr(Handler, "do_GET", careless)
    assert open_store().fetch(NAME).path.read_bytes() == BODY[::-1]


def test_a_whole_part_whose_process_was_killed_needs_no_request(server: Server, open_store: Open) -> None:
    store = open_store()
    folder = store.folder(NAME)
    folder.mkdir(parents=True)
    (folder / "file.pt.part").write_bytes(BODY)
    noted = {"url": server.url, "etag": '"one"', "last_modified": "", "size": len(BODY)}
    (folder / "file.pt.part.json").write_text(json.dumps(noted))
    assert store.fetch(NAME).sha256 == SHA256
    assert server.requests == []


@pytest.mark.parametrize("noted", ["", "{", "[]", '{"url": 1}', '{"url": "URL", "etag": "", "last_modified": ""}'])
def test_a_part_of_unknown_origin_is_not_trusted(server: Server, open_store: Open, noted: str) -> None:
    store = open_store()
    folder = store.folder(NAME)
    folder.mkdir(parents=True)
    (folder / "file.pt.part").write_bytes(b"x" * 1000)
    (folder / "file.pt.part.json").write_text(noted.replace("URL", server.url))
    assert store.fetch(NAME).sha256 == SHA256
    assert server.ranges == [None]


def test_a_wrong_hash_is_refused_with_both_and_leaves_nothing(open_store: Open) -> None:
    store = open_store("0" * 64)
    with pytest.raises(UserError) as caught:
        store.fetch(NAME)
    assert caught.value.exit_code == 2
    assert f"has sha256 {SHA256}, published is {'0' * 64}; it was removed" in str(caught.value)
    assert left_over(store) == set()
    assert store.status(NAME).state == "absent"


def test_other_bytes_than_those_pinned_are_refused_until_repinned(server: Server, open_store: Open) -> None:
    store = open_store()
    store.fetch(NAME).path.unlink()
    server.body, server.etag = b"other" * 1000, '"two"'
    with pytest.raises(UserError, match=rf"pinned on .* is {SHA256}; if its owner changed it, .*--repin"):
        store.fetch(NAME)
    assert left_over(store) == {"pin.json"}
    assert store.fetch(NAME, is_repinned=True).path.read_bytes() == server.body
    assert store.get(NAME).sha256 == hashlib.sha256(server.body).hexdigest()


def test_a_failed_repin_keeps_the_old_file(server: Server, open_store: Open) -> None:
    store = open_store()
    before = store.fetch(NAME)
    server.statuses = [404]
    with pytest.raises(MissingPrerequisite):
        store.fetch(NAME, is_repinned=True)
    assert store.get(NAME) == before


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_an_answer_that_means_no_is_not_asked_again(server: Server, open_store: Open, status: int) -> None:
    server.statuses = [status] * 9
    store = open_store()
    with pytest.raises(MissingPrerequisite) as caught:
        store.fetch(NAME)
    assert caught.value.exit_code == 3
    assert f"cannot fetch {NAME}: {server.url} answered {status}" in str(caught.value)
    assert f"cogeval weights add {NAME} FILE" in str(caught.value)
    assert len(server.requests) == 1
    assert left_over(store) == set()


def test_an_answer_that_means_later_is_asked_again(server: Server, open_store: Open) -> None:
    server.statuses = [503, 429]
    assert open_store().fetch(NAME).sha256 == SHA256
    assert len(server.requests) == 3


def test_a_refused_range_starts_again(server: Server, open_store: Open) -> None:
    server.cut_at = [100_000]
    server.has_ranges = True
    with pytest.raises(MissingPrerequisite):
        open_store(patience=Patience(timeout_s=5, attempts=1)).fetch(NAME)
    server.statuses = [416]
    assert open_store().fetch(NAME).sha256 == SHA256
    assert server.ranges == [None, "bytes=100000-", None]


def test_a_silent_server_is_left_after_the_time_out(server: Server, open_store: Open) -> None:
    server.delay_s = 0.5
    store = open_store(patience=Patience(timeout_s=0.05, attempts=2, pause_s=0.001))
    with pytest.raises(MissingPrerequisite, match=r"no answer within 0\.05 s"):
        store.fetch(NAME)
    assert left_over(store) == set()


def test_nobody_listening_is_one_line(server: Server, open_store: Open) -> None:
    store = open_store(patience=Patience(timeout_s=1, attempts=1))
    with pytest.raises(MissingPrerequisite, match="the connection was refused"):
        store.fetch(NAME, url="http://127.0.0.1:9/file.pt")


@pytest.mark.parametrize("is_labelled", [True, False])
def test_a_web_page_is_not_pinned_as_weights(server: Server, open_store: Open, is_labelled: bool) -> None:
    server.body = b"\n<!DOCTYPE html><html>please log in</html>"
    server.content_type = "text/html; charset=utf-8" if is_labelled else "application/octet-stream"
    store = open_store()
    with pytest.raises(UserError, match="web page"):
        store.fetch(NAME)
    assert left_over(store) == set()


@pytest.mark.parametrize("address", ["http://example.org/x", "file:///etc/passwd", "ftp://example.org/x", "nonsense"])
def test_only_https_is_asked(server: Server, open_store: Open, address: str) -> None:
    with pytest.raises(UserError, match="https address"):
        open_store().fetch(NAME, url=address)
    server.redirect = address if "://" in address else "http://example.org/"
    with pytest.raises(MissingPrerequisite, match=r"not an https address|answered 302"):
        open_store().fetch(NAME)
    assert len(server.requests) == 1


def test_redirects_are_followed(server: Server, open_store: Open) -> None:
    with Server() as front:
        thread = threading.Thread(target=front.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        front.redirect = server.url
        assert open_store().fetch(NAME, url=front.url).sha256 == SHA256
        front.shutdown()
        thread.join()
    assert len(server.requests) == 1


def test_a_mirror_is_named_by_an_environment_variable(
    server: Server, open_store: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirror = server.url.replace("file.pt", "mirror.pt")
    monkeypatch.setenv("COGEVAL_WEIGHTS_URL_I3D_EXAMPLE", mirror)
    store = open_store("1" * 64)
    with pytest.raises(UserError, match=rf"from {mirror} has sha256 {SHA256}, published is 1111"):
        store.fetch(NAME)


@pytest.mark.parametrize("by", ["argument", "environment"])
def test_offline_asks_nobody(server: Server, open_store: Open, monkeypatch: pytest.MonkeyPatch, by: str) -> None:
    if by == "environment":
        monkeypatch.setenv("COGEVAL_OFFLINE", "1")
    store = open_store(offline=True if by == "argument" else None)
    with pytest.raises(MissingPrerequisite) as caught:
        store.fetch(NAME)
    assert caught.value.exit_code == 3
    assert "offline mode forbids fetching it" in str(caught.value)
    assert server.url in str(caught.value)
    assert server.requests == []
    assert left_over(store) == set()
    monkeypatch.delenv("COGEVAL_OFFLINE", raising=False)
    file = open_store(offline=False).fetch(NAME)
    assert store.fetch(NAME) == file  # what is here needs no network


def test_too_little_space_is_seen_before_the_first_byte(
    server: Server, open_store: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 1000})())
    store = open_store()
    with pytest.raises(UserError, match="too full: 300,000 bytes are needed, 1,000 are free") as caught:
        store.fetch(NAME)
    assert caught.value.exit_code == 2
    assert left_over(store) == set()


FILLED = """
import resource, sys
from pathlib import Path
from cogvideo.errors import UserError
from cogvideo.weights import WeightEntry, WeightStore

resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
entry = WeightEntry("i3d-example", "file.pt", "pickle", url=sys.argv[1])
try:
    WeightStore({entry.name: entry}, home=Path(sys.argv[2])).fetch(entry.name)
except UserError as error:
    print(error)
    sys.exit(error.exit_code)
"""


def test_a_disk_that_fills_up_leaves_nothing_half_written(server: Server, open_store: Open, tmp_path: Path) -> None:
    command = [sys.executable, "-c", FILLED, server.url, str(tmp_path / "home")]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 2, ended.stderr
    assert ended.stdout.startswith("cannot fetch i3d-example: the disk is full: free space in ")
    assert ended.stdout.count("\n") == 1
    assert left_over(open_store()) == set()


SHARED = """
import sys
from pathlib import Path
from cogvideo.weights import WeightEntry, WeightStore

entry, lines = WeightEntry("i3d-example", "file.pt", "pickle", url=sys.argv[1]), []
file = WeightStore({entry.name: entry}, home=Path(sys.argv[2]), notify=lines.append).fetch(entry.name)
print(file.sha256, lines)
"""


def test_two_processes_share_one_download(server: Server, open_store: Open, tmp_path: Path) -> None:
    server.stall_at = 100_000
    command = [sys.executable, "-u", "-c", SHARED.replace("lines.append", "lambda line: print(line, flush=True)")]
    command += [server.url, str(tmp_path / "home")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as first:
        wait_for(lambda: left_over(open_store()) >= {"file.pt.part"})
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as second:
            assert second.stdout is not None
            assert second.stdout.readline() == f"another process is fetching {NAME}; waiting for it\n"
            server.stall.set()
            assert second.communicate(timeout=30)[0] == first.communicate(timeout=30)[0] == f"{SHA256} []\n"
    assert len(server.requests) == 1
    assert open_store().get(NAME).path.read_bytes() == BODY


def test_a_killed_download_holds_no_lock_and_is_resumed(server: Server, open_store: Open, tmp_path: Path) -> None:
    server.stall_at = 100_000
    store = open_store()
    command = [sys.executable, "-c", SHARED, server.url, str(tmp_path / "home")]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        wait_for(lambda: store.status(NAME).size_bytes == 100_000)
        process.kill()
    server.stall_at = None
    server.stall.set()
    assert store.status(NAME).state == "partial"
    assert store.fetch(NAME).path.read_bytes() == BODY
    assert server.ranges == [None, "bytes=100000-"]


def wait_for(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not is_so():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)
