"""The template of docs/extending.md, as a stranger uses it: built, installed into a fresh environment, scored."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import numpy as np
import pytest

import cogeval
from cogvideo.errors import UserError
from eval.pairing import REFERENCE_FILE, ReferenceRecord
from eval.records import read_record
from eval.registry import Registry

ROOT = Path(__file__).resolve().parents[1]
TEMPLATE = ROOT / "docs" / "plugin_template"
SMALL = ("--samples", "8", "--workers", "0", "--no-floor", "--replicates", "20", "--quiet")


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment with the template installed; dependencies and cogeval are seen through a .pth."""
    home = tmp_path_factory.mktemp("plugin")
    shutil.copytree(TEMPLATE, home / "source", ignore=shutil.ignore_patterns("__pycache__"))
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(home / "wheels")]
    subprocess.run(build, cwd=home / "source", check=True, capture_output=True)
    venv.create(home / "environment", symlinks=True)
    found = home / "environment" / "bin" / "python"
    install = [sys.executable, "-m", "pip", "--python", str(found), "install", "--no-deps", "--no-index"]
    subprocess.run([*install, *map(str, (home / "wheels").glob("*.whl"))], check=True, capture_output=True)
    base = str(home / "environment")
    site = Path(sysconfig.get_path("purelib", vars={"base": base, "platbase": base}))
    places = [str(Path(cogeval.__file__).parent), *(sysconfig.get_path(kind) for kind in ("purelib", "platlib"))]
    (site / "dependencies.pth").write_text("\n".join(dict.fromkeys(places)) + "\n")
    return found


def run(python: Path, folder: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")} | more
    command = [str(python), "-m", "cogeval", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


@pytest.mark.slow
def test_the_template_shows_up_and_works(python: Path, tmp_path: Path) -> None:
    listed = run(python, tmp_path, "list", "metrics", "generators", "--json")
    assert listed.returncode == 0, listed.stderr
    rows = {row["name"]: row for kind in json.loads(listed.stdout).values() for row in kind}
    assert rows["mean-gap"]["summary"] == "squared distance of the feature means"
    assert rows["stripes"]["options"] == "width"
    chosen = ("--generator", "stripes", "--generator", "stripes?width=4", "--metric", "mean-gap", "--metric", "fvd")
    done = run(python, tmp_path, "ucf101", *SMALL, *chosen, "--json")
    assert done.returncode == 0, done.stderr
    for one in json.loads(done.stdout)["runs"]:
        folder = tmp_path / one["run"]
        fvd, gap = one["result"]["metrics"]
        assert (fvd["id"], gap["id"], gap["label"]) == ("fvd/16f-shapes", "mean-gap/16f-shapes", "Mean gap")
        reference = read_record(folder / REFERENCE_FILE, ReferenceRecord)
        ((name, place),) = reference.folders.items()
        fake, real = (
            np.concatenate([np.load(path)[name] for path in sorted(Path(where).glob("*.npz"))]).astype(np.float64)
            for where in (folder / "features", place)
        )
        assert gap["value"] == pytest.approx(((fake.mean(0) - real.mean(0)) ** 2).sum(), rel=1e-9)


@pytest.mark.slow
def test_a_module_of_ones_own_needs_no_package(tmp_path: Path) -> None:
    done = run(
        Path(sys.executable),
        tmp_path,
        *("--plugin", "cogeval_example.generator", "list", "generators", "--json"),
        PYTHONPATH=os.pathsep.join([str(TEMPLATE), str(Path(cogeval.__file__).parent)]),
        PYTHONDONTWRITEBYTECODE="1",
    )
    assert done.returncode == 0, done.stderr
    assert "stripes" in [row["name"] for row in json.loads(done.stdout)["generators"]]


def test_a_plugin_that_fails_is_one_line(capsys, monkeypatch, tmp_path):
    (tmp_path / "broken_plugin.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert cogeval.main(["--plugin", "broken_plugin", "list"]) == 2
    assert "--plugin broken_plugin fails when it is imported: ZeroDivisionError" in capsys.readouterr().err


def test_a_name_of_ours_cannot_be_taken():
    registry: Registry[object] = Registry("metric", {"fvd": "eval.metrics.fvd"})
    with pytest.raises(ValueError, match="'fvd' is registered twice"):
        registry.register("fvd", "mine")(lambda: None)


def test_an_entry_point_that_fails_is_told_with_its_package(monkeypatch):
    class Point:
        name, dist = "theirs", type("Dist", (), {"name": "their-package"})

        def load(self):
            raise SyntaxError("bad")

    registry: Registry[object] = Registry("metric", {})
    monkeypatch.setattr(registry, "_entry_points", lambda: [Point()])
    with pytest.raises(UserError, match="'theirs' of their-package cannot be loaded: SyntaxError: bad"):
        registry.get("theirs")
