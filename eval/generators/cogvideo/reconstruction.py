"""Clips through the image tokenizer and back: the ground truth of CogVideo's double-starred rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eval.generators.cogvideo.sources import RANDOM_WEIGHTS, Source, tensors_sha256
from eval.generators.contract import Clip, Reconstruction

if TYPE_CHECKING:
    import torch

HASH_DIGITS = 16


def reconstruction_of(source: Source, device: torch.device, *, superres: bool) -> Reconstruction:
    """Encode and decode at the size of the model's frames: the centre of a clip, its short side resized to them.

    The large networks are not loaded. `superres` takes the frames' size after super-resolution.
    """
    import torch

    from cogvideo.vqvae import clip_to_frames, frames_to_clip

    config = source.config
    rate = config.compress_rate
    pixels = config.superres_pixels if superres else config.frame_pixels
    tokenizer = source.image_tokenizer()
    # Before it moves: on a GPU the values would be the same, and slower to read.
    sha256 = tensors_sha256(tokenizer)
    tokenizer.to(device)

    @torch.no_grad()
    def apply(clip_THWC: Clip) -> Clip:
        ids_TF = tokenizer.encode(clip_to_frames(clip_THWC, pixels), rate)
        clip: Clip = frames_to_clip(tokenizer.decode(ids_TF, rate))
        return clip

    identity = f"image tokenizer {sha256[:HASH_DIGITS]} at {pixels} px, compress rate {rate}"
    return Reconstruction(identity, pixels, apply, (RANDOM_WEIGHTS,) if source.is_random else ())
