"""The command line's door: exit codes, one-line errors, environment variables, plugins, reports, closed pipes."""

from __future__ import annotations

import errno
import functools
import json
import os
import signal
import subprocess
import sys
import textwrap
import types
from collections.abc import Callable
from pathlib import Path

import click
import pytest

import cogeval
from cogvideo.errors import Finished, MissingPrerequisite, UserError

Plant = Callable[[Callable[..., object]], None]


@pytest.fixture
def plant(monkeypatch: pytest.MonkeyPatch) -> Plant:
    """Put a command named `try` into the table, whose body is the given function."""

    def put(body: Callable[..., object]) -> None:
        module = types.ModuleType("planted_commands")
        module.command = body if isinstance(body, click.Command) else click.command("try")(body)
        monkeypatch.setitem(sys.modules, "planted_commands", module)
        monkeypatch.setitem(cogeval.COMMANDS, "try", cogeval.Lazy("Measure", "planted_commands", "command", "Try."))

    return put


def raising(error: BaseException) -> Callable[[], None]:
    def body() -> None:
        raise error

    return body


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (UserError("clips need 16 frames;\n a.mp4 has 11"), 2, "error: clips need 16 frames; a.mp4 has 11\n"),
        (MissingPrerequisite("no weights; fetch them"), 3, "error: no weights; fetch them\n"),
        (KeyboardInterrupt(), 130, "error: interrupted\n"),
        (click.Abort(), 130, "error: interrupted\n"),
        (click.BadParameter("must be positive"), 2, "error: Invalid value: must be positive"),
        (OSError(errno.ENOSPC, "full", "runs/a.json"), 2, "error: no space left to write 'runs/a.json'"),
        (PermissionError(errno.EACCES, "no", "runs/a.json"), 2, "error: no permission for 'runs/a.json'"),
    ],
)
def test_an_expected_failure_is_one_line_and_its_exit_code(
    plant: Plant, capsys: pytest.CaptureFixture[str], error: BaseException, code: int, line: str
) -> None:
    plant(raising(error))
    assert cogeval.main(["try"]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(line)
    assert err.count("\n") == 1


@pytest.mark.parametrize("error", [ValueError("ours"), FileNotFoundError(errno.ENOENT, "gone", "x"), OSError("odd")])
def test_only_a_bug_of_ours_shows_a_traceback(
    plant: Plant, capsys: pytest.CaptureFixture[str], error: Exception
) -> None:
    plant(raising(error))
    assert cogeval.main(["try"]) == 1
    assert "Traceback (most recent call last)" in capsys.readouterr().err


def test_verbose_says_what_the_exit_code_means(plant: Plant, capsys: pytest.CaptureFixture[str]) -> None:
    plant(lambda: Finished(exit_code=4))
    assert cogeval.main(["--verbose", "try"]) == 4
    assert capsys.readouterr().err == "exit 4: finished but partial\n"
    assert cogeval.main(["try"]) == 4
    assert capsys.readouterr().err == ""


def test_a_command_may_leave_early_with_its_code(plant: Plant) -> None:
    plant(lambda: click.get_current_context().exit(5))
    assert cogeval.main(["try"]) == 5


@pytest.mark.parametrize("as_list", [True, False])
def test_run_folders_are_handed_to_reports(
    plant: Plant,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    as_list: bool,
) -> None:
    runs = [tmp_path / "a", tmp_path / "b"]
    pages = types.ModuleType("reports.run_page")
    pages.write_report = lambda run: run / "report.html"
    monkeypatch.setitem(sys.modules, "reports.run_page", pages)
    plant(lambda: runs if as_list else Finished(tuple(runs), exit_code=4, json=True))
    assert cogeval.main(["try"]) == (0 if as_list else 4)
    captured = capsys.readouterr()
    lines = "".join(f"report  {run / 'report.html'}\n" for run in runs)
    assert (captured.out, captured.err) == ((lines, "") if as_list else ("", lines))


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["ufc101"], "error: no command 'ufc101'; did you mean ucf101? (see cogeval --help)\n"),
        (["zzz"], "error: no command 'zzz'; there are ucf101, kinetics600, prompts, "),
        (["--frobnicate"], "error: No such option"),
        (["--plugin", "no_such_module_x", "list"], "error: --plugin no_such_module_x cannot be imported: "),
    ],
)
def test_bad_usage_is_one_line_that_helps(capsys: pytest.CaptureFixture[str], arguments: list[str], line: str) -> None:
    assert cogeval.main(arguments) == 2
    err = capsys.readouterr().err
    assert err.startswith(line)
    assert err.count("\n") == 1


def test_a_group_flag_after_the_command_is_told_its_place(plant: Plant, capsys: pytest.CaptureFixture[str]) -> None:
    plant(lambda: None)
    assert cogeval.main(["try", "--plugin", "x"]) == 2
    assert capsys.readouterr().err == "error: --plugin goes before the command: cogeval --plugin ...\n"


def test_no_command_is_bad_usage_and_shows_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert cogeval.main([]) == 2
    assert "ucf101" in capsys.readouterr().err


def test_each_flag_listens_to_its_own_variable_then_to_the_common_one(
    plant: Plant, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    @click.command("try")
    @click.option("--batch-size", "-b", "size", type=int, default=8)
    @click.option("--keep/--no-keep", default=True)
    def command(size: int, keep: bool) -> None:
        click.echo(f"{size} {keep}")

    plant(command)
    cogeval.main(["try"])
    monkeypatch.setenv("COGEVAL_BATCH_SIZE", "3")
    monkeypatch.setenv("COGEVAL_KEEP", "0")
    cogeval.main(["try"])
    monkeypatch.setenv("COGEVAL_TRY_BATCH_SIZE", "5")
    cogeval.main(["try"])
    cogeval.main(["try", "-b", "7", "--keep"])
    assert capsys.readouterr().out.split("\n")[:4] == ["8 True", "3 False", "5 False", "7 True"]


def test_flags_of_a_nested_command_carry_the_whole_path() -> None:
    child = click.Command("fetch", params=[click.Option(["--dry-run"], is_flag=True)])
    cogeval.name_variables(click.Group("weights", commands={"fetch": child}), "weights")
    assert child.params[0].envvar == ["COGEVAL_WEIGHTS_FETCH_DRY_RUN", "COGEVAL_DRY_RUN"]


def test_a_plugin_is_imported_before_the_command(
    plant: Plant, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "my_cogeval_plugin.py").write_text("loaded = True\n")
    monkeypatch.syspath_prepend(tmp_path)
    plant(lambda: click.echo("my_cogeval_plugin" in sys.modules))
    try:
        assert cogeval.main(["--plugin", "my_cogeval_plugin", "try"]) == 0
    finally:
        sys.modules.pop("my_cogeval_plugin", None)
    assert capsys.readouterr().out == "True\n"


def run_python(code: str, tmp_path: Path, **options: object) -> subprocess.Popen[str]:
    """Start Python with the code in a file and the checkout out of sight."""
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(code))
    return subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        **options,
    )


PLANTED = """
    import sys, time, types, click, cogeval
    module = types.ModuleType("planted")
    @click.command()
    def command():
        {body}
    module.command = command
    sys.modules["planted"] = module
    cogeval.COMMANDS["try"] = cogeval.Lazy("Measure", "planted", "command", "")
    sys.exit(cogeval.main(["try"]))
"""


@pytest.mark.parametrize("lines", [1, 20_000])
def test_a_closed_pipe_ends_in_silence(tmp_path: Path, lines: int) -> None:
    body = f"time.sleep(0.5); [click.echo('x' * 50) for _ in range({lines})]"
    process = run_python(PLANTED.format(body=body), tmp_path)
    process.stdout.close()
    assert process.wait(timeout=60) == 141
    with process.stderr as err:
        assert err.read() == ""


def test_ctrl_c_leaves_with_130_and_one_line(tmp_path: Path) -> None:
    body = "click.echo('up'); sys.stdout.flush(); time.sleep(60)"
    # Whoever runs the tests in the background may have told all children to ignore Ctrl-C.
    heard = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    process = run_python(PLANTED.format(body=body), tmp_path, preexec_fn=heard)
    assert process.stdout.readline() == "up\n"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (130, "", "error: interrupted\n")


def test_python_dash_m_is_the_same_door(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    run = subprocess.run(
        [sys.executable, "-m", "cogeval", "--version"], capture_output=True, text=True, cwd=tmp_path, env=environment
    )
    assert (run.returncode, run.stdout, run.stderr) == (0, f"cogeval {cogeval.__version__}\n", "")


@pytest.mark.parametrize(("world", "has_end"), [("1", True), ("2", False)])
def test_one_of_several_processes_leaves_before_the_interpreter_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, world: str, *, has_end: bool
) -> None:
    code = """
        import atexit, runpy, sys
        atexit.register(print, "the end")
        sys.argv = ["cogeval", "train", "--list", "--json"]
        runpy.run_module("cogeval", run_name="__main__")
    """
    monkeypatch.setenv("WORLD_SIZE", world)
    output, _ = (run := run_python(code, tmp_path)).communicate(timeout=60)
    assert run.returncode == 0
    said, _, end = output.rpartition("}")
    assert json.loads(said + "}")["recipes"]
    assert ("the end" in end) == has_end


def test_a_shell_can_complete_commands(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for name, value in {"_COGEVAL_COMPLETE": "bash_complete", "COMP_WORDS": "cogeval uc", "COMP_CWORD": "1"}.items():
        monkeypatch.setenv(name, value)
    assert cogeval.main([]) == 0
    assert capsys.readouterr().out == "plain,ucf101\n"


@pytest.mark.parametrize("name", list(cogeval.COMMANDS))
def test_every_command_of_the_table_loads_and_explains_itself(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cogeval.main([name, "--help"]) == 0
    assert capsys.readouterr().out.startswith(f"Usage: cogeval {name} ")
