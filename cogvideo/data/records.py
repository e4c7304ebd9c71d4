"""Records on disk: rows of int32 without a header, as the release's training reads them, mapped and not copied.

A row is T text ids, then N frames of F image ids each, in natural order. Rows of several files are numbered through.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cogvideo.config import ModelConfig
from cogvideo.data.record_card import CARD_NAME, RecordCard, Words, read_card, require_ids, write_whole
from cogvideo.errors import UserError

Rows = NDArray[np.int32]
# Little-endian on every machine, as the release's files are.
ID = np.dtype("<i4")
# Rows that are looked at when a file without a card is opened.
PROBED = 16


class Records:
    """Rows of one or more files. Two of them with the same files are equal to each other in every respect.

    `records.rows([3, 0])` are int32 (2, values); `words` are the ids that reading puts around captions, if they are
    known. Only what is read is in memory.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        config: ModelConfig,
        frames: int,
        words: Words | None,
        card: RecordCard | None = None,
    ) -> None:
        self.paths = tuple(paths)
        self.config = config
        self.frames = frames
        self.words = words
        self.card = card
        self.values = config.text_len + frames * config.frame_len
        sizes = [_rows_in(path, self.values, config) for path in self.paths]
        self._ends = np.cumsum(sizes, dtype=np.int64)
        self._maps: list[Rows | None] = [None] * len(self.paths)

    @classmethod
    def open(
        cls,
        path: Path | str,
        config: ModelConfig,
        *,
        frames: int | None = None,
        words: Words | None = None,
        image_tokenizer: str | None = None,
        text_tokenizer: str | None = None,
    ) -> Records:
        """A folder that `cogeval tokenize` wrote, or a file of records as the release has them (`frames` of the size).

        `image_tokenizer` and `text_tokenizer` are the fingerprints of those that the network belongs to. Raises
        UserError for records of another size, tokenizer or vocabulary, and for files that are missing, cut short, or
        hold ids that cannot be.
        """
        path = Path(path)
        if path.is_file():
            found = cls([path], config, frames or config.frames, words)
            found._probe()
            return found
        if not (path / CARD_NAME).is_file():
            raise UserError(
                f"{path} holds no finished records: expected {CARD_NAME}; run `cogeval tokenize`, which also goes on "
                "where it was stopped"
            )
        card = read_card(path)
        require_ids(card, config, path)
        if frames not in (None, card.frames):
            raise UserError(f"the records in {path} have {card.frames} frames, expected {frames}")
        _require_tokenizer(path, "image", card.image_tokenizer.get("sha256"), image_tokenizer)
        _require_tokenizer(path, "text", card.text_tokenizer.get("sha256"), text_tokenizer)
        opened = cls([path / name for name in card.shards], config, card.frames, words or card.words, card)
        sizes = np.diff(opened._ends, prepend=0).tolist()
        for (name, shard), there in zip(card.shards.items(), sizes, strict=True):
            if there != shard.records:
                raise UserError(
                    f"{path / name} is damaged: {there:,} records, its card says {shard.records:,}; tokenise again "
                    "with --on-existing redo"
                )
        return opened

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    @cached_property
    def rates(self) -> dict[tuple[int, ...], Fraction]:
        """The frame rate that each duration in front of a caption stands for; {} where `words` are not known."""
        durations = self.words.durations if self.words else {}
        return {
            tuple(ids): ((self.config.frames - 1) / Fraction(seconds)).limit_denominator(1000)
            for seconds, ids in durations.items()
        }

    def rows(self, indices: ArrayLike) -> Rows:
        """Rows (B, values) in the order asked for. Raises IndexError for one that is not there."""
        wanted = np.asarray(indices, dtype=np.int64).reshape(-1)
        if len(wanted) and not 0 <= wanted.min() <= wanted.max() < len(self):
            raise IndexError(f"records are numbered 0..{len(self) - 1}, got {wanted.min()} to {wanted.max()}")
        found: Rows = np.empty((len(wanted), self.values), ID)
        files = np.searchsorted(self._ends, wanted, side="right")
        for file in np.unique(files).tolist():
            here = files == file
            found[here] = self._map(file)[wanted[here] - (self._ends[file - 1] if file else 0)]
        return found

    def text_heads(self, width: int) -> Rows:
        """The first `width` ids of every row: what tells the durations. Reads through all files."""
        heads = [self._map(file)[:, :width] for file in range(len(self.paths)) if self._rows_of(file)]
        return np.concatenate(heads) if heads else np.empty((0, width), ID)

    def where(self, index: int) -> dict[str, Any]:
        """Where a record comes from: file, caption, rate, start. {} for records without a table beside them."""
        file = int(np.searchsorted(self._ends, index, side="right"))
        table = self.paths[file].with_suffix(".jsonl")
        if not table.is_file():
            return {}
        row = index - int(self._ends[file - 1] if file else 0)
        with table.open(encoding="utf-8") as lines:
            found: dict[str, Any] = next(json.loads(line) for number, line in enumerate(lines) if number == row)
        return found

    def column(self, name: str) -> list[Any] | None:
        """What the tables beside the records say of every record under a name, as `where`; None without tables."""
        values: list[Any] = []
        for path in self.paths:
            table = path.with_suffix(".jsonl")
            if not table.is_file():
                return None
            values += [json.loads(line).get(name) for line in table.read_text(encoding="utf-8").splitlines()]
        return values

    def __getstate__(self) -> dict[str, Any]:
        # A mapping would be pickled with all that it maps.
        return self.__dict__ | {"_maps": [None] * len(self.paths)}

    def _rows_of(self, file: int) -> int:
        return int(self._ends[file] - (self._ends[file - 1] if file else 0))

    def _map(self, file: int) -> Rows:
        mapped = self._maps[file]
        if mapped is None:
            shape = (self._rows_of(file), self.values)
            mapped = np.memmap(self.paths[file], ID, "r", shape=shape)
            self._maps[file] = mapped
        return mapped

    def _probe(self) -> None:
        """Raise UserError if the ids of a few rows cannot be of this size."""
        if not len(self):
            raise UserError(f"{self.paths[0]} holds no record")
        looked_at = np.unique(np.linspace(0, len(self) - 1, PROBED).astype(np.int64))
        texts, images = np.split(self.rows(looked_at), [self.config.text_len], axis=1)
        for what, ids, low, end in (
            ("text", texts, self.config.num_image_tokens, self.config.vocab_size),
            ("image", images, 0, self.config.num_image_tokens),
        ):
            wrong = ids[(ids < low) | (ids >= end)]
            if wrong.size:
                raise UserError(
                    f"{self.paths[0]} holds {what} id {wrong[0]}, expected {low}..{end - 1}: records of another size "
                    "or vocabulary"
                )


def write_records(path: Path, rows: ArrayLike, config: ModelConfig, frames: int | None = None) -> None:
    """Write rows (B, values) as the release's training reads them, whole.

    Raises ValueError unless the rows have the width of the size and hold text ids, then image ids.
    """
    ids = np.asarray(rows)
    wide = config.text_len + (frames or config.frames) * config.frame_len
    if ids.ndim != 2 or ids.shape[1] != wide or ids.dtype.kind not in "iu":
        raise ValueError(f"expected integers (B, {wide}), got {ids.dtype} {ids.shape}")
    images = ids[:, config.text_len :]
    if ids.size and not (ids.min() >= 0 and ids.max() < config.vocab_size and images.max() < config.num_image_tokens):
        raise ValueError(f"expected ids below {config.vocab_size}, of images below {config.num_image_tokens}")
    write_whole(path, np.ascontiguousarray(ids, ID).tobytes())


def text_slots(ids: Sequence[int], config: ModelConfig) -> list[int]:
    """A text in its slots: cut to as many as there are, `<pad>` after it."""
    kept = list(ids[: config.text_len])
    return kept + [config.pad_id] * (config.text_len - len(kept))


def _rows_in(path: Path, values: int, config: ModelConfig) -> int:
    try:
        size = path.stat().st_size
    except OSError as error:
        raise UserError(f"cannot read the records {path}: {error.strerror or error}") from None
    rows, rest = divmod(size, values * ID.itemsize)
    if rest:
        raise UserError(
            f"{path} has {size:,} bytes, which is no whole number of records of {values:,} ids ({config.text_len} of "
            f"text, frames of {config.frame_len}): cut short, or of another size than {config.name or 'given'}"
        )
    return rows


def _require_tokenizer(path: Path, what: str, made_with: object, expected: str | None) -> None:
    if expected is not None and made_with != expected:
        raise UserError(
            f"the records in {path} were made with another {what} tokenizer ({str(made_with)[:12]}) than the network's "
            f"({expected[:12]}); tokenise the videos again with the network's own"
        )


def sums(parts: Sequence[Mapping[str, int]]) -> dict[str, int]:
    """Counts added up, names in order."""
    found: dict[str, int] = {}
    for part in parts:
        for name, count in part.items():
            found[name] = found.get(name, 0) + count
    return dict(sorted(found.items()))
