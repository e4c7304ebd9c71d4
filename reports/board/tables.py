"""Runs to tables: one a fingerprint, each metric ranked, printed numbers beside it, and what other tables differ in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from cogvideo.errors import UserError
from eval.notation import count
from eval.protocol import Protocol, protocol_from
from eval.published import PublishedRow, matches, rows_for
from eval.records import MetricResult
from reports.board.document import (
    Board,
    MetricColumn,
    PairRecord,
    PrintedRecord,
    PromptEntry,
    Ranking,
    RankRecord,
    RunEntry,
    TableEntry,
)
from reports.board.names import short, slug
from reports.board.ranking import LEVEL, Entrant, Moved, Ranks, rank

STATES = {"complete": 2, "partial": 1, "unfinished": 0}
MOST_MODELS_WITH_ALL_PAIRS = 60
ALONE = "not paired: the two intervals, taken as independent"
DESCRIBING = {"name", "title", "source", "published", "published_reconstructed", "changes", "metrics", "embedded"}


def table_id(benchmark: str, protocol_name: str, fingerprint: str) -> str:
    """`ucf101-tats-16f-2048-b41e09d7`: the fingerprint makes it the only one of its kind."""
    return f"{slug(benchmark, 'benchmark')}-{slug(protocol_name, 'protocol')}-{slug(fingerprint, 'fingerprint')}"


def derive_tables(board: Board) -> None:
    """Everything that follows from the runs: tables, order, ranks, printed numbers; in place."""
    known = {table.id: table for table in board.tables}
    by_table: dict[str, list[RunEntry]] = {}
    for run in board.runs:
        by_table.setdefault(run.table, []).append(run)
    papers: dict[str, int] = {}
    kept: list[PublishedRow] = []
    tables = []
    for name in sorted(by_table):
        table = _table(known[name], by_table[name])
        _rank_table(board, table, {run.id: run for run in by_table[name]})
        _print_table(table, {run.id: run for run in by_table[name]}, papers, kept)
        tables.append(table)
    tables.sort(key=lambda table: (table.is_embedded, -len(table.runs), table.id))
    board.tables = tables
    board.papers = kept
    _tell_apart(board)


def one_table(board: Board) -> None:
    """Raises UserError where runs are of several fingerprints, with what they differ in."""
    if len(board.tables) > 1:
        first, second = board.tables[:2]
        what = "; ".join(first.differs.get(second.id, [])[:6]) or "a field that the runs' manifests do not hold"
        raise UserError(
            f"{first.benchmark} {first.protocol} ({first.fingerprint}) and {second.benchmark} {second.protocol}"
            f" ({second.fingerprint}) are never ranked together: they differ in {what};"
            " name runs of one protocol, or leave out --one-table to get a table each"
        )


def _table(known: TableEntry, runs: Sequence[RunEntry]) -> TableEntry:
    newest: dict[str, RunEntry] = {}
    for place, run in enumerate(runs):
        held = newest.get(run.model)
        if held is None or (STATES[run.state], run.date, place) >= (STATES[held.state], held.date, -1):
            newest[run.model] = run
    current = [run.id for run in newest.values()]
    return known.model_copy(
        update={
            "metrics": _columns(runs),
            "runs": current,
            "older": [run.id for run in runs if run.id not in current],
            "rankings": [],
            "printed": {},
            "differs": {},
        }
    )


def _columns(runs: Iterable[RunEntry]) -> list[MetricColumn]:
    """Metrics in the order of the first run that has them. Raises UserError for two fingerprints under one id."""
    found: dict[str, MetricColumn] = {}
    for run in runs:
        for metric in run.result.metrics if run.result else ():
            column = MetricColumn(
                id=metric.id,
                metric=metric.metric,
                label=metric.label,
                direction=metric.direction,
                decimals=metric.decimals,
                fingerprint=metric.fingerprint,
            )
            held = found.setdefault(metric.id, column)
            if held.fingerprint != metric.fingerprint:
                raise UserError(
                    f"run {run.id}: {metric.id} has fingerprint {metric.fingerprint}, other runs of its table have"
                    f" {held.fingerprint}; two protocols are never ranked together"
                )
    return list(found.values())


def metric_of(run: RunEntry, metric_id: str) -> MetricResult | None:
    return next((m for m in run.result.metrics if m.id == metric_id), None) if run.result else None


def _rank_table(board: Board, table: TableEntry, runs: Mapping[str, RunEntry]) -> None:
    for column in table.metrics:
        held = {name: found for name in table.runs if (found := metric_of(runs[name], column.id)) is not None}
        table.rankings.append(rank_metric(column, held, runs, board.prompts, seed=board.seed))
    if table.metrics:
        table.runs = _in_order(table, runs)


def rank_metric(
    column: MetricColumn,
    held: Mapping[str, MetricResult],
    runs: Mapping[str, RunEntry],
    prompts: Sequence[PromptEntry],
    *,
    seed: int = 0,
) -> Ranking:
    """One metric of runs of one fingerprint. Raises UserError where a value has another one."""
    for name, metric in held.items():
        if metric.fingerprint != column.fingerprint:
            raise UserError(
                f"{name}: {column.id} has fingerprint {metric.fingerprint}, this ranking is of {column.fingerprint};"
                " two protocols are never ranked together"
            )
    unranked = _unranked(held, runs, column.direction)
    names = sorted(name for name in held if name not in unranked)
    entrants = [_entrant(runs[name], held[name], prompts) for name in names]
    with_pairs = len(names) <= MOST_MODELS_WITH_ALL_PAIRS
    found = rank(entrants, column.direction, seed=seed, with_pairs=with_pairs)
    return Ranking(
        metric=column.id,
        fingerprint=column.fingerprint,
        ranks=[
            RankRecord(run=name, fingerprint=held[name].fingerprint, low=low, high=high)
            for name, (low, high) in zip(names, found.ranges, strict=True)
        ],
        unranked=unranked,
        pairs=_pair_records(names, found, entrants),
        method=found.method if len(names) > 1 else "one value, nothing to rank it with",
    )


def _unranked(held: Mapping[str, MetricResult], runs: Mapping[str, RunEntry], direction: str) -> dict[str, str]:
    """Why a value is shown and not ranked."""
    found = {}
    complete = [m.n_fake for name, m in held.items() if runs[name].state == "complete" and m.value is not None]
    usual = Counter(complete).most_common()
    n = max((size for size, times in usual if times == usual[0][1]), default=0)
    for name, metric in held.items():
        run = runs[name]
        if metric.value is None:
            found[name] = f"failed: {metric.note or 'no reason was recorded'}"
        elif run.state != "complete":
            ok = run.result.counts.ok if run.result else 0
            found[name] = f"partial run, {count(ok)} of {count(run.planned)} clips"
        elif metric.interval is None:
            found[name] = f"no interval: {metric.interval_note or 'n too small for an interval'}"
        elif direction == "lower" and metric.n_fake != n:
            found[name] = f"n = {count(metric.n_fake)}, the others have {count(n)}, and a distance falls with n"
    return found


def _entrant(run: RunEntry, metric: MetricResult, prompts: Sequence[PromptEntry]) -> Entrant:
    assert metric.value is not None
    assert metric.interval is not None
    half = max(metric.interval.high - metric.value, metric.value - metric.interval.low, 0.0)
    if metric.interval.level != LEVEL and metric.interval.level < 1:
        from statistics import NormalDist

        half *= NormalDist().inv_cdf((1 + LEVEL) / 2) / NormalDist().inv_cdf((1 + metric.interval.level) / 2)
    return Entrant(run.id, metric.value, metric.n_fake, half_width=half, moved=moved_of(run, metric, prompts))


def moved_of(run: RunEntry, metric: MetricResult, prompts: Sequence[PromptEntry]) -> Moved | None:
    """Influence values as stored, or those of a mean from its scores; None where there are neither."""
    import numpy as np

    samples = run.samples

    def words(rows: Iterable[int]) -> list[str]:
        asked = [prompts[samples.prompts[row]] for row in rows]
        return [one.label or one.prompt for one in asked]

    kept = run.influence.get(metric.id)
    if kept is not None and len(kept.fake) > 1:
        key = short(repr([samples.ids, words(range(len(samples.ids))), kept.real_sha256]), 16)
        return Moved(key, samples.ids, np.array(kept.fake), np.array(kept.real), kept.real_groups)
    scores = samples.scores.get(metric.id, [])
    rows = [row for row, score in enumerate(scores) if score is not None]
    if len(rows) < 2 or len(rows) != metric.n_fake:
        return None
    values = np.array([scores[row] for row in rows], dtype=np.float64)
    mean = float(values.mean())
    if abs(mean - (metric.value or 0.0)) > 1e-6 * max(1.0, abs(mean)):
        return None
    ids = [samples.ids[row] for row in rows]
    key = short(repr([ids, words(rows), "mean"]), 16)
    return Moved(key, ids, values - mean)


def _pair_records(names: Sequence[str], found: Ranks, entrants: Sequence[Entrant]) -> list[PairRecord]:
    return [
        PairRecord(
            first=names[pair.first],
            second=names[pair.second],
            difference=pair.difference,
            low=pair.low,
            high=pair.high,
            p=pair.p,
            n=min(entrants[pair.first].n, entrants[pair.second].n),
            is_paired=pair.is_paired,
            note="" if pair.is_paired else ALONE,
        )
        for pair in found.pairs
    ]


def _in_order(table: TableEntry, runs: Mapping[str, RunEntry]) -> list[str]:
    """By rank range and value of the first metric, then what is not ranked by value, then what has none."""
    first = table.rankings[0]
    ranges = {one.run: (one.low, one.high) for one in first.ranks}
    sign = 1 if table.metrics[0].direction == "lower" else -1

    def place(name: str) -> tuple[Any, ...]:
        metric = metric_of(runs[name], first.metric)
        value = metric.value if metric else None
        return (name not in ranges, value is None, sign * (value or 0.0), ranges.get(name, (0, 0)), name)

    return sorted(table.runs, key=place)


def _print_table(
    table: TableEntry, runs: Mapping[str, RunEntry], papers: dict[str, int], kept: list[PublishedRow]
) -> None:
    """Printed numbers of each metric, with everything in which their setting differs; into the board's list once."""
    for column in table.metrics:
        for name in table.runs:
            run = runs[name]
            metric = metric_of(run, column.id)
            if metric is None or run.result is None:
                continue
            protocol = protocol_of(run)
            spec = next((s for s in protocol.metrics if s.id == column.id), None) if protocol else None
            found = []
            for row in rows_for(run.result, metric):
                same, differing = (
                    matches(row, protocol, spec) if protocol else (False, ["the protocol is not recorded"])
                )
                text = row.model_dump_json()
                if text not in papers:
                    papers[text] = len(kept)
                    kept.append(row)
                found.append(PrintedRecord(row=papers[text], differing=[] if same else differing))
            if found:
                table.printed[column.id] = found
            break


def protocol_of(run: RunEntry) -> Protocol | None:
    try:
        return protocol_from(run.protocol) if run.protocol else None
    except (TypeError, KeyError, AttributeError):
        return None


def _tell_apart(board: Board) -> None:
    """In what each table differs from each other one, by readable names of fields."""
    runs = {run.id: run for run in board.runs}
    described = {
        table.id: _described(next((runs[name] for name in (*table.runs, *table.older) if runs[name].protocol), None))
        for table in board.tables
    }
    for table in board.tables:
        own = described[table.id]
        for other in board.tables:
            if other.id != table.id:
                theirs = described[other.id]
                fields = [name for name in dict.fromkeys([*own, *theirs]) if own.get(name) != theirs.get(name)]
                table.differs[other.id] = [
                    f"{name} ({own.get(name, 'not recorded')} | {theirs.get(name, 'not recorded')})" for name in fields
                ]


def _described(run: RunEntry | None) -> dict[str, str]:
    if run is None or not run.protocol:
        return {}
    fields = dict(_flat({k: v for k, v in run.protocol.items() if k not in DESCRIBING}))
    if run.result:
        fields["metrics"] = ", ".join(sorted(metric.id for metric in run.result.metrics))
        fields["data list"] = f"{run.result.data.name} {run.result.data.list_sha256[:12]}"
        weights = {m.weights.sha256[:12] for m in run.result.metrics if m.weights}
        fields["weights"] = ", ".join(sorted(weights)) or "none"
    return fields


def _flat(value: Any, name: str = "") -> list[tuple[str, str]]:
    if isinstance(value, dict):
        return [pair for key, part in value.items() for pair in _flat(part, f"{name}.{key}" if name else str(key))]
    return [(name, "x".join(map(str, value)) if isinstance(value, list | tuple) else str(value))]
