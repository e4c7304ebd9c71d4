"""What check pages tell: whether the answers are those that a rater who reads and looks would give."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def judge(expected: Mapping[str, Any], answers: Mapping[str, str], earlier: Mapping[str, str] | None = None) -> str:
    """ "" if a check is passed, else what was wrong with it, in words for the author of the study.

    `equal`: these answers exactly. `most`: at most this point. `below`: lower than another answer, or less
    than `tolerance` points above it. `not`: anything but this. `repeat`: as `earlier`, within one point on average.
    """
    for field, value in expected.get("equal", {}).items():
        if answers.get(field) != value:
            return f"{field} is {answers.get(field, 'missing')}, {value} was asked for"
    for field, most in expected.get("most", {}).items():
        if not answers.get(field, "").lstrip("-").isdigit() or int(answers[field]) > int(most):
            return f"{field} of a damaged video is {answers.get(field, 'missing')}, above {most}"
    for low, high, tolerance in expected.get("below", []):
        if low in answers and high in answers and int(answers[low]) >= int(answers[high]) + int(tolerance):
            return f"{low} of a damaged video is {answers[low]}, the clean one has {answers[high]}"
    for field, value in expected.get("not", {}).items():
        if answers.get(field) == value:
            return f"{field} is the damaged video"
    if "repeat" in expected and earlier is not None:
        return _unlike(answers, earlier)
    return ""


def _unlike(answers: Mapping[str, str], earlier: Mapping[str, str]) -> str:
    points = [
        abs(int(value) - int(earlier[field]))
        for field, value in answers.items()
        if field in earlier and value.lstrip("-").isdigit() and earlier[field].lstrip("-").isdigit() and "." in field
    ]
    if points and sum(points) / len(points) > 1:
        return f"a repeated page differs by {sum(points) / len(points):.1f} points on average"
    if not points and answers.get("choice") != earlier.get("choice"):
        return f"a repeated pair got {answers.get('choice')} after {earlier.get('choice')}"
    return ""
