"""What a run folder from elsewhere must stand before it is added: schema, hashes, protocol, and numbers that agree."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from pathlib import Path

from cogvideo.errors import UserError
from eval.notation import plural
from reports.board.document import Board
from reports.board.runs import FoundRun, read_run

HASHES_SHOWN = 3


def check_incoming(board: Board, path: Path) -> list[str]:
    """What was checked, in words. Raises UserError naming the first thing that does not hold.

    Reading the folder checks the schema of every record. Then: a protocol of this board, samples that are those of the
    plan, counts and means that follow from the samples, and videos that are there for what is recorded as accepted.
    """
    run = read_run(path)
    if run.result is None or run.manifest is None:
        missing = "result.json" if run.result is None else "manifest.json"
        raise UserError(f"{path} has no {missing}; a run from elsewhere comes whole")
    lines = [f"schema {run.result.schema_version} of result.json, manifest.json and samples.jsonl"]
    lines.append(_protocol(board, run, path))
    for trouble in _troubles(run):
        raise UserError(f"{path}: {trouble}")
    lines.append(f"{plural(len(run.samples), 'sample')} as planned, counts and means follow from them")
    lines += _videos(run, path)
    return lines


def _protocol(board: Board, run: FoundRun, path: Path) -> str:
    known = {table.fingerprint: table for table in board.tables}
    if run.fingerprint in known:
        return f"protocol {run.protocol_name}, fingerprint {run.fingerprint}, one of the board's"
    same = [table for table in board.tables if table.benchmark == run.benchmark]
    names = ", ".join(f"{table.benchmark}/{table.protocol} ({table.fingerprint})" for table in same or board.tables)
    raise UserError(
        f"{path} was measured under {run.protocol_name} ({run.fingerprint}); this board has {names or 'no protocol'}:"
        " its number would stand in no order; run it under one of these, or make it a table of its own with"
        " cogeval leaderboard build --from"
    )


def _troubles(run: FoundRun) -> Iterator[str]:
    """What in the records contradicts something else in them."""
    result, manifest = run.result, run.manifest
    assert result is not None
    assert manifest is not None
    planned = {one.id: one for one in manifest.planned}
    for name, sample in run.samples.items():
        if name not in planned:
            yield f"sample {name} is not in the plan of manifest.json"
        elif (sample.prompt, sample.seed) != (planned[name].prompt, planned[name].seed):
            yield f"sample {name} has another prompt or seed than manifest.json planned"
    ok = sum(sample.ok for sample in run.samples.values())
    if result.counts.ok != ok or result.counts.planned != len(planned):
        yield (
            f"result.json counts {result.counts.ok:,} of {result.counts.planned:,} clips, the samples are"
            f" {ok:,} of {len(planned):,}"
        )
    if result.generator.spec != manifest.generator.spec or result.seed != manifest.seed:
        yield "result.json and manifest.json name another generator or seed"
    for metric in result.metrics:
        scores = [s.scores[metric.id] for s in run.samples.values() if s.ok and metric.id in s.scores]
        if not scores or len(scores) != metric.n_fake or metric.value is None:
            continue
        mean = math.fsum(scores) / len(scores)
        if abs(mean - metric.value) > 1e-6 * max(1.0, abs(mean)):
            yield f"{metric.id} is {metric.value:g} in result.json and {mean:g} by its samples"
    for name, one in run.influences.items():
        if abs(float(one.fake.mean())) > 1e-6 * max(1.0, float(abs(one.fake).max())):
            yield f"influence values of {name} do not add up to zero"


def _videos(run: FoundRun, path: Path) -> list[str]:
    """How many videos came along; each is hashed, so that the manifest of what came can be compared later."""
    files = {s.id: path / s.file for s in run.samples.values() if s.ok and s.file}
    inside = {name: file for name, file in files.items() if file.resolve().is_relative_to(path.resolve())}
    if len(inside) < len(files):
        raise UserError(f"{path}: a sample names a file outside the run folder")
    here = [file for file in inside.values() if file.is_file()]
    if not here:
        return ["no video came along: its players will say so"]
    digest = hashlib.sha256()
    for file in sorted(here):
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return [f"{plural(len(here), 'video')} of {len(files):,}, together sha256 {digest.hexdigest()[:16]}"]
