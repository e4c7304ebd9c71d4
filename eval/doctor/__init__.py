"""What works on this machine, what is missing for which published number, and whether scores can be trusted here."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from cogvideo.weights import WeightStore
from eval.doctor.checks import Check, Section, survived


def examine(store: WeightStore, *, has_measuring: bool = True) -> Iterator[Section]:
    """Section by section, as each is done. `has_measuring`: also run small networks, which takes some seconds."""
    from eval.doctor import machine

    yield Section("Machine", (*survived("machine", machine.machine), *survived("torch", machine.accelerators)))
    yield Section("Places", tuple(survived("places", machine.places)))
    from eval.doctor import benchmarks

    rows = benchmarks.lacks(store)
    for name in benchmarks.DATA:
        yield Section(f"cogeval {name}", tuple(survived(name, partial(benchmarks.benchmark, name, rows))))
    if has_measuring:
        from eval.doctor import golden, measuring

        yield Section("Same numbers as ours", tuple(survived("golden numbers", golden.golden)))
        devices = machine.devices()
        yield Section("Scores do not depend on", tuple(survived("scores", partial(measuring.invariance, devices))))


__all__ = ["Check", "Section", "examine"]
