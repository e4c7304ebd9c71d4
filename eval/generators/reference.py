"""Clips whose rank is known beforehand, made from held-out real clips: real, frozen, shuffled, reversed, noise.

Where a benchmark gives the first frames (frame prediction), these stay in front untouched.
Shapes: T frames, H x W pixels; clips are uint8 (T, H, W, 3) RGB.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from cogvideo.errors import UserError
from eval.generators.contract import Clip, Generator, GeneratorContext, Rejection, Request
from eval.generators.spec import check_options, no_argument
from eval.protocol import ClipRule, Protocol
from eval.registry import generators

# A made clip from the frames that are its own, the last frame before them (or None), and the request's seed.
Change = Callable[[Clip, Clip | None, int], Clip]


class ReferenceGenerator(Generator):
    """The source clip of each request, changed by `change`. The same request gives the same clip in any batch."""

    def __init__(self, name: str, title: str, change: Change, context: GeneratorContext) -> None:
        self.name = name
        self.title = title
        self._change = change
        self._workers = max(1, context.workers)
        self._rule: ClipRule | None = None

    def describe(self) -> dict[str, object]:
        return {"kind": self.name, "argument": "", "options": {}}

    def preflight(self, requests: Sequence[Request], protocol: Protocol) -> None:
        """Raises UserError if a request has no real clip to make its clip from."""
        self._rule = protocol.clip
        without = [request for request in requests if not self._has_source(request)]
        if without:
            of_class = f" (class {without[0].label})" if without[0].label else ""
            raise UserError(
                f"generator {self.name} is made from held-out real clips; {len(without):,} of {len(requests):,}"
                f" samples have none, first sample {without[0].id}{of_class};"
                " give more real videos (--data) or fewer samples"
            )

    def generate(
        self, requests: Sequence[Request], progress: Callable[[float], None] | None = None
    ) -> list[Clip | Rejection]:
        made: list[Clip | Rejection] = []
        with ThreadPoolExecutor(self._workers) as pool:
            for clip in pool.map(self._make, requests):
                made.append(clip)
                if progress:
                    progress(len(made) / len(requests))
        return made

    def _has_source(self, request: Request) -> bool:
        return request.source is not None

    def _make(self, request: Request) -> Clip | Rejection:
        try:
            clip_THWC = self._read(request)
        except UserError as error:
            return Rejection(str(error))
        if request.priming is None:
            return self._change(clip_THWC, None, request.seed)
        given = len(request.priming)
        if clip_THWC.shape[1:] != request.priming.shape[1:] and self._rule is not None:
            from eval.preprocess import to_protocol_size

            clip_THWC = to_protocol_size(clip_THWC, self._rule)
        if clip_THWC.shape[1:] != request.priming.shape[1:]:
            return Rejection(f"the given frames are {_size(request.priming)} pixels, the real clip {_size(clip_THWC)}")
        own_THWC = self._change(clip_THWC[given:], request.priming[-1:], request.seed)
        return np.concatenate([request.priming, own_THWC])

    def _read(self, request: Request) -> Clip:
        from cogvideo.video import read_clip

        ref = request.source
        if ref is None:
            raise UserError(f"sample {request.id} has no real clip to be made from")
        return read_clip(ref.path, start=ref.start, frames=ref.frames, stride=ref.stride, fps=ref.fps)


class NoiseGenerator(ReferenceGenerator):
    """Uniform noise of the protocol's size; where the protocol leaves the size open, of the source's."""

    def _has_source(self, request: Request) -> bool:
        return request.source is not None or (request.height > 0 and request.width > 0)

    def _read(self, request: Request) -> Clip:
        if request.height > 0 and request.width > 0:
            height, width = request.height, request.width
        elif request.priming is not None:
            height, width = request.priming.shape[1:3]
        else:
            height, width = _source_size(request)
        # Only the shape counts: no memory is written, and no frame of the source is decoded.
        return np.broadcast_to(np.uint8(0), (request.frames, height, width, 3))


def keep(own_THWC: Clip, before_1HWC: Clip | None, seed: int) -> Clip:
    """The clip as it is."""
    return own_THWC


def freeze(own_THWC: Clip, before_1HWC: Clip | None, seed: int) -> Clip:
    """The first frame all the time; after given frames, the last of these, so that nothing later is known."""
    first_1HWC = own_THWC[:1] if before_1HWC is None else before_1HWC
    return np.repeat(first_1HWC, len(own_THWC), axis=0)


def shuffle(own_THWC: Clip, before_1HWC: Clip | None, seed: int) -> Clip:
    """The same frames in another order, drawn by the seed; never the order they had, if there are two or more."""
    return own_THWC[shuffled_order(len(own_THWC), seed)]


def reverse(own_THWC: Clip, before_1HWC: Clip | None, seed: int) -> Clip:
    """The frames from the last to the first."""
    return own_THWC[::-1].copy()


def fill_with_noise(own_THWC: Clip, before_1HWC: Clip | None, seed: int) -> Clip:
    """Independent uniform values 0..255, drawn by the seed."""
    raw = _philox("noise", seed).random_raw((own_THWC.size + 7) // 8)
    return raw.astype("<u8").view(np.uint8)[: own_THWC.size].reshape(own_THWC.shape)


def shuffled_order(n: int, seed: int) -> NDArray[np.intp]:
    """A permutation of n things that moves at least two of them (none if n < 2). The same for a seed everywhere."""
    bits = _philox("shuffled", seed)
    while True:
        order = np.argsort(bits.random_raw(n), kind="stable") if n else np.zeros(0, np.intp)
        if n < 2 or (order != np.arange(n)).any():
            return order


def _philox(purpose: str, seed: int) -> np.random.Philox:
    """numpy's raw stream, which is the same in every version, keyed by the seed and what it is for."""
    digest = hashlib.sha256(f"{purpose}\n{seed}".encode()).digest()
    return np.random.Philox(key=int.from_bytes(digest[:16], "little"))


def _source_size(request: Request) -> tuple[int, int]:
    from cogvideo.video import probe

    if request.source is None:
        raise UserError(f"sample {request.id} has neither a size nor a real clip to take it from")
    info = probe(request.source.path)
    return info.height, info.width


def _size(clip_THWC: Clip) -> str:
    return f"{clip_THWC.shape[2]}x{clip_THWC.shape[1]}"


def _register(name: str, title: str, summary: str, change: Change, kind: type[ReferenceGenerator]) -> None:
    def make(argument: str, options: Mapping[str, str], context: GeneratorContext) -> Generator:
        no_argument(name, argument)
        check_options(name, options, ())
        return kind(name, title, change, context)

    generators.register(name, summary, needs="real clips")(make)


_register("real", "Real clips", "held-out real clips as they are: the floor", keep, ReferenceGenerator)
_register("frozen", "Frozen", "one real frame, standing still", freeze, ReferenceGenerator)
_register("shuffled", "Shuffled", "real frames in a wrong order", shuffle, ReferenceGenerator)
_register("reversed", "Reversed", "real clips played backwards", reverse, ReferenceGenerator)
_register("noise", "Noise", "uniform noise: the far end of every scale", fill_with_noise, NoiseGenerator)
