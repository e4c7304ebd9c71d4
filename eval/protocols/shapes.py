"""The embedded protocols: the same arithmetic on `shapes` with small networks. Comparable with nothing published."""

from __future__ import annotations

from dataclasses import replace

from eval.preprocess import RAW_255
from eval.protocol import ClipRule, MetricSpec, Preprocess, Protocol
from eval.protocols.parts import motion_distance, pixel_steadiness

SHAPES_PIXELS = Preprocess("shapes-64", geometry="none", scale="minus-one-one")

_VIDEO = {"detector": "i3d-shapes", "weights": "i3d-shapes", "layer": "logits", "preprocess": SHAPES_PIXELS}
_FRAME = {"detector": "frame-shapes", "weights": "frame-shapes", "layer": "pooled", "preprocess": SHAPES_PIXELS}
_TEXT = {"detector": "clip-shapes", "weights": "clip-shapes", "layer": "embedding", "preprocess": SHAPES_PIXELS}

FVD = MetricSpec(id="fvd/16f-shapes", metric="fvd", options=(("ddof", 1),), **_VIDEO)  # type: ignore[arg-type]
KVD = MetricSpec(id="kvd/16f-shapes", metric="kvd", **_VIDEO)  # type: ignore[arg-type]
# Coverage and not precision: the network sends all noise to one place, and that place lies inside a real ball.
COVERAGE = MetricSpec(
    id="coverage/16f-shapes",
    metric="precision-recall",
    options=(("k", 3), ("value", "coverage")),
    **_VIDEO,  # type: ignore[arg-type]
)
FID = MetricSpec(id="fid/shapes", metric="fid", options=(("frames", "pooled"), ("ddof", 1)), **_FRAME)  # type: ignore[arg-type]
KID = MetricSpec(id="kid/shapes", metric="kid", options=(("frames", "pooled"),), **_FRAME)  # type: ignore[arg-type]
IS = MetricSpec(
    id="is/1x320-shapes",
    metric="inception-score",
    detector="c3d-shapes",
    weights="c3d-shapes",
    layer="fc8",
    preprocess=SHAPES_PIXELS,
    options=(("splits", 1), ("runs", 1), ("eps", 1e-20)),
)
CLIPSIM = MetricSpec(id="clipsim/shapes", metric="clipsim", **_TEXT)  # type: ignore[arg-type]
R_PRECISION = MetricSpec(
    id="r-precision/8-shapes",
    metric="r-precision",
    options=(("candidates", 8),),
    **_TEXT,  # type: ignore[arg-type]
)
CONSISTENCY = MetricSpec(id="frame-consistency/shapes", metric="frame-consistency", **_TEXT)  # type: ignore[arg-type]

MOTION = motion_distance("16f-shapes", layer="whole", preprocess=RAW_255)
STEADINESS = pixel_steadiness("shapes")

UCF101_SHAPES = Protocol(
    name="ucf101-shapes",
    benchmark="ucf101",
    title="Embedded: 320 clips of 16 frames, 64 px, against 640 real ones",
    clip=ClipRule(frames=16, choice="first", size=(64, 64)),
    metrics=(FVD, KVD, IS, FID, CLIPSIM, COVERAGE),
    n_fake=320,
    n_real=None,
    split="train",
    heldout="test",
    embedded=True,
    playback_fps=8.0,
)

# The default: a model that generates on two cores is scored in three minutes, controls and all.
UCF101_SHAPES_128 = replace(
    UCF101_SHAPES,
    name="ucf101-shapes-128",
    title="Embedded: 128 clips of 16 frames, 64 px, against 640 real ones",
    metrics=tuple(replace(spec, id="is/1x128-shapes") if spec is IS else spec for spec in UCF101_SHAPES.metrics),
    n_fake=128,
)

SHAPES_PROTOCOLS: tuple[Protocol, ...] = (
    UCF101_SHAPES,
    UCF101_SHAPES_128,
    replace(
        UCF101_SHAPES,
        name="motion-shapes",
        title="Embedded: motion alone, 320 clips of 16 frames, 64 px, against 640 real ones",
        metrics=(MOTION, *STEADINESS, CONSISTENCY),
    ),
    replace(
        UCF101_SHAPES,
        name="kinetics600-shapes",
        benchmark="kinetics600",
        title="Embedded: 5 frames given, 11 made, 16 scored at 64 px",
        clip=replace(UCF101_SHAPES.clip, given=5),
        metrics=(FVD, KVD),
        split="test",
        heldout="",
        n_fake=0,
        prompts="one-per-item",
    ),
    replace(
        UCF101_SHAPES,
        name="prompts-shapes",
        benchmark="prompts",
        title="Embedded: text alignment of the small CLIP that knows shapes and colours",
        metrics=(CLIPSIM, R_PRECISION, CONSISTENCY),
        split="all",
        heldout="",
        n_fake=0,
        prompts="one-per-item",
    ),
)
