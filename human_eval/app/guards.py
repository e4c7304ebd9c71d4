"""Around every request: fixed headers, limits of size, time and rate, and one page for everything that goes wrong."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MOST_BODY = 64 * 1024
BODY_SECONDS = 10.0
MOST_BUCKETS = 20_000

HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; media-src 'self'; img-src 'self'; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=(), payment=(), usb=()",
    "x-frame-options": "DENY",
}


class Buckets:
    """A token bucket for each name: `burst` requests at once, `rate` a second after that."""

    def __init__(self, rate: float, burst: float, steady: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._burst, self._steady = rate, burst, steady
        self._left: dict[str, tuple[float, float]] = {}

    def take(self, name: str) -> bool:
        """Whether one more request is all right; the oldest names are forgotten when there are too many."""
        now = self._steady()
        left, then = self._left.pop(name, (self._burst, now))
        left = min(self._burst, left + (now - then) * self._rate)
        allowed = left >= 1
        self._left[name] = (left - 1 if allowed else left, now)
        if len(self._left) > MOST_BUCKETS:
            del self._left[next(iter(self._left))]
        return allowed


class Guard:
    """ASGI middleware: refuses early, hands the whole body on, and puts the same headers on every answer."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        seats: Buckets,
        addresses: Buckets,
        seat_cookie: str,
        body_seconds: float = BODY_SECONDS,
    ) -> None:
        self._app = app
        self._seats, self._addresses, self._cookie = seats, addresses, seat_cookie
        self._body_seconds = body_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                if scope.get("scheme") == "https":
                    headers["strict-transport-security"] = "max-age=31536000"
                headers.setdefault("cache-control", "no-store")
            await send(message)

        headers = Headers(scope=scope)
        if not self._is_within_rate(scope, headers):
            await _refuse(send_with_headers, 429, "too many requests; wait a few seconds", retry=True)
            return
        length = headers.get("content-length", "0")
        if not length.isdigit() or len(length) > 12:
            await _refuse(send_with_headers, 400, "bad content-length")
            return
        if int(length) > MOST_BODY:
            await _refuse(send_with_headers, 413, "too large")
            return
        if length == "0" and "transfer-encoding" not in headers:
            await self._app(scope, receive, send_with_headers)
            return
        try:
            body = await asyncio.wait_for(_whole_body(receive), self._body_seconds)
        except TimeoutError:
            await _refuse(send_with_headers, 408, "too slow")
            return
        except ConnectionError:
            return
        if body is None:
            await _refuse(send_with_headers, 413, "too large")
            return
        is_given = False

        async def receive_body() -> Message:
            nonlocal is_given
            if is_given:
                return await receive()
            is_given = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self._app(scope, receive_body, send_with_headers)

    def _is_within_rate(self, scope: Scope, headers: Headers) -> bool:
        """A seat has a bucket of its own, so that a classroom behind one address is not slowed down."""
        address = (scope.get("client") or ("",))[0]
        if not self._addresses.take(address):
            return False
        cookie = headers.get("cookie", "")
        if self._cookie in cookie:
            return self._seats.take(hashlib.sha256(cookie.encode()).hexdigest())
        return True


async def _whole_body(receive: Receive) -> bytes | None:
    """The body, None if it is longer than it may be. Raises ConnectionError if the client goes away."""
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ConnectionError
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > MOST_BODY:
            return None
        if not message.get("more_body", False):
            return b"".join(parts)


async def _refuse(send: Send, status: int, words: str, retry: bool = False) -> None:
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"connection", b"close")]
    if retry:
        headers.append((b"retry-after", b"5"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": words.encode() + b"\n"})
