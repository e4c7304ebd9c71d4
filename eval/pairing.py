"""The difference of one metric between two runs: paired on shared sample ids where the run folders allow it.

Three ways, the best that is possible is taken and named: influence values of features (distances), scores of single
samples (averages), or the two runs' own intervals taken as independent, which is wider and so never calls too much.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Protocol as Interface

from pydantic import Field

from cogvideo.errors import UserError
from eval.intervals import LEVEL, Difference, paired_mean_difference
from eval.protocol import MetricSpec, Protocol, protocol_from
from eval.records import (
    Manifest,
    MetricResult,
    Record,
    Result,
    SampleLine,
    read_manifest,
    read_record,
    read_result,
    read_samples,
    write_record,
)
from eval.scoring import FeatureSet, ScoreInput

REFERENCE_FILE = "reference.json"


class ReferenceRecord(Record):
    """Where a run's real features lie: "key:layer" -> folder of shards, and the clips in order."""

    folders: dict[str, str]
    ids: list[str]
    groups: list[str]
    labels: list[str] = Field(default_factory=list)


class _HasDifference(Interface):
    def __call__(self, spec: MetricSpec, first: ScoreInput, second: ScoreInput) -> Difference: ...


@dataclass(frozen=True)
class Run:
    """A finished run folder. `name` tells it from the others in one comparison."""

    path: Path
    name: str
    result: Result

    @property
    def manifest(self) -> Manifest | None:
        """The plan, or None where only `result.json` was kept."""
        return _manifest(self.path)

    @property
    def protocol(self) -> Protocol | None:
        """The protocol as it ran, or None where the manifest is gone or from a version that cannot be rebuilt."""
        manifest = self.manifest
        if manifest is None:
            return None
        try:
            return protocol_from(manifest.protocol)
        except TypeError:
            return None

    @property
    def samples(self) -> dict[str, SampleLine]:
        return _samples(self.path)

    def spec(self, metric_id: str) -> MetricSpec | None:
        protocol = self.protocol
        return next((s for s in protocol.metrics if s.id == metric_id), None) if protocol else None


def load_runs(paths: Sequence[Path]) -> list[Run]:
    """The results of run folders (or `result.json` files), in the order given, each folder once.

    Runs are called by their generator's title, or by their folder where two share one. Raises UserError with one line
    for a folder that holds no finished run.
    """
    found: dict[Path, Run] = {}
    for given in paths:
        path = given.parent if given.name == "result.json" else given
        if not path.is_dir():
            raise UserError(f"no run folder {path}; expected a folder like runs/ucf101/NAME-1a2b3c4d with result.json")
        if not (path / "result.json").exists():
            state = "an unfinished run: repeat its command to finish it" if (path / "manifest.json").exists() else ""
            raise UserError(f"{path} has no result.json; it is {state or 'not a run folder (see `cogeval ucf101`)'}")
        result = read_result(path)
        found.setdefault(path.resolve(), Run(path, result.generator.title or result.generator.spec, result))
    runs = list(found.values())
    titles = [run.name for run in runs]
    return [
        Run(run.path, f"{run.name} ({run.path.resolve().name})" if titles.count(run.name) > 1 else run.name, run.result)
        for run in runs
    ]


def write_reference(
    run: Path, folders: Mapping[str, Path], ids: Sequence[str], groups: Sequence[str], labels: Sequence[str] = ()
) -> None:
    """Note in a run where the features of its real clips are, so that `compare` can pair distances later."""
    places = {name: str(path) for name, path in folders.items()}
    record = ReferenceRecord(folders=places, ids=list(ids), groups=list(groups), labels=list(labels))
    write_record(run / REFERENCE_FILE, record)


def difference(first: Run, second: Run, a: MetricResult, b: MetricResult) -> tuple[Difference | None, str]:
    """First minus second with its interval, or None and the reason why none can be had.

    Both metrics must have one fingerprint. Paired ways use the ids that both runs have, so that a partial run is
    compared on what it has; a distance of two runs of different n is never taken unpaired, because it falls with n.
    """
    if a.fingerprint != b.fingerprint:
        raise ValueError(f"{a.id}: fingerprints {a.fingerprint} and {b.fingerprint} are not to be subtracted")
    if a.value is None or b.value is None:
        return None, "undefined in one of the runs"
    if _are_same_samples(first, second):
        found = _by_features(first, second, a) or _by_scores(first, second, a, b)
        if found is not None:
            return found, ""
    if a.interval is None or b.interval is None:
        return None, "n too small for an interval"
    if a.n_fake != b.n_fake and a.direction == "lower":
        return None, f"n differs ({a.n_fake:,} and {b.n_fake:,}) and a distance falls with n"
    return unpaired(a, b), ""


def unpaired(a: MetricResult, b: MetricResult) -> Difference:
    """The interval of a difference from the two intervals, each side's deviations added as squares.

    Source: Zou and Donner 2008 (square-and-add). It holds for independent runs and is too wide for paired ones.
    """
    assert a.value is not None
    assert b.value is not None
    assert a.interval is not None
    assert b.interval is not None
    sides = [(side.value, side.interval.low, side.interval.high) for side in (a, b)]  # type: ignore[union-attr]
    found = square_and_add(sides[0], sides[1], min(a.n_fake, b.n_fake))  # type: ignore[arg-type]
    return replace(found, level=min(a.interval.level, b.interval.level))


def square_and_add(a: tuple[float, float, float], b: tuple[float, float, float], n: int) -> Difference:
    """First minus second of two (value, low, high), their deviations added as squares. Source as in `unpaired`."""
    value = a[0] - b[0]
    down = math.hypot(max(a[0] - a[1], 0.0), max(b[2] - b[0], 0.0))
    up = math.hypot(max(a[2] - a[0], 0.0), max(b[0] - b[1], 0.0))
    method = "not paired: the two runs' own intervals, taken as independent"
    return Difference(value, value - down, value + up, n, LEVEL, method)


def _are_same_samples(first: Run, second: Run) -> bool:
    """Whether ids mean the same in both runs: no shared id has another label, or without labels another prompt."""
    a, b = first.samples, second.samples
    shared = a.keys() & b.keys()
    if len(shared) < 2:
        return False
    return all(a[i].label == b[i].label and (a[i].label or a[i].prompt == b[i].prompt) for i in shared)


def _by_scores(first: Run, second: Run, a: MetricResult, b: MetricResult) -> Difference | None:
    """For metrics that are means of scores of single samples: their mean in each run must be the run's value."""
    sides = []
    for run, metric in ((first, a), (second, b)):
        scores = {i: line.scores[metric.id] for i, line in run.samples.items() if line.ok and metric.id in line.scores}
        if len(scores) < 2 or abs(math.fsum(scores.values()) / len(scores) - (metric.value or 0.0)) > 1e-6:
            return None
        sides.append(scores)
    if len(sides[0].keys() & sides[1].keys()) < 2:
        return None
    return paired_mean_difference(sides[0], sides[1])


def _by_features(first: Run, second: Run, metric: MetricResult) -> Difference | None:
    """For distances whose metric knows its influence values, if the features of both runs and the real ones are there.

    What is missing (features thrown away, another machine's cache) is no error: the next way is tried.
    """
    spec_a, spec_b = first.spec(metric.id), second.spec(metric.id)
    if spec_a is None or spec_b is None or not (first.path / REFERENCE_FILE).exists():
        return None
    from eval.registry import metrics

    try:
        module = import_module(metrics.get(spec_a.metric).make.__module__)
        of_metric: _HasDifference | None = getattr(module, "difference", None)
        if of_metric is None:
            return None
        return of_metric(spec_a, _score_input(first, spec_a), _score_input(second, spec_b))
    except (UserError, OSError, KeyError):
        return None


def _score_input(run: Run, spec: MetricSpec) -> ScoreInput:
    from eval.features import ShardFolder, load_features

    name = f"{spec.feature_key}:{spec.layer}"
    reference = read_record(run.path / REFERENCE_FILE, ReferenceRecord)
    ids, values = ShardFolder(Path(reference.folders[name])).load(name)
    if ids != reference.ids:
        raise UserError(f"{run.path}: the real features in the cache are of other clips now")
    labels = tuple(reference.labels) or ("",) * len(ids)
    real = FeatureSet(tuple(ids), tuple(reference.groups), labels, values)
    return ScoreInput(fake=load_features(run.path, spec.feature_key, spec.layer), real=real)


@cache
def _manifest(path: Path) -> Manifest | None:
    return read_manifest(path) if (path / "manifest.json").exists() else None


@cache
def _samples(path: Path) -> dict[str, SampleLine]:
    return read_samples(path)
