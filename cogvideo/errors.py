"""The one line that a person reads when something is wrong with their input or their machine.

A message says what was expected, what came, where, and how to mend it, in one line. The command prints it and
leaves with `exit_code`; everything else that is raised is a bug of ours and keeps its traceback.
"""


class UserError(Exception):
    """Bad usage or bad input. The command prints the message alone and exits with 2."""

    exit_code = 2

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))


class MissingPrerequisite(UserError):  # noqa: N818 - it names the state, as the exit code's table does
    """Something has to be fetched, installed or plugged in first (weights, data, a device). Exit code 3."""

    exit_code = 3
