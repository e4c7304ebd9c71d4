"""Exports: the analysis reads them, no cell is a formula, every text comes back, and both databases give one file."""

from __future__ import annotations

import asyncio
import csv
import hashlib
import io
import json
import re
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml

from human_eval.analysis.tables import SCHEMAS, read_tables
from human_eval.analysis.write import csv_text
from human_eval.export import COLUMNS, as_csv, as_jsonl, export_study, study_tables
from human_eval.simulate.client import Client
from human_eval.simulate.forms import read_page
from human_eval.simulate.raters import simulate
from human_eval.simulate.truth import plant


def run(site, raters: int, **settings) -> None:
    asyncio.run(simulate(site.running, site.database, plant(site.running.study, 3), raters=raters, seed=3, **settings))


@pytest.mark.parametrize("preset", ["cogvideo-2022", "pairwise", "mos"])
def test_the_analysis_takes_what_is_exported(make_site, built, tmp_path: Path, preset: str) -> None:
    site = make_site(built[preset], f"sqlite:///{tmp_path}/a.db")
    run(site, 4)
    export_study(site.running, site.database, tmp_path / "out")
    study = site.running.study
    scales = {aspect.id: (aspect.scale.low, aspect.scale.high) for aspect in study.aspects}
    read, direct = read_tables(tmp_path / "out", scales=scales), study_tables(site.running, site.database)
    for name in SCHEMAS:
        assert getattr(read, name).to_dict("records") == getattr(direct, name).to_dict("records"), name
    assert len(direct.ratings) == 4 * study.trials * study.slots * len(study.aspects)
    assert len(direct.pairs) == (4 * study.trials if study.pair else 0)
    assert len(direct.favourites) == (4 * study.trials if study.favourite else 0)
    assert len(direct.checks) == 4 * (study.all_trials - study.trials)
    assert direct.checks["passed"].all()


def test_the_codebook_names_every_column_and_the_hash_of_every_file(site, tmp_path: Path) -> None:
    run(site, 2)
    paths = export_study(site.running, site.database, tmp_path / "out", has_parquet=False)
    book = json.loads((tmp_path / "out" / "codebook.json").read_text())
    assert set(book["sha256"]) == {path.name for path in paths} - {"codebook.json"}
    for name, digest in book["sha256"].items():
        assert hashlib.sha256((tmp_path / "out" / name).read_bytes()).hexdigest() == digest
    for name, columns in COLUMNS.items():
        with (tmp_path / "out" / f"{name}.csv").open(encoding="utf-8", newline="") as file:
            table = list(csv.reader(file))
        assert table[0] == [one for one in columns if one != "strength"] == list(book["columns"][name]["columns"])
        assert len(table) - 1 == book["columns"][name]["rows"]
    lines = (tmp_path / "out" / "answers.jsonl").read_text().splitlines()
    assert len(lines) == 2 * (1 + site.running.study.all_trials) * len(site.running.study.fields)


def test_parquet_holds_the_same_rows(site, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    run(site, 2)
    export_study(site.running, site.database, tmp_path / "out", has_parquet=True)
    table = parquet.read_table(tmp_path / "out" / "ratings.parquet").to_pylist()
    with (tmp_path / "out" / "ratings.csv").open(newline="") as file:
        assert [{k: str(v) for k, v in row.items()} for row in table] == list(csv.DictReader(file))


def with_company(texts: list[str]) -> list[str]:
    """Each text alone and behind what a spreadsheet may take for the end of a cell, or drop."""
    return [*texts, *(start + text for text in texts for start in ("a;", "a, ", "a\t", "a\n", 'a;"', " ", "\u200b"))]


def test_no_cell_is_a_formula_and_json_gives_back_what_was_written(hostile_texts: list[str]) -> None:
    texts = with_company(hostile_texts)
    rows = [{"rater": f"r-{k}", "words": words, "at_ms": -k} for k, words in enumerate(texts)]
    table = list(csv.reader(io.StringIO(as_csv(rows, ["rater", "words", "at_ms"]).decode(), newline="")))[1:]
    assert len(table) == len(texts)
    for (_, cell, number), words, row in zip(table, texts, rows, strict=True):
        # OWASP, "CSV injection": no cell starts with one of these, whatever parts the cells.
        assert not cell.startswith(("\t", "\r", "\n"))
        assert not any(
            part.strip(' "\u200b\xa0').startswith(tuple("=+-@＝＋－＠")) for part in re.split("[;,\t\n]", cell)
        )
        assert cell.replace("'", "") == words.replace("'", "")
        assert int(number) == row["at_ms"]
    assert [json.loads(line) for line in as_jsonl(rows).decode().split("\n")[:-1]] == rows


def formulas(program: str, files: list[Path], separators: str, folder: Path) -> dict[str, list[str]]:
    """What LibreOffice takes for a formula in CSV files whose cells are parted by these characters."""
    codes = "/".join(str(ord(one)) for one in separators)
    profile = f"-env:UserInstallation={(folder / 'profile').as_uri()}"
    words = [program, profile, "--headless", f"--infilter=CSV:{codes},34,76,1", "--convert-to", "fods"]
    subprocess.run([*words, "--outdir", folder, *files], check=True, capture_output=True, timeout=300)
    opened = {file.name: (folder / file.with_suffix(".fods").name).read_text(encoding="utf-8") for file in files}
    assert all("table:table-cell" in text for text in opened.values())
    return {name: re.findall(r'table:formula="([^"]*)"', text) for name, text in opened.items()}


@pytest.mark.slow
def test_libreoffice_opens_every_table_without_a_formula(
    libreoffice: str, make_site, study_folder, tmp_path: Path, hostile_texts: list[str]
) -> None:
    """Hostile words as prompts, as outside identifiers, as remarks and as names in the tables of the analysis."""

    def change(words: str) -> str:
        values = yaml.safe_load(words)
        for k, item in enumerate(values["items"]):
            item["prompt"] = {"en": hostile_texts[k]}
        return yaml.safe_dump(values, allow_unicode=True)

    site = make_site(study_folder, change=change)
    given = with_company(hostile_texts)
    typed = [words for words in dict.fromkeys(words.strip() for words in given) if 0 < len(words) <= 2000][:60]

    async def journey() -> None:
        for start in range(0, len(typed), 5):
            client, reply = await site.enter(typed[start])
            while reply.path != "/done":
                reply = await site.answer(client)
            for words in typed[start : start + 5]:
                form = next(f for f in read_page(reply.text)[0] if f.action == "/remark")
                reply = await client.post("/remark", form.values | {"words": words})

    asyncio.run(journey())
    paths = export_study(site.running, site.database, tmp_path / "out")
    kept = [json.loads(line)["words"] for line in (tmp_path / "out" / "remarks.jsonl").read_text().split("\n")[:-1]]
    assert sorted(kept) == sorted(typed)
    tables = [path for path in paths if path.suffix == ".csv"]
    tables.append(tmp_path / "out" / "analysis.csv")
    tables[-1].write_text(csv_text([{"model": one, "about": f"{one} x", "n": 1.5} for one in given]), encoding="utf-8")
    raw = tmp_path / "raw.csv"
    with raw.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([[words, "x"] for words in given])
    for separators in (",", ",;\t", ";"):
        found = formulas(libreoffice, [*tables, raw], separators, tmp_path / "opened")
        # As they were typed these words are formulas: the program does look for them.
        assert len(found.pop("raw.csv")) > 3
        assert {name: cells for name, cells in found.items() if cells} == {}
        assert len(found) == len(tables)


class Tags(HTMLParser):
    """Every tag and attribute of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.scripts: list[dict] = []
        self.handlers: list[str] = []
        self.words: list[str] = []

    def handle_starttag(self, tag, attrs) -> None:
        self.handlers += [
            name for name, value in attrs if name.startswith("on") or (value or "").startswith("javascript:")
        ]
        self.handlers += [tag] if tag in ("img", "iframe", "object", "style") else []
        self.words += [value or "" for name, value in attrs if name in ("value", "placeholder")]
        if tag == "script":
            self.scripts.append(dict(attrs))

    def handle_data(self, data) -> None:
        self.words.append(data)


def look(html: str) -> Tags:
    tags = Tags()
    tags.feed(html)
    return tags


def test_hostile_words_are_shown_as_typed_and_run_nowhere(
    make_site, study_folder, tmp_path: Path, hostile_texts: list[str]
) -> None:
    texts = hostile_texts

    def change(words: str) -> str:
        values = yaml.safe_load(words)
        values["title"] = {"en": " ".join(texts[:20])}
        values["consent"]["who"] = {"en": " ".join(texts)}
        values["aspects"][0]["name"] = {"en": texts[10]}
        values["aspects"][0]["hint"] = {"en": texts[13]}
        for k, item in enumerate(values["items"]):
            item["prompt"] = {"en": texts[(k + 10) % len(texts)]}
        return yaml.safe_dump(values, allow_unicode=True)

    site = make_site(study_folder, change=change)

    async def journey() -> list[str]:
        pages = []
        client = Client(site.app)
        reply = await client.get("/", **{"accept-language": "en"})
        pages.append(reply.text)
        client, reply = await site.enter("x'\"><script>window.__x=1</script>")
        shown = []
        while reply.path != "/done":
            if reply.path.startswith("/t/"):
                prompt = next(i for i in site.running.study.items if i.id == page_item(site, reply.path)).prompt["en"]
                shown.append(" ".join(prompt.split()) in " ".join("".join(look(reply.text).words).split()))
            pages.append(reply.text)
            reply = await site.answer(client)
            site.clock.move(1000)
        assert shown
        assert all(shown)
        for words in texts[:5]:
            form = next(f for f in read_page(reply.text)[0] if f.action == "/remark")
            reply = await client.post("/remark", form.values | {"words": words})
        pages.append(reply.text)
        admin = Client(site.app)
        pages.append((await admin.post("/admin/login", {"token": "the-token"})).text)
        return pages

    for html in asyncio.run(journey()):
        tags = look(html)
        assert [script.get("src") for script in tags.scripts] in (["/static/study.js"], [])
        assert tags.handlers == []
    export_study(site.running, site.database, tmp_path / "out")
    study = json.loads((tmp_path / "out" / "study.json").read_text())
    assert study["consent"]["who"]["en"] == " ".join(texts)
    with (tmp_path / "out" / "remarks.csv").open(encoding="utf-8", newline="") as file:
        stored = [row["words"] for row in csv.DictReader(file)]
    assert {cell.removeprefix("'") for cell in stored} == {words.strip() for words in texts[:5]}


def page_item(site, path: str) -> str:
    from sqlalchemy import select

    from human_eval.store.schema import trial

    return site.rows(select(trial.c.item).where(trial.c.token == path.removeprefix("/t/")))[0].item


@pytest.mark.slow
def test_both_databases_give_the_same_bytes(make_site, study_folder, postgres_url: str, tmp_path: Path) -> None:
    for name, url in (("sqlite", ""), ("postgres", postgres_url)):
        site = make_site(study_folder, url)
        run(site, 6, dropout=0.3, careless=0.2)

        async def remark(site=site) -> None:
            client, reply = await site.enter("one-more")
            while reply.path != "/done":
                reply = await site.answer(client)
            form = next(f for f in read_page(reply.text)[0] if f.action == "/remark")
            await client.post("/remark", form.values | {"words": "=1+1 水中的狮子 \u200b"})

        asyncio.run(remark())
        export_study(site.running, site.database, tmp_path / name)
        site.database.close()
    files = sorted(path.name for path in (tmp_path / "sqlite").iterdir())
    assert files == sorted(path.name for path in (tmp_path / "postgres").iterdir())
    for file in files:
        assert (tmp_path / "sqlite" / file).read_bytes() == (tmp_path / "postgres" / file).read_bytes(), file
    assert len((tmp_path / "sqlite" / "answers.jsonl").read_bytes()) > 50_000
