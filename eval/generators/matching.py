"""Which video of a folder belongs to which request: by manifest, class, prompt or id, never by sort order alone.

Only within one class or one prompt are videos dealt out in natural order (a manifest's own order, where there is one).
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cogvideo.errors import UserError
from eval.datasets.text_lines import csv_records, json_records
from eval.datasets.video_files import FoundVideo, name_some, natural_key, plain, stem_of
from eval.generators.contract import Request
from eval.registry import did_you_mean

MANIFESTS = ("manifest.jsonl", "manifest.csv")
MATCHES = ("auto", "manifest", "class", "prompt", "id")
_KEYS = ("id", "prompt", "class")
_COUNTER = re.compile(r"[\s_.-]+\d+$")
_UCF_ENDING = re.compile(r"_g\d+_c\d+$", re.IGNORECASE)
_MOST_BYTES = 180  # file systems take names of 255 bytes; suffix and counter need a few


@dataclass(frozen=True)
class Offer:
    """A video with what is known of its content. `where` is the manifest line that says so, if there is one."""

    video: FoundVideo
    id: str = ""
    prompt: str = ""
    label: str = ""
    where: str = ""


def file_stem(prompt: str) -> str:
    """The name under which a prompt's video is looked for: letters and digits, every other run of signs one '_'.

    A name of more than 180 bytes is cut and ends in '_' and the first eight hex digits of the prompt's SHA-256.
    """
    stem = "_".join(part for part in re.split(r"[\W_]+", prompt) if part)
    if len(stem.encode()) <= _MOST_BYTES:
        return stem
    cut = stem.encode()[: _MOST_BYTES - 9].decode(errors="ignore").rstrip("_")
    return f"{cut}_{hashlib.sha256(prompt.encode()).hexdigest()[:8]}"


def read_manifest(path: Path, found: Iterable[FoundVideo]) -> list[Offer]:
    """The rows of a manifest, in its order: `file` and at least one of `id`, `prompt` and `class` (or `label`).

    Raises UserError with file and line: no such column or key, a file that is not there or comes twice.
    """
    by_name = {video.relative: video for video in found}
    records = json_records(path) if path.suffix == ".jsonl" else csv_records(path, _require_columns)
    offers: list[Offer] = []
    line_of: dict[str, int] = {}
    for line, record in records:
        where = f"{path} line {line}"
        cells = {key: _cell(where, key, record.get(key)) for key in ("file", *_KEYS, "label")}
        label = cells["class"] or cells["label"]
        name = re.sub(r"^(\./)+", "", cells["file"].replace("\\", "/"))
        if not name:
            raise UserError(f"{where}: expected a video's name in 'file'{_near_key(record, 'file')}")
        if not (cells["id"] or cells["prompt"] or label):
            raise UserError(f"{where}: expected one of id, prompt and class beside the file {name!r}")
        if name not in by_name:
            raise UserError(f"{where}: no video {name!r} in {path.parent}{_near_file(name, by_name)}")
        if name in line_of:
            raise UserError(f"{where}: {name!r} was already named in line {line_of[name]}")
        line_of[name] = line
        offers.append(Offer(by_name[name], cells["id"], cells["prompt"], label, where))
    if not offers:
        raise UserError(f"{path} names no video")
    return offers


def offers_by_class(found: Iterable[FoundVideo], labels: Sequence[str]) -> list[Offer]:
    """Videos labelled by their folder, or side by side as `<Class>_12.mp4` or `v_<Class>_g01_c02.avi`."""
    known = {plain(label): label for label in labels}
    offers: list[Offer] = []
    for video in sorted(found, key=lambda video: natural_key(video.relative)):
        names = [video.folder.partition("/")[0]] if video.folder else _class_names_of(video.stem)
        label = next((known[plain(name)] for name in names if plain(name) in known), names[-1])
        offers.append(Offer(video, label=label))
    return offers


def offers_by_prompt(found: Iterable[FoundVideo], prompts: Sequence[str]) -> list[Offer]:
    """Videos whose file or folder is named as `file_stem(prompt)`, with a counter behind it or without.

    Names are compared by letters and digits alone, so 'A red square-3.mp4' is a video of 'a red square'. Raises
    UserError if two prompts of the plan differ in other signs only.
    """
    known: dict[str, str] = {}
    for prompt in prompts:
        for key in {plain(prompt), plain(file_stem(prompt))}:
            if not key:
                raise UserError(f"prompt {prompt!r} has no letter or digit to name a file by; write a manifest.jsonl")
            if known.setdefault(key, prompt) != prompt:
                raise UserError(
                    f"prompts {known[key]!r} and {prompt!r} have the same file name {file_stem(prompt)!r}; "
                    "tell their videos apart in a manifest.jsonl"
                )
    offers: list[Offer] = []
    for video in sorted(found, key=lambda video: natural_key(video.relative)):
        names = [video.folder.rpartition("/")[2]] if video.folder else [video.stem, _COUNTER.sub("", video.stem)]
        prompt = next((known[plain(name)] for name in names if plain(name) in known), names[-1])
        offers.append(Offer(video, prompt=prompt))
    return offers


def offers_by_id(found: Iterable[FoundVideo]) -> list[Offer]:
    """Videos named by the sample's id, or by the id of the clip that the benchmark took it from."""
    return [Offer(video, id=video.stem) for video in sorted(found, key=lambda video: natural_key(video.relative))]


def assign(
    folder: str, offers: Sequence[Offer], requests: Sequence[Request]
) -> tuple[dict[str, FoundVideo], list[Offer]]:
    """A video for every request, and the offers that were not used.

    An id goes before a prompt, a prompt before a class; a request takes the next video of the first that it has.
    Raises UserError, with counts and near names, if a request finds none, or if an id contradicts its class.
    """
    by_id, by_prompt, by_class = _pools(offers, requests)
    prompts, labels = {request.prompt for request in requests}, {plain(request.label) for request in requests}
    taken: dict[str, FoundVideo] = {}
    used: set[str] = set()
    lacking: list[Request] = []
    for request in requests:
        offer = next((by_id.pop(key) for key in ids_of(request) if key in by_id), None)
        if offer is not None:
            _check_agrees(offer, request, prompts, labels)
        else:
            pool = by_prompt.get(request.prompt) or by_class.get(plain(request.label))
            offer = pool.pop() if pool else None
        if offer is None:
            lacking.append(request)
        else:
            taken[request.id] = offer.video
            used.add(offer.video.relative)
    unused = [offer for offer in offers if offer.video.relative not in used]
    if lacking:
        raise UserError(_shortage(folder, requests, lacking, offers, unused))
    return taken, unused


def ids_of(request: Request) -> tuple[str, ...]:
    """The names of a request: its own id, and its item's (for UCF-101 forms without folder and suffix, too)."""
    item = request.source.item_id if request.source else request.item_id
    return tuple(dict.fromkeys(name for name in (request.id, item, stem_of(item)) if name))


def _pools(
    offers: Sequence[Offer], requests: Sequence[Request]
) -> tuple[dict[str, Offer], dict[str, list[Offer]], dict[str, list[Offer]]]:
    """Each offer under the first of its keys that the plan knows; pools are reversed, to be taken from the end."""
    ids = {key for request in requests for key in ids_of(request)}
    prompts = {" ".join(request.prompt.split()): request.prompt for request in requests}
    labels = {plain(request.label) for request in requests if request.label}
    by_id: dict[str, Offer] = {}
    by_prompt: dict[str, list[Offer]] = defaultdict(list)
    by_class: dict[str, list[Offer]] = defaultdict(list)
    for offer in reversed(offers):
        prompt = " ".join(offer.prompt.split())
        if offer.id in ids:
            if offer.id in by_id:
                twice = by_id[offer.id]
                place = twice.where or twice.video.relative
                raise UserError(f"{place}: id {offer.id!r} has two videos, {offer.video.relative} is the other")
            by_id[offer.id] = offer
        elif prompt in prompts:
            by_prompt[prompts[prompt]].append(offer)
        elif plain(offer.label) in labels:
            by_class[plain(offer.label)].append(offer)
    return by_id, by_prompt, by_class


def _check_agrees(offer: Offer, request: Request, prompts: set[str], labels: set[str]) -> None:
    """Ids that a person counted on their own may be ours by accident; then class or prompt tell."""
    place = offer.where or offer.video.relative
    if offer.label and request.label and plain(offer.label) in labels and plain(offer.label) != plain(request.label):
        raise UserError(f"{place}: sample {request.id} is of class {request.label!r} in this run, not {offer.label!r}")
    if offer.prompt != request.prompt and offer.prompt in prompts:
        raise UserError(f"{place}: sample {request.id} has prompt {request.prompt!r} in this run, not {offer.prompt!r}")


def _shortage(
    folder: str,
    requests: Sequence[Request],
    lacking: Sequence[Request],
    offers: Sequence[Offer],
    unused: Sequence[Offer],
) -> str:
    if any(offer.label for offer in offers):
        return _too_few(folder, "class", requests, lacking, unused, lambda r: r.label, lambda o: o.label)
    if any(offer.prompt for offer in offers):
        return _too_few(folder, "prompt", requests, lacking, unused, lambda r: r.prompt, lambda o: o.prompt)
    first = lacking[0]
    names = " or ".join(repr(name) for name in dict.fromkeys(ids_of(first)))
    return (
        f"{folder}: expected a video for each of {len(requests):,} samples, {len(lacking):,} have none; "
        f"the first is {names}; {len(unused):,} videos fit no sample{_examples(o.id for o in unused)}"
    )


def _too_few(
    folder: str,
    what: str,
    requests: Sequence[Request],
    lacking: Sequence[Request],
    unused: Sequence[Offer],
    of_request: Callable[[Request], str],
    of_offer: Callable[[Offer], str],
) -> str:
    first = of_request(lacking[0])
    need = sum(of_request(request) == first for request in requests)
    short = sum(of_request(request) == first for request in lacking)
    n_names = len({of_request(request) for request in lacking})
    n_all = len({of_request(request) for request in requests})
    plan = {plain(of_request(request)) for request in requests}
    strangers = list(dict.fromkeys(of_offer(o) for o in unused if of_offer(o) and plain(of_offer(o)) not in plan))
    line = (
        f"{folder}: expected {need:,} videos of {what} {first!r}, found {need - short:,}; "
        f"{len(lacking):,} of {len(requests):,} samples have no video ({n_names:,} of {n_all:,} {_many(what)})"
    )
    wanted = sorted({of_request(request) for request in lacking})
    for stranger in strangers:
        hint = did_you_mean(stranger, wanted)
        if hint.startswith("; did you mean"):
            return f"{line}; unknown {what} {stranger!r}{hint}"
    if strangers:
        return f"{line}; unknown {_many(what)} in the folder: {name_some(strangers)}"
    return line


def _many(what: str) -> str:
    return f"{what}es" if what == "class" else f"{what}s"


def _examples(names: Iterable[str]) -> str:
    listed = [name for name in names if name]
    return f" (such as {name_some(listed)})" if listed else ""


def _class_names_of(stem: str) -> list[str]:
    """What the class of a file may be called, the longest first."""
    bare = re.sub(r"^v_", "", _UCF_ENDING.sub("", stem)) if _UCF_ENDING.search(stem) else stem
    return [bare, _COUNTER.sub("", bare)]


def _require_columns(path: Path, columns: list[str]) -> None:
    if "file" not in columns or not set(columns) & {*_KEYS, "label"}:
        raise UserError(
            f"{path} line 1: expected the column 'file' and one of id, prompt and class, got {', '.join(columns)}"
        )


def _cell(where: str, key: str, value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise UserError(f"{where}: expected text for {key!r}, got {value!r}")
    return str(value).strip()


def _near_key(record: dict[str, Any], key: str) -> str:
    near = did_you_mean(key, [str(name) for name in record if name != key])
    return f" (the keys are {', '.join(map(str, record))})" if near else ""


def _near_file(name: str, by_name: dict[str, FoundVideo]) -> str:
    if len(by_name) > 5000:
        return ""
    near = did_you_mean(name, list(by_name))
    return near if near.startswith("; did you mean") else ""
