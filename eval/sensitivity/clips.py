"""The real clips of a sensitivity run: a reference set that stays as it is, and the clips that are corrupted."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

from cogvideo.errors import UserError
from eval.datasets.items import DataSet, Item
from eval.datasets.video_files import folder_listing, scan_videos, why_broken
from eval.decoding import DecodePool
from eval.plan import Plan, RealClip, cut, make_plan
from eval.protocol import Protocol

DEPTH = 6


def open_clips(folder: Path) -> DataSet:
    """Every video below a folder, without classes and captions. Raises UserError if there is none."""
    found = scan_videos(folder, depth=DEPTH)
    if not found:
        raise UserError(f"no video in {folder} (it holds {folder_listing(folder)}); name a folder of videos")
    broken = {video.relative: reason for video in found if (reason := why_broken(video.n_bytes))}
    items = tuple(
        Item(id=video.relative, path=Path(video.path), group=video.relative, split="all")
        for video in found
        if video.relative not in broken
    )
    return DataSet(name=folder.name or "clips", root=folder, items=items, broken=tuple(broken.items()))


def real_plan(data: DataSet, protocol: Protocol, *, seed: int, pool: DecodePool) -> Plan:
    """`reference` and, as `heldout`, the clips to be corrupted.

    Where the data has the protocol's splits these are different videos. A plain folder has too few for that: windows of
    the same videos are dealt to both sides in turn. Raises UserError if there are fewer clips than the protocol asks
    for, or under two on a side.
    """
    if protocol.heldout and data.select(protocol.heldout) and data.select(protocol.split):
        plan = make_plan(data, protocol, seed=seed, pool=pool)
        if len(plan.heldout) < len(plan.requests):
            raise UserError(
                f"{data.name} has {len(plan.heldout):,} clips of split {protocol.heldout} for the"
                f" {len(plan.requests):,} that are wanted; take fewer with --samples"
            )
        return replace(plan, requests=(), captions=())
    clips, skipped = cut(data.items, protocol.clip, None, pool)
    reference, corrupted = _dealt(clips)
    sources = len({clip.group for clip in clips})
    wanted = protocol.n_fake or min(len(corrupted), len(reference))
    if min(len(reference), len(corrupted)) < max(wanted, 2):
        why = f" ({len(skipped):,} videos passed over, first: {skipped[0][1]})" if skipped else ""
        raise UserError(
            f"{data.root} gives {len(clips):,} windows of {sources:,} videos for two sides of {max(wanted, 2):,}{why};"
            " add videos, cut more with --windows, or take fewer with --samples"
        )
    notes = [
        f"Reference and corrupted clips are windows of the same {sources:,} videos, dealt in turn (of short videos they"
        " overlap): the clean value is lower than between different videos, and nothing here speaks for other videos."
    ]
    n_real = protocol.n_real or wanted
    return Plan((), (), tuple(reference[:n_real]), tuple(corrupted[:wanted]), tuple(skipped), tuple(notes))


def _dealt(clips: list[RealClip]) -> tuple[list[RealClip], list[RealClip]]:
    """Every second window of each video to each side; windows in turn of all videos, so that a first part has all."""
    turn: Counter[str] = Counter()
    sides: tuple[list[tuple[int, int, RealClip]], list[tuple[int, int, RealClip]]] = ([], [])
    for index, clip in enumerate(clips):
        place = turn[clip.ref.item_id]
        turn[clip.ref.item_id] += 1
        sides[place % 2].append((place // 2, index, clip))
    first, second = ([clip for _, _, clip in sorted(side, key=lambda entry: entry[:2])] for side in sides)
    return first, second


def captions_of(data: DataSet, clips: tuple[RealClip, ...]) -> list[str]:
    """The English caption of each clip, "" where the data has none."""
    phrases = data.captions.get("en", {})
    return [phrases.get(clip.label) or clip.caption for clip in clips]
