"""Our one-token steps against the plain decoder of the benchmarks, which shares parameters with ours and no code.

Every class of position: after the text alone, at a frame's first and last cell, on both sides of a window's edge and
of the seam of a shifted layer, with guidance rows of unequal text length, and two frames side by side.
"""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest
import torch

from cogvideo.config import ModelConfig
from cogvideo.schedule import Slot
from cogvideo.windows import layer_windows

CONFIG = ModelConfig(
    num_layers=4,
    hidden_size=48,
    num_attention_heads=3,
    num_image_tokens=90,
    text_pieces=20,
    vocab_size=114,
    grid=8,
    text_len=11,
    spare_text_len=0,
    max_sequence_length=90,
    image_position_offset=20,
    extra_positions=256,
    window=4,
)
TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def sides(repository):
    """`benchmarks/decoding_sides.py`, imported as its own script would."""
    sys.path.insert(0, str(repository / "benchmarks"))
    try:
        import decoding_sides
    finally:
        sys.path.pop(0)
    return decoding_sides


@pytest.fixture(scope="module")
def network(sides):
    return sides.random_network(CONFIG, "cpu", torch.float32)


# Row and column 3|4 is a window's edge in even layers, 1|2 and 5|6 in odd ones, where 6 is beyond the seam.
CELLS = [0, 1, 3, 4, 7, 8, 13, 14, 27, 36, 45, 46, 54, 63]


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize(("name", "fed"), [("first", [0]), ("1", [1, 2, 4]), ("2", [3, 4])])
def test_same_logits(name, fed, batch, sides, network):
    stage = sides.stage(name, CONFIG)
    ours = sides.Ours(network, stage, batch, text_len=11)
    plain = sides.Plain(ours, sides.History(network, stage, ours.text))
    steps = [(Slot(at, stage.plan.order[at], cell),) for at in fed for cell in CELLS]
    assert sides.largest_difference(ours, plain, steps) < TOLERANCE


def test_same_logits_with_guidance_between_frames(sides, network):
    stage = sides.stage("2", CONFIG)
    stage = replace(stage, plan=replace(stage.plan, guidance_scale=3.0, text_bonus=0.0))
    ours = sides.Ours(network, stage, 2, text_len=11)
    assert ours.text.is_real.sum(1).tolist() == [11, 11, 8, 8]
    plain = sides.Plain(ours, sides.History(network, stage, ours.text))
    assert sides.largest_difference(ours, plain, [(Slot(4, 3, cell),) for cell in CELLS]) < TOLERANCE


def test_side_by_side(sides, network):
    """A step of two slots gives what the plain decoder gives for each alone, if they do not see each other."""
    stage = sides.stage("2", CONFIG)
    ours = sides.Ours(network, stage, 1, text_len=11, rings=2)
    history = sides.History(network, stage, ours.text)
    plain = sides.Plain(ours, history)
    pairs = [step for step in stage.steps(CONFIG, is_parallel=True) if len(step) == 2]
    assert pairs
    for step in pairs[:: len(pairs) // 6]:
        ours.fill(history)
        got = ours.logits(step)[0]
        for slot, row in zip(step, got, strict=True):
            plain.prepare((slot,))
            (reference,) = plain.logits((slot,))
            assert (row - reference[0]).abs().max() / reference.std() < TOLERANCE


def test_the_comparison_can_fail(sides, network):
    """A plain decoder whose windows are shifted elsewhere, or without the bonus, is told from ours."""
    stage = sides.stage("2", CONFIG)
    ours = sides.Ours(network, stage, 1, text_len=11)
    history = sides.History(network, stage, ours.text)
    step = (Slot(4, 3, 45),)
    for change in ({"window": 2}, {"text_bonus": 0.0}, {"has_plus": False}):
        plain = sides.Plain(ours, history)
        ours.fill(history)
        plain.prepare(step)
        plain.passes[0].plan = replace(stage.plan, **change)
        gap = (ours.logits(step)[:, 0] - plain.logits(step)[0]).abs().max()
        assert gap > 1e-2, change


def test_windows_of_the_plain_decoder(sides, network):
    """Its list of indices is what the windows of the masked forward say, layer for layer."""
    stage = sides.stage("2", CONFIG)
    ours = sides.Ours(network, stage, 1, text_len=11)
    plain = sides.Plain(ours, sides.History(network, stage, ours.text))
    for cell in CELLS:
        slot = Slot(3, 1, cell)
        plain.prepare((slot,))
        for layer in (0, 1):
            windows = layer_windows(CONFIG.grid, CONFIG.window, layer)
            near = windows.members(windows.groups[cell])
            expected = [fed * 64 + other for fed in range(3) for other in near]
            expected += [3 * 64 + other for other in near if other <= cell]
            assert plain.passes[0]._window(layer, slot) == expected
