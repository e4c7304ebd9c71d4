"""What is loaded when little is asked for: a heavy import on the way to `--help` costs seconds and 640 MB."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

import cogeval

ROOT = Path(__file__).resolve().parents[1]
TORCH = {"torch", "torchvision", "torchmetrics", "open_clip", "pytorch_fid"}
HEAVY = TORCH | {"numpy", "pandas", "scipy"}
NOT_FOR_HELP = HEAVY | {
    "av",
    "jinja2",
    "pydantic",
    "rich",
    "yaml",
    "PIL",
    "safetensors",
    "importlib.metadata",
    "shutil",
}
# Modules that decoding workers, reports, and commands before their work may import. A new one is matched by its room.
TORCH_FREE = (
    "cogvideo.errors",
    "cogvideo.video*",
    "cogvideo.weights*",
    "eval.commands*",
    "eval.datasets*",
    "eval.decoding",
    "eval.generators.contract",
    "eval.generators.folder",
    "eval.generators.reference",
    "eval.influence",
    "eval.intervals",
    "eval.plan",
    "eval.protocol",
    "eval.protocols*",
    "eval.published",
    "eval.records",
    "eval.registry",
    "eval.scoring",
    "eval.terminal*",
    "eval.*.contract",
    "human_eval*",
    "reports*",
)


def loaded_after(code: str, tmp_path: Path) -> set[str]:
    """Names in sys.modules after the code has run in a Python of its own."""
    report = tmp_path / "modules.json"
    script = tmp_path / "script.py"
    script.write_text(f"import sys\n{code}\nimport json\njson.dump(sorted(sys.modules), open({str(report)!r}, 'w'))\n")
    run = subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert run.returncode == 0, run.stderr
    return set(json.loads(report.read_text()))


def module_names() -> list[str]:
    names = []
    for package in ("cogvideo", "eval", "human_eval", "reports"):
        for path in (ROOT / package).rglob("*.py"):
            parts = path.relative_to(ROOT).with_suffix("").parts
            names.append(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    return sorted(names)


@pytest.mark.parametrize(("word", "code"), [("--help", 0), ("--version", 0), ("ufc101", 2)])
def test_the_door_loads_click_and_little_else(word: str, code: int, tmp_path: Path) -> None:
    loaded = loaded_after(f"import cogeval\nassert cogeval.main([{word!r}]) == {code}", tmp_path)
    assert loaded & NOT_FOR_HELP == set()
    assert {name for name in loaded if name.split(".")[0] in ("eval", "human_eval", "reports")} == set()
    assert "click" in loaded


@pytest.mark.parametrize("name", list(cogeval.COMMANDS))
def test_a_commands_help_loads_no_array_library(name: str, tmp_path: Path) -> None:
    code = f"import cogeval\nassert cogeval.main([{name!r}, '--help']) == 0"
    assert loaded_after(code, tmp_path) & HEAVY == set()


@pytest.mark.parametrize("package", ["cogvideo", "eval", "human_eval", "reports"])
def test_importing_a_package_costs_nothing(package: str, tmp_path: Path) -> None:
    loaded = loaded_after(f"from {package} import __doc__", tmp_path)
    assert {name for name in loaded if name.split(".")[0] == package} == {package}
    assert loaded & NOT_FOR_HELP == set()


def test_torch_free_modules_are_torch_free(tmp_path: Path) -> None:
    names = [name for name in module_names() if any(fnmatchcase(name, pattern) for pattern in TORCH_FREE)]
    assert "cogvideo.errors" in names
    imports = "import importlib\nfor name in {}:\n    importlib.import_module(name)"
    if loaded_after(imports.format(names), tmp_path) & TORCH:
        guilty = [name for name in names if loaded_after(imports.format([name]), tmp_path) & TORCH]
        pytest.fail(f"these load torch when they are imported: {', '.join(guilty)}")
