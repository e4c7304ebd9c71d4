"""A pipeline from its files to memory, and one call of it. The only place that runs the library's networks."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cogvideo.errors import MissingPrerequisite, UserError
from eval.generators.diffusers.options import KIND, SCHEDULER_PREFIX, Choices
from eval.generators.diffusers.signature import Signature, find_signature, named_class
from eval.generators.diffusers.source import Snapshot, open_part, open_snapshot
from eval.registry import did_you_mean

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True)
class Model:
    """One pipeline with the choices that shape it. `device` is torch's name of one."""

    snapshot: Snapshot
    signature: Signature
    choices: Choices
    device: str
    adapter: tuple[Path, Mapping[str, Any]] | None = field(default=None)

    @property
    def dtype(self) -> str:
        """The type that networks compute in: `auto` is bfloat16 on a GPU and float32 elsewhere."""
        if self.choices.dtype != "auto":
            return self.choices.dtype
        return "bfloat16" if self.device.startswith("cuda") else "float32"

    def describe(self) -> dict[str, Any]:
        """The resolved pipeline: its files, classes, configurations, scheduler and types. JSON types."""
        components = {
            name: {"library": library, "class": kind, "config": self.snapshot.config(name)}
            for name, (library, kind) in self.snapshot.components.items()
            if name != "scheduler"
        }
        found: dict[str, Any] = {
            "pipeline": self.signature.name,
            "files": self.snapshot.describe(),
            "components": components,
            "scheduler": self._scheduler_facts,
            "dtype": self.dtype,
            "vae_dtype": self.choices.vae_dtype or self.dtype,
        }
        if self.adapter:
            found["motion_adapter"] = dict(self.adapter[1])
        return found

    def notes(self, prompts: Sequence[str]) -> tuple[str, ...]:
        """What has to be known of the prompts: how many are longer than the pipeline reads."""
        if "prompt" not in self.signature.defaults:
            return (f"{self.signature.name} reads no text: its clips are made from pictures alone.",)
        tokenizer = self._tokenizer
        if tokenizer is None:
            return ()
        limit = self.signature.defaults.get("max_sequence_length")
        limit = dict(self.choices.call).get("max_sequence_length", limit) or tokenizer.model_max_length
        texts = list(dict.fromkeys(prompts))
        lengths = dict(zip(texts, map(len, tokenizer(texts, truncation=False).input_ids), strict=True))
        longer = sum(lengths[prompt] > limit for prompt in prompts)
        if not longer:
            return ()
        return (f"{longer:,} of {len(prompts):,} prompts are longer than the {limit} tokens that the pipeline reads.",)

    def videos(
        self,
        prompts: Sequence[str],
        seeds: Sequence[int],
        call: Mapping[str, Any],
        pictures: Sequence[Image.Image] = (),
    ) -> list[NDArray[np.floating[Any]]]:
        """One video (T, H, W, 3) of floats 0..1 a prompt, from one call. Raises UserError for what the call refuses."""
        import torch

        arguments = dict(call)
        if "prompt" in self.signature.defaults:
            arguments["prompt"] = list(prompts)
        if pictures:
            arguments["image"] = list(pictures) if len(pictures) > 1 else pictures[0]
        if "negative_prompt" in arguments:
            arguments["negative_prompt"] = [arguments["negative_prompt"]] * len(prompts)
        # On the CPU, so that a seed draws the same noise for each device.
        streams = [torch.Generator().manual_seed(seed) for seed in seeds]
        try:
            with without_advice():
                output = self._pipeline(**arguments, generator=streams, output_type="np")
        except (ValueError, TypeError) as error:
            said = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
            raise UserError(f"generator {KIND}: {self.signature.name} refused the call: {said}") from error
        frames = getattr(output, "frames", None)
        if frames is None:
            raise UserError(f"generator {KIND}: {self.signature.name} gave no frames; it is no video pipeline")
        return [np.asarray(video) for video in frames]

    @cached_property
    def _pipeline(self) -> Any:
        """The pipeline in memory, on its device."""
        quieten()
        import torch

        folder = self.snapshot.fetch_weights(self.choices.variant)
        types: Any = getattr(torch, self.dtype)
        if self.choices.vae_dtype:
            types = {"vae": getattr(torch, self.choices.vae_dtype), "default": types}
        parts: dict[str, Any] = {}
        if self.adapter:
            adapter = named_class("MotionAdapter", "network")
            parts["motion_adapter"] = adapter.from_pretrained(self.adapter[0], dtype=getattr(torch, self.dtype))
        if self.choices.variant:
            parts["variant"] = self.choices.variant
        try:
            with without_advice():
                pipeline = self.signature.kind.from_pretrained(folder, dtype=types, local_files_only=True, **parts)
        except (OSError, ValueError, TypeError) as error:
            said = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
            raise UserError(f"generator {KIND}: {self.snapshot.name} cannot be loaded: {said}") from error
        if self.choices.scheduler or self.choices.scheduler_config:
            pipeline.scheduler = self._scheduler
        pipeline.set_progress_bar_config(disable=True)
        if self.choices.is_tiled:
            pipeline.vae.enable_tiling()
        if self.choices.offload == "none":
            return pipeline.to(self.device)
        if self.choices.offload == "model":
            pipeline.enable_model_cpu_offload(device=self.device)
        else:
            pipeline.enable_sequential_cpu_offload(device=self.device)
        return pipeline

    @cached_property
    def _scheduler(self) -> Any:
        """The scheduler as it works: the files' own, of another class or with other settings where they are asked for.

        Raises UserError for a setting that the class does not have.
        """
        name = self.choices.scheduler or self.snapshot.components.get("scheduler", ("", ""))[1]
        kind = named_class(name, "scheduler")
        if not hasattr(kind, "from_config"):
            raise UserError(f"generator {KIND}: {name} is no scheduler")
        settings = dict(self.choices.scheduler_config)
        config = self.snapshot.config("scheduler")
        with without_advice():
            scheduler = kind.from_config(config)
        known = [key for key in scheduler.config if not key.startswith("_")]
        for key in settings:
            if key not in known:
                near = did_you_mean(key, known)
                raise UserError(f"generator {KIND}: {name} has no setting {key!r} ('{SCHEDULER_PREFIX}{key}'){near}")
        if not settings:
            return scheduler
        with without_advice():
            return kind.from_config({**config, **settings})

    @cached_property
    def _scheduler_facts(self) -> dict[str, Any]:
        if "scheduler" not in self.snapshot.components:
            return {}
        scheduler = self._scheduler
        config = {name: _plain(value) for name, value in scheduler.config.items() if not name.startswith("_")}
        return {"class": type(scheduler).__name__, "config": config}

    @cached_property
    def _tokenizer(self) -> Any:
        """The pipeline's first tokenizer, or None if it cannot be had without its weights."""
        name = next((name for name, (_, kind) in self.snapshot.components.items() if "Tokenizer" in kind), "")
        if not name:
            return None
        from transformers import AutoTokenizer

        try:
            return AutoTokenizer.from_pretrained(self.snapshot.folder / name, local_files_only=True)
        except (OSError, ValueError, KeyError, ImportError):
            return None  # of a hub, the small files alone may be here; its weights bring the rest


def open_model(argument: str, choices: Choices, device: str) -> Model:
    """The pipeline of a folder or a hub's id. Raises as `open_snapshot` and `find_signature` do."""
    if choices.offload != "none" and not device.startswith("cuda"):
        raise UserError(f"generator {KIND}: 'offload' moves networks between a GPU and the CPU; the device is {device}")
    snapshot = open_snapshot(argument, choices.revision)
    adapter = open_part(choices.motion_adapter) if choices.motion_adapter else None
    quieten()
    try:
        signature = find_signature(snapshot, choices)
    except ImportError as error:
        raise MissingPrerequisite(
            f"generator {KIND}: {snapshot.name} needs a package that is not here: {error}"
        ) from None
    model = Model(snapshot, signature, choices, device, adapter)
    model.describe()
    return model


def quieten() -> None:
    """No bars and no advice of the libraries between our own lines."""
    import diffusers
    import transformers

    diffusers.utils.logging.set_verbosity_error()
    diffusers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()


@contextmanager
def without_advice() -> Iterator[None]:
    """Inside it no warnings about the library's own future: they are for its programmers, not for ours or users."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        yield


def _plain(value: Any) -> Any:
    """A setting as JSON has it."""
    if isinstance(value, Mapping):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple | set):
        return [_plain(part) for part in value]
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    is_plain = isinstance(value, str | int | bool) or (isinstance(value, float) and math.isfinite(value))
    return value if is_plain or value is None else str(value)
