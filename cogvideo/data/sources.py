"""Videos and their captions as people keep them: a manifest, UCF-101's folders, or Kinetics with its table."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cogvideo.data.captions import class_phrase, read_captions
from cogvideo.data.layouts import find_videos, kinetics_clips, list_names, tables_near, ucf_class
from cogvideo.data.tables import TABLE_SUFFIXES, read_columns, read_rows, seconds_cell, text_cell
from cogvideo.errors import UserError

Layout = Literal["manifest", "ucf", "kinetics"]


@dataclass(frozen=True)
class Pair:
    """A video and its caption. `name` is its path in the source, with / between; times are seconds from its start.

    `number` tells pairs of one video apart.
    """

    path: Path
    name: str
    caption: str
    start_s: float | None = None
    end_s: float | None = None
    number: int = 0

    @property
    def line(self) -> str:
        """What the hash of a source is made of: everything but where it lies on this machine."""
        window = "" if self.start_s is None and self.end_s is None else f"{self.start_s}..{self.end_s}"
        return f"{self.name}\t{window}\t{self.caption}"


@dataclass(frozen=True)
class Source:
    """Pairs by name (a manifest keeps its order); `missing`: names of a table that are not on the disk."""

    name: str
    layout: Layout
    pairs: tuple[Pair, ...]
    missing: tuple[str, ...] = ()

    @property
    def sha256(self) -> str:
        """Of names, times and captions, in order: the same on every machine."""
        return hashlib.sha256("\n".join(pair.line for pair in self.pairs).encode()).hexdigest()


def open_source(
    path: Path, *, captions: Path | None = None, only: Path | None = None, split: str | None = None
) -> Source:
    """The pairs of a folder or a manifest; which layout it has is seen from what lies in it.

    `captions`: a table of class or file and caption, in place of the classes' names. `only`: a text file that names
    the videos to take, one a line, as UCF-101's split lists do. `split`: of the Kinetics table (train, val, test).
    Raises UserError, with file and line, for captions that do not match the videos, for videos that a manifest names
    and that are not there, and for a source without any pair.
    """
    if path.is_file():
        tables = [path]
        layout: Layout = "kinetics" if _is_kinetics(path) else "manifest"
    elif path.is_dir():
        tables = tables_near(path)
        manifests = [table for table in tables if table.stem == "manifest"]
        tables = [table for table in tables if _is_kinetics(table)] or manifests
        layout = "ucf" if not tables else "manifest" if tables == manifests else "kinetics"
    else:
        raise UserError(f"there is nothing at {path}: expected a folder of videos or a manifest (.jsonl, .csv)")
    if layout != "kinetics" and split is not None:
        raise UserError(f"{path} has no splits of its own: leave --split out, or name the videos with --only FILE")
    if layout == "manifest":
        if captions is not None:
            raise UserError(f"{tables[0]} has captions of its own: leave --captions {captions} out")
        source = _manifest(tables[0])
    elif layout == "kinetics":
        source = _kinetics(path if path.is_dir() else path.parent, tables, captions, split)
    else:
        source = _ucf(path, captions)
    if only is not None:
        source = _only(source, only)
    if not source.pairs:
        raise UserError(f"{path} holds no video with a caption")
    return source


def _manifest(table: Path) -> Source:
    """Raises UserError if any of the files is missing: a manifest is written for what is there."""
    pairs: list[Pair] = []
    missing: list[tuple[int, str]] = []
    seen: dict[str, int] = {}
    for line, row in read_rows(table):
        if "file" not in row or "caption" not in row:
            raise UserError(
                f"{table} line {line}: expected the columns file, caption and perhaps start, end; got {', '.join(row)}"
            )
        name = Path(text_cell(table, line, row, "file")).as_posix()
        start, end = (seconds_cell(table, line, row, column) for column in ("start", "end"))
        if end is not None and end <= (start or 0):
            raise UserError(f"{table} line {line}: expected an end after {start or 0:g} s, got {end:g} s")
        path = table.parent / name
        if not path.is_file():
            missing.append((line, name))
        number = seen.setdefault(name, 0)
        seen[name] += 1
        pairs.append(Pair(path, name, text_cell(table, line, row, "caption"), start, end, number))
    if missing:
        line, name = missing[0]
        more = f" (and {len(missing) - 1:,} more are missing)" if len(missing) > 1 else ""
        raise UserError(f"{table} line {line}: there is no {name} in {table.parent}{more}; paths start at the manifest")
    return Source(table.name, "manifest", tuple(pairs))


def _ucf(root: Path, captions: Path | None) -> Source:
    videos = {video.relative_to(root).as_posix(): video for video in find_videos(root)}
    classes = {name: ucf_class(name) for name in videos}
    strange = [name for name, its in classes.items() if not its]
    if strange or not videos:
        saw = f"{strange[0]} lies in no class folder" if strange else "it holds no video"
        raise UserError(
            f"{root} has no layout that is known: {saw}; expected Class/v_Class_g01_c01.avi, a Kinetics table "
            f"(.csv) or a manifest ({', '.join(TABLE_SUFFIXES)})"
        )
    return _captioned(
        root.resolve().name, "ucf", [(name, path, classes[name]) for name, path in videos.items()], captions
    )


def _kinetics(root: Path, tables: Sequence[Path], captions: Path | None, split: str | None) -> Source:
    found, missing = kinetics_clips(root, tables, split)
    if not found:
        raise UserError(
            f"{root} holds none of the {len(missing):,} clips that {tables[0].name} names: expected files such as "
            f"{missing[0] if missing else 'ID_000010_000020'}.mp4 anywhere below it"
        )
    clips = [(path.relative_to(root).as_posix(), path, label) for path, label in found]
    return _captioned(root.resolve().name, "kinetics", clips, captions, tuple(missing))


def _captioned(
    name: str,
    layout: Layout,
    videos: Iterable[tuple[str, Path, str]],
    captions: Path | None,
    missing: tuple[str, ...] = (),
) -> Source:
    """`videos`: name, path and class of each."""
    videos = sorted(videos)
    classes = {label for _, _, label in videos}
    if captions is None:
        said = {label: class_phrase(label) for label in classes}
    else:
        said = read_captions(captions, classes, {video for video, _, _ in videos})
    pairs = []
    for video, path, label in videos:
        caption = said.get(video) or said.get(label)
        if not caption and captions is not None:
            raise UserError(f"{captions} has no caption for {video} (class {label}); every video needs one")
        if not caption:
            raise UserError(
                f"{video} has no class: its row has no label, and it lies in no class folder; use --captions"
            )
        pairs.append(Pair(path, video, caption))
    return Source(name, layout, tuple(pairs), missing)


def _only(source: Source, only: Path) -> Source:
    """Raises UserError for a name that the source does not have."""
    wanted = list_names(only)
    by_name: dict[str, list[Pair]] = {}
    for pair in source.pairs:
        # UCF-101's lists begin at the class folder, wherever that lies.
        for name in {pair.name, "/".join(pair.name.split("/")[-2:])}:
            by_name.setdefault(name, []).append(pair)
    for line, name in wanted:
        if name not in by_name:
            raise UserError(f"{only} line {line}: {source.name} has no video {name!r}")
    kept = {id(pair) for _, name in wanted for pair in by_name[name]}
    return Source(source.name, source.layout, tuple(p for p in source.pairs if id(p) in kept), source.missing)


def _is_kinetics(table: Path) -> bool:
    return table.suffix.lower() == ".csv" and "youtube_id" in read_columns(table)
