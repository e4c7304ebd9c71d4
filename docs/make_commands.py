"""Write docs/commands.md from the commands themselves, so that no flag is documented by hand.

python docs/make_commands.py
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

import cogeval

HEAD = """# Commands

Written by `python docs/make_commands.py` from the commands themselves. `cogeval COMMAND --help` says the same.

A flag is taken from the command line, else from the environment, else from the protocol. In the environment a flag has
two names: the one in the table, which every command with that flag listens to, and the same with the command in it,
which comes first (`COGEVAL_UCF101_SEED` before `COGEVAL_SEED`). A flag that may be repeated takes several values with
blanks between them.

Variables that are no flag:

| variable | what it says |
|---|---|
| `COGEVAL_HOME` | the folder of weights, embedded data and features of real videos; else the user's cache |
| `COGEVAL_OFFLINE` | 1: never touch the network |
| `COGEVAL_WEIGHTS_URL_<NAME>` | where to fetch one file of weights from instead, e.g. a mirror |
| `COGEVAL_BACKGROUND` | `light` or `dark`, for a terminal that does not tell |
| `COGEVAL_REQUESTS_FILE`, `COGEVAL_VIDEOS_DIR` | set for the program of a `command:` generator: its work |
| `HF_HOME`, `TORCH_HOME`, `XDG_CACHE_HOME`, `NO_COLOR` | as everywhere |

`eval "$(_COGEVAL_COMPLETE=bash_source cogeval)"` in `~/.bashrc` completes commands and flags (`zsh_source` and
`fish_source` for other shells).
"""


def render() -> str:
    """The whole page."""
    context = click.Context(cogeval.cogeval, info_name="cogeval")
    parts = [HEAD, *section(cogeval.cogeval, context)]
    for name in cogeval.COMMANDS:
        command = cogeval.cogeval.get_command(context, name)
        assert command is not None
        parts += tree(command, click.Context(command, parent=context, info_name=name))
    return "\n".join(parts)


def tree(command: click.Command, context: click.Context) -> Iterator[str]:
    """A command, then the commands under it."""
    yield from section(command, context)
    for name, child in getattr(command, "commands", {}).items():
        yield from tree(child, click.Context(child, parent=context, info_name=name))


def section(command: click.Command, context: click.Context) -> Iterator[str]:
    """Heading, what it does, and a table of its flags."""
    pieces = " ".join(command.collect_usage_pieces(context))
    yield f"## `{context.command_path}`\n"
    yield f"`{context.command_path} {pieces}`\n"
    if command.help:
        yield "\n".join(line.strip() for line in command.help.replace("\b", "").strip().splitlines()) + "\n"
    options = [parameter for parameter in command.params if isinstance(parameter, click.Option)]
    if options:
        rows = [row(option, context) for option in options if not option.hidden]
        yield "\n".join(("| flag | meaning | environment |", "|---|---|---|", *rows)) + "\n"


def row(option: click.Option, context: click.Context) -> str:
    """One line of the table of flags."""
    names = " / ".join(f"`{name}`" for name in (*option.opts, *option.secondary_opts))
    value = "" if option.is_flag or option.count else f" `{option.make_metavar(context)}`"
    meaning = option.help or ""
    if option.show_default:
        default = option.get_default(context)
        meaning += f" Default: {('yes' if default else 'no') if option.is_flag else default}."
    variables = option.envvar if isinstance(option.envvar, list) else []
    cells = (names + value, meaning, f"`{variables[-1]}`" if variables else "")
    return "| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in cells) + " |"


if __name__ == "__main__":
    page = Path(__file__).with_name("commands.md")
    page.write_text(render(), encoding="utf-8")
    click.echo(page)
