"""A device whose clock is a day ahead, a day behind, or set back on the way: times are right all the same."""

from __future__ import annotations

import time
from typing import NamedTuple

import pytest
from sqlalchemy import select

from human_eval.store.schema import answer, event, trial

pytestmark = pytest.mark.slow
DAY_MS = 86_400_000
# `Date` of a device that is wrong by `off` ms; what passes between two moments stays what it is.
SKEWED = """((off) => {
    const Real = Date;
    window.__off = off;
    window.Date = class extends Real {
        constructor(...given) { given.length ? super(...given) : super(Real.now() + window.__off); }
        static now() { return Real.now() + window.__off; }
    };
})(OFF)"""


class Shown(NamedTuple):
    """When somebody opened a page, gave the last answer and finished, by the monotonic clock of the test."""

    opening: float
    opened: float
    last: float
    finishing: float
    finished: float


@pytest.mark.parametrize(
    ("off_ms", "step_ms"), [(DAY_MS, 0), (-DAY_MS, 0), (0, -3_600_000)], ids=["ahead", "behind", "set back"]
)
def test_times_are_right_on_a_device_with_a_wrong_clock(site, tour, off_ms: int, step_ms: int, monkeypatch) -> None:
    begun = time.monotonic()
    monkeypatch.setattr(site.clock, "now_ms", lambda: 1_700_000_000_000 + int(1000 * (time.monotonic() - begun)))
    walk = tour(site)
    walk.context.add_init_script(SKEWED.replace("OFF", str(off_ms)))
    complaints: list[str] = []
    walk.context.on("weberror", lambda error: complaints.append(str(error.error)))
    walk.take_part()
    walk.pass_check(0)
    page, pages = walk.page, []
    assert abs(page.evaluate("Date.now()") - 1000 * time.time() - off_ms) < 3_600_000
    for _ in range(3):
        opening = time.monotonic()
        page.goto("/now")
        opened = time.monotonic()
        groups = page.locator("fieldset").all()
        for k, group in enumerate(groups):
            if k == 1:
                page.evaluate(f"window.__off += {step_ms}")
            last = time.monotonic()
            group.locator("input").first.press("Space")
        first, finishing = page.url, time.monotonic()
        page.locator("button[name=finish]").press("Enter")
        page.wait_for_url(lambda url, first=first: url != first)
        pages.append(Shown(opening, opened, last, finishing, time.monotonic()))
    rows = site.rows(select(trial).where(trial.c.done_ms.is_not(None)).order_by(trial.c.position))
    assert [row.position for row in rows] == [1, 2, 3]
    for row, before, shown in zip(rows[1:], pages, pages[1:], strict=False):
        # The server's: first served between leaving the page before and having this one; done while Next was followed.
        took = row.done_ms - row.served_ms
        assert 1000 * (shown.finishing - shown.opened) - 1 <= took <= 1000 * (shown.finished - before.finishing) + 1
        # The device's: from the opening of the page to each answer.
        found = select(answer.c.client_ms).where(answer.c.trial_id == row.id).order_by(answer.c.id)
        times = [one.client_ms for one in site.rows(found)]
        assert times == sorted(times)
        assert times[0] >= 0
        assert 1000 * (shown.last - shown.opened) - 1 <= times[-1] <= 1000 * (shown.finished - shown.opening) + 1
    order = [moment for row in rows for moment in (row.served_ms, row.done_ms)]
    assert order == sorted(order)
    heard = site.rows(select(event.c.client_ms, event.c.trial_id, event.c.page).order_by(event.c.seq))
    assert heard
    assert all(0 <= one.client_ms <= 1000 * (time.monotonic() - begun) for one in heard)
    assert page.evaluate("Object.keys(localStorage).length") == 0
    assert complaints == []
