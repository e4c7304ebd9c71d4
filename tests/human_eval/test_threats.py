"""The table of threats in the documentation names tests that are there."""

from __future__ import annotations

import ast
import re
from pathlib import Path


def rows_of(text: str) -> list[list[str]]:
    """The rows of the table below the heading, without its head."""
    section = text.partition("\n## Threats\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_every_threat_names_tests_that_exist(repository: Path) -> None:
    rows = rows_of((repository / "docs" / "human_study.md").read_text())
    assert len(rows) >= 30
    assert len({threat for threat, *_ in rows}) == len(rows)
    missing = []
    for threat, tests, figure in rows:
        named = re.findall(r"`([^`]+)::(\w+)`", tests)
        assert figure, threat
        assert named, threat
        assert re.sub(r"`[^`]+`|[, ]", "", tests) == "", f"{threat}: more than names of tests"
        for file, name in named:
            path = repository / "tests" / file
            tree = ast.parse(path.read_text()) if path.is_file() else ast.Module([], [])
            if name not in {one.name for one in tree.body if isinstance(one, ast.FunctionDef)}:
                missing.append(f"{file}::{name}")
    assert missing == []
