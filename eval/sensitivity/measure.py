"""`cogeval sensitivity`: features of every corruption at every strength, then every metric on each of them.

Resumable: features are written shard by shard and condition by condition; a kill loses the shard in flight.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from cogvideo.errors import MissingPrerequisite, UserError
from cogvideo.weights import WeightFile
from eval.datasets.items import DataSet
from eval.decoding import DecodePool
from eval.detectors.weights import embedded_file, weight_names
from eval.features import SHARD, Extractor, RealFeatures, ShardFolder, needs_of
from eval.preprocess import to_protocol_size
from eval.protocol import MetricSpec, Protocol, jsonable, short_hash
from eval.records import Choice, write_record
from eval.responses import FILE, CorruptionFacts, LeftOut, Sensitivity
from eval.results import Bench, data_facts
from eval.runner import environment
from eval.sensitivity.clips import captions_of, real_plan
from eval.sensitivity.corruptions import Corruption
from eval.sensitivity.scoring import Scorer, needs_more_rows_than_features
from eval.terminal import Stages
from eval.weights import open_store

STAGES = ("real", "corrupt", "score")


@dataclass(frozen=True)
class Settings:
    """What the command line resolved. With `is_chosen` the metrics were named one by one: none is left out silently."""

    protocol: Protocol
    open_data: Callable[[], DataSet]
    corruptions: tuple[Corruption, ...]
    out: Path
    seed: int = 0
    device: str = "cpu"
    workers: int = 1
    replicates: int = 200
    on_existing: str = "resume"
    is_chosen: bool = False
    choices: tuple[Choice, ...] = ()


def measure(settings: Settings, stages: Stages) -> Path:
    """The run folder, with `sensitivity.json` in it. Raises UserError, and MissingPrerequisite for chosen metrics."""
    began = time.perf_counter()
    if settings.protocol.embedded and settings.device == "cpu":
        import torch

        torch.set_num_threads(1)  # small networks lose more to threads that wait for each other than they win
    with DecodePool(settings.workers) as pool:
        data = settings.open_data()
        plan = real_plan(data, settings.protocol, seed=settings.seed, pool=pool)
        protocol = replace(settings.protocol, n_fake=len(plan.heldout), n_real=len(plan.reference))
        files, left_out = _files(protocol, settings.is_chosen)
        protocol = _without(protocol, left_out)
        extractor = Extractor(needs_of(protocol), protocol.clip, files, device=settings.device)
        left_out += _unfit(protocol, extractor, any(captions_of(data, plan.heldout)), settings.is_chosen)
        protocol = _without(protocol, left_out)
        extractor.needs = needs_of(protocol)
        extractor.check()
        bench = Bench(
            data, plan, protocol, files, extractor, RealFeatures(extractor, pool), replicates=settings.replicates
        )
        stages.header("sensitivity", protocol.name, bench.run_fingerprint, settings.choices)
        run = _folder(settings, bench)
        if settings.on_existing == "error" and run.exists():
            raise UserError(f"{run} exists; use --on-existing resume or redo, or another --out")
        if settings.on_existing == "redo" and run.exists():
            shutil.rmtree(run)
        if (run / FILE).exists():
            return run
        try:
            run.mkdir(parents=True, exist_ok=True)
            with FileLock(run / ".lock", timeout=0):
                _fill(settings, bench, run, left_out, stages, began)
        except Timeout:
            raise UserError(f"{run} is in use by another cogeval; wait for it, or choose another --out") from None
        except OSError as error:
            raise UserError(f"cannot write {run}: {error.strerror}; choose another --out") from None
        return run


def _files(protocol: Protocol, is_chosen: bool) -> tuple[dict[str, WeightFile], list[LeftOut]]:
    """Weights that are here, and the metrics whose weights are not; these are refused if they were asked for."""
    store = open_store()
    files: dict[str, WeightFile] = {}
    left_out = []
    for spec in protocol.metrics:
        try:
            for name in weight_names(replace(protocol, metrics=(spec,))):
                files[name] = embedded_file(name) or store.get(name)
        except MissingPrerequisite as error:
            if is_chosen:
                raise
            left_out.append(LeftOut(id=spec.id, reason=str(error)))
    return files, left_out


def _unfit(protocol: Protocol, extractor: Extractor, has_captions: bool, is_chosen: bool) -> list[LeftOut]:
    """Metrics that these clips cannot answer: without captions, or with no more rows than features."""
    found = []
    needs = {need.key: need for need in extractor.needs}
    for spec in protocol.metrics:
        need = needs[spec.feature_key]
        reason = needs_more_rows_than_features(spec, extractor.detector(need), protocol)
        if spec.metric in ("clipsim", "r-precision", "video-text") and not has_captions:
            reason = "needs captions, which these clips do not have"
        if reason and is_chosen:
            raise UserError(f"{spec.id} {reason}")
        if reason:
            found.append(LeftOut(id=spec.id, reason=reason))
    return found


def _without(protocol: Protocol, left_out: Sequence[LeftOut]) -> Protocol:
    gone = {entry.id for entry in left_out}
    kept: tuple[MetricSpec, ...] = tuple(spec for spec in protocol.metrics if spec.id not in gone)
    if not kept:
        raise UserError(f"no metric of {protocol.name} can be had here; first {left_out[0].id}: {left_out[0].reason}")
    return replace(protocol, metrics=kept)


def _folder(settings: Settings, bench: Bench) -> Path:
    """The same command finds its own folder: named by clips, protocol, corruptions and seed."""
    tried = [(c.name, c.strengths) for c in settings.corruptions]
    clips = [[clip.id for clip in side] for side in (bench.plan.reference, bench.plan.heldout)]
    identity = [bench.run_fingerprint, tried, clips, settings.seed, settings.replicates]
    name = "".join(c if c.isalnum() or c in "-_." else "-" for c in bench.data.name).strip("-.") or "clips"
    return settings.out / "sensitivity" / f"{name[:60]}-{short_hash(identity)}"


def _fill(
    settings: Settings, bench: Bench, run: Path, left_out: Sequence[LeftOut], stages: Stages, began: float
) -> None:
    conditions = [(c, index) for c in settings.corruptions for index in range(len(c.strengths))]
    clips = bench.plan.heldout
    stages.generator("Responses", names=STAGES)
    stages.start("real", len(bench.plan.reference) + len(clips), unit="clips")
    for side in (bench.plan.reference, clips):
        bench.real.compute(side, lambda n: stages.advance("real", n))
    stages.finish("real")
    stages.start("corrupt", len(conditions) * len(clips), unit="clips")
    _corrupt(settings, bench, run, lambda n: stages.advance("corrupt", n))
    stages.finish("corrupt")
    scorer = Scorer(bench, run, captions_of(bench.data, clips))
    stages.start("score", len(bench.protocol.metrics) * (1 + len(conditions)), unit="values")
    found = [
        scorer.respond(spec, settings.corruptions, lambda: stages.advance("score")) for spec in bench.protocol.metrics
    ]
    stages.finish("score")
    record = Sensitivity(
        title=f"Sensitivity on {bench.data.name}",
        protocol_name=bench.protocol.name,
        protocol=jsonable(bench.protocol),
        is_embedded=bench.data.name == "shapes",
        fingerprint=bench.run_fingerprint,
        seed=settings.seed,
        data=data_facts(bench.data, bench.plan, bench.protocol.split),
        n_clips=len(clips),
        n_reference=len(bench.plan.reference),
        n_sources=len({clip.group for clip in clips}),
        corruptions=[
            CorruptionFacts(
                name=c.name, title=c.title, summary=c.summary, breaks=c.breaks, labels=[c.label(s) for s in c.strengths]
            )
            for c in settings.corruptions
        ],
        metrics=found,
        left_out=list(left_out),
        notes=_notes(bench),
        licences={file.name: file.licence for file in bench.files.values() if file.licence},
        settings=list(settings.choices),
        timing={"total": round(time.perf_counter() - began, 3)},
        environment=environment(settings.device),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    write_record(run / FILE, record)


def _corrupt(settings: Settings, bench: Bench, run: Path, advance: Callable[[int], None]) -> None:
    """Features of every clip under every condition. A clip is decoded once for all of them."""
    clips = bench.plan.heldout
    for number, start in enumerate(range(0, len(clips), SHARD)):
        shard = clips[start : start + SHARD]
        ids = [clip.id for clip in shard]
        frames = None
        for corruption in settings.corruptions:
            for index, strength in enumerate(corruption.strengths):
                folder = condition_folder(run, corruption, index)
                if folder.ids(number) != ids:
                    if frames is None:
                        decoded = bench.real.pool.clips(clip.ref for clip in shard)
                        frames = [to_protocol_size(clip, bench.protocol.clip) for clip in decoded]
                    made = [
                        corruption.apply(clip, strength, seed=settings.seed, clip_id=name)
                        for clip, name in zip(frames, ids, strict=True)
                    ]
                    folder.write(number, ids, bench.extractor(made, ids, bench.extractor.needs))
                advance(len(shard))


def condition_folder(run: Path, corruption: Corruption, index: int) -> ShardFolder:
    """Where the features of one strength of one corruption are."""
    return ShardFolder(run / "features" / f"{corruption.name}-{index}")


def _notes(bench: Bench) -> list[str]:
    found = list(bench.plan.notes)
    if bench.protocol.embedded and bench.data.name == "shapes":
        found.append(
            "Drawn clips and small networks that were trained on them, one of them on frozen and shuffled clips too:"
            " this shows what the metrics can see, not how far the published networks see it in natural videos."
        )
    elif bench.protocol.embedded:
        found.append("The networks know drawn shapes alone: their distances between natural videos say little.")
    if bench.plan.skipped:
        found.append(f"{len(bench.plan.skipped):,} videos were passed over, first {': '.join(bench.plan.skipped[0])}.")
    return found
