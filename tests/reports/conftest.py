"""The invented runs of `tests/eval`, loaded by path because test folders are no packages."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def sample_runs() -> ModuleType:
    """`tests/eval/sample_runs.py`: builders of invented results and run folders."""
    name = "cogeval_sample_runs"
    if name not in sys.modules:
        path = Path(__file__).parents[1] / "eval" / "sample_runs.py"
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]
