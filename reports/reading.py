"""A run folder as pages need it: result, protocol, plan, samples, its comparison, and what is not there, in words."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from cogvideo.errors import UserError
from eval.comparison_record import ComparisonRecord, read_comparison
from eval.protocol import Protocol, protocol_from
from eval.records import Manifest, MetricResult, Result, SampleLine, read_manifest, read_result, read_samples


@dataclass(frozen=True)
class RunRecords:
    """`missing` says in sentences what a full run folder has and this one has not."""

    folder: Path
    result: Result
    manifest: Manifest | None
    protocol: Protocol | None
    samples: tuple[SampleLine, ...]
    comparison: ComparisonRecord | None
    missing: tuple[str, ...]

    @property
    def name(self) -> str:
        """The folder's name, which tells runs apart."""
        return self.folder.resolve().name


def read_run(run: Path) -> RunRecords:
    """Everything that a run folder (or its `result.json`) records. Numbers that are not finite become undefined ones.

    Raises UserError if the folder holds no finished run, or a record of it is damaged or newer than this cogeval.
    """
    folder = run.parent if run.name == "result.json" else run
    if not folder.is_dir():
        raise UserError(f"no run folder {folder}; expected a folder like runs/ucf101/NAME-1a2b3c4d with result.json")
    if not (folder / "result.json").exists():
        is_begun = (folder / "manifest.json").exists()
        state = "an unfinished run: repeat its command to finish it" if is_begun else "no run folder"
        raise UserError(f"{folder} has no result.json: it is {state}")
    result = finite(read_result(folder))
    missing = []
    manifest = read_manifest(folder) if (folder / "manifest.json").exists() else None
    if manifest is None:
        missing.append("manifest.json is not in the folder: the protocol and the plan of this run are not known.")
    samples = tuple(read_samples(folder).values())
    if not samples:
        missing.append("samples.jsonl is not in the folder: no sample can be shown.")
    return RunRecords(folder, result, manifest, _protocol(manifest), samples, read_comparison(folder), tuple(missing))


def _protocol(manifest: Manifest | None) -> Protocol | None:
    """The protocol as it ran, or None where a later or earlier version wrote one that cannot be rebuilt."""
    if manifest is None:
        return None
    try:
        return protocol_from(manifest.protocol)
    except (TypeError, AttributeError):
        return None


def finite(result: Result) -> Result:
    """The result without NaN and infinities: what they stood for is undefined, and says so."""
    metrics = [_finite_metric(metric) for metric in result.metrics]
    if all(new is old for new, old in zip(metrics, result.metrics, strict=True)):
        return result
    return result.model_copy(update={"metrics": metrics})


def _finite_metric(metric: MetricResult) -> MetricResult:
    changes: dict[str, object] = {}
    if _is_bad(metric.value):
        changes["value"], changes["note"] = None, metric.note or f"the record holds {metric.value}"
    if metric.interval and (_is_bad(metric.interval.low) or _is_bad(metric.interval.high)):
        changes["interval"], changes["interval_note"] = None, "the record holds an end that is not finite"
    if _is_bad(metric.floor):
        changes["floor"], changes["floor_note"] = None, f"the record holds {metric.floor}"
    line = metric.extrapolated
    if line and any(_is_bad(v) for v in (line.value, line.low, line.high, *(v for _, v in line.points))):
        changes["extrapolated"] = None
    if any(_is_bad(v) for v in metric.per_class.values()):
        changes["per_class"] = {name: v for name, v in metric.per_class.items() if not _is_bad(v)}
    return metric.model_copy(update=changes) if changes else metric


def _is_bad(value: float | None) -> bool:
    return value is not None and not math.isfinite(value)
