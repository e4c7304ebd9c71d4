"""How far apart four clips of a group are while they play for 20 seconds: the players of a run report in Chromium.

    python benchmarks/players.py [--seconds 20] [--chromium PATH] [--json]

Budget: 95 of 100 looks within 50 ms. A busy machine drops frames and makes it worse; the load is printed beside it.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np

FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync"]
CLIPS, FRAMES, SIDE, FPS = 4, 48, 256, 8
LOOK = """async (seconds) => {
    const videos = [...document.querySelectorAll("video")], found = [], end = performance.now() + 1000 * seconds;
    while (performance.now() < end) {
        await new Promise((go) => setTimeout(go, 25));
        if (videos.some((video) => video.paused)) continue;
        const at = videos.map((video) => video.currentTime);
        found.push(1000 * (Math.max(...at) - Math.min(...at)));
    }
    return found;
}"""


def page(folder: Path) -> Path:
    """Four clips and the shipped players, without a run around them."""
    from cogvideo.video import write_video
    from reports.page import environment, script, stylesheet

    random = np.random.default_rng(0)
    films = []
    for k in range(CLIPS):
        noise = random.integers(0, 255, size=(SIDE // 8, SIDE // 8, 3)).repeat(8, axis=0).repeat(8, axis=1)
        clip = np.stack([np.roll(noise, (k + 1) * frame, axis=1) for frame in range(FRAMES)]).astype(np.uint8)
        write_video(folder / f"{k}.mp4", clip, fps=FPS)
        films.append(
            f'<li><span class="screen"><video data-film muted loop playsinline preload="none" width="{SIDE}"'
            f' height="{SIDE}" data-frames="{FRAMES}" data-fps="{FPS}" src="{k}.mp4"'
            f' aria-label="{k}"></video></span></li>'
        )
    bar = environment().from_string('{% import "players.html.j2" as players %}{{ players.transport() }}').render()
    text = f'<ul class="films">{"".join(films)}</ul>{bar}'
    path = folder / "players.html"
    path.write_text(
        f'<!doctype html><meta charset="utf-8"><title>p</title><style>{stylesheet()}</style>'
        f'<script>{script()}</script><button class="theme"></button><div data-group>{text}</div>',
        encoding="utf-8",
    )
    return path


def main() -> None:
    from playwright.sync_api import sync_playwright

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--chromium", default=shutil.which("chromium") or "")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=given.chromium or None, args=FLAGS)
        window = browser.new_page(viewport={"width": 1280, "height": 900})
        window.goto(page(Path(folder)).as_uri())
        window.click("[data-do=play]")
        gaps = np.array(window.evaluate(LOOK, given.seconds))
        browser.close()
    shares = dict(zip(("median_ms", "p95_ms", "max_ms"), np.quantile(gaps, [0.5, 0.95, 1.0]).tolist(), strict=True))
    found = shares | {"looks": len(gaps), "load": os.getloadavg()[0]}
    print(json.dumps(found) if given.json else "\n".join(f"{name:<10} {value:,.1f}" for name, value in found.items()))


if __name__ == "__main__":
    main()
