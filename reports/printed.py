"""Numbers from papers beside a run: on one axis with it where the setting is the same, apart where anything differs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from eval.notation import Axis, count, number
from eval.protocol import Protocol
from eval.published import PublishedRow, matches, printed_name, printed_value, rows_for
from eval.records import MetricResult, Result
from reports.figures import Row, Rows, alt_of, mark_of, metric_mark, round_axis, ticks_of


@dataclass(frozen=True)
class Apart:
    """A printed number of another setting: never on an axis with the run's own, and never in one order with it."""

    name: str
    value: str
    setting: str
    differing: str
    confidence: str
    source: str
    note: str
    disputes: tuple[int, ...]


@dataclass(frozen=True)
class PrintedBlock:
    """What papers printed for one metric. `same` is a figure with the run in it, None where no setting is the same."""

    label: str
    same: Rows | None
    n_same: int
    apart: tuple[Apart, ...]
    common: str


@dataclass(frozen=True)
class Printed:
    """A block for each metric that papers printed, and footnotes that many rows share: disputes, (key, source)."""

    blocks: tuple[PrintedBlock, ...]
    disputes: tuple[str, ...]
    sources: tuple[tuple[str, str], ...]


def printed_numbers(result: Result, protocol: Protocol | None) -> Printed:
    """Everything that papers printed for the metrics of a run."""
    blocks = []
    disputes: list[str] = []
    sources: dict[str, str] = {}
    for metric in result.metrics:
        if rows := rows_for(result, metric):
            disputes += [text for row in rows for text in row.disputes if text not in disputes]
            sources |= {row.source: row.source_text for row in rows}
            blocks.append(_block(metric, result, rows, protocol, disputes))
    return Printed(tuple(blocks), tuple(disputes), tuple(sorted(sources.items())))


def _block(
    metric: MetricResult,
    result: Result,
    rows: Sequence[PublishedRow],
    protocol: Protocol | None,
    disputes: Sequence[str],
) -> PrintedBlock:
    spec = next((s for s in protocol.metrics if s.id == metric.id), None) if protocol else None
    unknown = (False, ["the run's protocol is not recorded"])
    held = [(row, *(matches(row, protocol, spec) if protocol else unknown)) for row in rows]
    same = [row for row, is_same, _ in held if is_same]
    others = [(row, differing) for row, is_same, differing in held if not is_same]
    common = [words for words in others[0][1] if all(words in differing for _, differing in others)] if others else []
    return PrintedBlock(
        label=printed_name(metric),
        same=_figure(metric, result, same) if same and metric.value is not None else None,
        n_same=len(same),
        apart=tuple(_apart(row, differing, common, disputes) for row, differing in others),
        common="; ".join(common),
    )


def _figure(metric: MetricResult, result: Result, same: Sequence[PublishedRow]) -> Rows:
    """The run between the papers of its own setting, in the order of values: one axis, hollow and filled marks."""
    inside = metric.interval
    values = [metric.value or 0.0, *((inside.low, inside.high) if inside else ()), *(float(row.value) for row in same)]
    axis = round_axis(values, from_zero=metric.direction == "lower")
    kind = "partial" if result.status == "partial" else "own"
    own = Row(
        "This run",
        number(metric.value, metric.decimals),
        metric_mark(metric, axis),
        alt_of(metric, result.metrics),
        kind,
        f"measured here, n = {count(metric.n_fake)}",
    )
    rows = [(metric.value or 0.0, own), *((float(row.value), _printed_row(row, axis)) for row in same)]
    rows.sort(key=lambda pair: (pair[0] if metric.direction == "lower" else -pair[0], pair[1].name))
    return Rows(printed_name(metric), tuple(row for _, row in rows), ticks_of(axis), ("Model", "Value", "Origin"))


def _printed_row(row: PublishedRow, axis: Axis) -> Row:
    spread = f", ± {row.std} as printed" if row.std is not None else ", no interval printed"
    return Row(
        row.model,
        printed_value(row),
        mark_of(axis, float(row.value)),
        f"{row.name} {printed_value(row)}, from paper{spread}",
        "paper",
        f"from paper [{row.source}], {row.setting}",
        more=str(row.year or ""),
    )


def _apart(row: PublishedRow, differing: Sequence[str], common: Sequence[str], disputes: Sequence[str]) -> Apart:
    fields = dict.fromkeys(words.partition(":")[0] for words in differing if words not in common)
    value = printed_value(row) + (f" ± {row.std}" if row.std is not None else "")
    return Apart(
        name=row.name,
        value=value,
        setting=row.facts,
        differing=", ".join(fields),
        confidence=row.confidence,
        source=row.source,
        note=row.note,
        disputes=tuple(disputes.index(text) + 1 for text in row.disputes),
    )
