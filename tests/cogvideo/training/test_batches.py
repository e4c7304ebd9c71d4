"""Which rows a step gets: the phases of a recipe, every record once a pass, super-resolution from a flat file."""

from __future__ import annotations

import json
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
import torch

from cogvideo.data.record_card import Words
from cogvideo.data.records import Records, write_records
from cogvideo.errors import UserError
from cogvideo.network import Network, initialise_
from cogvideo.superres.direct import DirectSuperResolution
from cogvideo.training.batches import FrameBatches, RecordBatches, SuperresBatches, split_batches
from cogvideo.training.recipe import Phase, TextRules, TrainingRecipe
from cogvideo.training.tasks import SuperresTask

SLOW, FAST, GUIDER = 30, 31, 32


@pytest.fixture
def records(make_config, tmp_path):
    """Twelve records, every third of them at 1 frame a second, the others at 4; captions are their numbers' parity."""
    config = make_config()
    rows = np.full((12, config.text_len + config.frames * config.frame_len), config.pad_id)
    for number in range(12):
        duration = SLOW if number % 3 == 0 else FAST
        rows[number, :3] = (duration, config.newline_id, 33 + number % 2)
        rows[number, config.text_len :] = number
    write_records(tmp_path / "records.bin", rows, config)
    newline = config.newline_id
    words = Words(durations={"4.0": [SLOW, newline], "1.0": [FAST, newline]}, video=[GUIDER])
    return Records.open(tmp_path / "records.bin", config, words=words)


def recipe(**changes):
    settings = {"batch_size": 4, "phases": (Phase(3), Phase(5, 2.0))} | changes
    return TrainingRecipe("test", "stage1", "", size="tiny", **settings)


def numbers(batches, step):
    return [key.record for key in batches.keys(step)]


def test_phases(records):
    """Three steps of four are one pass over all twelve; then only the eight fast ones, twice in four steps."""
    batches = RecordBatches(records, recipe(), seed=1)
    assert sorted(number for step in (1, 2, 3) for number in numbers(batches, step)) == list(range(12))
    fast = [number for number in range(12) if number % 3]
    for steps in ((4, 5), (6, 7)):
        assert sorted(number for step in steps for number in numbers(batches, step)) == fast
    assert records.rates[SLOW, records.config.newline_id] == Fraction(1)


def test_rows_are_those_of_their_keys(records):
    """And a function of seed and step alone."""
    batches = RecordBatches(records, recipe(), seed=1)
    config = records.config
    for step in (1, 5):
        rows = batches.load(batches.keys(step))
        assert rows[:, config.text_len].tolist() == numbers(batches, step)
        again = RecordBatches(records, recipe(), seed=1)
        assert torch.equal(again.load(again.keys(step)), rows)
        one_by_one = torch.cat([batches.load([key]) for key in batches.keys(step)])
        assert torch.equal(one_by_one, rows)
    other = RecordBatches(records, recipe(), seed=2)
    assert numbers(other, 1) != numbers(batches, 1)


def test_captions_are_dropped(records):
    batches = RecordBatches(records, recipe(text=TextRules(drop=1.0)), seed=1)
    rows = batches.load(batches.keys(1))
    assert all(row[:3].tolist()[1:] == [records.config.newline_id, GUIDER] for row in rows)


def test_some_come_twice(records, tmp_path):
    """In a pass of 18 rows of 12 records; the second time is a pass of its own, whose chance differs."""
    parity = ("even", "odd")
    table = "\n".join(json.dumps({"caption": f"number {number} is {parity[number % 2]}"}) for number in range(12))
    (tmp_path / "records.jsonl").write_text(table + "\n", encoding="utf-8")
    batches = RecordBatches(records, recipe(batch_size=6, phases=(Phase(6),), often=("odd", "three")), seed=1)
    for first in (1, 4):
        keys = [key for step in range(first, first + 3) for key in batches.keys(step)]
        assert Counter(key.record for key in keys) == {number: 1 + number % 2 for number in range(12)}
        assert len(set(keys)) == 18
        assert {key.epoch // 2 for key in keys} == {first // 4}
        assert batches.load(keys)[:, records.config.text_len].tolist() == [key.record for key in keys]


@pytest.mark.parametrize("row", [{}, {"file": "a.avi"}, {"caption": None}])
def test_nobody_comes_twice_without_captions(records, tmp_path, row):
    if row:
        (tmp_path / "records.jsonl").write_text("\n".join([json.dumps(row)] * 12) + "\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"captions with odd are to come twice, but beside .*records.bin there is no"):
        RecordBatches(records, recipe(often=("odd",)), seed=1)


def test_a_phase_without_records(records):
    with pytest.raises(UserError, match="none of the 12 records"):
        RecordBatches(records, recipe(phases=(Phase(3), Phase(5, 8.0))), seed=1)


def test_frames():
    frames = np.arange(10 * 2 * 2 * 3, dtype=np.uint8).reshape(10, 2, 2, 3)
    batches = FrameBatches(frames, 5, seed=0)
    keys = [*batches.keys(1), *batches.keys(2)]
    assert sorted(key.record for key in keys) == list(range(10))
    assert np.array_equal(batches.load(keys[:5]).numpy(), frames[[key.record for key in keys[:5]]])


def test_superres(make_config, tmp_path):
    """Rows from a file to the loss of all cells, as the network itself gives it; text slots of another padding."""
    config = make_config(superres_text_len=6, patch=3)
    cells = config.superres_grid**2
    generator = np.random.Generator(np.random.Philox(0))
    rows = np.full((4, 6 + config.frame_len + cells), config.pad_id)
    rows[:, :2] = 30
    rows[:, 6:] = generator.integers(0, config.num_image_tokens, (4, config.frame_len + cells))
    rows.astype("<i4").tofile(tmp_path / "rows.bin")
    batches = SuperresBatches(tmp_path / "rows.bin", config, 2, seed=0)
    task = SuperresTask(initialise_(Network(config, "superres"), 0))
    keys = batches.keys(1)
    chosen = torch.from_numpy(rows[[key.record for key in keys]])
    found = task(task.prepare(batches.load(keys)))["loss"]
    found.backward()
    assert task.network.mixins.extra_position_embedding.position_embeddings.weight.grad.abs().sum() > 0
    with torch.no_grad():
        superres = DirectSuperResolution(task.network)
        prefix = superres.read(superres.text([[30, 30]] * 2, 6), chosen[:, 6 : 6 + config.frame_len])
        logits = task.network.image_logits(superres.hidden(prefix, torch.full((2, cells), config.boi_id)))
        expected = -logits.log_softmax(-1).gather(-1, chosen[:, -cells:, None]).mean()
    assert torch.allclose(found, expected, atol=1e-5)
    with pytest.raises(UserError, match="expected a file of int32 rows of 166 ids"):
        SuperresBatches(tmp_path / "none.bin", config, 2, seed=0)


def test_held_out_records_are_never_trained_on(records):
    """Whatever the seed; and they are the same for every seed."""
    found = set()
    for seed in (1, 2):
        training, held_out = split_batches(records, recipe(held_out=0.3), seed)
        trained = {number for step in range(1, 8) for number in numbers(training, step)}
        looked_at = {number for step in range(1, 8) for number in numbers(held_out, step)}
        assert trained
        assert looked_at
        assert not trained & looked_at
        found.add(frozenset(looked_at))
    assert len(found) == 1


def test_without_held_out_records_all_are_trained_on(records):
    training, held_out = split_batches(records, recipe(held_out=0.0), 1)
    assert held_out is None
    assert sorted(number for step in (1, 2, 3) for number in numbers(training, step)) == list(range(12))
