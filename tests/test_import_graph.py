"""The floors of the house: which module may look at which. Read from the source, lazy imports included.

An arrow that is not allowed here runs upwards or sideways; move the code, or the thing that it needs, to a lower floor.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGES = ("cogvideo", "eval", "human_eval", "reports")
GROUND = ("cogvideo.errors", "cogvideo.video", "cogvideo.weights")
READ_BY_ALL = (
    "eval.protocol",
    "eval.records",
    "eval.responses",
    "eval.comparison_record",
    "eval.influence",
    "eval.intervals",
    "eval.published",
    "eval.notation",
)
HEAVY = ("torch", "torchvision", "torchmetrics", "open_clip", "pytorch_fid")
ROOT = Path(__file__).resolve().parents[1]


def modules() -> dict[str, Path]:
    """Every module of the four packages and the door, by its dotted name."""
    found = {"cogeval": ROOT / "cogeval.py"}
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def arrows(name: str, source: str, known: set[str] | None = None) -> Iterator[str]:
    """What the source of module `name` imports, anywhere in it; a string that is a module's name counts as well."""
    known = set(MODULES) if known is None else known
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = name.split(".")[: -node.level] if node.level else []
            start = ".".join([*package, node.module] if node.module else package)
            for alias in node.names:
                full = f"{start}.{alias.name}"
                yield full if full in known else start
        elif (
            isinstance(node, ast.Constant) and isinstance(node.value, str) and "." in node.value and node.value in known
        ):
            yield node.value


def within(name: str, places: tuple[str, ...]) -> bool:
    """Whether a module is one of the places or inside one of them."""
    return any(name == place or name.startswith(place + ".") for place in places)


def allowed(source: str, target: str) -> bool:
    """Whether module `source` may look at our module `target`."""
    package = source.split(".")[0]
    if source == "cogeval":
        return target in ("cogvideo.errors", "reports.run_page", "reports.sensitivity_page") or within(
            target, tuple(f"{package}.commands" for package in PACKAGES)
        )
    if target in PACKAGES:
        return True
    if within(source, GROUND):
        return within(target, GROUND)
    if package == "cogvideo":
        return target.startswith("cogvideo.")
    if within(source, READ_BY_ALL):
        return within(target, GROUND + READ_BY_ALL)
    if package == "eval":
        return (
            target.startswith("eval.")
            or within(target, GROUND)
            or (within(source, ("eval.generators.cogvideo",)) and target.startswith("cogvideo."))
        )
    return target.startswith(package + ".") or within(target, GROUND + READ_BY_ALL)


def ours(target: str) -> bool:
    return target == "cogeval" or target.split(".")[0] in PACKAGES


@pytest.mark.parametrize("name", sorted(MODULES))
def test_no_arrow_runs_upwards(name: str) -> None:
    targets = {target for target in arrows(name, MODULES[name].read_text()) if ours(target)}
    assert [target for target in sorted(targets) if not allowed(name, target)] == []


@pytest.mark.parametrize("name", sorted(name for name in MODULES if within(name, ("reports", *GROUND, *READ_BY_ALL))))
def test_ground_floor_and_reports_know_no_torch(name: str) -> None:
    """Not even inside a function, save one: weights that open_clip knows the address of are fetched by open_clip."""
    targets = arrows(name, MODULES[name].read_text())
    spared = {"open_clip"} if within(name, ("cogvideo.weights",)) else set()
    assert [target for target in targets if within(target, HEAVY) and target not in spared] == []


def all_python() -> list[Path]:
    return [path for folder in (*PACKAGES, "tests", "benchmarks", "docs") for path in (ROOT / folder).rglob("*.py")] + [
        ROOT / "cogeval.py"
    ]


def test_nobody_hides_the_builtin_eval() -> None:
    hiding = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in all_python()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Import)
        and any(alias.name.split(".")[0] == "eval" and alias.asname in (None, "eval") for alias in node.names)
    ]
    assert hiding == []


def test_no_module_has_a_name_that_says_nothing() -> None:
    empty = {"utils", "util", "helpers", "helper", "misc", "base", "common", "manager"}
    assert [name for name in MODULES if empty & set(name.split("."))] == []


@pytest.mark.parametrize(
    ("source", "target", "verdict"),
    [
        ("cogvideo.video", "cogvideo.errors", True),
        ("cogvideo.weights.store", "cogvideo.weights.places", True),
        ("cogvideo.video", "cogvideo.model", False),
        ("cogvideo.train", "eval.registry", False),
        ("eval.runner", "cogvideo.model", False),
        ("eval.generators.cogvideo", "cogvideo.pipeline", True),
        ("eval.generators.cogvideo.sources", "cogvideo.pipeline", True),
        ("eval.generators.cogvideos", "cogvideo.pipeline", False),
        ("eval.reconstruction", "cogvideo.pipeline", False),
        ("eval.records", "eval.runner", False),
        ("eval.records", "cogvideo.errors", True),
        ("eval.commands.benchmarks", "reports.run_page", False),
        ("reports.run_page", "eval.records", True),
        ("reports.run_page", "eval.features", False),
        ("reports.run_page", "human_eval.store", False),
        ("human_eval.app", "eval.intervals", True),
        ("human_eval.app", "cogvideo.model", False),
        ("cogeval", "eval.commands.list_", True),
        ("cogeval", "eval.runner", False),
        ("eval.runner", "cogeval", False),
    ],
)
def test_the_floors_are_those_of_the_plan(source: str, target: str, verdict: bool) -> None:
    assert allowed(source, target) is verdict


def test_arrows_are_seen_wherever_they_hide() -> None:
    source = """
from eval import runner
from . import model
from .errors import UserError
def later():
    import reports.site
    import_module('human_eval.app')
"""
    known = {"eval.runner", "cogvideo.model", "cogvideo.errors", "reports.site", "human_eval.app"}
    assert set(arrows("cogvideo.video", source, known)) == known
