"""What a run writes and reads back: the schema, its version, and writes that are whole or not at all. No torch.

A run folder holds `manifest.json` (first), `samples.jsonl` (a line a finished sample; while several processes work,
each has a file of its own in `parts/`), `features/`, `samples/` and `result.json` (last). Older schemas load; a newer
one is refused with one line.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cogvideo.errors import UserError

SCHEMA_VERSION = 1
SAMPLES_FILE = "samples.jsonl"
PARTS_FOLDER = "parts"
VOLATILE = ("timing", "cost", "environment", "created", "settings")
Model = TypeVar("Model", bound=BaseModel)


class Record(BaseModel):
    """Everything on disk: unknown fields of a later minor version are kept out of the way, not an error."""

    model_config = ConfigDict(extra="ignore", ser_json_inf_nan="null")


class SourceClip(Record):
    """The real clip that a sample was drawn beside: item, file relative to the data set, first frame."""

    item_id: str
    start: int


class PlannedSample(Record):
    """A sample to be made. The model reads `prompt`; alignment is scored with the English `caption`."""

    id: str
    index: int
    prompt: str
    caption: str = ""
    label: str = ""
    seed: int
    source: SourceClip | None = None


class Choice(Record):
    """A setting, where its value came from (flag, environment, protocol, automatic), and why."""

    name: str
    value: str
    origin: str = "automatic"
    reason: str = ""


class DataFacts(Record):
    """The data set as found: counts and the hash of the list in use; at most 50 names of each trouble."""

    name: str
    title: str = ""
    root: str = ""
    list_sha256: str
    n_items: int
    n_reference: int
    n_heldout: int = 0
    split: str = ""
    n_missing: int = 0
    n_extra: int = 0
    n_broken: int = 0
    missing: list[str] = Field(default_factory=list)
    extra: list[str] = Field(default_factory=list)
    broken: list[tuple[str, str]] = Field(default_factory=list)
    notes: list[str] = Field(default_factory=list)


class GeneratorFacts(Record):
    spec: str
    title: str
    description: dict[str, Any] = Field(default_factory=dict)


class Manifest(Record):
    schema_version: int = SCHEMA_VERSION
    benchmark: str
    protocol_name: str
    protocol: dict[str, Any]
    fingerprint: str
    generator: GeneratorFacts
    seed: int
    data: DataFacts
    planned: list[PlannedSample]
    choices: list[Choice] = Field(default_factory=list)
    created: str = ""


class SampleLine(Record):
    """A finished sample. `frames_sha256` is of the uint8 frames, so that a changed or damaged file is noticed.

    `kind` is the short code of a rejection and `reason` its sentence; `origin` says what file the clip was read from.
    `seconds` and `gpu_seconds` are its share of the call that made it, `peak_memory_bytes` and `gpu_peak_bytes` those
    of the whole call; 0 where it was not measured.
    """

    id: str
    index: int
    prompt: str
    label: str = ""
    seed: int
    file: str = ""
    height: int = 0
    width: int = 0
    frames_sha256: str = ""
    ok: bool
    kind: str = ""
    reason: str = ""
    origin: dict[str, str] = Field(default_factory=dict)
    warnings: list[str] = Field(default_factory=list)
    seconds: float = 0.0
    peak_memory_bytes: int = 0
    gpu_seconds: float = 0.0
    gpu_peak_bytes: int = 0
    scores: dict[str, float] = Field(default_factory=dict)


class IntervalRecord(Record):
    low: float
    high: float
    level: float
    method: str


class ExtrapolationRecord(Record):
    value: float
    low: float
    high: float
    points: list[tuple[int, float]]


class WeightFacts(Record):
    """Which weights made the features. `is_verified`: equal to a publicly known hash, or made in this repository."""

    name: str
    sha256: str
    origin: str
    is_verified: bool
    licence: str = ""


class MetricResult(Record):
    """One number with what is needed to believe it. `value` is None where it is undefined; `note` says why."""

    id: str
    metric: str
    label: str
    direction: Literal["lower", "higher"]
    decimals: int
    value: float | None
    note: str = ""
    interval: IntervalRecord | None = None
    interval_note: str = ""
    floor: float | None = None
    floor_note: str = ""
    extrapolated: ExtrapolationRecord | None = None
    n_fake: int
    n_real: int | None = None
    fingerprint: str
    weights: WeightFacts | None = None
    per_class: dict[str, float] = Field(default_factory=dict)
    details: dict[str, float | int | str] = Field(default_factory=dict)
    warnings: list[str] = Field(default_factory=list)


class Counts(Record):
    planned: int
    made: int
    ok: int
    rejected: int
    reasons: dict[str, int] = Field(default_factory=dict)


class Result(Record):
    schema_version: int = SCHEMA_VERSION
    status: Literal["complete", "partial"]
    comparable: bool
    not_comparable_because: list[str] = Field(default_factory=list)
    benchmark: str
    benchmark_title: str = ""
    protocol_name: str
    fingerprint: str
    generator: GeneratorFacts
    seed: int
    counts: Counts
    data: DataFacts
    clip: dict[str, Any] = Field(default_factory=dict)
    metrics: list[MetricResult]
    warnings: list[str] = Field(default_factory=list)
    licences: dict[str, str] = Field(default_factory=dict)
    settings: list[Choice] = Field(default_factory=list)
    timing: dict[str, float] = Field(default_factory=dict)
    cost: dict[str, float] = Field(default_factory=dict)
    environment: dict[str, str] = Field(default_factory=dict)
    created: str = ""


def stable_view(result: Result) -> dict[str, Any]:
    """The result without what differs from one repetition to the next: times, memory, environment, settings."""
    return {name: value for name, value in result.model_dump(mode="json").items() if name not in VOLATILE}


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` that takes its name when the block ends well, and vanishes when it does not."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        temporary.replace(path)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}; free space or choose another --out") from None
    finally:
        temporary.unlink(missing_ok=True)


def write_record(path: Path, record: BaseModel) -> None:
    """The record as readable JSON, written whole. NaN and infinities are refused: they are not JSON."""
    _refuse_non_finite(record.model_dump(), path)
    with whole_file(path) as temporary:
        temporary.write_text(record.model_dump_json(indent=1) + "\n", encoding="utf-8")


def read_record(path: Path, kind: type[Model]) -> Model:
    """A manifest or a result. Raises UserError if the file is absent, damaged, or of a newer schema."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise UserError(f"cannot read {path}: {reason}; expected a run folder's {path.name}") from None
    try:
        values = json.loads(text)
        version = values.get("schema_version", 1) if isinstance(values, dict) else 1
        if isinstance(version, int) and version > SCHEMA_VERSION:
            raise UserError(
                f"{path} has schema {version}, this cogeval reads up to {SCHEMA_VERSION}; upgrade cogeval to read it"
            )
        return kind.model_validate(values)
    except (json.JSONDecodeError, ValidationError) as error:
        first = error.errors()[0] if isinstance(error, ValidationError) else None
        what = f"{'.'.join(map(str, first['loc']))}: {first['msg']}" if first else str(error)
        raise UserError(f"{path} is damaged ({what}); run the command that made it again") from None


def read_result(run: Path) -> Result:
    """The result of a run folder (or of its `result.json`)."""
    return read_record(run if run.suffix == ".json" else run / "result.json", Result)


def read_manifest(run: Path) -> Manifest:
    return read_record(run / "manifest.json", Manifest)


def append_lines(path: Path, lines: Iterable[SampleLine]) -> None:
    """Finished samples, flushed to the disk before this returns, so that a kill loses none of them.

    A line that an earlier kill cut short is taken off first: it never counted as finished.
    """
    text = "".join(line.model_dump_json() + "\n" for line in lines)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("r+b" if path.exists() else "w+b") as file:
            file.seek(0, os.SEEK_END)
            end = file.tell()
            while end > 0:
                file.seek(end - 1)
                if file.read(1) == b"\n":
                    break
                end -= 1
            file.truncate(end)
            file.seek(end)
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}; free space and run the same again") from None


def read_samples(run: Path) -> dict[str, SampleLine]:
    """Finished samples by id, those in parts of several processes too; the last line of an id wins.

    A torn last line is not finished and is left out.
    """
    found: dict[str, SampleLine] = {}
    for path in (run / SAMPLES_FILE, *part_files(run)):
        for line in LineReader(path).new():
            found[line.id] = line
    return found


def part_file(run: Path, rank: int) -> Path:
    """Where one of several processes appends its finished samples."""
    return run / PARTS_FOLDER / f"{rank:05d}.jsonl"


def part_files(run: Path) -> list[Path]:
    return sorted((run / PARTS_FOLDER).glob("*.jsonl"))


def fold_parts(run: Path) -> None:
    """Parts that an earlier start left behind become part of `samples.jsonl`. Nobody else may write meanwhile."""
    parts = part_files(run)
    if parts:
        write_samples(run, sorted(read_samples(run).values(), key=lambda line: line.index))
        remove_parts(run)


def remove_parts(run: Path) -> None:
    for path in part_files(run):
        path.unlink(missing_ok=True)
    with suppress(OSError):
        (run / PARTS_FOLDER).rmdir()


class LineReader:
    """Whole lines of a file that somebody may still append to: `new` gives those since the last call."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._offset = 0
        self._number = 0

    def new(self) -> list[SampleLine]:
        """Raises UserError for a damaged line. A file that is not there has no lines yet."""
        try:
            with self.path.open("rb") as file:
                file.seek(self._offset)
                whole = file.read().rpartition(b"\n")[0]
        except FileNotFoundError:
            return []
        if not whole:
            return []
        self._offset += len(whole) + 1
        found = []
        for line in whole.split(b"\n"):
            self._number += 1
            try:
                found.append(SampleLine.model_validate_json(line))
            except ValidationError:
                raise UserError(
                    f"{self.path}, line {self._number} is damaged; delete that line to make its sample again"
                ) from None
        return found


def write_samples(run: Path, samples: Iterable[SampleLine]) -> None:
    """All lines anew in id order, e.g. with the scores of each sample."""
    with whole_file(run / SAMPLES_FILE) as temporary:
        temporary.write_text("".join(s.model_dump_json() + "\n" for s in samples), encoding="utf-8")


def _refuse_non_finite(value: Any, path: Path, where: str = "") -> None:
    if isinstance(value, dict):
        for key, part in value.items():
            _refuse_non_finite(part, path, f"{where}.{key}")
    elif isinstance(value, list | tuple):
        for index, part in enumerate(value):
            _refuse_non_finite(part, path, f"{where}[{index}]")
    elif isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"{path.name}: {where.lstrip('.')} is {value}, which is no number; this is a bug of the metric")
