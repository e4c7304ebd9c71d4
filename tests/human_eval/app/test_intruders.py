"""Forged forms, hostile paths, strangers at the admin's door, bodies that are too large or too slow."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import os
from pathlib import Path
from urllib.parse import quote

import pytest
from sqlalchemy import select
from starlette.applications import Starlette

from human_eval.app.guards import Buckets, Guard
from human_eval.simulate.client import HOST, Client
from human_eval.simulate.forms import read_page
from human_eval.store.schema import answer, metadata, rater, study, trial

PATHS = [
    "../../etc/passwd",
    "..%2f..%2fetc%2fpasswd",
    "%2e%2e/%2e%2e/etc/passwd",
    "....//....//etc/passwd",
    "/etc/passwd",
    "a/../../b",
    "..\\..\\x",
    "a\0b",
    "CON",
    "file:///etc/passwd",
    "%252e%252e%252fetc%252fpasswd",
    ".",
    " ",
    "∕etc",
    "a" * 5000,
    "study.yaml",
    "../key",
    "stimuli.json",
]


def hostile_paths() -> list[str]:
    """Ours and, where they are, those of the reference."""
    file = Path(os.environ.get("COGEVAL_REFERENCE_DIR", "../shared/reference")) / "human" / "hostile_strings.json"
    return PATHS + (json.loads(file.read_text())["path"] if file.is_file() else [])


def test_no_path_leads_out_of_the_media_and_none_breaks_the_server(site) -> None:
    async def journey() -> set[int]:
        client, _ = await site.enter()
        reply, _ = await site.open_page(client)
        token = reply.path.removeprefix("/t/")
        secret = (site.running.folder / "key").read_bytes().strip()
        statuses = set()
        for path in hostile_paths():
            for once in (quote(path), quote(quote(path)), quote(path, safe="")):
                for place in (
                    f"/m/{token}/{once}.mp4",
                    f"/m/{once}/{once}",
                    f"/static/{once}",
                    f"/n/{once}.mp4",
                    f"/{once}",
                ):
                    found = await client.get(place)
                    statuses.add(found.status)
                    assert b"root:" not in found.body
                    assert secret not in found.body
                    assert b"schema_version" not in found.body
                    assert found.status < 500
        return statuses

    assert asyncio.run(journey()) <= {200, 303, 400, 404}


def test_a_video_is_for_one_rater_on_one_page(site) -> None:
    async def journey() -> None:
        (one, first), (two, second) = await site.enter(), await site.enter()
        mine, theirs = read_page(first.text)[1], read_page(second.text)[1]
        assert not set(mine) & set(theirs)
        for address in mine:
            assert (await one.get(address)).status == 200
            assert (await two.get(address)).status == 404
            assert (await Client(site.app).get(address)).status == 404
        far = site.running.trial_token(site.place(one).ordinal, 8)
        assert (await one.get(f"/m/{far}/{site.running.media_name(far, 1)}.mp4")).status == 404

    asyncio.run(journey())


def test_one_video_has_another_address_for_each_rater_and_page(site) -> None:
    """The same stimuli over all pages of three raters, checks and practice counted."""

    async def journey() -> list[tuple[str, str]]:
        found = []
        for _ in range(3):
            client, reply = await site.enter()
            while reply.path != "/done":
                if not reply.path.startswith("/t/"):
                    reply = await client.get("/now")
                token = reply.path.removeprefix("/t/")
                stimuli = json.loads(site.rows(select(trial.c.stimuli).where(trial.c.token == token))[0].stimuli)
                found += zip(stimuli, read_page(reply.text)[1], strict=True)
                reply = await site.answer(client)
        return found

    found = asyncio.run(journey())
    assert len({stimulus for stimulus, _ in found}) < len(found) / 2
    assert len({address for _, address in found}) == len(found)


@pytest.mark.parametrize(
    ("header", "status", "part"),
    [
        ("", 200, slice(None)),
        ("bytes=0-99", 206, slice(0, 100)),
        ("bytes=100-", 206, slice(100, None)),
        ("bytes=-50", 206, slice(-50, None)),
        ("bytes=0-999999999", 206, slice(None)),
        ("bytes=9999999-", 416, None),
        ("bytes=5-2", 416, None),
        ("bytes=-0", 416, None),
        ("bytes=" + ",".join(["0-1"] * 5000), 200, slice(None)),
        ("bytes=-", 200, slice(None)),
        ("lines=1-2", 200, slice(None)),
        ("bytes=" + "9" * 40 + "-", 200, slice(None)),
    ],
)
def test_parts_of_a_video(site, header: str, status: int, part: slice | None) -> None:
    async def journey() -> None:
        client, reply = await site.enter()
        address = read_page(reply.text)[1][0]
        whole = (await client.get(address)).body
        found = await client.get(address, range=header)
        assert found.status == status
        assert found.body == (b"" if part is None else whole[part])
        names = {name for name, _ in found.headers}
        assert {"etag", "last-modified", "accept-ranges", "cache-control"} <= names
        assert found.header("last-modified") == "Sat, 01 Jan 2022 00:00:00 GMT"

    asyncio.run(journey())


def ways(app: Starlette, start: str = "/") -> list[tuple[str, str]]:
    """(method, path) of every route; whatever stands for a part of the path is filled in."""
    return [
        (method, route.path.replace("{token}", "0" * 32).replace("{name}", "0" * 32))
        for route in app.routes
        for method in sorted(route.methods - {"HEAD"})
        if route.path.startswith(start)
    ]


def test_every_admin_page_is_shut_and_silent_without_the_token(
    make_site, study_folder, built, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = make_site(study_folder)
    other = make_site(built["mos"], f"sqlite:///{study_folder}/other.db")
    compared: list[tuple[str, str]] = []
    real_compare = hmac.compare_digest
    monkeypatch.setattr(hmac, "compare_digest", lambda a, b: compared.append((a, b)) or real_compare(a, b))

    async def journey() -> None:
        login = Client(other.app)
        await login.post("/admin/login", {"token": "the-token"})
        stranger, late = Client(site.app), Client(site.app)
        stranger.cookies = {site.tickets.admin_cookie: next(iter(login.cookies.values()))}
        rater_client, _ = await site.enter()
        await late.post("/admin/login", {"token": "the-token"})
        site.clock.move(13 * 3_600_000)
        tries = [
            (Client(site.app), {}),
            (Client(site.app), {"authorization": "Bearer wrong"}),
            (Client(site.app), {"authorization": "Bearer "}),
            (Client(site.app), {"authorization": "Basic the-token"}),
            (Client(site.app), {"cookie": f"{site.tickets.admin_cookie}=forged"}),
            (stranger, {}),
            (rater_client, {}),
            (late, {}),
        ]
        assert late.cookies
        doors = [door for door in ways(site.app, "/admin") if door[1] != "/admin/login"]
        assert {"/admin", "/admin/export.zip", "/admin/withdraw"} <= {path for _, path in doors}
        for method, path in doors:
            for client, headers in tries:
                reply = await client.send(method, path, b"", headers)
                assert reply.status == 401, (method, path)
                for name in (site.running.study.name, *(model.id for model in site.running.study.models)):
                    assert name not in reply.text
        # The token is held against the real one by its hash, in constant time.
        digest = hashlib.sha256(b"wrong").hexdigest()
        assert sum(digest in pair for pair in compared) == len(doors)

    asyncio.run(journey())


def test_the_admins_pass_needs_the_token_and_ends(site) -> None:
    async def journey() -> None:
        client = Client(site.app)
        assert (await client.post("/admin/login", {"token": "the-toke"})).status == 401
        assert (await client.post("/admin/login", {"token": "the-token"})).path == "/admin"
        assert (await client.get("/admin/status.json")).json["wanted"] == 90
        # A POST with the cookie alone, as another site could make a browser send it.
        assert (await client.post("/admin/intake", {"state": "paused"})).status == 403
        form = next(f for f in read_page((await client.get("/admin")).text)[0] if f.action == "/admin/intake")
        assert (await client.post("/admin/intake", form.values | {"state": "paused"})).status == 200
        assert site.rows(select(study.c.state)) == [("paused",)]
        visitor = Client(site.app)
        consent = read_page((await visitor.get("/")).text)[0][0]
        reply = await visitor.post("/consent", consent.values | {"agree0": "1", "agree1": "1", "decision": "yes"})
        assert "paused" in reply.text
        assert site.count(rater) == 0
        site.clock.move(13 * 3_600_000)
        assert (await client.get("/admin/status.json")).status == 401

    asyncio.run(journey())


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.invalid"},
        {"origin": "null"},
        {"origin": "null", "sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-site"},
    ],
)
def test_a_form_from_another_site_is_refused_everywhere(site, headers: dict[str, str]) -> None:
    """By a rater, and by an admin, whose browsers have the cookies; the forms are the right ones."""

    async def journey() -> None:
        client, _ = await site.enter()
        reply, form = await site.open_page(client)
        admin = Client(site.app)
        await admin.post("/admin/login", {"token": "the-token"})
        own = next(f for f in read_page((await admin.get("/admin")).text)[0] if f.action == "/admin/intake")
        before = [site.rows(select(table)) for table in metadata.sorted_tables]
        doors = [path for method, path in ways(site.app) if method == "POST"]
        assert len(doors) == len(set(doors)) >= 12
        for path in doors:
            # Logging in changes nothing and needs the token itself.
            if path == "/admin/login":
                continue
            who, token = (admin, own.values["form"]) if path.startswith("/admin") else (client, form.values["form"])
            path = path.replace(f"/t/{'0' * 32}", reply.path)
            if path.endswith("/events"):
                body = json.dumps({"form": token, "page": "p", "events": [[0, "play", 0, 1, 1]]}).encode()
                assert (await who.send("POST", path, body, headers)).status == 403, path
            else:
                values = site.fill(form) | {"form": token, "agree0": "1", "agree1": "1", "decision": "yes"}
                assert (await who.post(path, values, **headers)).status == 403, path
        assert [site.rows(select(table)) for table in metadata.sorted_tables] == before
        values = site.fill(form)
        assert (await client.post(form.action, values, origin="null", sec_fetch_site="same-origin")).status == 200

    asyncio.run(journey())


@pytest.mark.parametrize("token", ["", "0" * 32, "another"])
def test_a_form_without_its_token_is_refused(site, token: str) -> None:
    async def journey() -> None:
        (client, _), (other, _) = await site.enter(), await site.enter()
        _, form = await site.open_page(client)
        _, theirs = await site.open_page(other)
        given = theirs.values["form"] if token == "another" else token
        assert (await client.post(form.action, site.fill(form) | {"form": given})).status == 403
        body = json.dumps({"form": given, "page": "p", "events": []}).encode()
        assert (await client.send("POST", f"{form.action}/events", body, {})).status == 403
        assert site.count(answer) == 0

    asyncio.run(journey())


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"a=" + b"x" * 70_000, "application/x-www-form-urlencoded", 413),
        (b"&".join(b"f%d=1" % k for k in range(5000)), "application/x-www-form-urlencoded", 400),
        (b"words=%00", "application/x-www-form-urlencoded", 400),
        (b"words=%ff%fe", "application/x-www-form-urlencoded", 400),
        (b"words=%ed%a0%80", "application/x-www-form-urlencoded", 400),
        (b"\xff\xfe=\x00", "application/x-www-form-urlencoded", 400),
        (b"words=" + b"x" * 5000, "application/x-www-form-urlencoded", 400),
        (b"--x\r\n", "multipart/form-data; boundary=x", 400),
        (b"<a/>", "text/xml", 400),
    ],
)
def test_bodies_that_no_page_sends_are_refused(site, body: bytes, kind: str, status: int) -> None:
    async def journey() -> None:
        client, reply = await site.enter()
        assert (await client.send("POST", reply.path, body, {"content_type": kind})).status == status
        assert (await client.send("POST", reply.path, b"", {"content_length": "-5"})).status == 400
        assert (await client.send("POST", reply.path, b"", {"content_length": "99999999999"})).status == 413
        assert (await client.send("POST", f"{reply.path}/events", b"[" * 60_000, {})).status == 400

    asyncio.run(journey())


def test_a_slow_body_is_given_up_and_others_are_served(site) -> None:
    async def journey() -> None:
        guard = Guard(
            site.app, seats=Buckets(1e9, 1e9), addresses=Buckets(1e9, 1e9), seat_cookie="x", body_seconds=0.05
        )
        sent = []

        async def receive():
            await asyncio.sleep(0.01)
            return {"type": "http.request", "body": b"x", "more_body": True}

        async def send(message):
            sent.append(message)

        headers = [(b"host", HOST.encode()), (b"content-length", b"60000")]
        scope = {"type": "http", "method": "POST", "path": "/consent", "headers": headers, "client": ("1.2.3.4", 1)}
        slow = [asyncio.create_task(guard(dict(scope), receive, send)) for _ in range(200)]
        assert (await Client(guard).get("/health")).status == 200
        await asyncio.gather(*slow)
        assert [message["status"] for message in sent if message["type"] == "http.response.start"] == [408] * 200

    asyncio.run(journey())


def test_a_bucket_gives_its_burst_and_then_its_rate() -> None:
    now = [0.0]
    buckets = Buckets(rate=2, burst=3, steady=lambda: now[0])
    assert [buckets.take("a") for _ in range(5)] == [True, True, True, False, False]
    assert buckets.take("b")
    now[0] = 1.0
    assert [buckets.take("a") for _ in range(3)] == [True, True, False]


def test_too_many_requests_are_told_to_wait(make_site, study_folder) -> None:
    site = make_site(study_folder, has_limits=True)

    async def journey() -> None:
        client, _ = await site.enter()
        replies = [await client.get("/static/icon.svg") for _ in range(200)]
        assert {reply.status for reply in replies} == {200, 429}
        assert replies[-1].header("retry-after") == "5"
        # Somebody else at the same address is not held back.
        assert (await Client(site.app).get("/")).status == 200

    asyncio.run(journey())


def test_every_answer_carries_the_same_guard_headers(site) -> None:
    async def journey() -> None:
        client, reply = await site.enter()
        for path in ("/", "/now", "/nowhere", "/admin", "/static/study.css", read_page(reply.text)[1][0], "/health"):
            found = await client.get(path)
            policy = found.header("content-security-policy")
            assert "default-src 'none'" in policy
            assert "unsafe" not in policy
            assert "frame-ancestors 'none'" in policy
            for name in (
                "x-content-type-options",
                "referrer-policy",
                "permissions-policy",
                "cross-origin-opener-policy",
            ):
                assert found.header(name)
            assert not found.header("server")

    asyncio.run(journey())
