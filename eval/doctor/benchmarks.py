"""What each published protocol lacks on this machine: weights by name, and where its data set can be had."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cogvideo.weights import WeightStore
from eval.detectors.weights import embedded_file, weight_names
from eval.doctor.checks import Check
from eval.protocol import Protocol
from eval.protocols import PROTOCOLS
from eval.weights import data_addresses

# Which flag of the command takes the data, and the addresses of the data set in the catalogue.
DATA = {
    "ucf101": ("--data DIR", ("ucf101-videos", "ucf101-splits")),
    "kinetics600": ("--data DIR", ("kinetics",)),
    "prompts": ("FILE", ()),
    "sensitivity": ("--data DIR or --clips DIR", ()),
}


@dataclass(frozen=True)
class Lack:
    """What one protocol needs, and which of it is not here or damaged."""

    protocol: Protocol
    weights: tuple[str, ...]
    absent: tuple[str, ...]
    damaged: tuple[str, ...]

    @property
    def is_ready(self) -> bool:
        return not self.absent and not self.damaged


def lacks(store: WeightStore) -> list[Lack]:
    """One row for each protocol that is no embedded one, in the order of the table."""
    states: dict[str, str] = {}

    def state(name: str) -> str:
        if name not in states:
            states[name] = "present" if embedded_file(name) else store.status(name).state
        return states[name]

    rows = []
    for protocol in PROTOCOLS.values():
        if protocol.embedded:
            continue
        names = tuple(weight_names(protocol))
        damaged = tuple(name for name in names if state(name) == "damaged")
        absent = tuple(name for name in names if state(name) in ("absent", "partial"))
        rows.append(Lack(protocol, names, absent, damaged))
    return rows


def benchmark(name: str, rows: list[Lack]) -> Iterator[Check]:
    """Data, then a check for each protocol of the benchmark."""
    yield _data(name)
    for lack in rows:
        if lack.protocol.benchmark != name:
            continue
        title = lack.protocol.name + (" (published)" if lack.protocol.published else "")
        wanted = ", ".join(lack.weights)
        if lack.is_ready:
            yield Check(title, True, "all weights are here", wanted)
            continue
        parts = [f"without {', '.join(lack.absent)}"] if lack.absent else []
        parts += [f"damaged: {', '.join(lack.damaged)}"] if lack.damaged else []
        mend = f"cogeval weights fetch {' '.join((*lack.absent, *lack.damaged))}"
        yield Check(title, False, "; ".join(parts), wanted, mend, is_optional=not lack.damaged)


def _data(name: str) -> Check:
    flag, addresses = DATA[name]
    variables = [f"COGEVAL_{name.upper()}_DATA", "COGEVAL_DATA"]
    chosen = next((os.environ[variable] for variable in variables if os.environ.get(variable)), "")
    if chosen and flag.startswith("--data"):
        is_there = Path(chosen).is_dir()
        found = chosen if is_there else f"{chosen} is no folder"
        mend = f"correct {' or '.join(variables)}; `cogeval data check` tells what a folder holds"
        return Check("data", is_there, found, "the data set's folder", mend)
    known = data_addresses()
    places = ", ".join(known[address].url for address in addresses)
    said = f"given with {flag}" + (f" or COGEVAL_DATA; to be had at {places}" if places else "")
    return Check("data", None, said)
