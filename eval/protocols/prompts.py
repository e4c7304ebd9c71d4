"""Protocols of `cogeval prompts FILE`: text alignment, and distances where the file names reference videos."""

from __future__ import annotations

from eval.protocol import ClipRule, Protocol
from eval.protocols.parts import clip_alignment, frame_fid, fvd, video_text

PROMPT_PROTOCOLS: tuple[Protocol, ...] = (
    Protocol(
        name="prompts-16f",
        benchmark="prompts",
        title="CLIPSIM over 16 frames, one caption a video",
        clip=ClipRule(frames=16, choice="first"),
        metrics=clip_alignment(),
        n_fake=0,
        n_real=None,
        split="all",
        prompts="one-per-item",
        published="CLIPSIM with ViT-B/32, 16 frames (MSR-VTT test: 2,990 videos, one random caption each)",
        source="arXiv 2304.08818, appendix; arXiv 2309.15103",
    ),
    Protocol(
        name="prompts-viclip-16f",
        benchmark="prompts",
        title="Alignment of whole clips: ViCLIP on 8 of 16 frames, one caption a video",
        clip=ClipRule(frames=16, choice="first"),
        metrics=video_text(),
        n_fake=0,
        n_real=None,
        split="all",
        prompts="one-per-item",
        source="VBench, overall consistency, on 16 frames in place of whole videos",
    ),
    Protocol(
        name="prompts-16f-reference",
        benchmark="prompts",
        title="CLIPSIM, FVD and FID against the videos that the prompt file names",
        clip=ClipRule(frames=16, choice="first", size=(256, 256)),
        metrics=(*clip_alignment(), fvd("prompts-16f-reference"), *frame_fid()),
        n_fake=0,
        n_real=None,
        split="all",
        prompts="one-per-item",
        source="MSR-VTT as in arXiv 2304.08818; resolution and crop are ours",
    ),
)
