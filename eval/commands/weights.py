"""`cogeval weights list|fetch|add|verify`: the files that published numbers need, and where they are here."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from cogvideo.errors import Finished, MissingPrerequisite, UserError

if TYPE_CHECKING:
    from cogvideo.weights import Progress, WeightFile, WeightStore

Result = TypeVar("Result")

as_json = click.option("--json", "is_json", is_flag=True, help="One JSON object on stdout.")
quiet = click.option("--quiet", "is_quiet", is_flag=True, help="No progress on stderr.")


@click.group()
def weights() -> None:
    """List, fetch, add or verify weights.

    Files are kept in COGEVAL_HOME (default: the user's cache folder). A published sha256 must be met; where none is
    known, the first file is pinned and must stay the same.
    """


@weights.command("list")
@as_json
def list_(is_json: bool) -> Finished:
    """Every file of the catalogue, and whether it is here. Embedded networks come with the package."""
    from eval.weights import open_store

    store, embedded = open_store(), _embedded()
    states = [store.status(name) for name in store.catalogue]
    if is_json:
        rows = [_status_row(store, state) for state in states]
        _answer(
            {
                "home": str(store.home),
                "offline": store.offline,
                "weights": rows,
                "embedded": [_file_row(file) for file in embedded],
            }
        )
        return Finished(json=True)
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="cogeval.title")
    for title in ("Name", "State", "Size", "Hash", "Licence", "For"):
        table.add_column(title, justify="right" if title == "Size" else "left", overflow="fold")
    for state in states:
        entry = store.entry(state.name)
        size = readable_size(entry.size_bytes if state.state == "partial" else state.size_bytes)
        table.add_row(state.name, state.state, size, state.hash_state, entry.licence, entry.purpose)
    for file in embedded:
        size = readable_size(file.path.stat().st_size)
        table.add_row(file.name, "embedded", size, "verified", file.licence, "embedded data")
    _print(table)
    click.echo(f"\nkept in {store.home / 'weights'}")
    return Finished()


@weights.command("fetch")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option("--url", default="", help="A mirror of the file (one NAME only). The hash is checked all the same.")
@click.option("--repin", "is_repinned", is_flag=True, help="Fetch anew and accept another hash than the pinned one.")
@click.option("--offline", is_flag=True, help="Never touch the network.")
@click.option("--timeout", default=30.0, show_default=True, type=click.FloatRange(0.01), help="Seconds for an answer.")
@click.option("--attempts", default=5, show_default=True, type=click.IntRange(1), help="Tries without progress.")
@as_json
@quiet
def fetch(
    names: Sequence[str],
    url: str,
    is_repinned: bool,
    offline: bool,
    timeout: float,
    attempts: int,
    is_json: bool,
    is_quiet: bool,
) -> Finished:
    """Download files, going on where an earlier download stopped."""
    from cogvideo.weights import Patience
    from eval.weights import open_store

    if url and len(names) > 1:
        raise UserError(f"--url gives the address of one file; {len(names)} names came: fetch them one by one")
    patience = Patience(timeout_s=timeout, attempts=attempts)
    with _bars(is_quiet) as (notify, bar_for):
        store = open_store(offline or None, notify, patience)
        entries = [store.entry(name) for name in names]

        def one(name: str) -> WeightFile:
            return store.fetch(name, bar_for(name), url=url, is_repinned=is_repinned)

        files = _each([entry.name for entry in entries], one)
    return _files_answer(store, files, is_json)


@weights.command("add")
@click.argument("name")
@click.argument("file", type=click.Path(path_type=Path))
@as_json
def add(name: str, file: Path, is_json: bool) -> Finished:
    """Copy FILE into the cache as the weights NAME."""
    from eval.weights import open_store

    store = open_store()
    return _files_answer(store, [store.add(name, file)], is_json)


@weights.command("verify")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@as_json
def verify(names: Sequence[str], is_json: bool) -> Finished:
    """Hash files again, all that are here if no NAME is given."""
    from eval.weights import open_store

    store = open_store()
    chosen = [store.entry(name).name for name in names]
    chosen = chosen or [name for name in store.catalogue if store.status(name).state in ("present", "damaged")]
    files = _each(chosen, store.verify)
    return _files_answer(store, files if names else [*files, *_embedded()], is_json)


def readable_size(size_bytes: int | None) -> str:
    """`51.2 MB`; "" for an unknown size."""
    if size_bytes is None:
        return ""
    size, units = float(size_bytes), ["B", "kB", "MB", "GB"]
    while size >= 1000 and len(units) > 1:
        size, units = size / 1000, units[1:]
    return f"{size:.0f} B" if units[0] == "B" else f"{size:.1f} {units[0]}"


def _each(names: Sequence[str], do: Callable[[str], Result]) -> list[Result]:
    """Do it for every name although some fail; then raise one error that tells of all that did."""
    done, errors = [], []
    for name in names:
        try:
            done.append(do(name))
        except UserError as error:
            errors.append(error)
    if len(errors) == 1:
        raise errors[0]
    if errors:
        is_missing = all(isinstance(error, MissingPrerequisite) for error in errors)
        kind = MissingPrerequisite if is_missing else UserError
        raise kind(f"{len(errors)} of {len(names)} failed: " + "; ".join(str(error) for error in errors))
    return done


def _files_answer(store: WeightStore, files: Sequence[WeightFile], is_json: bool) -> Finished:
    if is_json:
        _answer({"home": str(store.home), "weights": [_file_row(file) for file in files]})
        return Finished(json=True)
    for file in files:
        click.echo(f"{file.name}  {file.path}")
        click.echo(f"  sha256 {file.sha256}, {_vouched(file)}")
    if not files:
        click.echo(f"no weights are in {store.home / 'weights'}; `cogeval weights list` shows what there is to fetch")
    return Finished()


def _embedded() -> list[WeightFile]:
    """The weights in the package, checked against their cards. Raises UserError for a damaged one."""
    from eval.detectors.weights import EMBEDDED, embedded_file

    files = (embedded_file(path.stem) for path in sorted(EMBEDDED.glob("*.safetensors")))
    return [file for file in files if file]


def _vouched(file: WeightFile) -> str:
    """In words, who vouches for the hash."""
    if file.origin == "embedded":
        return "as on its card"
    if file.is_verified:
        return "as published"
    return "no published hash is known: pinned here, so that another file of this name will be refused"


def _file_row(file: WeightFile) -> dict[str, Any]:
    return {
        "name": file.name,
        "path": str(file.path),
        "sha256": file.sha256,
        "origin": file.origin,
        "verified": file.is_verified,
        "licence": file.licence,
    }


def _status_row(store: WeightStore, state: Any) -> dict[str, Any]:
    entry = store.entry(state.name)
    return {
        "name": state.name,
        "state": state.state,
        "hash": state.hash_state,
        "path": str(state.path) if state.path else None,
        "size_bytes": entry.size_bytes if state.state == "partial" else state.size_bytes,
        "sha256": state.sha256 or None,
        "sha256_from": entry.sha256_from or None,
        "form": entry.form,
        "layout": entry.layout,
        "source": entry.source,
        "owner": entry.owner,
        "licence": entry.licence,
        "purpose": entry.purpose,
        "note": entry.note or None,
    }


def _answer(value: dict[str, Any]) -> None:
    click.echo(json.dumps(value, indent=1, ensure_ascii=False))


def _print(table: Any) -> None:
    from eval.terminal.console import make_console

    make_console().print(table)


@contextmanager
def _bars(is_quiet: bool) -> Iterator[tuple[Callable[[str], None], Callable[[str], Progress | None]]]:
    """A function for lines that stay and one that gives a progress bar for a name, both on stderr."""
    if is_quiet:
        yield (lambda line: None), (lambda name: None)
        return
    from rich import progress as bars

    from eval.terminal.console import make_console

    console = make_console(stderr=True)
    columns = (
        bars.TextColumn("{task.description}"),
        bars.BarColumn(28, "cogeval.dim", "cogeval.accent", "cogeval.ok", "cogeval.dim"),
        bars.DownloadColumn(),
        bars.TransferSpeedColumn(),
        bars.TimeRemainingColumn(),
    )
    is_live = console.is_terminal and not console.is_dumb_terminal
    with bars.Progress(*columns, console=console, refresh_per_second=8, disable=not is_live) as shown:

        def notify(line: str) -> None:
            console.print(line, soft_wrap=True)

        def bar_for(name: str) -> Progress:
            task: list[bars.TaskID] = []

            def show(done: int, total: int | None) -> None:
                if not task:
                    task.append(shown.add_task(name, total=total))
                    if not is_live:
                        notify(f"fetching {name}, {readable_size(total) or 'size not known'}")
                shown.update(task[0], completed=done, total=total)

            return show

        yield notify, bar_for
