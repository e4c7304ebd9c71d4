"""`cogeval ucf101`, `kinetics600` and `prompts`: flags -> settings -> runs -> tables.

Heavy modules are imported when a command runs, not when its help is shown.
"""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cogvideo.errors import Finished, MissingPrerequisite, UserError
from eval.commands.options import benchmark_options, set_offline

if TYPE_CHECKING:
    from collections.abc import Iterable

    from eval.compare import Comparison
    from eval.datasets.items import DataSet
    from eval.protocol import MetricSpec, Protocol
    from eval.records import Choice
    from eval.runner import Outcome, Settings

CONTROLS = ("real", "shuffled", "frozen", "noise")
# On embedded data the small model stands among the controls; it makes clips from their captions alone.
EMBEDDED = {"ucf101": ("real", "cogvideo", "shuffled", "frozen", "noise")}


@click.command()
@click.option("--data", type=click.Path(path_type=Path), help="UCF-101's folder. Default: the embedded data set.")
@click.option("--lists", type=click.Path(path_type=Path), help="Folder of the split lists, if not inside or beside.")
@click.option("--official-split", type=click.IntRange(1, 3), default=1, show_default=True, help="Which official lists.")
@benchmark_options
def ucf101(data: Path | None, lists: Path | None, official_split: int, **flags: Any) -> Finished:
    """FVD, IS, FID and text alignment on UCF-101; on embedded data if no --data is given."""
    return _run("ucf101", "UCF-101", data, {"split": official_split, "lists": lists}, **flags)


@click.command()
@click.option("--data", type=click.Path(path_type=Path), help="Folder of the clips. Default: the embedded data set.")
@click.option("--annotations", type=click.Path(path_type=Path), help="Annotation CSV, if not in the folder.")
@benchmark_options
def kinetics600(data: Path | None, annotations: Path | None, **flags: Any) -> Finished:
    """Frame prediction on Kinetics-600: 5 frames given, 16 scored."""
    return _run("kinetics600", "Kinetics-600", data, {"annotations": annotations}, **flags)


@click.command()
@click.argument("file", type=click.Path(path_type=Path), required=False)
@benchmark_options
def prompts(file: Path | None, **flags: Any) -> Finished:
    """Text alignment on a FILE of prompts (text, CSV or JSONL), with distances if it names reference videos."""
    return _run("prompts", "prompts", file, {"seed": 0}, **flags)


def _run(benchmark: str, title: str, data: Path | None, options: dict[str, Any], **flags: Any) -> Finished:
    from eval.processes import EndedByAnotherError, joined
    from eval.runner import run_benchmark
    from eval.terminal import Stages

    if flags["offline"]:
        set_offline()
    try:
        with joined() as processes:
            settings = _settings(benchmark, title, data, options, flags)
            with Stages(quiet=flags["quiet"] or not processes.is_first) as stages:
                outcomes = run_benchmark(settings, stages, processes)
            as_json = flags["as_json"]
            if not processes.is_first:
                # torchrun stops all processes once one ends with a code; a partial run's is the first one's to give.
                return Finished(json=as_json)
            return _answer(settings, outcomes, as_json=as_json)
    except EndedByAnotherError as ended:
        raise click.exceptions.Exit(ended.exit_code) from None


def _settings(
    benchmark: str, title: str, data: Path | None, options: dict[str, Any], flags: dict[str, Any]
) -> Settings:
    from eval.processes import size_of_world
    from eval.protocols import DEFAULTS, get_protocol
    from eval.records import Choice
    from eval.runner import Settings

    is_embedded = data is None
    name, reference = _reference(flags["protocol_name"] or DEFAULTS[benchmark][is_embedded], flags["reference"])
    protocol = get_protocol(name, benchmark)
    if is_embedded and not protocol.embedded:
        raise UserError(f"protocol {name} needs real data: give --data DIR, or leave --protocol out for embedded data")
    protocol = _changed(protocol, flags)
    device, why = choose_device(flags["device"])
    workers, why_workers = choose_workers(flags["workers"])
    choices = [
        Choice(name="device", value=f"{device}, {flags['dtype']}", reason=why, origin=origin_of("device")),
        Choice(
            name="data",
            value="embedded shapes" if is_embedded else str(data),
            reason="no --data given" if is_embedded else "",
            origin="automatic" if is_embedded else origin_of("data"),
        ),
        Choice(name="protocol", value=name, reason=protocol.title, origin=origin_of("protocol_name")),
        Choice(name="workers", value=str(workers), reason=why_workers, origin=origin_of("workers")),
    ]
    if (size := size_of_world()) > 1:
        choices.append(Choice(name="processes", value=str(size), reason="started by torchrun"))
    return Settings(
        benchmark=benchmark,
        title=title,
        protocol=protocol,
        open_data=partial(_open_data, benchmark, data, options, protocol),
        generators=flags["generators"] or (EMBEDDED.get(benchmark, CONTROLS) if is_embedded else CONTROLS),
        out=flags["out"],
        seed=flags["seed"],
        device=device,
        dtype=flags["dtype"],
        backend=flags["backend"],
        batch_size=flags["batch_size"],
        workers=workers,
        language=flags["language"],
        on_existing=flags["on_existing"],
        replicates=flags["replicates"],
        with_floor=flags["with_floor"],
        is_partial_allowed=flags["is_partial"],
        keep_videos=flags["keep_videos"],
        is_dry_run=flags["dry_run"],
        reference=reference,
        choices=(*choices, *_flag_choices(flags)),
    )


def _reference(protocol_name: str, reference: str) -> tuple[str, str]:
    """The plain protocol's name and the reference, which a name that ends in "+reconstructed" says as well."""
    from eval.reconstruction import read_reference, split_name

    is_reconstructed, _ = read_reference(reference)
    plain, is_named = split_name(protocol_name)
    return plain, "reconstructed" if is_named and not is_reconstructed else reference


def _changed(protocol: Protocol, flags: dict[str, Any]) -> Protocol:
    """The protocol with what the flags changed, each change on record."""
    from eval.registry import did_you_mean

    if flags["metrics"]:
        protocol = replace(protocol, metrics=(*protocol.metrics, *_of_plugins(protocol, flags["metrics"])))
        known = {name: spec for spec in protocol.metrics for name in (spec.id, spec.metric, spec.id.split("/")[0])}
        for name in flags["metrics"]:
            if name not in known:
                raise UserError(
                    f"unknown metric {name!r} in protocol {protocol.name}{did_you_mean(name, sorted(known))}"
                )
        wanted = {known[name].id for name in flags["metrics"]}
        protocol = replace(protocol, metrics=tuple(spec for spec in protocol.metrics if spec.id in wanted))
    if (n := flags["samples"]) and n != protocol.n_fake:
        metrics = tuple(replace(s, n_fake=min(s.n_fake, n) if s.n_fake else None) for s in protocol.metrics)
        was = f"{protocol.n_fake:,}" if protocol.n_fake else "one per item"
        protocol = protocol.changed(f"{n:,} samples instead of {was}", n_fake=n, metrics=metrics)
    if (n := flags["real_samples"]) and n != protocol.n_real:
        was = f"{protocol.n_real:,}" if protocol.n_real else "all"
        protocol = protocol.changed(f"{n:,} real clips instead of {was}", n_real=n)
    if (k := flags["clips_per_video"]) and k != protocol.clip.per_video:
        change = f"{k} clips a video instead of {protocol.clip.per_video}"
        protocol = protocol.changed(change, clip=replace(protocol.clip, per_video=k))
    if (split := flags["split"]) and split != protocol.split:
        protocol = protocol.changed(f"split {split} instead of {protocol.split}", split=split, heldout="")
    return protocol


def _of_plugins(protocol: Protocol, names: Iterable[str]) -> list[MetricSpec]:
    """Metrics that are asked for and come from a plugin: on the features of the metric that the plugin names.

    Raises UserError if the protocol has no such metric to take features from.
    """
    from eval.registry import metrics

    added = []
    for name in dict.fromkeys(names):
        if name in metrics.builtin or name not in metrics.names():
            continue
        like = metrics.get(name).facts.get("features", "")
        of = next((spec for spec in protocol.metrics if spec.detector and like in ("", spec.metric)), None)
        if of is None:
            raise UserError(f"metric {name!r} reads the features of {like or 'a network'}, which {protocol.name} lacks")
        variant = of.id.partition("/")[2]
        added.append(replace(of, id=f"{name}/{variant}", metric=name, options=()))
    return added


def _open_data(benchmark: str, data: Path | None, options: dict[str, Any], protocol: Protocol) -> DataSet:
    from eval.registry import datasets

    if data is None:
        found: DataSet = datasets.get("shapes").make()
        return found
    if not data.exists():
        raise UserError(f"no such folder or file: {data}; give the place of the data, or nothing for embedded data")
    given = {name: value for name, value in options.items() if value is not None}
    found = datasets.get(benchmark).make(data, **given)
    return found  # noqa: RET504 - the annotation above gives the registry's value its type


def choose_device(name: str) -> tuple[str, str]:
    """The device and why; of several processes on a machine each has a GPU of its own.

    Raises MissingPrerequisite for one that this machine lacks, UserError for a bad name.
    """
    import torch

    from eval.processes import local_rank, size_of_world

    own, found = local_rank(), torch.cuda.device_count()
    if name == "auto":
        if not torch.cuda.is_available():
            return "cpu", "no GPU found"
        if own >= found:
            raise MissingPrerequisite(f"{_too_few_gpus(own, found)}, or --device cpu")
        return f"cuda:{own}", f"{found} GPU found"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UserError(f"unknown device {name!r}; expected auto, cpu, cuda or cuda:N") from None
    if size_of_world() > 1 and device.type == "cuda":
        if ":" in name:
            raise UserError(f"--device {name} would give all processes one GPU; --device cuda gives each its own")
        if own >= found:
            raise MissingPrerequisite(f"{_too_few_gpus(own, found)}, or --device cpu")
        return f"cuda:{own}", "one for each process"
    if device.type == "cuda" and (device.index or 0) >= found:
        here = f"{found} GPUs found"
        raise MissingPrerequisite(f"device {name} is not here ({here}); use --device cpu, or a machine with one")
    return name, ""


def _too_few_gpus(own: int, found: int) -> str:
    return f"process {own} of this machine has no GPU of its own ({found} found); use --nproc-per-node {found or 1}"


def choose_workers(asked: int | None) -> tuple[int, str]:
    import os

    from eval.processes import local_size

    if asked is not None:
        return asked, ""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    here = local_size()
    why = f"{cores} cores" + (f" for {here} processes" if here > 1 else "")
    return max(1, min(cores // here, 8)), why


def origin_of(parameter: str) -> str:
    context = click.get_current_context(silent=True)
    source = context.get_parameter_source(parameter) if context else None
    names = {"COMMANDLINE": "flag", "ENVIRONMENT": "environment"}
    return names.get(source.name if source else "", "automatic")


def _flag_choices(flags: dict[str, Any]) -> list[Choice]:
    """Every flag that a person set, for the record."""
    from eval.records import Choice

    shown = ("device", "workers", "protocol_name", "generators", "as_json", "quiet")
    return [
        Choice(name=name.replace("_", "-"), value=_said(value), origin=origin_of(name))
        for name, value in flags.items()
        if name not in shown and origin_of(name) != "automatic"
    ]


def _said(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _answer(settings: Settings, outcomes: list[Outcome], *, as_json: bool) -> Finished:
    """Print the answer and hand the run folders to the door."""
    results = [outcome.result for outcome in outcomes if outcome.result is not None]
    found = _comparison(outcomes)
    if as_json:
        click.echo(json.dumps({"runs": [_json_run(outcome) for outcome in outcomes]}, ensure_ascii=False, indent=1))
    elif settings.is_dry_run:
        for outcome in outcomes:
            click.echo(f"planned  {outcome.run}")
    elif found:
        _print_tables(settings, found)
    code = 4 if any(result.status == "partial" for result in results) else 0
    return Finished(tuple(outcome.run for outcome in outcomes if outcome.result), code, as_json)


def _comparison(outcomes: list[Outcome]) -> Comparison | None:
    """The finished runs side by side; where there are several, each folder keeps how it stands beside the others."""
    from eval.compare import compare_runs, write_comparison

    runs = [outcome.run for outcome in outcomes if outcome.result]
    if not runs:
        return None
    found = compare_runs(runs)
    if len(runs) > 1:
        write_comparison(found)
    return found


def _print_tables(settings: Settings, found: Comparison) -> None:
    """One run's own table, or several in one, ordered only inside a fingerprint; numbers from papers below."""
    from eval.terminal import make_console, results_table
    from eval.terminal.benchmark import SHOWN_ROWS, benchmark_table
    from eval.terminal.printed import PrintedNumbers

    console = make_console()
    # On embedded data no printed number is on the same scale: one is enough to show that.
    limit = 1 if settings.protocol.embedded else SHOWN_ROWS
    if len(found.runs) > 1:
        console.print(benchmark_table(found, printed=limit))
        return
    console.print(results_table(found.runs[0].result))
    for line in PrintedNumbers(found, limit).lines(console.width, console.encoding):
        console.print(line)


def _json_run(outcome: Outcome) -> dict[str, Any]:
    result = outcome.result.model_dump(mode="json") if outcome.result else None
    return {"run": str(outcome.run), "result": result}
