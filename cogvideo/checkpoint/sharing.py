"""CogView2's part once for two folders of a pipeline: both stages have the same, frozen.

What reads such a folder is `native.open_native`.
"""

from __future__ import annotations

from pathlib import Path

import torch

from cogvideo.checkpoint.cards import Card, write_card
from cogvideo.checkpoint.native import SHARED, open_native, write_tensors
from cogvideo.checkpoint.staging import staged
from cogvideo.errors import UserError


def share(folder: Path, beside: Path) -> Card:
    """Take what `beside` has as well out of `folder`, whole or not at all, and give its new card.

    Both are folders of converted weights in one pipeline folder. Raises UserError if a tensor differs.
    """
    card, own = open_native(folder)
    other_card, other = open_native(beside)
    shared = [name for name in own.specs if name.startswith(SHARED)]
    for name in shared:
        if own.specs[name] != other.specs.get(name) or not torch.equal(own.read(name), other.read(name)):
            raise UserError(f"{folder} cannot share tensors with {beside}: {name} differs, so it was not frozen")
    kept = {name: spec for name, spec in own.specs.items() if name not in set(shared)}
    with staged(folder, overwrite=True) as place:
        files = write_tensors(place, kept, own.read)
        card = card.model_copy(update={"files": files, "shares": beside.name, "shared_files": other_card.files})
        write_card(place, card)
    return card
