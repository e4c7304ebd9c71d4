"""`cogeval human ...`: one group; each command's work is imported when it runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from cogvideo.errors import Finished, UserError

STUDY = click.argument("study", metavar="STUDY", type=click.Path(path_type=Path, file_okay=False))
DATABASE = click.option(
    "--database", metavar="URL", default="", help="postgresql://USER@HOST/NAME; else STUDY/study.db (SQLite)."
)
JSON = click.option("--json", "is_json", is_flag=True, help="One JSON object on stdout.")
SEED = click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of everything that is drawn.")
HOST = click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
PORT = click.option("--port", type=click.IntRange(0, 65535), default=8710, show_default=True, help="0: any free one.")


@click.group("human")
def human() -> None:
    """Ratings by people: design a study, collect, analyse.

    Try it: `cogeval human demo` builds a small study, serves it and opens the address.
    """


@human.command()
@STUDY
@click.option(
    "--runs",
    "runs",
    multiple=True,
    required=True,
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="A run folder, or a folder of videos; repeatable, one a model.",
)
@click.argument("more", metavar="[DIR]...", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "--real",
    is_flag=False,
    flag_value="auto",
    default="",
    metavar="[DIR]",
    help="Also the real videos, as hidden reference: of the runs' data set, or of a folder.",
)
@click.option(
    "--preset",
    type=click.Choice(["cogvideo-2022", "pairwise", "mos"]),
    default="cogvideo-2022",
    show_default=True,
    help="The study to start from.",
)
@click.option("--items", type=click.IntRange(1), help="Prompts to rate instead of the preset's number.")
@click.option("--raters", type=click.IntRange(1), help="Complete sessions wanted instead of the preset's number.")
@click.option("--size", type=click.IntRange(16, 1920), help="Longer side of the shown videos, in pixels.")
@SEED
def init(
    study: Path,
    runs: tuple[Path, ...],
    more: tuple[Path, ...],
    real: str,
    preset: str,
    items: int | None,
    raters: int | None,
    size: int | None,
    seed: int,
) -> None:
    """Write STUDY/study.yaml and prepare the blinded videos.

    All videos of a prompt get one size, rate, length and number of bytes. `--runs A B C` takes all folders that follow.
    """
    from human_eval.study.building import init_study

    settings: dict[str, Any] = {}
    if raters:
        settings["quota"] = {"raters": raters}
    if size:
        settings["media"] = {"size": size}
    made = init_study(
        study,
        [*runs, *more],
        preset=preset,
        real=real,
        n_items=items or 0,
        seed=seed,
        say=lambda line: click.echo(line, err=True),
        **settings,
    )
    click.echo(f"study   {study / 'study.yaml'}")
    click.echo(
        f"{len(made.models)} models, {len(made.main_items)} prompts, {made.trials} pages a rater, "
        f"{made.quota.raters} raters"
    )
    click.echo(f"next    edit the file; cogeval human plan {study}; cogeval human preview {study}")


@human.command()
@STUDY
@click.option("--raters", type=click.IntRange(2), help="Instead of the study's number.")
@click.option("--effect", type=float, default=0.3, show_default=True, help="Difference of two models that matters.")
@click.option("--power", type=click.FloatRange(0.5, 0.99), default=0.8, show_default=True, help="Wanted power.")
@click.option("--simulations", type=click.IntRange(20), default=200, show_default=True, help="Simulated studies.")
@SEED
@JSON
def plan(
    study: Path, raters: int | None, effect: float, power: float, simulations: int, seed: int, is_json: bool
) -> Finished:
    """What the study will be able to say: interval widths, power, and how many raters are needed."""
    from human_eval.planned import plan_study
    from human_eval.study.reading import read_study

    found = plan_study(read_study(study), raters, effect=effect, power=power, simulations=simulations, seed=seed)
    if is_json:
        click.echo(json.dumps(found.to_json(), ensure_ascii=False, indent=1))
    else:
        for line in found.lines():
            click.echo(line)
    return Finished(json=is_json)


@human.command()
@STUDY
@DATABASE
@HOST
@PORT
@click.option("--admin-token", metavar="TOKEN", help="Of the admin page; a new one is printed if none is given.")
@click.option("--https/--no-https", "is_https", help="Behind a proxy that ends TLS and says so.")
def serve(study: Path, database: str, host: str, port: int, admin_token: str | None, is_https: bool) -> None:
    """Collect ratings. The first rater freezes the design."""
    from human_eval.serving import serve_study

    serve_study(study, database, host, port, admin_token=admin_token or "", is_https=is_https)


@human.command()
@STUDY
@HOST
@PORT
def preview(study: Path, host: str, port: int) -> None:
    """Go through the study as a rater would. Nothing of it is ever in the data."""
    from human_eval.serving import serve_study

    serve_study(study, "", host, port, is_preview=True)


@human.command()
@STUDY
@DATABASE
@JSON
def status(study: Path, database: str, is_json: bool) -> Finished:
    """How far the study is: sessions, balance, precision, raters who need a decision."""
    from human_eval.watched import status_json, status_lines

    if is_json:
        click.echo(json.dumps(status_json(study, database), ensure_ascii=False, indent=1))
    else:
        for line in status_lines(study, database):
            click.echo(line)
    return Finished(json=is_json)


@human.command()
@STUDY
@click.option("--raters", type=click.IntRange(1), help="Sessions to complete; the study's number if not given.")
@click.option("--dropout", type=click.FloatRange(0, 0.9), default=0.0, show_default=True, help="Share who leave early.")
@click.option(
    "--careless", type=click.FloatRange(0, 1), default=0.0, show_default=True, help="Share who answer blindly."
)
@click.option("--database", metavar="URL", default="", help="An empty database; else STUDY/simulated/study.db.")
@SEED
@JSON
def simulate(
    study: Path, raters: int | None, dropout: float, careless: float, database: str, seed: int, is_json: bool
) -> Finished:
    """Send synthetic raters with a known truth through the real pages.

    Says whether the design fills as planned and whether the intervals hold the truth. The study's own data are not
    touched: everything goes to STUDY/simulated, with an export.
    """
    from human_eval.simulate.running import simulate_study

    found = simulate_study(
        study,
        raters=raters or 0,
        dropout=dropout,
        careless=careless,
        url=database,
        seed=seed,
        say=lambda line: click.echo(line, err=True),
    )
    if is_json:
        click.echo(json.dumps(found.to_json(), ensure_ascii=False, indent=1))
    else:
        for line in found.lines():
            click.echo(line)
    return Finished(json=is_json)


@human.command()
@STUDY
@DATABASE
@click.option("--out", metavar="DIR", type=click.Path(path_type=Path), help="Instead of STUDY/analysis.")
@click.option(
    "--tables",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Analyse an export instead of the database, e.g. STUDY/simulated/export.",
)
@click.option("--resamples", type=click.IntRange(100), default=2000, show_default=True, help="Bootstrap resamples.")
@SEED
@JSON
def analyze(
    study: Path, database: str, out: Path | None, tables: Path | None, resamples: int, seed: int, is_json: bool
) -> Finished:
    """Means, shares, strengths, agreement and screening, each with its interval.

    Writes analysis.json, CSV tables and a page, analysis.html.
    """
    from human_eval.analysed import analyze_study

    result, paths = analyze_study(study, database, out, tables, resamples=resamples, seed=seed)
    if is_json:
        click.echo(json.dumps(result.to_json(), ensure_ascii=False, indent=1))
    else:
        for line in _opinion_lines(result):
            click.echo(line)
        for path in paths:
            click.echo(f"file    {path}")
    return Finished(json=is_json)


def _opinion_lines(result: Any) -> list[str]:
    """Each mean with its interval and n."""
    from human_eval.analysed import opinion_lines

    return opinion_lines(result)


@human.command()
@STUDY
@DATABASE
@click.option("--out", metavar="DIR", type=click.Path(path_type=Path), help="Instead of STUDY/export.")
@click.option("--parquet/--no-parquet", "has_parquet", help="Also as parquet (pip install 'cogeval[parquet]').")
def export(study: Path, database: str, out: Path | None, has_parquet: bool) -> None:
    """CSV and JSONL of everything that was collected, with a codebook and hashes."""
    from human_eval.exported import export_folder

    for path in export_folder(study, database, out, has_parquet=has_parquet):
        click.echo(f"file    {path}")


@human.command()
@STUDY
@click.argument("pseudonym", metavar="PSEUDONYM")
@DATABASE
def forget(study: Path, pseudonym: str, database: str) -> None:
    """Remove a rater everywhere. PSEUDONYM is a name or a withdrawal key.

    The rows go from the database and its log; exports and analyses that were made are made again without them.
    """
    from human_eval.forgotten import forget_rater

    cleaned = forget_rater(study, database, pseudonym)
    click.echo("removed one rater; nothing of theirs is left in the database")
    for path in cleaned.again:
        click.echo(f"again   {path}")
    for path in cleaned.removed:
        click.echo(f"gone    {path}")
    click.echo("copies that you made elsewhere (backups, downloads) are yours to clean")


@human.command("audit-blinding")
@STUDY
@click.option("--trials", type=click.IntRange(10), default=200, show_default=True, help="Pages to crawl.")
@SEED
@JSON
def audit_blinding(study: Path, trials: int, seed: int, is_json: bool) -> Finished:
    """Try to tell the models apart by everything that a browser gets, pixels left aside.

    Looks for names in every byte and trains a classifier on sizes, headers, addresses, first bytes and times; it must
    stay at chance. Exit code 4 if the blinding leaks.
    """
    from human_eval.blinding_audit import audit_study

    found = audit_study(study, trials=trials, seed=seed)
    if is_json:
        click.echo(json.dumps(found.to_json(), ensure_ascii=False, indent=1))
    else:
        for line in found.lines():
            click.echo(line)
    return Finished(exit_code=0 if found.is_blind else 4, json=is_json)


@human.command()
@click.argument("folder", metavar="[DIR]", default="demo-study", type=click.Path(path_type=Path))
@HOST
@PORT
@click.option("--open/--no-open", "opens", default=True, help="Open the address in a browser.")
def demo(folder: Path, host: str, port: int, opens: bool) -> None:
    """Build a small study of four controls on embedded data and serve it: the thing to try first."""
    from human_eval.demo import build_demo
    from human_eval.serving import serve_study

    if not (folder / "study.yaml").exists():
        if folder.exists() and any(folder.iterdir()):
            raise UserError(f"{folder} is no study and not empty; give another folder")
        build_demo(folder, say=lambda line: click.echo(line, err=True))
    serve_study(folder, "", host, port, opens=opens)
