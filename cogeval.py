"""The `cogeval` command: the door to the four packages. A command's module is loaded when that command is asked for.

`cogeval --help` imports click and this file. Adding a command is one line in `COMMANDS`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import click

from cogvideo.errors import Finished, UserError

if TYPE_CHECKING:
    from pathlib import Path

__version__ = "0.1.0"


class Lazy(NamedTuple):
    """Where a command is, and its line in `cogeval --help`."""

    section: str
    module: str
    attribute: str
    summary: str


COMMANDS = {
    "ucf101": Lazy("Measure", "eval.commands.benchmarks", "ucf101", "FVD, IS and more on UCF-101, or embedded data."),
    "kinetics600": Lazy("Measure", "eval.commands.benchmarks", "kinetics600", "Frame prediction on Kinetics-600."),
    "prompts": Lazy("Measure", "eval.commands.benchmarks", "prompts", "Text alignment on a file of prompts."),
    "compare": Lazy("Read", "eval.commands.compare", "compare", "Finished runs side by side, with paired differences."),
    "report": Lazy("Read", "reports.commands.report", "report", "The page of finished runs, made anew from records."),
    "sensitivity": Lazy("Read", "eval.commands.sensitivity", "sensitivity", "What each metric sees: damaged clips."),
    "list": Lazy("Read", "eval.commands.list_", "list_", "Metrics, detectors, data sets, generators, protocols."),
    "leaderboard": Lazy(
        "Read",
        "reports.commands.leaderboard",
        "leaderboard",
        "Runs as a site of static pages that opens by double click.",
    ),
    "human": Lazy(
        "People", "human_eval.commands.human", "human", "A study with human raters: design, collect, analyse."
    ),
    "generate": Lazy("Generate", "cogvideo.commands.generate", "generate", "Videos from prompts, with CogVideo."),
    "convert": Lazy("Generate", "cogvideo.commands.convert", "convert", "Released checkpoints to safetensors."),
    "tokenize": Lazy("Train", "cogvideo.commands.tokenize", "tokenize", "Videos and captions to records of tokens."),
    "train": Lazy("Train", "cogvideo.commands.train", "train", "Networks by named recipes; all of the small ones."),
    "weights": Lazy("Prepare", "eval.commands.weights", "weights", "List, fetch, add or verify weights."),
    "data": Lazy("Prepare", "eval.commands.data", "data", "Draw the embedded data set, or check a folder."),
    "doctor": Lazy("Prepare", "eval.commands.doctor", "doctor", "What works here, and what is missing for which run."),
}

# What several processes of `torchrun` do together; of any other command the first process does all.
SHARED = ("ucf101", "kinetics600", "prompts", "train")

EXIT_CODES = {
    0: "complete",
    1: "unexpected error",
    2: "bad usage or bad input",
    3: "a prerequisite is missing (weights, data, device)",
    4: "finished but partial",
    5: "compare found a regression",
    130: "interrupted",
    141: "whatever read the output has closed it",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code (`EXIT_CODES`). Only exit code 1 comes with a traceback."""
    state: dict[str, bool] = {}
    code = _guarded(sys.argv[1:] if arguments is None else list(arguments), state)
    if state.get("verbose"):
        _say(f"exit {code}: {EXIT_CODES.get(code, 'as the command says')}")
    return code


def _guarded(arguments: list[str], state: dict[str, bool]) -> int:
    """The exit code of the command; everything that it raises has become one line on stderr."""
    try:
        if instruction := os.environ.get("_COGEVAL_COMPLETE"):
            from click.shell_completion import shell_complete

            return shell_complete(cogeval, {}, "cogeval", "_COGEVAL_COMPLETE", instruction)
        with cogeval.make_context("cogeval", arguments, obj=state, terminal_width=_help_width()) as context:
            code: int = cogeval.invoke(context)
        sys.stdout.flush()
        return code
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return error.exit_code
    except click.ClickException as error:
        return 2 if _is_one_of_many() else _fail(_usage_line(error), 2)
    except UserError as error:
        return _fail(str(error), error.exit_code)
    except (KeyboardInterrupt, EOFError, click.Abort):
        return 130 if _is_one_of_many() else _fail("interrupted", 130)
    except OSError as error:
        if error.errno == errno.EPIPE:
            _drop_output()
            return 141
        if line := _system_line(error):
            return _fail(line, 2)
        return _crash()
    except Exception:  # noqa: BLE001 - the last line of defence, and the only place with a traceback
        return _crash()


class Door(click.Group):
    """A group whose commands are the table above, imported when they are used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, with an environment variable on each of its flags."""
        if cmd_name not in COMMANDS:
            return None
        entry = COMMANDS[cmd_name]
        command: click.Command = getattr(import_module(entry.module), entry.attribute)
        command.short_help = entry.summary
        name_variables(command, cmd_name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = str(args[0])
        if name not in COMMANDS and not name.startswith("-"):
            from difflib import get_close_matches

            near = get_close_matches(name, COMMANDS, n=2, cutoff=0.5)
            known = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(COMMANDS)}"
            raise click.UsageError(f"no command {name!r}; {known}", ctx)
        if name not in SHARED and _is_one_of_many():
            raise click.exceptions.Exit(0)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The table by section, without importing what it names."""
        width = max(map(len, COMMANDS))
        for section in dict.fromkeys(entry.section for entry in COMMANDS.values()):
            with formatter.section(section):
                rows = [(name, entry.summary) for name, entry in COMMANDS.items() if entry.section == section]
                formatter.write_dl([(name.ljust(width), summary) for name, summary in rows])


def name_variables(command: click.Command, path: str = "") -> None:
    """Give each flag two environment variables: `COGEVAL_<COMMAND>_<FLAG>`, and `COGEVAL_<FLAG>` for every command."""
    for parameter in command.params:
        if isinstance(parameter, click.Option) and not parameter.is_eager:
            flag = max(parameter.opts, key=len).lstrip("-")
            names = [f"{path} {flag}", flag] if path else [flag]
            parameter.envvar = ["COGEVAL_" + name.upper().replace("-", "_").replace(" ", "_") for name in names]
    if isinstance(command, click.Group):
        for name, child in command.commands.items():
            name_variables(child, f"{path} {name}".strip())


def _load_plugins(context: click.Context, parameter: click.Parameter, modules: tuple[str, ...]) -> tuple[str, ...]:
    for module in modules:
        try:
            import_module(module)
        except ImportError as error:
            raise UserError(
                f"--plugin {module} cannot be imported: {error}; install it here, or put its folder on PYTHONPATH"
            ) from error
        except Exception as error:
            raise UserError(f"--plugin {module} fails when it is imported: {type(error).__name__}: {error}") from error
    return modules


@click.group(
    cls=Door,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Every flag has environment variables: COGEVAL_UCF101_SAMPLES for one command, COGEVAL_SAMPLES for all. "
    "Exit codes: 0 complete, 1 unexpected error, 2 bad usage or input, 3 something has to be fetched first, "
    "4 finished but partial, 5 regression, 130 interrupted.",
)
@click.version_option(__version__, prog_name="cogeval", message="%(prog)s %(version)s")
@click.option("--verbose", is_flag=True, help="Say at the end what the exit code means.")
@click.option(
    "--plugin",
    "plugins",
    metavar="MODULE",
    multiple=True,
    callback=_load_plugins,
    expose_value=False,
    help="Import MODULE first, so that what it registers has a name here. May be repeated.",
)
@click.pass_context
def cogeval(context: click.Context, verbose: bool) -> None:
    """Honest numbers for text-to-video models.

    Try it: `cogeval ucf101` measures real, frozen, shuffled and noise videos on embedded data in about a minute.
    """
    context.obj["verbose"] = verbose


@cogeval.result_callback()
def _finish(result: Finished | Sequence[Path] | None, **_: Any) -> int:
    """Hand the run folders to `reports`, so that `eval` need not know of pages."""
    finished = result if isinstance(result, Finished) else Finished(tuple(result or ()))
    if finished.runs:
        from reports.run_page import write_report
        from reports.sensitivity_page import is_sensitivity, write_page

        for run in finished.runs:
            page = write_page(run) if is_sensitivity(run) else write_report(run)
            click.echo(f"report  {page}", err=finished.json)
    return finished.exit_code


def _is_one_of_many() -> bool:
    """Whether `torchrun` started this process beside a first one, which speaks for all."""
    return os.environ.get("WORLD_SIZE", "1") != "1" and os.environ.get("RANK", "0") != "0"


def _leave(code: int) -> NoReturn:
    """End the program. One of several processes ends at once, with all that it said written out.

    Threads of gloo may still hold tensors then, and the end of the interpreter would abort what has been done well
    (pytorch #179291).
    """
    if os.environ.get("WORLD_SIZE", "1") != "1":
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(code)
    sys.exit(code)


def _help_width() -> int:
    """Columns for help. click would ask shutil, which loads three compressors: a tenth of the start-up."""
    columns = 80
    with contextlib.suppress(OSError, ValueError):
        columns = int(os.environ.get("COLUMNS") or os.get_terminal_size().columns)
    return max(50, min(columns, 100) - 2)


def _usage_line(error: click.ClickException) -> str:
    """click's message as one line, with the help that would have answered it."""
    line = " ".join(error.format_message().split())
    option = getattr(error, "option_name", None)
    context = getattr(error, "ctx", None)
    if isinstance(error, click.NoSuchOption) and any(option in known.opts for known in cogeval.params):
        return f"{option} goes before the command: cogeval {option} ..."
    return f"{line} (see {context.command_path} --help)" if context else line


def _system_line(error: OSError) -> str:
    """What a person can do about a full or closed disk; empty for everything that is our bug."""
    place = f" {str(error.filename)!r}" if error.filename else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"no space left to write{place}; free some and repeat the command: what was finished is kept"
    if place and error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"no permission for{place}; choose another place (--out DIR, COGEVAL_HOME) or change its owner"
    return ""


def _crash() -> int:
    import traceback

    traceback.print_exc()
    return _fail("this is a bug in cogeval; the lines above say where", 1)


def _fail(message: str, code: int) -> int:
    _say(f"error: {message}")
    return code


def _say(line: str) -> None:
    with contextlib.suppress(OSError):
        click.echo(line, err=True)


def _drop_output() -> None:
    """Let Python's last flush go nowhere, so that `cogeval list | head` ends in silence."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


name_variables(cogeval)

if __name__ == "__main__":
    _leave(main())
