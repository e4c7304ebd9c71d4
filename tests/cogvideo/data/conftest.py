"""Videos whose frames carry their number as a grey level, and tokenizers that give that number back as image token."""

from __future__ import annotations

from types import SimpleNamespace

import av
import numpy as np
import pytest
import torch

from cogvideo.config import ModelConfig, get_size
from cogvideo.prompting import ENGLISH, Prompts
from cogvideo.tokenizer import load_tokenizer


def grey_video(path, frames, *, rate=8, size=(64, 64), step=4, codec="ffv1", pixel_format="bgr0", **options):
    """`frames` frames of one grey level each, level = number * step, written with PyAV alone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=rate, options=options)
        stream.width, stream.height, stream.pix_fmt = size[1], size[0], pixel_format
        for number in range(frames):
            picture = np.full((*size, 3), number * step % 256, np.uint8)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format=pixel_format)))
        out.mux(stream.encode())
    return path


@pytest.fixture(scope="session")
def write_grey():
    return grey_video


class GreyTokenizer:
    """An image tokenizer whose ids are the grey levels of the cells: what was read shows in the records."""

    num_tokens = 1024

    def __init__(self):
        self.quantize = SimpleNamespace(embed=SimpleNamespace(weight=torch.zeros(1024, 1)))
        self.config = SimpleNamespace(name="grey", level=lambda rate: 0)
        self.batches = []

    def state_dict(self):
        return {"quantize.embed.weight": self.quantize.embed.weight}

    def encode(self, frames_B3HW, rate=8):
        self.batches.append(len(frames_B3HW))
        means_BRC = frames_B3HW.mul(255).mean(1).unflatten(1, (-1, rate)).unflatten(3, (-1, rate)).mean((2, 4))
        return means_BRC.round().long().flatten(1)


@pytest.fixture
def grey_tokenizer():
    return GreyTokenizer()


@pytest.fixture(scope="session")
def tiny() -> ModelConfig:
    return get_size("tiny")


@pytest.fixture(scope="session")
def prompts(tiny):
    return Prompts(load_tokenizer(tiny, None), tiny, ENGLISH)
