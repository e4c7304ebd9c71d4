"""What may stand behind the '?' of `cogvideo[:DIR]?...`, read and checked before anything is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from cogvideo.errors import UserError
from eval.generators.spec import check_options, one_of, positive_number, whole_number

if TYPE_CHECKING:
    from cogvideo.settings import GenerationSettings

KIND = "cogvideo"
# These choose random weights, where a checkpoint has its own.
OF_RANDOM_WEIGHTS = ("size", "weights-seed")
# How the work is laid out: no sample depends on it.
OF_THE_WORK = ("parallel", "max-rows")
NAMES = (
    *OF_RANDOM_WEIGHTS,
    *("guidance-scale", "first-frame-guidance-scale", "between-guidance-scale", "temperature", "top-k"),
    *("fps", "frames", "superres", "iterative", "quirks", "dtype"),
    *OF_THE_WORK,
)
DEFAULT_FPS = 8.0
# Weights of a seed and a role come from 8 * seed + role, which has to fit into 64 bits.
LARGEST_WEIGHTS_SEED = 2**32 - 1


@dataclass(frozen=True)
class Choices:
    """The options as values. `superres` None leaves it to the protocol's size; `frames` and `fps` None to its clips.

    `given` are those that were written down and can change a sample.
    """

    settings: GenerationSettings
    size: str = ""
    weights_seed: int = 0
    fps: float | None = None
    frames: int | None = None
    superres: bool | None = None
    is_iterative: bool = False
    quirks: str = "consistent"
    dtype: str = "auto"
    given: tuple[tuple[str, str], ...] = ()


def read_choices(options: Mapping[str, str], suited: GenerationSettings | None = None) -> Choices:
    """The options of a generator's text, over the settings that suit its networks (None: the release's).

    Raises UserError for an unknown option and for a value that cannot be.
    """
    from cogvideo.devices import TYPES
    from cogvideo.forward import QUIRKS
    from cogvideo.settings import GenerationSettings

    check_options(KIND, options, NAMES)
    defaults = suited or GenerationSettings()
    quirks = one_of(KIND, options, "quirks", list(QUIRKS), "consistent")
    top_k = whole_number(KIND, options, "top-k", None, least=1) or defaults.video.top_k_clusters
    temperature = positive_number(KIND, options, "temperature") or defaults.video.temperature
    superres = one_of(KIND, options, "superres", ["auto", "on", "off"], "auto")
    weights_seed = whole_number(KIND, options, "weights-seed", 0, least=0) or 0
    if weights_seed > LARGEST_WEIGHTS_SEED:
        raise UserError(f"generator {KIND}: expected at most {LARGEST_WEIGHTS_SEED} for 'weights-seed'")
    is_iterative = _is_on(options, "iterative", default=False)
    if is_iterative and superres == "off":
        raise UserError(
            f"generator {KIND}: 'iterative' refines what super-resolution makes, which is off; leave one of them out"
        )
    settings = replace(
        defaults,
        video=replace(defaults.video, temperature=temperature, top_k_clusters=top_k),
        guidance_scale=_scale(options, "guidance-scale", defaults.guidance_scale),
        first_frame_guidance_scale=_scale(options, "first-frame-guidance-scale", defaults.first_frame_guidance_scale),
        between_guidance_scale=_scale(options, "between-guidance-scale", defaults.between_guidance_scale),
        quirks=QUIRKS[quirks],
        is_parallel=_is_on(options, "parallel", default=True),
        max_rows=whole_number(KIND, options, "max-rows", None, least=1),
    )
    return Choices(
        settings,
        size=options.get("size", ""),
        weights_seed=weights_seed,
        fps=positive_number(KIND, options, "fps"),
        frames=whole_number(KIND, options, "frames", None, least=1),
        superres=True if is_iterative else None if superres == "auto" else superres == "on",
        is_iterative=is_iterative,
        quirks=quirks,
        dtype=one_of(KIND, options, "dtype", ["auto", *TYPES], "auto"),
        given=tuple(sorted((name, value) for name, value in options.items() if name not in OF_THE_WORK)),
    )


def _scale(options: Mapping[str, str], name: str, default: float | None) -> float | None:
    """Raises UserError unless it is `off` or a number above 0."""
    if options.get(name) == "off":
        return None
    return positive_number(KIND, options, name) or default


def _is_on(options: Mapping[str, str], name: str, *, default: bool) -> bool:
    return one_of(KIND, options, name, ["on", "off"], "on" if default else "off") == "on"
