"""Invented results and run folders. Model A's numbers are those of the design's terminal sketch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from eval.protocol import ClipRule, MetricSpec, Protocol, jsonable
from eval.records import (
    Counts,
    DataFacts,
    GeneratorFacts,
    IntervalRecord,
    Manifest,
    MetricResult,
    PlannedSample,
    Result,
    SampleLine,
    WeightFacts,
    append_lines,
    write_record,
)

NETWORKS = {"fvd": "i3d-tats", "inception-score": "c3d-tgan2", "clipsim": "clip-vit-b-32", "fid": "inception-fid"}
PROTOCOL = Protocol(
    name="tats-16f-2048",
    benchmark="ucf101",
    title="16 frames, 128 px",
    clip=ClipRule(frames=16, size=(128, 128)),
    metrics=(
        MetricSpec(id="fvd/tats-16f-2048", metric="fvd", detector="i3d", weights="i3d-tats", layer="logits"),
        MetricSpec(id="clipsim/vit-b-32", metric="clipsim", detector="clip", weights="clip-vit-b-32"),
    ),
    n_fake=2048,
    n_real=2048,
    split="train",
    published="trained on UCF-101 train, 128 px, 16 frames, 2,048 samples",
)


def metric(
    label: str,
    value: float | None,
    low: float | None = None,
    high: float | None = None,
    *,
    kind: str = "fvd",
    floor: float | None = None,
    n: int = 2048,
    **more: Any,
) -> MetricResult:
    """One metric; direction and digits follow from the kind unless they are given."""
    higher = kind in ("inception-score", "clipsim", "r-precision")
    decimals = {"inception-score": 2, "clipsim": 4}.get(kind, 1)
    return MetricResult(
        **{
            "id": f"{label.lower()}/tats-16f-2048",
            "metric": kind,
            "label": label,
            "direction": "higher" if higher else "lower",
            "decimals": decimals,
            "value": value,
            "interval": None if low is None else IntervalRecord(low=low, high=high, level=0.95, method="invented"),
            "floor": floor,
            "n_fake": n,
            "n_real": n,
            "fingerprint": "b41e09d7",
            "weights": WeightFacts(
                name=NETWORKS.get(kind, "i3d-tats"), sha256="77aa" * 16, origin="fetched", is_verified=True
            ),
            **more,
        }
    )


def sketch_metrics() -> list[MetricResult]:
    return [
        metric("FVD", 412.6, 398.1, 428.0, floor=61.8),
        metric("KVD", 33.9, 30.2, 37.8, kind="kvd", floor=0.4),
        metric("IS", 46.21, 45.38, 47.02, kind="inception-score", n=20480),
        metric("CLIPSIM", 0.2931, 0.2912, 0.2950, kind="clipsim"),
    ]


def result(metrics: Sequence[MetricResult] | None = None, **more: Any) -> Result:
    """The sketch's Model A unless something else is given."""
    return Result(
        **{
            "status": "complete",
            "comparable": True,
            "benchmark": "ucf101",
            "benchmark_title": "UCF-101",
            "protocol_name": "tats-16f-2048",
            "fingerprint": "b41e09d7",
            "generator": GeneratorFacts(spec="diffusers:model-a", title="Model A"),
            "seed": 0,
            "counts": Counts(planned=2048, made=2048, ok=2048, rejected=0),
            "data": DataFacts(
                name="ucf101",
                title="UCF-101",
                root="UCF-101",
                list_sha256="77aa" * 16,
                n_items=9537,
                n_reference=2048,
                split="train",
            ),
            "clip": {"frames": 16, "size": [128, 128]},
            "metrics": sketch_metrics() if metrics is None else list(metrics),
            "warnings": [
                "Generated in bfloat16: on 64 check clips the features differ from float32 by 0.2 % at most.",
                "FVD still falls with n: 439 at 1,024, 412.6 at 2,048, 391 extrapolated.",
            ],
            "timing": {"total": 4320.0},
            **more,
        }
    )


def write_run(
    folder: Path,
    found: Result,
    *,
    protocol: Protocol | None = PROTOCOL,
    scores: Mapping[str, Sequence[float]] | None = None,
    label: str = "Archery",
    prompts: Sequence[str] = (),
) -> Path:
    """A run folder: result, manifest (unless `protocol` is None), and a sample line for each score."""
    folder.mkdir(parents=True)
    n = max((len(values) for values in (scores or {}).values()), default=0) or len(prompts)
    prompts = list(prompts) or ["someone shoots an arrow"] * n
    if protocol is not None:
        planned = [PlannedSample(id=f"{i:05d}", index=i, prompt=prompts[i], label=label, seed=i) for i in range(n)]
        write_record(
            folder / "manifest.json",
            Manifest(
                benchmark=found.benchmark,
                protocol_name=found.protocol_name,
                protocol=jsonable(protocol),
                fingerprint=found.fingerprint,
                generator=found.generator,
                seed=found.seed,
                data=found.data,
                planned=planned,
            ),
        )
    lines = [
        SampleLine(
            id=f"{i:05d}",
            index=i,
            prompt=prompts[i],
            label=label,
            seed=i,
            file=f"samples/{i:05d}.mp4",
            ok=True,
            scores={name: values[i] for name, values in (scores or {}).items()},
        )
        for i in range(n)
    ]
    if lines:
        append_lines(folder / "samples.jsonl", lines)
    write_record(folder / "result.json", found)
    return folder


def model(title: str, value: float, half: float, **more: Any) -> Result:
    """A model with one FVD and a symmetric interval."""
    keys = {"fingerprint", "n", "id", "floor", "extrapolated", "warnings", "kind"}
    of_metric = {name: more.pop(name) for name in keys & more.keys()}
    found = metric("FVD", value, value - half, value + half, **of_metric)
    facts = GeneratorFacts(spec=f"folder:{title}", title=title)
    return result([found], generator=facts, warnings=[], **more)


def other_frames(frames: int) -> Protocol:
    return replace(PROTOCOL, name=f"tats-{frames}f-2048", clip=replace(PROTOCOL.clip, frames=frames))
