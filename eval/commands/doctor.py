"""`cogeval doctor`: the machine, what is missing for which published number, and whether scores can be trusted here."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from cogvideo.errors import Finished

if TYPE_CHECKING:
    from eval.doctor import Check, Section

BROKEN = 3


@click.command()
@click.option("--json", "is_json", is_flag=True, help="One JSON object on stdout.")
@click.option(
    "--measure/--no-measure",
    "has_measuring",
    default=True,
    help="Also run small networks and compare their numbers, which takes some seconds.",
)
def doctor(is_json: bool, has_measuring: bool) -> Finished:
    """Look at this machine: versions, caches, weights, and whether scores are what they should be.

    Weights and data that only published numbers need are listed as missing and are no fault. Exit code 3 tells that
    something has to be mended before numbers from here can be trusted.
    """
    from eval.doctor import examine
    from eval.weights import open_store

    sections = []
    for section in examine(open_store(), has_measuring=has_measuring):
        sections.append(section)
        if not is_json:
            _show(section)
    failed = [check for section in sections for check in section.checks if check.state == "failed"]
    missing = [check for section in sections for check in section.checks if check.state == "missing"]
    if is_json:
        click.echo(
            json.dumps({"ok": not failed, "sections": [_row(s) for s in sections]}, ensure_ascii=False, indent=1)
        )
    else:
        _show_verdict(failed, missing, has_measuring)
    return Finished(exit_code=BROKEN if failed else 0, json=is_json)


def _row(section: Section) -> dict[str, Any]:
    return {"title": section.title, "checks": [asdict(check) | {"state": check.state} for check in section.checks]}


def _show(section: Section) -> None:
    from eval.terminal.console import Line, make_console, signs_for, wrapped

    console = make_console()
    signs, encoding = signs_for(console.encoding), console.encoding
    marks = {"ok": signs.disc, "failed": signs.cross, "missing": signs.ring, "note": " "}
    roles = {"ok": "ok", "failed": "bad", "missing": "warn", "note": "dim"}
    console.print(Line(encoding).add(section.title, "title").fit(console.width))
    margin = 4 + min(42, max((len(check.name) for check in section.checks), default=0)) + 2
    for check in section.checks:
        first = Line(encoding).add("  ").add(marks[check.state], roles[check.state]).add(" ")
        first.add(check.name, width=margin - 4)
        words = check.found
        if check.ok is False and check.wanted and check.state == "failed":
            words += f"; wanted: {check.wanted}"
        for line in wrapped(words, first.text, margin, console.width, encoding):
            console.print(line)
        if check.ok is False and check.mend:
            start = Line(encoding).add(" " * margin).text
            for line in wrapped(check.mend, start, margin, console.width, encoding, "accent"):
                console.print(line, soft_wrap=True)
    console.print()


def _show_verdict(failed: list[Check], missing: list[Check], has_measuring: bool) -> None:
    from eval.terminal.console import Line, make_console, signs_for

    console = make_console()
    signs = signs_for(console.encoding)
    line = Line(console.encoding)
    if failed:
        names = ", ".join(check.name for check in failed)
        line.add(signs.cross, "bad").add(f" {len(failed)} to mend before numbers from here can be trusted: {names}")
    else:
        said = "numbers from this machine can be trusted" if has_measuring else "numbers were not measured"
        line.add(signs.disc, "ok").add(f" Nothing to mend, {said}")
    console.print(line.text, soft_wrap=True)
    if missing:
        protocols = Line(console.encoding).add(signs.ring, "warn")
        console.print(protocols.add(f" {len(missing)} not ready; each says above what it lacks").text, soft_wrap=True)
