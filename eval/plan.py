"""Which real clips are cut, and which samples are asked for. The same data, protocol and seeds give the same plan.

Choices are made by SHA-256 of names, so that they depend neither on the order of a directory nor on a library.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from cogvideo.errors import UserError
from cogvideo.video import VideoInfo
from eval.datasets.items import DataSet, Item
from eval.decoding import DecodePool
from eval.generators.contract import ClipRef, Request
from eval.protocol import ClipRule, Protocol


@dataclass(frozen=True)
class RealClip:
    """A window of a real video with what the metrics need: label, caption, and the group for the bootstrap."""

    ref: ClipRef
    label: str
    caption: str
    group: str

    @property
    def id(self) -> str:
        return f"{self.ref.item_id}@{self.ref.start}"


@dataclass(frozen=True)
class Plan:
    """Requests in id order with the English caption of each, and the real clips on both sides of the floor.

    `skipped` are (id, reason) of videos that could not be used; `notes` are facts that the result must carry.
    """

    requests: tuple[Request, ...]
    captions: tuple[str, ...]
    reference: tuple[RealClip, ...]
    heldout: tuple[RealClip, ...]
    skipped: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]


def make_plan(data: DataSet, protocol: Protocol, *, seed: int, pool: DecodePool, language: str = "en") -> Plan:
    """Cut the real clips and lay out the requests.

    Raises UserError when the data set has fewer usable clips than the protocol needs, or no item at all.
    """
    items = data.select(protocol.split)
    if not items:
        splits = sorted({item.split for item in data.items})
        found = ", ".join(splits) or "none"
        raise UserError(
            f"{data.name} at {data.root} has no items of split {protocol.split!r} (splits found: {found});"
            " check the folder and its lists, or choose another --split"
        )
    if protocol.prompts == "one-per-item":
        return _plan_per_item(data, items, protocol, seed=seed, pool=pool, language=language)
    return _plan_by_class(data, items, protocol, seed=seed, pool=pool, language=language)


def _plan_by_class(
    data: DataSet,
    items: Sequence[Item],
    protocol: Protocol,
    *,
    seed: int,
    pool: DecodePool,
    language: str,
) -> Plan:
    notes: list[str] = []
    sources: list[RealClip | None]
    present = [item for item in items if item.path is not None]
    if not protocol.heldout and protocol.clip.per_video > 1 and _is_too_few_for_two_sides(present, protocol):
        reference, others, skipped = _cut_halves(present, protocol, pool)
        _need(len(reference), protocol.n_real, "real clips", data, protocol, skipped)
        labels = _labels(reference, protocol)
        sources = _match_sources(labels, others)
        notes.append("Reference and held-out clips are windows of the same videos: the floor is too low by that.")
    else:
        reference, skipped = cut(_shuffled(items, "reference", protocol.n_real), protocol.clip, protocol.n_real, pool)
        _need(len(reference), protocol.n_real, "real clips", data, protocol, skipped)
        labels = _labels(reference, protocol)
        pool_items = _heldout_items(data, items, reference, protocol, notes)
        sources, more = _cut_sources(pool_items, labels, protocol.clip, pool)
        skipped += more
    heldout = [clip for clip in sources if clip is not None]
    phrases = data.captions.get(language, {})
    english = data.captions.get("en", {})
    requests = []
    for index, label in enumerate(labels):
        request_id = f"{index:05d}"
        prompt = phrases.get(label) or english.get(label) or label
        requests.append(_request(request_id, index, prompt, label, seed, protocol, sources[index]))
    captions = tuple(english.get(label) or label for label in labels)
    return Plan(tuple(requests), captions, tuple(reference), tuple(heldout), tuple(skipped), tuple(notes))


def _plan_per_item(
    data: DataSet, items: Sequence[Item], protocol: Protocol, *, seed: int, pool: DecodePool, language: str
) -> Plan:
    """One sample an item; its own clip is the condition and the reference (frame prediction, prompts with videos)."""
    rule = protocol.clip
    with_videos = [item for item in items if item.path is not None]
    notes: list[str] = []
    wanted = protocol.n_fake or None
    if rule.given or len(with_videos) == len(items):
        clips, skipped = cut(_shuffled(with_videos, "reference", wanted), rule, wanted, pool)
        _need(len(clips), wanted, "real clips", data, protocol, skipped)
        used = {clip.ref.item_id for clip in clips}
        rest = [item for item in with_videos if item.id not in used]
        heldout, _ = cut(_shuffled(rest, "heldout", len(clips)), rule, len(clips), pool)
        sources: list[RealClip | None] = list(clips)
        texts = [(clip.caption, clip.label, clip.ref.item_id) for clip in clips]
        if rule.given:
            notes.append(
                "The clip that gives the first frames is also in the reference set, as in the protocol's source."
            )
    else:
        clips, heldout, skipped = [], [], []
        chosen = items if wanted is None else items[:wanted]
        _need(len(chosen), wanted, "prompts", data, protocol, [])
        sources = [None] * len(chosen)
        texts = [(item.caption, item.label, item.id) for item in chosen]
    phrases = data.captions.get(language, {}) if language != "en" else {}
    requests = [
        replace(
            _request(
                f"{index:05d}", index, phrases.get(label, caption) or label, label, seed, protocol, sources[index]
            ),
            item_id=item_id,
        )
        for index, (caption, label, item_id) in enumerate(texts)
    ]
    captions = tuple(caption or label for caption, label, _ in texts)
    return Plan(tuple(requests), captions, tuple(clips), tuple(heldout), tuple(skipped), tuple(notes))


def cut(
    items: Sequence[Item], rule: ClipRule, wanted: int | None, pool: DecodePool
) -> tuple[list[RealClip], list[tuple[str, str]]]:
    """At most `wanted` windows (all if None) from `items` in the given order.

    A video that is broken or too short is passed over and named with its reason, never padded.
    """
    order = [item for item in items if item.path is not None]
    step = len(order) if wanted is None else max(8, -(-wanted // rule.per_video))
    clips: list[RealClip] = []
    skipped: list[tuple[str, str]] = []
    for at in range(0, len(order), max(step, 1)):
        if wanted is not None and len(clips) >= wanted:
            break
        batch = order[at : at + step]
        for item, info in zip(batch, pool.probes(str(item.path) for item in batch), strict=True):
            if isinstance(info, UserError):
                skipped.append((item.id, str(info)))
                continue
            starts = _starts(item, info, rule)
            if not starts:
                skipped.append((item.id, _too_short(info, rule)))
            clips.extend(_real_clip(item, start, rule) for start in starts)
    return (clips if wanted is None else clips[:wanted]), skipped


def _shuffled(items: Sequence[Item], purpose: str, wanted: int | None) -> Sequence[Item]:
    """An order fixed by the names alone; the given order where everything is taken."""
    return items if wanted is None else sorted(items, key=lambda item: _digest(purpose, item.id))


def _heldout_items(
    data: DataSet, items: Sequence[Item], reference: Sequence[RealClip], protocol: Protocol, notes: list[str]
) -> Sequence[Item]:
    """Real videos for floors and controls: the protocol's own split, else what the reference has left over."""
    if protocol.heldout:
        return data.select(protocol.heldout)
    used = {clip.ref.item_id for clip in reference}
    groups = {clip.group for clip in reference}
    others = [item for item in items if _group(item) not in groups]
    if len(others) * protocol.clip.per_video < protocol.n_fake:
        others = [item for item in items if item.id not in used]
        if others:
            notes.append("The floor's two halves share source groups: too few groups are left for separate ones.")
    return others


def _cut_sources(
    items: Sequence[Item], labels: Sequence[str], rule: ClipRule, pool: DecodePool
) -> tuple[list[RealClip | None], list[tuple[str, str]]]:
    """A held-out window for each request, of its class; None where a class has too few."""
    by_class: dict[str, list[Item]] = defaultdict(list)
    for item in _shuffled(items, "heldout", 0):
        by_class[item.label].append(item)
    found: list[RealClip] = []
    skipped: list[tuple[str, str]] = []
    for label, count in sorted(Counter(labels).items()):
        clips, more = cut(by_class[label], rule, count, pool)
        found += clips
        skipped += more
    return _match_sources(labels, found), skipped


def _is_too_few_for_two_sides(items: Sequence[Item], protocol: Protocol) -> bool:
    """Whether reference and held-out cannot be different videos of every class."""
    wanted = -(-((protocol.n_real or 0) + protocol.n_fake) // protocol.clip.per_video)
    return len(items) < wanted or min(Counter(item.label for item in items).values(), default=0) < 2


def _cut_halves(
    items: Sequence[Item], protocol: Protocol, pool: DecodePool
) -> tuple[list[RealClip], list[RealClip], list[tuple[str, str]]]:
    """Windows of the same few videos dealt alternately to reference and held-out, every video in its turn."""
    clips, skipped = cut(items, protocol.clip, None, pool)
    place: Counter[str] = Counter()
    sides: tuple[list[tuple[int, int, RealClip]], list[tuple[int, int, RealClip]]] = ([], [])
    for index, clip in enumerate(clips):
        turn = place[clip.ref.item_id]
        place[clip.ref.item_id] += 1
        sides[turn % 2].append((turn, index, clip))
    reference, heldout = ([clip for _, _, clip in sorted(side, key=lambda entry: entry[:2])] for side in sides)
    return reference[: protocol.n_real], heldout, skipped


def _starts(item: Item, info: VideoInfo, rule: ClipRule) -> list[int]:
    """First frames of the windows of one video; empty if it is too short. With `per_video` > 1 one from each part."""
    frames = int(info.duration_s * rule.fps) if rule.fps else info.n_frames
    free = frames - ((rule.frames - 1) * rule.stride + 1)
    if free < 0:
        return []
    windows = min(rule.per_video, free + 1)
    if windows == 1 and rule.choice != "random":
        return [0 if rule.choice == "first" else free // 2]
    starts = []
    for part in range(windows):
        low, high = part * (free + 1) // windows, (part + 1) * (free + 1) // windows
        offset = _number("window", item.id, str(part)) % (high - low) if rule.choice == "random" else 0
        starts.append(low + offset)
    return starts


def _real_clip(item: Item, start: int, rule: ClipRule) -> RealClip:
    ref = ClipRef(item.id, str(item.path), start, rule.frames, rule.stride, rule.fps)
    return RealClip(ref, item.label, item.caption, _group(item))


def _labels(reference: Iterable[RealClip], protocol: Protocol) -> list[str]:
    """The class of each sample, spread evenly: by the reference's distribution (largest remainders) or uniform."""
    counts = Counter(clip.label for clip in reference)
    if protocol.prompts == "uniform":
        counts = Counter(dict.fromkeys(counts, 1))
    total = sum(counts.values())
    quota = {label: count * protocol.n_fake / total for label, count in counts.items()}
    share = {label: int(value) for label, value in quota.items()}
    by_remainder = sorted(counts, key=lambda label: (share[label] - quota[label], label))
    for label in by_remainder[: protocol.n_fake - sum(share.values())]:
        share[label] += 1
    # One of each class in its turn, so that any first part of the samples is nearly balanced.
    return [label for turn in range(max(share.values())) for label in sorted(share) if turn < share[label]]


def _match_sources(labels: Sequence[str], heldout: Iterable[RealClip]) -> list[RealClip | None]:
    left: dict[str, list[RealClip]] = defaultdict(list)
    for clip in heldout:
        left[clip.label].append(clip)
    for clips in left.values():
        clips.reverse()
    return [left[label].pop() if left[label] else None for label in labels]


def _request(
    request_id: str, index: int, prompt: str, label: str, seed: int, protocol: Protocol, source: RealClip | None
) -> Request:
    rule = protocol.clip
    height, width = rule.size or (0, 0)
    return Request(
        id=request_id,
        index=index,
        prompt=prompt,
        label=label,
        seed=_number("seed", str(seed), request_id),
        frames=rule.frames,
        height=height,
        width=width,
        fps=rule.fps or protocol.playback_fps,
        source=source.ref if source else None,
    )


def _need(
    found: int, wanted: int | None, what: str, data: DataSet, protocol: Protocol, skipped: list[tuple[str, str]]
) -> None:
    least = 2 if wanted is None else wanted
    if found >= least:
        return
    why = f" ({len(skipped)} passed over, first: {skipped[0][1]})" if skipped else ""
    raise UserError(
        f"protocol {protocol.name} needs {least:,} {what}; {data.name} at {data.root} gives {found:,}{why};"
        " add videos, or change the protocol with --samples, --real-samples or --clips-per-video (not comparable then)"
    )


def _too_short(info: VideoInfo, rule: ClipRule) -> str:
    need = (rule.frames - 1) * rule.stride + 1
    at = f" at {rule.fps:g} frames/s" if rule.fps else ""
    return f"too short: {info.n_frames} frames, the protocol needs {need}{at}"


def _group(item: Item) -> str:
    return item.group or item.id


def _digest(*names: str) -> bytes:
    return hashlib.sha256("/".join(names).encode()).digest()


def _number(*names: str) -> int:
    """63 bits from names: the seed of a sample, or the place of a window."""
    return int.from_bytes(_digest(*names)[:8], "little") >> 1
