"""Sizes: the release's constants come out of one record, and sizes that cannot be built say why."""

from __future__ import annotations

import pytest

from cogvideo.config import SIZES, ModelConfig, get_size
from cogvideo.errors import UserError


def test_release():
    """Every constant of the fact sheet, from the record's defaults."""
    release = get_size("release")
    assert release.layout() == ModelConfig().layout()
    assert (release.head_dim, release.frame_len, release.max_text_len, release.shift) == (64, 400, 74, 5)
    assert (release.superres_grid, release.frame_pixels, release.superres_pixels) == (60, 160, 480)
    assert (release.pad_id, release.newline_id, release.boi_id) == (20003, 20004, 150000)
    assert release.image_position_offset + release.frame_len == 912
    assert release.text_len + release.frames * release.frame_len == 2064
    assert release.superres_text_len + release.frame_len + release.superres_grid**2 == 4096
    assert release.iterative_text_len + release.superres_grid**2 == 3616


@pytest.mark.parametrize("name", SIZES)
def test_named_sizes(name):
    assert get_size(name) is SIZES[name]
    assert get_size(name).name == name
    assert "name" not in get_size(name).layout()


@pytest.mark.parametrize("name", ["small", "medium"])
def test_measuring_sizes_have_the_releases_geometry(name):
    narrow = {"num_layers", "hidden_size", "num_attention_heads"}
    ours, release = get_size(name).layout(), get_size("release").layout()
    assert {key for key in ours if ours[key] != release[key]} <= narrow


@pytest.mark.parametrize(("wrong", "near"), [("tinny", "tiny"), ("releases", "release")])
def test_unknown_size_names_the_near_one(wrong, near):
    with pytest.raises(UserError, match=f"unknown size '{wrong}'.*did you mean {near}") as error:
        get_size(wrong)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"hidden_size": 3000}, "multiple of num_attention_heads"),
        ({"window": 7}, "grid must be a multiple of window"),
        ({"max_sequence_length": 900}, "base position table"),
        ({"text_len": 510}, "text must fit"),
        ({"extra_positions": 1599}, "extra_positions"),
        ({"vocab_size": 150002}, "vocab_size"),
    ],
)
def test_sizes_that_cannot_be_built(changes, reason):
    with pytest.raises(UserError, match=reason) as error:
        ModelConfig(**changes)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("size", [0, -1])
@pytest.mark.parametrize(
    "field",
    [
        "num_layers",
        "hidden_size",
        "num_attention_heads",
        "num_image_tokens",
        "frames",
        "grid",
        "text_len",
        "window",
        "patch",
        "superres_scale",
        "compress_rate",
    ],
)
def test_sizes_are_positive(field, size):
    """One line, whatever else the size breaks."""
    with pytest.raises(UserError, match="positive"):
        ModelConfig(**{field: size})


def test_the_smallest_that_fits():
    """Just enough rows for the fifth frame, as the release has to spare."""
    assert ModelConfig(extra_positions=1600, max_sequence_length=912, vocab_size=150003).frames == 5
