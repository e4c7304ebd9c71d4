"""Dependencies: each one used, explained and pinned; nothing used that is not declared."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions, version
from pathlib import Path

import cogeval

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
OURS = {"cogeval", "cogvideo", "eval", "human_eval", "reports"}


def plain(name: str) -> str:
    """A distribution's name as registries compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def names(requirements: list[str]) -> dict[str, str]:
    """Name -> lowest version of requirements such as `numpy>=2.0`."""
    return {plain(name): lowest for name, lowest in (requirement.split(">=") for requirement in requirements)}


DEPENDENCIES = names(PROJECT["dependencies"])
# Imported where the extra is asked for, and only there.
OPTIONAL = names(PROJECT["optional-dependencies"]["diffusers"])
TOOLS = names([one for extra in PROJECT["optional-dependencies"].values() for one in extra])


def imported() -> set[str]:
    """Distributions that the packages import anywhere, lazily too."""
    tops = set()
    for path in [ROOT / "cogeval.py", *(path for folder in OURS for path in (ROOT / folder).rglob("*.py"))]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                tops |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                tops.add(node.module.split(".")[0])
    known = packages_distributions()
    return {plain(known[top][0]) if top in known else top for top in tops - OURS - sys.stdlib_module_names}


def test_what_is_imported_is_declared_and_what_is_declared_is_imported() -> None:
    assert set(DEPENDENCIES) <= imported() <= set(DEPENDENCIES) | set(OPTIONAL)


def test_each_dependency_has_its_line() -> None:
    rows = re.findall(r"^\| `([^`]+)` \|(.+)\|$", (ROOT / "docs" / "dependencies.md").read_text(), re.MULTILINE)
    assert [name for name, _ in rows] == sorted((*DEPENDENCIES, *TOOLS), key=lambda name: (name in TOOLS, name))
    assert [
        name for name, cells in rows if len(cells.split("|")) != 4 or not all(map(str.strip, cells.split("|")))
    ] == []


def pins(name: str) -> dict[str, str]:
    """Name -> version of a constraints file, which holds nothing else."""
    lines = [line for line in (ROOT / "constraints" / name).read_text().splitlines() if line and line[0] != "#"]
    assert [line for line in lines if not re.fullmatch(r"[a-z0-9-]+==[0-9][0-9a-z.]*", line)] == []
    return dict(line.split("==") for line in lines)


def test_all_direct_dependencies_and_tools_are_pinned_for_tests() -> None:
    assert set(DEPENDENCIES) | set(TOOLS) <= set(pins("tested.txt"))


def test_the_lowest_versions_are_those_that_are_promised() -> None:
    assert DEPENDENCIES.items() <= pins("lowest.txt").items()


def test_the_installed_version_is_the_one_that_the_command_prints() -> None:
    assert version("cogeval") == cogeval.__version__
