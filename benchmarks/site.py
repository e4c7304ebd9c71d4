"""Size and time of the leaderboard site: invented boards, built in a process of their own and opened in Chromium.

    python benchmarks/site.py [--case small|large ...] [--chromium PATH] [--json]

small: 50 models x 12 metrics, 30 prompts (budget: index 300 KiB and 100 KiB gzipped, other pages 200 KiB, build 10 s).
large: 500 models x 40 metrics, 2,000 prompts (index interactive in 2 s, build under 60 s and 1 GB).
Scripts together at most 25 KiB. Interactive: from the call to open the file until the controls are there and answer.
Seconds of CPU stand beside those of the wall, which another program on the machine makes longer.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

T = TypeVar("T")
CASES = {"small": (50, 12, 30, 30), "large": (500, 40, 2000, 30)}
FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync"]


def invented(models: int, metrics: int, prompts: int) -> Any:
    """A board of one table: the first two metrics have a score for every prompt, the rest an interval alone."""
    from eval.records import Counts, DataFacts, GeneratorFacts, IntervalRecord, MetricResult, Result
    from reports.board.document import Board, ModelEntry, PromptEntry, RunEntry, Samples, TableEntry

    random = np.random.default_rng(0)
    board = Board()
    board.prompts = [
        PromptEntry(
            benchmark="prompts", sample=f"{i:05d}", prompt=f"a thing number {i} that moves", label=f"kind {i % 20}"
        )
        for i in range(prompts)
    ]
    board.tables = [
        TableEntry(
            id="prompts-invented-00000000",
            benchmark="prompts",
            benchmark_title="Prompts",
            protocol="invented",
            fingerprint="00000000",
            is_embedded=False,
        )
    ]
    common = random.normal(size=prompts)
    for k in range(models):
        name = f"model-{k:03d}"
        scores = {
            f"metric-{m:02d}/x": (0.3 + 0.0005 * k + 0.02 * common + 0.02 * random.normal(size=prompts)).round(6)
            for m in range(2)
        }
        found = []
        for m in range(metrics):
            held = scores.get(f"metric-{m:02d}/x")
            value = float(held.mean()) if held is not None else float(400 + k + 20 * random.normal())
            half = 0.002 if held is not None else 12.0
            found.append(
                MetricResult(
                    id=f"metric-{m:02d}/x",
                    metric="clipsim" if held is not None else "fvd",
                    label=f"M{m:02d}",
                    direction="higher" if held is not None else "lower",
                    decimals=4 if held is not None else 1,
                    value=value,
                    interval=IntervalRecord(low=value - half, high=value + half, level=0.95, method="invented"),
                    n_fake=prompts,
                    fingerprint=f"{m:08x}",
                )
            )
        result = Result(
            status="complete",
            comparable=True,
            benchmark="prompts",
            benchmark_title="Prompts",
            protocol_name="invented",
            fingerprint="00000000",
            generator=GeneratorFacts(spec=f"folder:{name}", title=f"Model {k:03d}"),
            seed=0,
            counts=Counts(planned=prompts, made=prompts, ok=prompts, rejected=0),
            data=DataFacts(name="prompts", list_sha256="0" * 64, n_items=prompts, n_reference=0),
            metrics=found,
            created="2026-10-30T00:00:00Z",
        )
        board.models.append(ModelEntry(id=name, title=f"Model {k:03d}", keys=[f"folder:{name}"]))
        board.runs.append(
            RunEntry(
                id=f"{name}-{k:08x}",
                model=name,
                table="prompts-invented-00000000",
                folder=name,
                date="2026-10-30",
                state="complete",
                planned=prompts,
                result=result,
                samples=Samples(
                    ids=[p.sample for p in board.prompts],
                    prompts=list(range(prompts)),
                    seeds=list(range(prompts)),
                    scores={metric: values.tolist() for metric, values in scores.items()},
                ),
            )
        )
    return board


def ranked(board: Any, shown: int) -> None:
    """Everything that follows from the runs: order, rank ranges, pairs, prompts with a page, the first publish."""
    from reports.board.assemble import finish

    finish(board, None, prompts=shown)


def build_here(case: str, out: Path) -> None:
    """In a process of its own, so that its peak memory is that of a build."""
    from reports.site.build import write_site

    spent: dict[str, float] = {}

    def timed(name: str, act: Callable[[], T]) -> T:
        wall, cpu = time.perf_counter(), time.process_time()
        found = act()
        spent[f"{name}_s"], spent[f"{name}_cpu_s"] = time.perf_counter() - wall, time.process_time() - cpu
        return found

    board = invented(*CASES[case][:3])
    timed("rank", lambda: ranked(board, CASES[case][3]))
    timed("write", lambda: write_site(board, out))
    spent["peak_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    board.runs[0].notes.append("one thing changed")
    counts = timed("again", lambda: write_site(board, out))
    print(json.dumps(spent | {"again_files": counts["written"]}))


def opened(out: Path, chromium: str, times: int = 5) -> dict[str, float] | None:
    """Seconds from asking for the file until its controls answer, and until a click has sorted the table; medians."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        return None
    ready, done = [], []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        for _ in range(times):
            page = browser.new_page(viewport={"width": 1280, "height": 900})
            page.set_default_timeout(120_000)
            started = time.perf_counter()
            page.goto(out.joinpath("index.html").as_uri(), wait_until="domcontentloaded")
            assert page.evaluate("!document.querySelector('.filters').hidden")
            ready.append(time.perf_counter() - started)
            page.evaluate("document.querySelectorAll('.sort')[3].click()")
            assert page.evaluate("document.body.offsetHeight") > 0
            assert page.get_attribute("th >> nth=3", "aria-sort") == "ascending"
            done.append(time.perf_counter() - started)
            page.close()
        browser.close()
    return {"interactive_s": sorted(ready)[len(ready) // 2], "sorted_s": sorted(done)[len(done) // 2]}


def measured(case: str, chromium: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "site"
        run = subprocess.run(
            [sys.executable, __file__, "--build", case, "--out", str(out)],
            capture_output=True,
            text=True,
            check=True,
            env=os.environ | {"PYTHONPATH": os.pathsep.join([".", *sys.path])},
        )
        facts = json.loads(run.stdout)
        index = (out / "index.html").read_bytes()
        pages = {p: p.stat().st_size for p in out.rglob("*.html")}
        largest = max(
            (p for p in pages if p != out / "index.html" and p.parent.name != "table"), key=lambda p: pages[p]
        )
        shown = opened(out, chromium) if chromium else None
        return {
            "case": case,
            **facts,
            "files": sum(1 for p in out.rglob("*") if p.is_file()),
            "index_kib": len(index) / 1024,
            "index_gz_kib": len(gzip.compress(index)) / 1024,
            "largest_other": f"{largest.relative_to(out)} {pages[largest] / 1024:.0f} KiB",
            "js_kib": sum(p.stat().st_size for p in (out / "assets").glob("*.js")) / 1024,
            "css_kib": sum(p.stat().st_size for p in (out / "assets").glob("*.css")) / 1024,
            **(shown or {}),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--case", nargs="*", choices=list(CASES), default=list(CASES))
    parser.add_argument("--chromium", default=shutil.which("chromium") or "")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--build", choices=list(CASES), help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.build:
        build_here(given.build, given.out)
        return
    for case in given.case:
        found = measured(case, given.chromium)
        if given.json:
            print(json.dumps(found))
        else:
            for name, value in found.items():
                print(f"{name:<16} {value:,.2f}" if isinstance(value, float) else f"{name:<16} {value}")
            print(flush=True)


if __name__ == "__main__":
    main()
