"""Iterative super-resolution: which cells a pass draws, what must change nothing, and who is refused."""

import pytest
import torch

from cogvideo.config import ModelConfig
from cogvideo.errors import UserError
from cogvideo.network import Network
from cogvideo.superres.iterative import PATTERN, TOP_K, IterativeSuperResolution, pass_numbers

SMALL = ModelConfig(
    num_layers=2,
    hidden_size=16,
    num_attention_heads=2,
    num_image_tokens=24,
    text_pieces=6,
    vocab_size=36,
    grid=5,
    text_len=4,
    spare_text_len=0,
    max_sequence_length=40,
    image_position_offset=12,
    extra_positions=100,
    window=5,
    patch=3,
    superres_scale=2,
    iterative_text_len=3,
)
TEXTS = [[25, 26], [27], [], [28, 29, 25, 26]]
CELLS = torch.randint(24, (4, 100), generator=torch.Generator().manual_seed(3))


def network(kind="iterative"):
    made = Network(SMALL, kind).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    for parameter in made.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return made


@pytest.fixture(scope="module")
def iterative():
    return IterativeSuperResolution(network())


def hidden(iterative, texts=TEXTS, width=1):
    return iterative.hidden(iterative.read(iterative.text(texts, width)), iterative.inputs(CELLS[: len(texts)], 1))


def test_pattern_is_repeated_and_cut():
    numbers = pass_numbers(10).view(10, 10)
    for row in range(10):
        for column in range(10):
            assert int(numbers[row, column]) == PATTERN[row % 6][column % 6]
    assert pass_numbers(12).view(12, 12)[6:, :6].tolist() == [list(row) for row in PATTERN]


def test_passes_draw_fewer_and_fewer_cells(iterative):
    """A cell is settled after the pass of its number, and cells below 1 keep what came in."""
    before = CELLS.clone()
    states = iterative.refine(TEXTS, CELLS, seeds=torch.tensor([4]), every_step=True)
    assert torch.equal(CELLS, before)
    assert len(states) == len(TOP_K) + 1
    numbers = pass_numbers(10)
    for number in range(1, 7):
        settled = numbers < number
        assert torch.equal(states[number][:, settled], states[number - 1][:, settled])
        drawn = (states[number] != states[number - 1])[:, ~settled]
        assert bool(drawn.any())
    assert torch.equal(states[-1][:, numbers < 1], CELLS[:, numbers < 1])


def test_masked_cells_are_not_seen(iterative):
    """What stood in a cell that this pass draws changes nothing."""
    other = torch.where(pass_numbers(10) >= 1, (CELLS + 5) % 24, CELLS)
    assert not torch.equal(other, CELLS)
    assert torch.equal(
        iterative.refine(TEXTS, other, seeds=torch.tensor([4])), iterative.refine(TEXTS, CELLS, seeds=torch.tensor([4]))
    )


def test_text_padding_and_tiles_change_nothing(iterative):
    found = hidden(iterative)
    assert (hidden(iterative, width=3) - found).abs().max() < 1e-5
    for tile in (2, 5):
        assert (hidden(IterativeSuperResolution(iterative.network, tile=tile)) - found).abs().max() < 1e-5
    for index, text in enumerate(TEXTS):
        prefix = iterative.read(iterative.text([text]))
        alone = iterative.hidden(prefix, iterative.inputs(CELLS, 1)[index : index + 1])
        assert (alone - found[index]).abs().max() < 1e-5
    whole = iterative.forward(TEXTS, iterative.inputs(CELLS, 1))
    assert (whole[:, 3:] - found).abs().max() < 1e-5


def test_text_is_cut_and_read(iterative):
    found = hidden(iterative)
    assert torch.equal(hidden(iterative, [*TEXTS[:3], TEXTS[3][:3]]), found)
    assert (hidden(iterative, [[25, 27], *TEXTS[1:]])[0] - found[0]).abs().max() > 1e-3


def test_draws_do_not_depend_on_the_batch(iterative):
    seeds, items = torch.tensor([7, 7, 9, 2**40]), torch.tensor([0, 1, 0, 3])

    def draw(order, batch):
        return iterative.refine(
            [TEXTS[index] for index in order], CELLS[order], seeds=seeds[order], items=items[order], batch_frames=batch
        )

    whole = draw([0, 1, 2, 3], 12)
    assert torch.equal(draw([0, 1, 2, 3], 1), whole)
    assert torch.equal(draw([3, 1], 2), whole[[3, 1]])
    same = iterative.refine([[25]], CELLS[[0, 0]], seeds=torch.tensor([1]))
    assert not torch.equal(same[0], same[1])


def test_draws_stay_among_the_likeliest(iterative):
    """One of one is the likeliest; one of two is one of the likeliest two, and not always the first."""
    prefix = iterative.read(iterative.text(TEXTS))
    cells = torch.nonzero(pass_numbers(10) >= 1)[:, 0]
    logits = iterative.network.image_logits(iterative.hidden(prefix, iterative.inputs(CELLS, 1), cells))
    one = iterative.refine(TEXTS, CELLS, top_k=(1,), seeds=torch.tensor([3]))[:, cells]
    two = iterative.refine(TEXTS, CELLS, top_k=(2,), seeds=torch.tensor([3]))[:, cells]
    greedy = iterative.refine(TEXTS, CELLS, top_k=(5,), is_greedy=True)[:, cells]
    assert torch.equal(one, logits.argmax(-1))
    assert torch.equal(greedy, one)
    assert bool((logits.topk(2).indices == two[..., None]).any(-1).all())
    assert 0.05 < (two != one).double().mean() < 0.5


def test_progress_and_bfloat16():
    calls = []
    half = IterativeSuperResolution(network().to(torch.bfloat16))
    found = half.refine(TEXTS, CELLS, batch_frames=3, progress=lambda *call: calls.append(call))
    assert found.shape == (4, 100)
    assert calls[-1] == (24, 24)


@pytest.mark.parametrize(
    ("texts", "cells", "message"),
    [
        ([[25]], CELLS[:, :25], "frames of 100 high-resolution tokens"),
        ([[25]], CELLS + 1, "below 24, got 1 to 24"),
        ([[25]] * 3, CELLS, "the texts for each of 4 frames"),
    ],
)
def test_bad_input_gets_one_line(iterative, texts, cells, message):
    with pytest.raises(UserError, match=message):
        iterative.refine(texts, cells)


def test_networks_of_another_kind_are_refused():
    with pytest.raises(UserError, match="kind 'iterative', got 'superres'"):
        IterativeSuperResolution(network("superres"))
