"""From the video that a model makes to the clip that a protocol scores, or why that cannot be.

A longer video is cut as the protocol cuts real ones, a larger one is reduced by the protocol's own resize. A shorter or
smaller one is refused, unless its person asks for one of the named ways in `WAYS`; each way that is taken is a
departure from the protocol, and part of the fingerprint.

Shapes: T frames, H x W pixels; videos and clips are uint8 (T, H, W, 3) RGB.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from cogvideo.errors import UserError
from eval.generators.contract import Clip
from eval.protocol import ClipRule, Protocol
from eval.registry import did_you_mean

REPEAT_FRAMES = "repeat-frames"
ENLARGE = "enlarge"
WAYS = (REPEAT_FRAMES, ENLARGE)


@dataclass(frozen=True)
class Offer:
    """What a model makes: frames, pixels, and frames a second where these are known.

    `overlap` is how many of the protocol's given frames the video starts with: 1 for a model that continues a picture.
    """

    frames: int
    height: int
    width: int
    fps: float | None = None
    overlap: int = 0

    def __str__(self) -> str:
        at = f" at {self.fps:g} frames/s" if self.fps else ""
        return f"{self.frames} frames of {self.width}x{self.height} pixels{at}"


@dataclass(frozen=True)
class Fitting:
    """Which frames of a model's videos become the clip, and at which size.

    `departures` says each way in which the clip is less than the protocol asks for, with its numbers.
    """

    rule: ClipRule
    indices: tuple[int, ...]
    is_enlarged: bool = False
    departures: tuple[str, ...] = ()

    def clip(self, video_THWC: Clip, priming: Clip | None = None) -> Clip:
        """The clip (T, H, W, 3) of a video that is as its `Offer` said, with the given frames in front.

        With given frames the clip has their size; the frames of the video that repeat them give way to them.
        """
        clip_THWC = video_THWC[list(self.indices)]
        if priming is None and not self.is_enlarged:
            return np.ascontiguousarray(clip_THWC)
        from eval.preprocess import to_protocol_size

        clip_THWC = to_protocol_size(clip_THWC, self.rule)
        if priming is None:
            return clip_THWC
        return np.concatenate([priming, clip_THWC])


def read_ways(kind: str, text: str) -> frozenset[str]:
    """The ways of `fit=repeat-frames,enlarge`. Raises UserError for one that there is not."""
    ways = [way for way in text.split(",") if way]
    for way in ways:
        if way not in WAYS:
            raise UserError(f"generator {kind}: expected {' or '.join(WAYS)} for 'fit', got {way!r}{_near(way)}")
    return frozenset(ways)


def frames_needed(rule: ClipRule, fps: float | None = None) -> int:
    """How many frames in a row a video of `fps` frames a second has to have, that a clip can be cut from its start."""
    return _frame_at(rule, rule.frames - 1, fps) + 1


def fit(kind: str, offer: Offer, protocol: Protocol, ways: frozenset[str] | None = None) -> Fitting:
    """How the model's videos become the protocol's clips. `ways` None is for generators without the option `fit`.

    Raises UserError, which says what the model makes and what the protocol takes, if they do not become any.
    """
    rule = protocol.clip
    if rule.given and rule.stride > 1:
        raise UserError(
            f"{protocol.name} gives frames {rule.stride} apart; generator {kind} continues whole videos; choose another"
            " protocol"
        )
    if rule.fps and not offer.fps:
        raise UserError(
            f"{protocol.name} takes {rule.fps:g} frames/s by time; say with 'fps' how many generator {kind} makes"
        )
    # Given frames stand in front of the clip; of the video only what follows them is wanted.
    ahead = rule.given - offer.overlap if rule.given else 0
    places = [_frame_at(rule, k - ahead, offer.fps) for k in range(rule.given, rule.frames)]
    need = places[-1] + 1
    departures: list[str] = []
    if offer.frames < need:
        if REPEAT_FRAMES not in (ways or ()):
            raise UserError(
                f"generator {kind} makes {offer}, {protocol.name} takes {need} frames: make more, or choose a protocol"
                f" of fewer{_hint(ways, 'repeat frames', REPEAT_FRAMES)}"
            )
        places = [place * offer.frames // need for place in places]
        departures.append(f"{REPEAT_FRAMES}: {need} frames are {offer.frames} of the model, evenly repeated")
    size = rule.size
    is_small = size is not None and (offer.height < size[0] or offer.width < size[1])
    if size is not None and is_small:
        if ENLARGE not in (ways or ()):
            # Enlarging what a model made is not measuring it: scores depend on the source's resolution.
            raise UserError(
                f"generator {kind} makes {offer}, {protocol.name} scores {size[1]}x{size[0]}: make larger ones, or"
                f" choose another protocol{_hint(ways, 'enlarge', ENLARGE)}"
            )
        departures.append(
            f"{ENLARGE}: {size[1]}x{size[0]} pixels are {offer.width}x{offer.height} of the model, enlarged bilinearly"
        )
    return Fitting(rule, tuple(places), is_small, tuple(departures))


def offer_words(offer: Offer, fitting: Fitting, protocol: Protocol) -> str:
    """What the model makes and what becomes of it, as a sentence for the result."""
    rule = fitting.rule
    taken = len(fitting.indices)
    what = "all of them" if taken == offer.frames else f"the first {taken}"
    if fitting.indices != tuple(range(taken)):
        what = f"{taken} of them"
    sized = ""
    if rule.size and rule.size != (offer.height, offer.width) and not fitting.is_enlarged:
        sized = f", reduced to {rule.size[1]}x{rule.size[0]} by {rule.resize}"
    return f"The model makes {offer}; {protocol.name} scores {what}{sized}."


def _frame_at(rule: ClipRule, k: int, fps: float | None) -> int:
    """The number of the frame that is on show where the clip has its frame k."""
    if rule.fps is None or not fps:
        return k * rule.stride
    ratio = Fraction(fps).limit_denominator(100_000) / Fraction(rule.fps).limit_denominator(100_000)
    return int(k * rule.stride * ratio)


def _hint(ways: frozenset[str] | None, what: str, way: str) -> str:
    return f", or {what} with 'fit={way}' (another fingerprint, not comparable)" if ways is not None else ""


def _near(way: str) -> str:
    near = did_you_mean(way, list(WAYS))
    return near if near.startswith("; did") else ""
