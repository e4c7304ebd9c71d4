"""Which rows a step takes: records by the order of `cogvideo.data`, or single frames of videos as pixels.

R rows of a step, S x S pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cogvideo.config import ModelConfig
from cogvideo.data.batch_order import BatchOrder, Entry
from cogvideo.data.dataset import ClipDraw, RecordDataset, StillDraw, split_records
from cogvideo.data.records import Records
from cogvideo.errors import UserError
from cogvideo.training.recipe import TrainingRecipe


class Key(NamedTuple):
    """A row: the phase of the recipe that it is for, the pass over the data, and the number of the record."""

    phase: int
    epoch: int
    record: int

    def __str__(self) -> str:
        return f"record {self.record} (pass {self.epoch})"


class RecordBatches:
    """Rows of records, drawn as the recipe says. A phase has an order of its own over the records that suit it.

    `indices`: the records to take, None for all. Raises UserError, before anything is trained, for a phase that no
    record suits.
    """

    def __init__(
        self, records: Records, recipe: TrainingRecipe, seed: int, indices: Sequence[int] | None = None
    ) -> None:
        self.recipe = recipe
        self.datasets = [
            RecordDataset(records, _draw(recipe, phase.min_fps), seed=seed, indices=indices) for phase in recipe.phases
        ]
        self.repeats = [_repeats(dataset, recipe.often) for dataset in self.datasets]
        self.orders = [
            BatchOrder(len(places), recipe.batch_size, seed=seed * 64 + number)
            for number, (places, _) in enumerate(self.repeats)
        ]

    def keys(self, step: int) -> list[Key]:
        number, done = self.recipe.phase_of(step), 0
        for phase in self.recipe.phases[:number]:
            done += phase.steps
        entries = self.orders[number].batch((step - 1 - done) * self.recipe.batch_size)
        indices, (places, copies) = self.datasets[number].indices, self.repeats[number]
        # A repeated record is a pass of its own, so that its clip and its words are drawn anew.
        passes = 2 if self.recipe.often else 1
        return [
            Key(number, epoch * passes + int(copies[index]), int(indices[places[index]])) for epoch, index in entries
        ]

    def load(self, keys: Sequence[Key]) -> Tensor:
        dataset = self.datasets[keys[0].phase]
        places = np.searchsorted(dataset.indices, [key.record for key in keys]).tolist()
        return dataset.tensor([Entry(key.epoch, place) for key, place in zip(keys, places, strict=True)])


def split_batches(records: Records, recipe: TrainingRecipe, seed: int) -> tuple[RecordBatches, RecordBatches | None]:
    """Rows to train on, and rows of held-out videos, whose loss is looked at; None where the recipe holds none out.

    Which videos are held out hangs on their names alone, so that every run of the same records has the same ones.
    """
    if not recipe.held_out:
        return RecordBatches(records, recipe, seed), None
    training, held_out = split_records(records, (1 - recipe.held_out, recipe.held_out))
    if not len(training) or not len(held_out):
        return RecordBatches(records, recipe, seed), None
    last = replace(recipe, phases=recipe.phases[-1:])
    try:
        looked_at = RecordBatches(records, last, seed, held_out.tolist())
    except UserError:  # None of the held-out ones suits: there is nothing to look at.
        looked_at = None
    return RecordBatches(records, recipe, seed, training.tolist()), looked_at


class FrameBatches:
    """Single frames (R, S, S, 3) in uint8, every one of them once a pass."""

    def __init__(self, frames: NDArray[np.uint8], batch_size: int, seed: int) -> None:
        """`frames` may be mapped from a file; only the rows of a step are read."""
        self.frames, self.batch_size = frames, batch_size
        self.order = BatchOrder(len(frames), batch_size, seed=seed)

    def keys(self, step: int) -> list[Key]:
        return [Key(0, *entry) for entry in self.order.batch((step - 1) * self.batch_size)]

    def load(self, keys: Sequence[Key]) -> Tensor:
        return torch.from_numpy(np.stack([self.frames[key.record] for key in keys]))


def _repeats(dataset: RecordDataset, words: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The places in a data set that make up a pass, and how often each was there before in it."""
    once = np.arange(len(dataset))
    if not words:
        return once, np.zeros_like(once)
    captions = dataset.records.column("caption")
    if captions is None or not all(isinstance(caption, str) for caption in captions):
        raise UserError(
            f"captions with {', '.join(words)} are to come twice, but beside {dataset.records.paths[0]} there is no "
            "table (.jsonl) that tells the caption of every record"
        )
    again = [place for place in once.tolist() if {*words} & {*captions[dataset.indices[place]].split()}]
    return np.concatenate([once, np.array(again, np.int64)]), np.repeat([0, 1], [len(once), len(again)])


def _draw(recipe: TrainingRecipe, min_fps: float) -> Any:
    text = recipe.text
    if recipe.task == "base":
        return StillDraw(first=text.photo, duration=text.duration, no_caption=text.drop)
    only = tuple(Fraction(rate) for rate in recipe.only_fps) or None
    return ClipDraw(
        only,
        Fraction(min_fps),
        video_suffix=text.suffix,
        no_caption=text.drop,
        no_word=text.word_drop,
        is_tiled=recipe.is_tiled,
    )


class SuperresBatches:
    """Rows of a flat file of int32 for super-resolution: text slots, low-resolution tokens, cells. Mapped, not copied.

    Raises UserError for a file that holds no whole number of rows of this size.
    """

    def __init__(self, path: Path, config: ModelConfig, batch_size: int, seed: int) -> None:
        wide = config.superres_text_len + config.frame_len + config.superres_grid**2
        size = path.stat().st_size if path.is_file() else 0
        if not size or size % (4 * wide):
            raise UserError(
                f"expected a file of int32 rows of {wide:,} ids at {path} ({config.superres_text_len} of text, "
                f"{config.frame_len} tokens, {config.superres_grid**2:,} cells), got {size:,} bytes"
            )
        self.rows = np.memmap(path, "<i4", "r", shape=(size // (4 * wide), wide))
        self.batch_size = batch_size
        self.order = BatchOrder(len(self.rows), batch_size, seed=seed)

    def keys(self, step: int) -> list[Key]:
        return [Key(0, *entry) for entry in self.order.batch((step - 1) * self.batch_size)]

    def load(self, keys: Sequence[Key]) -> Tensor:
        return torch.from_numpy(np.stack([self.rows[key.record] for key in keys]).astype(np.int32))
