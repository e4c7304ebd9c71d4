"""The leaderboard in a real Chromium, from file://: every page, accessibility, keyboard, filters, players in step."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import urldefrag

import pytest

from reports.board.assemble import add_runs, add_studies, finish
from reports.board.document import Board
from reports.board.runs import Vouched
from reports.site.build import write_site
from reports.site.films import gather

pytestmark = pytest.mark.slow
# One page of each kind; the others are made by the same templates.
KINDS = ("index.html", "model/model-a.html", "metric/index.html", "compare.html", "human.html", "agreement.html",
         "history.html", "data.html", "method.html", "404.html")  # fmt: skip


@pytest.fixture(scope="module")
def site(sample_runs, lab, tmp_path_factory) -> Path:
    """Four models with videos, a study, a second protocol, a removed run's stone, and cards."""
    folder = tmp_path_factory.mktemp("runs")
    runs = lab.write_models(sample_runs, folder, "abcd", step=2, videos=4)
    other = lab.write_other_protocol(sample_runs, folder / "other", "Model A")
    board = Board()
    found = dict(add_runs(board, [Vouched(path) for path in [*runs, other]]))
    board.models[0].card.type, board.models[0].card.open_weights = "Diffusion", True
    add_studies(board, [lab.write_study(folder / "study", runs[:3], n_items=2)])
    finish(board, None, prompts=4)
    # A table of papers takes axe a minute and is the same row again and again.
    board.tables[0].printed = {name: rows[:2] for name, rows in board.tables[0].printed.items()}
    made = tmp_path_factory.mktemp("out") / "site"
    write_site(board, made, gather(board, found))
    return made


def kinds(site: Path) -> list[Path]:
    more = [sorted((site / folder).glob("*.html"))[0] for folder in ("run", "prompt", "table")]
    more.append(site / "metric" / "fvd-tats-16f-2048.html")
    return [*(site / name for name in KINDS), *more]


def test_the_whole_site_is_clicked_through(open_page, site) -> None:
    """Every page by its links from the first: nothing from outside, no complaint, no video byte, nothing dead."""
    window = open_page(site / "index.html")
    seen: set[str] = set()
    queue = [(site / "index.html").resolve().as_uri()]
    while queue:
        address = queue.pop()
        if address in seen:
            continue
        seen.add(address)
        window.page.goto(address)
        # Links of figures have an address that is an object of its own.
        resolved = "(one) => new URL(one.getAttribute('href'), document.baseURI).href"
        links = window.page.evaluate(f"[...document.querySelectorAll('a[href]')].map({resolved})")
        for link in {urldefrag(one)[0] for one in links if one.startswith("file:")}:
            if link.endswith(".html"):
                queue.append(link)
            else:
                assert Path(link.removeprefix("file://")).is_file(), f"{address}: {link}"
    built = {path.resolve().as_uri() for path in site.rglob("*.html")}
    assert built - seen == {(site / "404.html").resolve().as_uri()}
    assert window.outside == []
    assert window.complaints == []
    assert [address for address in window.requests if address.endswith(".mp4")] == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_barrier_on_any_kind_of_page(open_page, site, scheme) -> None:
    window = open_page(site / "index.html", color_scheme=scheme)
    problems = {}
    for page in kinds(site):
        window.page.goto(page.resolve().as_uri())
        window.page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
        # Colours are the same at any width, and the layout in any colours.
        for width in (1280, 320):
            window.page.set_viewport_size({"width": width, "height": 900})
            found = window.axe() if (width == 1280 or scheme == "light") else []
            found += [f"{window.too_wide()} px too wide"] * bool(window.too_wide())
            if found:
                problems[page.name, width] = found
    assert problems == {}


def test_the_keyboard_reaches_everything_and_its_place_shows(open_page, site) -> None:
    for name in ("index.html", "compare.html"):
        window = open_page(site / name)
        stops = window.stops()
        assert len(stops) >= window.controls()
        assert [words for words, ring in stops if ring != "ring"] == []


def test_sorting_filters_and_ticks_are_announced_and_in_the_address(open_page, site) -> None:
    page = open_page(site / "index.html").page
    names = (
        "[...document.querySelectorAll('.board tbody tr')].filter((row) => !row.hidden).map((row) => row.id).join(' ')"
    )
    assert page.evaluate(names) == "model-a model-b model-c model-d"
    page.get_by_role("button", name="CLIPSIM").click()
    assert page.evaluate(names) == "model-d model-c model-b model-a"
    assert page.locator("th[aria-sort=ascending]").inner_text().startswith("CLIPSIM")
    page.get_by_role("button", name="CLIPSIM").click()
    assert page.locator("th[aria-sort=descending]").inner_text().startswith("CLIPSIM")
    page.get_by_label("Find").fill("model c")
    assert page.evaluate(names) == "model-c"
    assert "1 of 4 models" in page.inner_text(".found")
    page.get_by_label("Find").fill("nobody")
    assert page.get_by_text("No models match").is_visible()
    page.get_by_role("button", name="Clear all").click()
    page.get_by_label("Open weights").check()
    assert page.evaluate(names) == "model-a"
    page.get_by_role("button", name="Reset").click()
    page.get_by_text("Columns", exact=True).click()
    page.locator(".columns").get_by_label("CLIPSIM").uncheck()
    assert not page.get_by_role("columnheader", name="CLIPSIM").is_visible()
    page.get_by_label("Compare Model B").check()
    page.get_by_label("Compare Model D").check()
    address = page.url
    page.reload()
    assert page.url == address
    assert not page.get_by_role("columnheader", name="CLIPSIM").is_visible()
    page.get_by_role("link", name="Compare 2 models").click()
    page.wait_for_url("**/compare.html#*")
    assert page.inner_text("h1").split() == ["Model", "B", "and", "Model", "D"]


def test_on_a_phone_the_open_page_is_in_sight_in_the_navigation(open_page, site) -> None:
    for name in ("index.html", "history.html", "method.html"):
        page = open_page(site / name, width=390).page
        box, row = (page.locator(f".bar nav{part}").bounding_box() for part in (" [aria-current]", ""))
        assert row["x"] - 1 <= box["x"], name
        assert box["x"] + box["width"] <= row["x"] + row["width"] + 1, name
        assert page.evaluate("document.documentElement.scrollWidth") == 390


def test_compare_says_what_the_board_says(open_page, site) -> None:
    """The script's words and digits against the document, for every pair."""
    board = json.loads((site / "data" / "board.json").read_text())
    table = board["tables"][0]
    models = {run["id"]: run["model"] for run in board["runs"]}
    window = open_page(site / "compare.html")
    for pair in table["rankings"][1]["pairs"]:
        first, second = models[pair["first"]], models[pair["second"]]
        window.page.goto(f"{(site / 'compare.html').resolve().as_uri()}#t={table['id']}&m={first},{second}")
        window.until(f"document.title.includes({second[-1].upper()!r})")
        row = window.page.locator(".differences tbody tr").nth(1).locator("td")
        shown = f"{abs(pair['difference']):.4f}"
        assert shown in row.nth(0).inner_text()
        assert f"{abs(pair['low']):.4f}" in row.nth(1).inner_text()
        told = pair["low"] > 0 or pair["high"] < 0
        assert ("No difference found" in row.nth(3).inner_text()) is not told
    assert window.complaints == []


def test_prompts_play_in_step(open_page, site) -> None:
    prompt = next(p for p in sorted((site / "prompt").glob("*.html")) if "<video" in p.read_text())
    window = open_page(prompt)
    assert not [address for address in window.requests if address.endswith(".mp4")]
    window.page.get_by_role("button", name="Play all").first.click()
    window.until("[...document.querySelectorAll('video')].some((video) => !video.paused)")
    spread = window.spread(80)
    assert len(spread) > 20
    assert spread[int(0.95 * len(spread))] < 50
    assert window.outside == []


def test_without_script_everything_is_there(open_page, site) -> None:
    for name in ("index.html", "compare.html"):
        page = open_page(site / name, java_script_enabled=False).page
        assert page.get_by_role("link", name="Model B").first.is_visible()
        assert page.get_by_text("402.0").first.is_visible() or name == "compare.html"
        assert not page.get_by_text("Reset").is_visible()


def test_hostile_words_run_nothing(open_page, sample_runs, lab, hostile_words, tmp_path) -> None:
    texts = hostile_words[: lab.N]
    board = Board()
    runs = [
        lab.write_model(
            sample_runs, tmp_path / f"r{k}", name, seed=k, fvd=400 + 90 * k, prompts=(texts * lab.N)[: lab.N]
        )
        for k, name in enumerate(texts[:4])
    ]
    add_runs(board, [Vouched(path) for path in runs])
    finish(board, None, prompts=6, reason=texts[0])
    board.about = texts[2]
    write_site(board, tmp_path / "site")
    window = open_page(tmp_path / "site" / "index.html")
    for page in sorted((tmp_path / "site").rglob("*.html")):
        window.page.goto(page.resolve().as_uri())
        assert window.page.evaluate("window.__x") is None, page.name
    window.page.goto(f"{(tmp_path / 'site' / 'compare.html').resolve().as_uri()}#m=x")
    window.page.wait_for_selector(".differences tbody tr")
    assert window.page.evaluate("window.__x") is None
    assert window.complaints == []
