"""Metric specifications that several protocols share, so that a variant is written down once."""

from __future__ import annotations

from eval.preprocess import (
    C3D_TGAN2,
    CLIP_VIT_B_32,
    I3D_DIRECT,
    I3D_SHORT224_CROP,
    I3D_TF1,
    INCEPTION_PYTORCH_FID,
    RAW_255,
    TRACKS_128,
    VICLIP,
    VIDEOMAE_DIRECT,
)
from eval.protocol import MetricSpec, Options, Preprocess

EPS_TATS: Options = (("bn_eps", 1e-5),)


def fvd(variant: str, *, preprocess: Preprocess = I3D_DIRECT, ddof: int = 1, n_fake: int | None = None) -> MetricSpec:
    """FVD on the 400 logits of the converted TF-Hub I3D, batch-norm eps 1e-5."""
    return MetricSpec(
        id=f"fvd/{variant}",
        metric="fvd",
        detector="i3d",
        weights="i3d-tats",
        layer="logits",
        preprocess=preprocess,
        detector_options=EPS_TATS,
        options=(("ddof", ddof),),
        n_fake=n_fake,
    )


def kvd(variant: str, *, preprocess: Preprocess = I3D_DIRECT) -> MetricSpec:
    return MetricSpec(
        id=f"kvd/{variant}",
        metric="kvd",
        detector="i3d",
        weights="i3d-tats",
        layer="logits",
        preprocess=preprocess,
        detector_options=EPS_TATS,
    )


def fvd_styleganv(variant: str) -> MetricSpec:
    """The TorchScript network rescales and resizes by itself; covariance with divisor N."""
    return MetricSpec(
        id=f"fvd/{variant}",
        metric="fvd",
        detector="i3d-torchscript",
        weights="i3d-styleganv-torchscript",
        layer="logits",
        preprocess=RAW_255,
        options=(("ddof", 0),),
    )


def inception_score_tgan2(runs: int, per_run: int) -> MetricSpec:
    """TGANv2's estimator: no splits, mean over runs of independent samples, eps 1e-20 added to p."""
    return MetricSpec(
        id=f"is/tgan2-{runs}x{per_run}",
        metric="inception-score",
        detector="c3d",
        weights="c3d-tgan2",
        layer="fc8",
        preprocess=C3D_TGAN2,
        options=(("splits", 1), ("runs", runs), ("eps", 1e-20)),
        n_fake=runs * per_run,
    )


def inception_score_styleganv() -> MetricSpec:
    """StyleGAN-V's estimator: one run of 2,048 shuffled by RandomState(42) and cut into 10 splits."""
    return MetricSpec(
        id="is/styleganv-2048x10",
        metric="inception-score",
        detector="c3d-torchscript",
        weights="c3d-styleganv-torchscript",
        layer="logits",
        preprocess=RAW_255,
        options=(("splits", 10), ("shuffle", 42)),
        n_fake=2048,
    )


def frame_fid() -> tuple[MetricSpec, ...]:
    """FID and KID of all frames pooled, through pytorch-fid's network; n counts clips."""
    shared = {"detector": "inception", "weights": "inception-fid", "layer": "2048", "preprocess": INCEPTION_PYTORCH_FID}
    return (
        MetricSpec(id="fid/tf-compat", metric="fid", options=(("frames", "pooled"), ("ddof", 1)), **shared),  # type: ignore[arg-type]
        MetricSpec(id="kid/tf-compat", metric="kid", options=(("frames", "pooled"),), **shared),  # type: ignore[arg-type]
    )


def clip_alignment(*, candidates: int = 100) -> tuple[MetricSpec, ...]:
    """CLIPSIM and R-precision with OpenAI's ViT-B/32 (QuickGELU), one caption a video."""
    shared = {
        "detector": "clip",
        "weights": "clip-vit-b-32",
        "layer": "embedding",
        "preprocess": CLIP_VIT_B_32,
        "detector_options": (("model", "ViT-B-32-quickgelu"),),
    }
    return (
        MetricSpec(id="clipsim/vit-b-32", metric="clipsim", **shared),  # type: ignore[arg-type]
        MetricSpec(
            id=f"r-precision/vit-b-32-{candidates}",
            metric="r-precision",
            options=(("candidates", candidates),),
            **shared,  # type: ignore[arg-type]
        ),
        MetricSpec(id="frame-consistency/vit-b-32", metric="frame-consistency", **shared),  # type: ignore[arg-type]
    )


def fvd_videomae(variant: str) -> MetricSpec:
    """Content-debiased FVD: mean tokens of VideoMAE v2 (SSv2), pixels in 0..1, covariance with divisor N."""
    return MetricSpec(
        id=f"fvd-videomae/{variant}",
        metric="fvd",
        detector="videomae",
        weights="videomae-v2-g-ssv2",
        layer="pooled",
        preprocess=VIDEOMAE_DIRECT,
        options=(("ddof", 0),),
    )


def pixel_steadiness(variant: str) -> tuple[MetricSpec, ...]:
    """Flickering and smoothness of the pixels as they are scored; no network."""
    shared = {"detector": "changes", "preprocess": RAW_255}
    return (
        MetricSpec(id=f"temporal-flickering/{variant}", metric="temporal-flickering", layer="neighbours", **shared),  # type: ignore[arg-type]
        MetricSpec(id=f"motion-smoothness/{variant}", metric="motion-smoothness", layer="deviation", **shared),  # type: ignore[arg-type]
    )


def motion_distance(variant: str, *, layer: str = "cells", preprocess: Preprocess = TRACKS_128) -> MetricSpec:
    """Motion distance on FVMD's 1,024 cells, or on 64 numbers of the whole frame for sets of some hundred clips."""
    return MetricSpec(
        id=f"motion-distance/{variant}",
        metric="motion-distance",
        detector="tracks",
        layer=layer,
        preprocess=preprocess,
        options=(("ddof", 1),),
    )


def video_text(*, candidates: int = 100) -> tuple[MetricSpec, ...]:
    """Video-text similarity and R-precision with ViCLIP on 8 frames, pixels as VBench prepares them."""
    shared = {"detector": "viclip", "weights": "viclip-internvid-10m-flt", "layer": "embedding", "preprocess": VICLIP}
    return (
        MetricSpec(id="video-text/viclip-8f", metric="video-text", **shared),  # type: ignore[arg-type]
        MetricSpec(
            id=f"r-precision/viclip-8f-{candidates}",
            metric="r-precision",
            options=(("candidates", candidates),),
            **shared,  # type: ignore[arg-type]
        ),
    )


def precision_recall(variant: str) -> tuple[MetricSpec, ...]:
    """k-nearest-neighbour precision and recall on the logits, k = 3; each result carries density and coverage too."""
    return tuple(
        MetricSpec(
            id=f"{value}/{variant}",
            metric="precision-recall",
            detector="i3d",
            weights="i3d-tats",
            layer="logits",
            preprocess=I3D_DIRECT,
            detector_options=EPS_TATS,
            options=(("k", 3), ("value", value)),
        )
        for value in ("precision", "recall")
    )


__all__ = [
    "I3D_DIRECT",
    "I3D_SHORT224_CROP",
    "I3D_TF1",
    "clip_alignment",
    "frame_fid",
    "fvd",
    "fvd_styleganv",
    "fvd_videomae",
    "inception_score_styleganv",
    "inception_score_tgan2",
    "kvd",
    "motion_distance",
    "pixel_steadiness",
    "precision_recall",
    "video_text",
]
