"""The site as files: complete, valid, linked, the same bytes anywhere, built again from its board, any name safe."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import subprocess
import sys
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag

import pytest

import cogeval
from cogvideo.errors import UserError
from eval.notation import number
from eval.records import GeneratorFacts
from reports.board.assemble import add_runs, add_studies, finish
from reports.board.document import Board
from reports.board.names import metric_page
from reports.board.runs import Vouched
from reports.board.stored import board_text, read_board
from reports.board.tables import protocol_of
from reports.site import markup
from reports.site.build import files, write_site
from reports.site.exports import plain
from reports.site.films import gather
from reports.site.table import Column, Row, Table, words
from reports.site.verify import verify
from reports.tables import generator_rows, protocol_rows

REFERENCE = Path(os.environ.get("COGEVAL_REFERENCE_DIR", Path(__file__).parents[3] / ".." / "shared" / "reference"))
HOSTILE_FILE = REFERENCE / "human" / "hostile_strings.json"
HOSTILE = [
    "<script>window.__x=1</script>",
    '"><svg onload=window.__x=1>',
    "</script><script>window.__x=1</script>",
    "{{7*7}}",
    "javascript:window.__x=1",
    "a\u202egnp.4pm",
    "\x00\x1b[2J\x85",
    "../../etc/passwd",
    "=cmd|' /C calc'!A0",
    "x" * 300,
]


class Page(HTMLParser):
    """Ids, links and text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.tags: Counter[str] = Counter()
        self.attributes: set[str] = set()
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags[tag] += 1
        self.attributes |= {name for name, _ in attrs}
        given = dict(attrs)
        if "id" in given:
            self.ids.append(given["id"])
        for name in ("href", "src", "poster", "data-src"):
            if given.get(name):
                self.links.append(given[name])

    def handle_data(self, data):
        self.words.append(data)


@pytest.fixture(scope="module")
def board(sample_runs, lab, tmp_path_factory) -> tuple[Board, dict[str, bytes]]:
    """Three models with videos and a study, and another protocol."""
    folder = tmp_path_factory.mktemp("runs")
    runs = lab.write_models(sample_runs, folder, "abc", step=100, videos=2)
    other = lab.write_other_protocol(sample_runs, folder / "model-d", "Model D")
    made = Board()
    found = dict(add_runs(made, [Vouched(path) for path in [*runs, other]]))
    add_studies(made, [lab.write_study(folder / "study", runs, n_items=2)])
    finish(made, None, prompts=4)
    return made, gather(made, found)


@pytest.fixture(scope="module")
def site(board, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("out") / "site"
    write_site(board[0], out, board[1])
    return out


def pages(site: Path) -> dict[str, str]:
    return {p.relative_to(site).as_posix(): p.read_text(encoding="utf-8") for p in sorted(site.rglob("*.html"))}


def same(one: Path, other: Path) -> None:
    names = [sorted(p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file()) for root in (one, other)]
    assert names[0] == names[1]
    assert [name for name in names[0] if (one / name).read_bytes() != (other / name).read_bytes()] == []


def test_every_page_of_the_plan_is_there(site) -> None:
    found = set(pages(site))
    flat = {
        "index.html",
        "compare.html",
        "human.html",
        "agreement.html",
        "history.html",
        "data.html",
        "method.html",
        "404.html",
    }
    assert flat | {"metric/index.html", "model/model-a.html"} <= found
    for folder, n in (("model", 4), ("run", 4), ("metric", 3), ("prompt", 4), ("table", 2)):
        assert len(list((site / folder).glob("*.html"))) == n, folder
    assert {"sitemap.xml", "feed.xml", "manifest.json", "data/board.json"} <= {
        p.relative_to(site).as_posix() for p in site.rglob("*")
    }
    # Names are of the content: both clips of a model are the same video here.
    assert len(list((site / "media").iterdir())) >= 6


def test_pages_are_valid_html(site, problems_of_html) -> None:
    """Every parse error of the standard, repeated ids, labels that name nothing."""
    assert {name: found for name, text in pages(site).items() if (found := problems_of_html(text))} == {}


def test_no_dead_link_and_no_id_twice(site) -> None:
    read = {name: Page(text) for name, text in pages(site).items()}
    for name, page in read.items():
        assert [i for i, n in Counter(page.ids).items() if n > 1] == [], name
        for link in page.links:
            path, fragment = urldefrag(link)
            if link.startswith(("data:", "http:", "https:")):
                continue
            target = (site / name).parent / unquote(path) if path else site / name
            assert target.resolve().is_file(), f"{name}: {link}"
            key = target.resolve().relative_to(site.resolve()).as_posix()
            if fragment and key in read:
                assert fragment in read[key].ids, f"{name}: {link}"


def test_every_number_has_an_address_and_a_protocol_in_full(board, site) -> None:
    """From a row of the board to its run, from a number to its row there; and every setting stands beside it."""
    read = {name: Page(text) for name, text in pages(site).items()}
    runs = {run.id: run for run in board[0].runs}
    for run in runs.values():
        own = read[f"run/{run.id}.html"]
        addresses = [metric_page(metric.id) for metric in run.result.metrics]
        assert set(addresses) <= set(own.ids)
        links = read[f"model/{run.model}.html"].links
        assert {f"../run/{run.id}.html#{name}" for name in addresses} <= set(links)
    for table in board[0].tables:
        page = read[f"table/{table.id}.html"]
        assert {f"../run/{name}.html" for name in table.runs} <= set(page.links)
        settings = protocol_rows(protocol_of(runs[table.runs[0]]))
        assert len(settings) > 5
        for shown in (page, read[f"run/{table.runs[0]}.html"]):
            text = "|".join(shown.words)
            assert [pair for pair in settings if not all(word in text for word in pair)] == []


def test_a_reader_is_told_who_paid_what_was_seen_and_what_papers_say(sample_runs, lab, tmp_path) -> None:
    """Contamination, conflicts of interest, raters' pay; and the difference to the paper of a model of this name."""
    board = Board()
    names = ("CogVideo", "Other", "Third")
    runs = [
        lab.write_model(sample_runs, tmp_path / name, name, seed=k, fvd=626.0 - 50 * k) for k, name in enumerate(names)
    ]
    add_runs(board, [Vouched(path) for path in runs])
    board.models[1].card.overlap, board.models[1].card.funding = "UCF-101 was excluded", "Lab Y"
    add_studies(board, [lab.write_study(tmp_path / "study", runs, n_items=2)])
    finish(board, None, prompts=2)
    write_site(board, tmp_path / "site")
    told = {name: "|".join(Page(text).words) for name, text in pages(tmp_path / "site").items()}
    for term, said in (("Overlap with test data", "UCF-101 was excluded"), ("Who paid", "Lab Y")):
        assert f"{term}|{said}" in told[f"model/{board.models[1].id}.html"]
        assert f"{term}|not stated" in told[f"model/{board.models[0].id}.html"]
    assert "Pay|9 an hour" in told["human.html"]
    own = told[f"model/{board.models[0].id}.html"]
    printed = [board.papers[one.row] for one in board.tables[0].printed[lab.FVD]]
    values = [float(row.value) for row in printed if row.model.partition(" (")[0] == "CogVideo"]
    assert len(values) > 1
    for value in values:
        assert number(626.0 - value, 1, sign=True) in own
        assert ("inside our interval" if abs(626.0 - value) <= 20 else "outside our interval") in own
    assert "Difference to papers" not in told[f"model/{board.models[1].id}.html"]


def test_each_number_says_which_direction_is_better_and_none_is_an_average_of_others(board, site) -> None:
    """In words and by an arrow, not by colour; the columns of a board are its metrics, as they were measured."""
    for table in board[0].tables:
        text = "".join(Page((site / "table" / f"{table.id}.html").read_text(encoding="utf-8")).words)
        for direction, arrow in (("lower", "↓"), ("higher", "↑")):
            wanted = sum(column.direction == direction for column in table.metrics)
            assert text.count(f"{arrow} {direction} is better") == wanted
        held = json.loads((site / "data" / f"board-{table.id}.json").read_text(encoding="utf-8"))["rows"][0]["cells"]
        people = {key for key in held if key.startswith(("opinion", "preferred", "strength"))}
        assert set(held) - people == {"rank", "model", "measured", *(column.id for column in table.metrics)}


def test_a_model_says_how_it_was_sampled(sample_runs, lab, tmp_path) -> None:
    said = {
        "kind": "x",
        "options": {},
        "dtype": "bfloat16",
        "settings": {"guidance_scale": 2.5, "negative": None, "video": {"top_k": 4, "is_random": False}},
        "weights": {"parts": {"net": {"sha256": "ab" * 32}}},
    }
    rows = [
        ("Dtype", "bfloat16"),
        ("Guidance scale", "2.5"),
        ("Negative", "none"),
        ("Video", "top k 4, is random no"),
        ("Weights", f"parts net sha256 {'ab' * 32}"),
    ]
    assert generator_rows(GeneratorFacts(spec="x", title="X", description=said)) == rows
    folder = lab.write_model(sample_runs, tmp_path / "run", "Model <X>")
    record = json.loads((folder / "result.json").read_text())
    record["generator"]["description"] = said
    (folder / "result.json").write_text(json.dumps(record))
    made = Board()
    add_runs(made, [Vouched(folder)])
    finish(made, None, prompts=0)
    write_site(made, tmp_path / "site")
    for page in (f"model/{made.models[0].id}.html", f"run/{made.runs[0].id}.html"):
        words = Page((tmp_path / "site" / page).read_text()).words
        assert [pair for pair in rows if not set(pair) <= set(words)] == [], page


def test_no_line_ends_inside_an_interval_that_stands_alone() -> None:
    texts = ("3.99–4.40", "−7.0 to +3.6", "1,094–2,000", "ucf101–shapes", "16 frames to 32", "none")
    columns = [Column("model", "Model"), *(Column(text, text) for text in texts)]
    cells = {"model": words("A"), **{text: words(text) for text in texts}}
    drawn = str(markup.rows(Table("t", "T", columns, [Row("a", cells)])))
    assert re.findall(r'<td class="whole"><bdi>([^<]+)', drawn) == list(texts[:3])


def test_nothing_comes_from_elsewhere_and_no_script_is_inline(site) -> None:
    for name, text in pages(site).items():
        page = Page(text)
        assert not [
            link for link in page.links if re.match(r"(https?:)?//", link) and not link.startswith("https://")
        ], name
        assert not any(attribute.startswith("on") for attribute in page.attributes), name
        for script in re.findall(r"<script(?![^>]* src=)([^>]*)>", text):
            assert 'type="application/json"' in script, name
    for script in (site / "assets").glob("*.js"):
        assert not re.search(r"\bfetch\(|import\(|new Worker|XMLHttpRequest|\beval\(", script.read_text()), script.name


def test_no_page_loads_more_than_25_kibibytes_of_style_and_script(site) -> None:
    """As it opens; compare.html loads the players besides, once its videos are near, and the figures of each model."""
    sizes = {path.name: path.stat().st_size for path in (site / "assets").iterdir()}
    used: set[str] = set()
    for name, text in pages(site).items():
        loaded = re.findall(r'<(?:script|link)[^>]* (?:src|href)="(?:\.\./)*assets/([^"]+)"', text)
        used.update(loaded)
        assert sum(sizes[one] for one in loaded) <= 25 * 1024, name
    assert used == sizes.keys()
    assert sum(size for name, size in sizes.items() if name.endswith(".js")) <= 25_000


def test_everything_is_there_without_script(site) -> None:
    text = " ".join("".join(Page((site / "index.html").read_text()).words).split())
    for wanted in ("Model A", "400.0", "380.0–420.0", "n = 24", "1", "not in study", "The first", "Other protocols"):
        if wanted not in ("not in study", "The first"):
            assert wanted in text, wanted
    prompt = (site / "prompt").glob("*.html")
    films = [Page(path.read_text()) for path in prompt]
    assert sum(page.tags["video"] for page in films) == 6
    assert all(
        'preload="none"' in path.read_text()
        for path in (site / "prompt").glob("*.html")
        if "<video" in path.read_text()
    )
    assert "Model B" in "".join(Page((site / "compare.html").read_text()).words)


def test_table_csv_json_latex_and_markdown_say_the_same(site) -> None:
    """Every exported table, cell for cell, and the leaderboard's against its page."""
    for path in sorted((site / "data").glob("*.tex")):
        name = path.stem
        value = json.loads((site / "data" / f"{name}.json").read_text())
        rows = list(csv.DictReader(io.StringIO((site / "data" / f"{name}.csv").read_text())))
        tex = [line for line in path.read_text().splitlines() if line.endswith(r"\\")][1:]
        pipes = (site / "data" / f"{name}.md").read_text().splitlines()[2:]
        assert len(value["rows"]) == len(rows) == len(tex) == len(pipes), name
        for row, line, tex_row, pipe in zip(value["rows"], rows, tex, pipes, strict=True):
            for key, cell in row["cells"].items():
                if "value" in cell:
                    assert line[key].lstrip("'") in (plain(cell["text"]), cell["text"]), (name, key)
                    assert cell["text"].replace("\u2212", "$-$").replace("–", "--") in tex_row.replace(
                        r"\%", "%"
                    ).replace(r"\textless{}", "<")
                    assert cell["text"].replace("<", "&lt;") in pipe.replace("\\", "")
    value = json.loads((site / "data" / next(p.name for p in (site / "data").glob("board-ucf101*.json"))).read_text())
    text = (site / "index.html").read_text()
    shown = re.findall(r'<span class="cell[^"]*"><b>([^<]*)</b> <span class="small">([^<]*)</span>', text)
    cells = [c for row in value["rows"] for c in row["cells"].values() if "n" in c]
    assert shown[: len(cells)] == [(c["text"], c.get("interval", "no interval")) for c in cells]


def test_exports_hold_to_their_schemas(site) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads((site / "data" / "table-1.schema.json").read_text())
    for path in (site / "data").glob("*.json"):
        value = json.loads(path.read_text())
        if value.get("$schema") == "table-1.schema.json":
            jsonschema.validate(value, schema)
    jsonschema.validate(
        json.loads((site / "data" / "board.json").read_text()),
        json.loads((site / "data" / "board-1.schema.json").read_text()),
    )


def test_the_board_alone_builds_the_site_again(site, tmp_path) -> None:
    assert (
        cogeval.main(
            ["leaderboard", "build", "--from", str(site / "data" / "board.json"), "--out", str(tmp_path / "again")]
        )
        == 0
    )
    same(site, tmp_path / "again")


def test_nothing_beside_the_board_is_read_for_pages_and_exports(site, tmp_path) -> None:
    """Without the folder of videos all is the same but the videos and the list of files."""
    alone = tmp_path / "alone.json"
    alone.write_bytes((site / "data" / "board.json").read_bytes())
    out = tmp_path / "again"
    assert cogeval.main(["leaderboard", "build", "--from", str(alone), "--out", str(out)]) == 0
    found, again = (
        {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}
        for root in (site, out)
    )
    made = {path for path in found if not path.startswith("media/")}
    assert again.keys() == made
    assert [path for path in sorted(made - {"manifest.json"}) if found[path] != again[path]] == []


def test_the_same_bytes_under_another_hash_seed_locale_and_time_zone(site, tmp_path) -> None:
    code = (
        "import sys; from pathlib import Path; from reports.board.stored import read_board;"
        "from reports.site.build import write_site;"
        "write_site(read_board(Path(sys.argv[1])), Path(sys.argv[2]), media_from=Path(sys.argv[3]))"
    )
    more = {
        "PYTHONHASHSEED": "4711",
        "LC_ALL": "tr_TR.UTF-8",
        "TZ": "Pacific/Kiritimati",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    given = [str(site / "data" / "board.json"), str(tmp_path / "again"), str(site / "media")]
    run = subprocess.run(
        [sys.executable, "-c", code, *given], env=os.environ | more, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    same(site, tmp_path / "again")


def test_a_second_build_writes_nothing_and_one_change_little(board, site, tmp_path) -> None:
    out = tmp_path / "site"
    write_site(board[0], out, board[1])
    assert write_site(board[0], out)["written"] == 0
    changed = board[0].model_copy(deep=True)
    changed.models[0].card.type = "Diffusion"
    counts = write_site(changed, out)
    assert 0 < counts["written"] < counts["kept"]
    assert verify(out).is_good


def test_verify_sees_each_kind_of_damage(board, tmp_path, capsys) -> None:
    out = tmp_path / "site"
    write_site(board[0], out, board[1])
    assert cogeval.main(["leaderboard", "verify", str(out)]) == 0
    assert "built again and equal" in capsys.readouterr().out
    (out / "index.html").write_text("other")
    (out / "method.html").unlink()
    (out / "extra.html").write_text("x")
    found = verify(out)
    assert (found.changed, found.missing, found.added) == (["index.html"], ["method.html"], ["extra.html"])
    assert cogeval.main(["leaderboard", "verify", str(out)]) == 2
    assert cogeval.main(["leaderboard", "verify", str(tmp_path)]) == 2
    assert "expected the folder of a built site" in capsys.readouterr().err
    write_site(board[0], tmp_path / "two", board[1])
    text = (tmp_path / "two" / "manifest.json").read_text()
    page = (tmp_path / "two" / "index.html").read_bytes()
    import hashlib

    forged = page.replace(b"400.0", b"100.0")
    (tmp_path / "two" / "index.html").write_bytes(forged)
    digests = [hashlib.sha256(data).hexdigest() for data in (page, forged)]
    (tmp_path / "two" / "manifest.json").write_text(text.replace(digests[0], digests[1]))
    assert verify(tmp_path / "two").differing == ["index.html"]


def test_a_build_that_did_not_end_is_finished(board, site, tmp_path) -> None:
    out = tmp_path / "site"

    def stop(path: str) -> None:
        if path == "method.html":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_site(board[0], out, board[1], advance=stop)
    (out / "model" / "ghost.html").write_text("of an earlier board")
    with pytest.raises(UserError, match="expected the folder of a built site"):
        verify(out)
    write_site(board[0], out, board[1])
    same(site, out)


def test_another_folder_is_not_built_over(board, tmp_path) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(UserError, match="holds other files"):
        write_site(board[0], tmp_path)
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="is a file"):
        write_site(board[0], tmp_path / "file")


def test_old_addresses_still_lead_somewhere_after_three_publishes(board, tmp_path) -> None:
    out = tmp_path / "site"
    first = board[0].model_copy(deep=True)
    write_site(first, out, board[1])
    addresses = [name for name in pages(out) if name.startswith(("model/", "run/"))]
    file = str(out / "data" / "board.json")
    assert (
        cogeval.main(["leaderboard", "remove", "model-c", "--board", file, "--out", str(out), "--reason", "withdrawn"])
        == 0
    )
    (tmp_path / "cards.yaml").write_text(
        "models:\n  model-a-v1:\n    title: Model A v1\n    generators: ['folder:Model A']\n"
    )
    assert (
        cogeval.main(
            ["leaderboard", "build", "--from", file, "--cards", str(tmp_path / "cards.yaml"), "--out", str(out)]
        )
        == 0
    )
    assert (
        cogeval.main(
            ["leaderboard", "remove", "model-b", "--board", file, "--out", str(out), "--reason", "wrong weights"]
        )
        == 0
    )
    for name in addresses:
        assert (out / name).is_file(), name
    assert "withdrawn" in (out / "model" / "model-c.html").read_text()
    assert "model-a-v1.html" in (out / "model" / "model-a.html").read_text()
    text = (out / "history.html").read_text()
    assert "withdrawn" in text
    assert "wrong weights" in text
    assert [one.number for one in read_board(out / "data" / "board.json").publishes] == [1, 2, 3, 4]
    assert verify(out).is_good


@pytest.mark.parametrize("n", [0, 1])
def test_no_model_and_one_model_are_pages_that_say_so(sample_runs, lab, tmp_path, n) -> None:
    board = Board()
    runs = [lab.write_model(sample_runs, tmp_path / "one", "Only", seed=1)][:n]
    add_runs(board, [Vouched(path) for path in runs])
    finish(board, None)
    write_site(board, tmp_path / "site")
    text = (tmp_path / "site" / "index.html").read_text()
    assert ("There is nothing to rank it with" if n else "No run is on this board yet") in text
    assert "It takes two models" in (tmp_path / "site" / "compare.html").read_text()
    assert verify(tmp_path / "site").is_good


def test_hostile_names_and_prompts_are_only_text(sample_runs, lab, tmp_path) -> None:
    more = json.loads(HOSTILE_FILE.read_text(encoding="utf-8"))["text"] if HOSTILE_FILE.exists() else []
    texts = [*HOSTILE, *more][: lab.N]
    board = Board()
    runs = []
    for k, name in enumerate(texts[:6]):
        runs.append(lab.write_model(sample_runs, tmp_path / f"r{k}", name, seed=k, prompts=(texts * lab.N)[: lab.N]))
    add_runs(board, [Vouched(path) for path in runs])
    finish(board, None, prompts=lab.N, reason=HOSTILE[0])
    board.title = board.about = HOSTILE[0]
    write_site(board, tmp_path / "site")
    for name, text in pages(tmp_path / "site").items():
        page = Page(text)
        assert not any(attribute.startswith("on") for attribute in page.attributes), name
        bodies = re.findall(r"<script([^>]*)>(.*?)</script>", text, flags=re.DOTALL)
        assert all("src=" in given or ("application/json" in given and "<" not in body) for given, body in bodies), name
        assert not [link for link in page.links if link.lower().startswith("javascript:")], name
        assert "\x00" not in text
        assert "\x1b" not in text
    assert verify(tmp_path / "site").is_good


def test_commands_refuse_in_one_line(tmp_path, capsys) -> None:
    (tmp_path / "b.json").write_text("{")
    for arguments in (
        ["build"],
        ["build", str(tmp_path / "nothing")],
        ["build", str(tmp_path)],
        ["build", "--from", str(tmp_path / "b.json")],
        ["build", "--from", str(tmp_path / "none.json")],
        ["add", "x", "--board", str(tmp_path / "b.json")],
        ["build", "x", "--date", "yesterday"],
    ):
        assert cogeval.main(["leaderboard", *arguments, "--out", str(tmp_path / "out")]) == 2, arguments
        assert len(capsys.readouterr().err.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_a_run_of_another_protocol_is_not_added(sample_runs, lab, board, tmp_path, capsys) -> None:
    write_site(board[0], tmp_path / "site", board[1])
    sent = lab.write_model(sample_runs, tmp_path / "sent", "Sent", seed=5, fvd=300.0)
    file = str(tmp_path / "site" / "data" / "board.json")
    assert (
        cogeval.main(
            ["leaderboard", "add", str(sent), "--board", file, "--by", "Lab Y", "--out", str(tmp_path / "site")]
        )
        == 0
    )
    assert "Sent added to ucf101 / tats-16f-2048" in capsys.readouterr().out
    assert "Self-reported" in (tmp_path / "site" / "index.html").read_text()
    other = lab.write_model(sample_runs, tmp_path / "other", "Other", fingerprint="00001111")
    assert cogeval.main(["leaderboard", "add", str(other), "--board", file, "--out", str(tmp_path / "site")]) == 2
    assert "would stand in no order" in capsys.readouterr().err


def test_the_feed_and_the_map_are_well_formed(board, site) -> None:
    import xml.etree.ElementTree as ET

    for name in ("feed.xml", "sitemap.xml"):
        ET.parse(site / name)
    assert board_text(board[0]) == (site / "data" / "board.json").read_text()
    assert dict(files(board[0]))["feed.xml"] == (site / "feed.xml").read_text()
