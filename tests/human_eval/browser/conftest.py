"""A real Chromium, and a tour of every page that a study has."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import uvicorn
from sqlalchemy import select, update

from human_eval.app.entrance import check_number
from human_eval.store.database import StoreBusyError
from human_eval.store.schema import study, trial

# Only how long a broken page is waited for: a loaded machine may be slow.
PATIENCE_S = 120
# All questions of a page answered alike (null: none, -1: as they are), the form sent as it is without a script.
SEND = """([which, finish]) => {
    const form = document.querySelector("#answers");
    for (const group of which === -1 ? [] : document.querySelectorAll("fieldset")) {
        const radios = group.querySelectorAll("input");
        for (const radio of radios) radio.checked = false;
        if (which !== null) radios[Math.min(which, radios.length - 1)].checked = true;
    }
    const last = document.createElement("input");
    last.type = "hidden"; last.name = "finish"; last.value = finish ? "1" : "0";
    form.append(last);
    form.submit();
}"""


@pytest.fixture
def listen() -> Iterator[Callable[[Any], str]]:
    """Serve an application of this process, for a browser; its address."""
    started: list[tuple[uvicorn.Server, threading.Thread]] = []

    def start(app) -> str:
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False, lifespan="off"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        started.append((server, thread))
        end = time.monotonic() + PATIENCE_S
        while not server.started:
            assert time.monotonic() < end
            time.sleep(0.02)
        return f"http://127.0.0.1:{listener.getsockname()[1]}"

    yield start
    for server, thread in started:
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="session")
def apart() -> Callable[[Any], Any]:
    """The result of a coroutine, on a thread of its own: Playwright's loop runs on ours."""
    return lambda job: ThreadPoolExecutor(1).submit(asyncio.run, job).result()


class Tour:
    """Every page that a study shows to raters and to its author, one after the other, in one browser.

    Iterating gives (name, status) while `page` shows it.
    """

    def __init__(self, site, context, rater: str = "") -> None:
        self.site, self.context, self.rater = site, context, rater
        self.page = context.new_page()

    def go(self, path: str) -> int:
        reply = self.page.goto(path)
        return reply.status

    def send(self, which: int | None = 0, *, finish: bool = True, page=None) -> int:
        """Answer everything alike (None: nothing) and send the form."""
        page = page or self.page
        with page.expect_navigation() as reply:
            page.evaluate(SEND, [which, finish])
        return reply.value.status

    def send_as_it_is(self) -> int:
        """Send the form with what is chosen."""
        with self.page.expect_navigation() as reply:
            self.page.evaluate(SEND, [-1, True])
        return reply.value.status

    def press(self, selector: str, page=None) -> int:
        """A button that leads to another page."""
        page = page or self.page
        with page.expect_navigation() as reply:
            page.locator(selector).focus()
            page.keyboard.press("Enter")
        return reply.value.status

    def take_part(self, page=None, rater: str = "") -> None:
        page = page or self.page
        page.goto(f"/?lang=en&rater={rater}")
        for box in page.locator("input[type=checkbox]").all():
            box.check()
        self.press("button[value=yes]", page)

    def pass_check(self, ordinal: int) -> None:
        self.page.locator(f"input[value='{check_number(self.site.running, ordinal)}']").check()
        self.press("button.main")

    def kind(self) -> str:
        token = self.page.url.rsplit("/", 1)[1]
        return self.site.rows(select(trial.c.kind).where(trial.c.token == token))[0].kind

    def of_raters(self) -> Iterator[tuple[str, int]]:
        """From the first page to the last, with everything that goes wrong on the way. For a study of one place."""
        yield "consent", self.go(f"/?lang=en&rater={self.rater}")
        yield "consent, not ticked", self.press("button[value=yes]")
        yield "refused", self.press("button[value=no]")
        self.site.database.write(lambda c: c.execute(update(study).values(state="paused")))
        self.take_part(rater=self.rater)
        yield "paused", 200
        self.site.database.write(lambda c: c.execute(update(study).values(state="open")))
        self.take_part(rater=self.rater)
        if self.site.running.study.environment_check:
            yield "check", 200
            self.page.locator("input[value=none]").check()
            yield "check, failed", self.press("button.main")
            self.pass_check(0)
        yield from self.trials()
        yield from self.around()

    def trials(self) -> Iterator[tuple[str, int]]:
        """Each kind of page, with what can go wrong on one."""
        seen = set()
        while not self.page.url.endswith("/done"):
            name = self.kind()
            if name not in seen:
                seen.add(name)
                yield f"trial, {name}", 200
                yield f"trial, {name}, incomplete", self.send(None)
            if name == "main" and "conflict" not in seen:
                seen.add("conflict")
                other = self.context.new_page()
                other.goto(self.page.url)
                self.send(0, finish=False, page=other)
                other.close()
                yield "conflict", self.send(1, finish=False)
                self.page.goto("/now")
                self.page.evaluate("document.querySelector('fieldset input').value = '99'")
                yield "bad", self.send(0)
                yield from self.gone()
            self.send(0)
            if self.page.url.endswith(("/practice", "/pause")):
                if (where := self.page.url.rsplit("/", 1)[1]) not in seen:
                    seen.add(where)
                    yield where, 200
                self.page.goto("/now")

    def gone(self) -> Iterator[tuple[str, int]]:
        """Somebody leaves, another takes the place, and leaves it again."""
        yield "leave", self.go("/leave")
        yield "left", self.press("form button")
        other = self.context.browser.new_context(base_url=self.page.url.partition("/leave")[0])
        second = other.new_page()
        self.take_part(second, "second")
        yield "closed", self.go("/now")
        own, self.page = self.page, second
        yield "ended", self.go("/ended")
        key = self.site.running.withdrawal_key(self.site.running.pseudonym(1))
        third = self.context.browser.new_context(base_url=self.page.url.partition("/ended")[0])
        self.page = third.new_page()
        self.take_part(rater="third")
        yield "full", 200
        yield "withdraw", self.go("/withdraw?lang=en")
        self.page.fill("input[name=key]", "AAAA-BBBB")
        yield "withdraw, unknown key", self.press("form button")
        self.page.fill("input[name=key]", key)
        yield "withdrawn", self.press("form button")
        third.close()
        other.close()
        self.page = own
        self.page.goto("/now")

    def around(self) -> Iterator[tuple[str, int]]:
        """What stands beside the trials."""
        yield "done", self.go("/done")
        self.page.fill("textarea", self.rater or "a remark")
        yield "done, remark sent", self.press("form button")
        yield "pause", self.go("/pause")
        yield "practice", self.go("/practice")
        yield "no such page", self.go("/nowhere")
        yield "no such link", self.go("/r/nobody")
        yield "wrong way", self.go("/consent")
        yield "forged page, sent back", self.go("/t/0123456789abcdef")
        assert self.page.url.endswith("/done")
        write = self.site.database.submit_write

        def busy(*_: object) -> None:
            raise StoreBusyError("database or disk is full")

        self.page.goto("/done")
        self.site.database.submit_write = busy
        self.page.fill("textarea", "not kept")
        yield "busy", self.press("form button")
        self.site.database.submit_write = write

    def of_author(self, name: str = "admin") -> Iterator[tuple[str, int]]:
        """The pages behind the token."""
        yield f"{name}, login", self.go("/admin")
        self.page.fill("input[name=token]", "wrong")
        yield f"{name}, wrong token", self.press("button.main")
        self.page.fill("input[name=token]", "the-token")
        yield name, self.press("button.main")


STATUS = {
    "consent, not ticked": 422,
    "check, failed": 422,
    "conflict": 409,
    "bad": 400,
    "closed": 410,
    "withdraw, unknown key": 422,
    "no such page": 404,
    "no such link": 404,
    "wrong way": 405,
    "busy": 503,
}


@pytest.fixture
def tour(browser, listen) -> Iterator[Callable[..., Tour]]:
    """A tour of a site, in a context of its own."""
    contexts = []

    def start(site, rater: str = "", **settings) -> Tour:
        contexts.append(browser.new_context(base_url=listen(site.app), **settings))
        contexts[-1].set_default_timeout(PATIENCE_S * 1000)
        return Tour(site, contexts[-1], rater)

    yield start
    for context in contexts:
        context.close()


@pytest.fixture(scope="session")
def expected_status() -> Callable[[str], int]:
    """What a page of the tour has to answer."""

    def status(name: str) -> int:
        if name.endswith("incomplete"):
            return 422
        return 401 if name.endswith(("login", "wrong token")) else STATUS.get(name, 200)

    return status
