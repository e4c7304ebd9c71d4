"""Which network a checkpoint is, and of which size: from the release's settings and its tensors' shapes. No torch.

A released `model_config.json` names num_layers, hidden_size, layout and the like. What it leaves out is read off the
shapes, then taken from the sizes that the caller expects, then from the release.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from cogvideo.checkpoint.cards import PARTS, Part, named
from cogvideo.config import ModelConfig
from cogvideo.errors import UserError

Shapes = Mapping[str, tuple[int, ...]]

NETWORK_KIND = {
    "image": "image",
    "stage1": "video",
    "stage2": "video",
    "superres": "superres",
    "iterative": "iterative",
}
WORDS = "transformer.word_embeddings.weight"
POSITIONS = "transformer.position_embeddings.weight"
EXTRA_POSITIONS = "mixins.extra_position_embedding.position_embeddings.weight"

# What decides shapes, ids or positions of each kind; other sizes of a checkpoint say nothing about it.
_EVERYWHERE = (
    "num_layers",
    "hidden_size",
    "num_attention_heads",
    "num_image_tokens",
    "text_pieces",
    "vocab_size",
    "max_sequence_length",
    "layernorm_eps",
    "grid",
)
_OF_PART = {
    "image": ("image_position_offset",),
    "stage1": ("frames", "text_len", "image_position_offset", "extra_positions"),
    "stage2": ("frames", "text_len", "image_position_offset", "extra_positions", "window"),
    "superres": ("superres_scale", "superres_text_len", "patch"),
    "iterative": ("superres_scale", "iterative_text_len", "patch"),
}


class Sizes(NamedTuple):
    """What a checkpoint is. `config` is None for the image tokenizer; `window_size` is the release's setting."""

    part: Part
    config: ModelConfig | None
    window_size: int | None


def read_sizes(
    settings: Mapping[str, Any], shapes: Shapes, where: str, part: str | None = None, expect: ModelConfig | None = None
) -> Sizes:
    """Kind and sizes of a checkpoint. `part` is the kind that the caller asks for; "video" takes either stage.

    Raises UserError for another kind or stage than asked for, another size than expected (naming both), settings that
    are no numbers, and sizes that cannot be built.
    """
    found = find_part(settings, shapes, where, part)
    if found == "image-tokenizer":
        return Sizes(found, None, None)
    window_size = _whole(settings, "window_size", where)
    known = _known_sizes(settings, shapes, found, where)
    if expect is not None:
        require_size(known, expect, found, where)
        return Sizes(found, expect, window_size)
    if "window" not in known:
        # The release's windows are half as wide as its grid.
        grid = known.get("grid", ModelConfig.grid)
        known["window"] = grid // 2 if grid % 2 == 0 else grid
    try:
        return Sizes(found, named(ModelConfig(**known)), window_size)
    except UserError as error:
        raise UserError(
            f"{where}: {error}; sizes other than the release's have to be in model_config.json under the names of "
            "cogvideo/config.py (num_image_tokens, text_pieces, image_position_offset, ...)"
        ) from None


def require_size(known: Mapping[str, int | float], expect: ModelConfig, part: Part, where: str) -> None:
    """Raise UserError, naming both sizes, where a size that matters to this kind is not the expected one."""
    wanted = expect.layout()
    wrong = [
        f"{name} is {known[name]}, expected {wanted[name]}"
        for name in (*_EVERYWHERE, *_OF_PART[part])
        if name in known and known[name] != wanted[name]
    ]
    if wrong:
        some = ", ".join(wrong[:4]) + (f", and {len(wrong) - 4} more" if len(wrong) > 4 else "")
        title = f"the size {expect.name!r}" if expect.name else "the size asked for"
        raise UserError(f"{where} ({part}) is of another size than {title}: {some}; give the checkpoint of that size")


def require_part(found: Part, part: str | None, where: str) -> None:
    """Raise UserError, naming both, if a checkpoint is of another kind than the one asked for."""
    if part is not None and part not in (*PARTS, "video"):
        raise UserError(f"unknown kind {part!r}; known: {', '.join(PARTS)}")
    if part not in (None, found) and not (part == "video" and found in ("stage1", "stage2")):
        raise UserError(f"{where} holds {found}, expected {part}; give the checkpoint of {part}")


def find_part(settings: Mapping[str, Any], shapes: Shapes, where: str, part: str | None = None) -> Part:
    """Which network the tensors are; for a stage also from the settings, the caller's word, or the folder's name.

    Raises UserError if they are none of ours, or not the one asked for.
    """
    kind = _architecture(settings, shapes, where)
    if kind != "video":
        require_part(kind, part, where)
        return kind
    stage = _whole(settings, "cogvideo_stage", where)
    if stage is None and part in ("stage1", "stage2"):
        return part  # type: ignore[return-value]
    if stage is None:
        titles = re.findall(r"stage[-_ ]?([12])(?!\d)", Path(where).name)
        stage = int(titles[-1]) if titles else None
    if stage not in (1, 2):
        raise UserError(f"{where} does not say which stage of CogVideo it is: give --kind stage1 or --kind stage2")
    found: Part = "stage1" if stage == 1 else "stage2"
    require_part(found, part, where)
    return found


def _architecture(settings: Mapping[str, Any], shapes: Shapes, where: str) -> Part | Literal["video"]:
    """The kind of network, where "video" stands for both stages."""
    if any(name.startswith("quantize.") for name in shapes) and any(name.startswith("enc.") for name in shapes):
        return "image-tokenizer"
    if not any(name.startswith("transformer.") for name in shapes):
        some = ", ".join(sorted(shapes)[:3]) or "nothing"
        raise UserError(
            f"{where} is no checkpoint of CogVideo or CogView2: expected tensors such as {WORDS}, saw {some}"
        )
    plus = [name for name in shapes if name.startswith("mixins.attention_plus.")]
    if settings.get("cogvideo_stage") is not None or any(".attn_distribution." in name for name in plus):
        return "video"
    if plus:
        return "superres"
    return "iterative" if EXTRA_POSITIONS in shapes else "image"


def _known_sizes(settings: Mapping[str, Any], shapes: Shapes, part: Part, where: str) -> dict[str, Any]:
    """Every size that the checkpoint itself tells, under our names."""
    known: dict[str, Any] = {}
    for name, default in ModelConfig().layout().items():
        if settings.get(name) is not None:
            known[name] = settings[name] if isinstance(default, float) else _whole(settings, name, where)
    for name, value in _layout_sizes(settings, part, where).items():
        known.setdefault(name, value)
    if (window := _whole(settings, "window_size", where)) is not None and window > 0:
        known.setdefault("window", window)
    if part in ("stage1", "stage2") and (rows := _whole(settings, "additional_seqlen", where)) is not None:
        known.setdefault("extra_positions", rows)
    for name, value in _sizes_of_shapes(shapes, part).items():
        known.setdefault(name, value)
    if "num_attention_heads" not in known:
        raise UserError(f"{where}: model_config.json has to give num_attention_heads, which no shape tells")
    layers = {int(number) for name in shapes for number in re.findall(r"^transformer\.layers\.(\d+)\.", name)}
    if layers and max(layers) >= known["num_layers"]:
        raise UserError(
            f"{where}: model_config.json gives num_layers {known['num_layers']}, the tensors go up to layer "
            f"{max(layers)}; these two files do not belong together"
        )
    return known


def _sizes_of_shapes(shapes: Shapes, part: Part) -> dict[str, int]:
    sizes: dict[str, int] = {}
    if len(shapes.get(WORDS, ())) == 2:
        sizes["vocab_size"], sizes["hidden_size"] = shapes[WORDS]
    if len(shapes.get(POSITIONS, ())) == 2:
        sizes["max_sequence_length"] = shapes[POSITIONS][0]
    if part in ("stage1", "stage2") and len(shapes.get(EXTRA_POSITIONS, ())) == 2:
        sizes["extra_positions"] = shapes[EXTRA_POSITIONS][0]
    layers = [int(number) for name in shapes for number in re.findall(r"^transformer\.layers\.(\d+)\.", name)]
    if layers:
        sizes["num_layers"] = max(layers) + 1
    return sizes


def _layout_sizes(settings: Mapping[str, Any], part: Part, where: str) -> dict[str, int]:
    """Sizes from the release's `layout`: where each piece of a sequence ends, text first."""
    ends = _layout(settings, where)
    pieces = [end - begin for begin, end in zip([0, *ends], ends, strict=False)]
    sizes: dict[str, int] = {}
    if part in ("stage1", "stage2") and len(pieces) == 3 and (pieces[1] + pieces[2]) % pieces[1] == 0:
        sizes = {"text_len": pieces[0], "grid": math.isqrt(pieces[1]), "frames": (pieces[1] + pieces[2]) // pieces[1]}
    elif part == "superres" and len(pieces) == 3:
        grid = math.isqrt(pieces[1])
        sizes = {"superres_text_len": pieces[0], "grid": grid, "superres_scale": math.isqrt(pieces[2]) // grid}
    elif part == "iterative" and len(pieces) == 2:
        scale = _whole(settings, "superres_scale", where) or ModelConfig.superres_scale
        sizes = {"iterative_text_len": pieces[0], "grid": math.isqrt(pieces[1]) // scale}
    elif pieces and part != "image":
        raise UserError(f"{where}: the layout {ends} in model_config.json is none of {part}")
    return sizes


def _layout(settings: Mapping[str, Any], where: str) -> list[int]:
    """The numbers of `layout`, which the release writes as a list or as one string with commas."""
    given = settings.get("layout")
    if given is None:
        return []
    try:
        ends = [int(end) for end in (given.split(",") if isinstance(given, str) else given)]
        if ends and (ends[0] <= 0 or ends != sorted(set(ends))):
            raise ValueError
    except (TypeError, ValueError):
        raise UserError(f"{where}: layout in model_config.json has to be rising numbers, it is {given!r}") from None
    return ends


def _whole(settings: Mapping[str, Any], name: str, where: str) -> int | None:
    value = settings.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        raise UserError(f"{where}: {name} in model_config.json has to be a whole number, it is {value!r}")
    return value
