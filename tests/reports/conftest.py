"""Invented runs with real videos, a real Chromium to look at pages with, and what is asked of every page."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from eval.published import PublishedRow

# Every stop of the tab key: what has the focus, whether its ring can be seen, and that the keyboard can leave it.
STOP = """() => {
    const one = document.activeElement, style = getComputedStyle(one);
    return [one === document.body ? "" : one.outerHTML.slice(0, 90),
        style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2 ? "ring" : "no ring"];
}"""
# How far apart the clips of the first group are, in milliseconds, looked at every 25: frames are shown by time, so this
# is what an eye could see.
SPREAD = """async (looks) => {
    const videos = [...document.querySelectorAll("[data-group]")[0].querySelectorAll("video")], found = [];
    for (let k = 0; k < looks; k++) {
        await new Promise((go) => setTimeout(go, 25));
        if (videos.some((video) => video.paused)) continue;
        const at = videos.map((video) => video.currentTime);
        found.push(1000 * (Math.max(...at) - Math.min(...at)));
    }
    return found.sort((a, b) => a - b);
}"""
HOSTILE = [
    "<script>window.__x=1</script>",
    '"><svg onload=window.__x=1>',
    "</script><script>window.__x=1</script>",
    "{{7*7}}",
]
CONTROLS = "a[href], button, input, select, textarea, summary, video, [tabindex='0']"


@pytest.fixture(scope="session")
def sample_runs() -> ModuleType:
    """`tests/eval/sample_runs.py`: builders of invented results and run folders."""
    name = "cogeval_sample_runs"
    if name not in sys.modules:
        path = Path(__file__).parents[1] / "eval" / "sample_runs.py"
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


def moving_clip(seed: int, frames: int = 16, side: int = 64) -> np.ndarray:
    """A pattern that moves: (T, H, W, 3) uint8, another one for each seed."""
    y, x = np.mgrid[:side, :side]
    pictures = [
        np.stack(
            [np.sin((x + 3 * k) / (4 + seed)) * 120 + 128, np.cos((y + seed * k) / 6) * 120 + 128, 9.0 * k + 0 * x], -1
        )
        for k in range(frames)
    ]
    return np.stack(pictures).astype(np.uint8)


@pytest.fixture(scope="session")
def full_run(sample_runs: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with everything that a report can show: videos, classes, n, generators, printed numbers."""
    from cogvideo.video import write_video
    from eval.comparison_record import ComparedMetric, ComparedPair, ComparedRun, ComparisonRecord
    from eval.records import ExtrapolationRecord, write_record

    folder = tmp_path_factory.mktemp("runs") / "model-a-7f3a2c91"
    metrics = sample_runs.sketch_metrics()
    points = [(256, 566.0), (512, 487.0), (1024, 439.0), (2048, 412.6)]
    line = ExtrapolationRecord(value=391.0, low=372.0, high=410.0, points=points)
    scores = [0.2 + i / 100 for i in range(12)]
    classes = {"Archery": 0.47, "Biking": 0.68, "Surfing": 0.66}
    metrics[0] = metrics[0].model_copy(update={"extrapolated": line})
    metrics[3] = metrics[3].model_copy(update={"per_class": classes})
    prompts = ["A kite over a meadow", "一个人在草地上放风筝", "قارب في الخليج", *["Somebody rides a bicycle"] * 9]
    result = sample_runs.result(metrics, environment={"cogeval": "0.1.0", "python": "3.11"})
    sample_runs.write_run(folder, result, scores={metrics[3].id: scores}, prompts=prompts)
    (folder / "samples").mkdir()
    for i in range(12):
        write_video(folder / "samples" / f"{i:05d}.mp4", moving_clip(i), fps=8)
    runs = [
        ComparedRun(folder=folder.name, name="Model A", spec="diffusers:model-a", value=412.6, low=398.1, high=428.0,
                    floor=61.8, n_fake=2048, first_rank=1, last_rank=1, is_leading=True),
        ComparedRun(folder="shuffled-1", name="Shuffled", spec="shuffled", value=903.0, low=880.0, high=926.0,
                    n_fake=2048, first_rank=2, last_rank=2),
        ComparedRun(folder="noise-1", name="Noise", spec="noise", value=1482.0, low=1450.0, high=1514.0,
                    n_fake=2048, first_rank=3, last_rank=3),
    ]  # fmt: skip
    pairs = [
        ComparedPair(first=folder.name, second="shuffled-1", value=-490.4, low=-520.0, high=-460.8, reading="lower",
                     method="invented"),
        ComparedPair(first="noise-1", second=folder.name, value=1069.4, low=1030.0, high=1110.0, reading="higher",
                     method="invented"),
    ]  # fmt: skip
    compared = ComparedMetric(
        id=metrics[0].id, label="FVD", direction="lower", decimals=1, fingerprint="b41e09d7", runs=runs, pairs=pairs
    )
    write_record(folder / "comparison.json", ComparisonRecord(metrics=[compared]))
    return folder


@pytest.fixture(scope="session")
def few_printed() -> list[PublishedRow]:
    """Printed numbers of the sketch's setting and of others: a page with all 117 takes axe a minute."""
    facts: dict[str, Any] = {"dataset": "ucf101", "metric": "FVD", "confidence": "high", "source": "a", "frames": 16}
    same = {"setting": "trained on UCF-101 train", "resolution": 128, "samples": 2048}
    texts: dict[str, Any] = {"source_text": "Paper A", "disputes": ("Model R: 577 against 600.",)}
    return [
        PublishedRow(model="Model P", year=2024, value=332, **facts, **same),
        PublishedRow(model="Model R", year=2022, value=577, std=15, **facts, **same),
        PublishedRow(model="CogVideo", year=2022, value=626, setting="finetuned", **facts, **texts),
        PublishedRow(model="Model S", value=838, setting="trained on UCF-101 train+test", **facts),
    ]


@dataclass
class Window:
    """A page in a browser, with everything that it asked for and complained about."""

    page: Any
    find_barriers: Callable[[Any], list[str]]
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    @property
    def outside(self) -> list[str]:
        """Requests that left the machine: neither files nor data."""
        return [address for address in self.requests if not address.startswith(("file:", "data:", "blob:", "about:"))]

    def axe(self) -> list[str]:
        """Violations of WCAG A and AA."""
        return self.find_barriers(self.page)

    def until(self, expression: str, most: float = 60.0) -> None:
        """Waits for an expression to hold. The page's policy forbids the polling that a browser would do itself."""
        for _ in range(int(most / 0.05)):
            if self.page.evaluate(expression):
                return
            self.page.wait_for_timeout(50)
        pytest.fail(f"after {most:g} s this does not hold: {expression}")

    def spread(self, looks: int) -> list[float]:
        """Milliseconds between the clips of the first group while all of them play, smallest first."""
        return self.page.evaluate(SPREAD, looks)

    def too_wide(self) -> int:
        """How far the page is wider than its window."""
        return max(0, self.page.evaluate("document.documentElement.scrollWidth - innerWidth"))

    def stops(self, most: int = 400) -> list[tuple[str, str]]:
        """What the tab key reaches from the top until it is back there, and whether the ring shows."""
        self.page.evaluate("document.activeElement.blur()")
        found = []
        for _ in range(most):
            self.page.keyboard.press("Tab")
            words, ring = self.page.evaluate(STOP)
            if not words:
                return found
            found.append((words, ring))
        pytest.fail(f"the keyboard is caught at {found[-1][0]}")

    def controls(self) -> int:
        """How many controls can be seen, which the tab key has to reach."""
        return self.page.evaluate(
            f"[...document.querySelectorAll({CONTROLS!r})].filter((one) => one.checkVisibility()"
            " && !one.disabled && one.tabIndex >= 0).length"
        )


@pytest.fixture(scope="session")
def hostile_words() -> list[str]:
    """Strings that would set `window.__x` if a page let them, and those of the reference folder where it is there."""
    default = Path(__file__).parents[2] / ".." / "shared" / "reference"
    path = Path(os.environ.get("COGEVAL_REFERENCE_DIR", default)) / "human" / "hostile_strings.json"
    return HOSTILE + (json.loads(path.read_text(encoding="utf-8"))["text"] if path.exists() else [])


@pytest.fixture
def open_page(browser: Any, axe: Callable[[Any], list[str]]) -> Iterator[Callable[..., Window]]:
    """`open_page(path, width=1280, **settings of the browser window)` from file://."""
    contexts = []

    def start(path: Path, *, width: int = 1280, fragment: str = "", **settings: Any) -> Window:
        context = browser.new_context(viewport={"width": width, "height": 900}, **settings)
        contexts.append(context)
        context.set_default_timeout(60_000)
        window = Window(context.new_page(), axe)
        window.page.on("request", lambda request: window.requests.append(request.url))
        window.page.on(
            "console", lambda m: window.complaints.append(m.text) if m.type in ("error", "warning") else None
        )
        window.page.on("pageerror", lambda error: window.complaints.append(str(error)))
        window.page.goto(path.resolve().as_uri() + fragment)
        return window

    yield start
    for context in contexts:
        context.close()


def html_problems(text: str) -> list[str]:
    """Every parse error of the HTML standard, repeated ids, and links inside the page that lead nowhere."""
    html5lib = pytest.importorskip("html5lib")
    parser = html5lib.HTMLParser(strict=False, namespaceHTMLElements=False)
    document = parser.parse(text)
    found = [f"line {where[0]}: {code} {facts}" for where, code, facts in parser.errors]
    ids = [one.get("id") for one in document.iter() if one.get("id")]
    found += [f"repeated id {name}" for name in sorted({name for name in ids if ids.count(name) > 1})]
    for one in document.iter():
        href = one.get("href") or ""
        if href.startswith("#") and len(href) > 1 and href[1:] not in ids and re.fullmatch(r"#[\w-]+", href):
            found.append(f"dead link {href}")
        found += [
            f"{name} names no element: {one.get(name)}"
            for name in ("aria-labelledby", "aria-describedby", "for")
            if one.get(name) and not set(one.get(name).split()) <= set(ids)
        ]
    return found


@pytest.fixture(scope="session")
def problems_of_html() -> Callable[[str], list[str]]:
    """`html_problems` for tests, which cannot import a conftest."""
    return html_problems


@pytest.fixture(scope="session")
def lab() -> ModuleType:
    """`tests/reports/lab.py`: runs, a study and videos as folders."""
    name = "cogeval_reports_lab"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name("lab.py"))
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]
