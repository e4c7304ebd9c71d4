"""`human audit-blinding`: can the models be told apart by anything that is not a pixel?

Crawls pages as raters get them, looks for names in every byte, and trains a multinomial logistic regression on what a
browser sees of a video besides its pictures: address, headers, sizes, first bytes, time. It has to stay at chance.
"""

from __future__ import annotations

import asyncio
import json
import re
import secrets
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from sqlalchemy import select

from human_eval.app.application import create_app
from human_eval.app.entrance import check_number
from human_eval.running import Running
from human_eval.serving import opened
from human_eval.simulate.client import Client, Reply
from human_eval.simulate.forms import read_page
from human_eval.store.database import Database
from human_eval.store.enrolling import place_of
from human_eval.store.schema import trial

HEAD = 4096
FOLDS = 5
MARGIN = 0.05
FEWEST_LETTERS = 4
# In the bytes of a video: four given letters, large or small, stand somewhere in 45 MB by chance in one case of six.
FEWEST_IN_BYTES = 6


@dataclass(frozen=True)
class Seen:
    """A video as a browser gets it, and what is really behind it."""

    model: str
    address: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    seconds: float
    slot: int


@dataclass(frozen=True)
class BlindingAudit:
    """`hits`: names found, with where. `accuracy` is balanced, over folds; chance is 1 / models."""

    trials: int
    videos: int
    bytes_read: int
    hits: list[str]
    reused_addresses: int
    accuracy: float
    chance: float
    features: int
    unused_names: list[str]

    @property
    def is_blind(self) -> bool:
        return not self.hits and not self.reused_addresses and self.accuracy <= self.chance + MARGIN

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"is_blind": self.is_blind}

    def lines(self) -> list[str]:
        """The same in words."""
        lines = [
            f"{self.trials} pages, {self.videos} videos, {self.bytes_read:,} bytes",
            f"names found: {len(self.hits) or 'none'}",
            *(f"  {hit}" for hit in self.hits[:20]),
            f"addresses used twice: {self.reused_addresses or 'none'}",
            f"classifier on {self.features} features: balanced accuracy {self.accuracy:.3f}, chance {self.chance:.3f}",
        ]
        if self.unused_names:
            lines.append(f"not looked for, because the pages' own words hold them: {', '.join(self.unused_names)}")
        return [*lines, "blind" if self.is_blind else "NOT blind: somebody could tell the models apart"]


def audit_study(folder: Path, *, trials: int = 200, seed: int = 0) -> BlindingAudit:
    """Crawl a study in a database of its own. The study's data are not touched."""
    with tempfile.TemporaryDirectory() as place, opened(folder, f"sqlite:///{place}/audit.db") as (running, database):
        seen, pages, found_trials = asyncio.run(_crawl(running, database, trials))
    names, unused = _names(running, pages[:1])
    labels = [one.model for one in seen]
    features = feature_matrix(seen)
    return BlindingAudit(
        trials=found_trials,
        videos=len(seen),
        bytes_read=sum(len(one.body) for one in seen) + sum(len(data) for _, data in pages),
        hits=_hits(names, seen, pages),
        reused_addresses=len(seen) - len({one.address for one in seen}),
        accuracy=balanced_accuracy(features, labels, seed),
        chance=1 / max(1, len(set(labels))),
        features=features.shape[1],
        unused_names=unused,
    )


async def _crawl(running: Running, database: Database, trials: int) -> tuple[list[Seen], list[tuple[str, bytes]], int]:
    """Raters one after the other, until so many analysed pages were seen."""
    app = create_app(running, database, admin_token=secrets.token_hex(16), has_limits=False)
    seen: list[Seen] = []
    own = b"".join(
        [(await Client(app).get(path)).body for path in ("/?lang=en", "/static/study.css", "/static/study.js")]
    )
    pages: list[tuple[str, bytes]] = [("own words", own)]
    found = 0
    while found < trials:
        client = Client(app)
        reply = await client.get("/")
        form = read_page(reply.text)[0][0]
        reply = await client.post(form.action, form.values | dict.fromkeys(form.boxes, "1") | {"decision": "yes"})
        if reply.path == "/consent":
            break
        if reply.path == "/check":
            enrolment_id = int(
                app.state.desk.tickets._seats.loads(client.cookies[app.state.desk.tickets.seat_cookie])[0]
            )
            place = database.read(lambda c, e=enrolment_id: place_of(c, e))  # type: ignore[misc]
            assert place is not None
            form = read_page(reply.text)[0][0]
            number = str(check_number(running, place.ordinal))
            reply = await client.post("/check", form.values | {"number": number})
        while found < trials:
            if not reply.path.startswith("/t/"):
                reply = await client.get("/now")
                if not reply.path.startswith("/t/"):
                    break
            found += await _look(running, database, client, reply, seen, pages)
            form = next(form for form in read_page(reply.text)[0] if form.action == reply.path)
            answers = {name: values[0] for name, values in form.radios.items()}
            reply = await client.post(form.action, form.values | answers | {"finish": "1"})
    return seen, pages, found


async def _look(
    running: Running,
    database: Database,
    client: Client,
    reply: Reply,
    seen: list[Seen],
    pages: list[tuple[str, bytes]],
) -> int:
    """Fetch every video of a page; 1 if it is an analysed one."""
    token = reply.path.removeprefix("/t/")
    row = database.read(lambda c: c.execute(select(trial).where(trial.c.token == token)).one())
    pages.append((reply.path, _headers(reply.headers) + reply.body))
    stimuli = json.loads(row.stimuli)
    for slot, address in enumerate(read_page(reply.text)[1]):
        begun = time.perf_counter()
        video = await client.get(address)
        seconds = time.perf_counter() - begun
        stimulus = running.stimuli[stimuli[slot]]
        if row.kind == "main":
            seen.append(Seen(stimulus.model, address, video.headers, video.body, seconds, slot))
    return int(row.kind == "main")


def feature_matrix(seen: list[Seen]) -> NDArray[np.float64]:
    """Numbers about each video that are no pixels, standardised; what is the same for all is left out."""
    names = sorted({name for one in seen for name, _ in one.headers})
    rows = []
    for one in seen:
        headers = dict(one.headers)
        texts = [one.address, *(headers.get(name, "") for name in names)]
        letters = [code for text in texts for code in text.encode("latin-1")[:96].ljust(96, b"\0")]
        head = np.frombuffer(one.body[:HEAD].ljust(HEAD, b"\0"), dtype=np.uint8)
        facts = [len(one.body), one.seconds, one.slot, len(one.headers), *(len(text) for text in texts)]
        rows.append(np.concatenate([facts, letters, head]).astype(np.float64))
    table = np.stack(rows)
    # A time is skewed: one pause of the machine would hide all others.
    table[:, 1] = np.argsort(np.argsort(table[:, 1]))
    table = table[:, np.ptp(table, axis=0) > 0]
    return np.asarray((table - table.mean(0)) / table.std(0), dtype=np.float64)


def balanced_accuracy(features_ND: NDArray[np.float64], labels: list[str], seed: int) -> float:
    """The mean share of each class that a logistic regression with ridge penalty gets right, over five folds."""
    classes = sorted(set(labels))
    y = np.array([classes.index(label) for label in labels])
    fold = np.random.Generator(np.random.Philox(seed)).permutation(len(y)) % FOLDS
    if features_ND.shape[1] == 0 or len(classes) < 2:
        return 1 / max(1, len(classes))
    guess = np.empty_like(y)
    for k in range(FOLDS):
        weights_DC = _fit(features_ND[fold != k], y[fold != k], len(classes))
        guess[fold == k] = (_with_one(features_ND[fold == k]) @ weights_DC).argmax(1)
    return float(np.mean([(guess[y == c] == c).mean() for c in range(len(classes))]))


def _fit(features_ND: NDArray[np.float64], y: NDArray[np.int64], n_classes: int) -> NDArray[np.float64]:
    x = _with_one(features_ND)
    target = np.eye(n_classes)[y]
    penalty = 1.0

    def loss(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        weights = flat.reshape(x.shape[1], n_classes)
        scores = x @ weights
        scores -= scores.max(1, keepdims=True)
        log_sum = np.log(np.exp(scores).sum(1, keepdims=True))
        error = np.exp(scores - log_sum) - target
        value = -float(((scores - log_sum) * target).sum()) + penalty * float((weights[1:] ** 2).sum()) / 2
        slope = x.T @ error
        slope[1:] += penalty * weights[1:]
        return value, slope.ravel()

    found = minimize(loss, np.zeros(x.shape[1] * n_classes), jac=True, method="L-BFGS-B", options={"maxiter": 200})
    return np.asarray(found.x).reshape(x.shape[1], n_classes)


def _with_one(features_ND: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.hstack([np.ones((len(features_ND), 1)), features_ND])


def _names(running: Running, own: list[tuple[str, bytes]]) -> tuple[list[str], list[str]]:
    """Ids, titles and sources of the models and their parts; without those that the pages' own words hold."""
    names: set[str] = set()
    for model in running.study.models:
        for text in (model.id, model.title, Path(model.source).name):
            names |= {text.lower(), *re.split(r"[^a-z0-9]+", text.lower())}
    names = {name for name in names if len(name) >= FEWEST_LETTERS and not name.isdigit()}
    prompts = json.dumps([item.prompt for item in running.study.items], ensure_ascii=False).lower().encode()
    words = b"".join(data for _, data in own).lower() + prompts + b"this session has ended practice clean damaged"
    unused = sorted(name for name in names if _stands(name, words))
    return sorted(names - set(unused)), unused


def _hits(names: list[str], seen: list[Seen], pages: list[tuple[str, bytes]]) -> list[str]:
    texts = [(where, data.lower()) for where, data in pages[1:]]
    texts += [(one.address, _headers(one.headers).lower()) for one in seen]
    found = {
        f"{name!r} in {_kind(where)}"
        for where, data in texts
        for name in names
        if _stands(name, where.encode().lower() + b"\n" + data)
    }
    bodies = [(one.address, one.body.lower()) for one in seen]
    long = [name for name in names if len(name) >= FEWEST_IN_BYTES]
    found |= {f"{name!r} in {_kind(where)}" for where, data in bodies for name in long if name.encode() in data}
    return sorted(found)


def _stands(name: str, text: bytes) -> bool:
    """Whether a name stands in a text as a word of its own: no model called "real" is named by "realism"."""
    return re.search(rb"(?<![a-z0-9])" + re.escape(name.encode()) + rb"(?![a-z0-9])", text) is not None


def _kind(where: str) -> str:
    return "a video" if where.endswith(".mp4") else "a page"


def _headers(headers: tuple[tuple[str, str], ...]) -> bytes:
    return "\n".join(f"{name}: {value}" for name, value in headers).encode()
