"""A rater who is forgotten is in no file any more, and in no number that was computed of the answers."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path

import pytest
from sqlalchemy import select

from cogvideo.errors import UserError
from human_eval.analysed import analyze_study
from human_eval.exported import export_folder
from human_eval.forgotten import forget_rater
from human_eval.simulate.client import Client
from human_eval.simulate.forms import read_page
from human_eval.simulate.raters import simulate
from human_eval.simulate.running import simulate_study
from human_eval.simulate.truth import plant
from human_eval.store.schema import answer, enrolment, rater, trial

FEW = {"resamples": 100, "seed": 3}


def collected(site, raters: int) -> list[str]:
    """Pseudonyms of raters who looked and answered everything; the last one left a remark too."""
    asyncio.run(simulate(site.running, site.database, plant(site.running.study, 3), raters=raters, seed=3))

    async def remark() -> None:
        client = Client(site.app)
        reply = await client.get(site.tickets.resume_link(raters - 1))
        form = next(f for f in read_page(reply.text)[0] if f.action == "/remark")
        await client.post("/remark", form.values | {"words": "remark of one who goes, xylophone"})

    asyncio.run(remark())
    rows = site.rows(select(rater.c.pseudonym).join(enrolment).order_by(enrolment.c.ordinal))
    assert len(rows) == raters
    return [row.pseudonym for row in rows]


def secrets_of(site, pseudonym: str) -> list[bytes]:
    """Every name that leads to a rater: pseudonym, hash of the outside identity, pages, remark."""
    who = site.rows(select(rater).where(rater.c.pseudonym == pseudonym))[0]
    mine = select(trial.c.token).join(enrolment).where(enrolment.c.rater_id == who.id)
    tokens = [row.token for row in site.rows(mine)]
    assert len(tokens) == 9
    return [one.encode() for one in (pseudonym, who.outside_hash, "one who goes", *tokens)]


def found_in(folder: Path, secrets: list[bytes]) -> list[str]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [f"{path.name}: {secret!r}" for path in files for secret in secrets if secret in path.read_bytes()]


def answers_of(folder: Path) -> dict:
    """What an analysis says, but for the settings and where it lies."""
    return json.loads((folder / "analysis.json").read_text())


@pytest.mark.slow
def test_nothing_of_a_forgotten_rater_is_left_and_results_are_computed_again(
    make_site, study_folder, tmp_path: Path
) -> None:
    site = make_site(study_folder, days=1)  # not the very moment at which simulations begin
    *stay, goes = collected(site, 3)
    secrets = secrets_of(site, goes)
    site.database.close()
    export_folder(study_folder, has_parquet=True)
    export_folder(study_folder, out=tmp_path / "copy")
    before = answers_of(analyze_study(study_folder, **FEW)[1][0].parent)
    analyze_study(study_folder, out=study_folder / "of-export", tables=study_folder / "export", **FEW)
    (study_folder / "of-export" / "notes of the author.txt").write_text("mine")
    simulate_study(study_folder, raters=3)
    analyze_study(study_folder, out=study_folder / "of-simulation", tables=study_folder / "simulated" / "export", **FEW)
    simulated = (study_folder / "of-simulation" / "analysis.json").read_bytes()
    assert len(found_in(study_folder, secrets)) > len(secrets)  # the search does find what is there
    cleaned = forget_rater(study_folder, "", goes)
    assert found_in(study_folder, secrets) == []
    assert found_in(tmp_path / "copy", secrets) == []
    assert (tmp_path / "copy" / "ratings.csv") in cleaned.again
    assert json.loads((study_folder / "export" / "codebook.json").read_text())["removed_raters"] == 1
    for name in stay:
        assert name in (study_folder / "export" / "ratings.csv").read_text()
        assert name.encode() in (study_folder / "export" / "ratings.parquet").read_bytes()
    # The numbers are those of the two who are left: the same as of an analysis that never knew the third.
    found = answers_of(study_folder / "analysis")
    assert (before["n_raters"], found["n_raters"]) == (3, 2)
    fresh = analyze_study(study_folder, out=tmp_path / "fresh", **FEW)[1][0].parent
    assert found == answers_of(fresh)
    assert answers_of(study_folder / "of-export")["n_raters"] == 2
    assert (study_folder / "of-export" / "notes of the author.txt").read_text() == "mine"
    # Synthetic raters are nobody: what was made of them stays.
    assert (study_folder / "of-simulation" / "analysis.json").read_bytes() == simulated
    with pytest.raises(UserError, match="is no rater of this study"):
        forget_rater(study_folder, "", goes)


def test_with_the_last_rater_the_analysis_goes_and_only_it(make_site, study_folder) -> None:
    site = make_site(study_folder)
    (name,) = collected(site, 1)
    site.database.close()
    analyze_study(study_folder, **FEW)
    (study_folder / "analysis" / "letter.txt").write_text("mine")
    cleaned = forget_rater(study_folder, "", name)
    assert [path.name for path in (study_folder / "analysis").iterdir()] == ["letter.txt"]
    assert study_folder / "analysis" / "analysis.json" in cleaned.removed
    assert cleaned.again == []


def test_an_analysis_of_a_downloaded_export_goes_too(make_site, study_folder, tmp_path: Path) -> None:
    """It cannot be made again: the download, which is the author's to clean, still has the rater."""
    site = make_site(study_folder)
    stays, goes = collected(site, 2)
    site.database.close()
    export_folder(study_folder)
    shutil.copytree(study_folder / "export", tmp_path / "download")
    analyze_study(study_folder, tables=tmp_path / "download", **FEW)
    forget_rater(study_folder, "", goes)
    assert not (study_folder / "analysis").exists()
    assert found_in(study_folder, [goes.encode()]) == []
    assert found_in(study_folder, [stays.encode()]) != []


def test_a_result_of_before_leaves_no_file_beside_the_new_one(make_site, study_folder) -> None:
    site = make_site(study_folder)
    collected(site, 1)
    site.database.close()
    analyze_study(study_folder, **FEW)
    path = study_folder / "analysis" / "screening.csv"
    known = json.loads((study_folder / "copies.json").read_text())
    known[-1]["files"].append("old_table.csv")
    (study_folder / "copies.json").write_text(json.dumps(known))
    (study_folder / "analysis" / "old_table.csv").write_text("rater\n")
    analyze_study(study_folder, **FEW)
    assert path.exists()
    assert not (study_folder / "analysis" / "old_table.csv").exists()


def test_a_rater_withdraws_with_the_key_of_the_last_page(make_site, study_folder) -> None:
    site = make_site(study_folder)
    names = collected(site, 2)
    secrets = secrets_of(site, names[1])
    export_folder(study_folder)
    analyze_study(study_folder, **FEW)

    async def withdraw() -> None:
        key = site.running.withdrawal_key(names[1])
        stranger = Client(site.app)
        form = read_page((await stranger.get("/withdraw")).text)[0][0]
        assert (await stranger.post("/withdraw", form.values | {"key": "AAAA-BBBB"})).status == 422
        assert site.count(rater) == 2
        reply = await stranger.post("/withdraw", form.values | {"key": f" {key.lower()} "})
        assert "Your answers are deleted" in reply.text

    asyncio.run(withdraw())
    assert site.count(rater) == 1
    assert site.count(trial) == 9
    site.database.close()
    assert found_in(study_folder, secrets) == []
    assert names[0] in (study_folder / "export" / "ratings.csv").read_text()
    # A serving process has no minute for it: the author analyses again.
    assert not (study_folder / "analysis").exists()


def test_who_withdraws_half_way_is_out(site) -> None:
    async def journey() -> None:
        client, _ = await site.enter("w")
        await site.answer(client)
        key = site.running.withdrawal_key(site.place(client).pseudonym)
        form = read_page((await client.get("/withdraw")).text)[0][0]
        await client.post("/withdraw", form.values | {"key": key})
        assert site.count(rater) == site.count(answer) == site.count(trial) == 0
        assert (await client.get("/now")).path == "/"

    asyncio.run(journey())


def test_the_author_deletes_a_rater_on_the_admin_page(make_site, study_folder) -> None:
    site = make_site(study_folder)
    names = collected(site, 2)
    secrets = secrets_of(site, names[1])
    export_folder(study_folder)

    async def delete() -> None:
        admin = Client(site.app)
        bearer = {"authorization": "Bearer the-token"}
        assert (await admin.post("/admin/withdraw", {"rater": names[1]}, follows=False, **bearer)).status == 303

    asyncio.run(delete())
    site.database.close()
    assert found_in(study_folder, secrets) == []
    assert names[0] in (study_folder / "export" / "ratings.csv").read_text()
