"""CogVideo as a generator: `cogvideo` for the small model that comes along, `cogvideo:DIR` for networks in a folder.

`cogvideo?size=tiny` has random weights, to try it.

Shapes: T frames, H x W pixels; clips are uint8 (T, H, W, 3) RGB.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cogvideo.cores import available_cores
from cogvideo.errors import UserError
from eval.datasets.class_phrases import chinese_phrase, is_chinese
from eval.generators.cogvideo.options import DEFAULT_FPS, KIND, NAMES, OF_RANDOM_WEIGHTS, Choices, read_choices
from eval.generators.cogvideo.sources import RANDOM_WEIGHTS, MemorySource, Needs, Source, open_source
from eval.generators.contract import Clip, Generator, GeneratorContext, Reconstruction, Rejection, Request
from eval.protocol import ClipRule, Protocol
from eval.registry import generators

if TYPE_CHECKING:
    import torch

    from cogvideo.pipeline import CogVideo, Video
    from cogvideo.settings import Timeline

SEED_BITS = 63
# Of networks that a core works through without waiting for memory, and the clips that one has in work.
SMALL_HIDDEN, SMALL_BATCH = 512, 32


class CogVideoGenerator(Generator):
    """Makes each clip from its request alone: prompt, seed, and the frames that it starts with.

    A clip has the model's own size; where frames are given it has theirs, and begins with them. The networks are
    loaded at the first clip.
    """

    def __init__(self, source: Source, choices: Choices, device: torch.device, argument: str = "") -> None:
        self._source = source
        self._choices = choices
        self._device = device
        self._argument = argument
        self._model: CogVideo | None = None
        self._rule: ClipRule | None = None
        self._timeline: Timeline | None = None
        self._needs: Needs | None = None
        self._phrases: dict[str, str] = {}
        # Small networks on a CPU: a step takes as long for a few sequences as for one, and a thread has its own.
        is_small = device.type == "cpu" and source.config.hidden_size <= SMALL_HIDDEN
        self._lanes = available_cores() if is_small else 1
        self.at_once = SMALL_BATCH * self._lanes if is_small else 1
        self.title = f"CogVideo ({source.name})"
        self.name = source.name if source.name.startswith(KIND) else f"{KIND}-{source.name}"
        if source.is_random:
            self.not_comparable = (RANDOM_WEIGHTS,)

    @classmethod
    def around(cls, model: CogVideo, options: Mapping[str, str] | None = None) -> CogVideoGenerator:
        """The generator of a pipeline that is in memory. Raises UserError for an unknown option or value."""
        return cls(MemorySource(model), read_choices(options or {}, model.networks.settings), model.device)

    def describe(self) -> dict[str, object]:
        """Weights, sizes, language and settings. What follows from the protocol is in it after `preflight`."""
        choices, settings = self._choices, self._choices.settings
        timeline, needs = self._timeline, self._needs
        described: dict[str, Any] = {
            "kind": KIND,
            "argument": self._argument,
            "options": dict(choices.given),
            "name": self._source.name,
            "language": self._source.language,
            "is_random": self._source.is_random,
            "weights": self._source.describe(),
            "sizes": self._source.config.layout(),
            "settings": {
                "guidance_scale": settings.guidance_scale,
                "first_frame_guidance_scale": settings.first_frame_guidance_scale,
                "between_guidance_scale": settings.between_guidance_scale,
                "text_bonus": settings.text_bonus,
                "first_frame": vars(settings.first_frame),
                "video": vars(settings.video),
                "superres": vars(settings.superres),
                "quirks": choices.quirks,
                "dtype": choices.dtype,
                "iterative": choices.is_iterative,
            },
        }
        if timeline is not None and needs is not None:
            own = {"frames": timeline.frames, "fps": timeline.fps, "super_resolution": needs.superres}
            described["settings"] |= own
        return described

    @property
    def origins(self) -> Mapping[str, Mapping[str, str]]:
        return {name: {"prompt": phrase} for name, phrase in self._phrases.items()}

    def preflight(self, requests: Sequence[Request], protocol: Protocol) -> None:
        """Sizes, frame rate, memory and every prompt of the plan, before any network is loaded.

        Raises UserError for frames smaller than the protocol's, a rate that training never saw, a prompt that is too
        long or has unknown words, too little memory; MissingPrerequisite that names an absent network.
        """
        self._rule = protocol.clip
        self._timeline = timeline = self._timeline_for(protocol)
        self._needs = Needs(
            timeline.frames,
            stage2=timeline.rounds > 0,
            superres=self._superres_for(protocol),
            iterative=self._choices.is_iterative,
        )
        self._source.check(self._needs)
        self._phrases = {}
        unread = 0
        for request in requests:
            phrase = self._phrase(request)
            unread += self._source.language == "zh" and not is_chinese(phrase)
            if phrase != request.prompt:
                self._phrases[request.id] = phrase
        self._check_prompts(list(dict.fromkeys(self._read(request) for request in requests)))
        self.notes = self._notes(len(requests), unread)

    def generate(
        self, requests: Sequence[Request], progress: Callable[[float], None] | None = None
    ) -> list[Clip | Rejection]:
        timeline, needs = self._timeline, self._needs
        if timeline is None or needs is None:
            raise RuntimeError("CogVideoGenerator.generate before preflight: the size of its clips is not known")
        if self._model is None:
            self._model = self._source.load(needs)
            for network in (self._model.networks.stage1, self._model.networks.stage2):
                if network is not None:
                    network.fuse_()  # Before threads share it.
        decoded = [0]

        def tell(phase: str, done: int, total: int) -> None:
            if progress and phase == "decoding":
                decoded[0] += 1
                progress(decoded[0] / len(requests))

        model = self._model

        def make(part: Sequence[Request]) -> list[Video]:
            priming = [request.priming for request in part if request.priming is not None]
            return model.generate(
                [self._read(request) for request in part],
                frames=timeline.frames,
                fps=timeline.fps,
                seeds=[request.seed & (1 << SEED_BITS) - 1 for request in part],
                given=priming or None,
                superres=needs.superres,
                iterative=needs.iterative,
                settings=self._choices.settings,
                progress=tell,
            )

        size = -(-len(requests) // self._lanes)
        parts = [requests[first : first + size] for first in range(0, len(requests), size)]
        # Threads are enough: kernels let go of the interpreter. What is made in one lane does not hang on the others.
        with ThreadPoolExecutor(len(parts)) as lanes:
            videos = [video for made in lanes.map(make, parts) for video in made]
        return [self._cut(video.clip, request.priming) for video, request in zip(videos, requests, strict=True)]

    def reconstruction(self) -> Reconstruction:
        from eval.generators.cogvideo.reconstruction import reconstruction_of

        return reconstruction_of(self._source, self._device, superres=bool(self._choices.superres))

    def _timeline_for(self, protocol: Protocol) -> Timeline:
        """As many frames as the protocol's clip spans; its frame rate where it has one."""
        from cogvideo.settings import Timeline

        rule, asked = protocol.clip, self._choices.frames
        if rule.given and rule.stride > 1:
            raise UserError(
                f"{protocol.name} gives frames {rule.stride} apart; generator {KIND} continues whole videos"
            )
        need = (rule.frames - 1) * rule.stride + 1
        if asked is not None and asked < need:
            raise UserError(
                f"generator {KIND}: {asked} frames are fewer than the {need} that {protocol.name} takes; leave 'frames'"
                " out, or ask for more"
            )
        return Timeline(asked or need, self._choices.fps or rule.fps or DEFAULT_FPS)

    def _superres_for(self, protocol: Protocol) -> bool:
        """Whether frames are super-resolved: where they would else be too small, or where no size is asked for."""
        config, size = self._source.config, protocol.clip.size
        wanted = self._choices.superres
        if wanted is None:
            wanted = size is None or config.frame_pixels < max(size)
        pixels = config.superres_pixels if wanted else config.frame_pixels
        if size and pixels < max(size):
            # Enlarging what a model made is not measuring it.
            more = "" if wanted else "; leave 'superres=off' out"
            raise UserError(
                f"generator {KIND}: {self._source.name} makes frames of {pixels}x{pixels} pixels, {protocol.name}"
                f" scores {size[1]}x{size[0]}{more}; choose another protocol or a larger model"
            )
        return wanted

    def _phrase(self, request: Request) -> str:
        if self._source.language != "zh" or is_chinese(request.prompt):
            return request.prompt
        return chinese_phrase(request.prompt, request.label) or request.prompt

    def _read(self, request: Request) -> str:
        """What the network is told for a request."""
        return self._phrases.get(request.id, request.prompt)

    def _check_prompts(self, texts: Sequence[str]) -> None:
        timeline, settings, prompts = self._timeline, self._choices.settings, self._source.prompts
        assert timeline is not None
        assert self._needs is not None
        for text in texts:
            prompts.first_frame(text)
            prompts.key_frames(text, timeline.seconds(0), settings.guidance_scale is not None)
            for number in range(1, timeline.rounds + 1):
                prompts.between(text, timeline.seconds(number))
            if self._needs.superres:
                prompts.superres(text)

    def _notes(self, planned: int, unread: int) -> tuple[str, ...]:
        notes = []
        if self._phrases:
            notes.append(
                f"{len(self._phrases):,} of {planned:,} prompts were given as our Chinese phrase of their class; each"
                " sample names its own."
            )
        if unread:
            notes.append(
                f"{unread:,} of {planned:,} prompts are not Chinese, which is the language of this network's prompts."
            )
        return tuple(notes)

    def _cut(self, video_THWC: Clip, priming: Clip | None) -> Clip:
        """The protocol's frames of a video; with given frames at their size, and with themselves in front."""
        assert self._rule is not None
        rule = self._rule
        clip_THWC = video_THWC[: (rule.frames - 1) * rule.stride + 1 : rule.stride]
        if priming is None:
            return np.ascontiguousarray(clip_THWC)
        from eval.preprocess import to_protocol_size

        clip_THWC = np.array(to_protocol_size(clip_THWC, rule))
        if clip_THWC.shape[1:] == priming.shape[1:]:
            clip_THWC[: len(priming)] = priming
        return clip_THWC


@generators.register(
    KIND,
    "CogVideo: the small one that comes along, networks in a folder, or a size with random weights",
    argument="DIR",
    options=", ".join(NAMES),
)
def make(argument: str, options: Mapping[str, str], context: GeneratorContext) -> Generator:
    """`cogvideo`, `cogvideo:DIR` or `cogvideo?size=NAME`.

    Raises UserError for an unknown option or value, or a folder without networks; MissingPrerequisite if an absent
    part is named.
    """
    from cogvideo.devices import choose_device, choose_dtype

    choices = read_choices(options)
    if not (argument or choices.size):
        # The same clips on every CPU, and however many are in work: half the digits would round by the batch.
        is_exact = choices.dtype == "auto" and choose_device(context.device).type == "cpu"
        choices = replace(choices, dtype="float32") if is_exact else choices
    if argument and (unfit := [name for name in OF_RANDOM_WEIGHTS if name in options]):
        raise UserError(f"generator {KIND}: {argument} has weights of its own; leave {unfit[0]!r} out, or the folder")
    device = choose_device(context.device)
    source = open_source(
        argument,
        size=choices.size,
        weights_seed=choices.weights_seed,
        device=device,
        dtype=choose_dtype(choices.dtype, device),
    )
    choices = replace(read_choices(options, source.settings), dtype=choices.dtype)
    return CogVideoGenerator(source, choices, device, Path(argument).expanduser().resolve().name if argument else "")
