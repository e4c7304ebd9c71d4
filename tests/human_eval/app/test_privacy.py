"""After a study nobody's address, browser or outside identity is in the database, the logs or the export."""

from __future__ import annotations

import base64
import contextlib
import http.client
import re
import sqlite3
import sys
from pathlib import Path
from urllib.parse import quote, urlencode

import pytest

from human_eval.app.entrance import check_number
from human_eval.exported import export_folder
from human_eval.running import open_running
from human_eval.simulate.forms import read_page

pytestmark = pytest.mark.slow
# Linux gives every address of 127/8 to this machine, so a rater's can be told from the server's own.
ADDRESS = "127.44.55.66"
FORWARDED = "203.0.113.77"
AGENT = "Netscape-Secret/9.87 (Plan9; Toaster)"
LANGUAGE = "en-x-klingonist;q=0.3"
REFERER = "http://panel.invalid/who-sent-me"
PEOPLE = {
    "PROLIFIC_PID=5f3c9a7e1b2d4c6e8f0a1b2c&STUDY_ID=64aa51bce07d&SESSION_ID=75bb62cdf18e": (
        "5f3c9a7e1b2d4c6e8f0a1b2c",
        "64aa51bce07d",
        "75bb62cdf18e",
    ),
    "workerId=A1B2C3D4E5WORKER&assignmentId=3ASSIGN8HIT9&hitId=3HIT7GROUP6": (
        "A1B2C3D4E5WORKER",
        "3ASSIGN8HIT9",
        "3HIT7GROUP6",
    ),
    "rater=" + quote("Ada.Lovelace@example.invalid"): ("Ada.Lovelace@example.invalid", "Lovelace"),
}


class Traveller:
    """A rater from an address of their own, whose browser tells everything that browsers tell."""

    def __init__(self, server, folder: Path, ordinal: int) -> None:
        self.server, self.running, self.ordinal, self.cookie = server, open_running(folder), ordinal, ""

    def go(self, method: str, path: str, values: dict[str, str] | None = None, **more: str) -> tuple[str, int, str]:
        """Path, status and text of the page that a request leads to."""
        host, port = self.server.address.removeprefix("http://").split(":")
        line = http.client.HTTPConnection(host, int(port), timeout=60, source_address=(ADDRESS, 0))
        told = {
            "user-agent": AGENT,
            "accept-language": LANGUAGE,
            "referer": REFERER,
            "x-forwarded-for": FORWARDED,
            "forwarded": f"for={FORWARDED}",
            "x-real-ip": FORWARDED,
            "cookie": self.cookie,
            "content-type": "application/x-www-form-urlencoded",
        }
        body = urlencode(values) if values is not None else None
        try:
            line.request(method, path, body, told | {name.replace("_", "-"): value for name, value in more.items()})
            reply = line.getresponse()
            text = reply.read().decode(errors="replace")
        finally:
            line.close()
        for header in reply.headers.get_all("set-cookie") or []:
            self.cookie = header.partition(";")[0]
        if reply.status == 303:
            return self.go("GET", reply.headers["location"])
        return path, reply.status, text

    def take_part(self, query: str) -> None:
        """From the panel's link to the code, with a remark and with what goes wrong on the way."""
        _, _, text = self.go("GET", f"/?{query}")
        form = read_page(text)[0][0]
        path, _, text = self.go("POST", "/consent", form.values | dict.fromkeys(form.boxes, "1") | {"decision": "yes"})
        assert path == "/check"
        number = str(check_number(self.running, self.ordinal))
        path, _, text = self.go("POST", "/check", read_page(text)[0][0].values | {"number": number})
        while path != "/done":
            if not path.startswith("/t/"):
                path, _, text = self.go("GET", "/now")
                continue
            form = next(form for form in read_page(text)[0] if form.action == path)
            chosen = {name: values[0] for name, values in form.radios.items()}
            self.go("POST", path, form.values | {"v1.texture": "99"})
            path, status, text = self.go("POST", path, form.values | chosen | {"finish": "1"})
            assert status == 200
        form = next(form for form in read_page(text)[0] if form.action == "/remark")
        self.go("POST", "/remark", form.values | {"words": "a remark"})
        for wrong in ("/nowhere", f"/?{query}", "/t/0123", "/admin", "/r/nobody", "/m/x/y.mp4"):
            self.go("GET", wrong)
        self.go("POST", "/remark", {"form": "forged"})
        self.go("POST", "/consent", {"words": "x" * 70_000})


def disguises(secret: str) -> set[bytes]:
    """A text as it may stand in a file."""
    plain = secret.encode()
    found = {plain, plain.lower(), quote(secret, safe="").encode(), base64.b64encode(plain), plain.hex().encode()}
    return found | {secret.encode("utf-16-le"), plain[::-1]}


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux gives a rater an address of 127/8 without asking")
def test_no_address_browser_or_outside_identity_is_left_of_a_study(
    serve_process, study_folder: Path, tmp_path: Path
) -> None:
    server = serve_process(study_folder)
    for ordinal, query in enumerate(PEOPLE):
        Traveller(server, study_folder, ordinal).take_part(query)
    # What no client sends: uvicorn itself complains, and must not say about whom.
    raw = http.client.HTTPConnection(*server.address.removeprefix("http://").split(":"), source_address=(ADDRESS, 0))
    raw.connect()
    raw.sock.sendall(f"NONSENSE {AGENT} {FORWARDED}\r\n\r\n".encode())
    raw.sock.recv(1000)
    raw.close()
    live = {file.name: file.read_bytes() for file in study_folder.glob("study.db*")}
    assert "study.db" in live
    server.process.terminate()
    said = "".join(server.process.communicate(timeout=60)).encode()
    export_folder(study_folder, "", tmp_path / "out", has_parquet=True)

    files = {f"{name}, while served": data for name, data in live.items()} | {"output of the server": said}
    for file in [*study_folder.glob("*.*"), *(tmp_path / "out").rglob("*")]:
        if file.is_file():
            files[str(file.relative_to(tmp_path))] = file.read_bytes()
    with contextlib.closing(sqlite3.connect(study_folder / "study.db")) as connection:
        files["dump of the database"] = "\n".join(connection.iterdump()).encode()
    secrets = [ADDRESS, FORWARDED, AGENT, "Netscape-Secret", LANGUAGE, "klingonist", REFERER, "panel.invalid"]
    secrets += [word for words in PEOPLE.values() for word in words]
    found = [
        (name, secret) for name, data in files.items() for secret in secrets for one in disguises(secret) if one in data
    ]
    assert found == []
    # No address at all, of nobody: four numbers with dots between them stand in no table.
    dump = files["dump of the database"].decode()
    assert re.findall(r"(?<![\d.])(?:\d{1,3}\.){3}\d{1,3}(?![\d.])", dump) == []
    assert "Mozilla" not in dump
    # What is kept instead are keyed hashes, and the search would have found something: the hashes are there.
    running = open_running(study_folder)
    kept = [
        running.outside_hash("prolific", "5f3c9a7e1b2d4c6e8f0a1b2c"),
        running.outside_hash("mturk", "A1B2C3D4E5WORKER"),
    ]
    assert all(one.encode() in files["dump of the database"] for one in kept)
    assert all(one.encode() not in data for name, data in files.items() for one in kept if name.startswith("out"))
    assert dump.count('INSERT INTO "rater"') == len(PEOPLE)
    assert (study_folder / "key").stat().st_mode & 0o077 == 0
    size = sum(map(len, files.values())) / 1e6
    print(f"{len(files)} files, {size:.1f} MB, {len(secrets)} secrets, each in 7 spellings: 0 found")
