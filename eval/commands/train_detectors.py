"""Train the embedded detectors anew, as the weights in the package were trained; minutes each.

python -m eval.commands.train_detectors i3d-shapes c3d-shapes clip-shapes frame-shapes --out DIR
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import click

from cogvideo.errors import UserError


@click.command("train-detectors")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("detectors"),
    show_default=True,
    help="Folder for weights and cards. The package reads its own in eval/embedded/.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of weights, clips and noise.")
@click.option("--steps", type=click.IntRange(2), help="Steps; the recipe's unless given.")
def train_detectors(names: tuple[str, ...], out: Path, seed: int, steps: int | None) -> None:
    """Train the embedded detectors NAME... on freshly drawn shapes (all four unless named)."""
    from eval.registry import did_you_mean
    from eval.training.recipes import RECIPES, make

    for name in names:
        if name not in RECIPES:
            raise UserError(f"no recipe for a detector {name!r}{did_you_mean(name, list(RECIPES))}")
    for name in names or RECIPES:
        make(name, out, seed=seed, steps=steps, progress=partial(_say, name))


def _say(name: str, line: str) -> None:
    click.echo(f"{name}: {line}", err=True)


if __name__ == "__main__":
    train_detectors()
