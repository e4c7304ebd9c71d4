"""`cogeval compare RUN...`: finished runs side by side, with paired differences."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from cogvideo.errors import Finished, UserError

if TYPE_CHECKING:
    from eval.compare import Comparison

REGRESSION = 5


@click.command()
@click.argument("runs", metavar="RUN...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--metric", metavar="NAME", default="", help="One metric, by id (fvd/tats-16f-2048), label or name.")
@click.option(
    "--baseline",
    metavar="RUN",
    type=click.Path(path_type=Path),
    help="The run that all others are held against.",
)
@click.option(
    "--fail-on-regression/--no-fail-on-regression",
    help="Exit with 5 if a value is worse than the baseline's and the interval of the difference excludes zero.",
)
@click.option("--strict/--no-strict", help="Refuse runs whose values cannot all stand in one ranking (exit 2).")
@click.option(
    "--published",
    type=click.Choice(["none", "some", "all"]),
    default="some",
    show_default=True,
    help="Numbers from papers beside ours: never ranked with them unless the setting is the same.",
)
@click.option("--json", "is_json", is_flag=True, help="One JSON object on stdout.")
def compare(
    runs: tuple[Path, ...],
    metric: str,
    baseline: Path | None,
    fail_on_regression: bool,
    strict: bool,
    published: Literal["none", "some", "all"],
    is_json: bool,
) -> Finished:
    """Compare finished runs on the samples that they share.

    RUN is a run folder. Values are put in order only where every setting that can change them is the same; of others,
    the settings that differ are named. A difference is called only when its interval excludes zero.
    """
    from eval.compare import as_json, compare_runs

    if fail_on_regression and baseline is None:
        raise UserError("--fail-on-regression needs --baseline RUN: the run that a value may not be worse than")
    found = compare_runs(runs, metric=metric, baseline=baseline, is_strict=strict)
    if len(found.runs) < 2:
        raise UserError(f"compare needs at least two different runs, got {len(found.runs)}: {found.runs[0].path}")
    if fail_on_regression:
        _need_answers(found)
    if is_json:
        click.echo(json.dumps(as_json(found), ensure_ascii=False, indent=1))
    else:
        from eval.terminal.benchmark import SHOWN_ROWS, benchmark_table
        from eval.terminal.console import make_console

        printed = {"none": 0, "some": SHOWN_ROWS, "all": None}[published]
        console = make_console()
        console.print(benchmark_table(found, printed=printed, has_pairs=True))
        for i, name in found.regressions:
            console.print(f"✕ {found.runs[i].name} is worse than the baseline in {name}", style="cogeval.bad")
    return Finished(exit_code=REGRESSION if fail_on_regression and found.regressions else 0, json=is_json)


def _need_answers(found: Comparison) -> None:
    """Raise UserError where the question "is it worse" has no answer: silence would pass for a yes to "is it fine"."""
    if found.splits:
        raise UserError(f"{found.splits[0].sentence(found.runs)}; a regression cannot be looked for")
    for i, run in enumerate(found.runs):
        pairs = [p for g in found.groups for p in g.pairs if {p.first, p.second} == {i, found.baseline}]
        if i != found.baseline and pairs and all(pair.reading == "unknown" for pair in pairs):
            raise UserError(
                f"{run.path} cannot be compared with the baseline in any metric: {pairs[0].note};"
                " score more samples, or samples of the same ids"
            )
