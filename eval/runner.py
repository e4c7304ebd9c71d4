"""The one pipeline: plan -> generate -> audit -> features -> score -> write, resumable at every moment.

from eval.runner import Settings, run_benchmark
"""

from __future__ import annotations

import os
import platform
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from filelock import FileLock, Timeout

from cogvideo.errors import UserError
from eval.costs import Cost, Meter, peak_memory_bytes
from eval.datasets.items import DataSet
from eval.decoding import DecodePool
from eval.detectors.weights import find_weights
from eval.features import Extractor, RealFeatures, needs_of
from eval.generators.contract import Generator, GeneratorContext, Reconstruction
from eval.generators.spec import make_generator
from eval.influence import write_influences
from eval.pairing import write_reference
from eval.plan import make_plan
from eval.protocol import Protocol, jsonable, short_hash
from eval.reconstruction import against, find_reconstruction, read_reference
from eval.records import (
    Choice,
    GeneratorFacts,
    Manifest,
    PlannedSample,
    Result,
    SampleLine,
    SourceClip,
    read_manifest,
    read_result,
    write_record,
    write_samples,
)
from eval.results import Bench, count_samples, data_facts, score_run, why_not_comparable
from eval.samples import SampleStore
from eval.terminal import Stages


@dataclass(frozen=True)
class Settings:
    """What the command line resolved. `open_data` gives the data set; `choices` say where values came from.

    `reference` is `real`, or `reconstructed[:DIR]` for real clips as an image tokenizer leaves them.
    """

    benchmark: str
    title: str
    protocol: Protocol
    open_data: Callable[[], DataSet]
    generators: tuple[str, ...]
    out: Path
    seed: int = 0
    device: str = "cpu"
    dtype: str = "float32"
    backend: str = "eager"
    batch_size: int = 8
    workers: int = 1
    language: str = "en"
    on_existing: str = "resume"
    replicates: int = 200
    with_floor: bool = True
    is_partial_allowed: bool = False
    keep_videos: bool = True
    is_dry_run: bool = False
    reference: str = "real"
    choices: tuple[Choice, ...] = field(default=())


@dataclass(frozen=True)
class Outcome:
    """A run folder and its result; the result is None for a dry run."""

    run: Path
    result: Result | None


def run_benchmark(settings: Settings, stages: Stages) -> list[Outcome]:
    """Score every generator of the settings on one plan. Raises UserError before anything is written where it can."""
    if settings.protocol.embedded and settings.device == "cpu":
        import torch

        torch.set_num_threads(1)  # small networks lose more to threads that wait for each other than they win
    with ExitStack() as stack:
        context = GeneratorContext(settings.device, settings.dtype, settings.workers, settings.seed)
        generators = [(spec, make_generator(spec, context)) for spec in settings.generators]
        settings, reconstruction = _with_reference(settings, dict(generators), context)
        pool = stack.enter_context(DecodePool(settings.workers))
        data = settings.open_data()
        plan = make_plan(data, settings.protocol, seed=settings.seed, pool=pool, language=settings.language)
        if reconstruction is not None and not plan.reference:
            raise UserError("--reference reconstructed has no real clips to act on here; leave it out")
        protocol = replace(settings.protocol, n_fake=len(plan.requests), n_real=len(plan.reference))
        files = find_weights(protocol)
        extractor = Extractor(
            needs_of(protocol),
            protocol.clip,
            files,
            device=settings.device,
            dtype=settings.dtype,
            backend=settings.backend,
        )
        bench = Bench(
            data,
            plan,
            protocol,
            files,
            extractor,
            RealFeatures(extractor, pool, reconstruction),
            replicates=settings.replicates,
            with_floor=settings.with_floor,
        )
        for _, generator in generators:
            generator.preflight(plan.requests, protocol)
        stages.header(settings.title, protocol.name, bench.run_fingerprint, settings.choices)
        benches = [bench.departed(generator.departures) for _, generator in generators]
        folders = [
            _run_folder(settings, own, generator) for own, (_, generator) in zip(benches, generators, strict=True)
        ]
        if settings.is_dry_run:
            return [Outcome(folder, None) for folder in folders]
        extractor.check()
        _real_features(bench, stages, settings.with_floor)
        return [
            _run_one(settings, own, spec, generator, folder, stages)
            for own, (spec, generator), folder in zip(benches, generators, folders, strict=True)
        ]


def _with_reference(
    settings: Settings, generators: Mapping[str, Generator], context: GeneratorContext
) -> tuple[Settings, Reconstruction | None]:
    """The settings with the protocol of their reference, and the image tokenizer that this takes."""
    is_reconstructed, folder = read_reference(settings.reference)
    if not is_reconstructed:
        return settings, None
    found = find_reconstruction(folder, generators, context)
    choice = Choice(name="real clips", value=f"through {found.identity}", reason="a protocol of its own")
    protocol = against(settings.protocol, found)
    return replace(settings, protocol=protocol, choices=(*settings.choices, choice)), found


def _run_folder(settings: Settings, bench: Bench, generator: Generator) -> Path:
    identity = [generator.describe(), bench.run_fingerprint, settings.seed, settings.language]
    name = "".join(c if c.isalnum() or c in "-_." else "-" for c in generator.name).strip("-.") or "generator"
    return settings.out / settings.benchmark / f"{name[:60]}-{short_hash(identity)}"


def _real_features(bench: Bench, stages: Stages, with_floor: bool) -> None:
    """Reference and held-out clips, once for all generators, from the cache where it has them."""
    sides = [bench.plan.reference, bench.plan.heldout if with_floor else ()]
    total = sum(map(len, sides))
    if not total:
        return
    stages.generator("Reference and held-out clips", names=("features",))
    stages.start("features", total, unit="clips")
    for side in sides:
        bench.real.compute(side, lambda n: stages.advance("features", n))
    stages.finish("features")


def _run_one(settings: Settings, bench: Bench, spec: str, generator: Generator, run: Path, stages: Stages) -> Outcome:
    if run.exists():
        if settings.on_existing == "error":
            raise UserError(f"{run} exists; use --on-existing resume, skip or redo, or another --out")
        if settings.on_existing == "redo":
            shutil.rmtree(run)
        elif (run / "result.json").exists():
            return Outcome(run, read_result(run))
    _make_folder(run)
    lock = FileLock(run / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise UserError(f"{run} is in use by another cogeval; wait for it, or choose another --out") from None
    try:
        for left_over in [*run.rglob(".*.tmp"), *run.rglob(".*.part")]:
            left_over.unlink()  # cut short by a kill; nobody else writes here while we hold the lock
        return Outcome(run, _fill(settings, bench, spec, generator, run, stages))
    finally:
        lock.release()


def _fill(settings: Settings, bench: Bench, spec: str, generator: Generator, run: Path, stages: Stages) -> Result:
    began = time.perf_counter()
    timing: dict[str, float] = {}
    facts = GeneratorFacts(spec=spec, title=generator.title, description=generator.describe())
    n = len(bench.plan.requests)
    stages.generator(generator.title)
    stages.start("plan", n)
    _write_manifest(settings, bench, facts, run)
    stages.finish("plan", count=f"{n:,} clips")
    timing["plan"] = time.perf_counter() - began
    for name in ("generate", "audit", "features"):
        stages.start(name, n, unit="clips")
    store = SampleStore(
        run,
        generator,
        bench.plan.requests,
        bench.protocol,
        bench.extractor,
        batch_size=settings.batch_size,
        keep_videos=settings.keep_videos,
        reconstruction=bench.real.reconstruction,
    )
    lines = store.complete(stages.advance)
    counts = count_samples(lines, n)
    stages.finish("generate")
    stages.finish("audit", f"{counts.rejected:,} rejected", count=f"{counts.ok:,} ok")
    stages.finish("features")
    timing["samples"] = time.perf_counter() - began - timing["plan"]
    _refuse_rejects(settings, lines, counts.rejected, run)
    _note_reference(bench, run)
    stages.start("score", len(bench.protocol.metrics), unit="metrics")
    with Meter(settings.device) as meter:
        scored = score_run(bench, run, lines, lambda k: stages.advance("score", k))
    stages.finish("score")
    timing["score"] = meter.cost.seconds
    stages.start("write", 1)
    write_samples(run, [line.model_copy(update={"scores": scored.per_sample.get(line.id, {})}) for line in lines])
    write_influences(run, scored.influences)
    reasons = why_not_comparable(
        bench,
        counts,
        dtype=settings.dtype,
        files=bench.files,
        given=bool(bench.protocol.clip.given),
        own=generator.not_comparable,
    )
    timing["total"] = time.perf_counter() - began
    result = Result(
        status="partial" if counts.rejected else "complete",
        comparable=not reasons,
        not_comparable_because=reasons,
        benchmark=settings.benchmark,
        benchmark_title=settings.title,
        protocol_name=bench.protocol.name,
        fingerprint=bench.run_fingerprint,
        generator=facts,
        seed=settings.seed,
        counts=counts,
        data=data_facts(bench.data, bench.plan, bench.protocol.split),
        clip=jsonable(bench.protocol.clip),
        metrics=scored.metrics,
        warnings=[*generator.notes, *bench.extractor.warnings(), *_warnings(settings, bench, lines)],
        licences={file.name: file.licence for file in bench.files.values() if file.licence},
        settings=list(settings.choices),
        timing={name: round(value, 3) for name, value in timing.items()},
        cost=_cost(lines, store, meter.cost),
        environment=environment(settings.device),
        created=_now(),
    )
    write_record(run / "result.json", result)
    stages.finish("write")
    return result


def _write_manifest(settings: Settings, bench: Bench, facts: GeneratorFacts, run: Path) -> None:
    planned = [
        PlannedSample(
            id=request.id,
            index=request.index,
            prompt=request.prompt,
            caption=caption,
            label=request.label,
            seed=request.seed,
            source=SourceClip(item_id=request.source.item_id, start=request.source.start) if request.source else None,
        )
        for request, caption in zip(bench.plan.requests, bench.plan.captions, strict=True)
    ]
    manifest = Manifest(
        benchmark=settings.benchmark,
        protocol_name=bench.protocol.name,
        protocol=jsonable(bench.protocol),
        fingerprint=bench.run_fingerprint,
        generator=facts,
        seed=settings.seed,
        data=data_facts(bench.data, bench.plan, bench.protocol.split),
        planned=planned,
        choices=list(settings.choices),
        created=_now(),
    )
    path = run / "manifest.json"
    if path.exists():
        before = read_manifest(run)
        if before.fingerprint != manifest.fingerprint or before.planned != manifest.planned:
            raise UserError(
                f"{run} holds another plan than this command's (the data or cogeval changed); use --on-existing redo"
            )
        return
    write_record(path, manifest)


def _note_reference(bench: Bench, run: Path) -> None:
    """Where the real features are, so that `compare` can pair distances of two runs later."""
    clips = bench.plan.reference
    if not clips:
        return
    places = {
        f"{need.key}:{layer}": bench.real.folder(need, clips).path
        for need in bench.extractor.needs
        for layer in need.layers
    }
    write_reference(run, places, [c.id for c in clips], [c.group for c in clips], [c.label for c in clips])


def _refuse_rejects(settings: Settings, lines: list[SampleLine], rejected: int, run: Path) -> None:
    if not rejected:
        return
    first = next(line for line in lines if not line.ok)
    left = len(lines) - rejected
    if left < 2:
        raise UserError(f"{rejected:,} of {len(lines):,} samples were rejected, first {first.id}: {first.reason}")
    if not settings.is_partial_allowed:
        raise UserError(
            f"{rejected:,} of {len(lines):,} samples were rejected, first {first.id}: {first.reason};"
            f" mend them and run again, or score the other {left:,} with --partial (not comparable);"
            f" finished samples stay in {run}"
        )


def _warnings(settings: Settings, bench: Bench, lines: list[SampleLine]) -> list[str]:
    found = list(bench.plan.notes)
    if settings.dtype != "float32":
        found.append(f"Features were computed in {settings.dtype}: they are not interchangeable with float32.")
    found += [
        f"No public hash is known for weights {file.name}: pinned on first use as {file.sha256[:12]}."
        for file in bench.files.values()
        if not file.is_verified and file.origin in ("fetched", "found")
    ]
    noted = Counter(w.replace(f"sample {line.id!r}", "the clip") for line in lines for w in line.warnings)
    found += [f"{count:,} samples: {warning}" for warning, count in sorted(noted.items())]
    if bench.real.reconstruction is not None:
        found.append(f"Reference and floor are {bench.protocol.reference}: no number of another reference is alike.")
    if bench.protocol.clip.given:
        through = ", passed through the image tokenizer as the reference was" if bench.real.reconstruction else ""
        found.append(f"The first {bench.protocol.clip.given} frames of every sample are the real ones{through}.")
    return found


def _cost(lines: list[SampleLine], store: SampleStore, metrics: Cost) -> dict[str, float]:
    """Seconds and peak memory of making a sample and of scoring it; GPU-seconds are of the whole run.

    What scoring took a sample is left out where an earlier run, which is not here to ask, made some of the features.
    """
    n = max(len(lines), 1)
    found = {
        "generate_seconds_per_sample": round(sum(line.seconds for line in lines) / n, 6),
        "generate_peak_memory_bytes": float(max((line.peak_memory_bytes for line in lines), default=0)),
        "generate_gpu_seconds": round(sum(line.gpu_seconds for line in lines), 3),
        "generate_gpu_peak_bytes": float(max((line.gpu_peak_bytes for line in lines), default=0)),
    }
    if store.scored == sum(line.ok for line in lines):
        metrics.add(store.scoring)
        found |= {
            "score_seconds_per_sample": round(metrics.seconds / max(store.scored, 1), 6),
            "score_peak_memory_bytes": float(metrics.peak_bytes),
            "score_gpu_seconds": round(metrics.gpu_seconds, 3),
            "score_gpu_peak_bytes": float(metrics.gpu_peak_bytes),
        }
    peaks = [value for name, value in found.items() if name.endswith("peak_memory_bytes")]
    found["peak_memory_bytes"] = max(*peaks, float(peak_memory_bytes()))
    return {name: value for name, value in found.items() if value or "gpu" not in name}


def environment(device: str) -> dict[str, str]:
    """Versions and machine, for the record."""
    found = {name: version(name) for name in ("cogeval", "torch", "torchvision", "numpy", "scipy", "av")}
    found |= {name: version(name) for name in ("diffusers", "transformers") if name in sys.modules}
    found |= {"python": platform.python_version(), "system": platform.system(), "machine": platform.machine()}
    found |= {"device": device, "cores": str(os.cpu_count())}
    if device.startswith("cuda"):
        import torch

        found["gpu"] = torch.cuda.get_device_name(device)
    return found


def _make_folder(run: Path) -> None:
    try:
        run.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make the run folder {run}: {error.strerror}; choose another --out") from None


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
