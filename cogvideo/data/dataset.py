"""Records as training wants them: a clip at one of its frame rates, or a single frame, with the text that fits it.

T text slots, N frames of a record, n frames of a sample, F tokens of a frame.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from cogvideo.data.batch_order import Entry
from cogvideo.data.draws import Key, below, uniform
from cogvideo.data.rates import strides, write_rates
from cogvideo.data.record_card import Words
from cogvideo.data.records import Records, Rows, text_slots
from cogvideo.errors import UserError

if TYPE_CHECKING:
    import torch

NEED_WORDS = (
    "the ids of durations and suffixes are not known for these records, which have no card; give words=words_of(...)"
)


@dataclass(frozen=True)
class Text:
    """The text of a record in its parts: ids of the duration with `<n>`, and of the caption."""

    duration: tuple[int, ...]
    caption: tuple[int, ...]


class Draw(Protocol):
    """How a sample is made of a record."""

    frames: int | None
    """Frames of a sample; None for those of the size."""

    def rates(self, rate: Fraction | None, records: Records) -> list[Fraction | None]:
        """Those that a sample of a record of some rate (None: unknown) may have; none leaves the record out."""

    def sample(
        self, text: Text, frames_NF: Rows, rate: Fraction | None, records: Records, key: tuple[Key, ...]
    ) -> tuple[list[int], Rows]:
        """Text ids, and frames (n, F), by chance that hangs on the key alone."""


@dataclass(frozen=True)
class ClipDraw:
    """Clips of the network's frames: for stage 1 and stage 2.

    Records that are longer than that give a clip at any stride whose duration is known, from any start: 17 frames at 8
    a second give clips of 5 at 2, 4 and 8. `only_rates` and `min_rate` narrow that (the curriculum of the paper).
    `video_suffix`: share of samples whose text ends as a guided prompt does. `no_caption`: share whose caption is
    replaced by the word that guidance moves away from; the release has none of that. `no_word`: chance of each
    id of a caption to be left out. `is_tiled`: of long records only
    the clips that lie end to end from the first frame on, each beginning with the last frame of the one before, as
    hierarchical generation makes them (CogVideo, section 3.2).
    """

    only_rates: tuple[Fraction, ...] | None = None
    min_rate: Fraction = Fraction(0)
    video_suffix: float = 0.0
    no_caption: float = 0.0
    no_word: float = 0.0
    is_tiled: bool = False
    frames: int | None = None

    def rates(self, rate: Fraction | None, records: Records) -> list[Fraction | None]:
        if rate is None:
            fits = (
                self.only_rates is None
                and self.min_rate <= 0
                and records.frames == (self.frames or records.config.frames)
            )
            return [None] if fits else []
        known = set(records.rates.values())
        possible = (rate / stride for stride in strides(records.frames, self.frames or records.config.frames))
        return [
            one
            for one in possible
            if one in known and one >= self.min_rate and (self.only_rates is None or one in self.only_rates)
        ]

    def sample(
        self, text: Text, frames_NF: Rows, rate: Fraction | None, records: Records, key: tuple[Key, ...]
    ) -> tuple[list[int], Rows]:
        count = self.frames or records.config.frames
        possible = self.rates(rate, records)
        chosen = possible[below(len(possible), *key, "rate")]
        stride = 1 if chosen is None or rate is None else int(rate / chosen)
        span = (count - 1) * stride
        if self.is_tiled:
            start = span * below((len(frames_NF) - 1) // span, *key, "start")
        else:
            start = below(len(frames_NF) - span, *key, "start")
        clip_nF = frames_NF[start : start + span + 1 : stride]
        caption: tuple[int, ...] = text.caption
        suffix: tuple[int, ...] = ()
        if uniform(*key, "caption") < self.no_caption:
            caption = tuple(_words(records).video)
        else:
            caption = tuple(id_ for place, id_ in enumerate(caption) if uniform(*key, "word", place) >= self.no_word)
            if uniform(*key, "suffix") < self.video_suffix:
                suffix = tuple(_words(records).video_suffix)
        duration = text.duration if chosen in (None, rate) else _duration(records, chosen)
        return _joined(duration, caption, suffix, records), clip_nF


@dataclass(frozen=True)
class StillDraw:
    """Single frames with their text: for the base transformer, which has to draw first frames and to know all words.

    `first`: share of first frames, whose text ends as the prompt of a first frame does. The others are any frame of the
    record, end as a video's prompt does, and `duration` of them have a duration in front, of any rate there is.
    """

    first: float = 0.4
    duration: float = 0.9
    no_caption: float = 0.0
    frames: int | None = 1

    def rates(self, rate: Fraction | None, records: Records) -> list[Fraction | None]:
        return [rate]

    def sample(
        self, text: Text, frames_NF: Rows, rate: Fraction | None, records: Records, key: tuple[Key, ...]
    ) -> tuple[list[int], Rows]:
        words, is_first = _words(records), uniform(*key, "first") < self.first
        is_bare = uniform(*key, "caption") < self.no_caption
        place, duration = 0, list[int]()
        suffix, alone = words.first_frame_suffix, words.first_frame
        if not is_first:
            place, suffix, alone = below(len(frames_NF), *key, "frame"), words.video_suffix, words.video
            durations = list(words.durations.values())
            if durations and uniform(*key, "duration") < self.duration:
                duration = durations[below(len(durations), *key, "rate")]
        ids = _joined(duration, alone, (), records) if is_bare else _joined(duration, text.caption, suffix, records)
        return ids, frames_NF[place : place + 1]


class RecordDataset:
    """Samples of records, for a `torch.utils.data.DataLoader` with `batch_sampler=BatchOrder(len(dataset), ...)`.

    A sample is a row (T + n * F,) of int32: text slots with `<pad>` behind, then the frames; `read_records` of
    `cogvideo.objectives` takes a batch of them. Which clip and which words it has hangs on (seed, epoch, record) alone.
    `indices`: the records to use (a split); None for all. Raises UserError if none of them suits the draw.
    """

    def __init__(
        self, records: Records, draw: Draw | None = None, *, seed: int = 0, indices: Sequence[int] | None = None
    ) -> None:
        self.records, self.draw, self.seed = records, draw or ClipDraw(), seed
        self.frames = self.draw.frames or records.config.frames
        chosen = np.arange(len(records)) if indices is None else np.asarray(indices, np.int64)
        self.indices = self._suitable(chosen)

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, entry: Entry | tuple[int, int]) -> Rows:
        sample: Rows = self.batch([entry])[0]
        return sample

    def __getitems__(self, entries: Sequence[Entry]) -> list[Rows]:
        return list(self.batch(entries))

    def batch(self, entries: Sequence[Entry | tuple[int, int]]) -> Rows:
        """Samples (B, T + n * F); an entry is the epoch and a number below `len(self)`."""
        records, config = self.records, self.records.config
        numbers = self.indices[[number for _, number in entries]]
        samples = []
        for (epoch, _), number, row in zip(entries, numbers.tolist(), records.rows(numbers), strict=True):
            frames_NF = row[config.text_len :].reshape(records.frames, config.frame_len)
            text = split_text(row[: config.text_len].tolist(), records)
            rate = records.rates.get(text.duration)
            ids, frames_nF = self.draw.sample(text, frames_NF, rate, records, (self.seed, epoch, number))
            samples.append(np.concatenate([np.array(text_slots(ids, config), np.int32), frames_nF.reshape(-1)]))
        return np.stack(samples)

    def tensor(self, entries: Sequence[Entry | tuple[int, int]]) -> torch.Tensor:
        """`batch` as a tensor of int32; imports torch."""
        import torch

        return torch.from_numpy(self.batch(entries))

    def _suitable(self, chosen: NDArray[np.int64]) -> NDArray[np.int64]:
        """Those of the records that the draw can take; the rates of all are read only if that can differ."""
        records = self.records
        counted = records.card.rates if records.card else None
        if counted is not None:
            rates: set[Fraction | None] = {Fraction(rate) for rate in counted}
        else:
            rates = {None, *records.rates.values()}
        fitting = {rate for rate in rates if self.draw.rates(rate, records)}
        if fitting != rates:
            chosen = chosen[np.isin(chosen, _rows_with(records, fitting))]
        if not len(chosen):
            there = write_rates(sorted(rate for rate in rates if rate is not None))
            raise UserError(
                f"none of the {len(records):,} records gives a clip of {self.frames} frames that is wanted: they have "
                f"{records.frames} frames at {there} a second; tokenise with other --rates or --frames"
            )
        return chosen


def split_text(slots: Iterable[int], records: Records) -> Text:
    """The parts of a record's text. Pads are left out; without `<n>` there is no duration."""
    config = records.config
    ids = tuple(id_ for id_ in slots if id_ != config.pad_id)
    if config.newline_id not in ids:
        return Text((), ids)
    end = ids.index(config.newline_id) + 1
    return Text(ids[:end], ids[end:])


def split_records(
    records: Records, shares: Sequence[float] = (949, 50, 1), seed: int = 0
) -> tuple[NDArray[np.int64], ...]:
    """Numbers of the records for training, validation and test (the release's shares), at random.

    All records of one video are in the same part, where a table beside the records tells which video they are of.
    """
    places = np.array([uniform("split", seed, name) for name in _videos(records)])
    ends = np.cumsum(np.asarray(shares, float)) / np.sum(shares)
    part = np.searchsorted(ends[:-1], places, side="right")
    return tuple(np.flatnonzero(part == number) for number in range(len(shares)))


def _videos(records: Records) -> Sequence[str | int]:
    return records.column("file") or range(len(records))


def _rows_with(records: Records, rates: set[Fraction | None]) -> NDArray[np.int64]:
    """The numbers of the records whose duration is that of one of the rates."""
    known = records.rates
    width = min(max(map(len, known), default=0) + 1, records.config.text_len)
    heads = records.text_heads(width)
    # Some files have one pad in front.
    heads = np.where(heads[:, :1] == records.config.pad_id, np.roll(heads, -1, axis=1), heads)
    fits = np.zeros(len(heads), bool)
    told = np.zeros(len(heads), bool)
    for ids, rate in known.items():
        here = (heads[:, : len(ids)] == np.array(ids)).all(1)
        told |= here
        if rate in rates:
            fits |= here
    return np.flatnonzero(fits | ~told if None in rates else fits)


def _words(records: Records) -> Words:
    if records.words is None:
        raise UserError(NEED_WORDS)
    return records.words


def _duration(records: Records, rate: Fraction) -> tuple[int, ...]:
    return next(ids for ids, known in records.rates.items() if known == rate)


def _joined(duration: Sequence[int], caption: Sequence[int], suffix: Sequence[int], records: Records) -> list[int]:
    """What does not fit is cut off the caption, so that a suffix stays what it says."""
    room = max(0, records.config.text_len - len(duration) - len(suffix))
    return [*duration, *caption[:room], *suffix]
