"""Places in figures against arithmetic by hand, and what a figure says to those who do not see it."""

from __future__ import annotations

import math
import re
from itertools import pairwise

import pytest

from eval.notation import Axis
from eval.records import ExtrapolationRecord
from reports.figures import (
    Point,
    difference_axis,
    history,
    mark_of,
    metric_mark,
    n_curve,
    place,
    round_axis,
    ruler,
    scatter,
    shares,
    step_decimals,
    ticks_of,
)


def share(words: str) -> float:
    return (float(words.rstrip("%")) - 5) / 90


def test_places_are_percent_with_room_at_both_ends():
    axis = Axis(0.0, 500.0, 100.0)
    assert [place(axis, v) for v in (0, 250, 500, 600, -1)] == ["5.00%", "50.00%", "95.00%", "95.00%", "5.00%"]
    assert [place(axis, v) for v in (None, math.nan, math.inf)] == ["", "", ""]
    assert ticks_of(axis)[1] == ("23.00%", "100")


@pytest.mark.parametrize(
    ("step", "decimals"), [(1, 0), (100, 0), (0.5, 1), (0.25, 2), (0.01, 2), (0.0025, 4), (2.5, 1)]
)
def test_ticks_have_the_digits_that_tell_them_apart(step, decimals):
    assert step_decimals(step) == decimals


@pytest.mark.parametrize(
    "values", [[3.0], [0.0], [1, 2, 3], [-5, 7], [1e-9, 2e-9], [1e12, 1], [0.2931, 0.2912], [math.nan, 4.0], []]
)
@pytest.mark.parametrize("from_zero", [True, False])
def test_an_axis_holds_every_value_and_has_few_round_ticks(values, from_zero):
    axis = round_axis(values, from_zero=from_zero)
    for value in (v for v in values if math.isfinite(v)):
        assert axis.low <= value <= axis.high
    assert 2 <= len(axis.ticks()) <= 9
    if from_zero:
        assert axis.low <= 0 <= axis.high
    mantissa = float(f"{axis.step:e}".partition("e")[0])
    assert min(abs(mantissa - nice) for nice in (1, 2, 2.5, 5)) < 1e-9


def test_an_axis_of_differences_has_zero_in_the_middle():
    axis = difference_axis([-490.4, -520.0, 1110.0, math.inf])
    assert axis.low == -axis.high
    assert axis.high >= 1110
    assert place(axis, 0) == "50.00%"
    assert mark_of(axis, 1.0, has_zero=True).zero == "50.00%"


def test_a_metric_stands_where_its_numbers_say(sample_runs):
    metric = sample_runs.metric("FVD", 412.6, 398.1, 428.0, floor=61.8)
    mark = metric_mark(metric, Axis(0, 500, 100))
    found = [share(words) * 500 for words in (mark.value, mark.low, mark.high, mark.floor)]
    assert found == pytest.approx([412.6, 398.1, 428.0, 61.8], abs=0.05)
    assert metric_mark(sample_runs.metric("FVD", None)) is None


def test_labels_of_the_ruler_never_share_a_line(sample_runs):
    metric = sample_runs.metric("FVD", 412.6, 398.1, 428.0, floor=61.8)
    anchors = [("noise", 1482.0), ("real against real", 61.8), ("shuffled frames", 903.0), ("broken", math.nan)]
    found = ruler(metric, "Model A", anchors)
    assert [anchor.words for anchor in found.anchors] == [
        "real against real 61.8",
        "shuffled frames 903.0",
        "noise 1,482.0",
    ]
    lines = [anchor.y for anchor in found.anchors]
    assert all(b - a >= 16 for a, b in pairwise(lines))
    assert max(lines) < found.height
    assert [anchor.side for anchor in found.anchors] == ["start", "end", "end"]
    assert found.alt.startswith("FVD on one axis: Model A 412.6; real against real 61.8")
    assert ruler(sample_runs.metric("IS", 4.0, kind="inception-score"), "x", anchors) is None


def test_the_curve_over_n_is_straight_where_the_value_is_linear_in_one_over_n(sample_runs):
    points = [(n, 391.0 + 44_000 / n) for n in (2048, 256, 512, 1024)]
    line = ExtrapolationRecord(value=391.0, low=380.0, high=402.0, points=points)
    metric = sample_runs.metric("FVD", points[0][1], 398.1, 428.0, extrapolated=line)
    curve = n_curve(metric)
    drawn = [tuple(map(float, pair)) for pair in re.findall(r"[ML]([\d.]+) ([\d.]+)", curve.line)]
    end = tuple(float(part.rstrip("%")) for part in curve.end)
    slopes = [(b[1] - a[1]) / (b[0] - a[0]) for a, b in zip(drawn, [*drawn[1:], end], strict=True)]
    assert slopes == pytest.approx([slopes[0]] * 4, rel=0.01)
    assert [words for _, words in curve.x_ticks] == ["256", "512", "1,024", "2,048", "∞"]
    assert curve.rows[-1] == ("∞", "391.0")
    assert "562.9 at n = 256" in curve.alt
    assert n_curve(sample_runs.metric("FVD", 1.0)) is None


def test_a_history_needs_two_values():
    found = history([("0.1", 5.0, 4.0, 6.0), ("0.2", None, None, None), ("0.3", 3.0, 2.5, 3.5)], 1)
    assert found.rows == (("0.1", "5.0"), ("0.3", "3.0"))
    assert found.alt == "Over versions: 0.1 5.0; 0.3 3.0"
    assert float(found.points[0][1].rstrip("%")) < float(found.points[1][1].rstrip("%")), "higher is nearer the top"
    assert history([("0.1", 5.0, 4.0, 6.0), ("0.2", math.nan, None, None)], 1) is None


def test_a_scatter_leaves_out_what_has_no_number_and_says_so():
    points = [
        Point("A", 1.0, 2.0, (0.5, 1.5), (1.0, 3.0), href="model/a.html"),
        Point("B", math.nan, 2.0),
        Point("C", 3, 1),
    ]
    found = scatter(points, "FVD", "Opinion", x_decimals=0)
    assert [point.name for point in found.points] == ["A", "C"]
    assert found.alt == "Opinion against FVD of 2; 1 without both numbers"
    assert found.points[0].alt == "A: FVD 1, Opinion 2.00"
    assert float(found.points[0].y.rstrip("%")) < float(found.points[1].y.rstrip("%"))
    assert scatter([], "x", "y") is None


def test_shares_fill_the_bar():
    parts = shares([("won", 612, "series-1"), ("no difference", 601, "none"), ("lost", 835, "series-2")])
    widths = [float(part.width.rstrip("%")) for part in parts]
    assert sum(widths) == pytest.approx(100, abs=0.01)
    assert widths[0] == pytest.approx(100 * 612 / 2048, abs=0.001)
    assert [part.x for part in shares([("a", 0, "none"), ("b", 0, "none")])] == ["0.000%", "0.000%"]
