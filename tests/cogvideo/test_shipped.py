"""cogvideo-tiny, which comes with the package: the default of the command, small, and what its card says it is."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import cogeval
from cogvideo import shipped as module
from cogvideo.checkpoint.cards import read_card, read_pipeline_card
from cogvideo.errors import MissingPrerequisite
from cogvideo.pipeline import CogVideo
from cogvideo.shipped import shipped
from cogvideo.video import read_clip

PACKAGE = Path(module.__file__).parents[1]
PROMPT = "a red circle moving left"


@pytest.fixture(scope="module")
def model():
    return CogVideo.load(shipped(), superres=False)


def test_help_fits_into_80_columns_and_shows_an_example(capsys):
    assert cogeval.main(["generate", "--help"]) == 0
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 80
    assert 'cogeval generate "a red circle moving left"' in text


def test_all_small_networks_together_are_at_most_20_megabytes():
    files = [*(PACKAGE / "cogvideo" / "embedded").rglob("*"), *(PACKAGE / "eval" / "embedded").rglob("*")]
    assert sum(path.stat().st_size for path in files if path.is_file()) < 20_000_000


def test_the_card_says_how_it_was_made():
    card = read_pipeline_card(shipped())
    assert (card.name, card.language, card.frames) == ("cogvideo-tiny", "en", 17)
    assert card.licence == "Apache-2.0"
    assert "cogeval data shapes" in card.note
    assert "cogeval train embedded" in card.note
    assert read_card(shipped() / "stage2").shares == "stage1"


def test_without_the_files_it_says_so(monkeypatch, tmp_path):
    monkeypatch.setattr(module, "FOLDER", tmp_path)
    with pytest.raises(MissingPrerequisite, match="cogvideo-tiny is not in this installation"):
        shipped()


def test_the_command_uses_it_unless_told_otherwise(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cogeval.main(["generate", PROMPT, "--frames", "5", "--fps", "2", "--json", "--quiet"]) == 0
    (entry,) = json.loads(capsys.readouterr().out)["videos"]
    assert read_clip(tmp_path / entry["video"]).shape == (5, 64, 64, 3)
    sidecar = json.loads((tmp_path / entry["video"]).with_suffix(".json").read_text())
    assert sidecar["model"]["name"] == "cogvideo-tiny"
    assert not sidecar["model"]["is_random"]


def test_it_was_trained(model):
    """A red thing is on the left of where it was at first, in nearly all of eight key-frame clips."""
    videos = model.generate([PROMPT], samples=8, frames=5, fps=2.0, superres=False, seed=3)
    hits = 0
    for video in videos:
        redness = video.clip[..., 0].astype(float) - video.clip[..., 1:].max(-1)
        mass = np.clip(redness - 90, 0, None)
        if mass[0].sum() and mass[-1].sum():
            first, last = ((mass[t].sum(0) * np.arange(64)).sum() / mass[t].sum() for t in (0, -1))
            hits += last < first - 6
    assert hits >= 6
