"""The flags that every benchmark has, in the order of the help."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

Command = Callable[..., Any]


def benchmark_options(command: Command) -> Command:
    """Decorator: all common flags. `--json` arrives as `as_json`, `--generator` as `generators`, and so on."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


_OPTIONS = [
    click.option(
        "--generator",
        "generators",
        multiple=True,
        metavar="SPEC",
        help="What to score, e.g. folder:DIR, diffusers:ID, python:FILE.py:FUNCTION, 'command:PROGRAM {requests}' (see"
        " `cogeval list generators`); repeatable. Default: controls made from real clips.",
    ),
    click.option(
        "--protocol", "protocol_name", metavar="NAME", help="A named protocol (see `cogeval list protocols`)."
    ),
    click.option(
        "--metric",
        "metrics",
        multiple=True,
        metavar="NAME",
        help="Only these metrics of the protocol, e.g. fvd; repeatable.",
    ),
    click.option("--samples", type=click.IntRange(2), help="Samples to score instead of the protocol's number."),
    click.option(
        "--real-samples", type=click.IntRange(2), help="Real clips of the reference instead of the protocol's number."
    ),
    click.option("--clips-per-video", type=click.IntRange(1), help="Windows cut from each real video instead of one."),
    click.option("--split", metavar="NAME", help="Real videos of the reference, e.g. train, test, train+test, all."),
    click.option(
        "--reference",
        metavar="KIND",
        default="real",
        show_default=True,
        help="real, or reconstructed[:DIR]: real clips passed through the model's image tokenizer, or that of the"
        " CogVideo networks in DIR; a protocol of its own.",
    ),
    click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of the samples."),
    click.option("--device", default="auto", show_default=True, metavar="NAME", help="auto, cpu, cuda, cuda:1."),
    click.option(
        "--dtype",
        type=click.Choice(["float32", "bfloat16"]),
        default="float32",
        show_default=True,
        help="Of the detectors; bfloat16 is not comparable.",
    ),
    click.option(
        "--backend",
        type=click.Choice(["eager", "inductor"]),
        default="eager",
        show_default=True,
        help="inductor compiles the video networks: faster from a few hundred clips on.",
    ),
    click.option(
        "--batch-size",
        type=click.IntRange(1),
        default=8,
        show_default=True,
        help="Samples asked of a generator at once; changes no number.",
    ),
    click.option(
        "--workers",
        type=click.IntRange(0),
        help="Processes that decode real clips; changes no number. Default: the cores, at most 8.",
    ),
    click.option(
        "--replicates",
        type=click.IntRange(20),
        default=200,
        show_default=True,
        help="Bootstrap replicates of the intervals.",
    ),
    click.option(
        "--floor/--no-floor",
        "with_floor",
        default=True,
        show_default=True,
        help="Score real against real at the same n too.",
    ),
    click.option(
        "--language",
        default="en",
        show_default=True,
        metavar="CODE",
        help="Language of the prompts: en, or zh where the data set has it.",
    ),
    click.option(
        "--partial/--no-partial",
        "is_partial",
        default=False,
        show_default=True,
        help="Score what is left when samples are rejected (exit code 4).",
    ),
    click.option(
        "--keep-videos/--no-keep-videos",
        default=True,
        show_default=True,
        help="Keep an MP4 of each sample, for the eye.",
    ),
    click.option(
        "--out",
        type=click.Path(path_type=Path),
        default=Path("runs"),
        show_default=True,
        help="Folder of the run folders.",
    ),
    click.option(
        "--on-existing",
        type=click.Choice(["resume", "skip", "redo", "error"]),
        default="resume",
        show_default=True,
        help="What to do with a run folder that is there.",
    ),
    click.option("--dry-run", is_flag=True, help="Plan, check everything, and stop before the first sample."),
    click.option("--offline", is_flag=True, help="Never touch the network."),
    click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout instead of tables."),
    click.option("--quiet", is_flag=True, help="No progress on stderr."),
]


def set_offline() -> None:
    """For this command and what it starts, not for the rest of a process that called it."""
    before = os.environ.get("COGEVAL_OFFLINE")
    os.environ["COGEVAL_OFFLINE"] = "1"

    def restore() -> None:
        if before is None:
            os.environ.pop("COGEVAL_OFFLINE", None)
        else:
            os.environ["COGEVAL_OFFLINE"] = before

    click.get_current_context().call_on_close(restore)
