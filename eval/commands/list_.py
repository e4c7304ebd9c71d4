"""`cogeval list`: everything that has a name here, with what it is."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import click

from cogvideo.errors import Finished, UserError

Rows = list[dict[str, Any]]


@click.command(name="list")
@click.argument(
    "kinds",
    metavar="[KIND]...",
    nargs=-1,
    type=click.Choice(["metrics", "detectors", "datasets", "generators", "protocols", "benchmarks", "published"]),
)
@click.option("--json", "is_json", is_flag=True, help="One JSON object on stdout.")
def list_(kinds: tuple[str, ...], is_json: bool) -> Finished:
    """List metrics, detectors, datasets, generators, protocols, benchmarks, or published numbers.

    Without KIND everything but the published numbers is listed. Names of plugins are in the list.
    """
    wanted = kinds or ("benchmarks", "protocols", "metrics", "detectors", "datasets", "generators")
    found = {kind: KINDS[kind]() for kind in dict.fromkeys(wanted)}
    if is_json:
        click.echo(json.dumps(found, ensure_ascii=False, indent=1))
    else:
        from eval.terminal.console import make_console
        from eval.terminal.listing import Listing

        console = make_console()
        for number, (kind, rows) in enumerate(found.items()):
            if number:
                console.print()
            console.print(Listing(kind, rows))
    return Finished(json=is_json)


def _registered(name: str) -> Rows:
    """Entries of one registry. What cannot be imported here is listed with its reason: its name still counts."""
    from eval import registry

    kind: registry.Registry[Any] = getattr(registry, name)
    rows: Rows = []
    for known in kind.names():
        try:
            entry = kind.get(known)
        except (ImportError, UserError) as error:
            rows.append({"name": known, "summary": f"cannot be loaded: {error}"})
        else:
            rows.append({"name": known, "summary": entry.summary, **_facts(entry.facts)})
    return rows


def _facts(facts: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in facts.items() if name not in ("name", "summary")}


def _protocols() -> Rows:
    from eval.protocols import DEFAULTS, PROTOCOLS

    defaults = {name for pair in DEFAULTS.values() for name in pair}
    rows: Rows = []
    for protocol in PROTOCOLS.values():
        facts: dict[str, Any] = {"benchmark": protocol.benchmark, "metrics": [spec.id for spec in protocol.metrics]}
        if protocol.name in defaults:
            facts["default"] = "embedded data" if protocol.embedded else "with --data"
        if protocol.source:
            facts["source"] = protocol.source
        rows.append({"name": protocol.name, "summary": protocol.title, **facts})
    return rows


def _benchmarks() -> Rows:
    from eval.protocols import DEFAULTS, PROTOCOLS

    return [
        {
            "name": benchmark,
            "summary": f"`cogeval {benchmark}`: {own} with --data, {embedded} without",
            "protocols": [p.name for p in PROTOCOLS.values() if p.benchmark == benchmark],
        }
        for benchmark, (own, embedded) in DEFAULTS.items()
    ]


def _published() -> Rows:
    from eval.published import as_json, rows

    return [
        {
            "name": f"{row.dataset} {row.metric} {row.value:,}",
            "summary": f"{row.name}: {row.facts}; {row.confidence} confidence; {row.source_text}",
            **as_json(row),
        }
        for row in rows()
    ]


def _metrics() -> Rows:
    """Every metric with the licences of the weights that published protocols give it, and what was measured of it."""
    from eval.findings import responses_of

    licences = _licences()
    rows = _registered("metrics")
    for row in rows:
        row["licence"] = licences.get(row["name"], "no weights")
        if found := responses_of(row["name"]):
            row["responds"] = found
    return rows


def _licences() -> dict[str, str]:
    """Metric -> its weights with their licences, over all protocols that are not embedded."""
    from eval.protocols import PROTOCOLS
    from eval.weights import open_store

    store = open_store()
    found: dict[str, dict[str, str]] = {}
    for protocol in PROTOCOLS.values():
        for spec in protocol.metrics:
            if spec.weights and not protocol.embedded:
                licence = store.entry(spec.weights).licence or "not stated"
                found.setdefault(spec.metric, {})[spec.weights] = licence
    return {
        metric: "; ".join(f"{name}: {licence}" for name, licence in sorted(names.items()))
        for metric, names in found.items()
    }


KINDS: dict[str, Callable[[], Rows]] = {
    "metrics": _metrics,
    "detectors": lambda: _registered("detectors"),
    "datasets": lambda: _registered("datasets"),
    "generators": lambda: _registered("generators"),
    "protocols": _protocols,
    "benchmarks": _benchmarks,
    "published": _published,
}
