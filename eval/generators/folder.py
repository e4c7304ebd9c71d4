"""Videos of any model from a folder: `folder:DIR?match=auto&stride=1&start=0`.

Frames are taken from `start`, `stride` apart (the protocol's unless given); a shorter video is refused, never padded.
Shapes: T frames, H x W pixels; clips are uint8 (T, H, W, 3) RGB.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from cogvideo.errors import UserError
from eval.datasets.video_files import FoundVideo, folder_listing, name_some, plain, scan_videos, why_broken
from eval.generators.contract import Clip, Generator, GeneratorContext, Rejection, Request
from eval.generators.matching import (
    MANIFESTS,
    MATCHES,
    Offer,
    assign,
    ids_of,
    offers_by_class,
    offers_by_id,
    offers_by_prompt,
    read_manifest,
)
from eval.generators.spec import check_options, whole_number
from eval.protocol import Protocol
from eval.registry import did_you_mean, generators

if TYPE_CHECKING:
    from cogvideo.video import VideoInfo


class FolderGenerator(Generator):
    """Hands out the videos of one folder. `preflight` deals them out, so it must see the whole plan first."""

    def __init__(self, folder: Path, options: Mapping[str, str], context: GeneratorContext) -> None:
        self.folder = folder
        self.title = self.name = folder.resolve().name or "folder"
        self._options = dict(options)
        self._match = options.get("match", "auto")
        self._stride = whole_number("folder", options, "stride", None, least=1)
        self._start = whole_number("folder", options, "start", 0, least=0) or 0
        self._workers = max(1, context.workers)
        self._found = scan_videos(folder, depth=2)
        if not self._found:
            raise UserError(f"expected videos in {folder}, saw {folder_listing(folder)}")
        self._videos: dict[str, FoundVideo] = {}
        self._stamps: dict[str, tuple[int, int]] = {}
        self._origins: dict[str, dict[str, str]] = {}
        self._protocol: Protocol | None = None

    def describe(self) -> dict[str, object]:
        """The folder's name, its options, and a hash over names and sizes of all videos and over the manifest."""
        listing = hashlib.sha256("\n".join(f"{v.relative}\t{v.n_bytes}" for v in self._found).encode())
        manifest = self._manifest()
        if manifest is not None:
            listing.update(manifest.read_bytes())
        return {
            "kind": "folder",
            "argument": self.folder.resolve().name,
            "options": dict(sorted(self._options.items())),
            "videos": len(self._found),
            "listing_sha256": listing.hexdigest(),
        }

    @property
    def origins(self) -> Mapping[str, Mapping[str, str]]:
        return self._origins

    def preflight(self, requests: Sequence[Request], protocol: Protocol) -> None:
        """Deal out the videos and look at each: readable, long enough, of one size and a constant rate.

        Raises UserError with the first offender in the order of the plan and the counts.
        """
        self._protocol = protocol
        offers = self._offers(requests, protocol)
        self._videos, unused = assign(str(self.folder), offers, requests)
        self._stamps = {v.relative: _stamp(v.path) for v in self._videos.values()}
        order = [self._videos[request.id] for request in requests]
        infos = self._audited(order, requests, protocol)
        _refuse_mixed_sizes(self.folder, order, infos)
        _refuse_small(infos, protocol)
        self.notes = _unused_note(unused)

    def generate(
        self, requests: Sequence[Request], progress: Callable[[float], None] | None = None
    ) -> list[Clip | Rejection]:
        if self._protocol is None:
            raise RuntimeError("FolderGenerator.generate before preflight: no video has been dealt out")
        made: list[Clip | Rejection] = []
        with ThreadPoolExecutor(self._workers) as pool:
            for clip in pool.map(partial(self._read, self._protocol), requests):
                made.append(clip)
                if progress:
                    progress(len(made) / len(requests))
        return made

    def _read(self, protocol: Protocol, request: Request) -> Clip | Rejection:
        from cogvideo.video import read_clip

        video = self._videos[request.id]
        rule = protocol.clip
        self._refuse_if_changed(video)
        with open(video.path, "rb") as file:  # noqa: PTH123 - the path is a string already
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        self._origins[request.id] = {"file": video.relative, "sha256": sha256}
        try:
            clip_THWC = read_clip(
                video.path, start=self._start, frames=rule.frames, stride=self._stride or rule.stride, fps=rule.fps
            )
        except UserError as error:
            return Rejection(str(error))
        self._refuse_if_changed(video)
        return clip_THWC

    def _refuse_if_changed(self, video: FoundVideo) -> None:
        if _stamp(video.path) != self._stamps[video.relative]:
            raise UserError(f"{video.path} changed while it was being scored; leave the folder alone and start again")

    def _manifest(self) -> Path | None:
        if self._match not in {"auto", "manifest"}:
            return None
        return next((path for name in MANIFESTS if (path := self.folder / name).is_file()), None)

    def _offers(self, requests: Sequence[Request], protocol: Protocol) -> list[Offer]:
        how = self._match if self._match != "auto" else self._guess(requests, protocol)
        if how == "manifest":
            manifest = self._manifest()
            if manifest is None:
                raise UserError(
                    f"expected {' or '.join(MANIFESTS)} in {self.folder}, saw {folder_listing(self.folder)}"
                )
            offers = read_manifest(manifest, self._found)
        elif how == "id":
            offers = offers_by_id(self._found)
        elif how == "class":
            offers = offers_by_class(self._found, sorted({request.label for request in requests if request.label}))
        else:
            offers = offers_by_prompt(self._found, list(dict.fromkeys(request.prompt for request in requests)))
        if protocol.clip.given and not any(offer.id for offer in offers):
            raise UserError(
                f"{self.folder}: each sample of {protocol.name} continues one real clip, so a video must name it: "
                f"as {ids_of(requests[0])[-1]!r} plus suffix, or as id in a manifest.jsonl; matching by {how} cannot"
            )
        return offers

    def _guess(self, requests: Sequence[Request], protocol: Protocol) -> str:
        if self._manifest() is not None:
            return "manifest"
        stems = {video.stem for video in self._found}
        # Plan numbers (00000.mp4) are left out: a person may have counted another way, and nothing would tell.
        sources = {name for request in requests for name in ids_of(request)[1:]}
        if protocol.clip.given or (protocol.prompts == "one-per-item" and stems & sources):
            return "id"
        labels = {plain(request.label) for request in requests if request.label}
        offers = offers_by_class(self._found, [request.label for request in requests if request.label])
        if any(plain(offer.label) in labels for offer in offers):
            return "class"
        in_folders = sum(bool(video.folder) for video in self._found)
        prompts = {plain(request.prompt) for request in requests}
        named = any(plain(video.stem) in prompts for video in self._found)
        return "class" if labels and in_folders > len(self._found) / 2 and not named else "prompt"

    def _audited(self, order: Sequence[FoundVideo], requests: Sequence[Request], protocol: Protocol) -> list[VideoInfo]:
        """What each video is. Raises UserError for all that cannot be scored, in one line."""
        rule = protocol.clip
        # A protocol that resizes nothing, and yet asks for a size, wants videos made at that size.
        native = (requests[0].height, requests[0].width) if requests and requests[0].height and not rule.size else None
        look = partial(_audit, frames=rule.frames, start=self._start, stride=self._stride or rule.stride)
        with ThreadPoolExecutor(self._workers) as pool:
            looked = list(pool.map(partial(look, size=native, fps=rule.fps), order))
        refused = [entry for entry in looked if isinstance(entry, UserError)]
        if refused:
            kinds = Counter(str(getattr(error, "reason", "empty-file")) for error in refused)
            counts = ", ".join(f"{count:,} {kind}" for kind, count in sorted(kinds.items()))
            raise UserError(f"{refused[0]}; {len(refused):,} of {len(order):,} videos are refused: {counts}")
        return [entry for entry in looked if not isinstance(entry, UserError)]


@generators.register("folder", "videos of any model, from a folder", argument="DIR", options="match, stride, start")
def make(argument: str, options: Mapping[str, str], context: GeneratorContext) -> Generator:
    """`folder:DIR`. Options: `match` (auto, manifest, class, prompt, id), `stride` and `start` in frames.

    Raises UserError without a folder, for a folder without videos, and for an unknown option or value.
    """
    check_options("folder", options, ("match", "stride", "start"))
    if not argument:
        raise UserError("generator folder needs the folder of the videos: folder:DIR")
    match = options.get("match", "auto")
    if match not in MATCHES:
        raise UserError(f"generator folder: unknown match {match!r}{did_you_mean(match, list(MATCHES))}")
    return FolderGenerator(Path(argument).expanduser(), options, context)


def _audit(
    video: FoundVideo, *, frames: int, start: int, stride: int, size: tuple[int, int] | None, fps: float | None
) -> VideoInfo | UserError:
    from eval.audit import audit_video_file

    reason = why_broken(video.n_bytes)
    if reason:
        return UserError(f"{video.path}: expected a video, got {reason}")
    try:
        return audit_video_file(video.path, frames=frames, start=start, stride=stride, size=size, fps=fps)
    except UserError as error:
        return error


def _refuse_mixed_sizes(folder: Path, order: Sequence[FoundVideo], infos: Sequence[VideoInfo]) -> None:
    sizes = [f"{info.width}x{info.height}" for info in infos]
    counts = Counter(sizes).most_common()
    if len(counts) < 2:
        return
    odd = next(video for video, size in zip(order, sizes, strict=True) if size != counts[0][0])
    said = name_some([f"{count:,} of {size}" for size, count in counts])
    raise UserError(f"{folder}: expected videos of one size, got {said}; first odd one is {odd.relative}")


def _unused_note(unused: Sequence[Offer]) -> tuple[str, ...]:
    if not unused:
        return ()
    return (f"{len(unused):,} videos of the folder were not used: {name_some(o.video.relative for o in unused)}",)


def _refuse_small(infos: Sequence[VideoInfo], protocol: Protocol) -> None:
    """Enlarging what a model made is not measuring it: scores depend on the source's resolution."""
    size = protocol.clip.size
    small = [info for info in infos if size and (info.height < size[0] or info.width < size[1])]
    if size and small:
        first = small[0]
        raise UserError(
            f"{first.path} has {first.width}x{first.height} pixels, {protocol.name} scores {size[1]}x{size[0]};"
            f" {len(small):,} of {len(infos):,} videos are too small: generate larger ones, or choose another protocol"
        )


def _stamp(path: str) -> tuple[int, int]:
    try:
        facts = os.stat(path)  # noqa: PTH116 - the path is a string already
    except OSError:
        return -1, -1
    return facts.st_size, facts.st_mtime_ns
