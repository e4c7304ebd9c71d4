"""A built leaderboard site, walked through in Chromium from file://, as a reader would: every page, then its controls.

    python benchmarks/site_walk.py SITE [--seconds 20] [--groups 6] [--axe] [--chromium PATH] [--json]

Every page is reached by links from index.html, scrolled to its end, and looked at 1280 and 320 pixels wide. Then the
index is sorted, filtered and ticked, two models are compared, and groups of clips are played. Counted: requests that
leave the machine, complaints of the console, videos asked for before somebody presses play, files that links do not
find, pages wider than their window; and how far apart the clips of a group are while they play, in milliseconds.
With `--axe`, every page is also held against WCAG A and AA (needs axe-playwright-python).
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urldefrag, urlsplit

import numpy as np

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
WCAG = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
LINKS = "[...document.querySelectorAll('a[href]')].map((a) => new URL(a.getAttribute('href'), document.baseURI).href)"
TO_THE_END = """async () => {
    for (let y = 0; y < document.documentElement.scrollHeight; y += 700) {
        scrollTo(0, y);
        await new Promise((go) => requestAnimationFrame(go));
    }
}"""
TOO_WIDE = "Math.max(0, document.documentElement.scrollWidth - innerWidth)"
# Gaps between the clips of the group that plays, looked at every 25 ms: frames are shown by time.
GAPS = """async (seconds) => {
    const groups = [...document.querySelectorAll("[data-group]")], found = [], end = performance.now() + 1000 * seconds;
    while (performance.now() < end) {
        await new Promise((go) => setTimeout(go, 25));
        const videos = [...groups[0].querySelectorAll("video")];
        if (videos.length < 2 || videos.some((video) => video.paused)) continue;
        const at = videos.map((video) => video.currentTime);
        found.push(1000 * (Math.max(...at) - Math.min(...at)));
    }
    return found;
}"""


class Walk:
    """One window and everything that it asked for and complained about."""

    def __init__(self, browser: Any) -> None:
        context = browser.new_context(viewport={"width": 1280, "height": 900})
        context.set_default_timeout(120_000)
        self.page = context.new_page()
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", lambda m: self.complaints.append(m.text) if m.type in ("error", "warning") else None)

    def outside(self) -> list[str]:
        return [one for one in self.requests if not one.startswith(("file:", "data:", "blob:", "about:"))]

    def videos(self) -> list[str]:
        return [one for one in self.requests if urlsplit(one).path.endswith((".mp4", ".webm"))]

    def until(self, expression: str) -> None:
        """The page's own policy forbids the polling that a browser would do for us."""
        for _ in range(1200):
            if self.page.evaluate(expression):
                return
            self.page.wait_for_timeout(50)
        raise RuntimeError(f"after a minute this does not hold: {expression}")


def every_page(walk: Walk, site: Path, axe: bool) -> dict[str, Any]:
    """All pages, by their links from the first."""
    seen: set[str] = set()
    dead, wide, barriers = set(), [], []
    queue = [(site / "index.html").as_uri()]
    while queue:
        address = queue.pop()
        if address in seen:
            continue
        seen.add(address)
        walk.page.set_viewport_size({"width": 1280, "height": 900})
        walk.page.goto(address)
        links = walk.page.evaluate(LINKS)
        walk.page.evaluate(TO_THE_END)
        for width in (320, 1280):
            walk.page.set_viewport_size({"width": width, "height": 900})
            if more := walk.page.evaluate(TOO_WIDE):
                wide.append(f"{address} {more} px at {width}")
        if axe:
            barriers += held_against_wcag(walk.page, address)
        for link in {urldefrag(one)[0] for one in links if one.startswith("file:")}:
            if link.endswith(".html"):
                queue.append(link)
            if not Path(unquote(urlsplit(link).path)).is_file():
                dead.add(link)
    built = {path.as_uri() for path in site.rglob("*.html")}
    return {
        "pages": len(seen),
        "not_reached": sorted(built - seen - {(site / "404.html").as_uri()}),
        "dead_links": sorted(dead),
        "too_wide": wide,
        **({"barriers": barriers} if axe else {}),
    }


def held_against_wcag(page: Any, address: str) -> list[str]:
    from axe_playwright_python.sync_playwright import Axe

    page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    found = []
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        page.wait_for_timeout(250)  # colours change in 120 ms
        # No preload: axe would fetch the style sheets again, which the policy of the pages forbids with a complaint.
        options = {"runOnly": {"type": "tag", "values": WCAG}, "preload": False}
        answer = Axe().run(page, options=options).response
        found += [f"{address} {scheme} {one['id']}: {one['nodes'][0]['html'][:120]}" for one in answer["violations"]]
    page.emulate_media(color_scheme="light")
    return found


def controls(walk: Walk, site: Path) -> None:
    """Sort, filter, tick, compare: what a reader does before the first video."""
    page = walk.page
    page.goto((site / "index.html").as_uri())
    for button in page.locator(".sort").all()[:6]:
        button.click()
    page.get_by_label("Find").fill("nobody has this name")
    page.get_by_role("button", name="Clear all").click()
    ticks = page.locator(".board tbody input[type=checkbox]")
    ticks.nth(0).check()
    ticks.nth(1).check()
    page.get_by_role("link", name="Compare 2 models").click()
    page.wait_for_url("**/compare.html#*")
    walk.until("!!document.querySelector('.differences tbody tr')")
    page.evaluate(TO_THE_END)
    picks = page.locator(".pick button")
    for k in range(min(3, picks.count())):
        picks.nth(k).click()
    page.locator(".theme").click()


def played(walk: Walk, address: str, seconds: float) -> list[float]:
    """Play, and then every other control of the group; the gaps while it played."""
    page = walk.page
    page.goto("about:blank")
    page.goto(address)
    page.evaluate(TO_THE_END)
    walk.until("!!document.querySelector('[data-group] .transport:not([hidden])')")
    before = len(walk.videos())
    group = page.locator("[data-group]").first
    group.get_by_role("button", name="Play all").click()
    walk.until("[...document.querySelector('[data-group]').querySelectorAll('video')].every((one) => !one.paused)")
    found = page.evaluate(GAPS, seconds)
    if len(walk.videos()) == before:
        raise RuntimeError("the record of requests is blind: videos played and none was asked for")
    group.get_by_role("button", name="Pause all").click()
    group.get_by_role("button", name="One frame ahead").click()
    group.get_by_role("slider", name="Frame").press("End")
    group.get_by_label("Speed").select_option("2")
    return list(found)


def main() -> None:
    from playwright.sync_api import sync_playwright

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("site", type=Path)
    parser.add_argument("--seconds", type=float, default=20.0, help="of play for each group")
    parser.add_argument("--groups", type=int, default=6, help="pages of prompts whose clips are played")
    parser.add_argument("--axe", action="store_true")
    parser.add_argument("--chromium", default=shutil.which("chromium") or "")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    site = given.site.resolve()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=given.chromium or None, args=FLAGS)
        walk = Walk(browser)
        found = every_page(walk, site, given.axe)
        controls(walk, site)
        found["videos_before_play"] = walk.videos()
        compared = walk.page.url
        prompts = [page for page in sorted((site / "prompt").glob("*.html")) if page.read_text().count("<video") > 1]
        gaps = [gap for page in prompts[: given.groups] for gap in played(walk, page.as_uri(), given.seconds)]
        if prompts:
            gaps += played(walk, compared, given.seconds)
        found |= {"requests": len(walk.requests), "outside": walk.outside(), "complaints": walk.complaints}
        browser.close()
    if gaps:
        names = ("median_ms", "p95_ms", "max_ms")
        found |= dict(zip(names, np.quantile(gaps, [0.5, 0.95, 1.0]).round(1).tolist(), strict=True))
    found |= {"looks": len(gaps), "load": os.getloadavg()[0]}
    if given.json:
        print(json.dumps(found, indent=1))
        return
    for name, value in found.items():
        lines = [] if not isinstance(value, list) else [f"    {one}" for one in value[:20]]
        print("\n".join([f"{name:<20} {len(value) if isinstance(value, list) else value}", *lines]))


if __name__ == "__main__":
    main()
