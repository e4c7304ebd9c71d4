"""Running the server: one process, the admin's token printed once, nothing about raters in any log."""

from __future__ import annotations

import contextlib
import secrets
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import click
import uvicorn

from cogvideo.errors import UserError
from human_eval.app.application import create_app
from human_eval.running import Running, open_running
from human_eval.store.clock import Clock
from human_eval.store.database import Database, StoreBusyError, database_url
from human_eval.store.forgetting import expire
from human_eval.store.opening import open_collection
from human_eval.study.design import blanks

# Slow senders may not hold a connection for ever; nor may very many be held at once.
KEEP_ALIVE_S = 20
MOST_CONNECTIONS = 1000
# How often raters are looked for whose personal columns are to be emptied.
EXPIRE_EVERY_S = 3600


@contextlib.contextmanager
def opened(folder: Path, url: str = "", clock: Clock | None = None) -> Iterator[tuple[Running, Database]]:
    """A study with its database; deviations from the frozen design are said on stderr. Raises UserError."""
    running = open_running(folder, clock)
    with Database(database_url(folder, url)) as database:
        for line in database.write(lambda connection: open_collection(connection, running)):
            click.echo(f"deviation recorded: {line}", err=True)
        yield running, database


def serve_study(
    folder: Path,
    url: str,
    host: str,
    port: int,
    *,
    admin_token: str = "",
    is_preview: bool = False,
    is_https: bool = False,
    opens: bool = False,
) -> None:
    """Serve until it is interrupted. Raises UserError if the address is taken."""
    token = admin_token or secrets.token_urlsafe(18)
    with opened(folder, url) as (running, database), _listening(host, port) as listener:
        where = f"http://{host if ':' not in host else f'[{host}]'}:{listener.getsockname()[1]}"
        click.echo(f"study   {where}/" + ("  (preview: nothing is counted)" if is_preview else ""))
        if not is_preview:
            click.echo(f"admin   {where}/admin  token {token}")
            click.echo(f"result  {where}/admin/result  once somebody has answered", err=True)
        click.echo("stop    Ctrl-C: answers are saved one by one, nothing is lost", err=True)
        if unfilled := blanks(running.study):
            click.echo(f"! study.yaml: fill in the words in <brackets> of {', '.join(unfilled)}", err=True)
        app = create_app(running, database, admin_token=token, is_preview=is_preview)
        config = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            server_header=False,
            date_header=False,
            lifespan="off",
            timeout_keep_alive=KEEP_ALIVE_S,
            limit_concurrency=MOST_CONNECTIONS,
            proxy_headers=is_https,
        )
        if opens:
            click.launch(where)
        with expiring(running, database), contextlib.suppress(KeyboardInterrupt):
            uvicorn.Server(config).run(sockets=[listener])


@contextlib.contextmanager
def expiring(running: Running, database: Database, every_s: float = EXPIRE_EVERY_S) -> Iterator[None]:
    """Empty the personal columns of raters whose promised time is over: now, and again and again while serving."""
    stop = threading.Event()

    def look() -> None:
        if database.write(lambda connection: expire(connection, running)):
            database.scrub()

    def work() -> None:
        while not stop.wait(every_s):
            # A database that cannot take it now will be asked again.
            with contextlib.suppress(StoreBusyError):
                look()

    look()
    thread = threading.Thread(target=work, name="study-retention", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@contextlib.contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except OSError as error:
            raise UserError(
                f"cannot listen on {host}:{port}: {error.strerror or error}; choose another --port (0: any free one)"
            ) from None
        listener.listen(1024)
        yield listener
