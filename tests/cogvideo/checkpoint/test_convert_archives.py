"""Archives as they are downloaded: unpacked, converted, and refused where they are damaged or not to be trusted."""

from __future__ import annotations

import hashlib
import shutil
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import cogeval
from cogvideo.checkpoint.convert import convert
from cogvideo.checkpoint.loading import load_network
from cogvideo.errors import MissingPrerequisite, UserError
from cogvideo.network import Network

Make = Callable[..., Path]


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def archive_of(folder: Path, inside: str = "cogvideo-stage1/") -> Path:
    archive = folder.with_name(f"{folder.name}.zip")
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as opened:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                opened.write(path, inside + path.relative_to(folder).as_posix())
        opened.writestr("README.md", "not needed")
    return archive


@pytest.mark.parametrize("inside", ["cogvideo-stage1/", "", "a/b/cogvideo-stage1/"])
def test_an_archive_is_converted_as_it_was_downloaded(
    make_released: Make, make_network: Callable[..., Network], tmp_path: Path, inside: str
) -> None:
    archive = archive_of(make_released(), inside)
    card = convert(archive, tmp_path / "out").card
    loaded = load_network(tmp_path / "out", "stage1", device="cpu").state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in make_network("stage1").state_dict().items())
    assert {name: file.sha256 for name, file in card.source.files.items()} == {archive.name: sha256(archive)}
    assert names(tmp_path) == ["cogvideo-stage1", "cogvideo-stage1.zip", "out"]
    assert names(tmp_path / "out") == ["card.json", "model.safetensors"]


def test_a_fetched_archive_is_found_by_its_name(
    make_released: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COGEVAL_HOME", str(tmp_path / "cache"))
    with pytest.raises(MissingPrerequisite, match="run `cogeval weights fetch cogvideo-stage1`"):
        convert("cogvideo-stage1", tmp_path / "out")
    archive = archive_of(make_released())
    assert cogeval.main(["weights", "add", "cogvideo-stage1", str(archive)]) == 0
    card = convert("cogvideo-stage1", tmp_path / "out").card
    assert (card.source.name, card.licence) == ("cogvideo-stage1", "CogVideo model licence")
    assert card.source.url == "https://lfs.aminer.cn/misc/cogvideo/cogvideo-stage1.zip"


@pytest.mark.parametrize(
    "name", ["../evil/latest", "/tmp/evil/latest", "a/../../latest", "C:\\x\\latest", "..\\latest"]
)
def test_names_that_lead_out_of_an_archive_are_refused(make_released: Make, tmp_path: Path, name: str) -> None:
    archive = archive_of(make_released())
    with zipfile.ZipFile(archive, "a") as opened:
        opened.writestr(zipfile.ZipInfo(name), "27000")
    before = names(tmp_path)
    with pytest.raises(UserError, match=r"has an entry that leads out of it, .*: do not trust this file"):
        convert(archive, tmp_path / "out")
    assert names(tmp_path) == before


def test_links_in_an_archive_are_refused(make_released: Make, tmp_path: Path) -> None:
    archive = archive_of(make_released())
    link = zipfile.ZipInfo("cogvideo-stage1/27001/mp_rank_00_model_states.pt")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(archive, "a") as opened:
        opened.writestr(link, "/etc/passwd")
    with pytest.raises(UserError, match="leads out of it"):
        convert(archive, tmp_path / "out")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda content: content[:-30], "is no zip archive, or it is cut short; fetch it again"),
        (lambda content: b"<html>" + bytes(500), "is no zip archive, or it is cut short; fetch it again"),
        (lambda content: b"", "is no zip archive"),
        (lambda content: content[:9000] + bytes(64) + content[9064:], "is damaged"),
    ],
)
def test_a_damaged_archive_is_told_of(
    make_released: Make, tmp_path: Path, spoil: Callable[[bytes], bytes], words: str
) -> None:
    archive = archive_of(make_released())
    archive.write_bytes(spoil(archive.read_bytes()))
    with pytest.raises(UserError, match=words):
        convert(archive, tmp_path / "out")
    assert names(tmp_path) == ["cogvideo-stage1", "cogvideo-stage1.zip"]


def test_an_encrypted_archive_is_told_of(make_released: Make, tmp_path: Path) -> None:
    archive = archive_of(make_released())
    content = bytearray(archive.read_bytes())
    start = content.find(b"PK\x01\x02")
    while start >= 0:
        content[start + 8] |= 1
        start = content.find(b"PK\x01\x02", start + 4)
    archive.write_bytes(content)
    with pytest.raises(UserError, match="is encrypted; unpack it yourself"):
        convert(archive, tmp_path / "out")


def test_an_archive_of_other_things_is_told_of(make_released: Make, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as opened:
        opened.writestr("x/readme.txt", "x")
    with pytest.raises(UserError, match="has to hold one released checkpoint, it holds no file `latest`"):
        convert(tmp_path / "a.zip", tmp_path / "out")
    both = archive_of(make_released(), "one/")
    with zipfile.ZipFile(both, "a") as opened:
        opened.writestr("two/latest", "1")
    with pytest.raises(UserError, match="it holds one, two"):
        convert(both, tmp_path / "out")


def test_what_is_wrong_in_an_archive_is_told_under_the_archives_name(make_released: Make, tmp_path: Path) -> None:
    folder = make_released()
    (folder / "latest").write_text("")
    archive = archive_of(folder)
    with pytest.raises(UserError) as caught:
        convert(archive, tmp_path / "out")
    assert str(caught.value).startswith(f"{archive}/latest is empty: ")
    assert "unpacked" not in str(caught.value)


def test_a_full_disk_is_told_of_before_work_starts(
    make_released: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = archive_of(make_released())
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=10_000))
    for source in (archive, make_released()):
        with pytest.raises(UserError, match=r"not enough room for .* kB are needed, 10.0 kB are free in"):
            convert(source, tmp_path / "out")
    assert names(tmp_path) == ["cogvideo-stage1", "cogvideo-stage1.zip"]
