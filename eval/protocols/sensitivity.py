"""Protocols of `cogeval sensitivity`: real clips against real clips, before and after each corruption."""

from __future__ import annotations

from dataclasses import replace

from eval.protocol import ClipRule, Protocol
from eval.protocols.parts import (
    clip_alignment,
    frame_fid,
    fvd,
    fvd_videomae,
    inception_score_tgan2,
    motion_distance,
    pixel_steadiness,
    video_text,
)
from eval.protocols.shapes import (
    CLIPSIM,
    CONSISTENCY,
    COVERAGE,
    FID,
    FVD,
    IS,
    KVD,
    MOTION,
    R_PRECISION,
    STEADINESS,
    UCF101_SHAPES,
)

SENSITIVITY_PROTOCOLS: tuple[Protocol, ...] = (
    Protocol(
        name="sensitivity-16f",
        benchmark="sensitivity",
        title="Responses on your own clips: metrics without a network, and every published network that is here",
        clip=ClipRule(frames=16, choice="first", size=(128, 128), per_video=16),
        metrics=(
            fvd("sensitivity-16f"),
            fvd_videomae("sensitivity-16f"),
            inception_score_tgan2(1, 2048),
            frame_fid()[0],
            *clip_alignment(),
            *video_text(),
            motion_distance("whole-16f", layer="whole"),
            *pixel_steadiness("16f"),
        ),
        n_fake=2048,
        n_real=2048,
        split="train",
        heldout="test",
        source="corruptions as in arXiv 2404.12391 and others; kinds and strengths are ours",
    ),
    replace(
        UCF101_SHAPES,
        name="sensitivity-shapes",
        benchmark="sensitivity",
        title="Embedded: responses on 96 drawn clips of 16 frames, 64 px, against 320 others",
        metrics=(FVD, KVD, COVERAGE, IS, FID, CLIPSIM, R_PRECISION, CONSISTENCY, MOTION, *STEADINESS),
        n_fake=96,
        n_real=320,
    ),
)
