"""Where the networks come from: a folder, a seed, or a pipeline that is in memory already.

Sizes, prompts and the image tokenizer can be had at once; the large networks are loaded when the first clip is asked
for, so that a plan is checked before gigabytes are read and two checkpoints of one command need not fit side by side.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cogvideo.errors import MissingPrerequisite, UserError
from cogvideo.shipped import shipped

if TYPE_CHECKING:
    import torch

    from cogvideo.checkpoint.opening import Checkpoint
    from cogvideo.checkpoint.parts import PipelineParts
    from cogvideo.config import ModelConfig
    from cogvideo.network import Kind
    from cogvideo.pipeline import CogVideo
    from cogvideo.prompting import Prompts
    from cogvideo.settings import GenerationSettings
    from cogvideo.vqvae import ImageTokenizer

RANDOM_WEIGHTS = "random weights, which nobody trained"


@dataclass(frozen=True)
class Needs:
    """The networks that the samples take beside that of stage 1, and `frames`, for the message about stage 2."""

    frames: int
    stage2: bool
    superres: bool
    iterative: bool


class Source(ABC):
    """One set of networks. `language` is that of its prompts."""

    name: str
    language: str
    is_random: bool

    @property
    def settings(self) -> GenerationSettings | None:
        """Those that suit the networks; None for the release's."""
        return None

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
    def check(self, needs: Needs) -> None:
        """See that the networks for this are there, fit each other and fit into memory, without loading them."""

    @abstractmethod
    def load(self, needs: Needs) -> CogVideo: ...

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

    @property
    def settings(self) -> GenerationSettings:
        from cogvideo.settings import suited

        return suited(self.parts.card.settings, str(self.parts.folder))

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
        from cogvideo.assembly import prompts_of

        return prompts_of(self.parts, self.config)

    def describe(self) -> dict[str, Any]:
        """Hashes of the files as `cogeval generate` records them: of large files without a card, of their edges."""
        from cogvideo.checkpoint.identity import identity

        return {"form": self.parts.form, "licence": self.parts.card.licence, "parts": identity(self.parts)}

    def check(self, needs: Needs) -> None:
        from cogvideo.assembly import clusters_of
        from cogvideo.checkpoint.memory import network_bytes, require_memory
        from cogvideo.checkpoint.opening import open_checkpoint

        wanted = {"stage2": f"{needs.frames} frames need it"} if needs.stage2 else {}
        wanted |= {"superres": "super-resolution is on"} if needs.superres else {}
        wanted |= {"iterative": "iterative super-resolution is on"} if needs.iterative else {}
        paths = {role: self.parts.require(role, why) for role, why in wanted.items()}
        opened = [self._stage1, *(open_checkpoint(path, role, self.config) for role, path in paths.items())]
        clusters_of(self.parts, self.config)
        dtype = self._dtype or self._stage1.dtype
        need = sum(network_bytes(self.config, one.kind, dtype) for one in opened)
        # A GPU may have them in turn; a CPU computes where they lie.
        if self._device.type == "cpu":
            require_memory(need, "cpu", f"the networks of {self.name}")

    def load(self, needs: Needs) -> CogVideo:
        from cogvideo.pipeline import CogVideo

        return CogVideo.load(
            self.parts.folder,
            device=self._device,
            dtype=self._dtype,
            stage2=needs.stage2,
            superres=needs.superres,
            iterative=needs.iterative,
        )

    def image_tokenizer(self) -> ImageTokenizer:
        from cogvideo.assembly import image_tokenizer_of

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

    def check(self, needs: Needs) -> None:
        from cogvideo.checkpoint.memory import network_bytes, require_memory

        kinds: list[Kind] = ["video"]
        kinds += ["video"] if needs.stage2 else []
        kinds += ["superres"] if needs.superres else []
        kinds += ["iterative"] if needs.iterative else []
        need = sum(network_bytes(self._config, kind, self._dtype) for kind in kinds)
        require_memory(need, "cpu", f"size {self._config.name}")

    def load(self, needs: Needs) -> CogVideo:
        from cogvideo.pipeline import CogVideo

        return CogVideo.random(
            self._config,
            seed=self._seed,
            device=self._device,
            dtype=self._dtype,
            stage2=needs.stage2,
            superres=needs.superres,
            iterative=needs.iterative,
            text_model=self._text_model,
        )

    def image_tokenizer(self) -> ImageTokenizer:
        from cogvideo.assembly import random_image_tokenizer

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

    def check(self, needs: Needs) -> None:
        networks = self.model.networks
        wanted = {
            "stage 2": needs.stage2 and networks.stage2 is None,
            "super-resolution": needs.superres and networks.superres is None,
            "iterative super-resolution": needs.iterative and networks.iterative is None,
        }
        if absent := [what for what, is_absent in wanted.items() if is_absent]:
            raise UserError(f"the pipeline {self.name} was built without the network of {absent[0]}")

    def load(self, needs: Needs) -> CogVideo:
        return self.model

    def image_tokenizer(self) -> ImageTokenizer:
        return self.model.networks.image_tokenizer


def open_source(
    argument: str, *, size: str, weights_seed: int, device: torch.device, dtype: torch.dtype | None
) -> Source:
    """The networks of `cogvideo:DIR`, of `cogvideo?size=NAME`, or those that come with the package."""
    if argument:
        return CheckpointSource(Path(argument).expanduser(), device, dtype)
    if size:
        return RandomSource(size, weights_seed, device, dtype)
    return CheckpointSource(shipped(), device, dtype)


def tensors_sha256(network: torch.nn.Module) -> str:
    """SHA-256 over names, shapes and values (as float32) of the parameters: the same before and after a conversion."""
    import torch

    digest = hashlib.sha256()
    for name, parameter in sorted(network.named_parameters()):
        digest.update(f"{name} {tuple(parameter.shape)}\n".encode())
        digest.update(parameter.detach().to("cpu", torch.float32).contiguous().numpy().data)
    return digest.hexdigest()


def _text_model(size: str) -> Path:
    """The text model in the cache of weights. Raises MissingPrerequisite, saying what to do, if it is not there."""
    from cogvideo.weights import WeightStore, load_catalogue

    try:
        return WeightStore(load_catalogue()).get("ice-text-model").path
    except MissingPrerequisite as error:
        raise MissingPrerequisite(f"generator cogvideo: size {size!r} needs the text model of icetk; {error}") from None
