"""A checkpoint of either form, opened: what it is, its sizes, and its tensors one by one."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import torch

from cogvideo.checkpoint.cards import Card, Part, config_of
from cogvideo.checkpoint.native import is_native, open_native
from cogvideo.checkpoint.pickles import open_pickle
from cogvideo.checkpoint.released import LATEST, RANK_FILE, find_released, is_released, open_released
from cogvideo.checkpoint.sizes import NETWORK_KIND, WORDS, read_sizes, require_part, require_size
from cogvideo.checkpoint.tensors import Spec, TensorFiles, check_fit, some
from cogvideo.config import ModelConfig
from cogvideo.errors import UserError
from cogvideo.network import Kind, Network
from cogvideo.vqvae.config import IMAGE_TOKENIZERS, ImageTokenizerConfig
from cogvideo.vqvae.image_tokenizer import ImageTokenizer

Notify = Callable[[str], None]


@dataclass(frozen=True)
class Checkpoint:
    """An opened checkpoint. `config` is None for the image tokenizer, `card` for a released checkpoint.

    `window_size` is the release's setting: -1 for whole frames, None where it is not said.
    """

    path: Path
    part: Part
    config: ModelConfig | None
    window_size: int | None
    iteration: str
    tensors: TensorFiles
    card: Card | None = None

    @property
    def kind(self) -> Kind:
        """The kind of network that the tensors are for. Raises UserError for the image tokenizer."""
        if self.part not in NETWORK_KIND:
            raise UserError(f"{self.path} holds the image tokenizer, expected a transformer")
        return cast(Kind, NETWORK_KIND[self.part])

    @property
    def dtype(self) -> torch.dtype:
        """The type of the word embeddings; of the image tokenizer, the type of most numbers."""
        specs = self.tensors.specs
        if WORDS in specs:
            return specs[WORDS].dtype
        counts: dict[torch.dtype, int] = {}
        for spec in specs.values():
            counts[spec.dtype] = counts.get(spec.dtype, 0) + spec.numel
        return max(counts, key=lambda dtype: counts[dtype])

    @property
    def size_name(self) -> str:
        """The name of its size in the table of networks or of image tokenizers; "" if it is in none."""
        found = self.config or known_tokenizer(self.tensors.specs)
        return found.name if found else ""

    def used_names(self) -> tuple[list[str], list[str]]:
        """Names of the tensors that the network has, and of those that it does not.

        Of an image tokenizer of no known size, all are taken. Raises UserError that names what is missing or misshapen.
        """
        if self.config is not None:
            names = network_shapes(self.config, self.kind)
        elif tokenizer := known_tokenizer(self.tensors.specs):
            names = tokenizer_shapes(tokenizer)
        else:
            return list(self.tensors.specs), []
        unexpected = check_fit(self.tensors.specs, names, f"{self.path} ({self.part})")
        return list(names), unexpected


def open_checkpoint(path: Path, part: str | None = None, expect: ModelConfig | None = None) -> Checkpoint:
    """Open a folder of converted weights, a released folder, or a pickled file of the image tokenizer.

    `part` is the kind that is wanted ("video" for either stage). Raises UserError if it is not there, damaged, of
    another kind or stage, or of another size than `expect`.
    """
    path = Path(path)
    if is_native(path):
        return _open_native(path, part, expect)
    if path.is_file():
        if is_archive(path):
            raise UserError(f"{path} is an archive: run `cogeval convert {path} DEST` and give DEST, or unpack it")
        if RANK_FILE.fullmatch(path.name):
            raise UserError(f"{path} is one file of a released folder: give the folder that holds `{LATEST}`")
        tensors = open_pickle(path)
        sizes = read_sizes({}, tensors.shapes, str(path), part, expect)
        return Checkpoint(path, sizes.part, sizes.config, sizes.window_size, "", tensors)
    if is_released(path):
        found = find_released(path)
        tensors = open_released(found)
        sizes = read_sizes(found.settings, tensors.shapes, str(path), part, expect)
        return Checkpoint(path, sizes.part, sizes.config, sizes.window_size, found.iteration, tensors)
    if not path.exists():
        raise UserError(f"there is no checkpoint at {path}; `cogeval weights list` shows what can be fetched")
    seen = some(sorted(file.name for file in path.iterdir()), 6) or "nothing"
    raise UserError(f"{path} is no checkpoint: expected `{LATEST}` (as released) or card.json (converted), saw {seen}")


def is_archive(path: Path) -> bool:
    """Whether a file is a zip of a folder; PyTorch's own files are zips too, with a pickle inside."""
    if path.suffix.lower() == ".zip":
        return True
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.rpartition("/")[2] == LATEST for name in archive.namelist())
    except (zipfile.BadZipFile, OSError, ValueError):
        return False


@lru_cache(maxsize=8)
def _network_shapes(config: ModelConfig, kind: Kind) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        network = Network(config, kind)
    return {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}


def network_shapes(config: ModelConfig, kind: Kind) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a network's tensors; no memory is taken for them."""
    return dict(_network_shapes(config, kind))


def _open_native(path: Path, part: str | None, expect: ModelConfig | None) -> Checkpoint:
    card, tensors = open_native(path)
    require_part(card.kind, part, str(path))
    config: Any = None
    if card.kind != "image-tokenizer":
        config = config_of(card.sizes, path)
        if expect is not None:
            require_size(config.layout(), expect, card.kind, str(path))
            config = expect
    return Checkpoint(path, card.kind, config, card.window_size, card.iteration, tensors, card)


def known_tokenizer(specs: Mapping[str, Spec]) -> ImageTokenizerConfig | None:
    """The row of the table of image tokenizers with this codebook and these channels; None if there is none."""
    codes, first = specs.get("quantize.embed.weight"), specs.get("enc.conv_in.weight")
    if codes is None or first is None:
        return None
    found = (codes.shape, first.shape[:1])
    rows = IMAGE_TOKENIZERS.values()
    return next((row for row in rows if found == ((row.num_codes, row.code_dim), (row.first_channels,))), None)


def tokenizer_shapes(config: ImageTokenizerConfig) -> dict[str, tuple[int, ...]]:
    """Names and shapes of an image tokenizer's tensors; no memory is taken for them."""
    with torch.device("meta"):
        return {name: tuple(tensor.shape) for name, tensor in ImageTokenizer(config).state_dict().items()}
