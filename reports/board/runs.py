"""A run folder as an entry of the board: its records checked and hashed, its samples in columns.

A folder without `result.json` is a run that has not ended: it is an entry too, so that failures are counted.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cogvideo.errors import UserError
from eval.influence import INFLUENCE_FILE, Influences, read_influences
from eval.protocol import Protocol, protocol_from
from eval.records import (
    GeneratorFacts,
    Manifest,
    Result,
    SampleLine,
    read_manifest,
    read_result,
    read_samples,
)
from reports.board.document import FileFacts, Influence, Label, Samples, State
from reports.board.names import short

DIGITS = 9
FILES = ("manifest.json", "result.json", "samples.jsonl", INFLUENCE_FILE)


@dataclass(frozen=True)
class FoundRun:
    """A run folder as read. `key` is what makes it this run: the hash of its result, or of its manifest."""

    path: Path
    key: str
    fingerprint: str
    benchmark: str
    protocol_name: str
    generator: GeneratorFacts
    planned: int
    state: State
    result: Result | None
    manifest: Manifest | None
    samples: dict[str, SampleLine]
    influences: dict[str, Influences]
    inputs: list[FileFacts]
    notes: list[str] = field(default_factory=list)

    @property
    def protocol(self) -> Protocol | None:
        if self.manifest is None:
            return None
        try:
            return protocol_from(self.manifest.protocol)
        except TypeError:
            return None

    @property
    def date(self) -> str:
        """The day that the record names, or "" (`2026-10-30T12:00:00Z` -> `2026-10-30`)."""
        created = self.result.created if self.result else self.manifest.created if self.manifest else ""
        day = created[:10]
        is_day = len(day) == 10 and day[4] == day[7] == "-" and (day[:4] + day[5:7] + day[8:]).isdigit()
        return day if is_day else ""


def read_run(path: Path) -> FoundRun:
    """A run folder. Raises UserError where it is none, or where one of its files is damaged or newer."""
    path = path.parent if path.name == "result.json" else path
    if not path.is_dir():
        raise UserError(f"no run folder {path}; expected a folder like runs/ucf101/NAME-1a2b3c4d with result.json")
    has_result, has_manifest = (path / "result.json").exists(), (path / "manifest.json").exists()
    if not has_result and not has_manifest:
        raise UserError(f"{path} has neither result.json nor manifest.json; it is no run folder (see cogeval ucf101)")
    result = read_result(path) if has_result else None
    manifest = read_manifest(path) if has_manifest else None
    samples = read_samples(path)
    notes = _troubles(path, result, manifest, samples)
    first = result or manifest
    assert first is not None
    counts = result.counts if result else None
    is_partial = result is not None and (result.status == "partial" or result.counts.ok < result.counts.planned)
    return FoundRun(
        path=path,
        key=short((path / ("result.json" if has_result else "manifest.json")).read_bytes()),
        fingerprint=first.fingerprint,
        benchmark=first.benchmark,
        protocol_name=first.protocol_name,
        generator=first.generator,
        planned=counts.planned if counts else len(manifest.planned) if manifest else 0,
        state="unfinished" if result is None else "partial" if is_partial else "complete",
        result=result,
        manifest=manifest,
        samples=samples,
        influences=read_influences(path),
        inputs=[file_facts(path / name, name) for name in FILES if (path / name).exists()],
        notes=notes,
    )


def _troubles(
    path: Path, result: Result | None, manifest: Manifest | None, samples: Mapping[str, SampleLine]
) -> list[str]:
    """What does not fit together, as an error; what is only missing, as a note."""
    if result and manifest and result.fingerprint != manifest.fingerprint:
        raise UserError(
            f"{path}: result.json has fingerprint {result.fingerprint}, manifest.json {manifest.fingerprint};"
            " the two are of different runs"
        )
    if result:
        for metric in result.metrics:
            numbers = [
                metric.value,
                metric.floor,
                *((metric.interval.low, metric.interval.high) if metric.interval else ()),
            ]
            if any(number is not None and not math.isfinite(number) for number in numbers):
                raise UserError(f"{path}: {metric.id} holds a number that is not finite; run its command again")
            if metric.interval and not metric.interval.low <= metric.interval.high:
                raise UserError(f"{path}: the interval of {metric.id} ends before it begins; run its command again")
    for sample in samples.values():
        if any(not math.isfinite(score) for score in sample.scores.values()):
            raise UserError(f"{path}: a score of sample {sample.id} is not finite; run its command again")
    notes = []
    if manifest is None:
        notes.append("manifest.json is not there: the protocol is known by its fingerprint alone")
    if result and not samples:
        notes.append("samples.jsonl is not there: no single sample can be shown")
    return notes


def file_facts(path: Path, name: str) -> FileFacts:
    """Length and hash of a file, read in pieces."""
    digest, length = hashlib.sha256(), 0
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
            length += len(piece)
    return FileFacts(name=name, bytes=length, sha256=digest.hexdigest())


def in_columns(found: FoundRun, places: Mapping[str, int]) -> Samples:
    """Samples by id. `places` says where each prompt is in the table's list."""
    accepted = sorted((line for line in found.samples.values() if line.ok), key=lambda line: line.id)
    names = sorted({name for line in accepted for name in line.scores})
    return Samples(
        ids=[line.id for line in accepted],
        prompts=[places[line.id] for line in accepted],
        seeds=[line.seed for line in accepted],
        scores={name: [_rounded(line.scores.get(name)) for line in accepted] for name in names},
        rejected=[
            (line.id, line.kind, line.reason)
            for line in sorted(found.samples.values(), key=lambda line: line.id)
            if not line.ok
        ],
    )


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.{DIGITS}g}")


def influence_in_order(found: FoundRun, ids: Sequence[str]) -> dict[str, Influence]:
    """Stored influence values of metrics whose every sample is in the columns, in their order."""
    kept = {}
    place = {name: index for index, name in enumerate(ids)}
    for metric_id, one in sorted(found.influences.items()):
        if set(one.ids) != set(ids):
            continue
        fake = [0.0] * len(ids)
        for name, value in zip(one.ids, one.fake.tolist(), strict=True):
            fake[place[name]] = float(f"{value:.6g}")
        kept[metric_id] = Influence(
            fake=fake,
            real=[float(f"{value:.6g}") for value in one.real.tolist()],
            real_groups=one.real_groups.tolist(),
            real_sha256=one.real_sha256,
        )
    return kept


@dataclass(frozen=True)
class Vouched:
    """A run folder, who vouches for it, and who made it."""

    path: Path
    label: Label = "measured here"
    by: str = ""
