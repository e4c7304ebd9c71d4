"""The author's way from the admin page to the result: the figures of `human analyze`, behind the token."""

from __future__ import annotations

import asyncio
import re

from human_eval.analysed import analyze_study
from human_eval.simulate.client import Client
from human_eval.simulate.raters import simulate
from human_eval.simulate.truth import plant


def figures(page: str) -> list[str]:
    """What every picture says."""
    return re.findall(r'<svg width="100%"[^>]*aria-label="([^"]*)"', page)


def test_the_result_so_far_is_that_of_the_command(site, study_folder) -> None:
    async def ask(path: str, **headers: str):
        return await Client(site.app).get(path, **headers)

    async def tour():
        token = {"authorization": "Bearer the-token"}
        empty = await ask("/admin/result", **token)
        await simulate(site.running, site.database, plant(site.running.study, 3), raters=5, seed=3)
        return empty, await ask("/admin/result"), await ask("/admin/result", **token), await ask("/admin", **token)

    empty, refused, page, admin = asyncio.run(tour())
    assert (empty.status, empty.text) == (
        409,
        "No result yet: the study has no answers yet; collect some, then analyse again.\n",
    )
    assert refused.status == 401
    assert page.status == 200
    assert 'href="/admin/result"' in admin.text
    assert "<style" not in page.text, "the policy of the pages forbids it"
    site.database.close()
    _, paths = analyze_study(study_folder, resamples=2000, seed=0)
    written = paths[-1].read_text(encoding="utf-8")
    assert figures(page.text) == figures(written)
    assert len(figures(written)) > 50
    assert not list(study_folder.glob("**/analysis-*"))
