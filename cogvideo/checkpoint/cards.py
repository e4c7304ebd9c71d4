"""What stands beside converted weights: a card for each network, and one for a folder of networks. No torch."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from cogvideo.config import SIZES, ModelConfig
from cogvideo.errors import UserError

Part = Literal["image", "stage1", "stage2", "superres", "iterative", "image-tokenizer"]
"""A network of the pipeline: CogView2's image network (coglm), the two stages, the two super-resolution networks, and
the image tokenizer."""

PARTS: tuple[Part, ...] = ("image", "stage1", "stage2", "superres", "iterative", "image-tokenizer")
CARD_NAME = "card.json"
PIPELINE_CARD_NAME = "pipeline.json"


class _Record(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


Model = TypeVar("Model", bound=_Record)
# A card comes with a download: it must not lead out of its folder.
FileName = Annotated[str, StringConstraints(pattern=r"^model(-\d{5}-of-\d{5})?\.safetensors$")]


class FileRecord(_Record):
    """A file as it was when the card was written."""

    sha256: str
    size_bytes: int


class Source(_Record):
    """Where the tensors came from: a name, its public address if it has one, and the hash of every file read."""

    name: str
    url: str = ""
    files: dict[str, FileRecord] = Field(default_factory=dict)


class Companion(_Record):
    """A file that the weights mean something with only: the text model, the cluster table. "" for an unknown hash."""

    name: str
    sha256: str = ""


class Card(_Record):
    """What a folder of converted weights holds. `window_size` is the release's setting: -1 for whole frames.

    `shares` is the folder beside this one, of the same pipeline, that has the tensors of CogView2's part ("" for none):
    both stages have the same, frozen ones, which need not lie there twice. `shared_files` are that folder's files.

    `dtype` is the type of the word embeddings; `files` are the tensors' own files with their hashes. `sizes` is
    `ModelConfig.layout()`, empty for the image tokenizer; `size` is their name in the table of sizes, if they have one.
    """

    format: Literal["cogeval-checkpoint-1"] = "cogeval-checkpoint-1"
    kind: Part
    size: str = ""
    sizes: dict[str, int | float] = Field(default_factory=dict)
    window_size: int | None = None
    iteration: str = ""
    dtype: str
    tensors: int
    parameters: int
    files: dict[FileName, FileRecord]
    source: Source
    licence: str = "not stated"
    belongs_to: dict[str, Companion] = Field(default_factory=dict)
    shares: Annotated[str, StringConstraints(pattern=r"^([a-z0-9_]+)?$")] = ""
    shared_files: dict[FileName, FileRecord] = Field(default_factory=dict)
    note: str = ""


class PipelineCard(_Record):
    """What a folder of networks is as a whole. `language` is that of its prompts, e.g. "zh" for the release.

    `settings` are those that suit these networks, as `cogvideo.settings.suited` reads them; what is not there is as in
    the release. `frames` is the length of video that they were trained for; 0 if nothing is said.
    """

    format: Literal["cogeval-pipeline-1"] = "cogeval-pipeline-1"
    name: str
    language: str = "en"
    sizes: dict[str, int | float] = Field(default_factory=dict)
    settings: dict[str, Any] = Field(default_factory=dict)
    frames: int = Field(default=0, ge=0)
    licence: str = "not stated"
    note: str = ""


def config_of(sizes: dict[str, int | float], where: Path | str) -> ModelConfig:
    """The sizes of a card, with the name that the table of sizes has for them.

    Raises UserError for sizes that are unknown here or cannot be built.
    """
    try:
        config = ModelConfig(**sizes)  # type: ignore[arg-type]
    except TypeError as error:
        raise UserError(f"{where}: its sizes are not of this version of cogeval ({error}); convert it anew") from None
    return named(config)


def named(config: ModelConfig) -> ModelConfig:
    """The row of the table of sizes that is the same, else the sizes as they are."""
    return next((size for size in SIZES.values() if size.layout() == config.layout()), config)


def read_card(folder: Path) -> Card:
    """The card of a converted network. Raises UserError if it is absent or damaged."""
    return _read(folder / CARD_NAME, Card, "convert it anew with `cogeval convert`")


def read_pipeline_card(folder: Path) -> PipelineCard:
    """The card of a folder of networks. Raises UserError if it is absent or damaged."""
    return _read(folder / PIPELINE_CARD_NAME, PipelineCard, "mend it, or remove it: the networks have their own cards")


def write_card(folder: Path, card: Card | PipelineCard) -> None:
    """Write the card into its folder, whole."""
    path = folder / (CARD_NAME if isinstance(card, Card) else PIPELINE_CARD_NAME)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(card.model_dump_json(indent=1) + "\n", encoding="utf-8")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _read(path: Path, kind: type[Model], mend: str) -> Model:
    try:
        return kind.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}; {mend}") from None
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"])) or "the whole"
        raise UserError(f"{path} is no card that can be used here: {field}: {first['msg']}; {mend}") from None
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}); {mend}") from None
