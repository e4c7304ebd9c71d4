"""The one pipeline: plan -> generate -> audit -> features -> score -> write, resumable at every moment.

from eval.runner import Settings, run_benchmark
"""

from __future__ import annotations

import json
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
from eval.costs import Meter, Work, cost_of_run
from eval.datasets.items import DataSet
from eval.decoding import DecodePool
from eval.detectors.weights import find_weights
from eval.features import Extractor, RealFeatures, needs_of
from eval.generators.contract import Generator, GeneratorContext, Reconstruction
from eval.generators.spec import make_generator
from eval.influence import write_influences
from eval.pairing import write_reference
from eval.plan import make_plan
from eval.processes import Processes
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
    fold_parts,
    read_manifest,
    read_result,
    remove_parts,
    write_record,
    write_samples,
)
from eval.results import Bench, count_samples, data_facts, score_run, why_not_comparable
from eval.samples import SampleStore, meet_in
from eval.terminal import Stages
from eval.verdicts import judged_together


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


def run_benchmark(settings: Settings, stages: Stages, processes: Processes | None = None) -> list[Outcome]:
    """Score every generator of the settings on one plan. Raises UserError before anything is written where it can.

    Of several processes all make samples and features; the first one alone has results, and `stages` that are shown.
    """
    processes = processes or Processes()
    if settings.protocol.embedded and settings.device == "cpu":
        import torch

        torch.set_num_threads(1)  # small networks lose more to threads that wait for each other than they win
    with ExitStack() as stack:
        context = GeneratorContext(
            settings.device, settings.dtype, settings.workers, settings.seed, process=processes.rank
        )
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
        if not processes.is_alone:
            seen = [[clip.id for clip in side] for side in (plan.reference, plan.heldout)]
            processes.same("a plan", [seen, [request.seed for request in plan.requests], list(map(str, folders))])
        if settings.is_dry_run:
            return [Outcome(folder, None) for folder in folders]
        extractor.check()
        _real_features(bench, stages, settings.with_floor, processes)
        return [
            _run_one(settings, own, spec, generator, folder, stages, processes)
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


def _real_features(bench: Bench, stages: Stages, with_floor: bool, processes: Processes) -> None:
    """Reference and held-out clips, once for all generators and processes, from the cache where it has them."""
    sides = [bench.plan.reference, bench.plan.heldout if with_floor else ()]
    total = sum(map(len, sides))
    if not total:
        return
    stages.generator("Reference and held-out clips", names=("features",))
    stages.start("features", total, unit="clips")
    for side in sides:
        bench.real.compute(side, lambda n: stages.advance("features", n), processes.pause)
    stages.finish("features")


def _run_one(
    settings: Settings,
    bench: Bench,
    spec: str,
    generator: Generator,
    run: Path,
    stages: Stages,
    processes: Processes,
) -> Outcome:
    with ExitStack() as stack:
        is_finished = _claimed(settings, run, stack) if processes.is_first else False
        if processes.gather(str(is_finished))[0] == str(True):
            return Outcome(run, read_result(run) if processes.is_first else None)
        return Outcome(run, _fill(settings, bench, spec, generator, run, stages, processes))


def _claimed(settings: Settings, run: Path, stack: ExitStack) -> bool:
    """Lock the folder for this run until the stack closes, and tidy it; True if its result is there already."""
    if run.exists():
        if settings.on_existing == "error":
            raise UserError(f"{run} exists; use --on-existing resume, skip or redo, or another --out")
        if settings.on_existing == "redo":
            shutil.rmtree(run)
        elif (run / "result.json").exists():
            return True
    _make_folder(run)
    lock = FileLock(run / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise UserError(f"{run} is in use by another cogeval; wait for it, or choose another --out") from None
    stack.callback(lock.release)
    for left_over in [*run.rglob(".*.tmp"), *run.rglob(".*.part")]:
        left_over.unlink()  # cut short by a kill; nobody else writes here while we hold the lock
    fold_parts(run)
    return False


def _fill(
    settings: Settings,
    bench: Bench,
    spec: str,
    generator: Generator,
    run: Path,
    stages: Stages,
    processes: Processes,
) -> Result | None:
    """The work of this process on one run; the result where this is the first process."""
    began = time.perf_counter()
    timing: dict[str, float] = {}
    facts = GeneratorFacts(spec=spec, title=generator.title, description=generator.describe())
    n = len(bench.plan.requests)
    stages.generator(generator.title)
    stages.start("plan", n)
    if processes.is_first:
        _write_manifest(settings, bench, facts, run)
    meet_in(run, processes)
    stages.finish("plan", count=f"{n:,} clips")
    timing["plan"] = time.perf_counter() - began
    for name in ("generate", "audit", "features"):
        stages.start(name, n, unit="clips")
    generator.tell = lambda words: stages.advance("generate", 0, words)
    store = SampleStore(
        run,
        generator,
        bench.plan.requests,
        bench.protocol,
        bench.extractor,
        batch_size=settings.batch_size,
        keep_videos=settings.keep_videos,
        reconstruction=bench.real.reconstruction,
        processes=processes,
    )
    lines = store.complete(stages.advance)
    # Also the moment when all features are there.
    work = [Work(**json.loads(said)) for said in processes.gather(json.dumps(vars(store.work)))]
    if not processes.is_first:
        return None
    store.clear()
    lines = judged_together(lines)
    write_samples(run, lines)
    remove_parts(run)
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
        cost=cost_of_run(lines, [*work, Work.of(meter.cost)]),
        environment=environment(settings.device) | {"processes": str(processes.size)},
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
    noted = Counter(w.replace(f"sample {line.id!r}", "the clip") for line in lines if line.ok for w in line.warnings)
    found += [f"{count:,} samples: {warning}" for warning, count in sorted(noted.items())]
    if bench.real.reconstruction is not None:
        found.append(f"Reference and floor are {bench.protocol.reference}: no number of another reference is alike.")
    if bench.protocol.clip.given:
        through = ", passed through the image tokenizer as the reference was" if bench.real.reconstruction else ""
        found.append(f"The first {bench.protocol.clip.given} frames of every sample are the real ones{through}.")
    return found


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
