"""What a pipeline's call takes and gives by itself, read from its class and its small files before weights are loaded.

Classes differ in names and in where their defaults stand; what is known of that is here, in one place.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeGuard

from cogvideo.errors import MissingPrerequisite, UserError
from eval.generators.diffusers.options import CALL_PREFIX, KIND, Choices
from eval.generators.diffusers.source import Snapshot
from eval.generators.fitting import Offer
from eval.registry import did_you_mean

FRAMES = ("num_frames", "video_length")
RATE = ("fps", "frame_rate", "target_fps")
# Autoencoders that make 1 frame and then so many for each of their steps in time: another count would be rounded.
FRAMES_A_STEP = {
    "AutoencoderKLCogVideoX": ("temporal_compression_ratio", 4),
    "AutoencoderKLWan": ("scale_factor_temporal", 4),
    "AutoencoderKLLTXVideo": ("temporal_compression_ratio", 8),
    "AutoencoderKLHunyuanVideo": ("temporal_compression_ratio", 4),
    "AutoencoderKLMochi": ("temporal_compression_ratio", 6),
}
# What the call is given from the request, and from options with a name of their own.
TAKEN = (
    *(*FRAMES, *RATE, "prompt", "negative_prompt", "generator", "height", "width", "image", "output_type", "latents"),
    *("num_inference_steps", "guidance_scale", "num_videos_per_prompt", "return_dict"),
)


@dataclass(frozen=True)
class Signature:
    """One pipeline class with the files that it is to be made from."""

    snapshot: Snapshot
    kind: type[Any]

    @property
    def name(self) -> str:
        return self.kind.__name__

    @cached_property
    def defaults(self) -> dict[str, Any]:
        """The arguments of its call and what each is if left out."""
        found = inspect.signature(self.kind.__call__).parameters
        return {name: one.default for name, one in found.items() if name != "self"}

    def first_of(self, names: tuple[str, ...]) -> str:
        return next((name for name in names if name in self.defaults), "")

    @property
    def takes_image(self) -> bool:
        return self.defaults.get("image") is inspect.Parameter.empty or (
            "image" in self.defaults and "ImageToVideo" in self.name
        )

    def offer(self, choices: Choices) -> Offer:
        """Frames and pixels of its videos: those that are asked for, else its own.

        Raises UserError if it is not known what its own are, or if its autoencoder would round the frames.
        """
        frames = choices.frames or self._own_frames()
        height, width = choices.size or self._own_size()
        self._check_steps_in_time(frames)
        rate = self.defaults.get(self.first_of(RATE))
        fps = choices.fps or (float(rate) if isinstance(rate, int | float) and rate else None)
        return Offer(frames, height, width, fps, overlap=1 if self.takes_image else 0)

    def call(self, choices: Choices, offer: Offer) -> dict[str, Any]:
        """Everything that all calls have in common. Raises UserError for what this pipeline does not take."""
        found: dict[str, Any] = {self.first_of(FRAMES): offer.frames, "height": offer.height, "width": offer.width}
        asked = {
            "num_inference_steps": ("steps", choices.steps),
            "guidance_scale": ("guidance", choices.guidance),
            "negative_prompt": ("negative-prompt", choices.negative or None),
        }
        for argument, (option, value) in asked.items():
            if value is None:
                continue
            if argument not in self.defaults:
                raise UserError(f"generator {KIND}: {self.name} takes no {argument}; leave {option!r} out")
            found[argument] = value
        if offer.fps and (rate := self.first_of(RATE)):
            found[rate] = int(offer.fps) if offer.fps.is_integer() else offer.fps
        for argument, value in choices.call:
            free = sorted(set(self.defaults) - set(TAKEN))
            if argument not in free:
                near = did_you_mean(argument, free)
                raise UserError(f"generator {KIND}: {self.name} has no free argument {argument!r}{near}")
            found[argument] = value
        return {name: value for name, value in found.items() if name in self.defaults}

    def resolved(self, call: dict[str, Any]) -> dict[str, Any]:
        """The call's arguments with the class's own values of those that were left out, as far as they are plain."""
        own = {
            name: value
            for name, value in self.defaults.items()
            if isinstance(value, int | float | str) and name not in ("output_type", "return_dict")
        }
        return dict(sorted({**own, **call}.items()))

    def _own_frames(self) -> int:
        default = self.defaults.get(self.first_of(FRAMES))
        config = self._config("transformer", "unet")
        for own in (default, config.get("sample_frames"), config.get("num_frames")):
            if _counts(own):
                return own
        raise UserError(f"generator {KIND}: {self.name} has no frame count of its own; say one with 'frames'")

    def _own_size(self) -> tuple[int, int]:
        height, width = self.defaults.get("height"), self.defaults.get("width")
        if _counts(height) and _counts(width):
            return height, width
        config, factor = self._config("transformer", "unet"), self._pixels_a_latent()
        height, width = config.get("sample_height"), config.get("sample_width")
        if not _counts(height):
            square = config.get("sample_size")
            height, width = square if isinstance(square, list) and len(square) == 2 else (square, square)
        if not (_counts(height) and _counts(width) and factor):
            raise UserError(f"generator {KIND}: {self.name} has no size of its own; say one with 'size', e.g. 832x480")
        return height * factor, width * factor

    def _pixels_a_latent(self) -> int:
        channels = self._config("vae").get("block_out_channels")
        return 1 << (len(channels) - 1) if isinstance(channels, list) and channels else 0

    def _check_steps_in_time(self, frames: int) -> None:
        kind = self.snapshot.components.get("vae", ("", ""))[1]
        if kind not in FRAMES_A_STEP:
            return
        key, usual = FRAMES_A_STEP[kind]
        step = self._config("vae").get(key) or usual
        if _counts(step) and (frames - 1) % step:
            near = [frames - (frames - 1) % step, frames + step - (frames - 1) % step]
            raise UserError(
                f"generator {KIND}: {self.name} makes 1 frame and {step} more for each step of its autoencoder, not"
                f" {frames}; write frames={near[0]} or frames={near[1]}"
            )

    def _config(self, *components: str) -> dict[str, Any]:
        """The configuration of the first of these parts that the pipeline has."""
        return next((found for name in components if (found := self.snapshot.config(name))), {})


def find_signature(snapshot: Snapshot, choices: Choices) -> Signature:
    """The class that the files name, or an option does.

    Raises MissingPrerequisite without the library or with one that lacks the class, UserError for a class that makes
    no video, or one that continues a video or edits it.
    """
    name = choices.pipeline or ("AnimateDiffPipeline" if choices.motion_adapter else "")
    name = name or str(snapshot.index.get("_class_name", ""))
    kind = named_class(name, "pipeline")
    signature = Signature(snapshot, kind)
    if not signature.first_of(FRAMES):
        raise UserError(
            f"generator {KIND}: {name} of {snapshot.name} makes pictures: its call has no number of frames; give a"
            " video pipeline, or a motion adapter to it with 'motion-adapter'"
        )
    passed = {argument for argument, _ in choices.call}
    free = {*TAKEN, *passed}
    needed = [k for k, v in signature.defaults.items() if v is inspect.Parameter.empty and k not in free]
    needed = [argument for argument in needed if argument not in ("args", "kwargs")]
    if needed:
        raise UserError(
            f"generator {KIND}: {name} needs {', '.join(needed)}, which a benchmark does not give; say a value with"
            f" '{CALL_PREFIX}{needed[0]}', or use a pipeline from text or from a picture"
        )
    return signature


def named_class(name: str, what: str) -> type[Any]:
    """A class of the library by its name. Raises as `find_signature` does."""
    import diffusers

    kind = getattr(diffusers, name, None) if name.isidentifier() and not name.startswith("_") else None
    if not isinstance(kind, type):
        known = [one for one in dir(diffusers) if one.lower().endswith(what)]
        near = did_you_mean(name, known)
        raise MissingPrerequisite(
            f"generator {KIND}: diffusers {diffusers.__version__} has no {what} {name!r}"
            f"{near if near.startswith('; did') else '; a newer version may have it'}"
        )
    return kind


def _counts(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
