"""`cogeval weights`: the answer on stdout, progress on stderr, exit codes, and the line for each trouble."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

import cogeval
from eval.commands.weights import readable_size

BODY = b"\x80\x02" + bytes(range(256)) * 200
SHA256 = hashlib.sha256(BODY).hexdigest()
NAME = "i3d-tats"  # no public hash is known
PUBLIC = "cogview2-clusters"  # one with a public hash

Run = Callable[..., tuple[int, str, str]]


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name of the base class
        """Silence."""


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    """A server of the file `weights.pt` on this machine."""
    folder = tmp_path / "served"
    folder.mkdir()
    (folder / "weights.pt").write_bytes(BODY)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=str(folder))) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/weights.pt"
        server.shutdown()
        thread.join()


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    monkeypatch.setenv("COGEVAL_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)

    def call(*arguments: str) -> tuple[int, str, str]:
        code = cogeval.main(["weights", *arguments])
        out, err = capsys.readouterr()
        return code, out, err

    return call


def one_line(err: str) -> str:
    assert err.startswith("error: "), err
    assert err.count("\n") == 1, err
    return err


def test_fetch_says_where_the_file_is_and_who_vouches_for_it(run: Run, url: str, tmp_path: Path) -> None:
    code, out, err = run("fetch", NAME, "--url", url)
    path = tmp_path / "home" / "weights" / NAME / "i3d_pretrained_400.pt"
    assert code == 0
    assert path.read_bytes() == BODY
    assert out.splitlines()[0] == f"{NAME}  {path}"
    assert f"sha256 {SHA256}, no published hash is known: pinned here" in out
    assert "fetching i3d-tats, 51.2 kB" in err
    code, out, err = run("fetch", NAME, "--quiet", "--offline", "--json")
    assert (code, err) == (0, "")
    assert json.loads(out)["weights"] == [
        {
            "name": NAME,
            "path": str(path),
            "sha256": SHA256,
            "origin": "fetched",
            "verified": False,
            "licence": "not stated",
        }
    ]


def test_a_terminal_gets_a_bar(run: Run, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    code, out, err = run("fetch", NAME, "--url", url)
    assert code == 0, err
    assert "━" * 28 in err
    assert "51.2/51.2 kB" in err
    assert "\x1b[" not in out


def test_list_tells_every_state(run: Run, url: str, tmp_path: Path) -> None:
    run("fetch", NAME, "--url", url)
    damaged = tmp_path / "home" / "weights" / PUBLIC / "cluster_label2.npy"
    damaged.parent.mkdir(parents=True)
    damaged.write_bytes(b"damaged")
    code, out, err = run("list", "--json")
    rows = {row["name"]: row for row in json.loads(out)["weights"]}
    assert (code, err) == (0, "")
    assert (rows[NAME]["state"], rows[NAME]["hash"], rows[NAME]["size_bytes"]) == ("present", "pinned", len(BODY))
    assert (rows[PUBLIC]["state"], rows[PUBLIC]["hash"]) == ("damaged", "wrong")
    assert (rows["inception-fid"]["state"], rows["inception-fid"]["hash"]) == ("absent", "known")
    assert (rows["c3d-tgan2"]["state"], rows["c3d-tgan2"]["hash"]) == ("absent", "unknown")
    assert rows["i3d-styleganv-torchscript"]["form"] == "torchscript"
    code, out, _ = run("list")
    assert code == 0
    for name, row in rows.items():
        line = next(line for line in out.splitlines() if line.startswith(name + " "))
        assert row["state"] in line
        assert row["hash"] in line
    assert str(tmp_path / "home") in out


def test_verify_hashes_again_and_names_what_changed(run: Run, url: str, tmp_path: Path) -> None:
    embedded = [row["name"] for row in json.loads(run("list", "--json")[1])["embedded"]]
    code, out, _ = run("verify", "--json")
    assert (code, [row["name"] for row in json.loads(out)["weights"]]) == (0, embedded)
    run("fetch", NAME, "--url", url)
    assert run("verify")[0] == run("verify", NAME)[0] == 0
    code, out, err = run("verify", PUBLIC)
    assert (code, out) == (3, "")
    assert f"run `cogeval weights fetch {PUBLIC}` (https://github.com/THUDM/" in one_line(err)
    path = tmp_path / "home" / "weights" / NAME / "i3d_pretrained_400.pt"
    path.write_bytes(BODY[::-1])
    code, out, err = run("verify")
    assert (code, out) == (2, "")
    assert f"{path} has sha256" in one_line(err)


def test_add_copies_a_file(run: Run, tmp_path: Path) -> None:
    mine = tmp_path / "mine.pt"
    mine.write_bytes(BODY)
    assert run("add", NAME, str(mine))[0] == 0
    assert json.loads(run("verify", "--json")[1])["weights"][0]["origin"] == "added"
    code, _, err = run("add", PUBLIC, str(mine))
    assert code == 2
    assert f"has sha256 {SHA256}, published is b87880fd" in one_line(err)
    assert not (tmp_path / "home" / "weights" / PUBLIC / "cluster_label2.npy").exists()
    code, _, err = run("add", NAME, str(tmp_path / "nothing"))
    assert code == 2
    assert "expected a file" in one_line(err)


@pytest.mark.parametrize(
    ("arguments", "code", "line"),
    [
        (["fetch", "i3d-tat"], 2, "unknown weights 'i3d-tat'; did you mean i3d-tats"),
        (["add", "zzz", "x"], 2, "`cogeval weights list` shows all names"),
        (["verify", "c3d-tgan"], 2, "did you mean c3d-tgan2"),
        (["fetch"], 2, "Missing argument"),
        (["fetch", NAME, PUBLIC, "--url", "https://x.org/a"], 2, "--url gives the address of one file; 2 names came"),
        (["fetch", NAME, "--url", "http://example.org/a"], 2, "expected an https address, got http://example.org/a"),
        (["fetch", NAME, "--offline"], 3, "offline mode forbids fetching it: get https://github.com/songweige/TATS"),
        (["fetch", NAME, PUBLIC, "--offline"], 3, "2 of 2 failed: i3d-tats is not here and offline mode"),
        (["fetch", NAME, "--attempts", "1", "--url", "http://127.0.0.1:9/a"], 3, "the connection was refused"),
    ],
)
def test_trouble_is_one_line_with_its_exit_code(run: Run, arguments: list[str], code: int, line: str) -> None:
    found, out, err = run(*arguments)
    assert (found, out) == (code, "")
    assert line in one_line(err)


def test_a_page_that_is_gone_is_exit_3_and_leaves_nothing(run: Run, url: str, tmp_path: Path) -> None:
    code, out, err = run("fetch", NAME, "--url", url + "x", "--quiet")
    assert (code, out) == (3, "")
    assert f"{url}x answered 404 File not found" in one_line(err)
    assert [path.name for path in (tmp_path / "home" / "weights" / NAME).iterdir()] == [".lock"]


def test_a_mirror_with_other_bytes_is_exit_2_and_leaves_nothing(
    run: Run, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COGEVAL_WEIGHTS_URL_COGVIEW2_CLUSTERS", url)
    code, out, err = run("fetch", PUBLIC, "--quiet")
    assert (code, out) == (2, "")
    assert "published is b87880fd" in one_line(err)
    assert [path.name for path in (tmp_path / "home" / "weights" / PUBLIC).iterdir()] == [".lock"]


def test_the_environment_forbids_the_network_too(run: Run, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COGEVAL_OFFLINE", "1")
    code, _, err = run("fetch", NAME, "--url", url)
    assert code == 3
    assert "offline mode" in one_line(err)


@pytest.mark.parametrize(
    ("size", "words"),
    [(None, ""), (0, "0 B"), (999, "999 B"), (160128, "160.1 kB"), (51235320, "51.2 MB"), (2023804201, "2.0 GB")],
)
def test_sizes_are_readable(size: int | None, words: str) -> None:
    assert readable_size(size) == words
