"""Protocols of `cogeval kinetics600`: frame prediction, 5 real frames given, all 16 scored."""

from __future__ import annotations

from dataclasses import replace

from eval.protocol import ClipRule, Protocol
from eval.protocols.parts import fvd, kvd

VDM = Protocol(
    name="vdm-5to16f-50000",
    benchmark="kinetics600",
    title="Frame prediction: 5 frames given, 11 made, 16 scored at 64 px; the condition's clip is its reference",
    clip=ClipRule(frames=16, choice="random", size=(64, 64), given=5),
    metrics=(fvd("vdm-5to16f-50000"), kvd("vdm-5to16f-50000")),
    n_fake=50000,
    n_real=50000,
    split="test",
    prompts="one-per-item",
    published="FVD at 64 px on 50,000 test clips without replacement, 5 frames given",
    source="arXiv 2204.03458, section 4.2",
)

KINETICS_PROTOCOLS: tuple[Protocol, ...] = (
    VDM,
    replace(
        VDM,
        name="vdm-5to16f-validation",
        title="As vdm-5to16f-50000 on every clip of the validation list",
        metrics=(fvd("vdm-5to16f-validation"), kvd("vdm-5to16f-validation")),
        split="val",
        n_fake=0,
        n_real=None,
        published="",
    ),
    replace(
        VDM,
        name="cogvideo-kinetics600",
        title="CogVideo's frame prediction: class name as text, centre crop, 64 px",
        metrics=(fvd("cogvideo-kinetics600"),),
        published="class name as text (settings recalled, not read in the paper)",
        published_reconstructed="class name as text, ground truth through the image tokenizer (settings recalled)",
        source="arXiv 2205.15868, read second-hand",
    ),
)
