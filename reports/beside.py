"""How a run stands beside the other generators of its command, from `comparison.json`. Nothing is computed anew."""

from __future__ import annotations

from dataclasses import dataclass

from eval.comparison_record import ComparedMetric, ComparedPair, ComparedRun
from eval.notation import better, count, interval, number, percent
from eval.records import MetricResult
from reports.figures import Mark, difference_axis, mark_of, round_axis
from reports.reading import RunRecords

# Reference generators, and what they are called under the ruler; real clips are the floor itself.
CONTROLS = {"reversed": "reversed", "shuffled": "shuffled frames", "frozen": "frozen frame", "noise": "noise"}
MORE_DIGITS = 4


@dataclass(frozen=True)
class Cell:
    """A value in the table of generators. `kind` is of its mark, `rank` its range of places, `words` why it lacks."""

    value: str
    interval: str
    mark: Mark | None
    alt: str
    kind: str
    rank: str
    is_leading: bool
    words: str = ""


@dataclass(frozen=True)
class Standing:
    """One generator: its name, and a cell for each metric."""

    name: str
    is_own: bool
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class DifferenceRow:
    """This run minus another."""

    other: str
    value: str
    interval: str
    mark: Mark | None
    alt: str
    kind: str
    reading: str


@dataclass(frozen=True)
class Differences:
    """All differences of one metric on one axis."""

    label: str
    better: str
    level: str
    rows: tuple[DifferenceRow, ...]
    methods: tuple[str, ...]


@dataclass(frozen=True)
class Beside:
    """The generators of one command; `heads` are (label, direction) of the metrics, `ranked_by` the one in order."""

    heads: tuple[tuple[str, str], ...]
    standings: tuple[Standing, ...]
    ranked_by: str
    differences: tuple[Differences, ...]
    own_rank: str
    n: int


def beside(records: RunRecords) -> Beside | None:
    """The section of the other generators; None where the run was alone, or its comparison is of other numbers."""
    shared = shared_metrics(records)
    if not shared:
        return None
    names = {run.folder: run.name for metric in shared for run in metric.runs}
    order = [run.folder for run in shared[0].runs]
    order += [folder for folder in names if folder not in order]
    standings = tuple(
        Standing(names[folder], folder == records.name, tuple(_cell(metric, folder, records.name) for metric in shared))
        for folder in order
    )
    own = next(run for run in shared[0].runs if run.folder == records.name)
    return Beside(
        heads=tuple((metric.label, better(metric.direction)) for metric in shared),
        standings=standings,
        ranked_by=shared[0].label,
        differences=tuple(found for metric in shared if (found := _differences(metric, records.name, names)).rows),
        own_rank=rank_words(own),
        n=len(shared[0].runs),
    )


def anchors(records: RunRecords, metric: MetricResult) -> list[tuple[str, float]]:
    """What is known beside a value on the ruler: real against real, and the reference generators of the command."""
    found = [("real against real", metric.floor)] if metric.floor is not None else []
    for compared in shared_metrics(records):
        if compared.id == metric.id:
            found += [
                (CONTROLS[run.spec], run.value)
                for run in compared.runs
                if run.spec in CONTROLS and run.folder != records.name and run.value is not None
            ]
    return found


def shared_metrics(records: RunRecords) -> list[ComparedMetric]:
    """The metrics of the comparison that are this run's own numbers: same id, same fingerprint, same value."""
    own = {(m.id, m.fingerprint): m.value for m in records.result.metrics}
    found = []
    for metric in records.comparison.metrics if records.comparison else ():
        mine = next((run for run in metric.runs if run.folder == records.name), None)
        if mine is None or len(metric.runs) < 2 or (metric.id, metric.fingerprint) not in own:
            continue
        if mine.value == own[metric.id, metric.fingerprint]:
            found.append(metric)
    return found


def _cell(metric: ComparedMetric, folder: str, own: str) -> Cell:
    run = next((run for run in metric.runs if run.folder == folder), None)
    if run is None:
        return Cell("", "", None, "", "mute", "", False, "not run")
    if run.value is None:
        return Cell("", "", None, "", "mute", "not ranked", False, "undefined")
    spread = interval(run.low, run.high, metric.decimals) if run.low is not None and run.high is not None else ""
    spread = spread.replace(" – ", "–")
    ends = [e for r in metric.runs for e in (r.value, r.low, r.high) if e is not None]
    axis = round_axis(ends, from_zero=metric.direction == "lower")
    shown = number(run.value, metric.decimals)
    kind = "partial" if run.is_partial else "own" if folder == own or run.is_leading else "mute"
    alt = f"{run.name}: {metric.label} {shown}, interval {spread or 'none'}, n = {count(run.n_fake)}"
    mark = mark_of(axis, run.value, run.low, run.high)
    return Cell(shown, spread or "no interval", mark, alt, kind, rank_words(run), run.is_leading)


def rank_words(run: ComparedRun) -> str:
    """`1`, `1–3`, or "not ranked" for a value that is undefined."""
    if run.first_rank is None or run.last_rank is None:
        return "not ranked"
    return str(run.first_rank) if run.first_rank == run.last_rank else f"{run.first_rank}–{run.last_rank}"


def _differences(metric: ComparedMetric, own: str, names: dict[str, str]) -> Differences:
    pairs = [_turned(pair, own) for pair in metric.pairs if own in (pair.first, pair.second)]
    ends = [end for pair in pairs for end in (pair.value, pair.low, pair.high) if end is not None]
    axis = difference_axis(ends)
    rows = []
    for pair in pairs:
        other = names.get(pair.second, pair.second)
        if pair.value is None or pair.low is None or pair.high is None:
            rows.append(DifferenceRow(other, "", "", None, "", "mute", f"cannot be compared: {pair.note}"))
            continue
        decimals = _digits(metric.decimals, pair)
        value = number(pair.value, decimals, sign=True)
        spread = interval(pair.low, pair.high, decimals, sign=True)
        has_difference = pair.reading in ("lower", "higher")
        which = "better" if pair.reading == metric.direction else "worse"
        reading = f"This run is {pair.reading} ({which})" if has_difference else "No difference found"
        rows.append(
            DifferenceRow(
                other,
                value,
                spread,
                mark_of(axis, pair.value, pair.low, pair.high, has_zero=True),
                f"This run minus {other}: {value}, interval {spread}. {reading}",
                "own" if has_difference else "mute",
                reading,
            )
        )
    level = next((percent(pair.level) for pair in pairs), "95 %")
    methods = tuple(dict.fromkeys(pair.method for pair in pairs if pair.method))
    return Differences(metric.label, better(metric.direction), level, tuple(rows), methods)


def _turned(pair: ComparedPair, own: str) -> ComparedPair:
    """The pair so that it reads "own minus other"."""
    if pair.first == own or pair.value is None or pair.low is None or pair.high is None:
        swapped = {"first": own, "second": pair.first} if pair.first != own else {}
        return pair.model_copy(update=swapped)
    reading = {"lower": "higher", "higher": "lower"}.get(pair.reading, pair.reading)
    turned = {"first": own, "second": pair.first, "value": -pair.value, "low": -pair.high, "high": -pair.low}
    return pair.model_copy(update={**turned, "reading": reading})


def _digits(decimals: int, pair: ComparedPair) -> int:
    """More digits where an end of the interval of a called difference would be rounded to the zero that it excludes."""
    ends = (pair.low or 0.0, pair.high or 0.0)
    has_difference = pair.reading in ("lower", "higher")
    most = decimals + MORE_DIGITS
    while has_difference and decimals < most and 0 in (round(end, decimals) for end in ends):
        decimals += 1
    return decimals


def standing_words(found: Beside | None) -> str:
    """`Of the 5 generators of this command it ranks 2–3 by FVD.`, or "" for a run alone."""
    if found is None:
        return ""
    if found.own_rank == "not ranked":
        return ""
    return f"Of the {found.n} generators of this command it ranks {found.own_rank} by {found.ranked_by}."
