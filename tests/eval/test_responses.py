"""How responses are read: directions, intervals, strengths, and the words made of them."""

from __future__ import annotations

import pytest

from eval.responses import (
    CorruptionFacts,
    Curve,
    MetricResponse,
    Point,
    Reading,
    in_words,
    largest_response,
    reading,
    sees_motion,
    share,
)

LABELS = ("weak", "strong", "full")


def facts(name, breaks):
    return CorruptionFacts(name=name, title=name.capitalize(), summary="", breaks=breaks, labels=list(LABELS))


CORRUPTIONS = [facts("blur", "picture"), facts("freeze", "time"), facts("reversed", "time")]


def curve(name, changes, half=1.0):
    points = [
        Point(strength=i, label=LABELS[i], value=1.0, change=change, low=change - half, high=change + half)
        if change is not None
        else Point(strength=i, label=LABELS[i], value=None, note="refused")
        for i, change in enumerate(changes)
    ]
    return Curve(corruption=name, points=points)


def metric(direction="lower", **changes):
    curves = [curve(name, values) for name, values in changes.items()]
    shared = {"id": "m/test", "metric": "m", "label": "M", "decimals": 1, "clean": 5, "n_fake": 9, "fingerprint": "f"}
    return MetricResponse(direction=direction, curves=curves, **shared)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ((0.1, 2, 9), Reading("punished", "strong")),
        ((3, 4, 5), Reading("punished", "weak")),
        ((3, 0.5, 5), Reading("punished", "full")),  # not seen in between: it counts from there on
        ((5, 5, 0.1), Reading("unseen")),
        ((0, 0, 0), Reading("unseen")),
        ((0.2, -4, -8), Reading("rewarded", "strong")),
        ((1.2, 1.5, 1.6), Reading("unseen")),  # outside its 95 % interval, within 1.7 half-widths
        ((1.2, 1.5, 1.8), Reading("punished", "full")),
        ((1, 2, None), Reading("unknown")),
    ],
)
def test_reading(changes, expected):
    down = metric(blur=changes)
    assert reading(down, down.curves[0]) == expected
    turned = tuple(None if change is None else -change for change in changes)
    up = metric("higher", blur=turned)
    assert reading(up, up.curves[0]) == expected, "where higher is better, a fall is harm"


def test_share_is_of_the_largest_response_at_any_strength():
    found = metric(blur=(1, 20, 10), freeze=(0, -2, -4))
    assert largest_response(found) == 20
    assert [share(found, c) for c in found.curves] == [0.5, -0.2]
    flat = metric(blur=(0, 0, 0))
    assert share(flat, flat.curves[0]) == 0
    none = metric(blur=(None, None, None))
    assert share(none, none.curves[0]) is None


def test_words_and_motion():
    both = metric(blur=(9, 9, 9), freeze=(0, 5, 9), reversed=(4, 5, 6))
    assert in_words(both, CORRUPTIONS) == "punishes freeze from strong and reversed from weak"
    assert sees_motion(both, CORRUPTIONS) == "yes"
    one = metric(blur=(9, 9, 9), freeze=(-4, -5, -9), reversed=(4, 5, 6))
    assert in_words(one, CORRUPTIONS) == "punishes reversed from weak; rewards freeze"
    assert sees_motion(one, CORRUPTIONS) == "partly"
    blind = metric(blur=(9, 9, 9), freeze=(0, 0, 0), reversed=(0, 0, 0))
    assert in_words(blind, CORRUPTIONS) == "does not see freeze and reversed"
    assert sees_motion(blind, CORRUPTIONS) == "no"
    assert in_words(metric(blur=(9, 9, 9)), CORRUPTIONS) == "no corruption of time was tried"
