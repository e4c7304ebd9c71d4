"""The palette, computed: WCAG contrast of every pair in use, and series that colour-blind eyes can tell apart."""

from __future__ import annotations

import re
from itertools import combinations

import numpy as np
import pytest

from reports.page import STATIC

TOKENS = dict(re.findall(r"--([\w-]+): light-dark\((#\w{6}, #\w{6})\)", (STATIC / "page.css").read_text()))
SCHEMES = ("light", "dark")
TEXT = ("ink", "ink-2", "ink-3", "accent", "ok", "warn", "bad")
MARKS = ("edge", "mute", "line", "focus", "s1", "s2", "s3", "s4", "s5", "s6")
# Machado, Oliveira, Fernandes 2009: what full protanopia, deuteranopia and tritanopia make of linear RGB.
MACHADO = {
    "normal": np.eye(3),
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
# Björn Ottosson's OKLab: linear sRGB to cone responses, and their cube roots to lightness and two colour axes.
TO_CONES = np.array(
    [[0.41222147, 0.53633254, 0.05144599], [0.21190350, 0.68069955, 0.10739696], [0.08830246, 0.28171884, 0.62997870]]
)
TO_LAB = np.array(
    [
        [0.21045426, 0.79361779, -0.00407205],
        [1.97799850, -2.42859221, 0.45059371],
        [0.02590404, 0.78277177, -0.80867577],
    ]
)


def linear(token: str, scheme: str) -> np.ndarray:
    colour = TOKENS[token].split(", ")[SCHEMES.index(scheme)]
    values = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def contrast(first: str, second: str, scheme: str) -> float:
    light, dark = sorted((float(linear(t, scheme) @ [0.2126, 0.7152, 0.0722]) for t in (first, second)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def lab(rgb: np.ndarray) -> np.ndarray:
    return TO_LAB @ np.cbrt(np.clip(TO_CONES @ rgb, 0, None))


def test_black_on_white_is_21() -> None:
    TOKENS["white"], TOKENS["black"] = "#ffffff, #ffffff", "#000000, #000000"
    assert contrast("white", "black", "light") == pytest.approx(21)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_text_has_a_contrast_of_four_and_a_half_and_marks_of_three(scheme: str) -> None:
    pairs = [(text, ground, 4.5) for text in TEXT for ground in ("paper", "sunken", "accent-soft")]
    pairs += [(kind, f"{kind}-soft", 4.5) for kind in ("ok", "warn", "bad")]
    pairs += [("on-accent", "accent", 4.5)]
    pairs += [(mark, "paper", 3.0) for mark in MARKS] + [(mark, "accent-soft", 3.0) for mark in MARKS if mark != "line"]
    low = {f"{a} on {b}": round(contrast(a, b, scheme), 2) for a, b, least in pairs if contrast(a, b, scheme) < least}
    assert low == {}


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("sight", MACHADO)
def test_six_series_differ_for_every_kind_of_sight(scheme: str, sight: str) -> None:
    """About 0.02 is just noticeable."""
    seen = [lab(np.asarray(MACHADO[sight]) @ linear(f"s{i}", scheme)) for i in range(1, 7)]
    assert min(float(np.linalg.norm(a - b)) for a, b in combinations(seen, 2)) > 0.08


def test_every_colour_of_the_style_is_a_token() -> None:
    """Else it would not follow the theme. The ground of videos and the button that lies on them stay as they are."""
    styles = "".join(path.read_text() for path in sorted(STATIC.glob("*.css")))
    style = re.sub(r"--[\w-]+: light-dark\([^)]*\);", "", styles)
    assert set(re.findall(r"#[0-9a-f]{6}\b", style)) == {"#000000", "#c4cace", "#ffffff"}
