"""Protocols of `cogeval ucf101`: FVD in every variant in use, with the estimator of IS that goes with it."""

from __future__ import annotations

from dataclasses import replace

from eval.protocol import ClipRule, Protocol
from eval.protocols.parts import (
    I3D_SHORT224_CROP,
    I3D_TF1,
    clip_alignment,
    frame_fid,
    fvd,
    fvd_styleganv,
    inception_score_styleganv,
    inception_score_tgan2,
    kvd,
    precision_recall,
)

CLIP_128 = ClipRule(frames=16, choice="random", size=(128, 128))
CLIP_256 = replace(CLIP_128, size=(256, 256))

TATS = Protocol(
    name="tats-16f-2048",
    benchmark="ucf101",
    title="TATS: 16 frames, 128 px, 2,048 clips, UCF-101 train",
    clip=CLIP_128,
    metrics=(
        fvd("tats-16f-2048"),
        kvd("tats-16f-2048"),
        inception_score_tgan2(1, 2048),
        *frame_fid(),
        *clip_alignment(),
        *precision_recall("tats-16f-2048"),
    ),
    n_fake=2048,
    n_real=2048,
    split="train",
    heldout="test",
    published="trained on UCF-101 train, 128 px, 16 frames, 2,048 samples",
    source="SongweiGe/TATS: tats/fvd; VideoGPT",
)

UCF101_PROTOCOLS: tuple[Protocol, ...] = (
    TATS,
    replace(
        TATS,
        name="tgan2-10x2048",
        title="TGANv2: Inception Score, ten runs of 2,048 clips",
        metrics=(inception_score_tgan2(10, 2048),),
        n_fake=20480,
        published="Inception Score with C3D fine-tuned on UCF-101, 10 x 2,048",
        source="pfnet-research/tgan2: evaluations/inception_score.py",
    ),
    Protocol(
        name="styleganv-16f-2048",
        benchmark="ucf101",
        title="StyleGAN-V fvd2048_16f and isv2048_ucf: 16 frames, 256 px",
        clip=CLIP_256,
        metrics=(fvd_styleganv("styleganv-16f-2048"), inception_score_styleganv()),
        n_fake=2048,
        n_real=2048,
        split="train+test",
        published="trained on UCF-101 train+test, 256 px, 16 frames, 2,048 samples, StyleGAN-V code",
        source="universome/stylegan-v: src/metrics",
    ),
    Protocol(
        name="styleganv-128f-2048",
        benchmark="ucf101",
        title="StyleGAN-V fvd2048_128f: 128 frames, 256 px",
        clip=replace(CLIP_256, frames=128),
        metrics=(fvd_styleganv("styleganv-128f-2048"),),
        n_fake=2048,
        n_real=2048,
        split="train+test",
        published="trained on UCF-101 train+test, 256 px, 128 frames, 2,048 samples, StyleGAN-V code",
        source="universome/stylegan-v: src/metrics",
    ),
    Protocol(
        name="styleganv-16f-stride8-2048",
        benchmark="ucf101",
        title="StyleGAN-V fvd2048_128f_subsample8f: 16 frames at stride 8, 256 px",
        clip=replace(CLIP_256, stride=8),
        metrics=(fvd_styleganv("styleganv-16f-stride8-2048"),),
        n_fake=2048,
        n_real=2048,
        split="train+test",
        published="trained on UCF-101 train+test, 256 px, 16 frames at stride 8, StyleGAN-V code",
        source="universome/stylegan-v: src/metrics",
    ),
    replace(
        TATS,
        name="videogpt-16f-2048",
        title="VideoGPT as copied in common metrics: short side to 224, centre crop",
        metrics=(fvd("videogpt-16f-2048", preprocess=I3D_SHORT224_CROP),),
        published="",
        source="JunyaoHu/common_metrics_on_video_quality: fvd/videogpt",
    ),
    replace(
        TATS,
        name="tf1-16f-2048",
        title="The first FVD code: TF1 resize grid without half-pixel centres",
        metrics=(fvd("tf1-16f-2048", preprocess=I3D_TF1),),
        published="",
        source="google-research/google-research: frechet_video_distance",
    ),
    replace(
        TATS,
        name="cdfvd-16f-2048",
        title="cd-fvd 0.1.1 with I3D: covariance with divisor N, every real clip",
        metrics=(fvd("cdfvd-16f-2048", ddof=0),),
        n_real=None,
        published="",
        source="songweige/content-debiased-fvd",
    ),
    Protocol(
        name="cogvideo-2022",
        benchmark="ucf101",
        title="CogVideo's evaluation: FVD on 2,048 clips, Inception Score on 10,000",
        clip=CLIP_128,
        metrics=(fvd("cogvideo-2022", n_fake=2048), inception_score_tgan2(1, 10000)),
        n_fake=10000,
        n_real=2048,
        split="train+test",
        published="fine-tuned on UCF-101, class label as text",
        published_reconstructed="fine-tuned on UCF-101, class label as text, ground truth through the image tokenizer",
        source="arXiv 2205.15868, read second-hand; following DIGAN",
    ),
    Protocol(
        name="magvit-16f-10000",
        benchmark="ucf101",
        title="MAGVIT: 10,000 clips, 128 px, UCF-101 train",
        clip=CLIP_128,
        metrics=(fvd("magvit-16f-10000"), inception_score_tgan2(1, 10000)),
        n_fake=10000,
        n_real=None,
        split="train",
        heldout="test",
        published="trained on UCF-101 train, 128 px, 16 frames, 10,000 samples (MAGVIT repeats this 4 times)",
        source="arXiv 2212.05199, appendix B.3",
    ),
)
