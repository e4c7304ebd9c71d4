"""Pipelines of the `diffusers` library as generators: `diffusers:ID` from a hub, `diffusers:DIR` from a folder.

Each sample has a random stream of its own, on the CPU, from its seed alone. With `batch=1` (the default) a clip depends
on its request alone; a larger batch changes the order of float additions, and so last bits, as the library's does.
Shapes: T frames, H x W pixels; clips are uint8 (T, H, W, 3) RGB.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cogvideo.errors import MissingPrerequisite, UserError
from eval.generators.contract import Clip, Generator, GeneratorContext, Rejection, Request
from eval.generators.diffusers.options import CALL_PREFIX, KIND, NAMES, SCHEDULER_PREFIX, Choices, read_choices
from eval.generators.fitting import Fitting, Offer, fit, offer_words
from eval.protocol import ClipRule, Protocol
from eval.registry import generators

if TYPE_CHECKING:
    from PIL import Image

    from eval.generators.diffusers.loading import Model

NEEDED = ("diffusers", "transformers", "accelerate")


class DiffusersGenerator(Generator):
    """Makes each clip with one call for each `batch` requests. Weights are loaded at the first clip."""

    def __init__(self, model: Model, choices: Choices) -> None:
        self._model = model
        self._choices = choices
        self._offer: Offer | None = None
        self._fitting: Fitting | None = None
        self._call: dict[str, Any] = {}
        self.name = f"{KIND}-{model.snapshot.name}"
        self.title = model.snapshot.name

    def describe(self) -> dict[str, object]:
        """Files, classes, configurations and settings; the arguments of the call are in it after `preflight`."""
        described = self._model.describe()
        return {
            "kind": KIND,
            "argument": self._model.snapshot.repo or self._model.snapshot.folder.resolve().name,
            "options": dict(self._choices.given),
            **described,
            "call": self._model.signature.resolved(self._call),
        }

    def preflight(self, requests: Sequence[Request], protocol: Protocol) -> None:
        """What the pipeline makes, and what becomes of it, before any weights are loaded.

        Raises UserError if its clips do not fit the protocol, or if it needs a picture that the protocol does not
        give; MissingPrerequisite if a part has no weights here and they cannot be fetched.
        """
        signature, choices = self._model.signature, self._choices
        self._offer = offer = signature.offer(choices)
        self._call = signature.call(choices, offer)
        departures = self._check_pictures(requests, protocol, offer)
        self._fitting = fitting = fit(KIND, offer, protocol, choices.ways)
        self._model.snapshot.require_weights()
        self.departures = (*departures, *fitting.departures)
        self.notes = (offer_words(offer, fitting, protocol), *self._model.notes([r.prompt for r in requests]))
        if choices.batch > 1:
            self.notes += (
                f"{choices.batch} samples were made in one call: last bits depend on which of them were made together.",
            )

    def generate(
        self, requests: Sequence[Request], progress: Callable[[float], None] | None = None
    ) -> list[Clip | Rejection]:
        if self._fitting is None or self._offer is None:
            raise RuntimeError("DiffusersGenerator.generate before preflight: the size of its clips is not known")
        made: list[Clip | Rejection] = []
        for at in range(0, len(requests), self._choices.batch):
            made += self._make(requests[at : at + self._choices.batch], self._fitting, self._offer)
            if progress:
                progress(len(made) / len(requests))
        return made

    def _check_pictures(self, requests: Sequence[Request], protocol: Protocol, offer: Offer) -> tuple[str, ...]:
        """How the pipeline gets its first picture, as departures from the protocol. Raises UserError if it cannot."""
        signature, given = self._model.signature, protocol.clip.given
        size = protocol.clip.size
        if given and not signature.takes_image:
            raise UserError(
                f"generator {KIND}: {protocol.name} gives {given} frames to continue, {signature.name} reads text"
                " alone; use an image-to-video pipeline, or a benchmark from text"
            )
        if given and size and offer.height * size[1] != offer.width * size[0]:
            raise UserError(
                f"generator {KIND}: {protocol.name} gives frames of {size[1]}x{size[0]}, {offer.width}x{offer.height}"
                " has another shape and would show another part of them; write 'size' in the shape of the frames"
            )
        if given or not signature.takes_image:
            if self._choices.image == "real":
                why = f"{protocol.name} gives the frames" if given else f"{signature.name} reads text alone"
                raise UserError(f"generator {KIND}: {why}; leave 'image' out")
            return ()
        if self._choices.image != "real":
            raise UserError(
                f"generator {KIND}: {signature.name} continues a picture, and {protocol.name} gives none; score it with"
                " `cogeval kinetics600`, or start each sample from a held-out real clip with 'image=real' (another"
                " fingerprint, not comparable)"
            )
        without = sum(request.source is None for request in requests)
        if without:
            raise UserError(
                f"generator {KIND}: 'image=real' takes the first frame of a held-out real clip; {without:,} of"
                f" {len(requests):,} samples have none; give more real videos (--data) or fewer samples"
            )
        return ("image=real: each sample was given the first frame of a held-out real clip of its class",)

    def _make(self, requests: Sequence[Request], fitting: Fitting, offer: Offer) -> list[Clip | Rejection]:
        pictures = [self._picture(request, offer) for request in requests] if self._model.signature.takes_image else []
        videos = self._model.videos(
            [request.prompt for request in requests], [request.seed for request in requests], self._call, pictures
        )
        if len(videos) != len(requests):
            raise UserError(
                f"generator {KIND}: {self._model.signature.name} gave {len(videos)} videos for {len(requests)} prompts;"
                " try 'batch=1'"
            )
        return [self._clip(video, request, fitting, offer) for video, request in zip(videos, requests, strict=True)]

    def _clip(
        self, video_THWC: NDArray[np.floating[Any]], request: Request, fitting: Fitting, offer: Offer
    ) -> Clip | Rejection:
        came = Offer(*video_THWC.shape[:3])
        if came.frames < offer.frames or (came.height, came.width) != (offer.height, offer.width):
            raise UserError(
                f"generator {KIND}: {self._model.signature.name} was asked for {offer} and gave"
                f" {came}; say with 'frames' and 'size' what it can give"
            )
        if not np.isfinite(video_THWC).all():
            return Rejection(
                f"the pipeline gave values that are no numbers in {self._model.dtype}; try 'dtype=float32' or"
                " 'vae-dtype=float32'"
            )
        clip_THWC = (video_THWC.clip(0, 1) * 255).round().astype(np.uint8)
        return fitting.clip(clip_THWC, request.priming)

    def _picture(self, request: Request, offer: Offer) -> Image.Image:
        """What the video starts with: the last given frame, or the first of a real clip, in the model's own size."""
        from PIL import Image

        from eval.decoding import read_ref
        from eval.preprocess import to_protocol_size

        if request.priming is not None:
            frame_1HWC = request.priming[-1:]
        elif request.source is not None:
            frame_1HWC = read_ref(request.source)[:1]
        else:
            raise UserError(f"sample {request.id} has no picture to start from")
        rule = ClipRule(frames=1, size=(offer.height, offer.width))
        return Image.fromarray(to_protocol_size(frame_1HWC, rule)[0])


@generators.register(
    KIND,
    "a text-to-video or image-to-video pipeline of the diffusers library (extra [diffusers])",
    argument="ID or DIR",
    options=", ".join((*NAMES, f"{CALL_PREFIX}ARGUMENT", f"{SCHEDULER_PREFIX}SETTING")),
)
def make(argument: str, options: Mapping[str, str], context: GeneratorContext) -> Generator:
    """`diffusers:ID` or `diffusers:DIR`. The small files of a hub's pipeline are fetched here, weights later.

    Raises MissingPrerequisite without the library, or if a hub's files cannot be had; UserError for an unknown option
    or value, and for a pipeline that makes no videos.
    """
    if not argument:
        raise UserError(
            f"generator {KIND} needs a pipeline: {KIND}:ID of a hub, or {KIND}:DIR that save_pretrained wrote"
        )
    choices = read_choices(options)
    absent = [name for name in NEEDED if find_spec(name) is None]
    if absent:
        raise MissingPrerequisite(
            f"generator {KIND} needs {' and '.join(absent)}: python -m pip install 'cogeval[diffusers]'"
        )
    from eval.generators.diffusers.loading import open_model

    return DiffusersGenerator(open_model(argument, choices, context.device), choices)
