"""The one line that a person reads when something is wrong with their input or their machine.

A message says what was expected, what came, where, and how to mend it, in one line. The command prints it and
leaves with `exit_code`; everything else that is raised is a bug of ours and keeps its traceback.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path


class UserError(Exception):
    """Bad usage or bad input. The command prints the message alone and exits with 2."""

    exit_code = 2

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))


class MissingPrerequisite(UserError):  # noqa: N818 - it names the state, as the exit code's table does
    """Something has to be fetched, installed or plugged in first (weights, data, a device). Exit code 3."""

    exit_code = 3


class Finished(NamedTuple):
    """What a command gives back to the door when it has done its work.

    `runs` are folders that get a page. `exit_code`: 0 complete, 4 partial, 5 regression. `json`: stdout holds one
    JSON object and nothing may be added to it.
    """

    runs: tuple[Path, ...] = ()
    exit_code: int = 0
    json: bool = False
