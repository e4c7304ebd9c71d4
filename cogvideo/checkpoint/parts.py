"""A folder that holds everything a prompt needs on its way to a video: our pipeline folder, or the release's own.

Ours: `pipeline.json` with `stage1`, `stage2`, `superres`, `iterative`, `image`, `image_tokenizer`, `clusters.npy` (or
`.safetensors`), `ice_text.model`. The release's (SAT_HOME): `cogvideo-stage1`, ..., `ice_image.pt`.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cogvideo.checkpoint.cards import (
    CARD_NAME,
    PIPELINE_CARD_NAME,
    Part,
    PipelineCard,
    read_card,
    read_pipeline_card,
)
from cogvideo.checkpoint.tensors import some
from cogvideo.config import ModelConfig
from cogvideo.errors import MissingPrerequisite, UserError
from cogvideo.weights import WeightStore, load_catalogue

Form = Literal["native", "released"]

# Role, the names that it may have in our folder, and in the release's.
NATIVE_NAMES: dict[str, tuple[str, ...]] = {
    "stage1": ("stage1",),
    "stage2": ("stage2",),
    "superres": ("superres",),
    "iterative": ("iterative",),
    "image": ("image",),
    "image_tokenizer": ("image_tokenizer",),
    "clusters": ("clusters.safetensors", "clusters.npy"),
    "text_model": ("ice_text.model",),
}
RELEASED_NAMES: dict[str, tuple[str, ...]] = {
    "stage1": ("cogvideo-stage1",),
    "stage2": ("cogvideo-stage2",),
    "superres": ("cogview2-dsr",),
    "iterative": ("cogview2-itersr",),
    "image": ("coglm",),
    "image_tokenizer": ("ice_image.pt",),
    "clusters": ("cluster_label2.npy",),
    "text_model": ("ice_text.model",),
}
KIND: dict[str, Part] = {
    "stage1": "stage1",
    "stage2": "stage2",
    "superres": "superres",
    "iterative": "iterative",
    "image": "image",
    "image_tokenizer": "image-tokenizer",
}
IN_CATALOGUE = {
    "stage1": "cogvideo-stage1",
    "stage2": "cogvideo-stage2",
    "superres": "cogview2-dsr",
    "iterative": "cogview2-itersr",
    "image": "coglm",
    "image_tokenizer": "ice-image-tokenizer",
    "clusters": "cogview2-clusters",
    "text_model": "ice-text-model",
}
# Single files that may lie in the cache of `cogeval weights` instead of a released folder.
_FROM_CACHE = ("image_tokenizer", "clusters", "text_model")


@dataclass(frozen=True)
class PipelineParts:
    """Where each part is; None for one that is not there. `card` is a folder's own, or what its form implies."""

    folder: Path
    form: Form
    card: PipelineCard
    stage1: Path
    image_tokenizer: Path
    stage2: Path | None = None
    superres: Path | None = None
    iterative: Path | None = None
    image: Path | None = None
    clusters: Path | None = None
    text_model: Path | None = None

    def require(self, role: str, purpose: str = "") -> Path:
        """The path of a part. Raises MissingPrerequisite, naming it and where it belongs, if it is not there."""
        path: Path | None = getattr(self, role)
        if path is None:
            raise _missing(self.folder, self.form, role, purpose)
        return path


def find_parts(folder: Path | str) -> PipelineParts:
    """The parts in a pipeline folder of ours or of the release.

    Files that a released folder lacks are taken from the cache of `cogeval weights`, where they were fetched.
    Raises UserError if it is neither, MissingPrerequisite, naming the first absent part, without stage1 or the image
    tokenizer.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"expected a folder of CogVideo networks at {folder}, there is {_what(folder)}")
    form = form_of(folder)
    names = NATIVE_NAMES if form == "native" else RELEASED_NAMES
    found = {role: _find(folder, role, names[role]) for role in names}
    if form == "released":
        for role in _FROM_CACHE:
            found[role] = found[role] or _in_cache(IN_CATALOGUE[role])
    card = PipelineCard(name=folder.resolve().name)
    if (folder / PIPELINE_CARD_NAME).is_file():
        card = read_pipeline_card(folder)
    elif form == "released":
        card = PipelineCard(name=folder.resolve().name, language="zh", licence="CogVideo model licence")
    elif found["stage1"] is not None and (found["stage1"] / CARD_NAME).is_file():
        # Converted one by one: a network with the pieces of the released text model was told in Chinese.
        own = read_card(found["stage1"])
        language = "zh" if own.sizes.get("text_pieces") == ModelConfig.text_pieces else "en"
        card = PipelineCard(name=folder.resolve().name, language=language, licence=own.licence)
    stage1, image_tokenizer = found.pop("stage1"), found.pop("image_tokenizer")
    if stage1 is None:
        raise _missing(folder, form, "stage1")
    if image_tokenizer is None:
        raise _missing(folder, form, "image_tokenizer")
    return PipelineParts(folder, form, card, stage1, image_tokenizer, **found)


def form_of(folder: Path) -> Form:
    """Whether a folder of networks is ours or as released. Raises UserError if it is neither."""
    if (folder / PIPELINE_CARD_NAME).is_file() or any((folder / role / CARD_NAME).is_file() for role in KIND):
        return "native"
    if any((folder / name).exists() for names in RELEASED_NAMES.values() for name in names):
        return "released"
    single = " (a single network: give the folder above it)" if (folder / CARD_NAME).is_file() else ""
    seen = some(sorted(path.name for path in folder.iterdir()), 6) or "nothing"
    raise UserError(
        f"{folder} is no folder of CogVideo networks: expected {PIPELINE_CARD_NAME} and stage1 (converted) or "
        f"cogvideo-stage1 (as released), saw {seen}{single}"
    )


def _find(folder: Path, role: str, names: tuple[str, ...]) -> Path | None:
    return next((folder / name for name in names if (folder / name).exists()), None)


def _in_cache(name: str) -> Path | None:
    """A file that was fetched, None if it was not. A damaged one is told of and not passed over."""
    catalogue = load_catalogue()
    if name in catalogue:
        with suppress(MissingPrerequisite):
            return WeightStore(catalogue).get(name).path
    return None


def _missing(folder: Path, form: Form, role: str, purpose: str = "") -> MissingPrerequisite:
    name = (NATIVE_NAMES if form == "native" else RELEASED_NAMES)[role][0]
    wanted, known = IN_CATALOGUE[role], f" ({purpose})" if purpose else ""
    if form == "released" and (folder / f"{name}.zip").is_file():
        mend = f"unpack {name}.zip there, or `cogeval convert` it"
    elif form == "released" and role in _FROM_CACHE:
        mend = f"`cogeval weights fetch {wanted}`, or put the file there"
    elif role in KIND:
        mend = f"`cogeval weights fetch {wanted}`, then `cogeval convert {wanted} {folder / name}`"
        if form == "released":
            mend = f"`cogeval weights fetch {wanted}` and unpack it there"
    else:
        mend = f"`cogeval weights fetch {wanted}` and copy the file there"
    return MissingPrerequisite(f"{folder} has no {role}{known}: expected {folder / name}; {mend}")


def _what(path: Path) -> str:
    return "a file" if path.is_file() else "nothing"
