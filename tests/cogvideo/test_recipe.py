"""The record beside a video: names, keys, what counts as finished, and that nothing is half-written."""

from __future__ import annotations

import hashlib
import json
from dataclasses import fields, replace

import pytest

from cogvideo.errors import UserError
from cogvideo.recipe import NAME_LETTERS, Made, Recipe, content_sha256, is_finished, sidecar_of, write_sidecar

RECIPE = Recipe(
    prompt="A cat, dancing!",
    sample=0,
    seed=3,
    sample_seed=99,
    frames=33,
    fps=8.0,
    model={"name": "random-tiny", "sizes": {"grid": 8}},
    settings={"guidance_scale": 3.0, "between_guidance_scale": None},
)
OTHER = {
    "prompt": "A dog",
    "sample": 1,
    "seed": 4,
    "sample_seed": 98,
    "frames": 17,
    "fps": 4.0,
    "model": {"name": "random-tiny", "sizes": {"grid": 4}},
    "settings": {"guidance_scale": 2.0, "between_guidance_scale": None},
    "given": {"file": "a.png", "sha256": "0", "frames": 1},
    "device": "cuda",
    "dtype": "bfloat16",
}
MADE = Made(file="x.mp4", sha256="ab", width=8, height=8, batch=1, seconds={"decoding": 0.5})


def test_everything_that_decides_a_video_is_in_its_key():
    assert set(OTHER) == {field.name for field in fields(Recipe)}
    keys = {replace(RECIPE, **{name: value}).key() for name, value in OTHER.items()}
    assert len(keys | {RECIPE.key()}) == len(OTHER) + 1
    assert RECIPE.key() == replace(RECIPE).key()
    assert len(RECIPE.key()) == 8


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ("A cat, dancing!", "a-cat-dancing"),
        ("一只猫在跳舞。", "一只猫在跳舞"),
        ("../../etc/passwd", "etc-passwd"),
        ('con: \\ / ? * <x> | "', "con-x"),
        ("!!!", "video"),
        ("a" * 300, "a" * NAME_LETTERS),
        ("猫" * 100, "猫" * (NAME_LETTERS // 3)),
        ("Ein Käfer", "ein-käfer"),
    ],
)
def test_file_names_are_short_and_safe(prompt, words):
    recipe = replace(RECIPE, prompt=prompt, sample=7)
    assert recipe.stem() == f"{words}-7-{recipe.key()}"
    assert len(recipe.stem().encode()) < 80


def test_prompts_that_look_alike_have_names_of_their_own():
    stems = {replace(RECIPE, prompt=prompt).stem() for prompt in ("A cat", "a cat", "a cat!", "a  cat")}
    assert len(stems) == 4


@pytest.fixture
def video(tmp_path):
    path = tmp_path / f"{RECIPE.stem()}.mp4"
    path.write_bytes(b"pictures")
    return path


def test_a_sidecar_tells_recipe_and_result(video):
    path = write_sidecar(video, replace(RECIPE, prompt="一只猫"), MADE)
    assert path == sidecar_of(video) == video.with_suffix(".json")
    values = json.loads(path.read_text(encoding="utf-8"))
    assert values["prompt"] == "一只猫"
    assert "一只猫" in path.read_text(encoding="utf-8")
    assert values["recipe_version"] == 1
    assert values["settings"] == RECIPE.settings
    assert values["made"]["sha256"] == "ab"
    assert sorted(file.name for file in video.parent.iterdir()) == sorted([video.name, path.name])


def test_finished_is_what_has_its_video_and_the_same_recipe(video):
    assert not is_finished(video, RECIPE)
    path = write_sidecar(video, RECIPE, MADE)
    assert is_finished(video, RECIPE)
    for name, value in OTHER.items():
        assert not is_finished(video, replace(RECIPE, **{name: value})), name
    for damage in ("", "{", "[]", "null", '{"prompt": "A cat, dancing!"}'):
        path.write_text(damage)
        assert not is_finished(video, RECIPE)
    path.write_bytes(b"\xff\xfe")
    assert not is_finished(video, RECIPE)
    write_sidecar(video, RECIPE, MADE)
    video.unlink()
    assert not is_finished(video, RECIPE)


def test_a_sidecar_that_cannot_be_written_leaves_nothing(tmp_path):
    with pytest.raises(UserError, match=r"cannot write .*x.json"):
        write_sidecar(tmp_path / "nowhere" / "x.mp4", RECIPE, MADE)
    (tmp_path / "x.json").mkdir()
    with pytest.raises(UserError, match="cannot write"):
        write_sidecar(tmp_path / "x.mp4", RECIPE, MADE)
    assert [path.name for path in tmp_path.iterdir()] == ["x.json"]


def test_content_is_that_of_a_file_or_of_a_folder_in_order(tmp_path):
    for name, content in (("b.png", b"2"), ("a.png", b"1")):
        (tmp_path / name).write_bytes(content)
    assert content_sha256(tmp_path / "a.png") == hashlib.sha256(b"1").hexdigest()
    assert content_sha256(tmp_path) == hashlib.sha256(b"12").hexdigest()
