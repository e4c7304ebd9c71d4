"""What `cogeval sensitivity` writes: how metrics respond to graded corruptions of real clips, and how that is read.

No torch. A response is the change of a value from the clean clips to the corrupted ones, on the same clips.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from eval.records import SCHEMA_VERSION, Choice, DataFacts, IntervalRecord, Record, read_record

FILE = "sensitivity.json"
# A response is called from 1.7 half-widths of its 95 % interval on, 3.3 standard errors: chance alone calls one cell of
# a thousand, where the 95 % interval by itself would call four in each of these tables.
BEYOND = 1.7

Kind = Literal["punished", "rewarded", "unseen", "unknown"]


class Point(Record):
    """One strength: the value, and its change against the clean clips with the 95 % interval of that change."""

    strength: float
    label: str
    value: float | None
    interval: IntervalRecord | None = None
    change: float | None = None
    low: float | None = None
    high: float | None = None
    method: str = ""
    note: str = ""


class Curve(Record):
    corruption: str
    points: list[Point]


class MetricResponse(Record):
    """One metric over all corruptions. `clean` is its value on the clips as they are."""

    id: str
    metric: str
    label: str
    direction: Literal["lower", "higher"]
    decimals: int
    clean: float | None
    clean_interval: IntervalRecord | None = None
    n_fake: int
    n_real: int | None = None
    fingerprint: str
    curves: list[Curve]
    warnings: list[str] = Field(default_factory=list)


class CorruptionFacts(Record):
    """`breaks`: what is damaged, single pictures, their course in time, or both. `labels`: strengths in words."""

    name: str
    title: str
    summary: str
    breaks: Literal["picture", "time", "both"]
    labels: list[str]


class LeftOut(Record):
    id: str
    reason: str


class Sensitivity(Record):
    """The whole of `sensitivity.json`."""

    schema_version: int = SCHEMA_VERSION
    title: str
    protocol_name: str
    protocol: dict[str, Any]
    is_embedded: bool
    fingerprint: str
    seed: int
    data: DataFacts
    n_clips: int
    n_reference: int
    n_sources: int
    corruptions: list[CorruptionFacts]
    metrics: list[MetricResponse]
    left_out: list[LeftOut] = Field(default_factory=list)
    notes: list[str] = Field(default_factory=list)
    licences: dict[str, str] = Field(default_factory=dict)
    settings: list[Choice] = Field(default_factory=list)
    timing: dict[str, float] = Field(default_factory=dict)
    environment: dict[str, str] = Field(default_factory=dict)
    created: str = ""


@dataclass(frozen=True)
class Reading:
    """What a metric makes of a corruption: `since` is the weakest strength from which on it always does."""

    kind: Kind
    since: str = ""


def read_sensitivity(run: Path) -> Sensitivity:
    """The record of a run folder. Raises UserError if it is absent, damaged or of a newer schema."""
    return read_record(run / FILE, Sensitivity)


def harm(metric: MetricResponse, point: Point) -> tuple[float, float, float] | None:
    """(change, low, high) turned so that above zero is worse; None where the metric has no value."""
    if point.change is None or point.low is None or point.high is None:
        return None
    if metric.direction == "lower":
        return point.change, point.low, point.high
    return -point.change, -point.high, -point.low


def reading(metric: MetricResponse, curve: Curve) -> Reading:
    """Punished or rewarded from some strength on up to the strongest, or unseen; unknown where there is no value."""
    called = [_called(metric, point) for point in curve.points]
    if not called or called[-1] == "unknown":
        return Reading("unknown")
    last = called[-1]
    if last == "unseen":
        return Reading("unseen")
    first = len(called) - 1
    while first > 0 and called[first - 1] == last:
        first -= 1
    return Reading(last, curve.points[first].label)


def _called(metric: MetricResponse, point: Point) -> Kind:
    found = harm(metric, point)
    if found is None:
        return "unknown"
    change, low, high = found
    if change - BEYOND * (change - low) > 0:
        return "punished"
    return "rewarded" if change + BEYOND * (high - change) < 0 else "unseen"


def share(metric: MetricResponse, curve: Curve) -> float | None:
    """Harm at the strongest corruption over the metric's largest response to any strength of any; in -1..1."""
    largest = largest_response(metric)
    found = harm(metric, curve.points[-1]) if curve.points else None
    if found is None or not largest:
        return 0.0 if found is not None and largest == 0 else None
    return found[0] / largest


def largest_response(metric: MetricResponse) -> float:
    """The largest change without its sign, 0 if nothing changes."""
    changes = (abs(found[0]) for curve in metric.curves for point in curve.points if (found := harm(metric, point)))
    return max(changes, default=0.0)


def in_words(metric: MetricResponse, corruptions: Sequence[CorruptionFacts]) -> str:
    """One plain sentence: what of time it punishes, what it rewards, what it does not see."""
    titles = {facts.name: facts.title.lower() for facts in corruptions}
    breaks = {facts.name: facts.breaks for facts in corruptions}
    found = {curve.corruption: reading(metric, curve) for curve in metric.curves}
    of_time = [name for name in found if breaks.get(name) == "time"]
    seen = [f"{titles[name]} from {found[name].since}" for name in of_time if found[name].kind == "punished"]
    rewarded = [titles[name] for name in found if found[name].kind == "rewarded"]
    missed = [titles[name] for name in of_time if found[name].kind == "unseen"]
    parts = [f"punishes {_joined(seen)}" if seen else ""]
    parts += [f"rewards {_joined(rewarded)}" if rewarded else "", f"does not see {_joined(missed)}" if missed else ""]
    words = [part for part in parts if part]
    return "; ".join(words) if words else "no corruption of time was tried"


def sees_motion(metric: MetricResponse, corruptions: Sequence[CorruptionFacts]) -> Literal["yes", "partly", "no"]:
    """Whether every corruption of time alone is punished at its strongest, some are, or none."""
    of_time = {facts.name for facts in corruptions if facts.breaks == "time"}
    kinds = [reading(metric, curve).kind for curve in metric.curves if curve.corruption in of_time]
    if kinds and all(kind == "punished" for kind in kinds):
        return "yes"
    return "partly" if "punished" in kinds else "no"


def _joined(words: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))
