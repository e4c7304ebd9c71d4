"""A real Chromium: consent to code by keyboard, accessibility, playback in step, a lost connection, hostile words."""

from __future__ import annotations

import shutil
import sqlite3
import time
from pathlib import Path

import pytest
import yaml

from human_eval.app.entrance import check_number
from human_eval.app.pages import FOLDER
from human_eval.running import open_running

pytestmark = pytest.mark.slow
# Only how long a broken page is waited for: a loaded machine may be slow.
PATIENCE_S = 60
# The three pages that follow, and the three videos of each.
LOADED_AHEAD = (
    "performance.getEntriesByType('resource').filter((one) => one.initiatorType === 'fetch'"
    " && /\\/(t|m)\\//.test(one.name) && !one.name.endsWith('events')).length >= 12"
)
# What of a page is wider than the window, and which controls have words that do not fit or something else on top.
CUT_OFF = """() => {
    const found = [], wide = document.documentElement.scrollWidth - innerWidth;
    if (wide > 0) found.push(`${wide} px too wide`);
    for (const one of document.querySelectorAll("button, a.button, .segments label, .choice label")) {
        if (one.closest(".scroll")) continue;
        one.scrollIntoView({ block: "center", behavior: "instant" });
        const box = one.getBoundingClientRect(), words = one.textContent.trim().replace(/\\s+/g, " ").slice(0, 40);
        if (!box.width) continue;
        if (box.left < 0 || box.right > innerWidth) found.push(`outside: ${words}`);
        const top = document.elementFromPoint(box.left + box.width / 2, box.top + box.height / 2);
        if (!top || !one.contains(top)) found.push(`covered: ${words}`);
        for (const part of [one, ...one.querySelectorAll(".figure, span:not(.word, .hidden)")])
            if (part.scrollWidth > part.clientWidth + 1 && part.clientWidth > 1) found.push(`does not fit: ${words}`);
    }
    return found;
}"""


class Person:
    """One browser window that goes through a study by keyboard."""

    def __init__(self, browser, address: str, folder: Path, **settings) -> None:
        settings = {"viewport": {"width": 1280, "height": 900}} | settings
        self.context = browser.new_context(base_url=address, **settings)
        self.page = self.context.new_page()
        self.page.set_default_timeout(PATIENCE_S * 1000)
        self.complaints: list[str] = []
        self.page.on("console", lambda m: self.complaints.append(m.text) if m.type in ("error", "warning") else None)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.running = open_running(folder)

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def focus_on(self, name: str) -> None:
        """Tab until something of this name, or with these words, has the focus."""
        for _ in range(60):
            found = self.page.evaluate("(document.activeElement.name || '') + '|' + document.activeElement.textContent")
            if name in found.split("|"):
                return
            self.press("Tab")
        pytest.fail(f"{name} cannot be reached with the tab key")

    def consent(self, ordinal: int = 0) -> None:
        self.page.goto("/?lang=en")
        self.focus_on("agree0")
        self.press("Space")
        self.focus_on("agree1")
        self.press("Space")
        self.focus_on("Take part")
        self.press("Enter")
        self.page.wait_for_url("**/check")
        self.focus_on("number")
        number = check_number(self.running, ordinal)
        self.press(*["ArrowDown"] * sorted((3, 5, 7, 8)).index(number), "Space")
        assert self.page.locator("input[name=number]:checked").get_attribute("value") == str(number)
        self.focus_on("Continue")
        self.press("Enter")
        self.page.wait_for_url("**/t/*")

    def rate(self, *, finish: bool = True) -> None:
        """All questions of a page by figures, then Next."""
        first = self.page.locator("fieldset input").first.get_attribute("name")
        self.focus_on(first)
        for k in range(self.page.locator("fieldset").count()):
            self.press("123"[k % 3])
        if finish:
            self.focus_on("Next")
            self.press("Enter")

    def until(self, expression: str, page=None) -> None:
        """Wait for an expression to be true. (Playwright's own waiting evaluates text in the page, which our policy
        forbids.)"""
        from playwright.sync_api import Error

        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            try:
                if (page or self.page).evaluate(expression):
                    return
            except Error:  # it is on the way to another page
                pass
            time.sleep(0.1)
        pytest.fail(f"never: {expression}; saved: {self.page.inner_text('main')[-300:]}")

    def close(self) -> None:
        self.context.close()


def choose(radio) -> None:
    radio.press("Space")
    assert radio.is_checked()


def widths(page) -> list[int]:
    """How far the page is wider than its window at the widths that matter; 320 px is 1280 px at 400 %."""
    found = []
    for width in (1280, 390, 320):
        page.set_viewport_size({"width": width, "height": 900})
        found.append(page.evaluate("document.documentElement.scrollWidth - innerWidth"))
    page.set_viewport_size({"width": 1280, "height": 900})
    return found


def test_the_script_is_small() -> None:
    assert sum(file.stat().st_size for file in (FOLDER / "static").glob("*.js")) <= 20_000


def test_from_consent_to_code_by_keyboard_alone(browser, serve_process, study_folder: Path, axe) -> None:
    server = serve_process(study_folder)
    person = Person(browser, server.address, study_folder)
    problems: dict[str, list[str]] = {}

    def look(name: str) -> None:
        problems[name] = axe(person.page) + [f"{wide} px too wide" for wide in widths(person.page) if wide > 0]

    person.page.goto("/?lang=en")
    look("consent")
    person.page.goto("/withdraw")
    look("withdraw")
    person.consent()
    look("trial")
    seen = set()
    while not person.page.url.endswith("/done"):
        if "/t/" in person.page.url:
            before = person.page.url
            person.rate()
            person.page.wait_for_url(lambda url, before=before: url != before)
        else:
            name = person.page.url.rsplit("/", 1)[1]
            if name not in seen:
                seen.add(name)
                look(name)
            person.focus_on("Continue")
            person.press("Enter")
            person.page.wait_for_url("**/t/*")
    look("done")
    assert person.page.locator("#code").inner_text() == person.running.code("complete")
    assert "practice" in seen
    person.page.goto("/admin/login")
    look("login")
    person.page.fill("input", "the-token")
    person.press("Enter")
    person.page.wait_for_url("**/admin")
    look("admin")
    person.close()
    dark = Person(browser, server.address, study_folder, color_scheme="dark")
    dark.page.goto("/?lang=en")
    problems["dark"] = axe(dark.page)
    dark.close()
    assert {name: found for name, found in problems.items() if found} == {}
    assert person.complaints == []
    with sqlite3.connect(study_folder / "study.db") as connection:
        (answers,) = connection.execute("SELECT count(*) FROM answer").fetchone()
        events = dict(connection.execute("SELECT kind, count(*) FROM event GROUP BY kind"))
    connection.close()
    assert answers == 9 * 13
    assert events["ready"] == 9
    assert events["play"] >= 9


def test_at_four_hundred_per_cent_nothing_is_cut_off_or_covered(
    browser, serve_process, study_folder: Path, axe
) -> None:
    """What zooming a window of 1280 x 900 to 400 % does: 320 x 225 px of layout, four device pixels each."""
    server = serve_process(study_folder)
    small = {"viewport": {"width": 320, "height": 225}, "device_scale_factor": 4}
    person = Person(browser, server.address, study_folder, **small)
    found: dict[str, list[str]] = {}
    person.page.goto("/?lang=en")
    found["consent"] = person.page.evaluate(CUT_OFF) + axe(person.page)
    person.consent()
    while not person.page.url.endswith("/done"):
        name = "trial" if "/t/" in person.page.url else person.page.url.rsplit("/", 1)[1]
        if name not in found:
            found[name] = person.page.evaluate(CUT_OFF) + axe(person.page)
        before = person.page.url
        if name == "trial":
            person.rate()
        else:
            person.focus_on("Continue")
            person.press("Enter")
        person.page.wait_for_url(lambda url, before=before: url != before)
    found["done"] = person.page.evaluate(CUT_OFF) + axe(person.page)
    person.page.goto("/admin/login")
    person.page.fill("input", "the-token")
    person.press("Enter")
    person.page.wait_for_url("**/admin")
    found["admin"] = person.page.evaluate(CUT_OFF) + axe(person.page)
    assert len(found) >= 5
    assert {name: problems for name, problems in found.items() if problems} == {}
    person.close()


def test_videos_of_a_page_stay_in_step(browser, serve_process, study_folder: Path) -> None:
    person = Person(browser, serve_process(study_folder).address, study_folder)
    person.consent()
    time.sleep(1)
    spread = person.page.evaluate(
        """async () => {
            const videos = [...document.querySelectorAll("video")], found = [];
            for (let k = 0; k < 160; k++) {
                await new Promise((go) => setTimeout(go, 25));
                const at = videos.map((video) => video.currentTime);
                found.push(1000 * (Math.max(...at) - Math.min(...at)));
            }
            return found.sort((a, b) => a - b);
        }"""
    )
    print(f"p95 {spread[int(0.95 * len(spread))]:.1f} ms, largest {spread[-1]:.1f} ms")
    # One frame at 8 frames a second; what is reached on an idle machine stands in docs/human_study.md.
    assert spread[int(0.95 * len(spread))] < 125
    assert person.page.evaluate("[...document.querySelectorAll('video')].every((video) => !video.paused)")
    person.close()


def test_answers_of_three_pages_survive_a_lost_connection(browser, serve_process, study_folder: Path) -> None:
    person = Person(browser, serve_process(study_folder).address, study_folder)
    person.consent()
    person.rate()
    person.page.wait_for_url("**/practice")
    person.focus_on("Continue")
    person.press("Enter")
    person.page.wait_for_url("**/t/*")
    person.until(LOADED_AHEAD)
    person.context.set_offline(True)
    for page in ("Page 1", "Page 2", "Page 3"):
        assert page in person.page.title()
        person.rate()
        person.until("document.querySelector('#saved').textContent.includes('Not connected')")
    person.until("document.querySelector('#saved').textContent.includes('39 answers are kept here')")
    person.context.set_offline(False)
    person.until("Object.keys(localStorage).length === 0")
    with sqlite3.connect(study_folder / "study.db") as connection:
        rows = connection.execute(
            "SELECT trial.position, count(*), max(answer.revision) FROM answer JOIN trial ON trial.id = trial_id "
            "GROUP BY trial.position ORDER BY trial.position"
        ).fetchall()
    connection.close()
    assert [(position, n) for position, n, _ in rows] == [(1, 13), (2, 13), (3, 13), (4, 13)]
    assert "Page 4" in person.page.title()
    person.close()


def test_two_windows_ask_which_answers_count(browser, serve_process, study_folder: Path) -> None:
    person = Person(browser, serve_process(study_folder).address, study_folder)
    person.consent()
    other = person.context.new_page()
    other.goto(person.page.url)
    person.rate(finish=False)
    person.until("document.querySelector('#saved').textContent.startsWith('13 of 13')")
    other.locator("fieldset input").nth(4).press("Space")
    person.until("document.title.includes('answered elsewhere')", other)
    assert "Video 1: Frame texture" in other.inner_text("main")
    other.get_by_role("button", name="Use the answers of this window").click()
    other.wait_for_url("**/t/*")
    assert other.locator("fieldset input:checked").first.get_attribute("value") == "5"
    person.close()


def test_nothing_moves_by_itself_with_reduced_motion_and_the_page_still_counts(
    browser, serve_process, study_folder: Path
) -> None:
    person = Person(browser, serve_process(study_folder).address, study_folder, reduced_motion="reduce")
    person.consent()
    time.sleep(1)
    assert person.page.evaluate("[...document.querySelectorAll('video')].every((video) => video.paused)")
    toggle = person.page.locator("[data-toggle]")
    assert toggle.inner_text() == "Play"
    toggle.click()
    person.until("[...document.querySelectorAll('video')].every((video) => !video.paused)")
    person.rate()
    person.page.wait_for_url("**/practice")
    person.close()


def test_figures_also_choose_answers_that_are_words(browser, serve_process, built: dict[str, Path], tmp_path) -> None:
    """Of a pair, 1 and 2 are the videos and 3 is the answer after them; no figure is left without a meaning."""
    folder = shutil.copytree(built["pairwise"], tmp_path / "study")
    person = Person(browser, serve_process(folder).address, folder)
    person.consent()
    assert "Keys: 1 to 3 rate" in person.page.locator(".keys").inner_text()
    person.focus_on("choice")
    for key, value in (("3", "tie"), ("1", "1"), ("2", "2"), ("4", "2"), ("0", "2")):
        person.press(key)
        assert person.page.locator("input[name=choice]:checked").get_attribute("value") == value
    assert person.page.locator("[data-together]").inner_text() == "Start together again"
    person.close()


def test_everything_works_without_a_script(browser, serve_process, study_folder: Path) -> None:
    person = Person(browser, serve_process(study_folder).address, study_folder, java_script_enabled=False)
    person.page.goto("/?lang=zh")
    for box in person.page.locator("input[type=checkbox]").all():
        box.check()
    person.page.locator("button[value=yes]").click()
    # By keyboard: a video that loads moves what is below it, and a click would miss.
    choose(person.page.locator(f"input[value='{check_number(person.running, 0)}']"))
    person.page.locator("button.main").click()
    pages: list[str] = []  # a click that a moving button missed leaves a page to be sent once more
    while not person.page.url.endswith("/done"):
        if "/t/" in person.page.url:
            if person.page.url not in pages:
                pages.append(person.page.url)
            for group in person.page.locator("fieldset").all():
                choose(group.locator("input").nth(len(pages) % 3))
        person.page.locator(".main").last.click()
    assert len(pages) == 9
    assert person.running.code("complete") in person.page.inner_text("main")
    person.close()


def test_hostile_words_run_nowhere_and_break_no_policy(browser, serve_process, study_folder: Path) -> None:
    path = study_folder / "study.yaml"
    values = yaml.safe_load(path.read_text())
    hostile = '<script>window.__x=1</script><img src=x onerror="window.__x=1">"><svg onload=window.__x=1>{{7*7}}'
    values["title"] = {"en": hostile}
    values["aspects"][0]["name"] = {"en": hostile}
    for item in values["items"]:
        item["prompt"] = {"en": hostile}
    path.write_text(yaml.safe_dump(values))
    person = Person(browser, serve_process(study_folder).address, study_folder)
    person.page.goto("/?lang=en")
    assert hostile in person.page.inner_text("h1")
    person.consent()
    assert hostile in person.page.inner_text("h1")
    assert person.page.evaluate("window.__x") is None
    assert person.complaints == []
    person.close()
