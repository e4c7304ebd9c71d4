"""The image tokenizer among the checkpoints: which of the known ones a file holds, and the tokenizer in it."""

from __future__ import annotations

from pathlib import Path

import torch

from cogvideo.checkpoint.opening import known_tokenizer, open_checkpoint
from cogvideo.errors import UserError
from cogvideo.vqvae.config import IMAGE_TOKENIZERS, ImageTokenizerConfig
from cogvideo.vqvae.image_tokenizer import ImageTokenizer
from cogvideo.vqvae.loading import build_image_tokenizer


def image_tokenizer_at(
    path: Path | str,
    config: ImageTokenizerConfig | None = None,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
) -> ImageTokenizer:
    """The image tokenizer in a converted folder or in `ice_image.pt`, ready to encode and decode.

    `config` None takes the known one whose codebook and channels the file has. Tensors that it has no place for are
    left out. Raises UserError if it is another network, damaged, of no known size, or does not fit.
    """
    checkpoint = open_checkpoint(Path(path), "image-tokenizer")
    config = config or known_tokenizer(checkpoint.tensors.specs)
    if config is None:
        known = ", ".join(IMAGE_TOKENIZERS)
        raise UserError(f"{path} holds an image tokenizer of none of the known sizes ({known}); give its sizes")
    with torch.device("meta"):
        wanted = ImageTokenizer(config).state_dict()
    state = {name: checkpoint.tensors.read(name) for name in checkpoint.tensors.specs if name in wanted}
    return build_image_tokenizer(config, state, str(path)).to(device=device, dtype=dtype).eval()
