"""What tells image tokenizers apart whose ids mean different things: a hash of the tensors that decide the ids."""

from __future__ import annotations

import hashlib

import torch

from cogvideo.vqvae.image_tokenizer import ImageTokenizer

# The decoders can be trained on without any id changing.
DECIDING = ("enc.", "down_samplers.", "quantize.proj.", "quantize.embed.")


def image_fingerprint(tokenizer: ImageTokenizer) -> str:
    """sha256 over names, shapes and values in float32: the same for one set of weights in any file and on any device.

    Weights rounded to half precision are others than those that they were rounded from.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(tokenizer.state_dict().items()):
        if name.startswith(DECIDING):
            digest.update(f"{name} {tuple(tensor.shape)}\n".encode())
            digest.update(tensor.detach().to("cpu", torch.float32).contiguous().numpy().tobytes())
    return digest.hexdigest()
