"""The clips of `shapes`: which classes there are, what they are called, and how one is drawn. numpy only.

Shapes: T frames, H x W pixels. Lengths in pixels, y down; time runs from 0 (first frame) to 1 (last frame).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

FRAMES = 17
SIZE = 64
FPS = 8

SHAPES = ("circle", "square", "triangle", "cross")
COLOURS = ("red", "green", "blue", "yellow", "purple", "white")
MOTIONS = ("left", "right", "up", "down", "growing", "shrinking", "rotating", "bouncing", "circling")

# A generator of videos is trained without these, so that it can be asked for a pair that it never saw.
HELD_OUT_PAIRS = (("triangle", "left"), ("square", "growing"), ("circle", "bouncing"), ("cross", "up"))

Clip = NDArray[np.uint8]
Plane = NDArray[np.float32]
_Curve = Callable[[float], float]

_GRID: Plane = np.arange(SIZE, dtype=np.float32)

_RGB = {
    "red": (0.93, 0.12, 0.12),
    "green": (0.12, 0.80, 0.22),
    "blue": (0.16, 0.32, 0.97),
    "yellow": (0.96, 0.88, 0.14),
    "purple": (0.68, 0.18, 0.88),
    "white": (0.95, 0.95, 0.95),
}

# Flat backgrounds of the plain style, as muted as the others.
_PLAIN = ((0.12, 0.14, 0.34), (0.30, 0.30, 0.32))

# The benchmark's classes: every look (shape and colour) has five motions, so that a frame shows the look and leaves
# the motion open; every motion belongs to four or five looks; no held-out pair is among them.
_BENCHMARK = {
    ("circle", "red"): ("left", "right", "up", "down", "circling"),
    ("circle", "blue"): ("left", "up", "growing", "shrinking", "circling"),
    ("square", "green"): ("right", "down", "shrinking", "rotating", "bouncing"),
    ("square", "yellow"): ("left", "up", "down", "bouncing", "circling"),
    ("triangle", "purple"): ("right", "up", "growing", "rotating", "bouncing"),
    ("triangle", "white"): ("down", "growing", "shrinking", "rotating", "circling"),
    ("cross", "red"): ("left", "right", "growing", "shrinking", "bouncing"),
    ("cross", "yellow"): ("left", "down", "growing", "rotating", "bouncing"),
}


@dataclass(frozen=True)
class Style:
    """From what the numbers of a clip are drawn: ranges in pixels and radians; starts and phases may go in steps."""

    radius: tuple[float, float] = (9.0, 13.0)
    tilt: tuple[float, float] = (-0.3, 0.3)
    tone: float = 0.05  # added to or taken from a colour's channels, at most
    length: tuple[float, float] = (16.0, 22.0)
    turn: tuple[float, float] = (2.0, 2.6)
    height: tuple[float, float] = (15.0, 20.0)
    reach: tuple[float, float] = (9.0, 12.0)
    start_step: float = 0.0  # 0: any number
    phases: int = 0  # 0: any
    is_one_way: bool = False  # rotating and circling clockwise only, not either way
    is_flat: bool = False  # one colour behind, no gradient, no texture


# "textured" is the benchmark's. "plain" is for small generators to learn from: it leaves less open beside the prompt.
STYLES = {
    "textured": Style(),
    "plain": Style(
        radius=(11.0, 11.0),
        tilt=(0.0, 0.0),
        tone=0.0,
        length=(16.0, 16.0),
        turn=(2.3, 2.3),
        height=(18.0, 18.0),
        reach=(10.0, 10.0),
        start_step=2.0,
        phases=1,
        is_one_way=True,
        is_flat=True,
    ),
}
StyleName = Literal["textured", "plain"]


@dataclass(frozen=True, order=True)
class ShapeClass:
    """One class: what is seen in a frame (shape, colour) and what only the whole clip shows (motion)."""

    shape: str
    colour: str
    motion: str

    @property
    def name(self) -> str:
        return class_name(self.shape, self.colour, self.motion)

    @property
    def caption(self) -> str:
        return caption(self.shape, self.colour, self.motion)


def classes(which: Literal["all", "benchmark", "training"] = "all") -> tuple[ShapeClass, ...]:
    """The 210 classes there are ("all"), those without the held-out pairs ("training"), or the 40 of the benchmark.

    A turning circle cannot be told from a still one, so there are no rotating circles. Raises ValueError on any
    other word.
    """
    if which == "benchmark":
        return tuple(
            ShapeClass(shape, colour, motion) for (shape, colour), motions in _BENCHMARK.items() for motion in motions
        )
    if which not in {"all", "training"}:
        raise ValueError(f"classes: expected all, training or benchmark, got {which!r}")
    left_out = {("circle", "rotating"), *(HELD_OUT_PAIRS if which == "training" else ())}
    return tuple(
        ShapeClass(shape, colour, motion)
        for shape in SHAPES
        for colour in COLOURS
        for motion in MOTIONS
        if (shape, motion) not in left_out
    )


def caption(shape: str, colour: str, motion: str) -> str:
    """Plain English, e.g. "a red square moving left" or "a red square growing"."""
    verb = f"moving {motion}" if motion in {"left", "right", "up", "down"} else motion
    return f"a {colour} {shape} {verb}"


def class_name(shape: str, colour: str, motion: str) -> str:
    """The folder's name in UCF-101's manner, e.g. "RedSquareMovingLeft"."""
    return caption(shape, colour, motion).removeprefix("a ").title().replace(" ", "")


def draw_clip(
    shape: str,
    colour: str,
    motion: str,
    key: int | str,
    *,
    scene: int | str | None = None,
    style: StyleName = "textured",
) -> Clip:
    """A clip of one class, uint8 RGB (17, 64, 64, 3), the same for the same key on any machine.

    `scene` is the key of the background (default: the key itself); clips with one scene share it, as clips cut from
    one video do. The first frame depends on the look, the key and the scene alone: clips of different motions with
    the same key start with the same frame. Raises ValueError for a name that is not in the tables.
    """
    for value, known in ((shape, SHAPES), (colour, COLOURS), (motion, MOTIONS), (style, tuple(STYLES))):
        if value not in known:
            raise ValueError(f"shapes: expected one of {', '.join(known)}, got {value!r}")
    draws, ranges = _Draws(f"clip/{key}"), STYLES[style]
    start_x, start_y = (_stepped(draws.between(26.0, 38.0), ranges.start_step) for _ in range(2))
    radius, tilt = draws.between(*ranges.radius), draws.between(*ranges.tilt)
    rgb = [min(channel + draws.between(-ranges.tone, ranges.tone), 1.0) for channel in _RGB[colour]]
    shift_x, shift_y, grow, turn = _path(motion, draws, ranges)

    steps = range(FRAMES)
    x_T11 = _column([start_x + shift_x(k / (FRAMES - 1)) for k in steps])
    y_T11 = _column([start_y + shift_y(k / (FRAMES - 1)) for k in steps])
    r_T11 = _column([radius * grow(k / (FRAMES - 1)) for k in steps])
    angles = [tilt + turn(k / (FRAMES - 1)) for k in steps]
    cos_T11, sin_T11 = _column([math.cos(a) for a in angles]), _column([math.sin(a) for a in angles])

    across_T1W, down_TH1 = _GRID[None, None, :] - x_T11, _GRID[None, :, None] - y_T11
    u_THW = across_T1W * cos_T11 + down_TH1 * sin_T11
    v_THW = down_TH1 * cos_T11 - across_T1W * sin_T11
    coverage_THW = np.clip(np.float32(0.5) - _distance(shape, u_THW, v_THW, r_T11), 0, 1)

    scene = key if scene is None else scene
    back_HWC = _flat(scene) if ranges.is_flat else _background(scene)
    paint_C = np.array([_rounded(channel) for channel in rgb], np.float32)
    clip_THWC = np.empty((FRAMES, SIZE, SIZE, 3), np.uint8)
    for channel in range(3):
        back_HW = back_HWC[:, :, channel]
        mixed_THW = back_HW + coverage_THW * (paint_C[channel] - back_HW)
        clip_THWC[..., channel] = mixed_THW * np.float32(255) + np.float32(0.5)
    return clip_THWC


class _Draws:
    """Numbers from numpy's raw Philox stream, the part of numpy's random numbers that never changes."""

    def __init__(self, key: str) -> None:
        number = int.from_bytes(hashlib.sha256(f"shapes-v1/{key}".encode()).digest()[:8], "little")
        self._raw = iter(np.random.Philox(key=number).random_raw(32).tolist())

    def uniform(self) -> float:
        """The next number in [0, 1)."""
        return float(next(self._raw) >> 11) * 2.0**-53

    def between(self, low: float, high: float) -> float:
        return low + (high - low) * self.uniform()

    def sign(self) -> float:
        return 1.0 if self.uniform() < 0.5 else -1.0


def _stepped(value: float, step: float) -> float:
    """The nearest multiple of `step`; the value itself where that is 0."""
    return round(value / step) * step if step else value


def _way(draws: _Draws, ranges: Style) -> float:
    """1 for clockwise, -1 for the other way."""
    return 1.0 if ranges.is_one_way else draws.sign()


def _line(length: float) -> _Curve:
    return lambda t: length * t


def _one(t: float) -> float:
    return 1.0


def _path(motion: str, draws: _Draws, ranges: Style) -> tuple[_Curve, _Curve, _Curve, _Curve]:
    """Shift in x and y, factor of the radius and added angle over time, each neutral (0, 0, 1, 0) at time 0.

    No curve has a period that fits a quarter of the clip, so that key frames at every fourth frame show the motion.
    """
    length = draws.between(*ranges.length)
    match motion:
        case "left":
            return _line(-length), _line(0), _one, _line(0)
        case "right":
            return _line(length), _line(0), _one, _line(0)
        case "up":
            return _line(0), _line(-length), _one, _line(0)
        case "down":
            return _line(0), _line(length), _one, _line(0)
        case "growing":
            return _line(0), _line(0), lambda t: 1.0 + 0.8 * t, _line(0)
        case "shrinking":
            return _line(0), _line(0), lambda t: 1.0 - 0.48 * t, _line(0)
        case "rotating":
            return _line(0), _line(0), _one, _line(draws.between(*ranges.turn) * _way(draws, ranges))
        case "bouncing":
            height = draws.between(*ranges.height)
            return _line(0), lambda t: -height * abs(math.sin(1.5 * math.pi * t)), _one, _line(0)
        case _:  # circling
            reach, phase = draws.between(*ranges.reach), draws.between(0.0, 2 * math.pi)
            phase = _stepped(phase, 2 * math.pi / ranges.phases) if ranges.phases else phase
            full = 2 * math.pi * _way(draws, ranges)
            return (
                lambda t: reach * (math.cos(phase + full * t) - math.cos(phase)),
                lambda t: reach * (math.sin(phase + full * t) - math.sin(phase)),
                _one,
                _line(0),
            )


def _distance(shape: str, u_THW: Plane, v_THW: Plane, r_T11: Plane) -> Plane:
    """Signed distance to the outline in the shape's own axes, negative inside; sizes give like areas."""
    if shape == "circle":
        round_THW: Plane = np.sqrt(u_THW * u_THW + v_THW * v_THW) - r_T11
        return round_THW
    if shape == "triangle":
        slope_THW = np.float32(0.8660254) * np.abs(u_THW) - np.float32(0.5) * v_THW
        pointed_THW: Plane = np.maximum(slope_THW, v_THW) - np.float32(0.7) * r_T11
        return pointed_THW
    wide_THW, tall_THW = np.abs(u_THW), np.abs(v_THW)
    if shape == "square":
        boxed_THW: Plane = np.maximum(wide_THW, tall_THW) - np.float32(0.9) * r_T11
        return boxed_THW
    long_T11, thin_T11 = np.float32(1.1) * r_T11, np.float32(0.38) * r_T11
    level_THW = np.maximum(wide_THW - long_T11, tall_THW - thin_T11)
    crossed_THW: Plane = np.minimum(level_THW, np.maximum(wide_THW - thin_T11, tall_THW - long_T11))
    return crossed_THW


def _flat(scene: int | str) -> Plane:
    """One of a few muted colours. (H, W, 3)."""
    colour_C = _PLAIN[int(_Draws(f"scene/{scene}").uniform() * len(_PLAIN))]
    return np.broadcast_to(np.array([_rounded(channel) for channel in colour_C], np.float32), (SIZE, SIZE, 3))


def _background(scene: int | str) -> Plane:
    """A linear gradient between two muted colours with a weak texture: none, stripes or a checker. (H, W, 3)."""
    draws = _Draws(f"scene/{scene}")
    ends = [[_rounded(draws.between(0.05, 0.55)) for _ in range(3)] for _ in range(2)]
    angle = draws.between(0.0, 2 * math.pi)
    cos, sin = _rounded(math.cos(angle)), _rounded(math.sin(angle))
    texture, period = int(draws.uniform() * 3), 4 + int(draws.uniform() * 6)
    x_1W, y_H1 = _GRID[None, :] - np.float32(31.5), _GRID[:, None] - np.float32(31.5)
    along_HW = (x_1W * cos + y_H1 * sin) * np.float32(1 / 91) + np.float32(0.5)
    cell_1W, cell_H1 = np.floor(_GRID / period)[None, :] % 2, np.floor(_GRID / period)[:, None] % 2
    if texture == 0:
        weave_HW = np.zeros((SIZE, SIZE), np.float32)
    elif texture == 1:
        weave_HW = np.broadcast_to(cell_1W if draws.uniform() < 0.5 else cell_H1, (SIZE, SIZE))
    else:
        weave_HW = (cell_1W + cell_H1) % 2
    first_C, second_C = np.array(ends[0], np.float32), np.array(ends[1], np.float32)
    smooth_HWC = first_C + along_HW[:, :, None] * (second_C - first_C)
    return np.clip(smooth_HWC + (weave_HW[:, :, None] - np.float32(0.5)) * np.float32(0.05), 0, 1)


def _column(values: list[float]) -> Plane:
    """One float32 a frame, as (T, 1, 1)."""
    return np.array([_rounded(value) for value in values], np.float32)[:, None, None]


def _rounded(value: float) -> float:
    """The nearest multiple of 2^-16: sines that differ in the last bit between machines draw the same pixels.

    All that follows is addition, multiplication and square roots, which IEEE 754 fixes to the bit.
    """
    return round(value * 65536) / 65536
