"""Which samples a page shows, by rule and never by hand, and what it shows of them within a size."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from cogvideo.errors import UserError
from eval.notation import label_of, number
from eval.records import MetricResult, Result, SampleLine
from reports.media import Budget, Media, make_media

RANDOM_SHOWN = 5
# What a report spends on pictures and clips, as text (base64 takes four characters for three bytes).
REPORT_BYTES = 1_150_000
REPORT_BUDGET = Budget(poster=12 * 1024, sprite=24 * 1024, clip=120 * 1024, side=320)


@dataclass(frozen=True)
class Chosen:
    """A sample and the rule that chose it; `score` as text with the metric's digits, "" where it has none."""

    rule: str
    score: str
    sample: SampleLine


def choose(result: Result, samples: Sequence[SampleLine]) -> tuple[str, list[Chosen]]:
    """The rule in words, and the samples that it gives.

    Best, median and worst by the first metric that scores single samples, then random ones in the order of SHA-256
    of the run's seed and their id.
    """
    accepted = [sample for sample in samples if sample.ok]
    by_chance = sorted(accepted, key=lambda s: hashlib.sha256(f"{result.seed}/{s.id}".encode()).digest())
    scored = scoring_metric(result, accepted)
    chosen: list[Chosen] = []
    rule = f"Random samples, seed {result.seed}; never chosen by hand."
    if scored is not None:
        sign = 1 if scored.direction == "lower" else -1
        ranked = sorted(
            (s for s in accepted if scored.id in s.scores), key=lambda s: (sign * s.scores[scored.id], s.id)
        )
        for name, sample in (("Best", ranked[0]), ("Median", ranked[len(ranked) // 2]), ("Worst", ranked[-1])):
            chosen.append(Chosen(name, number(sample.scores[scored.id], scored.decimals), sample))
        label = label_of(scored, result.metrics)
        rule = f"Chosen by rule from {label}, and at random with seed {result.seed}; never by hand."
    taken = {one.sample.id for one in chosen}
    for sample in [sample for sample in by_chance if sample.id not in taken][:RANDOM_SHOWN]:
        score = sample.scores.get(scored.id) if scored else None
        words = "" if score is None or scored is None else number(score, scored.decimals)
        chosen.append(Chosen(f"Random, seed {result.seed}", words, sample))
    return rule, chosen


def scoring_metric(result: Result, samples: Sequence[SampleLine]) -> MetricResult | None:
    """The first metric that has scores of more than two single samples."""
    return next((m for m in result.metrics if sum(m.id in s.scores for s in samples) > 2), None)


@dataclass(frozen=True)
class Film:
    """What a player shows. Addresses are relative or hold the data; `src` is "" where there is no video to show."""

    rule: str
    score: str
    prompt: str
    gloss: str
    key: str
    alt: str
    src: str
    poster: str
    sprite: str
    width: int
    height: int
    frames: int
    fps: float
    file: str
    sha256: str
    missing: str


def films(
    run: Path,
    chosen: Sequence[Chosen],
    glosses: Mapping[str, str],
    *,
    cache: Path | None = None,
    total: int = REPORT_BYTES,
) -> list[Film]:
    """Films with everything inside as text of data, as long as it fits `total`; then files of the run folder.

    A clip that is too large is linked in the run folder; its poster and strip stay inside.
    """
    left = total
    found = []
    for number_, one in enumerate(chosen):
        share = left // (len(chosen) - number_)
        film = _film(run, one, glosses.get(one.sample.id, ""), cache, share)
        found.append(film)
        left -= sum(len(part) for part in (film.src, film.poster, film.sprite) if part.startswith("data:"))
    return found


def _film(run: Path, one: Chosen, gloss: str, cache: Path | None, share: int) -> Film:
    sample = one.sample
    path = inside(run, sample.file)
    media, missing = None, "This video is not in the folder."
    if path is not None:
        try:
            media = make_media(path, REPORT_BUDGET, cache=cache)
        except UserError as error:
            missing = f"This video cannot be read: {error}"
    words = f"{one.rule}: {sample.prompt or sample.id}"
    if media is None or path is None:
        return _empty(one, gloss, words, missing)
    poster, sprite, src = _within(media, share, quote(path.relative_to(run.resolve()).as_posix()))
    return Film(
        one.rule,
        one.score,
        sample.prompt,
        gloss,
        sample.id,
        words,
        src,
        poster,
        sprite,
        media.width,
        media.height,
        media.frames,
        media.fps,
        sample.file,
        media.source_sha256,
        "",
    )


def _within(media: Media, share: int, href: str) -> tuple[str, str, str]:
    """Poster, sprite and clip as data where their share has room for them; the clip else as a file beside the page."""
    poster, sprite = media.poster.data_uri, media.sprite.data_uri
    if len(poster) > share:
        return "", "", href
    if len(poster) + len(sprite) > share:
        return poster, "", href
    clip = media.clip.data_uri if media.clip else ""
    is_small = bool(clip) and len(poster) + len(sprite) + len(clip) <= share
    return poster, sprite, clip if is_small else href


def _empty(one: Chosen, gloss: str, words: str, missing: str) -> Film:
    sample = one.sample
    return Film(
        one.rule, one.score, sample.prompt, gloss, sample.id, words, "", "", "", 0, 0, 0, 0.0, sample.file, "", missing
    )


def inside(run: Path, file: str) -> Path | None:
    """The file of a run, if it lies inside the run folder; None for anything else that a record may name."""
    try:
        path = (run / file).resolve()
        is_inside = bool(file) and path.is_relative_to(run.resolve()) and path.is_file()
    except (OSError, ValueError):
        return None
    return path if is_inside else None
