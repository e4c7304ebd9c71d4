"""Hostile words wherever a study takes words, on every page it has: shown as they were written, and nothing runs."""

from __future__ import annotations

from pathlib import Path
from shutil import copytree
from urllib.parse import quote

import pytest
import yaml
from sqlalchemy import select

from human_eval.analysed import analyze_study
from human_eval.simulate.raters import simulate
from human_eval.simulate.truth import plant
from human_eval.store.opening import note
from human_eval.store.schema import enrolment

pytestmark = pytest.mark.slow
OUTSIDE_ID = "\"><svg onload=window.__x=1>{{7*7}}'-alert(1)-'"
# What a page says to people and to machines: words, title, and what stands in attributes that are read out.
SAID = """() => [document.title, document.body.textContent,
    ...[...document.querySelectorAll("[aria-label], [value], [alt], [title], [placeholder], [data-missing]")].flatMap(
        (one) => ["aria-label", "value", "alt", "title", "placeholder"].map((name) => one.getAttribute(name) || ""))
].join(" ")"""
INLINE = """() => {
    const one = document.createElement("script");
    one.textContent = "window.__x = 1";
    document.body.append(one);
}"""


def plain(words: str) -> str:
    """Spaces and line ends are all alike on a page."""
    return " ".join(words.split())


class Poison:
    """study.yaml with hostile words in every text; `placed` says which words stand where."""

    def __init__(self, texts: list[str]) -> None:
        self.texts, self.placed = texts, {}
        self._at = 0

    def __call__(self, words: str) -> str:
        values = yaml.safe_load(words)
        main = [item for item in values["items"] if item["role"] == "main"]
        share = -(-len(self.texts) // len(main))
        for k, item in enumerate(main):
            part = self.texts[k * share : (k + 1) * share]
            item["prompt"] = {"en": self._put(f"items.{item['id']}", part)}
        # Neither titles of models nor labels of prompts are on a page: they go to the export.
        for one in [*values["models"], *values["items"]]:
            one["label" if "prompt" in one else "title"] = self.texts[self._at % len(self.texts)]
            self._at += 1
        for name in ("title", "intro", "aspects", "favourite", "consent"):
            values[name] = self._walk(name, values[name])
        values |= {"languages": ["en"], "quota": {"raters": 1}, "limits": {"break_every": 3}}
        values["checks"] = {"instructed": 1, "gold": 1, "repeat": 1}
        return yaml.safe_dump(values, allow_unicode=True)

    def _walk(self, where: str, value):
        if isinstance(value, dict) and "en" in value:
            return {"en": self._next(where)}
        if isinstance(value, dict):
            return {name: self._walk(f"{where}.{name}", part) for name, part in value.items()}
        if isinstance(value, list):
            return [self._walk(f"{where}.{k}", part) for k, part in enumerate(value)]
        return value

    def _next(self, where: str) -> str:
        self._at += 2
        return self._put(where, [self.texts[(self._at + k) % len(self.texts)] for k in range(2)])

    def _put(self, where: str, texts: list[str]) -> str:
        """A mark before them: two places never have the same words."""
        self.placed[where] = f"at{len(self.placed)}: " + " ".join(texts)
        return self.placed[where]


class Watch:
    """Listens to every page of a context: what was said, and what a browser complains about."""

    def __init__(self, context) -> None:
        self.said, self.complaints, self.pages = "", [], 0
        context.on("console", self._hear)
        context.on("weberror", lambda error: self.complaints.append(str(error.error)))
        context.on("dialog", lambda dialog: (self.complaints.append(f"dialog: {dialog.message}"), dialog.dismiss()))

    def _hear(self, message) -> None:
        if message.type not in ("error", "warning"):
            return
        # That a page was refused on purpose (422, 404, 503) is no complaint about the page.
        if "the server responded with a status of" in message.text and message.location["url"] == message.page.url:
            return
        self.complaints.append(message.text)

    def look(self, page) -> None:
        assert page.evaluate("window.__x") is None, page.url
        self.said += " " + plain(page.evaluate(SAID))
        self.pages += 1


def test_hostile_words_on_every_page(
    make_site, study_folder: Path, tmp_path: Path, tour, browser, apart, expected_status, hostile_texts: list[str]
) -> None:
    texts = [words for words in hostile_texts if plain(words)]
    poison = Poison(texts)
    path = study_folder / "study.yaml"
    path.write_text(poison(path.read_text()), encoding="utf-8")
    copies = [Path(copytree(study_folder, tmp_path / name)) for name in ("previewed", "analysed")]
    site = make_site(study_folder)
    walk = tour(site, quote(OUTSIDE_ID))
    watches = [Watch(walk.context)]
    seen = set()

    def go(steps, one, watch) -> None:
        for name, status in steps:
            assert status == expected_status(name), name
            watch.look(one.page)
            seen.add(name)

    go(walk.of_raters(), walk, watches[0])
    for words in (" ".join(texts)[:1900], OUTSIDE_ID):
        walk.go("/done")
        walk.page.fill("textarea", words)
        walk.press("form button")
        watches[0].look(walk.page)
    for k, words in enumerate(texts):
        site.database.write(
            lambda c, k=k, words=words: note(c, site.running, "deviation", place=f"limits.{k}", old=words, new=words)
        )
    go(walk.of_author(), walk, watches[0])
    assert all(plain(words) in watches[0].said for words in texts)

    shown = make_site(copies[0], is_preview=True)
    preview = tour(shown)
    watches.append(Watch(preview.context))
    preview.take_part()
    preview.pass_check(shown.rows(select(enrolment.c.ordinal))[0].ordinal)
    while not preview.page.url.endswith("/done"):
        watches[1].look(preview.page)
        preview.send() if "/t/" in preview.page.url else preview.press("a.main")
    watches[1].look(preview.page)

    studied = make_site(copies[1], change=lambda words: words.replace("raters: 1", "raters: 6"))
    apart(simulate(studied.running, studied.database, plant(studied.running.study, 3), raters=6, seed=3, careless=0.2))
    studied.database.close()
    page = preview.context.new_page()
    page.goto(analyze_study(copies[1], resamples=100, seed=0)[1][-1].as_uri())
    watches[1].look(page)

    said = " ".join(watch.said for watch in watches)
    unsaid = [where for where, words in poison.placed.items() if plain(words) not in said]
    assert unsaid == []
    assert [line for watch in watches for line in watch.complaints] == []
    assert {"consent", "check", "conflict", "full", "withdrawn", "busy", "admin"} <= seen
    print(f"{len(texts)} texts in {len(poison.placed)} places, {sum(watch.pages for watch in watches)} pages")

    # And all of this would be noticed: a script in the page is refused by the policy, and the refusal is heard.
    walk.go("/done")
    walk.page.evaluate(INLINE)
    assert walk.page.evaluate("window.__x") is None
    assert any("Content Security Policy" in line for line in watches[0].complaints)
