"""Videos to a folder of records: shard after shard, each whole, the same bytes for any workers and any interruption.

A shard is made of a fixed run of pairs, and batches of frames never cross its border: so what is in it, to the bit,
does not depend on what was made before it or beside it.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cogvideo.config import ModelConfig
from cogvideo.data.cutting import Clip, Cutting, CutVideo, Skipped
from cogvideo.data.decoding_pool import cut_videos
from cogvideo.data.fingerprint import image_fingerprint
from cogvideo.data.rates import PAPER_RATES, Rates, strides, write_rate
from cogvideo.data.record_card import SKIPPED_NAME, RecordCard, Shard, SourceFacts, write_whole
from cogvideo.data.record_folder import RecordFolder
from cogvideo.data.records import ID, sums, text_slots
from cogvideo.data.sources import Pair, Source
from cogvideo.data.words import duration_ids, words_of
from cogvideo.errors import UserError
from cogvideo.prompting import Prompts
from cogvideo.vqvae.image_tokenizer import ImageTokenizer

# Called with the number of videos that are done, of how many.
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class TokenizeSettings:
    """What decides the records, beside videos, captions and tokenizers.

    `frames` of a record (None: those of the size), `rates` ascending, `clips` of each video. `shard_videos` and
    `batch` (frames that the image tokenizer gets at once) are part of it, because rounding may hang on them.
    Raises UserError for numbers that cannot be.
    """

    rates: Rates
    frames: int | None = None
    clips: int = 1
    seed: int = 0
    shard_videos: int = 1024
    batch: int = 64

    def __post_init__(self) -> None:
        if min(self.clips, self.shard_videos, self.batch) < 1:
            raise UserError("expected at least one clip of a video, one video in a shard, one frame in a batch")


@dataclass
class _Made:
    """A shard in the making: frames that wait, ids that are there, and what is told of each record."""

    waiting: list[NDArray[np.uint8]] = field(default_factory=list)
    ids: list[NDArray[np.int32]] = field(default_factory=list)
    texts: list[list[int]] = field(default_factory=list)
    index: list[dict[str, Any]] = field(default_factory=list)
    skipped: list[dict[str, Any]] = field(default_factory=list)
    hashes: list[tuple[str, str]] = field(default_factory=list)
    rates: Counter[str] = field(default_factory=Counter)
    cut_captions: int = 0


class VideoTokenizer:
    """Videos to records, with a pair of tokenizers. Use `tokenize`; this holds what its steps share."""

    def __init__(
        self, config: ModelConfig, image_tokenizer: ImageTokenizer, prompts: Prompts, settings: TokenizeSettings
    ) -> None:
        self.config, self.image_tokenizer, self.prompts, self.settings = config, image_tokenizer, prompts, settings
        self.frames = settings.frames or config.frames
        if self.frames < config.frames:
            raise UserError(f"a record needs at least the {config.frames} frames of a clip, got {self.frames}")
        if image_tokenizer.num_tokens != config.num_image_tokens:
            raise UserError(
                f"the image tokenizer has {image_tokenizer.num_tokens:,} codes, the size {config.name or 'given'} has "
                f"{config.num_image_tokens:,} image tokens; give the one that belongs to the network"
            )
        image_tokenizer.config.level(config.compress_rate)
        self.cutting = Cutting(self.frames, config.frame_pixels, settings.rates, settings.clips, settings.seed)
        self.durations = {rate: duration_ids(prompts, rate) for rate in settings.rates}
        slower = {rate / stride for rate in settings.rates for stride in strides(self.frames, config.frames)}
        self.words = words_of(prompts, slower & {*PAPER_RATES, *settings.rates})
        self._captions: dict[str, list[int]] = {}

    def check_captions(self, pairs: Sequence[Pair]) -> None:
        """Raise UserError, naming the video, for a caption that the text tokenizer cannot take."""
        for pair in pairs:
            try:
                self.caption(pair.caption)
            except UserError as error:
                raise UserError(f"caption {pair.caption!r} of {pair.name}: {error}") from None

    def caption(self, text: str) -> list[int]:
        if text not in self._captions:
            if len(self._captions) > 1 << 16:
                self._captions.clear()
            self._captions[text] = self.prompts.tokenizer.encode(text)
        return self._captions[text]

    def shard(self, pairs: Sequence[Pair], answers: Iterator[CutVideo | Skipped], done: Callable[[], None]) -> _Made:
        """The records of some pairs, whose videos come from `answers`."""
        made = _Made()
        for pair, answer in zip(pairs, islice(answers, len(pairs)), strict=True):
            if isinstance(answer, Skipped):
                made.skipped.append({"file": pair.name, "code": answer.code, "reason": answer.reason})
            else:
                self._take(made, pair, answer)
            self._encode(made, at_end=False)
            done()
        self._encode(made, at_end=True)
        return made

    def rows(self, made: _Made) -> NDArray[np.int32]:
        """Records (R, values)."""
        count = len(made.texts)
        wide = self.frames * self.config.frame_len
        images = np.concatenate(made.ids).reshape(count, wide) if made.ids else np.empty((0, wide), ID)
        texts = np.array(made.texts, ID).reshape(count, self.config.text_len)
        return np.concatenate([texts, images], axis=1).astype(ID)

    def _take(self, made: _Made, pair: Pair, video: CutVideo) -> None:
        made.hashes.append((pair.name, video.sha256))
        made.waiting.extend(video.frames.reshape(-1, *video.frames.shape[2:]))
        for clip in video.clips:
            ids = [*self.durations[clip.rate], *self.caption(pair.caption)]
            made.cut_captions += len(ids) > self.config.text_len
            made.texts.append(text_slots(ids, self.config))
            made.rates[write_rate(clip.rate)] += 1
            made.index.append(_index_row(pair, clip, video.sha256))

    def _encode(self, made: _Made, *, at_end: bool) -> None:
        """Frames that wait to ids, a full batch at a time."""
        size = self.settings.batch
        while len(made.waiting) >= size or (at_end and made.waiting):
            batch_BHWC = np.stack(made.waiting[:size])
            del made.waiting[:size]
            # Bytes travel to the device, four times fewer than numbers.
            batch = torch.from_numpy(batch_BHWC).to(self.image_tokenizer.quantize.embed.weight.device)
            frames_B3HW = batch.permute(0, 3, 1, 2).float().div_(255)
            ids_BF = self.image_tokenizer.encode(frames_B3HW, self.config.compress_rate)
            made.ids.append(ids_BF.cpu().numpy().astype(ID))


def tokenize(
    source: Source,
    out: Path,
    *,
    config: ModelConfig,
    image_tokenizer: ImageTokenizer,
    prompts: Prompts,
    settings: TokenizeSettings,
    language: str = "en",
    workers: int = 1,
    on_existing: str = "resume",
    progress: Progress | None = None,
) -> RecordCard:
    """Write the records of a source into the folder `out`, with their card, and return it.

    Videos are cut in `workers` processes (0: in this one); tokens are made where the image tokenizer is. A run that
    was stopped goes on with the first shard that is not finished; `on_existing` is "resume", "redo" or "error".
    Raises UserError for captions that the text tokenizer cannot take, for a folder with other records or other things
    in it, and if no video gives a record.
    """
    made_by = VideoTokenizer(config, image_tokenizer, prompts, settings)
    made_by.check_captions(source.pairs)
    plan = _plan(source, made_by, language)
    with RecordFolder(out, plan, on_existing) as folder:
        if folder.card is not None:
            return folder.card
        size = settings.shard_videos
        runs = [source.pairs[first : first + size] for first in range(0, len(source.pairs), size)]
        open_shards = [number for number in range(len(runs)) if not folder.is_done(number)]
        counted = sum(len(run) for run in runs) - sum(len(runs[number]) for number in open_shards)

        def done() -> None:
            nonlocal counted
            counted += 1
            if progress:
                progress(counted, len(source.pairs))

        if progress:
            progress(counted, len(source.pairs))
        answers = cut_videos([pair for number in open_shards for pair in runs[number]], made_by.cutting, workers)
        try:
            for number in open_shards:
                made = made_by.shard(runs[number], answers, done)
                _finish_shard(folder, number, len(runs), made_by.rows(made), made)
        finally:
            answers.close()
        return _finish(folder, plan, source, made_by, len(runs))


def _finish_shard(folder: RecordFolder, number: int, count: int, rows: NDArray[np.int32], made: _Made) -> None:
    content = np.ascontiguousarray(rows, ID).tobytes()
    index = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in made.index).encode()
    facts = {
        "records": len(rows),
        "sha256": hashlib.sha256(content).hexdigest(),
        "index_sha256": hashlib.sha256(index).hexdigest(),
        "rates": dict(made.rates),
        "skipped": made.skipped,
        "hashes": made.hashes,
        "cut_captions": made.cut_captions,
    }
    folder.put_shard(number, count, content, index, facts)


def _finish(
    folder: RecordFolder, plan: dict[str, Any], source: Source, made_by: VideoTokenizer, count: int
) -> RecordCard:
    shards, skipped, rates, cut = {}, [], [], 0
    content = hashlib.sha256()
    for number in range(count):
        facts = folder.facts(number)
        if facts["records"]:
            shards[folder.shard_name(number, count)] = Shard.model_validate(facts)
        skipped += facts["skipped"]
        rates.append(facts["rates"])
        cut += facts["cut_captions"]
        for name, sha256 in facts["hashes"]:
            content.update(f"{name}\t{sha256}\n".encode())
    records = sum(shard.records for shard in shards.values())
    if not records:
        first = skipped[0]["reason"]
        raise UserError(f"none of the {len(source.pairs):,} videos of {source.name} gives a record; the first: {first}")
    by_code = Counter(one["code"] for one in skipped)
    card = RecordCard(
        size=made_by.config.name,
        sizes=made_by.config.layout(),
        frames=made_by.frames,
        values=made_by.config.text_len + made_by.frames * made_by.config.frame_len,
        records=records,
        shards=shards,
        image_tokenizer=plan["image_tokenizer"],
        text_tokenizer=plan["text_tokenizer"],
        language=plan["language"],
        words=made_by.words,
        rate_list=plan["rates"],
        rates=dict(sorted(sums(rates).items(), key=lambda item: Fraction(item[0]))),
        clips_per_video=made_by.settings.clips,
        seed=made_by.settings.seed,
        source=SourceFacts(
            name=source.name,
            layout=source.layout,
            pairs=len(source.pairs),
            list_sha256=source.sha256,
            content_sha256=content.hexdigest(),
            missing=len(source.missing),
        ),
        skipped=dict(sorted(by_code.items())),
        cut_captions=cut,
        made_on={"device": plan["device"], "dtype": plan["dtype"], "torch": torch.__version__, "batch": plan["batch"]},
    )
    lines = "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in [*skipped, *_missing(source)])
    write_whole(folder.path / SKIPPED_NAME, lines.encode())
    folder.finish(card)
    return card


def _plan(source: Source, made_by: VideoTokenizer, language: str) -> dict[str, Any]:
    """Everything that decides the bytes: a run goes on only where all of it is the same."""
    settings, tokenizer = made_by.settings, made_by.image_tokenizer
    weight = tokenizer.quantize.embed.weight
    return {
        "sizes": made_by.config.layout(),
        "frames": made_by.frames,
        "rates": [write_rate(rate) for rate in settings.rates],
        "clips": settings.clips,
        "seed": settings.seed,
        "shard_videos": settings.shard_videos,
        "batch": settings.batch,
        "language": language,
        "image_tokenizer": {"size": tokenizer.config.name, "sha256": image_fingerprint(tokenizer)},
        "text_tokenizer": made_by.prompts.tokenizer.describe(),
        "source": source.sha256,
        "device": weight.device.type,
        "dtype": str(weight.dtype).removeprefix("torch."),
    }


def _index_row(pair: Pair, clip: Clip, sha256: str) -> dict[str, Any]:
    return {
        "file": pair.name,
        "caption": pair.caption,
        "fps": write_rate(clip.rate),
        "start": clip.start,
        "start_s": round(clip.start_s, 6),
        "sha256": sha256,
    }


def _missing(source: Source) -> list[dict[str, str]]:
    return [
        {"file": name, "code": "missing", "reason": "the table names it, the disk has no such file"}
        for name in source.missing
    ]
