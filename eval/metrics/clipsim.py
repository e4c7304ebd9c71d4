"""CLIPSIM: cosine of every frame's embedding with the caption's, mean over frames, then over prompts.

No scale and no clamp. Shapes: N samples, T frames, D dimensions of the embedding.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cogvideo.errors import UserError
from eval.metrics.averages import score_average
from eval.metrics.distance import first_of
from eval.metrics.features import by_id, checked
from eval.protocol import MetricSpec
from eval.registry import metrics
from eval.scoring import FeatureSet, Score, ScoreInput

Floats = NDArray[np.float64]


def clipsim(frames_NTD: ArrayLike, text_ND: ArrayLike) -> Floats:
    """CLIPSIM of every video, in -1..1.

    Shapes: (N, T, D) frame embeddings (or (N, D), one a video) and (N, D) text embeddings, of any length; they are
    brought to unit length in float64. Raises UserError for a zero embedding, ValueError if shapes do not fit.
    Source: Wu et al. 2021 (GODIVA), without its division by the real video's value; Blattmann et al. 2023, appendix.
    """
    videos, text = video_embeddings(frames_NTD), unit(text_ND, "text")
    if videos.shape != text.shape:
        raise ValueError(f"frames give {videos.shape} and text gives {text.shape}")
    return np.asarray((videos * text).sum(axis=1))


def video_embeddings(frames_NTD: ArrayLike) -> Floats:
    """Mean over frames of the unit frame embeddings: its product with a unit text is the mean cosine."""
    frames = unit(frames_NTD, "frame")
    return frames if frames.ndim == 2 else np.asarray(frames.mean(axis=1))


def unit(vectors: ArrayLike, name: str) -> Floats:
    """Vectors along the last axis at length one, float64. Raises UserError if one has length zero or is not finite."""
    values = np.asarray(vectors, dtype=np.float64)
    length = np.linalg.norm(values, axis=-1, keepdims=True)
    if not (np.isfinite(length) & (length > 0)).all():
        raise UserError(f"{name} embeddings must be finite and not zero; check the detector's weights")
    return np.asarray(values / length)


def captions_of(videos: FeatureSet, text: FeatureSet | None, metric_id: str) -> FeatureSet:
    """The caption embeddings in the videos' order. Raises UserError if a video has no caption."""
    if text is None:
        raise UserError(f"{metric_id} needs captions; this benchmark or detector gives none")
    known = set(text.ids)
    without = [name for name in videos.ids if name not in known]
    if without:
        raise UserError(
            f"{metric_id}: {len(without):,} of {len(videos):,} samples have no caption, e.g. {without[0]!r}"
        )
    return by_id(text, videos.ids)


@metrics.register(
    "clipsim",
    "Cosine of frames and caption (CLIP), mean over frames",
    direction="higher",
    label="CLIPSIM",
    decimals="4",
    needs="captions, CLIP",
)
def score(spec: MetricSpec, data: ScoreInput) -> Score:
    """CLIPSIM with per-sample and per-class values; held-out real videos with their captions stand beside it."""
    fake = first_of(checked(data.fake, "fake"), spec.n_fake)
    text = checked(captions_of(fake, data.fake_text, spec.id), "caption")
    values = clipsim(fake.values, text.values)
    floor, note = None, "no held-out real videos with captions"
    if data.heldout is not None and data.heldout_text is not None and len(data.heldout):
        real = first_of(checked(data.heldout, "held-out real"), len(fake))
        floor = float(clipsim(real.values, captions_of(real, data.heldout_text, spec.id).values).mean())
        note = f"{len(real):,} held-out real videos with their captions"
    details = {"frames": fake.values.shape[1] if fake.values.ndim == 3 else 1, "scale": "cosine, no scale, no clamp"}
    return score_average(values, fake, data, floor=floor, floor_note=note, details=details)
