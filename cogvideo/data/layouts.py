"""Where the videos of a folder are, and which class or row of a table each belongs to."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from cogvideo.data.tables import TABLE_SUFFIXES, read_rows, text_of
from cogvideo.errors import UserError

VIDEO_SUFFIXES = frozenset((".avi", ".mp4", ".mkv", ".webm", ".mov", ".m4v", ".mpg", ".mpeg", ".gif"))
_UCF_STEM = re.compile(r"v_(?P<name>.+)_g\d+_c\d+", re.IGNORECASE)
# The id may begin with '-' and hold '_': both times are taken off the right end.
_KINETICS_STEM = re.compile(r"(?P<id>.+)_(?P<start>\d+)_(?P<end>\d+)")
_SPLITS = {"val": "val", "validate": "val", "validation": "val", "train": "train", "test": "test", "holdout": "test"}


def find_videos(root: Path) -> Iterator[Path]:
    """Every video file below a folder, links to folders followed, hidden files left out."""
    for folder, inner, files in os.walk(root, followlinks=True):
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        for name in sorted(files):
            if not name.startswith(".") and os.path.splitext(name)[1].lower() in VIDEO_SUFFIXES:  # noqa: PTH122
                yield Path(folder, name)


def ucf_class(name: str) -> str:
    """The class of `Class/v_Class_g01_c01.avi`: its folder, else (files side by side) its name; "" if it has none."""
    folder, _, file = name.rpartition("/")
    match = _UCF_STEM.fullmatch(file.rpartition(".")[0])
    if folder:
        return folder.rpartition("/")[2]
    return match["name"] if match else ""


def tables_near(root: Path) -> list[Path]:
    """Tables in a folder and in its `annotations`."""
    places = (root, root / "annotations")
    return sorted(
        path for place in places if place.is_dir() for path in place.iterdir() if path.suffix.lower() in TABLE_SUFFIXES
    )


def list_names(path: Path) -> list[tuple[int, str]]:
    """(line, name) of a list of videos, one a line; a number after the name, as in UCF-101's train lists, is left out.

    Raises UserError if there is none.
    """
    lines = enumerate(text_of(path).replace("\\", "/").split("\n"), 1)
    found = [(line, re.sub(r"\s+\d+$", "", text.strip())) for line, text in lines if text.strip()]
    if not found:
        raise UserError(f"{path} names no video")
    return found


def kinetics_clips(root: Path, tables: Sequence[Path], split: str | None) -> tuple[list[tuple[Path, str]], list[str]]:
    """(file, class) of the clips of Kinetics tables that lie below `root`, and the names of those that do not.

    Files are called `ID_000010_000020`, or by the id alone where the tables name it once. A row without a label takes
    the file's class folder, "" if it lies in none. Raises UserError, with the line, for a row without an id or times,
    and for an unknown split.
    """
    if split is not None and split not in _SPLITS:
        raise UserError(f"unknown split {split!r} of Kinetics; there are train, val and test")
    wanted: dict[tuple[str, int, int], str] = {}
    for table, line, row in ((one, *its) for one in tables for its in read_rows(one)):
        try:
            key = (row["youtube_id"], int(float(row["time_start"])), int(float(row["time_end"])))
        except (KeyError, ValueError):
            raise UserError(
                f"{table} line {line}: expected the columns label, youtube_id, time_start, time_end, with an id and "
                f"two times in seconds; got {', '.join(map(str, row.values()))[:60]}"
            ) from None
        its = row.get("split", table.stem.rpartition("_")[2]).strip().lower()
        if split is None or _SPLITS.get(its, its) == _SPLITS[split]:
            wanted.setdefault(key, row.get("label", "").strip())
    times_named = Counter(key[0] for key in wanted)
    by_clip: dict[tuple[str, int, int], Path] = {}
    by_id: dict[str, Path] = {}
    for video in find_videos(root):
        by_id.setdefault(video.stem, video)
        if match := _KINETICS_STEM.fullmatch(video.stem):
            by_clip.setdefault((match["id"], int(match["start"]), int(match["end"])), video)
    found, missing = [], []
    for key, label in wanted.items():
        video_or_none = by_clip.get(key) or (by_id.get(key[0]) if times_named[key[0]] == 1 else None)
        if video_or_none is None:
            missing.append(f"{key[0]}_{key[1]:06d}_{key[2]:06d}")
        else:
            found.append((video_or_none, label or _class_folder(root, video_or_none)))
    return found, missing


def _class_folder(root: Path, video: Path) -> str:
    folder = video.parent
    return "" if folder == root or folder.name.lower() in _SPLITS else folder.name
