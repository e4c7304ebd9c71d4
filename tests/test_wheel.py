"""What a user installs: the built wheel in a clean environment, used from another folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

import cogeval

ROOT = Path(__file__).resolve().parents[1]
DATA = {".toml", ".yaml", ".yml", ".safetensors", ".json", ".html", ".css", ".js", ".jinja", ".typed", ".npz", ".svg"}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the checkout without the network."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def command(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The installed `cogeval`. Dependencies are seen through a .pth file; the package comes from the wheel alone."""
    home = tmp_path_factory.mktemp("environment")
    venv.create(home, symlinks=True)
    python = home / "bin" / "python"
    install = [sys.executable, "-m", "pip", "--python", str(python), "install", "--no-deps", "--no-index", str(wheel)]
    subprocess.run(install, check=True, capture_output=True)
    site = Path(sysconfig.get_path("purelib", vars={"base": str(home), "platbase": str(home)}))
    places = dict.fromkeys(sysconfig.get_path(kind) for kind in ("purelib", "platlib"))
    (site / "dependencies.pth").write_text("\n".join(places) + "\n")
    return home / "bin" / "cogeval"


def run(command: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run in another folder, with a cache of its own and nothing of ours on Python's path."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("COGEVAL_", "PYTHON"))}
    environment |= {"COGEVAL_HOME": str(folder / "home"), "OMP_NUM_THREADS": "1"}
    return subprocess.run([str(command), *arguments], cwd=folder, env=environment, capture_output=True, text=True)


def test_the_wheel_holds_the_packages_and_their_data_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    packages = ("cogvideo", "eval", "human_eval", "reports")
    wanted = {"cogeval.py"} | {
        path.relative_to(ROOT).as_posix()
        for package in packages
        for path in (ROOT / package).rglob("*")
        if path.suffix in DATA | {".py"}
    }
    assert wanted <= held
    assert {name.split("/")[0] for name in held} == {"cogeval.py", *packages}
    assert {f"{package}/py.typed" for package in packages} <= held
    assert [name for name in held if "__pycache__" in name] == []


def test_the_installed_command_is_the_wheels(command: Path, tmp_path: Path) -> None:
    done = run(command, tmp_path, "--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"cogeval {cogeval.__version__}\n", "")
    where = run(command.with_name("python"), tmp_path, "-c", "import cogeval, eval, reports; print(cogeval.__file__)")
    assert Path(where.stdout.strip()).is_relative_to(command.parents[1])


def test_the_main_job_from_another_folder(command: Path, tmp_path: Path) -> None:
    done = run(command, tmp_path, "ucf101", "--samples", "24", "--generator", "real", "--generator", "noise", "--json")
    assert done.returncode == 0, done.stderr
    json.loads(done.stdout)
    results = sorted(tmp_path.glob("runs/ucf101/*/result.json"))
    assert len(results) == 2
    assert all(path.with_name("report.html").is_file() for path in results)
    assert {path.name for path in tmp_path.iterdir()} == {"home", "runs"}
    assert run(command, tmp_path, "list").returncode == 0


def test_running_writes_nothing_into_the_installed_package(command: Path, tmp_path: Path) -> None:
    site = command.parents[1]
    before = {path for path in site.rglob("*") if "__pycache__" not in path.parts}
    assert run(command, tmp_path, "doctor").returncode in (0, 3)
    assert {path for path in site.rglob("*") if "__pycache__" not in path.parts} == before
