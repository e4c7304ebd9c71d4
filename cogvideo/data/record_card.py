"""The JSON card in a folder of records: for which sizes and tokenizers they were made, of what, what was left out."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from cogvideo.config import ModelConfig
from cogvideo.errors import UserError

CARD_NAME = "card.json"
SKIPPED_NAME = "skipped.jsonl"

# What of a size decides the meaning and the number of ids in a record; `frames` and layers do not.
ID_SIZES = ("num_image_tokens", "text_pieces", "vocab_size", "grid", "compress_rate", "text_len")

# A card may come with a download: it must not lead out of its folder.
ShardName = Annotated[str, StringConstraints(pattern=r"^records-\d{5,}-of-\d{5,}\.bin$")]


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class Shard(_Part):
    """One file of records, and the table beside it (`.jsonl`, a line a record) that says where each comes from."""

    records: int
    sha256: str
    index_sha256: str


class Words(_Part):
    """Ids that are put around a caption when a record is read: so that reading needs no text tokenizer.

    `durations`: seconds, as written in the text ("4.0"), to the ids in front of a caption, `<n>` included.
    """

    durations: dict[str, list[int]] = Field(default_factory=dict)
    first_frame_suffix: list[int] = Field(default_factory=list)
    video_suffix: list[int] = Field(default_factory=list)
    first_frame: list[int] = Field(default_factory=list)
    """What stands in place of a dropped caption."""
    video: list[int] = Field(default_factory=list)


class SourceFacts(_Part):
    """What was tokenised. `list_sha256`: of names, times, captions; `content_sha256`: of the videos that were used."""

    name: str
    layout: str
    pairs: int
    list_sha256: str
    content_sha256: str
    missing: int = 0


class RecordCard(_Part):
    """`frames` of a record, `values` = text slots + frames * tokens of a frame. `rates`: frames a second -> records."""

    format: Literal["cogeval-records-1"] = "cogeval-records-1"
    size: str = ""
    sizes: dict[str, int | float]
    frames: int
    values: int
    records: int
    shards: dict[ShardName, Shard]
    image_tokenizer: dict[str, str]
    text_tokenizer: dict[str, str | int]
    language: str
    words: Words
    rate_list: list[str]
    rates: dict[str, int]
    clips_per_video: int
    seed: int
    source: SourceFacts
    skipped: dict[str, int]
    cut_captions: int = 0
    made_on: dict[str, str | int] = Field(default_factory=dict)


def read_card(folder: Path) -> RecordCard:
    """Raises UserError if it is absent, damaged, or of another format."""
    path = folder / CARD_NAME
    mend = "tokenise the videos again with `cogeval tokenize`"
    try:
        return RecordCard.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}; {mend}") from None
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"])) or "the whole"
        raise UserError(f"{path} is no card of records: {field}: {first['msg']}; {mend}") from None
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}); {mend}") from None


def require_ids(card: RecordCard, config: ModelConfig, where: Path | str) -> None:
    """Raise UserError unless the ids of the records mean the same in a network of this size."""
    sizes = config.layout()
    for name in ID_SIZES:
        if card.sizes.get(name) != sizes[name]:
            raise UserError(
                f"the records in {where} were made for {name} {card.sizes.get(name)}, the network has {sizes[name]}; "
                "tokenise the videos again for its size"
            )


def write_whole(path: Path, content: bytes) -> None:
    """Write a file under another name, then give it its own."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
