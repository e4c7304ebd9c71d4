"""Where the reference numbers are, and how they are read; whatever is absent is skipped with its name."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

REPO = Path(__file__).resolve().parents[2]


def _rule_module() -> ModuleType:
    """Load the neighbour by path: tests are no package, and pytest's importlib mode puts nothing on sys.path."""
    name = "cogeval_reference_rule"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name("rule.py"))
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


@pytest.fixture(scope="session")
def reference_root() -> Path:
    """The folder that holds `metrics/`, `human/` and `cogvideo/`."""
    root = Path(os.environ.get("COGEVAL_REFERENCE_DIR") or REPO.parent / "shared" / "reference")
    if not root.is_dir():
        pytest.skip(f"no reference numbers at {root}; set COGEVAL_REFERENCE_DIR")
    return root


@pytest.fixture(scope="session")
def reference_dir(reference_root: Path) -> Path:
    """The metric reference numbers."""
    folder = reference_root / "metrics"
    if not folder.is_dir():
        pytest.skip(f"no metric reference numbers at {folder}")
    return folder


@pytest.fixture(scope="session")
def reference_file(reference_dir: Path) -> Callable[[str], Path]:
    """Path of one reference file; the test is skipped if the set does not have it."""

    def find(name: str) -> Path:
        path = reference_dir / name
        if not path.is_file():
            pytest.skip(f"this reference set has no {name}")
        return path

    return find


@pytest.fixture(scope="session")
def reference_json(reference_file: Callable[[str], Path]) -> Callable[[str], Any]:
    """The content of one JSON file of the set."""
    return lambda name: json.loads(reference_file(name).read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def reference_npz(reference_file: Callable[[str], Path]) -> Callable[[str], dict[str, np.ndarray]]:
    """The arrays of one npz file of the set."""

    def load(name: str) -> dict[str, np.ndarray]:
        with np.load(reference_file(name)) as archive:
            return {key: archive[key] for key in archive.files}

    return load


@pytest.fixture(scope="session")
def inputs(reference_json: Callable[[str], Any]) -> Any:
    """Names and sizes of every input of this set, and its salt."""
    return reference_json("inputs.json")


@pytest.fixture(scope="session")
def rule(inputs: dict[str, Any]) -> Any:
    """The rule with the salt of this set."""
    return _rule_module().Rule(inputs["salt"])


@pytest.fixture(scope="session")
def make_rule() -> Any:
    """The rule with another salt, and without any reference file."""
    return _rule_module().Rule


@pytest.fixture(scope="session")
def item() -> Callable[[Mapping[str, Any], str], Any]:
    """One entry of a mapping; the test is skipped if the set does not have it."""

    def get(mapping: Mapping[str, Any], key: str) -> Any:
        if key not in mapping:
            pytest.skip(f"this reference set has no item {key!r}")
        return mapping[key]

    return get
