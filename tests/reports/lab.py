"""An invented lab: runs of several models and protocols, a small study, and cards, as folders on disk. No torch."""

from __future__ import annotations

import json
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import yaml

from eval.influence import influences, write_influences
from eval.records import Counts, GeneratorFacts, Result

N = 24
CLIPSIM = "clipsim/vit-b-32"
FVD = "fvd/tats-16f-2048"
PROMPTS = ["A sailing boat crosses the bay", "一个人在草地上放风筝", "أسد في الماء", "a red kite"]


def write_model(
    lab: ModuleType,
    folder: Path,
    title: str,
    *,
    fvd: float = 400.0,
    clipsim: float = 0.3,
    seed: int = 0,
    spread: float = 0.01,
    fingerprint: str = "b41e09d7",
    protocol: Any = "default",
    prompts: list[str] | None = None,
    date: str = "2026-10-30",
    with_influence: bool = True,
    **more: Any,
) -> Path:
    """A run of N samples with CLIPSIM scores and influence values of FVD."""
    random = np.random.default_rng(seed)
    common = np.random.default_rng(99).normal(size=N)
    scores = clipsim + spread * (common + 0.3 * random.normal(size=N))
    scores -= scores.mean() - clipsim
    half = 20.0
    metrics = [
        lab.metric("FVD", fvd, fvd - half, fvd + half, id=FVD, fingerprint=fingerprint, n=N, floor=61.8),
        lab.metric(
            "CLIPSIM",
            float(scores.mean()),
            float(scores.mean() - 0.004),
            float(scores.mean() + 0.004),
            kind="clipsim",
            id=CLIPSIM,
            fingerprint=f"c{fingerprint[1:]}",
            n=N,
        ),
    ]
    found: Result = lab.result(
        metrics,
        generator=GeneratorFacts(spec=f"folder:{title}", title=title),
        counts=Counts(planned=N, made=N, ok=N, rejected=0),
        fingerprint=fingerprint,
        created=f"{date}T12:00:00Z",
        warnings=[],
        **more,
    )
    texts = prompts or [PROMPTS[i % len(PROMPTS)] for i in range(N)]
    chosen = lab.PROTOCOL if protocol == "default" else protocol
    lab.write_run(folder, found, scores={CLIPSIM: scores.tolist()}, prompts=texts, label="", protocol=chosen)
    if with_influence:
        ids = [f"{i:05d}" for i in range(N)]
        moved = 40 * (common + 0.4 * random.normal(size=N))
        real = np.random.default_rng(98).normal(size=N)
        kept = influences(ids, moved - moved.mean(), real - real.mean(), ids, ids)
        write_influences(folder, {FVD: kept})
    return folder


def write_models(lab: ModuleType, folder: Path, names: str, *, step: float, videos: int) -> list[Path]:
    """Models A, B, ... whose FVD is `step` apart, with real videos of their first samples."""
    runs = []
    for k, name in enumerate(names):
        title, fvd = f"Model {name.upper()}", 400 + step * k
        runs.append(write_model(lab, folder / f"model-{name}", title, fvd=fvd, clipsim=0.3 - 0.01 * k, seed=k))
        for i in range(videos):
            write_video(runs[-1] / "samples" / f"{i:05d}.mp4", k)
    return runs


def write_other_protocol(lab: ModuleType, folder: Path, title: str) -> Path:
    """A run of clips of 8 frames: never in one order with those of `write_models`."""
    more = {"fingerprint": "00000008", "protocol": lab.other_frames(8), "protocol_name": "tats-8f-2048"}
    return write_model(lab, folder, title, **more)


def write_study(folder: Path, runs: list[Path], n_items: int = 3, raters: int = 4) -> Path:
    """A study of the runs' videos with its analysis: every number of the analysis is invented."""
    names = [run.name for run in runs]
    items = [f"{i:05d}" for i in range(n_items)]
    interval = {"low": 3.0, "high": 4.0, "method": "invented", "level": 0.95, "reason": ""}
    design = {
        "name": folder.name,
        "models": [{"id": name, "title": name, "source": str(run)} for name, run in zip(names, runs, strict=True)],
        "items": [{"id": item, "prompt": {"en": f"prompt {item}"}} for item in items],
        "aspects": [{"id": "overall", "name": {"en": "Overall"}, "scale": {"low": 1, "high": 5}}],
        "consent": {"who": "Lab X", "pay": {"en": "9 an hour"}},
        "quota": {"raters": raters},
    }
    opinions = [
        {"model": name, "mean": 4.0 - 0.4 * i, "interval": interval, "n": raters * n_items, "by_rater": interval}
        for i, name in enumerate(names)
    ]
    shares = [
        {"option": name, "share": 1 / len(names), "count": 3, "n": 9, "interval": {"low": 0.1, "high": 0.6}}
        for name in names
    ]
    analysis = {
        "schema": 1,
        "models": names,
        "n_raters": raters,
        "excluded": {},
        "analysed": {
            "raters": raters,
            "aspects": {"overall": {"opinions": opinions, "differences": [], "pair_tests": []}},
            "favourites": {"": {"shares": shares}},
        },
        "screening": {"raters": {f"r-{k:04d}": {"n": 9, "flags": [], "use": True} for k in range(raters)}},
        "notes": ["r-0000 was quick"],
    }
    (folder / "analysis").mkdir(parents=True)
    (folder / "export").mkdir()
    (folder / "study.yaml").write_text(yaml.safe_dump(design, allow_unicode=True), encoding="utf-8")
    (folder / "analysis" / "analysis.json").write_text(json.dumps(analysis), encoding="utf-8")
    random = np.random.default_rng(5)
    lines = ["rater,item,model,aspect,score,position,trial"]
    for k in range(raters):
        for item in items:
            for i, name in enumerate(names):
                score = int(np.clip(round(4 - 0.5 * i + random.normal()), 1, 5))
                lines.append(f"r-{k:04d},{item},{name},overall,{score},{i + 1},1")
    (folder / "export" / "ratings.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def write_video(path: Path, seed: int) -> None:
    """Sixteen frames of a moving square."""
    from cogvideo.video import write_video as write

    clip = np.zeros((16, 64, 64, 3), dtype=np.uint8)
    clip[..., seed % 3] = 60
    for k in range(16):
        clip[k, 10 : 10 + 8 + seed, 2 * k : 2 * k + 10] = 220
    path.parent.mkdir(parents=True, exist_ok=True)
    write(path, clip, fps=8)


class Page(HTMLParser):
    """Ids, links and text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.tags: Counter[str] = Counter()
        self.attributes: set[str] = set()
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags[tag] += 1
        self.attributes |= {name for name, _ in attrs}
        given = dict(attrs)
        if "id" in given:
            self.ids.append(given["id"])
        for name in ("href", "src", "poster", "data-src"):
            if given.get(name):
                self.links.append(given[name])

    def handle_data(self, data):
        self.words.append(data)


def pages(site: Path) -> dict[str, str]:
    return {p.relative_to(site).as_posix(): p.read_text(encoding="utf-8") for p in sorted(site.rglob("*.html"))}
