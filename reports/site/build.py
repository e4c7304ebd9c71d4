"""The board as a folder of files: the same bytes from the same board, whatever the machine, and only what changed.

Pages, exports and the board itself are made from the document alone; media come by name. `manifest.json` is written
last and holds the hash of every file; a folder without it is a build that did not end.
"""

from __future__ import annotations

import csv
import io
import json
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from jinja2 import Environment

from cogvideo.errors import UserError
from eval.records import whole_file
from reports.board.document import Board
from reports.board.names import metric_page as metric_file
from reports.board.stored import board_text, check_board, json_schema
from reports.page import STATIC, environment, shipped
from reports.site import (
    board_page,
    compare_page,
    markup,
    metric_page,
    model_page,
    people_page,
    prompt_page,
    records_pages,
    run_page,
)
from reports.site.exports import guarded, table_schema
from reports.site.site import ASSETS, Site

MANIFEST = "manifest.json"
MANIFEST_VERSION = 1
WRITERS = 4
MOST_WAITING = 32


def files(board: Board) -> Iterator[tuple[str, str]]:
    """(path, text) of everything but media and the manifest. Raises UserError for a board that must not be shown."""
    check_board(board, "the board")
    site = Site(board)
    pages: list[str] = []
    for path, text in _pages(site):
        pages.append(path)
        yield path, text
        yield from site.take_exports()
    yield from compare_page.scripts(site)
    for study in board.studies:
        for kind, votes in study.votes.items():
            yield f"data/votes-{study.id}-{kind}.csv", _votes_csv(votes.columns, votes.rows)
    yield "data/board.json", board_text(board)
    yield "data/board-1.schema.json", json.dumps(json_schema(), indent=1, sort_keys=True) + "\n"
    yield "data/table-1.schema.json", json.dumps(table_schema(), indent=1, sort_keys=True) + "\n"
    yield "sitemap.xml", records_pages.sitemap(site, [path for path in pages if path != "404.html"])
    yield "feed.xml", records_pages.feed(site)
    for name in ASSETS:
        yield f"assets/{name}", shipped(STATIC / name)


def _pages(site: Site) -> Iterator[tuple[str, str]]:
    board = site.board
    if board.tables:
        yield "index.html", _render("board", board_page.page(site, board.tables[0], 0))
        for table in board.tables:
            yield f"table/{table.id}.html", _render("board", board_page.page(site, table, 1))
    else:
        text = "No run is on this board yet. Build it with: cogeval leaderboard build RUNS --out site"
        yield (
            "index.html",
            _message(site, board.title, text, 0, "data.html", "What this board is made of", "Leaderboard"),
        )
    for model in board.models:
        yield f"model/{model.id}.html", _render("model", model_page.page(site, model))
    yield "metric/index.html", _render("metrics", metric_page.overview(site))
    for name in metric_page.metric_ids(site):
        yield f"metric/{metric_file(name)}.html", _render("metric", metric_page.page(site, name))
    for place, prompt in enumerate(board.prompts):
        if prompt.page and any(place in shown for shown in site.prompts_shown.values()):
            yield f"prompt/{prompt.page}.html", _render("prompt", prompt_page.page(site, place))
    for run in board.runs:
        yield f"run/{run.id}.html", _render("run", run_page.page(site, run))
    yield "compare.html", _render("compare", compare_page.page(site))
    yield "human.html", _render("human", people_page.human(site))
    yield "agreement.html", _render("agreement", people_page.agreement(site))
    yield "history.html", _render("history", records_pages.history(site))
    yield "method.html", _render("method", records_pages.method(site))
    yield "data.html", _render("data", records_pages.data(site))
    gone = "This address leads nowhere here. Removed rows and old names are on the history page."
    yield "404.html", _message(site, "No such page", gone, 0, "index.html", "To the leaderboard", "")
    yield from _stones(site)


def _stones(site: Site) -> Iterator[tuple[str, str]]:
    """Pages of what was removed, and of old names, so that a link that was once given leads somewhere."""
    live = {f"model/{name}" for name in site.models} | {f"run/{name}" for name in site.runs}
    gone = set()
    for stone in site.board.tombstones:
        page = f"{stone.kind}/{stone.id}"
        if page not in live:
            gone.add(page)
            text = f"Removed in publish {stone.publish}: {stone.reason}"
            href = f"../history.html#gone-{stone.id}"
            yield f"{page}.html", _message(site, stone.title, text, 1, href, "What was removed and why", "History")
    for old, new in sorted(site.board.redirects.items()):
        if old not in live and old not in gone:
            yield f"{old}.html", environment().get_template("site/redirect.html.j2").render(target=f"../{new}.html")


@cache
def _templates() -> Environment:
    """The templates of all pages, and the cells of tables that the site's call."""
    made = environment().overlay()
    made.globals = environment().globals | {"cells": markup}
    return made


def _render(name: str, values: Mapping[str, Any]) -> str:
    return _templates().get_template(f"site/{name}.html.j2").render(values)


def _message(site: Site, heading: str, text: str, depth: int, href: str, link: str, current: str) -> str:
    values = {"heading": heading, "text": text, "href": href, "link": link}
    return _render("message", site.frame(heading, depth, current) | values)


def _votes_csv(columns: list[str], rows: list[list[Any]]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow(["" if one is None else one if isinstance(one, int | float) else guarded(one) for one in row])
    return out.getvalue()


def write_site(
    board: Board,
    out: Path,
    media: Mapping[str, bytes] | None = None,
    *,
    media_from: Path | None = None,
    advance: Callable[[str], None] = lambda path: None,
) -> dict[str, int]:
    """Write the site; counts of files that were written, kept and taken away.

    `media` are files by name; others come from the folder `media_from` or lie in `out` already. A media file that is
    nowhere is left out of the manifest's files and its players say so. Files of an earlier build that are no part of
    this one are taken away; a folder that holds anything else is refused with a UserError.
    """
    before = _earlier(out)
    listed: dict[str, dict[str, Any]] = {}
    counts = {"written": 0, "kept": 0, "removed": 0}
    made = dict(_media(board, out, media or {}, media_from))
    (out / MANIFEST).unlink(missing_ok=True)

    def done(one: Future[tuple[str, int, str, bool]]) -> None:
        path, length, digest, is_written = one.result()
        listed[path] = {"bytes": length, "sha256": digest}
        counts["written" if is_written else "kept"] += 1
        advance(path)

    # Files are hashed and written beside the making of the next ones; only so many are held at once.
    with ThreadPoolExecutor(WRITERS) as pool:
        waiting: deque[Future[tuple[str, int, str, bool]]] = deque()
        for path, data in _everything(board, made):
            waiting.append(pool.submit(_put, out, path, data, before.get(path, "")))
            if len(waiting) > MOST_WAITING:
                done(waiting.popleft())
        for one in waiting:
            done(one)
    for path in sorted(before.keys() - listed.keys()):
        (out / path).unlink(missing_ok=True)
        counts["removed"] += 1
    with whole_file(out / MANIFEST) as temporary:
        temporary.write_text(manifest_text(board, listed), encoding="utf-8")
    return counts


def _everything(board: Board, media: Mapping[str, bytes | Path]) -> Iterator[tuple[str, str | bytes | Path]]:
    yield from files(board)
    for name, data in sorted(media.items()):
        yield f"media/{name}", data


def _put(out: Path, path: str, given: str | bytes | Path, before: str) -> tuple[str, int, str, bool]:
    """(path, length, sha256, whether it was written) of one file; one that is there with these bytes stays."""
    data = given.read_bytes() if isinstance(given, Path) else given.encode() if isinstance(given, str) else given
    digest, target = sha256(data).hexdigest(), out / path
    if before == digest and target.is_file() and target.stat().st_size == len(data):
        return path, len(data), digest, False
    with whole_file(target) as temporary:
        temporary.write_bytes(data)
    return path, len(data), digest, True


def _media(
    board: Board, out: Path, media: Mapping[str, bytes], media_from: Path | None
) -> Iterator[tuple[str, bytes | Path]]:
    """Every media file of the board that can be had; one with other bytes than its hash says is refused."""
    for name, facts in sorted(board.media.items()):
        if name in media:
            yield name, media[name]
            continue
        for folder in (media_from, out / "media"):
            path = folder / name if folder else None
            if path is not None and path.is_file():
                if sha256(path.read_bytes()).hexdigest() != facts.sha256:
                    raise UserError(f"{path} is not what the board says it is; build with the run folders at hand")
                yield name, path
                break


def manifest_text(board: Board, listed: Mapping[str, Mapping[str, Any]]) -> str:
    """Hashes of every file, and of every record that the board was made from."""
    inputs = [
        {"of": of, "name": one.name, "bytes": one.bytes, "sha256": one.sha256}
        for of, found in [(run.id, run.inputs) for run in board.runs] + [(s.id, s.inputs) for s in board.studies]
        for one in found
    ]
    value = {
        "schema_version": MANIFEST_VERSION,
        "title": board.title,
        "publish": board.publishes[-1].number if board.publishes else 0,
        "files": {path: dict(facts) for path, facts in sorted(listed.items())},
        "inputs": inputs,
    }
    return json.dumps(value, indent=1, ensure_ascii=True) + "\n"


def _earlier(out: Path) -> dict[str, str]:
    """Files of the build that lies in the folder: path -> sha256. Raises UserError for a folder of anything else."""
    if not out.exists():
        return {}
    if not out.is_dir():
        raise UserError(f"--out {out} is a file; name a folder for the site")
    if (out / MANIFEST).is_file():
        return {path: facts["sha256"] for path, facts in read_manifest_of(out)["files"].items()}
    if any(path.name != MANIFEST and not _is_ours(path) for path in out.iterdir()):
        raise UserError(f"--out {out} holds other files; name a new folder, or one that a leaderboard was built in")
    # Left of a build that did not end: each file is written again, or taken away.
    return {path.relative_to(out).as_posix(): "" for path in out.rglob("*") if path.is_file()}


def _is_ours(path: Path) -> bool:
    """Whether an entry may be left of a build of ours that did not end."""
    names = {"assets", "data", "media", "model", "metric", "prompt", "run", "table", "sitemap.xml", "feed.xml"}
    return path.name in names or path.suffix == ".html" or path.name.startswith(".")


def read_manifest_of(out: Path) -> dict[str, Any]:
    """The manifest of a site. Raises UserError for one that is absent, damaged or newer."""
    path = out / MANIFEST
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if found["schema_version"] > MANIFEST_VERSION:
            raise UserError(f"{path} is of a newer cogeval; upgrade cogeval to read it")
        if not all(_is_inside(name) and isinstance(facts["sha256"], str) for name, facts in found["files"].items()):
            raise UserError(f"{path} is damaged: it names a file outside the site")
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}; expected the folder of a built site") from None
    except (UnicodeDecodeError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is damaged ({error}); build the site again") from None
    return dict(found)


def _is_inside(name: str) -> bool:
    parts = name.split("/")
    return bool(name) and not name.startswith("/") and "\\" not in name and not {"", ".", ".."} & set(parts)
