"""Where a study's videos come from: run folders of `cogeval`, or folders of videos; which prompts they share."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

from cogvideo.errors import UserError
from cogvideo.video import Clip, VideoError, VideoInfo, probe, read_clip
from cogvideo.weights.places import cache_home
from eval.records import Manifest, read_manifest, read_samples

SUFFIXES = {".mp4", ".avi", ".mkv", ".mov", ".webm", ".gif", ".m4v", ".mpg", ".mpeg", ".ogv"}


@dataclass(frozen=True)
class Video:
    """One video of a model: which frames of which file, and the prompt it was made from."""

    path: Path
    prompt: str = ""
    label: str = ""
    start: int = 0
    frames: int | None = None

    def probe(self) -> VideoInfo:
        """Size, rate and number of frames. Raises UserError for what a study cannot show."""
        try:
            info = probe(self.path, thorough=True)
        except VideoError as error:
            raise UserError(f"a browser could not play this: {error}") from None
        if info.n_frames - self.start < 2:
            raise UserError(f"{self.path} has {info.n_frames} frame; a study shows videos, give one with 2 or more")
        if info.is_variable_rate:
            raise UserError(
                f"{self.path} has a variable frame rate, so it cannot play in step; re-encode it at one rate"
            )
        return info

    def read(self) -> Clip:
        """The frames, (T, H, W, 3) uint8."""
        return read_clip(self.path, start=self.start, frames=self.frames)


@dataclass
class Source:
    """The videos of one model by the key that joins them with those of the others."""

    name: str
    path: Path
    videos: dict[str, Video]
    manifest: Manifest | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def title(self) -> str:
        return self.manifest.generator.title if self.manifest else self.path.name


def open_source(path: Path) -> Source:
    """A run folder, or a folder of videos (one a prompt, named alike in all folders). Raises UserError for neither."""
    if not path.is_dir():
        raise UserError(f"{path} is not a folder; expected a run of cogeval or a folder of videos")
    return _run(path) if (path / "manifest.json").exists() else _folder(path)


def real_source(source: Source, given: Path | None = None) -> Source:
    """The real clips that the samples of a run were drawn beside, from `given` or from the run's own data set.

    A run writes down its folder as it was given, and of embedded data that they were. Raises UserError where no clip of
    the run's plan is found.
    """
    manifest = source.manifest
    if manifest is None:
        raise UserError(f"--real: {source.path} is no run, so its real videos are not known; give --real FOLDER")
    roots = [given] if given else _data_folders(manifest)
    clip = manifest.protocol.get("clip") or {}
    # As long as the clip that the protocol takes frames from, so that it lasts as long as what was made of it.
    frames = clip["frames"] * (clip.get("stride") or 1) if clip.get("frames") else None
    for root in roots:
        videos: dict[str, Video] = {}
        for planned in manifest.planned:
            if planned.source is not None and planned.id in source.videos:
                file = _find(root, planned.source.item_id)
                if file is not None:
                    video = source.videos[planned.id]
                    videos[planned.id] = Video(file, video.prompt, video.label, planned.source.start, frames)
        if videos:
            return Source("real", root, videos)
    looked = " or ".join(map(str, roots))
    raise UserError(f"--real: none of the real clips of {source.path} is in {looked}; give --real DIR, their data set")


def real_sources(sources: Sequence[Source], given: str) -> list[Source]:
    """The hidden reference: "auto" for the data set of the runs, a folder of it, or a folder of videos named alike.

    Raises UserError where the folder holds neither the clips of a run nor videos.
    """
    run = next((source for source in sources if source.manifest), sources[0])
    if given == "auto":
        return [real_source(run)]
    root = Path(given)
    if run.manifest is not None and root.is_dir():
        with suppress(UserError):
            return [real_source(run, root)]
    found = open_source(root)
    found.name = "real"
    return [found]


def shared_keys(sources: Sequence[Source]) -> list[str]:
    """The keys that every source has a video for, in the order of the first. Raises UserError if there are none."""
    keys = [key for key in sources[0].videos if all(key in source.videos for source in sources)]
    if not keys:
        names = ", ".join(str(source.path) for source in sources)
        raise UserError(f"no prompt has a video in each of {names}; name the files alike, or use runs of one protocol")
    for key in keys:
        prompts = {source.videos[key].prompt for source in sources} - {""}
        if len(prompts) > 1:
            raise UserError(f"{key} is {' and '.join(map(repr, sorted(prompts)))}; these runs have different prompts")
    return keys


def choose(keys: Sequence[str], label: Callable[[str], str], wanted: int, seed: int) -> list[str]:
    """`wanted` keys, as many different labels as can be, the same for the same seed whatever the order of `keys`."""

    def lot(key: str) -> str:
        return hashlib.sha256(f"{seed}|{key}".encode()).hexdigest()

    rank: dict[str, int] = {}
    order: list[tuple[int, str, str]] = []
    for key in sorted(keys, key=lot):
        name = label(key) or key
        order.append((rank.get(name, 0), lot(key), key))
        rank[name] = rank.get(name, 0) + 1
    return sorted(key for _, _, key in sorted(order)[:wanted])


def common_rate(infos: Sequence[VideoInfo]) -> Fraction:
    """The highest frame rate of the videos, at most 60."""
    return min(max(info.fps for info in infos), Fraction(60)).limit_denominator(1001)


def slug(text: str) -> str:
    """A name that may stand in a file: letters, digits, dot, hyphen."""
    return re.sub(r"[^A-Za-z0-9.-]+", "-", text).strip("-.")[:48] or "x"


def _run(path: Path) -> Source:
    manifest = read_manifest(path)
    videos, missing = {}, []
    for sample in read_samples(path).values():
        file = path / sample.file
        if sample.ok and sample.file and file.is_file():
            videos[sample.id] = Video(file, sample.prompt, sample.label)
        elif sample.ok:
            missing.append(sample.id)
    if not videos:
        raise UserError(f"{path} has no videos in samples/; run it again with a generator whose videos are kept")
    notes = [f"{len(missing)} samples have no file"] if missing else []
    return Source(slug(path.name), path, videos, manifest, notes)


def _folder(path: Path) -> Source:
    files = sorted(file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file())
    if not files:
        raise UserError(f"{path} holds no videos ({', '.join(sorted(SUFFIXES))})")
    videos: dict[str, Video] = {}
    for file in files:
        key = file.relative_to(path).with_suffix("").as_posix()
        if key in videos:
            raise UserError(f"{videos[key].path} and {file} have one name; rename one of them")
        prompt = file.with_suffix(".txt")
        text = prompt.read_text(encoding="utf-8").strip() if prompt.is_file() else re.sub(r"[_-]+", " ", file.stem)
        label = file.relative_to(path).parts[0] if len(file.relative_to(path).parts) > 1 else ""
        videos[key] = Video(file, text, label)
    return Source(slug(path.name), path, videos)


def _data_folders(manifest: Manifest) -> list[Path]:
    """Where the data set of a run may be: its folder as it was given, else the drawn one in the cache."""
    given = [
        Path(choice.value) for choice in manifest.choices if choice.name == "data" and choice.origin != "automatic"
    ]
    return given or [cache_home() / "data" / manifest.data.root]


def _find(root: Path, item_id: str) -> Path | None:
    direct = root / item_id
    if direct.is_file():
        return direct
    return next((file for file in sorted(direct.parent.glob(direct.name + ".*")) if file.suffix in SUFFIXES), None)
