"""Where the networks come from: a folder, a seed, or a pipeline that is in memory already.

Sizes, prompts and the image tokenizer can be had at once; the large networks are loaded when the first clip is asked
for, so that a plan is checked before gigabytes are read and two checkpoints of one command need not fit side by side.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cogvideo.errors import MissingPrerequisite, UserError

if TYPE_CHECKING:
    import torch

    from cogvideo.checkpoint.opening import Checkpoint
    from cogvideo.checkpoint.parts import PipelineParts
    from cogvideo.config import ModelConfig
    from cogvideo.network import Kind
    from cogvideo.pipeline import CogVideo
    from cogvideo.prompting import Prompts
    from cogvideo.vqvae import ImageTokenizer

RANDOM_WEIGHTS = "random weights, which nobody trained"


class Source(ABC):
    """One set of networks. `language` is that of its prompts."""

    name: str
    language: str
    is_random: bool

    @property
    @abstractmethod
    def config(self) -> ModelConfig: ...

    @property
    @abstractmethod
    def prompts(self) -> Prompts: ...

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """What identifies the weights: hashes of files, or the seed. JSON types."""

    @abstractmethod
    def check(self, *, frames: int, superres: bool, iterative: bool) -> None:
        """See that the networks for this are there, fit each other and fit into memory, without loading them."""

    @abstractmethod
    def load(self, *, superres: bool, iterative: bool) -> CogVideo: ...

    @abstractmethod
    def image_tokenizer(self) -> ImageTokenizer: ...


class CheckpointSource(Source):
    """A pipeline folder, converted or as released. Raises as `find_parts` does."""

    is_random = False

    def __init__(self, folder: Path, device: torch.device, dtype: torch.dtype | None) -> None:
        from cogvideo.checkpoint.parts import find_parts

        self.parts: PipelineParts = find_parts(folder)
        self.name = self.parts.card.name
        self.language = self.parts.card.language
        self._device, self._dtype = device, dtype

    @cached_property
    def _stage1(self) -> Checkpoint:
        from cogvideo.checkpoint.opening import open_checkpoint

        return open_checkpoint(self.parts.stage1, "stage1")

    @property
    def config(self) -> ModelConfig:
        config = self._stage1.config
        assert config is not None
        return config

    @cached_property
    def prompts(self) -> Prompts:
        from cogvideo.pipeline import prompts_of

        return prompts_of(self.parts, self.config)

    def describe(self) -> dict[str, Any]:
        """Hashes from the cards of converted parts; small files of released ones, and names and sizes of the others."""
        roles = ("stage1", "stage2", "superres", "iterative", "image_tokenizer", "clusters", "text_model")
        paths = {role: path for role in roles if (path := getattr(self.parts, role)) is not None}
        files = {role: _identity(path) for role, path in paths.items()}
        return {"form": self.parts.form, "licence": self.parts.card.licence, "files": files}

    def check(self, *, frames: int, superres: bool, iterative: bool) -> None:
        from cogvideo.checkpoint.memory import network_bytes, require_memory
        from cogvideo.checkpoint.opening import open_checkpoint

        stage1, parts = self._stage1, self.parts
        is_long = frames > self.config.frames
        wanted = {"stage2": f"{frames} frames need it"} if is_long or parts.stage2 is not None else {}
        wanted |= {"superres": "super-resolution is on"} if superres else {}
        wanted |= {"iterative": "iterative super-resolution is on"} if iterative else {}
        opened = [stage1]
        opened += [open_checkpoint(parts.require(r, why), r, expect=self.config) for r, why in wanted.items()]
        dtype = self._dtype or stage1.dtype
        sizes = [network_bytes(self.config, part.kind, dtype) for part in opened]
        # A GPU may hold them in turn; a CPU computes from where they lie.
        need = sum(sizes) if self._device.type == "cpu" else max(sizes)
        require_memory(need, self._device, f"the networks of {self.name}")

    def load(self, *, superres: bool, iterative: bool) -> CogVideo:
        from cogvideo.pipeline import CogVideo

        return CogVideo.load(
            self.parts.folder, device=self._device, dtype=self._dtype, superres=superres, iterative=iterative
        )

    def image_tokenizer(self) -> ImageTokenizer:
        from cogvideo.pipeline import image_tokenizer_of

        return image_tokenizer_of(self.parts, self.config)


class RandomSource(Source):
    """A size with random weights. Raises UserError for an unknown size, MissingPrerequisite without a text model."""

    is_random = True

    def __init__(self, size: str, seed: int, device: torch.device, dtype: torch.dtype | None) -> None:
        import torch

        from cogvideo.config import SIZES, get_size

        self._config = get_size(size)
        self._seed, self._device, self._dtype = seed, device, dtype or torch.float32
        has_words = self._config.text_pieces == SIZES["tiny"].text_pieces
        self._text_model = None if has_words else _text_model(size)
        self.name = f"random-{size}"
        self.language = "en" if has_words else "zh"

    @property
    def config(self) -> ModelConfig:
        return self._config

    @cached_property
    def prompts(self) -> Prompts:
        from cogvideo.prompting import CHINESE, ENGLISH, Prompts
        from cogvideo.tokenizer import load_tokenizer

        style = CHINESE if self.language == "zh" else ENGLISH
        return Prompts(load_tokenizer(self._config, self._text_model), self._config, style)

    def describe(self) -> dict[str, Any]:
        return {"form": "random", "weights_seed": self._seed}

    def check(self, *, frames: int, superres: bool, iterative: bool) -> None:
        from cogvideo.checkpoint.memory import network_bytes, require_memory

        kinds: list[Kind] = ["video", "video"]
        kinds += ["superres"] if superres else []
        kinds += ["iterative"] if iterative else []
        need = sum(network_bytes(self._config, kind, self._dtype) for kind in kinds)
        require_memory(need, "cpu", f"size {self._config.name}")

    def load(self, *, superres: bool, iterative: bool) -> CogVideo:
        from cogvideo.pipeline import CogVideo

        return CogVideo.random(
            self._config,
            seed=self._seed,
            device=self._device,
            dtype=self._dtype,
            superres=superres,
            iterative=iterative,
            text_model=self._text_model,
        )

    def image_tokenizer(self) -> ImageTokenizer:
        from cogvideo.pipeline import random_image_tokenizer

        return random_image_tokenizer(self._config, self._seed)


class MemorySource(Source):
    """A pipeline that somebody built; what identifies its weights are their own bytes."""

    def __init__(self, model: CogVideo) -> None:
        self.model = model
        self.name = model.networks.name or "pipeline"
        self.language = model.networks.language
        self.is_random = model.networks.is_random

    @property
    def config(self) -> ModelConfig:
        return self.model.config

    @property
    def prompts(self) -> Prompts:
        return self.model.networks.prompts

    def describe(self) -> dict[str, Any]:
        networks = self.model.networks
        parts = {
            "stage1": networks.stage1,
            "stage2": networks.stage2,
            "superres": networks.superres,
            "iterative": networks.iterative,
            "image_tokenizer": networks.image_tokenizer,
        }
        return {"form": "memory", "sha256": {role: tensors_sha256(part) for role, part in parts.items() if part}}

    def check(self, *, frames: int, superres: bool, iterative: bool) -> None:
        networks = self.model.networks
        wanted = {
            "stage 2": frames > self.config.frames and networks.stage2 is None,
            "super-resolution": superres and networks.superres is None,
            "iterative super-resolution": iterative and networks.iterative is None,
        }
        if absent := [what for what, is_absent in wanted.items() if is_absent]:
            raise UserError(f"the pipeline {self.name} was built without the network of {absent[0]}")

    def load(self, *, superres: bool, iterative: bool) -> CogVideo:
        return self.model

    def image_tokenizer(self) -> ImageTokenizer:
        return self.model.networks.image_tokenizer


def open_source(
    argument: str, *, size: str, weights_seed: int, device: torch.device, dtype: torch.dtype | None
) -> Source:
    """The networks of `cogvideo:DIR`, or of `cogvideo?size=NAME`. Raises MissingPrerequisite if neither is given."""
    if argument:
        return CheckpointSource(Path(argument).expanduser(), device, dtype)
    if size:
        return RandomSource(size, weights_seed, device, dtype)
    raise MissingPrerequisite(
        "generator cogvideo: no trained weights come with cogeval yet; give the folder of a checkpoint with"
        " cogvideo:DIR (see `cogeval convert --help`), or try random weights with 'cogvideo?size=tiny'"
    )


def tensors_sha256(network: torch.nn.Module) -> str:
    """SHA-256 over names, shapes and values (as float32) of the parameters: the same before and after a conversion."""
    import torch

    digest = hashlib.sha256()
    for name, parameter in sorted(network.named_parameters()):
        digest.update(f"{name} {tuple(parameter.shape)}\n".encode())
        digest.update(parameter.detach().to("cpu", torch.float32).contiguous().numpy().data)
    return digest.hexdigest()


def _identity(path: Path) -> dict[str, str]:
    """What names the content of one part without reading gigabytes."""
    from cogvideo.checkpoint.cards import read_card
    from cogvideo.checkpoint.native import is_native

    if path.is_dir() and is_native(path):
        return {name: f"sha256 {record.sha256}" for name, record in sorted(read_card(path).files.items())}
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    return {file.name if file == path else file.relative_to(path).as_posix(): _stamp(file) for file in files}


def _stamp(file: Path) -> str:
    """The hash of a small file, the size of a large one."""
    size = file.stat().st_size
    if size > HASHED_UP_TO:
        return f"{size} bytes"
    with file.open("rb") as opened:
        return f"sha256 {hashlib.file_digest(opened, 'sha256').hexdigest()}"


# Settings, cluster tables and text models are below this, networks above.
HASHED_UP_TO = 16 << 20


def _text_model(size: str) -> Path:
    """The text model in the cache of weights. Raises MissingPrerequisite, saying what to do, if it is not there."""
    from cogvideo.weights import WeightStore, load_catalogue

    try:
        return WeightStore(load_catalogue()).get("ice-text-model").path
    except MissingPrerequisite as error:
        raise MissingPrerequisite(f"generator cogvideo: size {size!r} needs the text model of icetk; {error}") from None
