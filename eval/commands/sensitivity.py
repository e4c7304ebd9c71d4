"""`cogeval sensitivity`: what each metric makes of real clips that are damaged more and more."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cogvideo.errors import Finished, UserError
from eval.commands.options import set_offline

if TYPE_CHECKING:
    from eval.datasets.items import DataSet
    from eval.protocol import Protocol
    from eval.sensitivity.corruptions import Corruption
    from eval.sensitivity.measure import Settings


@click.command()
@click.option("--data", type=click.Path(path_type=Path), help="UCF-101's folder. Default: the embedded data set.")
@click.option("--clips", type=click.Path(path_type=Path), help="Any folder of videos, in place of a data set.")
@click.option("--protocol", "protocol_name", metavar="NAME", help="sensitivity-16f, or sensitivity-shapes.")
@click.option("--metric", "names", multiple=True, metavar="NAME", help="Only these metrics, e.g. fvd; repeatable.")
@click.option(
    "--corruption", "kinds", multiple=True, metavar="NAME", help="Only these corruptions, e.g. freeze; repeatable."
)
@click.option("--samples", type=click.IntRange(2), help="Clips that are corrupted.")
@click.option("--real-samples", type=click.IntRange(2), help="Clips of the reference.")
@click.option("--windows", type=click.IntRange(2), help="Windows cut from each video of --clips. Default: 16.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of what is drawn.")
@click.option("--device", default="auto", show_default=True, metavar="NAME", help="auto, cpu, cuda, cuda:1.")
@click.option("--workers", type=click.IntRange(0), help="Processes that decode; changes no number.")
@click.option("--replicates", type=click.IntRange(20), default=200, show_default=True, help="Of the bootstraps.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("runs"),
    show_default=True,
    help="Folder of the run folders.",
)
@click.option(
    "--on-existing",
    type=click.Choice(["resume", "redo", "error"]),
    default="resume",
    show_default=True,
    help="What to do with a run folder that is there.",
)
@click.option("--offline", is_flag=True, help="Never touch the network.")
@click.option("--json", "is_json", is_flag=True, help="One JSON object on stdout instead of a table.")
@click.option("--quiet", is_flag=True, help="No progress on stderr.")
def sensitivity(offline: bool, is_json: bool, quiet: bool, **flags: Any) -> Finished:
    """How each metric responds to blur, noise, codec, freeze, wrong order and drift: which one sees motion at all.

    Real clips are damaged in grades, and every value is held against that of the same clips undamaged.
    """
    from eval.sensitivity.measure import measure
    from eval.terminal import Stages

    if offline:
        set_offline()
    settings = _settings(**flags)
    with Stages(quiet=quiet) as stages:
        run = measure(settings, stages)
    from eval.responses import read_sensitivity

    record = read_sensitivity(run)
    if is_json:
        found = {"run": str(run), "sensitivity": record.model_dump(mode="json")}
        click.echo(json.dumps(found, ensure_ascii=False, indent=1))
    else:
        from eval.terminal.console import make_console
        from eval.terminal.sensitivity import ResponseTable

        make_console().print(ResponseTable(record))
    return Finished((run,), json=is_json)


def _settings(
    data: Path | None,
    clips: Path | None,
    protocol_name: str | None,
    names: tuple[str, ...],
    kinds: tuple[str, ...],
    device: str,
    workers: int | None,
    **flags: Any,
) -> Settings:
    from eval.commands.benchmarks import choose_device, choose_workers, origin_of
    from eval.protocols import DEFAULTS, get_protocol
    from eval.records import Choice
    from eval.sensitivity.measure import Settings

    if data is not None and clips is not None:
        raise UserError("--data and --clips are two sources of real clips; give one of them")
    is_embedded = data is None and clips is None
    protocol = get_protocol(protocol_name or DEFAULTS["sensitivity"][is_embedded], "sensitivity")
    protocol = _changed(protocol, names, is_embedded or data is not None, **flags)
    device, why = choose_device(device)
    n_workers, why_workers = choose_workers(workers)
    place = "embedded shapes" if is_embedded else str(data or clips)
    choices = (
        Choice(name="device", value=device, reason=why, origin=origin_of("device")),
        Choice(name="data", value=place, reason="no --data or --clips given" if is_embedded else ""),
        Choice(name="protocol", value=protocol.name, reason=protocol.title, origin=origin_of("protocol_name")),
        Choice(name="workers", value=str(n_workers), reason=why_workers, origin=origin_of("workers")),
    )
    return Settings(
        protocol=protocol,
        open_data=partial(_open, data, clips),
        corruptions=_chosen(kinds),
        out=flags["out"],
        seed=flags["seed"],
        device=device,
        workers=n_workers,
        replicates=flags["replicates"],
        on_existing=flags["on_existing"],
        is_chosen=bool(names),
        choices=choices,
    )


def _changed(protocol: Protocol, names: tuple[str, ...], has_splits: bool, **flags: Any) -> Protocol:
    """The protocol with what the flags changed, each change on record."""
    from eval.registry import did_you_mean

    if names:
        known = {name: spec.id for spec in protocol.metrics for name in (spec.id, spec.metric, spec.id.split("/")[0])}
        for name in names:
            if name not in known:
                raise UserError(f"unknown metric {name!r} in {protocol.name}{did_you_mean(name, sorted(known))}")
        wanted = {known[name] for name in names}
        protocol = replace(protocol, metrics=tuple(spec for spec in protocol.metrics if spec.id in wanted))
    if not has_splits:
        rule = replace(protocol.clip, per_video=flags["windows"] or 16)
        protocol = replace(protocol, heldout="", split="all", clip=rule, n_fake=0, n_real=None)
    elif flags["windows"]:
        raise UserError("--windows is for a folder of --clips: a data set has clips enough")
    if n := flags["samples"]:
        protocol = protocol.changed(f"{n:,} clips corrupted", n_fake=n)
    if n := flags["real_samples"]:
        protocol = protocol.changed(f"{n:,} clips of reference", n_real=n)
    return protocol


def _chosen(kinds: tuple[str, ...]) -> tuple[Corruption, ...]:
    from eval.registry import did_you_mean
    from eval.sensitivity.corruptions import CORRUPTIONS

    known = [corruption.name for corruption in CORRUPTIONS]
    for name in kinds:
        if name not in known:
            raise UserError(f"unknown corruption {name!r}{did_you_mean(name, known)}")
    return tuple(corruption for corruption in CORRUPTIONS if not kinds or corruption.name in kinds)


def _open(data: Path | None, clips: Path | None) -> DataSet:
    from eval.registry import datasets
    from eval.sensitivity.clips import open_clips

    if clips is not None:
        return open_clips(clips)
    if data is not None and not data.exists():
        raise UserError(f"no such folder: {data}; give the place of UCF-101, or nothing for embedded data")
    found: DataSet = datasets.get("shapes").make() if data is None else datasets.get("ucf101").make(data)
    return found
