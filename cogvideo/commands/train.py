"""`cogeval train`: a recipe, data and a starting network to trained weights; `embedded` makes all of the small ones."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cogvideo.errors import Finished, UserError

if TYPE_CHECKING:
    from cogvideo.training.recipe import TrainingRecipe
    from cogvideo.training.run import Result

FOLDER = click.Path(path_type=Path)


@click.command()
@click.argument("recipe", required=False)
@click.option("--list", "is_list", is_flag=True, help="All recipes as one table, and nothing else.")
@click.option("--data", type=FOLDER, help="Records (`cogeval tokenize`); videos for an image tokenizer and `embedded`.")
@click.option("--init", type=FOLDER, help="Network to start from, or a pipeline folder that holds it.")
@click.option("--out", type=FOLDER, help="Folder of the run. Default: training/RECIPE.")
@click.option("--steps", type=click.IntRange(1), help="Other than the recipe's; phases and warm-up go along.")
@click.option("--batch-size", type=click.IntRange(1), help="Rows of a step, over all processes and parts.")
@click.option("--lr", type=click.FloatRange(min=0, min_open=True), help="The highest learning rate.")
@click.option("--size", metavar="NAME", help="Of the networks: tiny, small, medium, release.")
@click.option("--dropout", type=click.FloatRange(0, 1, max_open=True), help="Other than the recipe's.")
@click.option(
    "--precision",
    type=click.Choice(["auto", "fast", "float32", "bfloat16"]),
    help="bfloat16: mixed; auto is that on a GPU, fast where the machine is faster in it.",
)
@click.option(
    "--accumulate", type=click.IntRange(1), default=1, show_default=True, help="Parts of a batch, for memory."
)
@click.option("--recompute/--no-recompute", default=None, help="Activations anew in backward, for memory.")
@click.option(
    "--compile/--no-compile", "is_compiled", default=False, help="By torch.compile; takes a C++ compiler and a minute."
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Another seed, other weights.")
@click.option("--save-every", type=click.IntRange(1), default=500, show_default=True, help="Steps.")
@click.option("--log-every", type=click.IntRange(1), default=50, show_default=True, help="Steps.")
@click.option("--stop-after", type=click.IntRange(1), help="Save and end at this step; the same command goes on.")
@click.option(
    "--resume/--no-resume", "is_resumed", default=True, show_default=True, help="Go on with what is in --out."
)
@click.option("--threads", type=click.IntRange(1), help="Of this process. Default: torch's, or OMP_NUM_THREADS.")
@click.option("--workers", type=click.IntRange(0), default=1, show_default=True, help="Processes that decode videos.")
@click.option("--device", default="auto", show_default=True, metavar="NAME", help="auto, cpu, cuda, cuda:1.")
@click.option("--json", "is_json", is_flag=True, help="One JSON object on stdout.")
@click.option("--quiet", "is_quiet", is_flag=True, help="No progress on stderr.")
def train(recipe: str | None, **flags: Any) -> Finished:
    """Train a network of CogVideo by a named RECIPE (`--list` shows them).

    On several GPUs or processes: `torchrun --nproc-per-node 8 -m cogeval train RECIPE ...`. A run that was stopped
    (SIGTERM, Ctrl-C, or a kill) goes on where it was saved, with the same weights as one that was not, also with
    another number of processes. OUT gets log.jsonl, checkpoints, and at the end the network as a folder of weights.

    `cogeval train embedded --data DIR` makes the whole small model from the videos that `cogeval data shapes DIR`
    draws: image tokenizer, clusters, records, image network, both stages; `cogeval generate` takes OUT/pipeline.
    """
    if flags["is_list"]:
        return _list(is_json=flags["is_json"])
    if recipe is None or flags["data"] is None:
        raise UserError("expected a RECIPE and --data DIR; `cogeval train --list` shows the recipes")
    out: Path = flags["out"] or Path("training", recipe)
    if recipe == "embedded":
        return _embedded(out, flags)
    from cogvideo.training.recipes import get_recipe

    chosen = _changed(get_recipe(recipe), flags)
    result = _train(chosen, out, flags)
    if os.environ.get("RANK", "0") != "0":  # torchrun: the first process answers for all.
        return Finished()
    if flags["is_json"]:
        click.echo(json.dumps(_values(result), indent=1))
        return Finished(json=True)
    click.echo(_text(result))
    return Finished()


def _changed(recipe: TrainingRecipe, flags: dict[str, Any]) -> TrainingRecipe:
    """The recipe with what the flags say."""
    if flags["steps"]:
        recipe = recipe.with_steps(flags["steps"])
    names = ("batch_size", "lr", "size", "dropout", "precision")
    changes = {name: flags[name] for name in names if flags[name] is not None}
    if flags["recompute"] is not None:
        changes["recompute"] = flags["recompute"]
    return replace(recipe, **changes)


def _train(recipe: TrainingRecipe, out: Path, flags: dict[str, Any]) -> Result:
    import torch

    from cogvideo.devices import choose_device
    from cogvideo.training.run import Request, train

    if flags["threads"]:
        torch.set_num_threads(flags["threads"])
    request = Request(
        recipe=recipe,
        data=flags["data"],
        out=out,
        device=choose_device(flags["device"]),
        init=flags["init"],
        seed=flags["seed"],
        accumulate=flags["accumulate"],
        save_every=flags["save_every"],
        log_every=flags["log_every"],
        is_compiled=flags["is_compiled"],
        workers=flags["workers"],
        until=flags["stop_after"],
        is_resumed=flags["is_resumed"],
        is_quiet=flags["is_quiet"],
    )
    # Moments of rare tokens decay to numbers that a CPU needs a hundred times as long for. Whoever calls the command
    # from Python gets the small numbers back.
    torch.set_flush_denormal(True)
    try:
        return train(request)
    finally:
        torch.set_flush_denormal(False)


def _list(*, is_json: bool) -> Finished:
    from cogvideo.training.recipes import RECIPES, table

    if is_json:
        rows = [{**recipe.values(), "summary": recipe.summary} for recipe in RECIPES.values()]
        click.echo(json.dumps({"recipes": rows}, indent=1))
        return Finished(json=True)
    heads, rows_of_text = table()
    widths = [max(map(len, column)) for column in zip(heads, *rows_of_text, strict=True)]
    for row in (heads, *rows_of_text):
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    return Finished()


def _embedded(out: Path, flags: dict[str, Any]) -> Finished:
    from cogvideo.training.embedded import SIZE, make_embedded

    refused = [name for name in ("init", "lr", "batch_size", "dropout", "stop_after") if flags[name]]
    if refused:
        raise UserError(f"`embedded` is several trainings: leave --{refused[0].replace('_', '-')} out")
    if flags["size"] not in (None, SIZE):
        raise UserError(f"drawn shapes are for the size {SIZE}, not {flags['size']}: leave --size out")
    made = make_embedded(
        flags["data"],
        out,
        steps=flags["steps"],
        seed=flags["seed"],
        workers=flags["workers"],
        device=flags["device"],
        is_compiled=flags["is_compiled"],
        is_quiet=flags["is_quiet"],
    )
    if flags["is_json"]:
        click.echo(json.dumps({"out": str(out), "pipeline": str(made) if made else None}))
        return Finished(json=True)
    click.echo(f"pipeline  {made}" if made else f"stopped; the same command goes on in {out}")
    return Finished()


def _values(result: Result) -> dict[str, Any]:
    return {
        "recipe": result.recipe.name,
        "out": str(result.out),
        "step": result.outcome.step,
        "is_finished": result.outcome.is_finished,
        "loss": result.outcome.loss if result.outcome.loss == result.outcome.loss else None,
        "weights": str(result.weights) if result.weights else None,
    }


def _text(result: Result) -> str:
    step, steps = result.outcome.step, result.recipe.steps
    if result.weights is None:
        return f"stopped at step {step:,} of {steps:,}, saved; the same command goes on in {result.out}"
    return f"weights  {result.weights}\n  {result.recipe.name}, {step:,} steps; log in {result.out / 'log.jsonl'}"
