"""Verdicts over all samples of a run: the same in any order, and taken back when the set changes."""

import random

from eval.records import SampleLine
from eval.verdicts import judged_alone, judged_together


def line(number, sha256, *, size=(64, 64), **more):
    values = {"ok": True, "frames_sha256": sha256, "height": size[0], "width": size[1]} | more
    return SampleLine(id=f"{number:05d}", index=number, prompt="", seed=0, **values)


LINES = [
    line(0, "a", size=(32, 32)),
    line(1, "b"),
    line(2, "c", ok=False, kind="no-clip", reason="none"),
    line(3, "b"),
    line(4, "d"),
    line(5, "d"),
    line(6, "c"),
]


def test_later_repetitions_and_other_sizes_are_rejected():
    found = judged_together(LINES)
    kinds = [one.kind for one in found]
    assert kinds == ["mixed-sizes", "", "no-clip", "duplicate", "", "duplicate", ""]
    assert [one.ok for one in found] == [not kind for kind in kinds]
    assert "'00003' repeats '00001'" in found[3].reason


def test_order_does_not_matter_and_judging_twice_changes_nothing():
    expected = {one.id: one for one in judged_together(LINES)}
    shuffled = list(LINES)
    random.Random(3).shuffle(shuffled)
    assert {one.id: one for one in judged_together(shuffled)} == expected
    assert judged_together(judged_together(LINES)) == judged_together(LINES)


def test_a_verdict_is_taken_back_when_what_it_stood_on_is_gone():
    found = judged_together(LINES)
    assert [judged_alone(one) for one in found] == LINES
    assert judged_together(found[3:4]) == LINES[3:4]
