"""A whole video with random weights, phase by phase: what `generation.py --end-to-end` runs.

The text tokenizer is a stand-in, because its released model is a download; nothing else is.
"""

from __future__ import annotations

import argparse
import time

import torch
from decoding_sides import random_network
from roofline import peak_memory

from cogvideo.clusters import automatic_clusters
from cogvideo.config import ModelConfig
from cogvideo.pipeline import CogVideo, Networks
from cogvideo.prompting import CHINESE, Prompts
from cogvideo.settings import GenerationSettings
from cogvideo.vqvae import IMAGE_TOKENIZERS, ImageTokenizer


class WordCount:
    """One id for each word: texts of a chosen length."""

    def __init__(self, config: ModelConfig) -> None:
        self.id = config.num_image_tokens + 5

    def encode(self, text: str) -> list[int]:
        return [self.id] * len(text.split())


def run(config: ModelConfig, dtype: torch.dtype, options: argparse.Namespace) -> None:
    """Make `options.batch` videos once to warm up with one frame, then whole; print seconds of each phase."""
    device = options.device
    sizes = next(known for known in IMAGE_TOKENIZERS.values() if known.num_codes == config.num_image_tokens)
    networks = Networks(
        random_network(config, device, dtype, seed=0),
        random_network(config, device, dtype, seed=1),
        ImageTokenizer(sizes).eval().to(device),
        Prompts(WordCount(config), config, CHINESE),  # type: ignore[arg-type]
        automatic_clusters(config, max(1, config.num_image_tokens // 40)),
        superres=random_network(config, device, dtype, seed=2, kind="superres") if options.superres else None,
        is_random=True,
    )
    model = CogVideo(networks, device)
    settings = GenerationSettings(is_parallel=options.wavefront)
    # Duration, line break and suffix take three.
    prompt = " ".join(["x"] * min(options.text, config.max_text_len - 3))

    def make(frames: int) -> None:
        model.generate(
            [prompt], samples=options.batch, frames=frames, superres=bool(options.superres), settings=settings
        )
        if device != "cpu":
            torch.cuda.synchronize()

    make(1)
    wall, cpu = time.perf_counter(), time.process_time()
    make(options.frames)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(f"{options.batch} video(s) of {options.frames} frames, size {config.name}, {options.dtype}, on {device}")
    for phase, seconds in model.seconds.items():
        print(f"  {phase:18} {seconds:9.2f} s")
    print(f"  {'all':18} {wall:9.2f} s, {wall / options.batch:.2f} s a video; {cpu:.2f} s of CPU time")
    print(f"  {'peak memory':18} {peak_memory(device) / 1e9:9.2f} GB")
