"""The learning rate of a step against the released formula, written down as it was published."""

from __future__ import annotations

import math

import pytest

from cogvideo.training.schedule import Schedule


def released(n, peak, total, warm_up):
    if n <= warm_up:
        return peak * n / warm_up
    t = min(1.0, (n - warm_up) / total)
    return peak * 0.1 * ((math.cos(math.pi * t) + 1) * (10 - 1) / 2 + 1)


@pytest.mark.parametrize("step", [1, 250, 500, 501, 20_000, 250_500, 499_999, 500_500, 600_000])
def test_the_release(step):
    schedule = Schedule(2e-4, 500_000, warm_up=500)
    assert math.isclose(schedule.rate(step), released(step, 2e-4, 500_000, 500), rel_tol=1e-12)


def test_corners():
    schedule = Schedule(1.0, 100, warm_up=10, final_share=0.05)
    assert schedule.rate(10) == 1.0
    assert math.isclose(schedule.rate(60), 0.525)
    assert math.isclose(schedule.rate(110), 0.05)
    assert schedule.rate(10_000) == schedule.rate(110)


def test_settling_bounds_the_first_steps_and_nothing_after():
    plain, settling = Schedule(1.0, 1000, warm_up=50), Schedule(1.0, 1000, warm_up=50, settling=100)
    assert settling.rate(1) == plain.rate(1) == 0.02
    assert [settling.rate(step) for step in (3, 50, 100)] == [0.05, 0.05, 0.05]
    assert settling.rate(101) == plain.rate(101)
