"""A browser without a screen: requests to the application in this process, cookies kept, redirects followed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from http.cookies import SimpleCookie
from typing import Any
from urllib.parse import parse_qsl, urlencode, urljoin, urlsplit

from starlette.types import ASGIApp, Message

HOST = "study.invalid"
MOST_REDIRECTS = 10


@dataclass(frozen=True)
class Reply:
    """A response as a whole. `path` is where the last redirect led."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes
    path: str

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def header(self, name: str) -> str:
        """The first header of a name, "" if there is none."""
        return next((value for key, value in self.headers if key == name), "")


class Client:
    """One browser. `follows=False` hands redirects back as they come."""

    def __init__(self, app: ASGIApp, *, follows: bool = True, address: str = "127.0.0.1") -> None:
        self._app, self._follows, self._address = app, follows, address
        self.cookies: dict[str, str] = {}

    async def get(self, path: str, **headers: str) -> Reply:
        return await self.send("GET", path, b"", headers)

    async def post(
        self, path: str, form: Mapping[str, str] | None = None, *, follows: bool = True, **headers: str
    ) -> Reply:
        """A form as a browser sends it; the redirect after it is only followed if `follows`."""
        body, own = urlencode(form or {}).encode(), {"content_type": "application/x-www-form-urlencoded"} | headers
        return await (self.send if follows else self._once)("POST", path, body, own)

    async def send(self, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> Reply:
        """Any request; `_` in the name of a header stands for `-`."""
        reply = await self._once(method, path, body, headers)
        for _ in range(MOST_REDIRECTS):
            if not self._follows or reply.status not in (301, 302, 303, 307):
                break
            target = urljoin(f"http://{HOST}{path}", reply.header("location"))
            path = urlsplit(target)._replace(scheme="", netloc="").geturl()
            reply = await self._once("GET", path, b"", {})
        return reply

    async def _once(self, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> Reply:
        split = urlsplit(path)
        own = {"host": HOST, "accept": "text/html", "origin": f"http://{HOST}"} if method == "POST" else {"host": HOST}
        if method != "POST":
            own["accept"] = "text/html"
        own |= {name.replace("_", "-"): value for name, value in headers.items()}
        if self.cookies:
            own.setdefault("cookie", "; ".join(f"{name}={value}" for name, value in self.cookies.items()))
        if body:
            own.setdefault("content-length", str(len(body)))
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": _decoded(split.path),
            "raw_path": split.path.encode(),
            "query_string": split.query.encode(),
            "root_path": "",
            "headers": [(name.encode(), value.encode("latin-1")) for name, value in own.items() if value],
            "client": (self._address, 40000),
            "server": (HOST, 80),
        }
        sent = [{"type": "http.request", "body": body, "more_body": False}]
        messages: list[Message] = []

        async def receive() -> Message:
            return sent.pop() if sent else {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            messages.append(message)

        await self._app(scope, receive, send)
        start = next(message for message in messages if message["type"] == "http.response.start")
        content = b"".join(m.get("body", b"") for m in messages if m["type"] == "http.response.body")
        reply_headers = tuple(
            (name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in start["headers"]
        )
        for name, value in reply_headers:
            if name == "set-cookie":
                self._keep(value)
        return Reply(start["status"], reply_headers, content, path)

    def _keep(self, header: str) -> None:
        cookie: SimpleCookie = SimpleCookie(header)
        for name, morsel in cookie.items():
            if morsel["max-age"] == "0" or not morsel.value:
                self.cookies.pop(name, None)
            else:
                self.cookies[name] = morsel.value


def _decoded(path: str) -> str:
    from urllib.parse import unquote

    return unquote(path)


def query_of(path: str) -> dict[str, str]:
    return dict(parse_qsl(urlsplit(path).query))
