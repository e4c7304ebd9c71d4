"""A small study of three models, built once, and copies of it to work in."""

from __future__ import annotations

import http.client
import importlib.util
import json
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import numpy as np
import pytest
from sqlalchemy import func, select
from starlette.applications import Starlette

from cogvideo.video import write_video
from human_eval.app.application import create_app
from human_eval.app.entrance import check_number
from human_eval.running import Running, open_running
from human_eval.simulate.client import Client, Reply
from human_eval.simulate.forms import Form, read_page
from human_eval.store.clock import StillClock
from human_eval.store.database import Database, database_url
from human_eval.store.enrolling import place_of
from human_eval.store.opening import open_collection
from human_eval.study.building import init_study

# Words that somebody might type to break a spreadsheet, a page or a database.
HOSTILE = [
    "=1+1",
    "+1+1",
    "-2+3",
    "@SUM(1,1)",
    "\t=1+1",
    "\r=1+1",
    "\n=1+1",
    ";=1+1",
    "＝1+1",
    '=HYPERLINK("http://example.invalid","x")',
    "<script>window.__x=1</script>",
    '"><svg onload=window.__x=1>',
    "{{7*7}}",
    "</title><script>window.__x=1</script>",
    "javascript:window.__x=1",
    "a\u202egnp.4pm",
    "水中的狮子",
    "العربية",
    "line one\nline two",
    'quote " comma , semicolon ;',
    "'; DROP TABLE rater;--",
    "cafe\u0301 👩‍💻",
]
MODELS = ("zebra-net", "quokka-gan", "walrus-diffusion")


def moving_clip(model: int, item: int, frames: int = 8, side: int = 64) -> np.ndarray:
    """Stripes that move: another direction for each item, another speed for each model."""
    y, x = np.mgrid[:side, :side]
    pictures = [
        np.stack(
            [
                np.sin((x + (model + 1) * k * 2) / (4 + item)) * 127 + 128,
                np.cos((y + k * item) / (5 + model)) * 127 + 128,
                np.full_like(x, 20.0 * (item % 12)),
            ],
            axis=-1,
        )
        for k in range(frames)
    ]
    return np.stack(pictures).astype(np.uint8)


@pytest.fixture(scope="session")
def hostile_texts() -> list[str]:
    """Ours and, where they are, those of the reference."""
    file = Path(os.environ.get("COGEVAL_REFERENCE_DIR", "../shared/reference")) / "human" / "hostile_strings.json"
    return HOSTILE + (json.loads(file.read_text())["text"] if file.is_file() else [])


@pytest.fixture(scope="session")
def video_folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    root = tmp_path_factory.mktemp("videos")
    for model, name in enumerate(MODELS):
        (root / name).mkdir()
        for item in range(9):
            write_video(root / name / f"prompt-{item:02d}.mp4", moving_clip(model, item), fps=8)
    return [root / name for name in MODELS]


@pytest.fixture(scope="session")
def built(video_folders: list[Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Study folders by preset: six main items and three extra ones."""
    root = tmp_path_factory.mktemp("studies")
    for preset in ("cogvideo-2022", "pairwise", "mos"):
        init_study(root / preset, video_folders, preset=preset, n_items=6, seed=5, media={"size": 96})
    return {preset: root / preset for preset in ("cogvideo-2022", "pairwise", "mos")}


@pytest.fixture
def study_folder(built: dict[str, Path], tmp_path: Path) -> Path:
    """A copy of the joint study, to write into."""
    shutil.copytree(built["cogvideo-2022"], tmp_path / "study")
    return tmp_path / "study"


@dataclass
class Site:
    """A study that is served in this process, on a clock that stands still."""

    running: Running
    database: Database
    app: Starlette
    clock: StillClock

    @property
    def tickets(self):
        return self.app.state.desk.tickets

    async def enter(self, identity: str = "", client: Client | None = None) -> tuple[Client, Reply]:
        """A browser after consent and environment check, on its first page."""
        client = client or Client(self.app)
        reply = await client.get(f"/?rater={identity}" if identity else "/")
        form = read_page(reply.text)[0][0]
        reply = await client.post(form.action, form.values | dict.fromkeys(form.boxes, "1") | {"decision": "yes"})
        if reply.path == "/check":
            form = read_page(reply.text)[0][0]
            number = str(check_number(self.running, self.place(client).ordinal))
            reply = await client.post("/check", form.values | {"number": number})
        return client, reply

    def place(self, client: Client):
        enrolment_id = self.tickets._seats.loads(client.cookies[self.tickets.seat_cookie])[0]
        return self.database.read(lambda connection: place_of(connection, enrolment_id))

    async def open_page(self, client: Client) -> tuple[Reply, Form]:
        """The rater's own page and its form."""
        reply = await client.get("/now")
        assert reply.path.startswith("/t/"), reply.path
        return reply, next(form for form in read_page(reply.text)[0] if form.action == reply.path)

    def fill(self, form: Form, which: int = 0, *, finish: bool = True) -> dict[str, str]:
        """The form with the same choice everywhere."""
        chosen = {name: values[min(which, len(values) - 1)] for name, values in form.radios.items()}
        return form.values | chosen | {"finish": "1" if finish else "0"}

    async def answer(self, client: Client, which: int = 0) -> Reply:
        self.clock.move(9000)
        _, form = await self.open_page(client)
        return await client.post(form.action, self.fill(form, which))

    def count(self, table) -> int:
        return self.database.read(lambda c: c.execute(select(func.count()).select_from(table)).scalar())

    def rows(self, query) -> list:
        return self.database.read(lambda c: c.execute(query).all())


@pytest.fixture
def make_site(tmp_path: Path) -> Iterator[Callable[..., Site]]:
    """Serve a study folder; `change` edits the text of study.yaml first."""
    opened: list[Database] = []

    def make(
        folder: Path,
        url: str = "",
        *,
        has_limits: bool = False,
        is_preview: bool = False,
        change=None,
        days: int = 0,
        clock=None,
    ) -> Site:
        if change:
            path = folder / "study.yaml"
            path.write_text(change(path.read_text()))
        clock = clock or StillClock()
        clock.move(days * 86_400_000)
        running = open_running(folder, clock)
        database = Database(database_url(folder, url))
        opened.append(database)
        database.write(lambda connection: open_collection(connection, running))
        app = create_app(running, database, admin_token="the-token", has_limits=has_limits, is_preview=is_preview)
        return Site(running, database, app, clock)

    yield make
    for database in opened:
        database.close()


@pytest.fixture
def site(make_site, study_folder: Path) -> Site:
    return make_site(study_folder)


def missing(what: str) -> None:
    """Skip, or fail where the tests are told that it is there (STUDY_TESTS_REQUIRE=chromium,postgres,libreoffice)."""
    if what.split()[0].lower() in os.environ.get("STUDY_TESTS_REQUIRE", "").split(","):
        pytest.fail(f"{what}: it is required here")
    pytest.skip(what)


@pytest.fixture(scope="session")
def libreoffice() -> str:
    """The path of LibreOffice's program without windows."""
    path = shutil.which("soffice") or shutil.which("libreoffice")
    if path is None:
        missing("libreoffice is not installed (Debian: apt-get install libreoffice-calc-nogui)")
    return path


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A PostgreSQL of our own on a socket in a temporary folder, thrown away afterwards."""
    folders = [os.environ.get("PATH", ""), *map(str, sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True))]
    initdb, server = (shutil.which(name, path=os.pathsep.join(folders)) for name in ("initdb", "postgres"))
    if initdb is None or server is None or importlib.util.find_spec("psycopg") is None:
        missing("postgres is not installed (Debian: apt-get install postgresql; pip install psycopg psycopg-binary)")
    root = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))
    # PostgreSQL refuses to run as root.
    user = {"cwd": root}
    if os.getuid() == 0:
        user |= {"user": "nobody", "group": pwd.getpwnam("nobody").pw_gid, "extra_groups": []}
        shutil.chown(root, "nobody")
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    data = root / "data"
    subprocess.run(
        [initdb, "-D", data, "-U", "study", "-A", "trust", "-E", "UTF8", "--no-sync"], check=True, **user, **quiet
    )
    process = subprocess.Popen([server, "-D", data, "-k", root, "-c", "listen_addresses=", "-F"], **user, **quiet)
    try:
        import psycopg

        end = time.monotonic() + 60
        while True:
            try:
                psycopg.connect(f"host={root} user=study dbname=postgres").close()
                break
            except psycopg.OperationalError:
                if process.poll() is not None or time.monotonic() > end:
                    raise
                time.sleep(0.1)
        yield str(root)
    finally:
        # Its fast way to stop: the gentle one waits for every client to go.
        process.send_signal(signal.SIGINT)
        process.wait(timeout=60)
        shutil.rmtree(root, ignore_errors=True)


@pytest.fixture
def postgres_url(postgres_server: str) -> str:
    """An empty database."""
    import psycopg

    name = "study_" + secrets.token_hex(4)
    with psycopg.connect(f"host={postgres_server} user=study dbname=postgres", autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return f"postgresql://study@/{name}?host={postgres_server}"


class Server:
    """`cogeval human serve` in a process of its own."""

    def __init__(self, folder: Path, *more: str) -> None:
        code = "import sys, cogeval; sys.exit(cogeval.main(sys.argv[1:]))"
        words = ["human", "serve", str(folder), "--admin-token", "the-token", *more]
        words += [] if "--port" in more else ["--port", "0"]
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        )
        line = self.process.stdout.readline()
        if not line:
            pytest.fail(self.process.stderr.read())
        self.address = line.split()[1].rstrip("/")

    def stop(self, how: int = signal.SIGTERM) -> None:
        self.process.send_signal(how)
        self.process.communicate(timeout=30)


@pytest.fixture
def serve_process() -> Iterator[Callable[..., Server]]:
    """Start servers, stopped at the end."""
    started: list[Server] = []

    def start(folder: Path, *more: str) -> Server:
        started.append(Server(folder, *more))
        return started[-1]

    yield start
    for server in started:
        if server.process.poll() is None:
            server.stop()


class Visitor:
    """Somebody at the server of a study, one connection for each request."""

    def __init__(self, server: Server, folder: Path, ordinal: int = 0) -> None:
        self.server, self.running, self.ordinal, self.cookie = server, open_running(folder), ordinal, ""
        self.host = urlsplit(server.address).netloc

    def ask(self, method: str, path: str, body=None, **headers: str) -> tuple[int, str, bytes]:
        """Status, where it leads, and the body."""
        connection = http.client.HTTPConnection(self.host, timeout=60)
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        headers.setdefault("content-type", "application/x-www-form-urlencoded")
        try:
            connection.request(method, path, body, {"cookie": self.cookie} | headers)
            reply = connection.getresponse()
            for header in reply.headers.get_all("set-cookie") or []:
                self.cookie = header.partition(";")[0]
            self.last_headers = reply.headers
            return reply.status, reply.headers.get("location", ""), reply.read()
        finally:
            connection.close()

    def enter(self, path: str = "/") -> tuple[str, str]:
        """To the first page; its path and the address of a video on it."""
        form = read_page(self.ask("GET", path)[2].decode())[0][0]
        given = form.values | dict.fromkeys(form.boxes, "1") | {"decision": "yes"}
        self.ask("POST", "/consent", urlencode(given))
        form = read_page(self.ask("GET", "/check")[2].decode())[0][0]
        number = str(check_number(self.running, self.ordinal))
        self.ask("POST", "/check", urlencode(form.values | {"number": number}))
        _, path, _ = self.ask("GET", "/now")
        return path, read_page(self.ask("GET", path)[2].decode())[1][0]


@pytest.fixture
def make_visitor() -> type[Visitor]:
    return Visitor
