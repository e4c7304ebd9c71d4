"""Folders of networks, ours and the release's: what is in them, and which part is missing."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import cogeval
from cogvideo.checkpoint.cards import PipelineCard, read_card, read_pipeline_card, write_card
from cogvideo.checkpoint.images import image_tokenizer_at
from cogvideo.checkpoint.loading import load_network
from cogvideo.checkpoint.parts import find_parts
from cogvideo.config import ModelConfig
from cogvideo.errors import MissingPrerequisite, UserError
from cogvideo.network import Network
from cogvideo.vqvae.config import IMAGE_TOKENIZERS
from cogvideo.vqvae.image_tokenizer import ImageTokenizer

FOLDERS = {
    "stage1": "cogvideo-stage1",
    "stage2": "cogvideo-stage2",
    "superres": "cogview2-dsr",
    "iterative": "cogview2-itersr",
    "image": "coglm",
}


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("COGEVAL_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def sat_home(tmp_path: Path, make_released: Callable[..., Path]) -> Path:
    """All that the release consists of, small."""
    home = tmp_path / "sat"
    for part, name in FOLDERS.items():
        make_released(part, folder=home / name)
    torch.manual_seed(0)
    tokenizer = ImageTokenizer(IMAGE_TOKENIZERS["tiny"])
    torch.save({"module": tokenizer.state_dict() | {"loss.weight": torch.ones(1)}}, home / "ice_image.pt")
    np.save(home / "cluster_label2.npy", np.arange(40) % 7)
    (home / "ice_text.model").write_bytes(b"pieces")
    return home


def test_the_releases_folder_is_recognised_as_it_is(sat_home: Path) -> None:
    parts = find_parts(sat_home)
    assert (parts.form, parts.card.language) == ("released", "zh")
    found = {role: getattr(parts, role) for role in FOLDERS}
    assert found == {role: sat_home / name for role, name in FOLDERS.items()}
    assert parts.image_tokenizer == sat_home / "ice_image.pt"
    assert (parts.clusters, parts.text_model) == (sat_home / "cluster_label2.npy", sat_home / "ice_text.model")


def test_the_whole_folder_is_converted(
    sat_home: Path,
    tmp_path: Path,
    small: ModelConfig,
    make_network: Callable[..., Network],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cogeval.main(["convert", str(sat_home), str(tmp_path / "ours"), "--quiet"]) == 0
    out, err = capsys.readouterr()
    assert [line.split()[0] for line in out.splitlines() if not line.startswith(" ")] == [
        *("stage1", "stage2", "superres", "iterative", "image", "image-tokenizer")
    ]
    assert err == f"warning: {sat_home / 'ice_image.pt'} has 1 tensors that are not used (loss.weight)\n"
    parts = find_parts(tmp_path / "ours")
    assert (parts.form, parts.card.name, parts.card.language) == ("native", "ours", "zh")
    assert read_pipeline_card(tmp_path / "ours").sizes == read_card(tmp_path / "ours" / "stage1").sizes
    for role in FOLDERS:
        ours, theirs = load_network(getattr(parts, role), role, device="cpu"), make_network(role)
        assert all(torch.equal(ours.state_dict()[name], tensor) for name, tensor in theirs.state_dict().items())
    assert parts.text_model is not None
    assert parts.text_model.read_bytes() == b"pieces"
    assert parts.clusters == tmp_path / "ours" / "clusters.npy"
    assert np.load(parts.clusters).tolist() == [i % 7 for i in range(40)]
    assert not list(tmp_path.glob(".*"))


def test_the_image_tokenizer_is_the_same_from_either_folder(sat_home: Path, tmp_path: Path) -> None:
    from cogvideo.checkpoint.convert import convert

    convert(sat_home / "ice_image.pt", tmp_path / "image_tokenizer", notify=lambda line: None)
    card = read_card(tmp_path / "image_tokenizer")
    assert (card.kind, card.size, card.sizes) == ("image-tokenizer", "tiny", {})
    ours, theirs = image_tokenizer_at(tmp_path / "image_tokenizer"), image_tokenizer_at(sat_home / "ice_image.pt")
    assert ours.config.name == "tiny"
    frames = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    assert torch.equal(ours.encode(frames, 8), theirs.encode(frames, 8))
    state = ours.state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in theirs.state_dict().items())


def test_an_image_tokenizer_that_lacks_tensors_is_refused(sat_home: Path, tmp_path: Path) -> None:
    from cogvideo.checkpoint.convert import convert

    state = torch.load(sat_home / "ice_image.pt")["module"]
    del state["enc.conv_out.bias"]
    torch.save({"module": state}, tmp_path / "ice_image.pt")
    with pytest.raises(UserError, match=r"1 missing \(enc.conv_out.bias\)"):
        convert(tmp_path / "ice_image.pt", tmp_path / "x")


@pytest.mark.parametrize("role", ["stage1", "stage2"])
def test_a_part_that_is_needed_and_absent_is_named(sat_home: Path, role: str) -> None:
    shutil.rmtree(sat_home / FOLDERS[role])
    line = rf"has no {role}( \(frames\))?: expected .*{FOLDERS[role]}; `cogeval weights fetch {FOLDERS[role]}`"
    with pytest.raises(MissingPrerequisite, match=line):
        find_parts(sat_home).require(role, "frames")


def test_what_the_releases_folder_lacks_may_lie_in_the_cache(
    sat_home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (sat_home / "ice_image.pt").rename(tmp_path / "ice_image.pt")
    with pytest.raises(
        MissingPrerequisite, match=r"has no image_tokenizer: .*`cogeval weights fetch ice-image-tokenizer`"
    ):
        find_parts(sat_home)
    assert cogeval.main(["weights", "add", "ice-image-tokenizer", str(tmp_path / "ice_image.pt")]) == 0
    assert find_parts(sat_home).image_tokenizer == tmp_path / "cache/weights/ice-image-tokenizer/ice_image.pt"
    capsys.readouterr()


def test_an_archive_beside_is_told_of(sat_home: Path) -> None:
    shutil.make_archive(str(sat_home / "cogvideo-stage1"), "zip", sat_home, "cogvideo-stage1")
    shutil.rmtree(sat_home / "cogvideo-stage1")
    with pytest.raises(MissingPrerequisite, match=r"has no stage1: .*; unpack cogvideo-stage1.zip there"):
        find_parts(sat_home)


def test_a_folder_of_ours_needs_no_card_of_its_own(sat_home: Path, tmp_path: Path) -> None:
    from cogvideo.checkpoint.convert import convert

    convert(sat_home / "cogvideo-stage1", tmp_path / "mine" / "stage1")
    with pytest.raises(MissingPrerequisite, match=r"mine has no image_tokenizer: expected .*mine/image_tokenizer; "):
        find_parts(tmp_path / "mine")
    convert(sat_home / "ice_image.pt", tmp_path / "mine" / "image_tokenizer", notify=lambda line: None)
    parts = find_parts(tmp_path / "mine")
    assert (parts.form, parts.card.name, parts.stage2) == ("native", "mine", None)
    write_card(tmp_path / "mine", PipelineCard(name="better", language="en"))
    assert find_parts(tmp_path / "mine").card.name == "better"
    with pytest.raises(UserError, match="give the folder above it"):
        find_parts(tmp_path / "mine" / "stage1")


@pytest.mark.parametrize(
    ("content", "words"),
    [("{", "is damaged"), ('{"name": 3}', "name: "), ('{"name": "a", "format": "cogeval-pipeline-9"}', "format: ")],
)
def test_a_damaged_pipeline_card_is_told_of(tmp_path: Path, content: str, words: str) -> None:
    (tmp_path / "pipeline.json").write_text(content)
    with pytest.raises(UserError, match=f"pipeline.json .*{words}"):
        find_parts(tmp_path)


def test_other_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"expected a folder of CogVideo networks at .*, there is nothing"):
        find_parts(tmp_path / "none")
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(UserError, match=r"is no folder of CogVideo networks: .* saw notes.txt"):
        find_parts(tmp_path)


def test_one_kind_for_a_folder_of_several_is_refused(
    sat_home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cogeval.main(["convert", str(sat_home), str(tmp_path / "x"), "--kind", "stage1"]) == 2
    assert "holds several" in capsys.readouterr().err


def test_nothing_is_left_of_a_folder_whose_last_part_fails(sat_home: Path, tmp_path: Path) -> None:
    from cogvideo.checkpoint.convert_folder import convert_folder

    (sat_home / "ice_image.pt").write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"ice_image.pt"):
        convert_folder(sat_home, tmp_path / "ours")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["sat"]


def test_json_is_one_object(sat_home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cogeval.main(["convert", str(sat_home), str(tmp_path / "ours"), "--json", "--quiet"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert [one["card"]["kind"] for one in answer["converted"]][:2] == ["stage1", "stage2"]
    assert answer["converted"][0]["folder"] == str(tmp_path / "ours" / "stage1")
