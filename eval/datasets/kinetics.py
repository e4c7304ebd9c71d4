"""Kinetics-400/600/700: the annotation CSVs and whatever of the clips a disk still has, in the layouts in the wild."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from cogvideo.errors import MissingPrerequisite, UserError
from eval.datasets.class_phrases import kinetics_phrases
from eval.datasets.items import DataSet, Item
from eval.datasets.text_lines import csv_records
from eval.datasets.video_files import (
    FoundVideo,
    folder_listing,
    name_some,
    plain,
    require_folder,
    scan_videos,
    why_broken,
)
from eval.registry import datasets, did_you_mean

_SPLITS = {
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validate": "val", "validation": "val", "eval": "val",
    "test": "test", "testing": "test", "holdout": "test",
}  # fmt: skip
# The id may begin with '-' and hold '_', so the two times are taken off the right end.
_TIMED = re.compile(r"(?P<id>.+)_(?P<start>\d+)_(?P<end>\d+)")


Clip = tuple[str, int, int]


@dataclass(frozen=True)
class Row:
    """One clip of an annotation CSV: seconds `start` to `end` of a YouTube video. `label` is "" in unlabelled lists."""

    youtube_id: str
    start: int
    end: int
    label: str
    split: str

    @property
    def id(self) -> str:
        """The clip's name: what its file is called without the suffix."""
        return f"{self.youtube_id}_{self.start:06d}_{self.end:06d}"


def open_kinetics(
    root: Path, n_classes: int, *, annotations: Path | str | None = None, split: str | None = None
) -> DataSet:
    """The clips of Kinetics-`n_classes` below `root` that an annotation CSV names; all others are missing.

    `annotations` is a CSV or a folder of them; None looks in `root`, in its `annotations` folder and beside it.
    `split` is "train", "val" or "test", or several joined with "+"; None takes every row. Files are found at any of
    split/class/, class/, split/ or flat, by `<id>_<start>_<end>` or by the bare id if the CSV names it once.

    Labels are the CSV's; for unlabelled rows the class folder's, if it is one of the CSV's labels. Items come in the
    CSV's order; the group is the YouTube id. Raises UserError, with file and line, for a CSV that is no such list,
    and MissingPrerequisite if there is none.
    """
    name = f"kinetics{n_classes}"
    require_folder(root)
    wanted = _wanted_splits(split)
    files = _find_annotations(root, annotations, name, wanted)
    rows, others, repeated = _read_rows(files, wanted)
    labels = sorted({row.label for row in rows if row.label})
    if len(labels) > n_classes:
        raise UserError(f"{name_some([str(f) for f in files])}: {len(labels)} classes, {name} has {n_classes}")
    notes = [f"annotations: {', '.join(f.name for f in files)}"]
    if repeated:
        notes.append(f"{repeated:,} rows name a clip again and were left out")
    if labels and len(labels) < n_classes:
        notes.append(f"the annotations name {len(labels)} of {n_classes} classes")
    found = scan_videos(root, depth=3, with_bytes=False)
    if wanted:  # clips of the splits that were not asked for are neither missing nor extra
        found = [video for video in found if not _splits_of(video) - wanted and _clip_of(video) not in others]
    return _match(name, root, rows, found, tuple(labels), notes)


for _n in (400, 600, 700):
    _open: Callable[..., DataSet] = partial(open_kinetics, n_classes=_n)
    datasets.register(f"kinetics{_n}", f"human actions from YouTube, {_n} classes", form="annotation CSV and clips")(
        _open
    )


def _wanted_splits(split: str | None) -> frozenset[str]:
    if split in (None, "", "all"):
        return frozenset()
    names = [name.strip().lower() for name in str(split).split("+")]
    for name in names:
        if name not in _SPLITS:
            raise UserError(f"unknown Kinetics split {name!r}{did_you_mean(name, ['train', 'val', 'test'])}")
    return frozenset(_SPLITS[name] for name in names)


def _find_annotations(root: Path, given: Path | str | None, name: str, wanted: frozenset[str]) -> list[Path]:
    if given is not None:
        path = Path(given)
        if not path.exists():
            raise UserError(f"no such annotation file: {path}")
        files = sorted(path.glob("*.csv")) if path.is_dir() else [path]
    else:
        places = (root, root / "annotations", root.parent / "annotations")
        files = next((csvs for place in places if (csvs := sorted(place.glob("*.csv")))), [])
    if not files:
        raise MissingPrerequisite(
            f"{name} needs its annotation CSV (label,youtube_id,time_start,time_end,split): none in {root} or its "
            "annotations folder; get one at github.com/cvdfoundation/kinetics-dataset and give --annotations FILE"
        )
    if len(files) > 1 and wanted:
        # Files named by their split spare the reading of half a million other rows.
        named = [f for f in files if _split_in_name(f.stem) in wanted]
        files = named or files
    return files


def _split_in_name(stem: str) -> str:
    words = re.split(r"[^a-z]+", stem.lower())
    return next((_SPLITS[word] for word in words if word in _SPLITS), "")


def _read_rows(files: Sequence[Path], wanted: frozenset[str]) -> tuple[list[Row], set[Clip], int]:
    """Rows of the wanted splits, the clips of the other splits, and how many rows named a clip again."""
    rows: dict[Clip, Row] = {}
    others: set[Clip] = set()
    repeated = 0
    seen_splits: set[str] = set()
    for path in files:
        for row in _rows_of(path):
            seen_splits.add(row.split)
            key = (row.youtube_id, row.start, row.end)
            if wanted and row.split not in wanted:
                others.add(key)
                continue
            repeated += key in rows
            rows.setdefault(key, row)
    if not rows:
        what = f"of split {'+'.join(sorted(wanted))}" if wanted else "at all"
        have = ", ".join(sorted(s or "(no split)" for s in seen_splits)) or "no row"
        raise UserError(f"{name_some([str(f) for f in files])}: no clip {what}; the file has {have}")
    return list(rows.values()), others - rows.keys(), repeated


def _rows_of(path: Path) -> Iterable[Row]:
    by_name = _split_in_name(path.stem)
    for line, cells in csv_records(path, _require_columns):
        start, end = _seconds(cells["time_start"]), _seconds(cells["time_end"])
        if not cells["youtube_id"] or start is None or end is None:
            shown = ",".join(cells.values())[:60]
            raise UserError(f"{path} line {line}: expected an id and two times in seconds, got {shown!r}")
        named = cells.get("split", by_name).strip().lower()
        yield Row(cells["youtube_id"], start, end, cells.get("label", "").strip(), _SPLITS.get(named, named))


def _require_columns(path: Path, columns: list[str]) -> None:
    lacking = [name for name in ("youtube_id", "time_start", "time_end") if name not in columns]
    if lacking:
        raise UserError(
            f"{path} line 1: expected the columns label,youtube_id,time_start,time_end,split; "
            f"{', '.join(lacking)} not among {', '.join(columns) or 'nothing'}"
        )


def _seconds(cell: str) -> int | None:
    try:
        return int(float(cell))
    except (ValueError, OverflowError):
        return None


def _match(
    name: str, root: Path, rows: Sequence[Row], found: Sequence[FoundVideo], labels: tuple[str, ...], notes: list[str]
) -> DataSet:
    by_clip: dict[Clip, list[FoundVideo]] = {}
    by_bare_id: dict[str, list[FoundVideo]] = {}
    times_named = Counter(row.youtube_id for row in rows)
    for video in found:
        clip = _clip_of(video)
        if clip:
            by_clip.setdefault(clip, []).append(video)
        if not clip or video.stem in times_named:
            by_bare_id.setdefault(video.stem, []).append(video)

    label_of_plain = {plain(label): label for label in labels}
    folders = {video.folder for video in found}
    label_of_folder = {folder: label_of_plain.get(plain(folder.rpartition("/")[2]), "") for folder in folders}
    items: list[Item] = []
    missing: list[str] = []
    broken: list[tuple[str, str]] = []
    used: set[str] = set()
    counts = Counter(row.split for row in rows)
    ambiguous = 0
    other_class: list[str] = []
    for row in rows:
        here = by_clip.get((row.youtube_id, row.start, row.end), [])
        if not here and row.youtube_id in by_bare_id:
            # A bare id that is cut in two places cannot say which of them the file is.
            here = by_bare_id[row.youtube_id] if times_named[row.youtube_id] == 1 else []
            ambiguous += not here
        if not here:
            missing.append(row.id)
            continue
        video = here[0] if len(here) == 1 else _best_copy(here, row)
        used.add(video.relative)
        reason = why_broken(_n_bytes(video.path))
        if reason:
            broken.append((row.id, reason))
            continue
        folder_label = label_of_folder[video.folder]
        if row.label and folder_label and folder_label != row.label:
            other_class.append(video.relative)
        label = row.label or folder_label
        items.append(Item(row.id, Path(video.path), label, label, row.youtube_id, row.split))

    if not used:
        raise UserError(
            f"{root} holds none of the {len(rows):,} clips that the annotations of {name} name: expected files such as "
            f"{rows[0].id}.mp4, saw {folder_listing(root)}"
        )
    if ambiguous:
        notes.append(f"{ambiguous:,} clips are missing because a file named by its id alone fits several rows")
    if other_class:
        notes.append(f"{len(other_class):,} files lie in another class's folder; the CSV's label holds: "
                     f"{name_some(other_class)}")  # fmt: skip
    extra = [video.relative for video in found if video.relative not in used]
    return DataSet(
        name=name,
        root=root,
        items=tuple(items),
        classes=labels,
        captions={
            "en": {label: label for label in labels},
            "zh": {label: phrase for label in labels if (phrase := kinetics_phrases().get(label))},
        },
        missing=tuple(missing),
        extra=tuple(extra),
        broken=tuple(broken),
        notes=tuple(notes),
        official_counts=dict(counts),
    )


def _best_copy(copies: Sequence[FoundVideo], row: Row) -> FoundVideo:
    """The copy in its own split's and class's folder first, one in another split's last; then by path."""

    def preference(video: FoundVideo) -> tuple[bool, bool, str]:
        in_class = bool(row.label) and plain(row.label) in map(plain, video.folder.split("/"))
        return bool(_splits_of(video) - {row.split}), not in_class, video.relative

    return min(copies, key=preference)


def _clip_of(video: FoundVideo) -> Clip | None:
    timed = _TIMED.fullmatch(video.stem)
    return (timed["id"], int(timed["start"]), int(timed["end"])) if timed else None


def _splits_of(video: FoundVideo) -> set[str]:
    return {_SPLITS[folder] for folder in video.folder.lower().split("/") if folder in _SPLITS}


def _n_bytes(path: str) -> int:
    try:
        return os.stat(path).st_size  # noqa: PTH116 - once a clip, half a million times
    except OSError:
        return -1
