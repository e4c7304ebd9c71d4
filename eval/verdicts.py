"""What can only be said of the samples of a run together: which repeat an earlier one, which have another size.

These verdicts are passed when all samples are there, so that they depend on no order and on no number of processes.
Until then a sample is judged alone, and features are made of all that are good alone.
"""

from __future__ import annotations

from collections.abc import Iterable

from eval.audit import audit_sizes, find_duplicates
from eval.records import SampleLine

TOGETHER = ("duplicate", "mixed-sizes")


def judged_alone(line: SampleLine) -> SampleLine:
    """The line without the verdicts that `judged_together` adds."""
    return line.model_copy(update={"ok": True, "kind": "", "reason": ""}) if line.kind in TOGETHER else line


def judged_together(lines: Iterable[SampleLine]) -> list[SampleLine]:
    """The lines in their order, repetitions and samples of another size than the run's rejected."""
    alone = [judged_alone(line) for line in lines]
    good = {line.id: line for line in alone if line.ok}
    found = audit_sizes({name: (line.height, line.width) for name, line in good.items()})
    found |= find_duplicates({name: line.frames_sha256 for name, line in good.items() if name not in found})
    return [
        line.model_copy(update={"ok": False, "kind": found[line.id].kind, "reason": found[line.id].reason})
        if line.id in found
        else line
        for line in alone
    ]
