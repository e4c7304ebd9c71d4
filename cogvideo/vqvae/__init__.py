"""The image tokenizer: frames to image tokens and back. Its modules are imported when a name is asked for.

tokenizer = load_image_tokenizer(path); ids_BN = tokenizer.encode(clip_to_frames(clip_THWC, 160), rate=8)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cogvideo.vqvae.config import IMAGE_TOKENIZERS, ImageTokenizerConfig, StackConfig
    from cogvideo.vqvae.frames import clip_to_frames, frames_to_clip
    from cogvideo.vqvae.image_tokenizer import ImageTokenizer
    from cogvideo.vqvae.loading import build_image_tokenizer, load_image_tokenizer

__all__ = [
    "IMAGE_TOKENIZERS",
    "ImageTokenizer",
    "ImageTokenizerConfig",
    "StackConfig",
    "build_image_tokenizer",
    "clip_to_frames",
    "frames_to_clip",
    "load_image_tokenizer",
]

_ROOMS = {
    "config": ("IMAGE_TOKENIZERS", "ImageTokenizerConfig", "StackConfig"),
    "frames": ("clip_to_frames", "frames_to_clip"),
    "image_tokenizer": ("ImageTokenizer",),
    "loading": ("build_image_tokenizer", "load_image_tokenizer"),
}


def __getattr__(name: str) -> object:
    for room, names in _ROOMS.items():
        if name in names:
            return getattr(import_module(f"cogvideo.vqvae.{room}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
