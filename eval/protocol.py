"""Every setting that can change a number, as frozen named records, and its fingerprint. No torch here.

A published protocol is never edited: a fix gets a new name. The table of named protocols is in `eval/protocols/`.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, fields, is_dataclass, replace
from typing import Any, Literal

Options = tuple[tuple[str, str | int | float | bool], ...]

AS_THEY_ARE = "real clips as they are"
RECONSTRUCTED = "+reconstructed"


@dataclass(frozen=True)
class Preprocess:
    """How the pixels of a uint8 clip become the input of one detector; `eval.preprocess.apply` is the only reader.

    `size` is (height, width) in pixels. `geometry`: "stretch" ignores the aspect ratio; "short-side-crop" brings the
    shorter side to `size` and takes the centre; "none" leaves the size as it is. `fit` settles the odd pixel of that:
    "ceil" rounds the longer side up and the margin down, "torchvision" the longer side down and the margin to even.
    `grid`: where output pixels sample the input: "half-pixel" (torch, align_corners=False), "legacy" (TF1:
    source = target * scale), "align-corners". `rounding` applies after the resize, on the 0..255 scale.
    `scale` is the final range before `mean` and `std`, "signed-128" being (x - 128) / 128; `subtract` names a weight
    file that holds a mean clip, taken off after the scale.
    """

    name: str
    size: tuple[int, int] | None = None
    geometry: Literal["none", "stretch", "short-side-crop"] = "stretch"
    fit: Literal["ceil", "torchvision"] = "ceil"
    kernel: Literal["bilinear", "bicubic"] = "bilinear"
    grid: Literal["half-pixel", "legacy", "align-corners"] = "half-pixel"
    antialias: bool = False
    backend: Literal["torch", "pil"] = "torch"
    rounding: Literal["none", "nearest"] = "none"
    scale: Literal["minus-one-one", "zero-one", "zero-255", "signed-128"] = "minus-one-one"
    channels: Literal["rgb", "bgr"] = "rgb"
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    subtract: str = ""


@dataclass(frozen=True)
class ClipRule:
    """How a clip is cut from a video, the same for real and fake.

    `fps` None takes every decoded frame; a number resamples by timestamps. `choice`: where the window starts.
    `per_video`: windows a real video. `size` brings both sides to one (height, width) in pixels before any detector
    sees them, by `resize`. `given`: frames of the real clip that the generator is primed with (frame prediction).
    """

    frames: int = 16
    stride: int = 1
    fps: float | None = None
    choice: Literal["first", "random", "centre"] = "random"
    per_video: int = 1
    size: tuple[int, int] | None = None
    resize: Literal["short-side-crop", "centre-crop-first", "stretch"] = "centre-crop-first"
    antialias: bool = True
    given: int = 0


@dataclass(frozen=True)
class MetricSpec:
    """One metric of a protocol: which network, which layer, which arithmetic, how many samples."""

    id: str
    metric: str
    detector: str = ""
    weights: str = ""
    layer: str = ""
    preprocess: Preprocess | None = None
    detector_options: Options = ()
    options: Options = ()
    n_real: int | None = None
    n_fake: int | None = None

    def option(self, name: str, default: Any = None) -> Any:
        return dict(self.options).get(name, default)

    @property
    def feature_key(self) -> str:
        """One key for each distinct computation of features, so that metrics share forward passes."""
        wanted = (self.detector, self.weights, self.detector_options, jsonable(self.preprocess))
        return f"{self.detector}-{short_hash(wanted)}" if self.detector else ""


@dataclass(frozen=True)
class Protocol:
    """A named, complete configuration of a benchmark. `n_fake` clips are generated; `n_real` None means all there are.

    `split` names the real videos of the reference set; `heldout` those that controls and floors are drawn from.
    `published` is the setting under which papers printed numbers that may be compared, or "" if none did.
    `playback_fps` is for the eye alone. `changes` lists what the command line changed; a changed protocol is
    comparable with nothing published. `reference` is what the real clips were passed through before anything else;
    `published_reconstructed` is as `published`, for papers that passed them through their model's image tokenizer.
    `fitted` says how clips of a model that gives less than `clip` asks for were brought to it, or what more it was
    given: such a run has fingerprints of its own.
    """

    name: str
    benchmark: str
    title: str
    clip: ClipRule
    metrics: tuple[MetricSpec, ...]
    n_fake: int
    n_real: int | None
    split: str
    heldout: str = ""
    prompts: Literal["class-distribution", "uniform", "one-per-item"] = "class-distribution"
    embedded: bool = False
    playback_fps: float = 25.0
    published: str = ""
    source: str = ""
    changes: tuple[str, ...] = ()
    reference: str = AS_THEY_ARE
    published_reconstructed: str = ""
    fitted: tuple[str, ...] = ()

    @property
    def is_reconstructed(self) -> bool:
        """Whether the real clips are what an image tokenizer leaves of them."""
        return self.reference != AS_THEY_ARE

    def against_reconstructed(self, identity: str) -> Protocol:
        """The protocol of its own that scores against real clips passed through the image tokenizer `identity`.

        Names of protocol and metrics end in "+reconstructed", and every fingerprint is another one. Source: CogVideo
        (arXiv 2205.15868), the rows of its tables that are marked with two stars.
        """
        return replace(
            self,
            name=self.name + RECONSTRUCTED,
            title=f"{self.title}; against real clips passed through the model's image tokenizer",
            metrics=tuple(replace(spec, id=spec.id + RECONSTRUCTED) for spec in self.metrics),
            published=self.published_reconstructed,
            reference=f"real clips passed through {identity}",
        )

    def departed(self, departures: tuple[str, ...]) -> Protocol:
        """The same protocol for a model whose clips were made to fit it in these ways; itself if there are none."""
        if not departures:
            return self
        return replace(self, fitted=departures, changes=(*self.changes, *departures))

    def changed(self, reason: str, **values: Any) -> Protocol:
        """The same protocol with other values and the reason on record."""
        return replace(self, changes=(*self.changes, reason), **values)


def jsonable(value: Any) -> Any:
    """Dataclasses, tuples and plain values as JSON types."""
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    return value


def protocol_from(values: dict[str, Any]) -> Protocol:
    """The protocol back from a manifest's JSON. Fields that this version does not know are left out.

    Raises TypeError if a field that it needs is absent.
    """

    def build(kind: type[Any], record: dict[str, Any]) -> Any:
        known = {f.name for f in fields(kind)}
        return kind(**{name: _tuples(value) for name, value in record.items() if name in known})

    metrics = []
    for record in values.get("metrics", ()):
        preprocess = record.get("preprocess")
        prepared = build(Preprocess, preprocess) if isinstance(preprocess, dict) else preprocess
        metrics.append(build(MetricSpec, {**record, "preprocess": prepared}))
    clip = build(ClipRule, values.get("clip", {}))
    rebuilt: Protocol = build(Protocol, {**values, "clip": clip, "metrics": metrics})
    return rebuilt


def _tuples(value: Any) -> Any:
    """JSON's lists as the tuples that the records hold."""
    return tuple(_tuples(part) for part in value) if isinstance(value, list | tuple) else value


def short_hash(value: Any, digits: int = 8) -> str:
    """The first hex digits of the SHA-256 of the value's canonical JSON."""
    text = json.dumps(jsonable(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:digits]


def metric_fingerprint(
    protocol: Protocol, spec: MetricSpec, *, weights_sha256: str, list_sha256: str, seed: int
) -> str:
    """Eight hex digits over everything that changes this metric's number: never rank two that differ.

    Titles, notes and the metrics beside this one are left out; the hash of the data list and of the weights is in.
    """
    described = {f.name: jsonable(getattr(protocol, f.name)) for f in fields(protocol) if f.name in _NUMERIC_FIELDS}
    described["metric"] = jsonable(spec)
    described["weights_sha256"] = weights_sha256
    described["list_sha256"] = list_sha256
    described["seed_of_choice"] = seed
    if protocol.is_reconstructed:
        described["reference"] = protocol.reference
    if protocol.fitted:
        described["fitted"] = list(protocol.fitted)
    return short_hash(described)


_NUMERIC_FIELDS = {"benchmark", "clip", "n_fake", "n_real", "split", "heldout", "prompts"}
