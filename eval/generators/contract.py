"""What every generator is: requests in, clips out, the same clip for the same request in any batch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from eval.protocol import Protocol

Clip = NDArray[np.uint8]


@dataclass(frozen=True)
class ClipRef:
    """A window of a real video: `frames` frames from decoded frame `start`, `stride` apart (or resampled to `fps`)."""

    item_id: str
    path: str
    start: int
    frames: int
    stride: int = 1
    fps: float | None = None


@dataclass(frozen=True)
class Request:
    """One sample to make. `seed` comes from the run's seed and the id, so that no batch split can change it.

    `source` is a held-out real clip of the same class, if the benchmark has one (controls are made from it).
    `priming` (T, H, W, 3) are frames that the model is given; the clip it returns starts with them.
    `item_id` is the data set's own name of what the sample stands beside (a clip, a line of a prompt file).
    `frames`, `height`, `width` are what the protocol scores; 0 leaves the size to the generator.
    """

    id: str
    index: int
    prompt: str
    label: str
    seed: int
    frames: int
    height: int
    width: int
    fps: float
    source: ClipRef | None = None
    priming: Clip | None = None
    item_id: str = ""


@dataclass(frozen=True)
class GeneratorContext:
    """Where and how a generator may work. `workers` never changes a clip; `device` and `dtype` may in the last bit.

    `process` is the number of this process among several that make samples of one run.
    """

    device: str = "cpu"
    dtype: str = "float32"
    workers: int = 1
    seed: int = 0
    process: int = 0


@dataclass(frozen=True)
class Reconstruction:
    """A model's image tokenizer, there and back: what its clips could be at best.

    `apply` gives a clip of any size as square frames of `pixels` pixels, made from its tokens. `identity` names the
    tokenizer, with its hash, in fingerprints; `not_comparable` are reasons why it is no trained model's.
    """

    identity: str
    pixels: int
    apply: Callable[[Clip], Clip]
    not_comparable: tuple[str, ...] = ()


class Generator(ABC):
    """Makes clips (T, H, W, 3) uint8 RGB. `describe` is everything that identifies it, hashed into the run's name.

    `notes` are facts found by `preflight` that the result must carry; `not_comparable` are reasons why its results may
    stand beside no published ones. `departures`, found by `preflight` too, say how clips that are less than what the
    protocol asks for were made to fit it, or what they were made from that the protocol does not give: each is part of
    the fingerprint. `peak_bytes` is the most memory that programs of its own took, for the record of cost. `origins`
    maps a request's id to what its clip was read or made from ({"file": ..., "sha256": ...}, {"prompt": ...}); it is
    filled by `generate`, for generators where this is not the request alone. `tell`, set for each run, takes a few
    words on how far a long call is, for whoever watches.
    """

    name: str
    title: str
    deterministic: bool = True
    # Clips that are better made together than one after another, where --batch-size asks for fewer; they must not
    # depend on it.
    at_once: int = 1
    notes: tuple[str, ...] = ()
    not_comparable: tuple[str, ...] = ()
    departures: tuple[str, ...] = ()
    peak_bytes: int = 0
    tell: Callable[[str], None] = staticmethod(lambda _: None)

    @property
    def origins(self) -> Mapping[str, Mapping[str, str]]:
        return {}

    @abstractmethod
    def describe(self) -> dict[str, object]:
        """JSON types only: kind, argument, options, hashes of weights or files."""

    def preflight(self, requests: Sequence[Request], protocol: Protocol) -> None:  # noqa: B027 - most have nothing to check
        """Look at everything that can be known before the first clip. Raises UserError with one line.

        `requests` is the whole plan, also when a run resumes: a generator may deal its videos out by it.
        """

    def reconstruction(self) -> Reconstruction | None:
        """The model's own image tokenizer, for `--reference reconstructed`; None for generators without one."""
        return None

    def begin(self, folder: Path, pending: Sequence[Request], prime: Callable[[Request], Request]) -> None:  # noqa: B027 - most need no place
        """Called once for a run, before its first clip. `pending` are the requests that are still to be made.

        `folder` (it need not exist yet) is the generator's own place in the run, where it may keep what it needs to
        resume; `prime` gives a request the frames that its clip has to start with, as `generate` gets it.
        """

    @abstractmethod
    def generate(
        self, requests: Sequence[Request], progress: Callable[[float], None] | None = None
    ) -> list[Clip | Rejection]:
        """One clip a request, in order, or a `Rejection` where it cannot be had. `progress` takes 0..1 of the batch."""


@dataclass(frozen=True)
class Rejection:
    """Why there is no clip for a request, in one line."""

    reason: str
