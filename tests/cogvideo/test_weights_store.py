"""Weights on this machine: added, found in the caches of peers, verified, tampered with; and the catalogues."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import types
from pathlib import Path
from urllib.parse import urlsplit

import pytest

import cogvideo
from cogvideo.errors import MissingPrerequisite, UserError
from cogvideo.weights import WeightEntry, WeightStore, cache_home, load_catalogue, load_data_addresses
from cogvideo.weights.catalogue import OWN_CATALOGUE
from cogvideo.weights.pins import read_pin

BODY = b"\x80\x02weights"
SHA256 = hashlib.sha256(BODY).hexdigest()
PUBLIC = WeightEntry("public", "public.pt", "pickle", url="https://example.org/public.pt", sha256=SHA256)
PRIVATE = WeightEntry("private", "private.pt", "pickle", url="https://example.org/p.pt", size_bytes=7, purpose="tests")
HUGGING = WeightEntry(
    "clip", "open_clip_model.safetensors", "open_clip", open_clip=("ViT", "openai"), hf_repo="timm/vit", sha256=SHA256
)
CATALOGUE = {entry.name: entry for entry in (PUBLIC, PRIVATE, HUGGING)}
EVAL_CATALOGUE = Path(cogvideo.__file__).parents[1] / "eval" / "weights.toml"


@pytest.fixture(autouse=True)
def peers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Caches of PyTorch and Hugging Face that belong to the test."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    return tmp_path


@pytest.fixture
def store(tmp_path: Path) -> WeightStore:
    return WeightStore(CATALOGUE, home=tmp_path / "home")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.pt"
    path.write_bytes(BODY)
    return path


def test_absent_weights_name_the_command_the_address_and_the_size(store: WeightStore) -> None:
    with pytest.raises(MissingPrerequisite) as caught:
        store.get("private")
    line = str(caught.value)
    assert line.startswith("private (tests) is not on this machine: run `cogeval weights fetch private` ")
    assert "(https://example.org/p.pt, 7 bytes) or `cogeval weights add private FILE`" in line
    assert (caught.value.exit_code, store.status("private").state) == (3, "absent")
    assert not store.home.exists()  # looking writes nothing


def test_an_unknown_name_is_answered_with_near_ones(store: WeightStore) -> None:
    with pytest.raises(UserError, match=r"unknown weights 'pubic'; did you mean public\?") as caught:
        store.get("pubic")
    assert caught.value.exit_code == 2
    with pytest.raises(UserError, match="`cogeval weights list` shows all names"):
        store.fetch("zzz")


def test_an_added_file_is_copied_pinned_and_trusted_from_then_on(store: WeightStore, file: Path) -> None:
    added = store.add("private", file)
    file.unlink()
    assert added.path.read_bytes() == BODY
    assert (added.sha256, added.origin, added.is_verified) == (SHA256, "added", False)
    assert store.get("private") == store.verify("private") == added
    assert store.status("private").hash_state == "pinned"
    assert {path.name for path in added.path.parent.iterdir()} == {"private.pt", "pin.json", ".lock"}


def test_an_added_file_must_meet_the_public_hash(store: WeightStore, file: Path) -> None:
    assert store.add("public", file).is_verified
    file.write_bytes(b"else")
    with pytest.raises(UserError, match=rf"published is {SHA256}") as caught:
        store.add("public", file)
    assert caught.value.exit_code == 2
    assert store.verify("public").sha256 == SHA256
    assert file.read_bytes() == b"else"  # the user's own file is not ours to remove
    assert {path.name for path in store.folder("public").iterdir()} == {"public.pt", "pin.json", ".lock"}


def test_adding_again_replaces_a_file_without_public_hash(store: WeightStore, file: Path) -> None:
    store.add("private", file)
    file.write_bytes(b"newer")
    store.add("private", file)
    assert store.get("private").path.read_bytes() == b"newer"


def test_adding_the_file_that_lies_there_pins_it(store: WeightStore) -> None:
    lying = store.folder("private") / "private.pt"
    lying.parent.mkdir(parents=True)
    lying.write_bytes(BODY)
    with pytest.raises(MissingPrerequisite, match="without a pin"):
        store.get("private")
    assert store.add("private", lying).sha256 == store.get("private").sha256 == SHA256


@pytest.mark.parametrize("what", ["absent", "folder", "empty", "page"])
def test_what_cannot_be_weights_is_refused(store: WeightStore, tmp_path: Path, what: str) -> None:
    path = tmp_path / what
    match what:
        case "folder":
            path.mkdir()
        case "empty":
            path.touch()
        case "page":
            path.write_text("<html>log in</html>")
    with pytest.raises(UserError, match=r"is not there|is a folder|is empty|is a web page"):
        store.add("private", path)
    assert store.status("private").state == "absent"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_one_line(store: WeightStore, file: Path) -> None:
    file.chmod(0)
    with pytest.raises(UserError, match="permission denied"):
        store.add("private", file)


@pytest.mark.parametrize("name", ["public", "private"])
def test_a_changed_file_is_noticed_and_named(store: WeightStore, file: Path, name: str) -> None:
    path = store.add(name, file).path
    path.write_bytes(BODY + b"!")
    who = "published" if name == "public" else "pinned on 20"
    with pytest.raises(UserError, match=rf"{name}: {path} has sha256 .*, {who}.* is {SHA256}") as caught:
        store.get(name)
    assert caught.value.exit_code == 2
    assert (store.status(name).state, store.status(name).hash_state) == ("damaged", "wrong")


def test_a_change_that_keeps_size_and_time_is_seen_by_verify_alone(store: WeightStore, file: Path) -> None:
    path = store.add("private", file).path
    times = path.stat()
    path.write_bytes(BODY[::-1])
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert store.get("private").sha256 == SHA256
    with pytest.raises(UserError, match="pinned on"):
        store.verify("private")


def test_a_touched_file_is_hashed_once(store: WeightStore, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = store.add("private", file).path
    os.utime(path, ns=(1, 1))
    hashed = []
    monkeypatch.setattr("cogvideo.weights.store.file_sha256", lambda path: hashed.append(path) or SHA256)
    date = json.loads((path.parent / "pin.json").read_text())["date"]
    assert store.get("private") == store.get("private")
    assert hashed == [path]
    assert json.loads((path.parent / "pin.json").read_text())["date"] == date


def test_a_damaged_pin_is_no_pin(store: WeightStore, file: Path) -> None:
    for name in ("public", "private"):
        store.add(name, file)
        (store.folder(name) / "pin.json").write_text('{"sha256": ')
    assert store.get("public").is_verified  # the public hash still vouches for it
    with pytest.raises(MissingPrerequisite, match="without a pin"):
        store.get("private")


def test_the_cache_may_be_moved(store: WeightStore, file: Path, tmp_path: Path) -> None:
    store.add("private", file)
    store.home.rename(tmp_path / "elsewhere")
    assert WeightStore(CATALOGUE, home=tmp_path / "elsewhere").get("private").sha256 == SHA256


@pytest.mark.parametrize(
    ("name", "place"),
    [("public", "torch/hub/checkpoints/public.pt"), ("clip", "hf/hub/models--timm--vit/snapshots/abc/{}")],
)
def test_a_file_that_a_peer_fetched_is_used_where_it_is(store: WeightStore, peers: Path, name: str, place: str) -> None:
    path = peers / place.format(HUGGING.file)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"another file of that name")
    assert store.status(name).state == "absent"
    path.write_bytes(BODY)
    found = store.fetch(name)  # https://example.org is never asked
    assert (found.path, found.origin, found.is_verified) == (path, "found", True)
    assert [entry.name for entry in store.folder(name).iterdir()] == ["pin.json"]
    assert store.get(name) == found


def test_a_peers_file_without_public_hash_is_left_alone(store: WeightStore, peers: Path) -> None:
    path = peers / "torch/hub/checkpoints/private.pt"
    path.parent.mkdir(parents=True)
    path.write_bytes(BODY)
    assert store.status("private").state == "absent"


def test_open_clip_fetches_its_own_and_the_hash_is_checked(
    store: WeightStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stand-in for open_clip: what its downloader is told, and what becomes of its answer."""
    told = []
    blob = tmp_path / "blob.safetensors"

    def download_pretrained(config: dict[str, str], cache_dir: str | None) -> str:
        told.append((config, cache_dir))
        if not blob.exists():
            raise FileNotFoundError("Failed to download file (None) for timm/vit.\nLast error: offline")
        return str(blob)

    pretrained = types.SimpleNamespace(
        download_pretrained=download_pretrained, get_pretrained_cfg=lambda model, tag: {"model": model, "tag": tag}
    )
    monkeypatch.setitem(sys.modules, "open_clip", types.SimpleNamespace(pretrained=pretrained))
    with pytest.raises(
        MissingPrerequisite, match=r"open_clip says Failed to download file \(None\) for timm/vit\. Last"
    ):
        store.fetch("clip")
    blob.write_bytes(b"else")
    with pytest.raises(UserError, match=f"fetched by open_clip, has sha256 .*, expected {SHA256}"):
        store.fetch("clip")
    assert store.status("clip").state == "absent"
    blob.write_bytes(BODY)
    file = store.fetch("clip")
    assert (file.path, file.origin, file.is_verified) == (blob, "fetched", True)
    assert store.get("clip") == file
    assert told[-1] == ({"model": "ViT", "tag": "openai"}, None)
    monkeypatch.delenv("HF_HOME")
    (store.folder("clip") / "pin.json").unlink()
    store.fetch("clip")
    assert told[-1][1] == str(store.home / "open_clip")


def test_the_names_that_open_clip_is_asked_for_exist_there() -> None:
    """The catalogue against the installed open_clip: model, tag, repository, and QuickGELU as OpenAI trained it."""
    from open_clip import pretrained

    entry = load_catalogue(EVAL_CATALOGUE)["clip-vit-b-32"]
    assert entry.open_clip is not None
    config = pretrained.get_pretrained_cfg(*entry.open_clip)
    assert config["hf_hub"] == f"{entry.hf_repo}/"
    assert config["quick_gelu"]


def test_home_is_cogeval_home_else_the_users_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("COGEVAL_HOME", str(tmp_path / "not" / "made"))
    assert cache_home() == tmp_path / "not" / "made"
    assert not cache_home().exists()
    monkeypatch.delenv("COGEVAL_HOME")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_home().name == "cogeval"
    if sys.platform == "linux":
        assert cache_home() == tmp_path / "xdg" / "cogeval"


def test_a_home_that_cannot_be_written_is_one_line(tmp_path: Path, file: Path) -> None:
    (tmp_path / "home").write_text("a file where the folder should be")
    with pytest.raises(UserError, match=r"cannot write to .* or set COGEVAL_HOME to another folder"):
        WeightStore(CATALOGUE, home=tmp_path / "home").add("private", file)


def test_our_catalogues_are_complete_and_of_one_piece() -> None:
    rows = load_catalogue(EVAL_CATALOGUE, OWN_CATALOGUE)
    assert len(rows) == 18
    for row in rows.values():
        assert row.owner, row
        assert row.licence, row
        assert row.purpose, row
        assert bool(row.sha256) == bool(row.sha256_from), row
        assert len(row.sha256) in (0, 64), row
        assert set(row.sha256) <= set("0123456789abcdef"), row
        assert bool(row.open_clip) or urlsplit(row.url).scheme == "https", row
        assert Path(row.file).name == row.file, row
    assert rows["inception-fid"].sha256.startswith(rows["inception-fid"].file.split("-")[-1].removesuffix(".pth"))
    for address in load_data_addresses(EVAL_CATALOGUE).values():
        assert urlsplit(address.url).scheme == "https"
    assert set(load_data_addresses(EVAL_CATALOGUE)) == {"ucf101-videos", "ucf101-splits", "kinetics"}


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("[weights.a", "cannot read the catalogue"),
        ('[weights.a]\nfile = "a"\nform = "npz"\nurls = "x"', r"\[weights.a\] has unknown fields urls"),
        ('[weights.a]\nfile = "a"', r"\[weights.a\] is incomplete"),
    ],
)
def test_a_bad_catalogue_is_one_line(tmp_path: Path, text: str, line: str) -> None:
    path = tmp_path / "weights.toml"
    path.write_text(text)
    with pytest.raises(UserError, match=line):
        load_catalogue(path)


def test_a_name_is_given_once(tmp_path: Path) -> None:
    path = tmp_path / "weights.toml"
    path.write_text('[weights.coglm]\nfile = "a"\nform = "npz"')
    with pytest.raises(UserError, match=r"\[weights\.coglm\] is in another catalogue too"):
        load_catalogue(OWN_CATALOGUE, path)


def test_a_pin_survives_being_read(store: WeightStore, file: Path) -> None:
    store.add("private", file)
    pin = read_pin(store.folder("private"))
    assert pin is not None
    assert (pin.sha256, pin.size, pin.origin, pin.path) == (SHA256, len(BODY), "added", "")
    assert pin.url == str(file)


def test_weights_load_no_torch_and_no_numpy() -> None:
    code = "import sys, cogvideo.weights; print(sorted({'torch', 'numpy', 'open_clip', 'rich'} & set(sys.modules)))"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout == "[]\n"
