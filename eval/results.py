"""From features on disk to the metrics of a run, each with interval and floor, and to what they may be compared with.

Shapes: N samples, D features, T frames.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cogvideo.errors import UserError
from cogvideo.weights import WeightFile
from eval.datasets.items import DataSet
from eval.features import Extractor, Need, RealFeatures, load_features, needs_of
from eval.influence import Influences
from eval.plan import Plan
from eval.protocol import MetricSpec, Protocol, metric_fingerprint, short_hash
from eval.records import (
    Counts,
    DataFacts,
    ExtrapolationRecord,
    IntervalRecord,
    MetricResult,
    SampleLine,
    WeightFacts,
)
from eval.registry import metrics
from eval.scoring import FeatureSet, Score, ScoreInput

NAMED_AT_MOST = 50
# Which clips are cut depends on names alone; a later way of choosing gets another number here.
SEED_OF_CHOICE = 0


@dataclass(frozen=True)
class Bench:
    """What all generators of one command share: the data, the plan, the networks and the real features."""

    data: DataSet
    plan: Plan
    protocol: Protocol
    files: Mapping[str, WeightFile]
    extractor: Extractor
    real: RealFeatures
    replicates: int = 200
    with_floor: bool = True

    def fingerprint(self, spec: MetricSpec) -> str:
        """The metric's fingerprint with the weights and the data list that are in use."""
        names = [spec.weights, spec.preprocess.subtract if spec.preprocess else ""]
        weights = "+".join(self.files[name].sha256 for name in names if name in self.files)
        return metric_fingerprint(
            self.protocol,
            spec,
            weights_sha256=weights,
            list_sha256=self.data.list_sha256,
            seed=SEED_OF_CHOICE,
        )

    def departed(self, departures: tuple[str, ...]) -> Bench:
        """The bench of a generator whose clips were made to fit the protocol in these ways."""
        return replace(self, protocol=self.protocol.departed(departures)) if departures else self

    @property
    def run_fingerprint(self) -> str:
        """One fingerprint for all metrics of the protocol together."""
        return short_hash([self.fingerprint(spec) for spec in self.protocol.metrics])


@dataclass(frozen=True)
class Scored:
    """Every metric of a run, the scores of single samples by their id, and by metric how much each sample moves it."""

    metrics: list[MetricResult]
    per_sample: dict[str, dict[str, float]]
    influences: dict[str, Influences]


def score_run(bench: Bench, run: Path, lines: Sequence[SampleLine], advance: Callable[[int], None]) -> Scored:
    """Every metric of the protocol on the finished samples of a run. Raises UserError where one cannot be had."""
    needs = {need.key: need for need in needs_of(bench.protocol)}
    captions = {request.id: text for request, text in zip(bench.plan.requests, bench.plan.captions, strict=True)}
    found = []
    per_sample: dict[str, dict[str, float]] = {}
    moved: dict[str, Influences] = {}
    for spec in bench.protocol.metrics:
        data = _score_input(bench, run, spec, needs.get(spec.feature_key), captions, lines)
        score: Score = metrics.get(spec.metric).make(spec, data)
        found.append(_metric_result(bench, spec, score))
        for sample_id, value in score.per_sample.items():
            per_sample.setdefault(sample_id, {})[spec.id] = value
        if score.influence is not None:
            moved[spec.id] = score.influence
        advance(1)
    return Scored(found, per_sample, moved)


def _score_input(
    bench: Bench,
    run: Path,
    spec: MetricSpec,
    need: Need | None,
    captions: Mapping[str, str],
    lines: Sequence[SampleLine],
) -> ScoreInput:
    if need is None:
        raise UserError(f"metric {spec.id} names no detector; this cogeval scores features alone")
    fake = load_features(run, need.key, spec.layer)
    wanted = [line.id for line in lines if line.ok][: spec.n_fake or bench.protocol.n_fake]
    fake = _take(fake, wanted)
    plan = bench.plan
    reference = plan.reference[: spec.n_real] if spec.n_real else plan.reference
    real = bench.real.load(plan.reference, need, spec.layer) if plan.reference else None
    if real is not None and len(reference) < len(real):
        real = _take(real, [clip.id for clip in reference])
    heldout = bench.real.load(plan.heldout, need, spec.layer) if plan.heldout and bench.with_floor else None
    texts = heldout_text = None
    if bench.extractor.reads_text(need):
        texts = _text(bench, need, wanted, [captions[i] for i in wanted])
        if heldout is not None:
            heldout_text = _text(bench, need, heldout.ids, [clip.caption or clip.label for clip in plan.heldout])
    return ScoreInput(
        fake=fake,
        real=real,
        heldout=heldout,
        fake_text=texts,
        heldout_text=heldout_text,
        replicates=bench.replicates,
        seed=SEED_OF_CHOICE,
    )


def _text(bench: Bench, need: Need, ids: Sequence[str], captions: Sequence[str]) -> FeatureSet:
    values = bench.extractor.encode_text(need, captions)
    return FeatureSet(tuple(ids), tuple(ids), tuple(captions), values)


def _take(features: FeatureSet, ids: Sequence[str]) -> FeatureSet:
    row = {name: index for index, name in enumerate(features.ids)}
    rows = [row[name] for name in ids]
    return replace(
        features,
        ids=tuple(ids),
        groups=tuple(features.groups[r] for r in rows),
        labels=tuple(features.labels[r] for r in rows),
        values=features.values[rows],
    )


def _metric_result(bench: Bench, spec: MetricSpec, score: Score) -> MetricResult:
    facts = metrics.get(spec.metric).facts
    file = bench.files.get(spec.weights)
    value = score.value if math.isfinite(score.value) else None
    note = "" if value is not None else (score.interval_note or "; ".join(score.warnings) or "undefined")
    interval, extrapolated = score.interval, score.extrapolated
    return MetricResult(
        id=spec.id,
        metric=spec.metric,
        label=str(score.details.get("shown", "")).capitalize() or facts.get("label", spec.metric),
        direction="higher" if facts.get("direction") == "higher" else "lower",
        decimals=int(facts.get("decimals", "2")),
        value=value,
        note=note,
        interval=IntervalRecord(**vars(interval)) if interval else None,
        interval_note=score.interval_note,
        floor=score.floor if score.floor is None or math.isfinite(score.floor) else None,
        floor_note=score.floor_note,
        extrapolated=ExtrapolationRecord(**{**vars(extrapolated), "points": list(extrapolated.points)})
        if extrapolated
        else None,
        n_fake=score.n_fake,
        n_real=score.n_real,
        fingerprint=bench.fingerprint(spec),
        weights=_weight_facts(file) if file else None,
        per_class=dict(score.per_class),
        details=dict(score.details),
        warnings=list(score.warnings),
    )


def _weight_facts(file: WeightFile) -> WeightFacts:
    return WeightFacts(
        name=file.name, sha256=file.sha256, origin=file.origin, is_verified=file.is_verified, licence=file.licence
    )


def count_samples(lines: Sequence[SampleLine], planned: int) -> Counts:
    """How many samples were made and rejected, and how many of each kind of rejection."""
    reasons = Counter(line.kind for line in lines if not line.ok)
    ok = sum(line.ok for line in lines)
    rejected = len(lines) - ok
    return Counts(planned=planned, made=len(lines), ok=ok, rejected=rejected, reasons=dict(sorted(reasons.items())))


def data_facts(data: DataSet, plan: Plan, split: str) -> DataFacts:
    """What was found of the data set; at most 50 names of each trouble, and all counts."""
    broken = [*data.broken, *plan.skipped]
    return DataFacts(
        name=data.name,
        title=data.name,
        root=data.root.name,
        list_sha256=data.list_sha256,
        n_items=len(data.items),
        n_reference=len(plan.reference),
        n_heldout=len(plan.heldout),
        split=split,
        n_missing=len(data.missing),
        n_extra=len(data.extra),
        n_broken=len(broken),
        missing=list(data.missing[:NAMED_AT_MOST]),
        extra=list(data.extra[:NAMED_AT_MOST]),
        broken=list(broken[:NAMED_AT_MOST]),
        notes=[*data.notes, *plan.notes],
    )


def why_not_comparable(
    bench: Bench, counts: Counts, *, dtype: str, files: Mapping[str, WeightFile], given: bool, own: Sequence[str] = ()
) -> list[str]:
    """Every reason why the numbers may not stand beside published ones; empty if there is none.

    `own` are the generator's.
    """
    protocol = bench.protocol
    reasons = list(own)
    if bench.real.reconstruction is not None:
        reasons += bench.real.reconstruction.not_comparable
    if protocol.embedded:
        reasons.append("embedded data and small networks made for it: no paper has numbers on this scale")
    elif not protocol.published:
        reasons.append(f"no paper reports numbers under {protocol.name}")
    reasons += [f"changed from the protocol: {change}" for change in protocol.changes]
    if counts.rejected:
        reasons.append(f"{counts.rejected:,} of {counts.planned:,} samples were rejected")
    if bench.data.missing and not protocol.embedded:
        reasons.append(f"{len(bench.data.missing):,} videos of the official list are missing")
    if bench.data.broken or bench.plan.skipped:
        reasons.append(f"{len(bench.data.broken) + len(bench.plan.skipped):,} real videos are broken or too short")
    for file in files.values():
        if not file.is_verified and file.origin == "added":
            reasons.append(f"weights {file.name} were added by hand and no public hash is known for them")
    if dtype != "float32":
        reasons.append(f"features in {dtype}, published ones are in float32")
    if given and not bench.plan.reference:
        reasons.append("no real clips to prime with")
    return list(dict.fromkeys(reasons))
