"""One metric on clean and on corrupted clips: values, and paired changes with their intervals.

Shapes: N clips, D features, T frames.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path

from cogvideo.errors import UserError
from eval.detectors.contract import Detector
from eval.features import Need, ShardFolder, needs_of
from eval.intervals import Difference, paired_mean_difference
from eval.pairing import square_and_add
from eval.protocol import MetricSpec, Protocol
from eval.records import IntervalRecord
from eval.registry import metrics
from eval.responses import Curve, MetricResponse, Point
from eval.results import SEED_OF_CHOICE, Bench
from eval.scoring import FeatureSet, Score, ScoreInput
from eval.sensitivity.corruptions import Corruption

# Metrics whose value is biased by about D / n, and means nothing where a covariance is singular.
DISTANCES = ("fvd", "fid", "motion-distance")
# Sums in another order differ in their last digits; that is no response.
ROUNDING = 1e-9


def needs_more_rows_than_features(spec: MetricSpec, network: Detector, protocol: Protocol) -> str:
    """Why a distance cannot be had at this number of clips, or ""."""
    if spec.metric not in DISTANCES:
        return ""
    width = network.layers[spec.layer]
    rows = protocol.n_fake * (protocol.clip.frames if network.is_frame_network else 1)
    if rows > width:
        return ""
    return f"needs more than its {width:,} features, there are {rows:,} rows; take more clips with --samples"


class Scorer:
    """Scores one run folder. Clips keep their ids and source groups under every corruption, so that changes pair."""

    def __init__(self, bench: Bench, run: Path, captions: Sequence[str]) -> None:
        self.bench, self.run, self.captions = bench, run, captions
        self.needs = {need.key: need for need in needs_of(bench.protocol)}

    def respond(
        self, spec: MetricSpec, corruptions: Sequence[Corruption], advance: Callable[[], None]
    ) -> MetricResponse:
        """The metric on the clips as they are, and its change under every corruption."""
        need = self.needs[spec.feature_key]
        facts = metrics.get(spec.metric).facts
        reference = self.bench.real.load(self.bench.plan.reference, need, spec.layer)
        as_is = self.bench.real.load(self.bench.plan.heldout, need, spec.layer)
        text = self._text(need, as_is)

        def given(clips: FeatureSet) -> ScoreInput:
            # No floor is asked for: the clean clips are the floor here.
            return ScoreInput(clips, reference, None, text, None, self.bench.replicates, SEED_OF_CHOICE)

        clean_input = given(as_is)
        clean: Score = metrics.get(spec.metric).make(spec, clean_input)
        advance()
        curves = []
        for corruption in corruptions:
            points = []
            for index, strength in enumerate(corruption.strengths):
                values = self._values(need, spec, as_is, corruption, index)
                point = Point(strength=strength, label=corruption.label(strength), value=None)
                points.append(self._point(spec, point, clean, clean_input, given(values)))
                advance()
            curves.append(Curve(corruption=corruption.name, points=points))
        return MetricResponse(
            id=spec.id,
            metric=spec.metric,
            label=str(clean.details.get("shown", "")).capitalize() or facts.get("label", spec.metric),
            direction="higher" if facts.get("direction") == "higher" else "lower",
            decimals=int(facts.get("decimals", "2")),
            clean=_finite(clean.value),
            clean_interval=_interval(clean),
            n_fake=clean.n_fake,
            n_real=clean.n_real,
            fingerprint=self.bench.fingerprint(spec),
            curves=curves,
            warnings=list(clean.warnings),
        )

    def _point(
        self, spec: MetricSpec, point: Point, clean: Score, clean_input: ScoreInput, corrupted_input: ScoreInput
    ) -> Point:
        """Value and change of one condition; where the metric refuses these clips, its reason."""
        try:
            score: Score = metrics.get(spec.metric).make(spec, corrupted_input)
            change = self._change(spec, corrupted_input, clean_input, score, clean)
        except UserError as error:
            return point.model_copy(update={"note": str(error)})
        found = {"value": _finite(score.value), "interval": _interval(score)}
        if change is None:
            return point.model_copy(update={**found, "note": "no interval, so no change is called"})
        if abs(change.value) <= ROUNDING * max(abs(score.value), abs(clean.value)):
            zero = {"change": 0.0, "low": 0.0, "high": 0.0, "method": change.method}
            return point.model_copy(update={**found, **zero})
        moved = {"change": change.value, "low": change.low, "high": change.high, "method": change.method}
        return point.model_copy(update={**found, **moved})

    def _change(self, spec: MetricSpec, first: ScoreInput, second: ScoreInput, a: Score, b: Score) -> Difference | None:
        """Corrupted minus clean, paired by clip wherever the metric allows it."""
        module = import_module(metrics.get(spec.metric).make.__module__)
        if hasattr(module, "difference"):
            found: Difference = module.difference(spec, first, second)
            return found if math.isfinite(found.value) else None
        if a.per_sample and b.per_sample:
            groups = dict(zip(first.fake.ids, first.fake.groups, strict=True))
            return paired_mean_difference(a.per_sample, b.per_sample, groups=groups, seed=SEED_OF_CHOICE)
        if a.interval is None or b.interval is None or not math.isfinite(a.value - b.value):
            return None
        return square_and_add(
            (a.value, a.interval.low, a.interval.high), (b.value, b.interval.low, b.interval.high), a.n_fake
        )

    def _values(
        self, need: Need, spec: MetricSpec, as_is: FeatureSet, corruption: Corruption, index: int
    ) -> FeatureSet:
        ids, values = ShardFolder(self.run / "features" / f"{corruption.name}-{index}").load(f"{need.key}:{spec.layer}")
        if tuple(ids) != as_is.ids:
            raise UserError(f"{self.run} holds features of other clips; use --on-existing redo")
        return FeatureSet(as_is.ids, as_is.groups, as_is.labels, values)

    def _text(self, need: Need, clips: FeatureSet) -> FeatureSet | None:
        if not any(self.captions) or not self.bench.extractor.reads_text(need):
            return None
        values = self.bench.extractor.encode_text(need, self.captions)
        return FeatureSet(clips.ids, clips.ids, tuple(self.captions), values)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _interval(score: Score) -> IntervalRecord | None:
    return IntervalRecord(**vars(score.interval)) if score.interval else None
