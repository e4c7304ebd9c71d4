"""axe finds nothing on any page of a study: WCAG 2.2 A and AA, light and dark, wide and narrow."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from human_eval.analysed import analyze_study
from human_eval.simulate.raters import simulate
from human_eval.simulate.truth import plant
from human_eval.store.opening import note

pytestmark = pytest.mark.slow
LOOKS = (("light", 1280), ("dark", 390))
ONE_PLACE = {"raters": 1, "slack": 0}


def problems_of(axe, page) -> list[str]:
    """What axe and the width of the page say, in every look."""
    found = []
    for scheme, width in LOOKS:
        page.emulate_media(color_scheme=scheme)
        page.set_viewport_size({"width": width, "height": 900})
        found += [f"{scheme} {width}: {problem}" for problem in axe(page)]
        if (wide := page.evaluate("document.documentElement.scrollWidth - innerWidth")) > 0:
            found.append(f"{wide} px wider than {width}")
    page.emulate_media(color_scheme="light")
    page.set_viewport_size({"width": 1280, "height": 900})
    return found


@pytest.mark.parametrize(("ground", "after"), [("#ffffff", []), ("#404040", ["color-contrast"])])
def test_axe_sees_a_page_at_rest(browser, axe, ground: str, after: list[str]) -> None:
    """The transition of our buttons, a thousand times as long: what counts is the colour in which it ends."""
    page = browser.new_page(color_scheme="light")
    page.set_content(
        "<!doctype html><html lang='en'><title>t</title><style>"
        f"a {{ color: #000000; background: {'#404040' if ground == '#ffffff' else '#ffffff'};"
        " transition: background-color 120s; }"
        f"@media (prefers-color-scheme: dark) {{ a {{ background: {ground}; }} }}"
        "</style><main><h1>t</h1><a href='/now'>Continue</a></main>"
    )
    before = {one.partition(":")[0] for one in axe(page)}
    page.emulate_media(color_scheme="dark")
    found = [one.partition(":")[0] for one in axe(page)]
    assert (sorted(before), found) == ([] if after else ["color-contrast"], after)
    page.close()


def changed(**settings):
    """study.yaml with other settings in its sections."""

    def change(words: str) -> str:
        values = yaml.safe_load(words)
        for name, value in settings.items():
            values[name] = {**values[name], **value} if isinstance(values.get(name), dict) else value
        return yaml.safe_dump(values, allow_unicode=True)

    return change


def check_all(steps, tour, axe, expected_status) -> list[str]:
    """Every page of a tour; the names of those that were seen."""
    names, found = [], {}
    for name, status in steps:
        assert status == expected_status(name), name
        assert tour.page.locator("h1").count() == 1, name
        if problems := problems_of(axe, tour.page):
            found[name] = problems
        names.append(name)
    assert found == {}
    return names


def test_every_page_for_raters_of_the_joint_study(make_site, study_folder, tour, axe, expected_status) -> None:
    checks = {"instructed": 1, "gold": 1, "repeat": 1}
    site = make_site(study_folder, change=changed(quota=ONE_PLACE, checks=checks, limits={"break_every": 3}))
    walk = tour(site)
    names = check_all(walk.of_raters(), walk, axe, expected_status)
    kinds = {"training", "main", "instructed", "gold", "repeat"}
    assert {f"trial, {kind}" for kind in kinds} <= set(names)
    assert {"practice", "pause", "conflict", "closed", "full", "busy", "done, remark sent", "withdrawn"} <= set(names)
    print(f"{len(names)} pages")


@pytest.mark.parametrize(
    ("preset", "settings"),
    [
        ("pairwise", {"pair": {"both_bad": True, "strength": 3}}),
        ("mos", {}),
        ("cogvideo-2022", {"favourite": {"ranking": True}, "training": 0}),
    ],
)
def test_every_kind_of_question(built, make_site, tmp_path: Path, tour, axe, expected_status, preset, settings) -> None:
    from shutil import copytree

    folder = Path(copytree(built[preset], tmp_path / "study"))
    site = make_site(folder, change=changed(**settings))
    walk = tour(site)
    walk.take_part()
    walk.pass_check(0)
    seen: list[str] = []

    def steps():
        for _ in range(site.running.study.training + site.running.study.all_trials):
            if (kind := walk.kind()) not in seen:
                seen.append(kind)
                yield f"trial, {kind}", 200
                yield f"trial, {kind}, incomplete", walk.send(None)
            # Places of a ranking have to differ: each question is answered by its own number.
            walk.page.evaluate(
                "document.querySelectorAll('fieldset').forEach((group, k) => {"
                " const radios = group.querySelectorAll('input'); radios[k % radios.length].checked = true; })"
            )
            walk.send_as_it_is()
            walk.page.goto("/now")

    check_all(steps(), walk, axe, expected_status)
    assert {"main", "instructed", "gold"} | ({"trap", "repeat"} if preset == "mos" else set()) <= set(seen)
    assert walk.page.url.endswith("/done")


def test_every_page_for_the_author(make_site, study_folder, tmp_path: Path, tour, axe, expected_status, apart) -> None:
    site = make_site(study_folder)
    walk = tour(site)
    check_all(walk.of_author("admin, nobody yet"), walk, axe, expected_status)
    truth = plant(site.running.study, 3)
    apart(simulate(site.running, site.database, truth, raters=5, seed=3, dropout=0.2, careless=0.3))
    site.database.write(
        lambda c: note(c, site.running, "deviation", place="limits.minutes", old=5, new="<b>7</b> & more")
    )

    def steps():
        yield "admin", walk.go("/admin")
        page = walk.page
        assert {"Balance of the design", "Precision reached", "Raters"} <= set(page.locator("h2").all_inner_texts())
        yield "admin, a decision", walk.press("button[value='leave out'] >> nth=0")
        yield "admin, a cell closed", walk.press("form[action='/admin/cell'] button >> nth=0")
        yield "admin, paused", walk.press("button[value=paused]")
        yield "admin, in the order of arrival", walk.go("/admin?first=0")

    check_all(steps(), walk, axe, expected_status)
    site.database.close()


@pytest.mark.parametrize("preset", ["cogvideo-2022", "pairwise", "mos"])
def test_the_page_of_the_result(built, make_site, tmp_path: Path, browser, axe, apart, preset: str) -> None:
    from shutil import copytree

    folder = Path(copytree(built[preset], tmp_path / "study"))
    site = make_site(folder)
    truth = plant(site.running.study, 3)
    apart(simulate(site.running, site.database, truth, raters=6, seed=3, careless=0.2))
    site.database.close()
    paths = analyze_study(folder, resamples=100, seed=0)[1]
    context = browser.new_context()
    page = context.new_page()
    page.goto(paths[-1].as_uri())
    assert paths[-1].name == "analysis.html"
    assert problems_of(axe, page) == []
    context.close()
