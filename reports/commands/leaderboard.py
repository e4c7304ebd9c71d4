"""`cogeval leaderboard ...`: build a site from runs, add a run from elsewhere, take a row out, verify a site."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cogvideo.errors import Finished, UserError

if TYPE_CHECKING:
    from reports.board.cards import CardFile
    from reports.board.document import Board

FOLDER = click.Path(path_type=Path)
RUNS = click.argument("runs", metavar="[RUN]...", nargs=-1, type=FOLDER)
OUT = click.option("--out", type=FOLDER, default=Path("site"), show_default=True, help="Folder of the site.")
BOARD = click.option(
    "--board",
    "board_file",
    type=FOLDER,
    required=True,
    metavar="FILE",
    help="board.json of a built site, or the site's folder.",
)
PROMPTS = click.option(
    "--prompts", type=click.IntRange(0, 5000), default=30, show_default=True, help="Prompts that get a page, by rule."
)
DATE = click.option("--date", default="", metavar="YYYY-MM-DD", help="Of this publish; else that of the newest run.")
REASON = click.option("--reason", default="", metavar="TEXT", help="Why; it stays on the history page.")
JSON = click.option("--json", "is_json", is_flag=True, help="One JSON object on stdout.")
QUIET = click.option("--quiet", is_flag=True, help="No progress.")


@click.group("leaderboard")
def leaderboard() -> None:
    """A site of static pages from finished runs, with rank ranges, videos and everything to check it.

    Try it: `cogeval leaderboard build runs/*/* --out site`, then open site/index.html.
    """


@leaderboard.command()
@RUNS
@click.option(
    "--studies", multiple=True, type=FOLDER, metavar="DIR", help="A human study with its analysis; repeatable."
)
@click.option("--from", "before_file", type=FOLDER, metavar="FILE", help="Begin with an earlier board.json, or a site.")
@click.option("--cards", type=FOLDER, metavar="FILE", help="YAML of what is known of the models; docs/leaderboard.md.")
@OUT
@PROMPTS
@click.option(
    "--seed", type=click.IntRange(0), default=None, help="Of samples by rule and of the bootstrap.  [default: 0]"
)
@click.option("--one-table", is_flag=True, help="Fail where the runs are of more than one protocol.")
@DATE
@REASON
@JSON
@QUIET
def build(
    runs: tuple[Path, ...],
    studies: tuple[Path, ...],
    before_file: Path | None,
    cards: Path | None,
    out: Path,
    prompts: int,
    seed: int | None,
    one_table: bool,
    date: str,
    reason: str,
    is_json: bool,
    quiet: bool,
) -> Finished:
    """Make the site from RUN folders, and from an earlier board if one is given.

    With `--from` alone it is made again from that file, byte for byte.
    """
    from reports.board.assemble import add_runs, add_studies, finish
    from reports.board.cards import read_cards
    from reports.board.document import Board
    from reports.board.runs import Vouched
    from reports.board.tables import one_table as need_one_table

    _check_date(date)
    if not runs and before_file is None:
        raise UserError("nothing to build from: name run folders, or an earlier board with --from site/data/board.json")
    before, media_from = _read(before_file) if before_file else (None, None)
    board = before.model_copy(deep=True) if before else Board()
    if seed is not None:
        board.seed = seed
    given: CardFile | None = read_cards(cards) if cards else None
    folders = dict(add_runs(board, [Vouched(path) for path in _unfolded(runs)], given))
    if given is not None and not runs:
        add_runs(board, [], given)
    add_studies(board, studies)
    if before is None or runs or studies or cards or seed is not None:
        finish(board, before, prompts=prompts, date=date, reason=reason)
    if one_table:
        need_one_table(board)
    return _write(board, before, out, folders, media_from, is_json=is_json, quiet=quiet)


@leaderboard.command()
@click.argument("runs", metavar="RUN...", nargs=-1, required=True, type=FOLDER)
@BOARD
@OUT
@click.option("--by", default="", metavar="NAME", help="Who made the runs; shown in each row.")
@click.option("--measured-here", is_flag=True, help="Not self-reported: whoever builds this board made them.")
@click.option("--cards", type=FOLDER, metavar="FILE", help="YAML of what is known of the models.")
@PROMPTS
@DATE
@REASON
@JSON
@QUIET
def add(
    runs: tuple[Path, ...],
    board_file: Path,
    out: Path,
    by: str,
    measured_here: bool,
    cards: Path | None,
    prompts: int,
    date: str,
    reason: str,
    is_json: bool,
    quiet: bool,
) -> Finished:
    """Add run folders from elsewhere, after their schema, hashes and protocol were checked.

    They are shown as self-reported. Their protocol has to be one of the board's.
    """
    from reports.board.assemble import add_runs, finish
    from reports.board.cards import read_cards
    from reports.board.incoming import check_incoming
    from reports.board.runs import Vouched

    _check_date(date)
    before, media_from = _read(board_file)
    board = before.model_copy(deep=True)
    checked = [check_incoming(before, path) for path in _unfolded(runs)]
    label: Any = "measured here" if measured_here else "self-reported"
    vouched = [Vouched(path, label, by) for path in _unfolded(runs)]
    folders = dict(add_runs(board, vouched, read_cards(cards) if cards else None))
    finish(board, before, prompts=prompts, date=date, reason=reason)
    if not is_json:
        for path, lines in zip(_unfolded(runs), checked, strict=True):
            click.echo(f"checked {path}", err=True)
            for line in lines:
                click.echo(f"  {line}", err=True)
    return _write(board, before, out, folders, media_from, is_json=is_json, quiet=quiet)


@leaderboard.command()
@click.argument("ids", metavar="ID...", nargs=-1, required=True)
@BOARD
@OUT
@click.option("--reason", required=True, metavar="TEXT", help="Why; it stays on the history page.")
@DATE
@JSON
@QUIET
def remove(
    ids: tuple[str, ...], board_file: Path, out: Path, reason: str, date: str, is_json: bool, quiet: bool
) -> Finished:
    """Take models or runs out. Their pages stay and say why."""
    from reports.board.assemble import finish
    from reports.board.assemble import remove as take_out

    _check_date(date)
    before, media_from = _read(board_file)
    board = before.model_copy(deep=True)
    for name in ids:
        take_out(board, name, reason)
    finish(board, before, prompts=0, date=date, reason="")
    return _write(board, before, out, {}, media_from, is_json=is_json, quiet=quiet)


@leaderboard.command()
@click.argument("site", metavar="SITE", type=FOLDER)
@click.option("--rebuild/--no-rebuild", default=True, help="Also build all pages from the board again and compare.")
@JSON
@QUIET
def verify(site: Path, rebuild: bool, is_json: bool, quiet: bool) -> Finished:
    """Compute every hash of SITE's manifest again, and build its pages from its board again."""
    from dataclasses import asdict

    from reports.site.verify import verify as check

    found = check(site, with_rebuild=rebuild)
    if is_json:
        click.echo(json.dumps(asdict(found) | {"is_good": found.is_good}))
    else:
        for line in found.lines():
            click.echo(line)
        again = f", {found.rebuilt:,} built again and equal" if found.rebuilt and not found.differing else ""
        good = f"{found.checked:,} files are what the manifest says{again}; {found.inputs:,} records are named in it"
        click.echo(good if found.is_good else f"{len(found.lines()):,} troubles in {found.checked:,} files")
    if not found.is_good and not is_json:
        raise UserError(f"{site} is not what its manifest says; build it again, or take another copy")
    return Finished((), 0 if found.is_good else 2, is_json)


def _check_date(date: str) -> None:
    if date and not re.fullmatch(r"\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])", date):
        raise UserError(f"--date {date!r} is no day; write it as 2026-10-30")


def _unfolded(runs: tuple[Path, ...]) -> list[Path]:
    """Run folders as given; a folder of run folders stands for those in it."""
    found: list[Path] = []
    for path in runs:
        is_run = any((path / name).exists() for name in ("result.json", "manifest.json"))
        inside = (
            sorted(p for p in path.glob("*") if (p / "manifest.json").exists()) if path.is_dir() and not is_run else []
        )
        found += inside or [path]
    return list({path.resolve(): path for path in found}.values())


def _read(path: Path) -> tuple[Board, Path | None]:
    """A board by its file or its site, and the folder of its media."""
    from reports.board.stored import read_board

    if path.is_dir():
        path = path / "data" / "board.json" if (path / "data" / "board.json").is_file() else path / "board.json"
    media = path.parent.parent / "media"
    return read_board(path), media if media.is_dir() else None


def _write(
    board: Board,
    before: Board | None,
    out: Path,
    folders: dict[str, Path],
    media_from: Path | None,
    *,
    is_json: bool,
    quiet: bool,
) -> Finished:
    """Gather media of new runs, write the site, and say what was done."""
    from reports.site.build import write_site
    from reports.site.films import gather, wanted_clips

    n = wanted_clips(board, folders)
    with click.progressbar(length=n, label="videos", file=_progress(quiet or not n)) as bar:
        media = gather(board, folders, bar.update)
    counts = write_site(board, out, media, media_from=media_from)
    said = (
        board.publishes[-1].changes
        if board.publishes and (not before or len(board.publishes) > len(before.publishes))
        else []
    )
    page = out / "index.html"
    if is_json:
        value = {"site": str(page), "files": counts, "changes": [change.text for change in said]}
        click.echo(json.dumps(value, ensure_ascii=False))
    else:
        for change in said:
            click.echo(change.text)
        click.echo(
            f"site  {page}  {counts['written']:,} files written, {counts['kept']:,} as they were,"
            f" {counts['removed']:,} taken away"
        )
    unfinished = sum(run.state == "unfinished" for run in board.runs if run.id in folders)
    if unfinished and not is_json:
        click.echo(f"! {unfinished:,} of the runs did not end; they are shown as failed", err=True)
    return Finished((), 0, is_json)


def _progress(is_quiet: bool) -> Any:
    """Where the bar goes: stderr of a terminal, else nowhere."""
    import io
    import sys

    return io.StringIO() if is_quiet or not sys.stderr.isatty() else sys.stderr
