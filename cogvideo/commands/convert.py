"""`cogeval convert`: released checkpoints to safetensors, with a card."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from cogvideo.errors import Finished, UserError

if TYPE_CHECKING:
    from cogvideo.checkpoint.cards import Part
    from cogvideo.checkpoint.convert import Converted, Progress

# The same as cogvideo.checkpoint.cards.PARTS, which would load pydantic for the help.
KINDS = ("image", "stage1", "stage2", "superres", "iterative", "image-tokenizer")


@click.command()
@click.argument("source")
@click.argument("destination", metavar="DEST", type=click.Path(path_type=Path))
@click.option("--kind", type=click.Choice(KINDS), help="Which network it is, where its settings do not say.")
@click.option(
    "--dtype",
    type=click.Choice(["keep", "bfloat16", "float16", "float32"]),
    default="keep",
    show_default=True,
    help="Type of the numbers.",
)
@click.option("--overwrite", is_flag=True, help="Replace converted weights that are in DEST.")
@click.option(
    "--shard-size",
    type=click.FloatRange(min=0, min_open=True),
    default=5.0,
    show_default=True,
    metavar="GB",
    help="Several files above this size.",
)
@click.option("--json", "is_json", is_flag=True, help="One JSON object on stdout.")
@click.option("--quiet", "is_quiet", is_flag=True, help="No progress on stderr.")
def convert(
    source: str,
    destination: Path,
    kind: Part | None,
    dtype: Literal["keep", "bfloat16", "float16", "float32"],
    overwrite: bool,
    shard_size: float,
    is_json: bool,
    is_quiet: bool,
) -> Finished:
    """Write a released checkpoint as safetensors with a card into the new folder DEST.

    SOURCE is a released folder (with `latest`), its zip, ice_image.pt, a name of `cogeval weights list` that was
    fetched, or a folder with all of them (SAT_HOME), which becomes a pipeline folder. Files of model-parallel training
    are joined. No code of the source is run, and two copies of a network are never held.
    """
    from cogvideo.checkpoint.convert import convert as convert_one
    from cogvideo.checkpoint.convert_folder import convert_folder, is_folder_of_networks

    shard_bytes = int(shard_size * 1e9)
    with _bar(is_quiet) as (notify, progress):
        settings: dict[str, Any] = {
            "dtype": dtype,
            "overwrite": overwrite,
            "shard_bytes": shard_bytes,
            "notify": notify,
            "progress": progress,
        }
        if is_folder_of_networks(Path(source)):
            if kind is not None:
                raise UserError(
                    f"--kind {kind} is for one network; {source} holds several: give the folder of that one"
                )
            done = list(convert_folder(Path(source), destination, **settings).values())
        else:
            done = [convert_one(source, destination, part=kind, **settings)]
    if is_json:
        click.echo(json.dumps({"converted": [_row(one) for one in done]}, indent=1, ensure_ascii=False))
        return Finished(json=True)
    for one in done:
        click.echo(_text(one))
    return Finished()


def _row(one: Converted) -> dict[str, Any]:
    return {"folder": str(one.folder), "card": one.card.model_dump(mode="json"), "unused": list(one.unused)}


def _text(one: Converted) -> str:
    from cogvideo.checkpoint.memory import readable_bytes

    card = one.card
    size = readable_bytes(sum(file.size_bytes for file in card.files.values()))
    lines = [
        f"{card.kind}  {one.folder}",
        f"  {card.tensors:,} tensors, {card.parameters:,} parameters, {card.dtype}, {size}",
        *(f"  {name}  sha256 {file.sha256}" for name, file in card.files.items()),
    ]
    return "\n".join(lines)


@contextmanager
def _bar(is_quiet: bool) -> Iterator[tuple[Any, Progress | None]]:
    """A function for warnings and one for progress, both on stderr; a line a step where there is no terminal."""
    from rich import progress as bars
    from rich.console import Console

    from cogvideo.checkpoint.loading import say_on_stderr

    if is_quiet:
        yield say_on_stderr, None
        return
    console = Console(stderr=True, highlight=False, markup=False, emoji=False)
    columns = (
        bars.TextColumn("{task.description}", markup=False),
        bars.BarColumn(28),
        bars.DownloadColumn(),
        bars.TransferSpeedColumn(),
        bars.TimeRemainingColumn(),
    )
    is_live = console.is_terminal and not console.is_dumb_terminal
    with bars.Progress(*columns, console=console, refresh_per_second=4, disable=not is_live) as shown:
        tasks: list[bars.TaskID] = []

        def notify(line: str) -> None:
            console.print(line, soft_wrap=True)

        def show(what: str, done: int, total: int) -> None:
            if done == 0:
                tasks.append(shown.add_task(what, total=total))
                if not is_live:
                    notify(f"{what}, {_gigabytes(total)}")
            shown.update(tasks[-1], completed=done)

        yield notify, show


def _gigabytes(size: int) -> str:
    from cogvideo.checkpoint.memory import readable_bytes

    return readable_bytes(size)
