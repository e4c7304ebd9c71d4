"""Parts of the result page: sections of a sentence, a note and a table whose rows may hold intervals as pictures."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from eval.notation import interval as ends_text
from eval.notation import number
from human_eval.analysis.resampling import Interval

SMALLEST_P = 0.001
STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)
# Room at both ends of an axis, in percent of the width, so that marks and tick labels are not cut.
MARGIN = 4.0


@dataclass(frozen=True)
class Mark:
    """A value with its interval on an axis, in percent of the width; `words` say the same to those who do not see it.

    `naive`: ends of the interval that takes answers as independent, drawn beneath. `zero`: the place of no effect.
    """

    at: float | None
    low: float | None
    high: float | None
    words: str
    zero: float | None = None
    naive: tuple[float, float] | None = None
    ticks: tuple[tuple[float, str], ...] = ()


@dataclass(frozen=True)
class Column:
    """A head: label, a second line, and how its cells stand (`text`, `right`, `figure`)."""

    label: str
    under: str = ""
    kind: str = "text"


@dataclass(frozen=True)
class Row:
    """The row's name and its cells; `leads`: drawn in the accent."""

    name: str
    cells: tuple[str | Mark, ...]
    leads: bool = False


@dataclass(frozen=True)
class Group:
    """Rows under a name (none if empty), e.g. those of one aspect."""

    name: str
    rows: list[Row]


@dataclass(frozen=True)
class Section:
    """A titled part of the page: what was found in one sentence, what to know about it, the table.

    `has_plots`: the figures of metrics against people stand before the table.
    """

    id: str
    title: str
    sentence: str
    note: str = ""
    head: str = ""
    columns: tuple[Column, ...] = ()
    groups: list[Group] = field(default_factory=list)
    facts: tuple[tuple[str, str], ...] = ()
    has_plots: bool = False


@dataclass(frozen=True)
class Scale:
    """An axis from `low` to `high` with a tick at each `step`."""

    low: float
    high: float
    step: float

    def at(self, value: float | None) -> float | None:
        """Percent of the width; what lies outside stands at the end. None for what is not known."""
        if value is None or not math.isfinite(value):
            return None
        share = (value - self.low) / (self.high - self.low)
        return round(MARGIN + (100 - 2 * MARGIN) * max(0.0, min(1.0, share)), 2)

    def mark(
        self,
        value: float | None,
        interval: Interval | None,
        words: str,
        *,
        naive: Interval | None = None,
        has_zero: bool = False,
    ) -> Mark:
        """A value with its interval, for a row."""
        low, high = (interval.low, interval.high) if interval else (None, None)
        known = None
        if naive is not None and naive.low is not None and naive.high is not None:
            known = (self.at(naive.low) or 0.0, self.at(naive.high) or 0.0)
        zero = self.at(0.0) if has_zero else None
        return Mark(self.at(value), self.at(low), self.at(high), words, zero, known, self.ticks())

    def ticks(self) -> tuple[tuple[float, str], ...]:
        """(place, text) of each tick, all with the same decimals."""
        decimals = max(0, -math.floor(math.log10(self.step) + 1e-9) + (f"{self.step:e}"[2] != "0"))
        values = [self.low + k * self.step for k in range(round((self.high - self.low) / self.step) + 1)]
        return tuple((self.at(value) or 0.0, number(value, decimals)) for value in values)


def scale_round(values: list[float | None], *, is_symmetric: bool = False, steps: int = 4) -> Scale:
    """A scale of round ticks that holds all values; symmetric round zero if asked."""
    known = [value for value in values if value is not None and math.isfinite(value)] or [0.0]
    if is_symmetric:
        step = _round_up((max(abs(value) for value in known) or 1.0) * 2 / steps)
        return Scale(-step * steps / 2, step * steps / 2, step)
    low, high = min(known), max(known)
    step = _round_up(((high - low) or abs(high) or 1.0) / steps)
    start = step * math.floor(low / step + 1e-9)
    return Scale(start, start + step * max(1, math.ceil((high - start) / step - 1e-9)), step)


def _round_up(value: float) -> float:
    power = 10.0 ** math.floor(math.log10(value))
    return next(power * factor for factor in STEPS if power * factor >= value * (1 - 1e-9))


def words_of(interval: Interval | None, decimals: int, *, sign: bool = False) -> str:
    """The ends, or why there are none."""
    if interval is None:
        return "no interval"
    if interval.low is None or interval.high is None:
        return interval.reason or "n too small for an interval"
    return ends_text(interval.low, interval.high, decimals, sign=sign)


def p_words(p: float | None) -> str:
    """A p-value to three decimals; below that, that it is smaller."""
    if p is None or not math.isfinite(p):
        return "no test"
    return f"< {SMALLEST_P}" if p < SMALLEST_P else f"{p:.3f}"


def excludes_zero(interval: Interval) -> bool:
    """Whether the interval is known and zero is not in it."""
    return interval.low is not None and interval.high is not None and not interval.low <= 0 <= interval.high


def several(count: int, one: str, many: str = "") -> str:
    """`1 rater`, `2 raters`."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def listed(names: list[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}" if names else ""
