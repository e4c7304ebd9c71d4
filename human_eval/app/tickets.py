"""What a browser carries: a signed seat, a token against forged forms, a link to resume, an admin's pass."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from typing import NamedTuple
from urllib.parse import urlsplit

from itsdangerous import BadData, TimestampSigner, URLSafeSerializer, URLSafeTimedSerializer
from starlette.requests import Request
from starlette.responses import Response

from human_eval.running import Running
from human_eval.store.clock import Clock

SEAT_SECONDS = 60 * 60 * 24 * 30
ADMIN_SECONDS = 60 * 60 * 12


class Seat(NamedTuple):
    """Who a browser is: an enrolment, or 0 before consent. `nonce` ties forms to this browser."""

    enrolment_id: int
    nonce: str


def signer_by(clock: Clock) -> type[TimestampSigner]:
    """Dates passes by the study's clock: the machine's may be set back, and a pass from the future is none."""

    class ByStudyClock(TimestampSigner):
        def get_timestamp(self) -> int:
            return clock.now_ms() // 1000

    return ByStudyClock


class Tickets:
    """Everything is signed with the study's key, so a ticket of another study is no ticket here."""

    def __init__(self, running: Running, admin_token: str) -> None:
        self._running = running
        self._seats = URLSafeSerializer(running.key, salt="seat")
        self._links = URLSafeSerializer(running.key, salt="resume")
        self._passes = URLSafeTimedSerializer(running.key, salt="admin", signer=signer_by(running.clock))
        self._admin_hash = hashlib.sha256(admin_token.encode()).hexdigest()
        # A host may serve several studies on different ports, and cookies know no ports.
        self.seat_cookie = "seat-" + running.name_for("cookie")[:8]
        self.admin_cookie = "pass-" + running.name_for("cookie")[:8]

    def seat(self, request: Request) -> Seat | None:
        """The seat in a request's cookie, None if there is none or it was tampered with."""
        try:
            enrolment_id, nonce = self._seats.loads(request.cookies.get(self.seat_cookie, ""))
        except (BadData, ValueError, TypeError):
            return None
        return Seat(enrolment_id, nonce) if isinstance(enrolment_id, int) and isinstance(nonce, str) else None

    def give_seat(self, request: Request, response: Response, enrolment_id: int) -> None:
        """Set the cookie, with a new nonce."""
        self.keep_seat(request, response, Seat(enrolment_id, secrets.token_hex(8)))

    def keep_seat(self, request: Request, response: Response, seat: Seat) -> None:
        value = self._seats.dumps(list(seat))
        text = value if isinstance(value, str) else value.decode()
        self._cookie(request, response, self.seat_cookie, text, SEAT_SECONDS, "lax")

    def form_token(self, seat: Seat) -> str:
        """What every form of this browser has to send back."""
        return self._running.name_for("form", seat.enrolment_id, seat.nonce)

    def is_own_form(self, request: Request, seat: Seat | None, token: str) -> bool:
        """Whether a POST comes from a page that we gave to this very browser."""
        return (
            seat is not None
            and comes_from_here(request)
            and hmac.compare_digest(token.encode(), self.form_token(seat).encode())
        )

    def resume_link(self, ordinal: int) -> str:
        """The path that brings a rater back on any device."""
        value = self._links.dumps(ordinal)
        return f"/r/{value if isinstance(value, str) else value.decode()}"

    def resumed(self, token: str) -> int | None:
        """The rater's place in the order behind a link, None for a link of somebody else."""
        try:
            ordinal = self._links.loads(token)
        except BadData:
            return None
        return ordinal if isinstance(ordinal, int) else None

    def is_admin_token(self, token: str) -> bool:
        digest = hashlib.sha256(token.encode()).hexdigest()
        return hmac.compare_digest(digest, self._admin_hash)

    def admit(self, request: Request, response: Response) -> None:
        """Set the admin's cookie; it holds for twelve hours and for this start of the server."""
        value = self._passes.dumps(self._admin_hash[:16])
        text = value if isinstance(value, str) else value.decode()
        self._cookie(request, response, self.admin_cookie, text, ADMIN_SECONDS, "strict")

    def is_admin(self, request: Request) -> bool:
        """Whether the request carries the token (Authorization: Bearer) or the cookie that was given for it."""
        header = request.headers.get("authorization", "")
        if header.startswith("Bearer "):
            return self.is_admin_token(header.removeprefix("Bearer "))
        try:
            value = self._passes.loads(request.cookies.get(self.admin_cookie, ""), max_age=ADMIN_SECONDS)
        except BadData:
            return False
        return isinstance(value, str) and hmac.compare_digest(value.encode(), self._admin_hash[:16].encode())

    def admin_form_token(self) -> str:
        return self._running.name_for("admin-form", self._admin_hash)

    def is_admin_form(self, request: Request, token: str) -> bool:
        return comes_from_here(request) and hmac.compare_digest(token.encode(), self.admin_form_token().encode())

    def _cookie(
        self, request: Request, response: Response, name: str, value: str, seconds: int, same_site: str
    ) -> None:
        is_secure = request.url.scheme == "https"
        response.set_cookie(
            name,
            value,
            max_age=seconds,
            path="/",
            secure=is_secure,
            httponly=True,
            samesite=same_site,  # type: ignore[arg-type]
        )


def comes_from_here(request: Request) -> bool:
    """Whether the browser says that one of our pages sent this. One that says nothing is judged by its token."""
    origin, site = request.headers.get("origin"), request.headers.get("sec-fetch-site")
    if origin == "null":
        # Under our own no-referrer policy a browser hides the origin of a form; then it has to say where it came from.
        return site == "same-origin"
    if origin is not None and urlsplit(origin).netloc != request.headers.get("host", ""):
        return False
    return site in (None, "same-origin", "none")
