"""`report.html` of `cogeval sensitivity`: one figure a metric, small multiples on one scale, nothing from elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eval.notation import better, count, duration, fingerprint, interval, number
from eval.records import whole_file
from eval.responses import (
    FILE,
    Curve,
    MetricResponse,
    Point,
    Sensitivity,
    harm,
    in_words,
    largest_response,
    read_sensitivity,
    reading,
    sees_motion,
    share,
)
from reports.page import environment, script, script_hash, stylesheet

WORDS = {"punished": "punished", "rewarded": "rewarded", "unseen": "not seen", "unknown": "undefined"}
MOTION = {
    "yes": ("ok", "Sees motion"),
    "partly": ("partial", "Sees some of motion"),
    "no": ("not", "Does not see motion"),
}
# Places inside one small figure, in percent of its width and pixels of its height.
HEIGHT = 76
MIDDLE, REACH = 38, 30
LEFT, RIGHT = 8.0, 92.0


@dataclass(frozen=True)
class Mark:
    """One strength: place, ends of the interval, and whether the change is told from chance."""

    x: str
    y: str
    low: str
    high: str
    is_called: bool


@dataclass(frozen=True)
class Panel:
    """One metric under one corruption. `path` joins the marks, from no corruption on, as an SVG polyline in 0..100."""

    title: str
    verdict: str
    kind: str
    size: str
    alt: str
    marks: tuple[Mark, ...]
    path: str


@dataclass(frozen=True)
class Row:
    """One metric: its figure, its sentence and every number behind both."""

    label: str
    id: str
    better: str
    clean: str
    n: str
    badge: tuple[str, str]
    words: str
    panels: tuple[Panel, ...]
    numbers: tuple[tuple[str, str, str, str, str], ...]


def is_sensitivity(run: Path) -> bool:
    """Whether a run folder is one of `cogeval sensitivity`."""
    return (run / FILE).exists()


def write_page(run: Path) -> Path:
    """Write `report.html` into the run folder from its record, whole, the same bytes from the same record."""
    path = run / "report.html"
    page = render(read_sensitivity(run), run.name)
    with whole_file(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return path


def render(record: Sensitivity, folder: str) -> str:
    """The page as text."""
    ours = script(has_players=False)
    rows = [metric_row(metric, record) for metric in record.metrics]
    values: dict[str, Any] = {
        "title": record.title,
        "home": "",
        "nav": [],
        "current": "",
        "sample": "Embedded data" if record.is_embedded else "",
        "css": stylesheet(),
        "css_href": [],
        "js": ours,
        "js_href": [],
        "policy": (
            f"default-src 'none'; script-src {script_hash(ours)}; style-src 'unsafe-inline'; img-src data:;"
            " base-uri 'none'; form-action 'none'"
        ),
        "footer": [],
        "record": record,
        "folder": folder,
        "lead": lead(record),
        "fingerprint": fingerprint(record.fingerprint),
        "rows": rows,
        "height": HEIGHT,
        "middle": MIDDLE,
        "facts": facts(record),
        "command": command(record),
        "environment": sorted(record.environment.items()),
    }
    return environment().get_template("sensitivity.html.j2").render(values)


def lead(record: Sensitivity) -> str:
    """The answer in a sentence: who punishes all, some or no corruption of time."""
    found = {kind: [m.label for m in record.metrics if sees_motion(m, record.corruptions) == kind] for kind in MOTION}
    first = {
        "yes": "every corruption of time is punished by",
        "partly": "some corruptions of time are punished by",
        "no": "no corruption of time is punished by",
    }
    more = {"yes": first["yes"], "partly": "some are by", "no": "none is by"}
    named = [(kind, labels) for kind, labels in found.items() if labels]
    parts = [f"{(more if k else first)[kind]} {_joined(labels)}" for k, (kind, labels) in enumerate(named)]
    said = "; ".join(parts)
    return f"At full strength {said}." if said else "No metric has a value."


def metric_row(metric: MetricResponse, record: Sensitivity) -> Row:
    """The row of one metric, its panels on the metric's own scale."""
    largest = largest_response(metric)
    ends = [abs(end) for curve in metric.curves for p in curve.points if (found := harm(metric, p)) for end in found]
    # Intervals wider than the largest response would flatten the curves: they run out of the picture instead.
    scale = min(max(ends, default=0.0), 1.5 * largest) or 1.0
    titles = {facts.name: facts.title for facts in record.corruptions}
    return Row(
        label=metric.label,
        id=metric.id,
        better=better(metric.direction),
        clean=number(metric.clean, metric.decimals),
        n=count(metric.n_fake),
        badge=MOTION[sees_motion(metric, record.corruptions)],
        words=in_words(metric, record.corruptions),
        panels=tuple(_panel(metric, curve, titles[curve.corruption], scale) for curve in metric.curves),
        numbers=tuple(
            _numbers(metric, titles[curve.corruption], point) for curve in metric.curves for point in curve.points
        ),
    )


def _panel(metric: MetricResponse, curve: Curve, title: str, scale: float) -> Panel:
    found = reading(metric, curve)
    part = share(metric, curve)
    n = len(curve.points)
    marks = []
    path = [f"{LEFT:.1f},{MIDDLE}"]
    for place, point in enumerate(curve.points, start=1):
        if (ends := harm(metric, point)) is None:
            continue
        x = LEFT + (RIGHT - LEFT) * place / n
        y, low, high = (_y(value / scale) for value in ends)
        marks.append(Mark(f"{x:.1f}%", y, low, high, ends[1] > 0 or ends[2] < 0))
        path.append(f"{x:.1f},{y}")
    size = "" if part is None or found.kind in ("unseen", "unknown") else f"{abs(100 * part):.0f} %"
    since = f" from {found.since}" if found.since else ""
    said = ", ".join(f"{point.label}: {number(point.change, metric.decimals, sign=True)}" for point in curve.points)
    alt = f"{metric.label} under {title.lower()}: {WORDS[found.kind]}{since}. Change of the value at {said}."
    verdict = f"{WORDS[found.kind]}{since}"
    return Panel(title, verdict, found.kind, size, alt, tuple(marks), " ".join(path))


def _y(part: float) -> str:
    """Pixels from the top: worse is up; what runs out of the picture ends at its edge."""
    return f"{MIDDLE - REACH * max(-1.2, min(1.2, part)):.1f}"


def _numbers(metric: MetricResponse, title: str, point: Point) -> tuple[str, str, str, str, str]:
    """Corruption, strength, value, change and its interval, in words."""
    if point.change is None or point.low is None or point.high is None:
        return title, point.label, number(point.value, metric.decimals), "", point.note or "undefined"
    return (
        title,
        point.label,
        number(point.value, metric.decimals),
        number(point.change, metric.decimals, sign=True),
        interval(point.low, point.high, metric.decimals, sign=True),
    )


def facts(record: Sensitivity) -> list[tuple[str, str]]:
    """What was measured on what."""
    clip = record.protocol.get("clip", {})
    size = clip.get("size")
    rows = [
        ("Protocol", f"{record.protocol_name}: {record.protocol.get('title', '')}"),
        ("Corrupted clips", f"{count(record.n_clips)} of {count(record.n_sources)} sources"),
        ("Reference clips", count(record.n_reference)),
        ("Clip", f"{clip.get('frames', '?')} frames" + (f", {size[1]} × {size[0]}" if size else "")),
        ("Data set", record.data.title or record.data.name),
        ("Hash of the list", f"sha256 {record.data.list_sha256}"),
        ("Seed", str(record.seed)),
        ("Changed here", "; ".join(record.protocol.get("changes", ()))),
        ("Time", duration(record.timing["total"]) if "total" in record.timing else ""),
    ]
    return [(term, value) for term, value in rows if value]


def command(record: Sensitivity) -> str:
    """The command that makes it again, without the place of anybody's files."""
    words = ["cogeval sensitivity", "--protocol", record.protocol_name, "--seed", str(record.seed)]
    words += ["--samples", str(record.n_clips), "--real-samples", str(record.n_reference)]
    return " ".join(words if record.is_embedded else [*words, "--data or --clips DIR"])


def _joined(words: list[str]) -> str:
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))
