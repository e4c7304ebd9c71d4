"""What every data set gives: items, and an honest list of what is missing."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Item:
    """One video. `id` is stable over machines (a path relative to the data set, or the data set's own id).

    `group` joins videos cut from one source (UCF-101's gNN): a group never stands on both sides of a comparison.
    Where a data set has several captions a video, `captions` are all of them and `caption` is the one of
    `caption_index`, drawn by the seed.
    """

    id: str
    path: Path | None
    label: str = ""
    caption: str = ""
    group: str = ""
    split: str = ""
    captions: tuple[str, ...] = ()
    caption_index: int = 0


@dataclass(frozen=True)
class DataSet:
    """A data set as found on disk.

    `items` in the official order; those whose file is missing are not in it but in `missing`. `extra` are videos on
    disk that no list names; `broken` are (id, reason). `captions` maps a language to {label: phrase}.
    With `hashes_captions` the captions are the data (a file of prompts): an item whose video is missing or broken
    stays, with `path` None, and the captions are part of `list_sha256`.
    """

    name: str
    root: Path
    items: tuple[Item, ...]
    classes: tuple[str, ...] = ()
    captions: dict[str, dict[str, str]] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()
    broken: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    official_counts: dict[str, int] = field(default_factory=dict)
    hashes_captions: bool = False

    def select(self, split: str) -> tuple[Item, ...]:
        """Items of a split; "train+test" joins splits, "all" takes everything."""
        if split == "all":
            return self.items
        wanted = set(split.split("+"))
        return tuple(item for item in self.items if item.split in wanted)

    @property
    def list_sha256(self) -> str:
        """Hash of the ids, labels and splits in order: two runs with the same hash used the same list."""
        lines = "\n".join(self._hashed_line(item) for item in self.items)
        return hashlib.sha256(lines.encode()).hexdigest()

    def _hashed_line(self, item: Item) -> str:
        line = f"{item.id}\t{item.label}\t{item.split}"
        return f"{line}\t{item.caption}\t{item.path is not None}" if self.hashes_captions else line
