"""Raters by HTTP against a server of its own: requests a second, the slowest hundredth, and whether every row is there.

python benchmarks/human_load.py [--raters 100] [--trials 30] [--database postgresql://USER@HOST/NAME]
"""

from __future__ import annotations

import argparse
import http.client
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import numpy as np
from sqlalchemy import func, select

from cogvideo.video import write_video
from human_eval.app.entrance import CHECK_NUMBERS
from human_eval.simulate.forms import read_page
from human_eval.store.database import Database, database_url
from human_eval.store.schema import answer, enrolment
from human_eval.study.building import init_study

PROCESSES = 2


class Rater:
    """One browser, as quick as the server lets it be; keeps how long each request took."""

    def __init__(self, address: str, name: str) -> None:
        self.connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=60)
        self.name, self.cookie, self.failed, self.waited = name, "", 0, 0
        self.seconds: list[float] = []

    def go(self, method: str, path: str, values: dict[str, str] | None = None) -> tuple[str, str]:
        """Path and text of the page that a request leads to."""
        headers = {"content-type": "application/x-www-form-urlencoded", "cookie": self.cookie}
        begun = time.perf_counter()
        self.connection.request(method, path, urlencode(values or {}) if method == "POST" else None, headers)
        reply = self.connection.getresponse()
        text = reply.read().decode()
        self.seconds.append(time.perf_counter() - begun)
        for header in reply.headers.get_all("set-cookie") or []:
            self.cookie = header.partition(";")[0]
        if reply.status == 303:
            return self.go("GET", reply.headers["location"])
        if reply.status == 429:  # no person is so quick: a rater's limit, kept as a browser's script keeps it
            self.waited += 1
            time.sleep(float(reply.headers["retry-after"]))
            return self.go(method, path, values)
        self.failed += reply.status != 200
        return path, text

    def run(self) -> None:
        """Consent to code."""
        path, text = self.go("GET", f"/?rater={self.name}")
        form = read_page(text)[0][0]
        path, text = self.go("POST", "/consent", form.values | dict.fromkeys(form.boxes, "1") | {"decision": "yes"})
        for number in CHECK_NUMBERS:
            if path != "/check":
                break
            self.failed = 0
            path, text = self.go("POST", "/check", read_page(text)[0][0].values | {"number": str(number)})
        self.failed = 0
        while path != "/done":
            if not path.startswith("/t/"):
                path, text = self.go("GET", "/now")
                continue
            form = next(form for form in read_page(text)[0] if form.action == path)
            chosen = {name: values[len(self.seconds) % len(values)] for name, values in form.radios.items()}
            path, text = self.go("POST", path, form.values | chosen | {"finish": "1"})


def work(address: str, start: int, count: int) -> None:
    """One process of load: prints the times as JSON."""
    raters = [Rater(address, f"load-{start + k}") for k in range(count)]
    threads = [threading.Thread(target=rater.run) for rater in raters]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    counts = {name: sum(getattr(rater, name) for rater in raters) for name in ("failed", "waited")}
    print(json.dumps({"seconds": [s for r in raters for s in r.seconds]} | counts))


def build(folder: Path, trials: int, raters: int) -> None:
    """A pairwise study with so many prompts."""
    random = np.random.default_rng(0)
    for model in ("a", "b"):
        (folder / "videos" / model).mkdir(parents=True)
        for k in range(trials + 3):
            clip = random.integers(0, 256, (4, 16, 16, 3), dtype=np.uint8)
            write_video(folder / "videos" / model / f"{k:03d}.mp4", clip, fps=8)
    init_study(
        folder / "study",
        [folder / "videos" / name for name in ("a", "b")],
        preset="pairwise",
        n_items=trials,
        quota={"raters": raters},
        media={"size": 16},
        training=0,
        checks={"instructed": 0, "gold": 0, "repeat": 0},
    )


def main() -> None:
    """Build, serve, load, count."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--raters", type=int, default=100)
    parser.add_argument("--trials", type=int, default=30)
    parser.add_argument("--database", default="")
    parser.add_argument("--work", nargs=3, metavar=("ADDRESS", "START", "COUNT"))
    given = parser.parse_args()
    if given.work:
        work(given.work[0], int(given.work[1]), int(given.work[2]))
        return
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        build(folder, given.trials, given.raters)
        words = ["human", "serve", str(folder / "study"), "--port", "0", "--database", given.database]
        code = "import sys, cogeval; sys.exit(cogeval.main(sys.argv[1:]))"
        with subprocess.Popen([sys.executable, "-c", code, *words], stdout=subprocess.PIPE, text=True) as server:
            assert server.stdout is not None
            address = server.stdout.readline().split()[1].rstrip("/")
            begun = time.perf_counter()
            each = given.raters // PROCESSES
            loads = [
                subprocess.Popen(
                    [sys.executable, __file__, "--work", address, str(k * each), str(each)],
                    stdout=subprocess.PIPE,
                    text=True,
                )
                for k in range(PROCESSES)
            ]
            found = [json.loads(load.communicate()[0]) for load in loads]
            took = time.perf_counter() - begun
            server.terminate()
        seconds = np.sort([s for one in found for s in one["seconds"]])
        with Database(database_url(folder / "study", given.database)) as database:
            rows = database.read(lambda c: c.execute(select(func.count()).select_from(answer)).scalar())
            complete = database.read(
                lambda c: c.execute(select(func.count()).where(enrolment.c.state == "complete")).scalar()
            )
    planned = each * PROCESSES * given.trials
    print(
        f"{each * PROCESSES} raters x {given.trials} trials: {len(seconds):,} requests in {took:.1f} s "
        f"({len(seconds) / took:.0f}/s), p50 {1000 * seconds[len(seconds) // 2]:.0f} ms, "
        f"p99 {1000 * seconds[int(0.99 * len(seconds))]:.0f} ms, slowest {1000 * seconds[-1]:.0f} ms"
    )
    failed, waited = (sum(one[name] for one in found) for name in ("failed", "waited"))
    print(f"failed {failed}, complete {complete}, rows {rows} of {planned}, told to wait {waited} times")
    if rows != planned or complete != each * PROCESSES or failed:
        sys.exit(1)


if __name__ == "__main__":
    main()
