"""Runs side by side: grouped by fingerprint, ordered only inside a group, differences called only where they show.

Two values of different fingerprints are never put in one order; what differs between them is named instead.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

from cogvideo.errors import UserError
from eval.comparison_record import (
    COMPARISON_FILE,
    ComparedMetric,
    ComparedPair,
    ComparedRun,
    ComparisonRecord,
)
from eval.intervals import Difference
from eval.notation import interval, number
from eval.pairing import Run, difference, load_runs
from eval.protocol import jsonable
from eval.records import MetricResult, write_record
from eval.registry import did_you_mean

DESCRIBING = frozenset(
    {"name", "title", "source", "published", "published_reconstructed", "changes", "metrics", "embedded"}
)
SHOWN_FIELDS = 6
MORE_DIGITS = 4
NO_DIFFERENCE = "No difference found"


@dataclass(frozen=True)
class Pair:
    """`first` minus `second` (numbers of runs). `difference` is None where none can be had; `note` says why."""

    first: int
    second: int
    difference: Difference | None
    note: str = ""

    @property
    def reading(self) -> Literal["lower", "higher", "none", "unknown"]:
        """What may be said of the first: it is lower, higher, no difference was found, or nothing can be said."""
        if self.difference is None:
            return "unknown"
        if not self.difference.differs:
            return "none"
        return "lower" if self.difference.high < 0 else "higher"


@dataclass(frozen=True)
class Group:
    """All values of one metric under one fingerprint: the only thing that is ever put in order.

    `members` maps the number of a run to its value. `ranks` is the range of places that the pairs allow each;
    `leading` are those that cannot be told apart from the best.
    """

    id: str
    metric: str
    label: str
    direction: Literal["lower", "higher"]
    decimals: int
    fingerprint: str
    members: Mapping[int, MetricResult]
    pairs: tuple[Pair, ...]
    ranks: Mapping[int, tuple[int, int]]
    leading: frozenset[int]

    def order(self) -> list[int]:
        """Runs from best to worst value; undefined values last; ties in the order given."""
        sign = 1 if self.direction == "lower" else -1
        return sorted(
            self.members,
            key=lambda i: (self.members[i].value is None, sign * (self.members[i].value or 0.0), i),
        )


@dataclass(frozen=True)
class Split:
    """One metric whose runs fall into several fingerprints, and the fields in which these differ."""

    label: str
    sides: tuple[tuple[str, str, tuple[int, ...]], ...]
    differing: tuple[str, ...]

    def sentence(self, runs: Sequence[Run]) -> str:
        """Everything in one line, with the runs by name."""
        parts = [f"{_names(runs, who)} ({metric_id}, {fingerprint})" for metric_id, fingerprint, who in self.sides]
        shown = list(self.differing[:SHOWN_FIELDS])
        if len(self.differing) > SHOWN_FIELDS:
            shown.append(f"{len(self.differing) - SHOWN_FIELDS} more fields")
        what = "; ".join(shown) or "a field that the runs' manifests do not hold"
        return f"{self.label} of {' and '.join(parts)} are not ranked together: they differ in {what}"


@dataclass(frozen=True)
class Comparison:
    """What `compare` found. `baseline` is the number of the run that the others are held against, if one was named."""

    runs: tuple[Run, ...]
    groups: tuple[Group, ...]
    splits: tuple[Split, ...]
    baseline: int | None = None
    regressions: tuple[tuple[int, str], ...] = field(default=())


def compare_runs(
    paths: Sequence[Path], *, metric: str = "", baseline: Path | None = None, is_strict: bool = False
) -> Comparison:
    """Load, group and compare run folders.

    `metric` (an id, a label or a name) keeps one metric and asks for one ranking of it; `is_strict` asks for one
    ranking of every metric. Raises UserError if that would rank two fingerprints together, if the metric is in no
    run, or if a run cannot be held against the baseline at all.
    """
    runs = load_runs([*paths, *([baseline] if baseline else [])])
    base = next((i for i, run in enumerate(runs) if baseline and _is_same(run.path, baseline)), None)
    keys = _selected(runs, metric)
    groups = tuple(_group(runs, key, members) for key, members in keys.items())
    splits = tuple(_splits(runs, keys))
    if splits and (metric or is_strict):
        hint = "name runs of one protocol, or leave out " + ("--strict" if is_strict else "--metric")
        raise UserError(f"{splits[0].sentence(runs)}; {hint} to see them apart")
    if base is not None:
        _need_baseline(runs, base, groups, metric)
    return Comparison(tuple(runs), groups, splits, base, tuple(_regressions(runs, groups, base)))


def _is_same(path: Path, other: Path) -> bool:
    other = other.parent if other.name == "result.json" else other
    return path.resolve() == other.resolve()


Members = dict[int, MetricResult]


def _selected(runs: Sequence[Run], metric: str) -> dict[tuple[str, str], Members]:
    """(id, fingerprint) -> run -> value, in the order of the first run that has it."""
    keys: dict[tuple[str, str], Members] = {}
    for i, run in enumerate(runs):
        for found in run.result.metrics:
            if not metric or metric.lower() in (found.id.lower(), found.label.lower(), found.metric.lower()):
                keys.setdefault((found.id, found.fingerprint), {})[i] = found
    if not keys:
        known = sorted({name for run in runs for m in run.result.metrics for name in (m.id, m.metric)})
        raise UserError(
            f"no run has metric {metric!r}{did_you_mean(metric, known)}" if metric else "no run has a metric"
        )
    return keys


def _group(runs: Sequence[Run], key: tuple[str, str], members: Members) -> Group:
    first = next(iter(members.values()))
    pairs = tuple(
        Pair(a, b, *difference(runs[a], runs[b], members[a], members[b])) for a, b in combinations(members, 2)
    )
    ranks, leading = rank(members, pairs, first.direction)
    return Group(
        key[0], first.metric, first.label, first.direction, first.decimals, key[1], members, pairs, ranks, leading
    )


def rank(
    members: Mapping[int, MetricResult], pairs: Iterable[Pair], direction: str
) -> tuple[dict[int, tuple[int, int]], frozenset[int]]:
    """The places that each run may have, and who cannot be told apart from the best value.

    A run is behind another only if their difference was called; without a call both may have either's place.
    """
    valued = [i for i, m in members.items() if m.value is not None]
    if not valued:
        return {}, frozenset()
    ahead: set[tuple[int, int]] = set()
    for pair in pairs:
        if pair.reading in ("lower", "higher"):
            first_is_better = pair.reading == direction
            ahead.add((pair.first, pair.second) if first_is_better else (pair.second, pair.first))
    ranks = {
        i: (1 + sum((j, i) in ahead for j in valued), len(valued) - sum((i, j) in ahead for j in valued))
        for i in valued
    }
    sign = 1 if direction == "lower" else -1
    best = min(valued, key=lambda i: sign * (members[i].value or 0.0))
    return ranks, frozenset(i for i in valued if i == best or (best, i) not in ahead)


def _splits(runs: Sequence[Run], keys: Mapping[tuple[str, str], Members]) -> list[Split]:
    """Metrics of one id with several fingerprints, then metrics of one kind that some runs do not share at all."""
    found: list[Split] = []
    by_id: dict[str, list[tuple[str, str]]] = {}
    by_kind: dict[str, list[tuple[str, str]]] = {}
    for key, members in keys.items():
        by_id.setdefault(key[0], []).append(key)
        by_kind.setdefault(next(iter(members.values())).metric, []).append(key)
    found += [_split(runs, keys, of_id) for of_id in by_id.values() if len(of_id) > 1]
    for of_kind in by_kind.values():
        having = {i for key in of_kind for i in keys[key]}
        is_shared = any(set(keys[key]) == having for key in of_kind)
        is_told = any(len(by_id[key[0]]) > 1 for key in of_kind)
        if len(of_kind) > 1 and not is_shared and not is_told:
            found.append(_split(runs, keys, of_kind))
    return found


def _split(runs: Sequence[Run], keys: Mapping[tuple[str, str], Members], of: Sequence[tuple[str, str]]) -> Split:
    sides = tuple((key[0], key[1], tuple(keys[key])) for key in of)
    described = [_described(runs[next(iter(keys[key]))], keys[key]) for key in of]
    differing = []
    for name in dict.fromkeys(name for fields in described for name in fields):
        values = [fields.get(name, "not recorded") for fields in described]
        if len(set(values)) > 1:
            differing.append(f"{name} ({' | '.join(values)})")
    return Split(next(iter(keys[of[0]].values())).label, sides, tuple(differing))


def _described(run: Run, members: Members) -> dict[str, str]:
    """Every field that enters the metric's fingerprint, by a readable name."""
    metric = next(iter(members.values()))
    fields: dict[str, str] = {}
    if (protocol := run.protocol) is not None:
        spec = run.spec(metric.id)
        values = {name: value for name, value in jsonable(protocol).items() if name not in DESCRIBING}
        values["metric"] = {name: value for name, value in jsonable(spec).items() if name != "id"} if spec else {}
        fields = dict(_flat(values))
    else:
        fields["protocol"] = run.result.protocol_name
    if metric.weights:
        fields["weights"] = f"{metric.weights.name} sha256 {metric.weights.sha256[:12]}"
    data = run.result.data
    fields["data list"] = f"{data.name} {data.split} sha256 {data.list_sha256[:12]}".replace("  ", " ")
    return fields


def _flat(value: Any, name: str = "") -> list[tuple[str, str]]:
    if isinstance(value, dict):
        return [pair for key, part in value.items() for pair in _flat(part, f"{name}.{key}" if name else str(key))]
    if isinstance(value, list | tuple) and value and all(isinstance(p, list | tuple) and len(p) == 2 for p in value):
        return [pair for key, part in value for pair in _flat(part, f"{name}.{key}")]
    return [(name, "x".join(map(str, value)) or "none" if isinstance(value, list | tuple) else str(value))]


def _need_baseline(runs: Sequence[Run], base: int, groups: Sequence[Group], metric: str) -> None:
    """A run that shares nothing with the baseline would pass every check in silence: refuse it."""
    for i, run in enumerate(runs):
        if i != base and not any(i in group.members and base in group.members for group in groups):
            what = f"metric {metric}" if metric else "no metric"
            shares = f"does not share {what}" if metric else f"shares {what}"
            raise UserError(
                f"{run.path} {shares} of one fingerprint with the baseline {runs[base].path};"
                " run both under the same protocol, data and weights"
            )


def _regressions(runs: Sequence[Run], groups: Iterable[Group], base: int | None) -> list[tuple[int, str]]:
    """(run, metric id) of every value that is worse than the baseline's, and of every one that was lost."""
    found = []
    for group in groups:
        if base is None or base not in group.members:
            continue
        if group.members[base].value is not None:
            having = {i for i, run in enumerate(runs) for m in run.result.metrics if m.id == group.id}
            lost = [i for i in range(len(runs)) if i not in having]
            lost += [i for i, m in group.members.items() if m.value is None]
            found += [(i, group.id) for i in sorted(lost)]
        for pair in group.pairs:
            if base not in (pair.first, pair.second) or pair.reading in ("none", "unknown"):
                continue
            other = pair.second if pair.first == base else pair.first
            first_is_better = pair.reading == group.direction
            if (pair.first == base) == first_is_better:
                found.append((other, group.id))
    return found


def pairs_to_show(comparison: Comparison, group: Group) -> list[Pair]:
    """All pairs, or with a baseline those with it, turned so that they read "run minus baseline"."""
    base = comparison.baseline
    if base is None:
        return list(group.pairs)
    return [_turned(p) if p.first == base else p for p in group.pairs if base in (p.first, p.second)]


def _turned(pair: Pair) -> Pair:
    d = pair.difference
    if d is not None:
        d = Difference(-d.value, -d.high, -d.low, d.n, d.level, d.method)
    return Pair(pair.second, pair.first, d, pair.note)


def reading_words(comparison: Comparison, group: Group, pair: Pair) -> str:
    """`Model B is lower than Model A`, `No difference found`, or why nothing can be said."""
    if pair.difference is None:
        return f"cannot be compared: {pair.note}"
    if pair.reading == "none":
        return NO_DIFFERENCE
    first, second = comparison.runs[pair.first].name, comparison.runs[pair.second].name
    which = "better" if pair.reading == group.direction else "worse"
    return f"{first} is {pair.reading} than {second} ({which})"


def difference_words(group: Group, pair: Pair) -> tuple[str, str]:
    """Value and interval of a difference, signed, with the metric's digits.

    A called difference gets more digits where an end of its interval would be rounded to zero, which it excludes.
    """
    d = pair.difference
    if d is None:
        return "none", "none"
    decimals = group.decimals
    while (
        d.differs and decimals < group.decimals + MORE_DIGITS and 0 in (round(d.low, decimals), round(d.high, decimals))
    ):
        decimals += 1
    return number(d.value, decimals, sign=True), interval(d.low, d.high, decimals, sign=True)


def as_json(comparison: Comparison) -> dict[str, Any]:
    """One JSON object: runs, groups with members, ranks and pairs, splits, regressions. All numbers at full length."""
    runs = comparison.runs
    return {
        "runs": [
            {
                "name": run.name,
                "path": str(run.path),
                "generator": run.result.generator.spec,
                "benchmark": run.result.benchmark,
                "protocol": run.result.protocol_name,
                "fingerprint": run.result.fingerprint,
                "status": run.result.status,
                "comparable": run.result.comparable,
                "not_comparable_because": run.result.not_comparable_because,
            }
            for run in runs
        ],
        "groups": [
            {
                "id": group.id,
                "metric": group.metric,
                "label": group.label,
                "direction": group.direction,
                "decimals": group.decimals,
                "fingerprint": group.fingerprint,
                "order": [
                    {
                        "run": runs[i].name,
                        "rank": list(group.ranks[i]) if i in group.ranks else None,
                        "cannot_be_told_apart_from_best": i in group.leading,
                        **group.members[i].model_dump(
                            mode="json", include={"value", "note", "interval", "floor", "n_fake", "n_real"}
                        ),
                    }
                    for i in group.order()
                ],
                "differences": [
                    {
                        "first": runs[pair.first].name,
                        "second": runs[pair.second].name,
                        "reading": pair.reading,
                        "difference": asdict(pair.difference) if pair.difference else None,
                        "note": pair.note,
                    }
                    for pair in pairs_to_show(comparison, group)
                ],
            }
            for group in comparison.groups
        ],
        "not_ranked_together": [
            {"metric": s.label, "sentence": s.sentence(runs), "differing": list(s.differing)} for s in comparison.splits
        ],
        "baseline": runs[comparison.baseline].name if comparison.baseline is not None else None,
        "regressions": [{"run": runs[i].name, "metric": name} for i, name in comparison.regressions],
    }


def write_comparison(comparison: Comparison) -> None:
    """Leave `comparison.json` in every run folder, so that its report can say how the run stands beside the others."""
    record = ComparisonRecord(metrics=[_recorded(comparison, group) for group in comparison.groups])
    for run in comparison.runs:
        write_record(run.path / COMPARISON_FILE, record)


def _recorded(comparison: Comparison, group: Group) -> ComparedMetric:
    folders = [run.path.resolve().name for run in comparison.runs]
    runs = []
    for i in group.order():
        metric, run = group.members[i], comparison.runs[i]
        first, last = group.ranks.get(i, (None, None))
        runs.append(
            ComparedRun(
                folder=folders[i],
                name=run.name,
                spec=run.result.generator.spec,
                value=metric.value,
                low=metric.interval.low if metric.interval else None,
                high=metric.interval.high if metric.interval else None,
                floor=metric.floor,
                n_fake=metric.n_fake,
                first_rank=first,
                last_rank=last,
                is_leading=i in group.leading,
                is_partial=run.result.status == "partial",
            )
        )
    pairs = []
    for pair in group.pairs:
        d = pair.difference
        found: dict[str, Any] = {}
        if d:
            found = {"value": d.value, "low": d.low, "high": d.high, "level": d.level, "method": d.method}
        first_folder, second_folder = folders[pair.first], folders[pair.second]
        pairs.append(
            ComparedPair(first=first_folder, second=second_folder, reading=pair.reading, note=pair.note, **found)
        )
    return ComparedMetric(
        id=group.id,
        label=group.label,
        direction=group.direction,
        decimals=group.decimals,
        fingerprint=group.fingerprint,
        runs=runs,
        pairs=pairs,
    )


def _names(runs: Sequence[Run], numbers: Iterable[int]) -> str:
    return ", ".join(runs[i].name for i in numbers)
