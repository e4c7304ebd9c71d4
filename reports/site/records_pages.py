"""What the board has been and what it is made of: history, downloads with checksums, method, site map, feed."""

from __future__ import annotations

import math
from typing import Any
from xml.sax.saxutils import escape, quoteattr

from eval.notation import number
from reports.board.document import Change, RunEntry
from reports.page import showable
from reports.site.site import Site, day
from reports.site.table import Column, Row, Table, measured, words

INPUTS_SHOWN = 200
KINDS = {
    "first": "Begun",
    "added": "Added",
    "removed": "Removed",
    "moved": "Moved",
    "replaced": "Measured again",
    "study": "Study",
    "fixed": "Card",
}


def history(site: Site) -> dict[str, Any]:
    """Publishes newest first, what got worse between two measurements of a model, and removed rows."""
    publishes = [
        {
            "publish": one,
            "day": day(one.date) or "no date recorded",
            "changes": [(KINDS[change.kind], change.text, change_href(site, change)) for change in one.changes],
        }
        for one in reversed(site.board.publishes)
    ]
    again = _measured_again(site)
    return site.frame("History", 0, "History") | {
        "publishes": publishes,
        "again": again,
        "exports": site.export(again, "") if again.rows else [],
        "tombstones": list(reversed(site.board.tombstones)),
        "redirects": sorted(site.board.redirects.items()),
    }


def change_href(site: Site, change: Change) -> str:
    """The page of a change, if it is still one."""
    if not change.link:
        return ""
    kind, _, name = change.link.partition("/")
    known = {
        "model": set(site.models) | {one.id for one in site.board.tombstones if one.kind == "model"},
        "run": set(site.runs) | {one.id for one in site.board.tombstones if one.kind == "run"},
    }
    if kind == "human":
        return "human.html"
    return f"{change.link}.html" if name in known.get(kind, set()) else ""


def _measured_again(site: Site) -> Table:
    """Each metric of a model's last two runs under one fingerprint, with what may be said of the difference."""
    columns = [
        Column("model", "Model"),
        Column("protocol", "Protocol"),
        Column("metric", "Metric"),
        Column("before", "Before", "", "number"),
        Column("now", "Now", "", "number"),
        Column("gap", "Difference", "95 % interval, not paired", "number", has_interval=True),
        Column("reading", "Reading"),
    ]
    rows = []
    for table in site.board.tables:
        for name in table.runs:
            run = site.runs[name]
            older = [site.runs[one] for one in table.older if site.runs[one].model == run.model]
            if not older:
                continue
            before = max(older, key=lambda one: (one.date, one.id))
            rows += [row for column in table.metrics if (row := _row(site, before, run, column)) is not None]
    return Table("measured-again", "Models that were measured again", columns, rows)


def _row(site: Site, before: RunEntry, run: RunEntry, column: Any) -> Row | None:
    a, b = site.metric(before, column.id), site.metric(run, column.id)
    if a is None or b is None or a.value is None or b.value is None:
        return None
    low = high = None
    said = "no interval: nothing can be said"
    gap = b.value - a.value
    if a.interval and b.interval:
        down = math.hypot(b.value - b.interval.low, a.interval.high - a.value)
        up = math.hypot(b.interval.high - b.value, a.value - a.interval.low)
        low, high = gap - down, gap + up
        worse = low > 0 if column.direction == "lower" else high < 0
        better = high < 0 if column.direction == "lower" else low > 0
        said = "worse: a regression" if worse else "better" if better else "No difference found"
    cells = {
        "model": words(site.title(run), href=f"model/{run.model}.html"),
        "protocol": words(site.tables[run.table].protocol),
        "metric": words(column.label),
        "before": measured(a.value, column.decimals),
        "now": measured(b.value, column.decimals),
        "gap": measured(gap, column.decimals, low, high, min(a.n_fake, b.n_fake), sign=True),
        "reading": words(said),
    }
    return Row(f"{run.id}-{column.id}", cells)


def data(site: Site) -> dict[str, Any]:
    """Downloads, schemas, checksums, how to verify and cite."""
    inputs = [(run.id, f"run/{run.id}.html", one) for run in site.board.runs for one in run.inputs]
    inputs += [(study.id, f"human.html#{study.id}", one) for study in site.board.studies for one in study.inputs]
    return site.frame("Data", 0, "Data") | {
        "files": [
            (title, name)
            for name, title in sorted(site.exported.items())
            if not name.startswith(("prompt-", "samples-", "run-"))
        ],
        "n_more": sum(name.startswith(("prompt-", "samples-", "run-")) for name in site.exported),
        "inputs": inputs[:INPUTS_SHOWN],
        "n_inputs": len(inputs),
        "n_media": len(site.board.media),
        "media_bytes": sum(one.bytes for one in site.board.media.values()),
        "votes": [
            (f"data/votes-{s.id}-{kind}.csv", f"{s.title}, {kind}") for s in site.board.studies for kind in s.votes
        ],
    }


def method(site: Site) -> dict[str, Any]:
    return site.frame("Method", 0, "Method")


def sitemap(site: Site, pages: list[str]) -> str:
    """Every page. With an address in the board they are absolute, as the format wants them; else relative."""
    base = site.board.address.rstrip("/") + "/" if site.board.address else ""
    rows = "".join(f"<url><loc>{escape(base + page)}</loc></url>\n" for page in sorted(pages))
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">\n{rows}</urlset>\n'


def feed(site: Site) -> str:
    """An Atom feed of publishes, newest first; dates are those of the publishes."""
    base = site.board.address.rstrip("/") + "/" if site.board.address else ""
    entries = []
    for one in reversed(site.board.publishes):
        text = "\n".join(str(showable(change.text)) for change in one.changes)
        link = f"{base}history.html#publish-{one.number}"
        entries.append(
            f"<entry><id>urn:cogeval:publish:{one.number}</id><title>Publish {one.number}</title>"
            f"<updated>{one.date or '1970-01-01'}T00:00:00Z</updated><link href={quoteattr(link)}/>"
            f"<summary>{escape(text)}</summary></entry>\n"
        )
    updated = (site.board.publishes[-1].date if site.board.publishes else "") or "1970-01-01"
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n<feed xmlns="http://www.w3.org/2005/Atom">'
        f"<id>urn:cogeval:leaderboard</id><title>{escape(str(showable(site.board.title)))}</title>"
        f"<updated>{updated}T00:00:00Z</updated><author><name>cogeval</name></author>"
        f"<link href={quoteattr(base + 'index.html')}/>\n{''.join(entries)}</feed>\n"
    )


__all__ = ["data", "feed", "history", "method", "number", "sitemap"]
