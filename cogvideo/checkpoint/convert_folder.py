"""From the folder that holds all released networks (SAT_HOME) to a pipeline folder of ours, in one go."""

from __future__ import annotations

import shutil
from pathlib import Path

from cogvideo.checkpoint.cards import CARD_NAME, PipelineCard, write_card
from cogvideo.checkpoint.convert import Converted, Progress, TypeChoice, convert
from cogvideo.checkpoint.native import SHARD_BYTES
from cogvideo.checkpoint.opening import Notify
from cogvideo.checkpoint.parts import KIND, find_parts, form_of
from cogvideo.checkpoint.released import is_released
from cogvideo.checkpoint.staging import staged
from cogvideo.errors import UserError


def is_folder_of_networks(path: Path) -> bool:
    """Whether a path is a folder with several released networks, not a network itself."""
    if not path.is_dir() or is_released(path) or (path / CARD_NAME).is_file():
        return False
    try:
        return form_of(path) == "released"
    except UserError:
        return False


def convert_folder(
    source: Path,
    destination: Path,
    *,
    dtype: TypeChoice = "keep",
    overwrite: bool = False,
    shard_bytes: int = SHARD_BYTES,
    notify: Notify | None = None,
    progress: Progress | None = None,
) -> dict[str, Converted]:
    """Convert every network that is there, by its role, with the text model and the cluster table beside them.

    The result appears whole or not at all. Raises UserError as `convert` does, MissingPrerequisite without stage 1 or
    the image tokenizer.
    """
    parts = find_parts(source)
    done: dict[str, Converted] = {}
    with staged(destination, overwrite=overwrite) as place:
        for role, kind in KIND.items():
            path: Path | None = getattr(parts, role)
            if path is not None:
                done[role] = convert(
                    path,
                    place / role,
                    part=kind,
                    dtype=dtype,
                    shard_bytes=shard_bytes,
                    notify=notify,
                    progress=progress,
                )
        for file, name in ((parts.clusters, "clusters"), (parts.text_model, "ice_text")):
            if file is not None:
                shutil.copyfile(file, place / f"{name}{file.suffix}")
        card = parts.card.model_copy(update={"name": destination.name, "sizes": done["stage1"].card.sizes})
        write_card(place, PipelineCard.model_validate(card.model_dump()))
    return {role: Converted(destination / role, converted.card, converted.unused) for role, converted in done.items()}
