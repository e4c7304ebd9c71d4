"""Video-text similarity: cosine of one embedding of the whole clip with its caption's, from a video-text network.

CLIPSIM asks every frame by itself whether it fits the caption; this asks the clip, so that motion in words can count.
VBench calls it overall consistency, with ViCLIP on 8 frames. Shapes: N samples, D dimensions of the embedding.
"""

from __future__ import annotations

from cogvideo.errors import UserError
from eval.metrics.averages import score_average
from eval.metrics.clipsim import captions_of, clipsim
from eval.metrics.distance import first_of
from eval.metrics.features import checked
from eval.protocol import MetricSpec
from eval.registry import metrics
from eval.scoring import FeatureSet, Score, ScoreInput


@metrics.register(
    "video-text",
    "Cosine of the whole clip and its caption (ViCLIP), VBench's overall consistency",
    direction="higher",
    label="Video-text",
    decimals="4",
    needs="captions, a video-text network",
)
def score(spec: MetricSpec, data: ScoreInput) -> Score:
    """Video-text similarity per sample and class; held-out real videos with their captions stand beside it.

    Raises UserError if the detector embeds frames and not clips, or captions are missing.
    """
    fake = _clips(first_of(checked(data.fake, "fake"), spec.n_fake), spec)
    text = checked(captions_of(fake, data.fake_text, spec.id), "caption")
    values = clipsim(fake.values, text.values)
    floor, note = None, "no held-out real videos with captions"
    if data.heldout is not None and data.heldout_text is not None and len(data.heldout):
        real = _clips(first_of(checked(data.heldout, "held-out real"), len(fake)), spec)
        floor = float(clipsim(real.values, captions_of(real, data.heldout_text, spec.id).values).mean())
        note = f"{len(real):,} held-out real videos with their captions"
    details = {"scale": "cosine, no scale, no clamp"}
    return score_average(values, fake, data, floor=floor, floor_note=note, details=details)


def _clips(features: FeatureSet, spec: MetricSpec) -> FeatureSet:
    if features.values.ndim != 2:
        raise UserError(
            f"{spec.id} needs one embedding a clip (N, D), got {features.values.shape}:"
            f" {spec.detector or 'its detector'} embeds frames, whose metric is clipsim"
        )
    return features
