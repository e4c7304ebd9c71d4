"""The run report in a real Chromium, from file://: accessibility, sizes, keyboard, players in step, no script."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from reports.run_page import write_report

pytestmark = pytest.mark.slow
PLAYING = "[...document.querySelectorAll('video')].filter((video) => !video.paused).length"


@pytest.fixture(scope="module")
def report(full_run: Path, few_printed) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("reports.printed.rows_for", lambda result, metric: few_printed if metric.label == "FVD" else [])
        return write_report(full_run)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_barrier_and_no_sideways_scrolling_at_any_width(open_page, report, scheme):
    window = open_page(report, color_scheme=scheme)
    problems = {}
    window.page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    for width in (1280, 320):
        window.page.set_viewport_size({"width": width, "height": 900})
        problems[width] = window.axe() + [f"{window.too_wide()} px too wide"] * bool(window.too_wide())
    window.page.set_viewport_size({"width": 390, "height": 900})
    problems[390] = [f"{window.too_wide()} px too wide"] * bool(window.too_wide())
    assert {width: found for width, found in problems.items() if found} == {}
    assert window.complaints == []
    assert window.outside == []
    assert [address for address in window.requests if "mp4" in address] == [], "no video byte before play"


def test_the_keyboard_reaches_everything_and_its_place_shows(open_page, report):
    window = open_page(report)
    stops = window.stops()
    # The link that skips to the content shows only while it has the focus.
    assert len(stops) >= window.controls()
    assert [words for words, ring in stops if ring != "ring"] == []
    assert "Skip to the content" in stops[0][0]


def test_the_theme_is_chosen_by_a_button_that_names_it(open_page, report):
    window = open_page(report, color_scheme="light")
    ground = "getComputedStyle(document.documentElement).backgroundColor"
    button = window.page.locator(".theme")
    seen = []
    for _ in range(3):
        seen.append((button.inner_text(), window.page.evaluate(ground)))
        button.click()
    assert seen == [
        ("Theme: system", "rgb(255, 255, 255)"),
        ("Theme: light", "rgb(255, 255, 255)"),
        ("Theme: dark", "rgb(18, 21, 24)"),
    ]


def test_clips_of_a_group_play_in_step_and_by_frames(open_page, report):
    window = open_page(report)
    page = window.page
    assert page.evaluate(PLAYING) == 0
    group = page.locator("[data-group]").first
    group.scroll_into_view_if_needed()
    play, count = group.get_by_role("button", name="Play all"), group.locator("output")
    assert count.inner_text() == "frame 1 of 16"
    play.click()
    page.wait_for_selector("[aria-label='Pause all']")
    deadline = time.monotonic() + 60
    while page.evaluate(PLAYING) < 4 and time.monotonic() < deadline:
        time.sleep(0.05)
    spread = window.spread(120)
    print(f"n = {len(spread)}, median {spread[len(spread) // 2]:.1f} ms, p95 {spread[int(0.95 * len(spread))]:.1f} ms")
    assert len(spread) > 40
    assert spread[int(0.95 * len(spread))] < 50
    group.locator("video").first.focus()
    page.keyboard.press(" ")
    assert page.evaluate(PLAYING) == 0

    def frame_after(key: str) -> str:
        page.keyboard.press(key)
        before = time.monotonic() + 30
        text = count.inner_text()
        while time.monotonic() < before:
            time.sleep(0.1)
            if count.inner_text() == text:
                break
            text = count.inner_text()
        time.sleep(0.3)
        return count.inner_text()

    group.locator("input").fill("4")
    time.sleep(0.5)
    group.locator("video").first.focus()
    assert frame_after(".") == "frame 6 of 16"
    assert frame_after(",") == "frame 5 of 16"
    assert frame_after("ArrowRight") == "frame 13 of 16"
    assert frame_after("ArrowLeft") == "frame 5 of 16"
    times = page.evaluate(
        "[...document.querySelector('[data-group]').querySelectorAll('video')].map((video) => video.currentTime)"
    )
    assert times == pytest.approx([4.5 / 8] * 4, abs=0.01)
    assert page.evaluate(PLAYING) == 0
    page.locator("[data-group]").nth(1).get_by_role("button", name="Play all").click()
    time.sleep(1)
    assert page.evaluate(PLAYING) <= 6
    assert window.complaints == []


def test_eight_frames_pass_under_the_pointer_without_playing(open_page, report):
    page = open_page(report, reduced_motion="reduce").page
    screen = page.locator(".screen").first
    screen.scroll_into_view_if_needed()
    strip = screen.locator(".sprite")
    assert not strip.is_visible()
    box = screen.bounding_box()
    page.mouse.move(box["x"] + 2, box["y"] + 20)
    page.mouse.move(box["x"] + box["width"] * 0.55, box["y"] + 20)
    assert strip.is_visible()
    assert strip.locator("img").evaluate("(one) => one.style.transform") == "translateX(-50%)"
    page.wait_for_timeout(300)
    natural = strip.locator("img").evaluate("(one) => [one.naturalWidth, one.naturalHeight]")
    assert natural == [8 * 64, 64]
    page.mouse.move(0, 0)
    assert not strip.is_visible()
    assert page.evaluate(PLAYING) == 0


def test_everything_can_be_read_without_a_script(open_page, report):
    page = open_page(report, java_script_enabled=False).page
    text = page.inner_text("main")
    for words in ("FVD 412.6", "398.1 – 428.0", "61.8", "20,480", "ranks 1 by FVD", "Seed", "Best", "0.3100"):
        assert words in text
    videos = page.locator("video")
    assert videos.count() == 8
    for video in videos.all():
        assert video.get_attribute("controls") is not None
        assert video.get_attribute("preload") == "none"
        assert video.get_attribute("poster").startswith("data:image/webp")
    assert not page.locator(".transport").first.is_visible()
    assert not page.locator(".theme").is_visible()


def test_hostile_words_run_nowhere(open_page, sample_runs, hostile_words, tmp_path):
    strings = hostile_words
    everything = " ".join(strings)
    metric = sample_runs.metric(
        "FVD", 412.6, 398.1, 428.0, floor=10.0, warnings=strings, details={everything: everything}
    )
    metric.per_class.update(dict.fromkeys(strings, 0.5))
    found = sample_runs.result(
        [metric.model_copy(update={"label": everything})],
        generator={"spec": everything, "title": everything},
        benchmark_title=everything,
        warnings=strings,
        comparable=False,
        not_comparable_because=strings,
        environment={text: text for text in strings},
    )
    run = sample_runs.write_run(tmp_path / "a", found, prompts=strings, label="x" * 300)
    window = open_page(write_report(run), width=320)
    assert window.page.evaluate("window.__x") is None
    assert window.complaints == []
    assert window.too_wide() == 0
    assert "{{7*7}}" in window.page.inner_text("h1")
