"""A site that the tests of this folder read."""

from __future__ import annotations

from pathlib import Path

import pytest

from reports.board.assemble import add_runs, add_studies, finish
from reports.board.document import Board
from reports.board.runs import Vouched
from reports.site.build import write_site
from reports.site.films import gather


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
