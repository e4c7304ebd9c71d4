"""`human init`: sources -> `study.yaml`, blinded media, the private list of what is what, and the study's key.

STUDY/study.yaml    the design            STUDY/media/    blinded videos, opaque names
STUDY/stimuli.json  which file is which   STUDY/key       32 random bytes, mode 0600; names, links and codes hang on it
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from cogvideo.errors import UserError
from cogvideo.video import Clip, VideoInfo
from eval.records import whole_file
from human_eval.media.drawn import damaged_clip, number_clip, trap_clip
from human_eval.media.encoding import encode_alike, fit, in_time, target_size
from human_eval.study.design import Item, Model, Study
from human_eval.study.presets import from_preset, items_wanted
from human_eval.study.reading import read_study, write_study
from human_eval.study.sources import Video, choose, common_rate, open_source, real_sources, shared_keys, slug

SPARE = 3
CHECK_NUMBERS = (3, 5, 7, 8)


@dataclass(frozen=True)
class Stimulus:
    """One blinded file. `kind`: video, damaged, trap or number; `point`: what a trap or number shows."""

    id: str
    item: str
    model: str
    kind: str
    file: str
    sha256: str
    seconds: float
    point: int = 0


def init_study(
    folder: Path,
    runs: Sequence[Path],
    *,
    preset: str = "cogvideo-2022",
    real: str = "",
    n_items: int = 0,
    seed: int = 0,
    say: Callable[[str], None] = lambda line: None,
    **settings: object,
) -> Study:
    """Make a study folder. `real`: "auto" for the runs' own data set, or its folder, or one of videos; "" for none.

    Raises UserError for videos that cannot be shown and for a folder that already holds a study.
    """
    if (folder / "study.yaml").exists():
        raise UserError(f"{folder} already holds a study; choose another folder, or delete that one")
    sources = [open_source(path) for path in runs]
    if not sources:
        raise UserError("--runs: give the run folders or folders of videos to be rated")
    references = real_sources(sources, real) if real else []
    names = _distinct([source.name for source in (*sources, *references)])
    everything = dict(zip(names, (*sources, *references), strict=True))
    keys = shared_keys(list(everything.values()))
    first = sources[0].videos
    wanted = n_items or items_wanted(preset)
    spare = max(0, min(SPARE, len(keys) - wanted))
    chosen = choose(keys, lambda key: first[key].label, wanted, seed)
    others = choose([key for key in keys if key not in set(chosen)], lambda key: first[key].label, spare, seed + 1)
    ids = dict(zip((*chosen, *others), _distinct([slug(key) for key in (*chosen, *others)]), strict=True))
    prompts = {
        key: next((s.videos[key].prompt for s in everything.values() if s.videos[key].prompt), key) for key in keys
    }
    study = from_preset(
        preset,
        slug(folder.resolve().name),
        [
            Model(
                id=name,
                title="Real videos" if source in references else source.title,
                source=str(source.path),
                role="reference" if source in references else "candidate",
            )
            for name, source in everything.items()
        ],
        [
            Item(
                id=ids[key],
                prompt={"en": prompts[key]},
                label=first[key].label,
                role="main" if key in chosen else "extra",
            )
            for key in (*chosen, *others)
        ],
        seed=seed,
        **settings,
    )
    if len(chosen) < wanted:
        say(f"{len(chosen)} prompts are shared by all models; the preset asks for {wanted}")
    videos = {ids[key]: {name: source.videos[key] for name, source in everything.items()} for key in ids}
    folder.mkdir(parents=True, exist_ok=True)
    write_key(folder)
    build_media(folder, study, videos, say)
    write_study(folder / "study.yaml", study)
    return study


def build_media(
    folder: Path, study: Study, videos: dict[str, dict[str, Video]], say: Callable[[str], None] = lambda line: None
) -> None:
    """Encode every video of every item, blinded, and write `stimuli.json` last."""
    key = read_key(folder)
    infos = {(item, model): video.probe() for item, found in videos.items() for model, video in found.items()}
    height, width = target_size([(info.height, info.width) for info in infos.values()], study.media.size)
    rate = Fraction(study.media.fps).limit_denominator(1001) if study.media.fps else common_rate(list(infos.values()))
    media = folder / "media"
    media.mkdir(exist_ok=True)
    stimuli: list[Stimulus] = []

    def keep(name: str, item: str, model: str, kind: str, data: bytes, frames: int, point: int = 0) -> None:
        file = hmac.new(key, f"file|{name}".encode(), hashlib.sha256).hexdigest()[:32] + ".mp4"
        with whole_file(media / file) as temporary:
            temporary.write_bytes(data)
        stimuli.append(
            Stimulus(name, item, model, kind, file, hashlib.sha256(data).hexdigest(), float(frames / rate), point)
        )

    traps = trap_points(study)
    for at, item in enumerate(study.items):
        say(f"video {at + 1} of {len(study.items)}: {item.id}")
        found = videos[item.id]
        frames = _frames(study, [(infos[item.id, model], video) for model, video in found.items()], rate)
        clips: dict[str, Clip] = {}
        for model, video in found.items():
            clip = video.read()
            clips[f"{item.id}/{model}"] = fit(in_time(clip, infos[item.id, model].fps, rate, frames), height, width)
        if item in study.spare_items:
            clean = clips[f"{item.id}/{anchor(study)}"]
            clips[f"{item.id}/#damaged"] = damaged_clip(clean, study.seed + at)
            for point in traps:
                points = study.aspects[0].scale.points
                clips[f"{item.id}/#trap-{point}"] = trap_clip(point, points, frames, height, width)
        for name, data in encode_alike(clips, rate, study.media.quality).items():
            model = name.partition("/")[2]
            kind = model[1:].partition("-")[0] if model.startswith("#") else "video"
            point = int(model.removeprefix("#trap-")) if kind == "trap" else 0
            shown = {"video": model, "damaged": anchor(study)}.get(kind, "")
            keep(name, item.id, shown, kind, data, frames, point)
    frames = max(4, round(rate * 2))
    numbers = {f"#number/{n}": number_clip(n, frames, height, width) for n in CHECK_NUMBERS}
    for name, data in encode_alike(numbers, rate, study.media.quality).items():
        keep(name, "#number", "", "number", data, frames, int(name.partition("/")[2]))
    with whole_file(folder / "stimuli.json") as temporary:
        rows = [vars(stimulus) for stimulus in sorted(stimuli, key=lambda one: one.id)]
        temporary.write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        temporary.chmod(0o600)


def read_stimuli(folder: Path, study: Study) -> dict[str, Stimulus]:
    """The blinded files by id, each there and unchanged. Raises UserError for the first that is not."""
    path = folder / "stimuli.json"
    try:
        stimuli = {row["id"]: Stimulus(**row) for row in json.loads(path.read_text(encoding="utf-8"))}
    except (OSError, ValueError, TypeError, KeyError):
        raise UserError(f"{path} is missing or damaged; make the study again with cogeval human init") from None
    for item in study.items:
        for model in study.models:
            if f"{item.id}/{model.id}" not in stimuli:
                raise UserError(
                    f"study.yaml names the model {model.id} for {item.id}, but the study was built without that video; "
                    "make a new study with cogeval human init"
                )
    needed = ["#damaged"] * bool(study.training + study.checks.gold)
    needed += [f"#trap-{point}" for point in trap_points(study)]
    for name in (f"{item.id}/{extra}" for item in study.spare_items for extra in needed):
        if name not in stimuli:
            raise UserError(
                f"study.yaml asks for checks or practice that need {name}, but the study was built without it; set "
                "them as they were, or make a new study with cogeval human init"
            )
    for stimulus in stimuli.values():
        file = folder / "media" / stimulus.file
        if not file.is_file() or hashlib.sha256(file.read_bytes()).hexdigest() != stimulus.sha256:
            raise UserError(f"{file} is missing or not the file that was built; make the study again")
    return stimuli


def open_study(folder: Path) -> tuple[Study, dict[str, Stimulus], bytes]:
    """Design, blinded files and key of a study folder."""
    study = read_study(folder)
    return study, read_stimuli(folder, study), read_key(folder)


def anchor(study: Study) -> str:
    """The model whose clip is damaged for gold pages: the real videos if there are any, else the first."""
    return next((model.id for model in study.models if model.role == "reference"), study.models[0].id)


def trap_points(study: Study) -> list[int]:
    """The point that each trap page shows: on every scale of the study, and not in the middle of the first."""
    if not study.aspects or not study.checks.trap:
        return []
    shared = set.intersection(*(set(aspect.scale.points) for aspect in study.aspects))
    points = sorted(shared) or [study.aspects[0].scale.low]
    usable = [point for point in points if point != points[len(points) // 2]] or points
    return sorted({usable[(study.seed + 2 * k + 1) % len(usable)] for k in range(study.checks.trap)})


def write_key(folder: Path) -> None:
    """32 random bytes that only the owner may read; kept if they are there."""
    path = folder / "key"
    if not path.exists():
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w") as file:
            file.write(secrets.token_hex(32) + "\n")


def read_key(folder: Path) -> bytes:
    """The study's key. Raises UserError if it is missing or not 32 bytes."""
    try:
        key = bytes.fromhex((folder / "key").read_text().strip())
    except (OSError, ValueError):
        key = b""
    if len(key) != 32:
        raise UserError(
            f"{folder / 'key'} is missing or damaged; names and links hang on it, so restore it from a copy"
        )
    return key


def _frames(study: Study, found: Sequence[tuple[VideoInfo, Video]], rate: Fraction) -> int:
    """How many frames the videos of one page have: as long as the shortest lasts."""
    seconds = min(
        Fraction(min(info.n_frames - video.start, video.frames or info.n_frames)) / info.fps for info, video in found
    )
    if study.media.seconds:
        seconds = min(seconds, Fraction(study.media.seconds).limit_denominator(1000))
    return max(2, int(np.floor(float(seconds * rate) + 1e-6)))


def _distinct(names: Sequence[str]) -> list[str]:
    found: list[str] = []
    for name in names:
        new, k = name, 2
        while new in found:
            new, k = f"{name}-{k}", k + 1
        found.append(new)
    return found
