"""A browser that starts no video by itself: the page offers Play, can be rated all the same, and says what happened."""

from __future__ import annotations

import pytest
from sqlalchemy import select

from human_eval.store.schema import answer, event, trial

pytestmark = pytest.mark.slow
# What browsers do that block everything, muted videos too: `play` is refused until somebody pressed a button here.
# (Rating by keys is a gesture as well, but nobody is surprised by a video that starts then.)
BLOCKED = """(() => {
    const real = HTMLMediaElement.prototype.play;
    let pressed = false;
    addEventListener("click", (event) => { pressed ||= event.target.tagName === "BUTTON"; }, true);
    HTMLMediaElement.prototype.play = function () {
        if (pressed) return real.call(this);
        return Promise.reject(new DOMException("play() failed: the user did not interact first.", "NotAllowedError"));
    };
})()"""
PLAYING = "[...document.querySelectorAll('video')].map((video) => !video.paused)"


def wait(page, expression: str) -> None:
    """Until it holds; the policy of our pages forbids the polling that a browser would do itself."""
    for _ in range(1200):
        if page.evaluate(expression):
            return
        page.wait_for_timeout(50)
    pytest.fail(f"never: {expression}")


def test_a_page_whose_videos_may_not_start_counts_and_says_so(site, tour) -> None:
    walk = tour(site)
    walk.context.add_init_script(BLOCKED)
    complaints: list[str] = []
    walk.context.on("weberror", lambda error: complaints.append(str(error.error)))
    walk.take_part()
    walk.pass_check(0)
    page = walk.page

    def events() -> list[tuple[int, str]]:
        found = select(trial.c.position, event.c.kind).join(trial, trial.c.id == event.c.trial_id)
        return [tuple(row) for row in site.rows(found.order_by(event.c.id))]

    # The practice page: nothing moves, the button says what it would do, and every question can be answered.
    wait(page, "document.querySelectorAll('video').length === 3 && !document.querySelector('[data-toggle]').hidden")
    end = 200
    while (1, "blocked") not in events() and end:
        page.wait_for_timeout(100)
        end -= 1
    assert [kind for position, kind in events() if position == 1] == ["ready", "blocked"]
    toggle = page.locator("[data-toggle]")
    assert toggle.is_visible()
    assert toggle.inner_text() == "Play"
    assert page.evaluate(PLAYING) == [False] * 3
    first = page.url
    for group in page.locator("fieldset").all():
        group.locator("input").first.press("Space")
    page.locator("[name=finish][value='1']").press("Enter")
    page.wait_for_url(lambda url: url != first)
    assert page.url.endswith("/practice")
    rows = site.rows(select(trial.c.done_ms, trial.c.revision).where(trial.c.position == 1))
    assert rows[0].done_ms is not None
    assert len({row.field for row in site.rows(select(answer.c.field))}) == len(site.running.study.fields)

    # The page after it: pressing Play starts them all, together.
    walk.press("a.main, button.main")
    wait(page, "document.querySelectorAll('video').length === 3")
    assert page.locator("[data-toggle]").inner_text() == "Play"
    page.locator("[data-toggle]").focus()
    page.keyboard.press("Enter")
    wait(page, f"{PLAYING}.every(Boolean)")
    wait(page, "document.querySelector('[data-toggle]').textContent === 'Pause'")
    page.goto("/now")
    end = 200
    while (2, "play") not in events() and end:
        page.wait_for_timeout(100)
        end -= 1
    kinds = [kind for position, kind in events() if position == 2]
    assert "blocked" in kinds
    assert "play" in kinds
    assert kinds.index("blocked") < kinds.index("play")
    assert complaints == []
