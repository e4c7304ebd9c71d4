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
from pathlib import Path
from urllib.parse import unquote, urldefrag

import pytest

import cogeval
from cogvideo.errors import UserError
from reports.board.assemble import add_runs, finish
from reports.board.document import Board
from reports.board.runs import Vouched
from reports.board.stored import board_text, read_board
from reports.site.build import files, write_site
from reports.site.exports import plain
from reports.site.verify import verify

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


def same(one: Path, other: Path) -> None:
    names = [sorted(p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file()) for root in (one, other)]
    assert names[0] == names[1]
    assert [name for name in names[0] if (one / name).read_bytes() != (other / name).read_bytes()] == []


def test_every_page_of_the_plan_is_there(site, lab) -> None:
    found = set(lab.pages(site))
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


def test_pages_are_valid_html(site, problems_of_html, lab) -> None:
    """Every parse error of the standard, repeated ids, labels that name nothing."""
    assert {name: found for name, text in lab.pages(site).items() if (found := problems_of_html(text))} == {}


def test_no_dead_link_and_no_id_twice(site, lab) -> None:
    read = {name: lab.Page(text) for name, text in lab.pages(site).items()}
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


def test_nothing_comes_from_elsewhere_and_no_script_is_inline(site, lab) -> None:
    for name, text in lab.pages(site).items():
        page = lab.Page(text)
        assert not [
            link for link in page.links if re.match(r"(https?:)?//", link) and not link.startswith("https://")
        ], name
        assert not any(attribute.startswith("on") for attribute in page.attributes), name
        for script in re.findall(r"<script(?![^>]* src=)([^>]*)>", text):
            assert 'type="application/json"' in script, name
    for script in (site / "assets").glob("*.js"):
        assert not re.search(r"\bfetch\(|import\(|new Worker|XMLHttpRequest|\beval\(", script.read_text()), script.name


def test_no_page_loads_more_than_25_kibibytes_of_style_and_script(site, lab) -> None:
    """As it opens; compare.html loads the players besides, once its videos are near, and the figures of each model."""
    sizes = {path.name: path.stat().st_size for path in (site / "assets").iterdir()}
    used: set[str] = set()
    for name, text in lab.pages(site).items():
        loaded = re.findall(r'<(?:script|link)[^>]* (?:src|href)="(?:\.\./)*assets/([^"]+)"', text)
        used.update(loaded)
        assert sum(sizes[one] for one in loaded) <= 25 * 1024, name
    assert used == sizes.keys()
    assert sum(size for name, size in sizes.items() if name.endswith(".js")) <= 25_000


def test_everything_is_there_without_script(site, lab) -> None:
    text = " ".join("".join(lab.Page((site / "index.html").read_text()).words).split())
    for wanted in ("Model A", "400.0", "380.0–420.0", "n = 24", "1", "not in study", "The first", "Other protocols"):
        if wanted not in ("not in study", "The first"):
            assert wanted in text, wanted
    prompt = (site / "prompt").glob("*.html")
    films = [lab.Page(path.read_text()) for path in prompt]
    assert sum(page.tags["video"] for page in films) == 6
    assert all(
        'preload="none"' in path.read_text()
        for path in (site / "prompt").glob("*.html")
        if "<video" in path.read_text()
    )
    assert "Model B" in "".join(lab.Page((site / "compare.html").read_text()).words)


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


def test_old_addresses_still_lead_somewhere_after_three_publishes(board, tmp_path, lab) -> None:
    out = tmp_path / "site"
    first = board[0].model_copy(deep=True)
    write_site(first, out, board[1])
    addresses = [name for name in lab.pages(out) if name.startswith(("model/", "run/"))]
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
    for name, text in lab.pages(tmp_path / "site").items():
        page = lab.Page(text)
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
