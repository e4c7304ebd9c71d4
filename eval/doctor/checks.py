"""What the doctor says: one `Check` a thing looked at, in sections."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "failed", "missing", "note"]


@dataclass(frozen=True)
class Check:
    """One thing looked at. `ok` None is a fact that is neither good nor bad; `mend` says what to do if `ok` is False.

    `is_optional`: only some benchmarks need it, so that its absence is no fault of the installation.
    """

    name: str
    ok: bool | None
    found: str
    wanted: str = ""
    mend: str = ""
    is_optional: bool = False

    @property
    def state(self) -> State:
        if self.ok is None:
            return "note"
        if self.ok:
            return "ok"
        return "missing" if self.is_optional else "failed"


@dataclass(frozen=True)
class Section:
    title: str
    checks: tuple[Check, ...]


def survived(name: str, look: Callable[[], Iterable[Check]]) -> list[Check]:
    """The checks of `look`; one failed check with the reason where it broke down, because a doctor must not."""
    try:
        return list(look())
    except Exception as error:  # noqa: BLE001 - whatever is broken on this machine is what the person wants to read
        reason = f"{type(error).__name__}: {error}"
        return [Check(name, False, " ".join(reason.split())[:300], "no error", "see the reason; reinstall if unclear")]
