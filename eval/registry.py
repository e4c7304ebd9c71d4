"""Names -> metrics, detectors, data sets, generators. A new one is one new file that registers itself.

Built-in modules are imported only when one of their names is asked for, so that listing commands stays cheap.
A third party registers through the entry point groups `cogeval.metrics`, `.detectors`, `.datasets`, `.generators`
or through `--plugin MODULE`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from difflib import get_close_matches
from importlib.metadata import entry_points
from typing import Any, Generic, TypeVar

from cogvideo.errors import UserError

T = TypeVar("T")


@dataclass(frozen=True)
class Entry(Generic[T]):
    """A registered thing with what `cogeval list` shows of it."""

    name: str
    make: T
    summary: str
    facts: dict[str, str]


@dataclass
class Registry(Generic[T]):
    """One kind of thing by name. `builtin` maps a name to the module that registers it when imported."""

    kind: str
    builtin: dict[str, str]
    entries: dict[str, Entry[T]] = field(default_factory=dict)

    def register(self, name: str, summary: str, **facts: str) -> Callable[[T], T]:
        """Decorator: file `make` under `name`. Raises ValueError if another thing has that name."""

        def keep(make: T) -> T:
            is_taken = name in self.entries and self.entries[name].make is not make
            # A partial is where its function is.
            is_ours = str(getattr(getattr(make, "func", make), "__module__", "")).startswith("eval.")
            if is_taken or (name in self.builtin and not is_ours):
                raise ValueError(f"{self.kind} {name!r} is registered twice; choose another name")
            self.entries[name] = Entry(name, make, summary, facts)
            return make

        return keep

    def names(self) -> list[str]:
        """Every name, built in, from entry points, or registered by a plugin, sorted."""
        return sorted({*self.builtin, *self.entries, *(point.name for point in self._entry_points())})

    def get(self, name: str) -> Entry[T]:
        """The entry of `name`. Raises UserError that offers near names if there is none."""
        if name not in self.entries:
            if name in self.builtin:
                importlib.import_module(self.builtin[name])
            else:
                for point in self._entry_points():
                    if point.name == name:
                        self._load(point)
        if name not in self.entries:
            raise UserError(f"unknown {self.kind} {name!r}{did_you_mean(name, self.names())}")
        return self.entries[name]

    def _load(self, point: Any) -> None:
        """Import what an entry point names. Raises UserError: it is not our code, and the others need not suffer."""
        try:
            point.load()
        except Exception as error:
            package = f" of {point.dist.name}" if point.dist else ""
            raise UserError(
                f"{self.kind} {point.name!r}{package} cannot be loaded: {type(error).__name__}: {error}; mend or remove"
                " that package"
            ) from error

    def _entry_points(self) -> Any:
        return entry_points(group=f"cogeval.{self.kind.replace(' ', '')}s")


def did_you_mean(name: str, known: list[str]) -> str:
    """The tail of an error message: near names if there are any, else all of them."""
    near = get_close_matches(name, known, n=3, cutoff=0.5)
    if near:
        return "; did you mean " + " or ".join(near) + "?"
    return "; known: " + ", ".join(known) if known else ""


metrics: Registry[Callable[..., Any]] = Registry(
    "metric",
    {
        "fvd": "eval.metrics.fvd",
        "kvd": "eval.metrics.kvd",
        "inception-score": "eval.metrics.inception_score",
        "fid": "eval.metrics.fid",
        "kid": "eval.metrics.kid",
        "clipsim": "eval.metrics.clipsim",
        "r-precision": "eval.metrics.r_precision",
        "precision-recall": "eval.metrics.precision_recall",
        "frame-consistency": "eval.metrics.frame_consistency",
        "motion-distance": "eval.metrics.motion_distance",
        "motion-smoothness": "eval.metrics.smoothness",
        "temporal-flickering": "eval.metrics.flickering",
        "video-text": "eval.metrics.video_text",
    },
)
detectors: Registry[Callable[..., Any]] = Registry(
    "detector",
    {
        "i3d": "eval.detectors.i3d",
        "i3d-torchscript": "eval.detectors.torchscript",
        "c3d": "eval.detectors.c3d",
        "c3d-torchscript": "eval.detectors.torchscript",
        "inception": "eval.detectors.inception",
        "videomae": "eval.detectors.videomae",
        "clip": "eval.detectors.clip",
        "viclip": "eval.detectors.viclip",
        "changes": "eval.detectors.changes",
        "tracks": "eval.detectors.tracks",
        "i3d-shapes": "eval.detectors.shapes",
        "c3d-shapes": "eval.detectors.shapes",
        "clip-shapes": "eval.detectors.shapes",
        "frame-shapes": "eval.detectors.shapes",
    },
)
datasets: Registry[Callable[..., Any]] = Registry(
    "dataset",
    {
        "ucf101": "eval.datasets.ucf101",
        "kinetics400": "eval.datasets.kinetics",
        "kinetics600": "eval.datasets.kinetics",
        "kinetics700": "eval.datasets.kinetics",
        "prompts": "eval.datasets.prompts",
        "shapes": "eval.datasets.shapes",
    },
)
generators: Registry[Callable[..., Any]] = Registry(
    "generator",
    {
        "cogvideo": "eval.generators.cogvideo",
        "diffusers": "eval.generators.diffusers",
        "python": "eval.generators.python",
        "command": "eval.generators.command",
        "folder": "eval.generators.folder",
        "real": "eval.generators.reference",
        "frozen": "eval.generators.reference",
        "shuffled": "eval.generators.reference",
        "reversed": "eval.generators.reference",
        "noise": "eval.generators.reference",
    },
)
