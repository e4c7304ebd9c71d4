"""`cogeval report RUN...`: the page of finished runs, made anew from their records."""

from __future__ import annotations

from pathlib import Path

import click

from cogvideo.errors import Finished


@click.command()
@click.argument("runs", metavar="RUN...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--pdf/--no-pdf",
    help="Also the figures as PDF files for a paper, in the run's folder figures/ (needs the extra cogeval[figures]).",
)
def report(runs: tuple[Path, ...], pdf: bool) -> Finished:
    """Write report.html into finished run folders: one page that stands alone, from the records alone.

    RUN is a run folder. Nothing is measured again; the same records give the same page, byte for byte.
    """
    from reports.reading import read_run

    # All are read before the first page is written: one damaged run stops the command and leaves nothing half-done.
    records = [read_run(run) for run in runs]
    if pdf:
        from reports.paper import write_figures

        for one in records:
            for path in write_figures(one):
                click.echo(f"figure  {path}")
    return Finished(tuple(one.folder for one in records))
