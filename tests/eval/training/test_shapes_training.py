"""Training of the embedded detectors: the same weights from the same seed, cards that say how."""

import json
from collections import Counter

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file

from cogvideo.errors import UserError
from eval.commands.train_detectors import train_detectors
from eval.datasets.shapes_drawing import classes
from eval.detectors import shapes
from eval.detectors.weights import EMBEDDED
from eval.training import embedded, recipes
from eval.training.batches import draw_batch, prepare


@pytest.fixture(autouse=True)
def few_judged_clips_and_the_threads_as_they_were(monkeypatch):
    monkeypatch.setattr(recipes, "JUDGED_CLIPS", 64)
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def test_batches_depend_on_seed_and_step_alone():
    one, again, other = (draw_batch(classes("all"), 8, seed="s", step=step) for step in (3, 3, 4))
    assert (one.clips == again.clips).all()
    assert one.classes == again.classes
    assert (one.clips != other.clips).any()
    assert one.clips.shape == (8, 16, 64, 64, 3)


def test_spoilt_clips_stand_still_or_are_jumbled():
    batch = draw_batch(classes("all"), 64, seed="s", step=0, spoilt=1.0)
    assert set(Counter(batch.order)) == {"still", "jumbled"}
    for clip, order in zip(batch.clips, batch.order, strict=True):
        assert (clip == clip[0]).all() == (order == "still")
    assert set(draw_batch(classes("all"), 16, seed="s", step=0).order) == {"clean"}


def test_siblings_differ_in_the_shape_alone():
    batch = draw_batch(classes("all"), 16, seed="s", step=1, siblings=True)
    for first in range(0, 16, 4):
        family = batch.classes[first : first + 4]
        assert len({(of.colour, of.motion) for of in family}) == 1
        assert len({of.shape for of in family}) >= 3
        corners = batch.clips[first : first + 4, :, 0, 0].reshape(4, -1)
        assert (corners == corners[0]).all()


def test_pixels_are_those_of_the_protocol_and_noise_is_bounded():
    clips = draw_batch(classes("all"), 4, seed="s", step=2).clips
    plain, noisy = prepare(clips), prepare(clips, noise="n")
    assert plain.shape == (4, 3, 16, 64, 64)
    assert torch.allclose((plain + 1) * 127.5, torch.from_numpy(np.moveaxis(clips, -1, 1)).float(), atol=1e-4)
    assert 0 < (noisy - plain).abs().max() <= 0.16 + 1e-6
    assert (noisy == prepare(clips, noise="n")).all()
    assert plain.is_contiguous(memory_format=torch.channels_last_3d)


def test_the_same_seed_trains_the_same_weights(tmp_path):
    say = []
    first = recipes.make("frame-shapes", tmp_path / "a", steps=3, progress=say.append)
    second = recipes.make("frame-shapes", tmp_path / "b", steps=3, progress=say.append)
    third = recipes.make("frame-shapes", tmp_path / "c", steps=3, seed=1, progress=say.append)
    assert first.read_bytes() == second.read_bytes() != third.read_bytes()
    assert any("step 3 of 3" in line for line in say)


def test_what_is_made_loads_as_the_detector_and_has_a_whole_card(tmp_path):
    path = recipes.make("clip-shapes", tmp_path, steps=2, progress=lambda _: None)
    card = json.loads((tmp_path / "clip-shapes.json").read_text())
    shipped = json.loads((EMBEDDED / "clip-shapes.json").read_text())
    assert set(card) == set(shipped)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["clip-shapes.json", "clip-shapes.safetensors"]
    assert {t.dtype for t in load_file(path).values() if t.is_floating_point()} == {torch.float16}
    assert shapes.load_clip(path).encode_text(["a red square growing"]).shape == (1, 64)


def test_shipped_cards_follow_the_recipes():
    for name, recipe in recipes.RECIPES.items():
        card = json.loads((EMBEDDED / f"{name}.json").read_text())
        assert (card["steps"], card["data"], card["network"]) == (recipe.steps, recipe.data, recipe.network), name


def test_the_two_rounds_of_i3d_make_up_the_steps_of_its_card(monkeypatch):
    rounds = []
    monkeypatch.setattr(embedded, "fit", lambda _network, _loss, *, steps, lr, progress: rounds.append((steps, lr)))
    embedded.train_i3d(0, recipes.RECIPES["i3d-shapes"].steps, lambda _: None)
    assert rounds == [(1000, 3e-3), (900, 2e-3)]


def test_the_command_names_near_names_of_a_wrong_one(tmp_path):
    run = CliRunner().invoke(train_detectors, ["i3d-shape", "--out", str(tmp_path)])
    assert isinstance(run.exception, UserError)
    assert "did you mean i3d-shapes" in str(run.exception)


def test_a_folder_that_cannot_be_written_is_said_before_training(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        recipes.make("i3d-shapes", tmp_path / "file" / "deeper", progress=lambda _: None)
