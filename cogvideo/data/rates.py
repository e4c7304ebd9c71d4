"""Frame rates: the paper's lists, how a rate is written, and which starts a video offers at one. No torch.

A clip of N frames at rate r spans (N - 1) / r seconds; its last frame has to be on show then. CogVideo, section 3.1.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from fractions import Fraction

from cogvideo.errors import UserError
from cogvideo.video.timeline import Timeline

Rates = tuple[Fraction, ...]

# The rates of the paper, lowest first, and what each of its phases of training takes of them: 76,000 iterations of
# stage 1 from 0.25 frames a second on, then 15,000 from 1 on; stage 2 has 2, 4 and 8.
PAPER_RATES: Rates = tuple(Fraction(n, 4) for n in (1, 2, 4, 8, 16, 32))
PRESETS: dict[str, Rates] = {
    "stage1": PAPER_RATES,
    "stage1-late": PAPER_RATES[2:],
    "stage2": PAPER_RATES[3:],
}
# Clocks of containers round to milliseconds.
ROUNDING_S = Fraction(1, 2000)
# 29.97 frames a second are enough for 30.
NEAR = Fraction(1001, 1000)


def parse_rates(text: str) -> Rates:
    """Rates, ascending, of a preset's name or of numbers with commas between. Raises UserError for anything else."""
    if text in PRESETS:
        return PRESETS[text]
    try:
        found = sorted({Fraction(word.strip()) for word in text.split(",")})
    except (ValueError, ZeroDivisionError):
        found = []
    if not found or found[0] <= 0:
        raise UserError(f"expected frame rates such as 1,2,4,8, or one of {', '.join(PRESETS)}, got {text!r}")
    return tuple(found)


def at_least(rates: Sequence[Fraction], minimum: Fraction | float) -> Rates:
    """The rates of a phase of the curriculum. Raises UserError if none is left."""
    left = tuple(rate for rate in rates if rate >= Fraction(minimum))
    if not left:
        raise UserError(
            f"no frame rate is left: the lowest allowed is {float(minimum):g}, the list is {write_rates(rates)}"
        )
    return left


def write_rate(rate: Fraction) -> str:
    """`0.25`, `8`, and `8/3` where no short decimal is exact."""
    decimal = f"{float(rate):g}"
    return decimal if Fraction(decimal) == rate else str(rate)


def write_rates(rates: Sequence[Fraction]) -> str:
    return ", ".join(map(write_rate, rates)) or "none"


def seconds_of(rate: Fraction, frames: int) -> float:
    """What the duration in front of a caption says: the seconds that `frames` frames at the rate span."""
    return float((frames - 1) / rate)


def strides(frames: int, clip: int) -> range:
    """The strides at which `clip` frames can be taken out of `frames`: 1, 2, 3, 4 for 5 of 17."""
    return range(1, (frames - 1) // (clip - 1) + 1) if clip > 1 else range(1, 2)


def starts(
    timeline: Timeline, rate: Fraction, frames: int, start_s: float | None = None, end_s: float | None = None
) -> range:
    """The frames of a video that a clip can start with, inside of `start_s`..`end_s`; seconds from the first frame.

    Empty if the clip is longer than that, or if the video has fewer frames a second than the rate asks for.
    """
    if not timeline.pts or rate > timeline.fps * NEAR:
        return range(0)
    rounding = ROUNDING_S / timeline.time_base
    begin = timeline.pts[0] + Fraction(start_s or 0) / timeline.time_base - rounding
    end = timeline.end
    if end_s is not None:
        end = min(end, timeline.pts[0] + Fraction(end_s) / timeline.time_base)
    # The last frame has to come on show before the end.
    latest = end - (frames - 1) / (rate * timeline.time_base) - rounding
    return range(bisect_left(timeline.pts, begin), bisect_left(timeline.pts, latest))


def lowest_rate(
    timeline: Timeline, rates: Rates, frames: int, start_s: float | None = None, end_s: float | None = None
) -> Fraction | None:
    """The lowest of the rates (ascending) at which the video still gives `frames` frames; None if it does at none."""
    return next((rate for rate in rates if starts(timeline, rate, frames, start_s, end_s)), None)
