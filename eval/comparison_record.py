"""What the runs of one command have to say about each other, kept in each of their folders as `comparison.json`.

The features that paired differences of distances need lie in a cache that comes and goes; this record stays.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from eval.records import Record, read_record

COMPARISON_FILE = "comparison.json"


class ComparedRun(Record):
    """A value of one metric under one fingerprint, with the places that the paired differences allow it."""

    folder: str
    name: str
    spec: str
    value: float | None
    low: float | None = None
    high: float | None = None
    floor: float | None = None
    n_fake: int
    first_rank: int | None = None
    last_rank: int | None = None
    is_leading: bool = False
    is_partial: bool = False


class ComparedPair(Record):
    """`first` minus `second`, by folder. `reading` is what may be said of the first; `note` why nothing can be said."""

    first: str
    second: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    level: float = 0.95
    method: str = ""
    reading: str
    note: str = ""


class ComparedMetric(Record):
    """All values of one metric under one fingerprint, best first."""

    id: str
    label: str
    direction: str
    decimals: int
    fingerprint: str
    runs: list[ComparedRun]
    pairs: list[ComparedPair] = Field(default_factory=list)


class ComparisonRecord(Record):
    schema_version: int = 1
    metrics: list[ComparedMetric]


def read_comparison(run: Path) -> ComparisonRecord | None:
    """The comparison that a run took part in last, or None. Raises UserError for a damaged file."""
    path = run / COMPARISON_FILE
    return read_record(path, ComparisonRecord) if path.exists() else None
