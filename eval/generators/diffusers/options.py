"""What may stand behind the '?' of `diffusers:ID-or-folder?...`, read and checked before anything is loaded."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cogvideo.errors import UserError
from eval.generators.fitting import read_ways
from eval.generators.spec import check_options, json_or_text, one_of, positive_number, whole_number

KIND = "diffusers"
OF_THE_CALL = ("frames", "size", "steps", "guidance", "negative-prompt", "fps", "image")
OF_THE_SOURCE = ("revision", "variant", "pipeline", "motion-adapter", "scheduler")
# How the work is laid out: no sample is meant to depend on it.
OF_THE_WORK = ("offload",)
NAMES = (*OF_THE_CALL, "batch", "dtype", "vae-dtype", "vae-tiling", "fit", *OF_THE_SOURCE, *OF_THE_WORK)
# Options that name an argument of the pipeline's call, or of its scheduler, behind the prefix.
CALL_PREFIX, SCHEDULER_PREFIX = "with-", "scheduler-"
DTYPES = ("auto", "float32", "bfloat16", "float16")


@dataclass(frozen=True)
class Choices:
    """The options as values; None and "" leave a thing to the pipeline. `size` is (height, width) in pixels.

    `call` and `scheduler_config` are the arguments that were named behind a prefix. `given` are the options that were
    written down and can change a sample.
    """

    batch: int = 1
    frames: int | None = None
    size: tuple[int, int] | None = None
    steps: int | None = None
    guidance: float | None = None
    negative: str = ""
    fps: float | None = None
    image: str = "given"
    dtype: str = "auto"
    vae_dtype: str = ""
    is_tiled: bool = False
    offload: str = "none"
    ways: frozenset[str] = frozenset()
    revision: str = ""
    variant: str = ""
    pipeline: str = ""
    motion_adapter: str = ""
    scheduler: str = ""
    scheduler_config: tuple[tuple[str, Any], ...] = ()
    call: tuple[tuple[str, Any], ...] = ()
    given: tuple[tuple[str, str], ...] = ()


def read_choices(options: Mapping[str, str]) -> Choices:
    """The options of a generator's text. Raises UserError for an unknown one and for a value that cannot be."""
    plain = {name: value for name, value in options.items() if not name.startswith((CALL_PREFIX, SCHEDULER_PREFIX))}
    check_options(KIND, plain, NAMES)
    vae_dtype = one_of(KIND, options, "vae-dtype", DTYPES, "auto")
    return Choices(
        batch=whole_number(KIND, options, "batch", 1, least=1) or 1,
        frames=whole_number(KIND, options, "frames", None, least=1),
        size=_size(options),
        steps=whole_number(KIND, options, "steps", None, least=1),
        guidance=_guidance(options),
        negative=options.get("negative-prompt", ""),
        fps=positive_number(KIND, options, "fps"),
        image=one_of(KIND, options, "image", ["given", "real"], "given"),
        dtype=one_of(KIND, options, "dtype", DTYPES, "auto"),
        vae_dtype="" if vae_dtype == "auto" else vae_dtype,
        is_tiled=one_of(KIND, options, "vae-tiling", ["on", "off"], "off") == "on",
        offload=one_of(KIND, options, "offload", ["none", "model", "sequential"], "none"),
        ways=read_ways(KIND, options.get("fit", "")),
        revision=options.get("revision", ""),
        variant=options.get("variant", ""),
        pipeline=options.get("pipeline", ""),
        motion_adapter=options.get("motion-adapter", ""),
        scheduler=options.get("scheduler", ""),
        scheduler_config=_behind(SCHEDULER_PREFIX, options),
        call=_behind(CALL_PREFIX, options),
        given=tuple(sorted((name, value) for name, value in options.items() if name not in OF_THE_WORK)),
    )


def _behind(prefix: str, options: Mapping[str, str]) -> tuple[tuple[str, Any], ...]:
    return tuple((key[len(prefix) :], json_or_text(text)) for key, text in options.items() if key.startswith(prefix))


def _size(options: Mapping[str, str]) -> tuple[int, int] | None:
    text = options.get("size")
    if text is None:
        return None
    found = re.fullmatch(r"([1-9]\d{0,4})x([1-9]\d{0,4})", text)
    if not found:
        raise UserError(f"generator {KIND}: expected WIDTHxHEIGHT in pixels for 'size', e.g. 720x480, got {text!r}")
    return int(found[2]), int(found[1])


def _guidance(options: Mapping[str, str]) -> float | None:
    """A scale of 0 or more: most pipelines take 1 or less for none."""
    if options.get("guidance") in ("0", "0.0"):
        return 0.0
    return positive_number(KIND, options, "guidance")
