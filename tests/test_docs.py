"""Documentation that cannot fall behind, and the house rules that a machine can read."""

from __future__ import annotations

import ast
import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import click
import numpy as np
import pytest

import cogeval
from eval.protocol import MetricSpec
from eval.registry import metrics
from eval.scoring import FeatureSet, ScoreInput

ROOT = Path(__file__).resolve().parents[1]
CODE = ("cogvideo", "eval", "human_eval", "reports", "tests", "benchmarks", "docs")
TEXT = {".cff", ".cfg", ".csv", ".ini", ".jinja", ".json", ".md", ".py", ".svg", ".toml", ".txt", ".yaml", ".yml", ""}
MOST_LINES = 480


def python_files() -> list[Path]:
    return sorted([ROOT / "cogeval.py", *(path for folder in CODE for path in (ROOT / folder).rglob("*.py"))])


def text_files() -> Iterator[Path]:
    """What is kept in the repository as text; build outputs and caches lie outside these places."""
    yield from (path for path in ROOT.iterdir() if path.is_file() and path.suffix in TEXT and path.name != ".git")
    for folder in (*CODE, "constraints", ".ci"):
        for path in (ROOT / folder).rglob("*"):
            if path.is_file() and path.suffix in TEXT and "__pycache__" not in path.parts:
                yield path


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def commands() -> Iterator[tuple[str, click.Command]]:
    """Every command of the table with its path, groups and what is in them."""
    context = click.Context(cogeval.cogeval)
    waiting = [(name, cogeval.cogeval.get_command(context, name)) for name in cogeval.COMMANDS]
    while waiting:
        path, command = waiting.pop()
        assert command is not None, path
        yield path, command
        waiting += [(f"{path} {name}", child) for name, child in getattr(command, "commands", {}).items()]


def commands_writer() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_commands", ROOT / "docs" / "make_commands.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_of_commands_is_current() -> None:
    written = (ROOT / "docs" / "commands.md").read_text()
    assert written == commands_writer().render(), "run: python docs/make_commands.py"


def test_every_command_and_flag_explains_itself() -> None:
    silent = [
        f"cogeval {path} {parameter.opts[0]}"
        for path, command in commands()
        for parameter in command.params
        if isinstance(parameter, click.Option) and not (parameter.help or parameter.hidden)
    ]
    assert silent + [f"cogeval {path}" for path, command in commands() if not command.help] == []


def test_every_environment_variable_that_is_read_is_on_the_page() -> None:
    page = (ROOT / "docs" / "commands.md").read_text()
    read = {
        name
        for package in ("cogvideo", "eval", "human_eval", "reports")
        for path in (ROOT / package).rglob("*.py")
        for name in re.findall(r"[\"']_?(COGEVAL_[A-Z_]+)", path.read_text())
    }
    assert {"COGEVAL_HOME", "COGEVAL_OFFLINE"} <= read
    assert [name for name in sorted(read) if f"`{name}" not in page] == []


def test_the_example_of_the_contributing_guide_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "entries", dict(metrics.entries))
    (example,) = re.findall(r"```python\n(.+?)```", (ROOT / "CONTRIBUTING.md").read_text(), re.DOTALL)
    exec(compile(example, "CONTRIBUTING.md", "exec"), {})

    def features(*rows: list[float]) -> FeatureSet:
        names = tuple(map(str, range(len(rows))))
        return FeatureSet(names, names, names, np.array(rows, dtype=np.float32))

    data = ScoreInput(fake=features([0, 1], [2, 1]), real=features([1, 4], [1, 4], [1, 7]))
    score = metrics.get("mean-gap").make(MetricSpec("mean-gap", "mean-gap"), data)
    assert (score.value, score.n_fake, score.n_real) == (16.0, 2, 3)


def test_the_example_of_the_readme_works(capsys: pytest.CaptureFixture[str]) -> None:
    (example,) = re.findall(r"```python\n(.+?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    names: dict[str, object] = {}
    exec(compile(example, "README.md", "exec"), names)
    streamed, at_once = re.fullmatch(r"tensor\(([\d.]+)\S*(?: dtype=\S+)? ([\d.]+)\n", capsys.readouterr().out).groups()
    assert float(streamed) == pytest.approx(float(at_once), rel=1e-3)


def test_the_readme_names_each_command_and_exit_code() -> None:
    readme = (ROOT / "README.md").read_text()
    assert [name for name in cogeval.COMMANDS if f"`cogeval {name}" not in readme] == []
    rows = dict(re.findall(r"^\| (\d+) \| (.+?) \|$", readme, re.MULTILINE))
    assert rows == {str(code): meaning for code, meaning in cogeval.EXIT_CODES.items()}


def test_ci_runs_what_the_readme_tells_a_newcomer_to_run() -> None:
    readme, script = (ROOT / "README.md").read_text(), (ROOT / ".ci" / "run").read_text()
    for command in ("python -m pip install . && cogeval ucf101", "python -m pip install tox && tox"):
        assert f"\n{command}\n" in readme
    assert "\npython -m pip install tox && tox\n" in script


def test_links_in_documents_lead_somewhere() -> None:
    broken = [
        f"{relative(page)}: {target}"
        for page in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "benchmarks").rglob("*.md"))
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text())
        if "://" not in target and not (page.parent / target).exists()
    ]
    assert broken == []


def test_every_page_of_docs_is_in_their_list() -> None:
    index = (ROOT / "docs" / "README.md").read_text()
    assert [
        page.name for page in (ROOT / "docs").glob("*.md") if page.name not in index and page.name != "README.md"
    ] == []


def test_every_benchmark_is_in_their_list() -> None:
    index = (ROOT / "benchmarks" / "README.md").read_text()
    assert [path.name for path in (ROOT / "benchmarks").glob("*.py") if f"| `{path.name}` |" not in index] == []


@pytest.mark.parametrize("path", python_files(), ids=relative)
def test_a_module_says_what_it_is_for_and_stays_readable(path: Path) -> None:
    source = path.read_text()
    assert ast.get_docstring(ast.parse(source))
    assert source.count("\n") <= MOST_LINES


def test_no_file_holds_a_path_of_one_machine_or_the_name_of_unfinished_work() -> None:
    place = re.compile(r"(?<![\w.~}\])])/(?:home|root|Users|work|mnt|opt)/|[A-Z]:\\\\Users")
    unfinished = re.compile(r"\b(?:TO" + r"DO|FIX" + r"ME|XX" + r"X|NotImplemented" + r"Error)\b")
    found = [
        f"{relative(path)}:{number}: {line.strip()[:80]}"
        for path in text_files()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if path != Path(__file__) and (place.search(line) or unfinished.search(line))
    ]
    assert found == []


def test_nothing_is_pinned_to_a_download_host() -> None:
    locks = {"uv.lock", "poetry.lock", "pdm.lock", "Pipfile.lock", "package-lock.json", "yarn.lock", "pnpm-lock.yaml"}
    assert [
        relative(path) for name in locks for path in (ROOT / name, *(ROOT / "docs").rglob(name)) if path.exists()
    ] == []
    settings = [ROOT / "pyproject.toml", ROOT / "tox.ini", ROOT / ".ci" / "run", *(ROOT / "constraints").iterdir()]
    assert [relative(path) for path in settings if re.search(r"index[-_]url|find[-_]links|://", path.read_text())] == []


def test_the_version_stands_in_changelog_and_citation() -> None:
    assert re.search(rf"^## {re.escape(cogeval.__version__)}\b", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert f"\nversion: {cogeval.__version__}\n" in (ROOT / "CITATION.cff").read_text()
