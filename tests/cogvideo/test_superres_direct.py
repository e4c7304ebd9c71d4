"""Direct super-resolution: what must change nothing, what must change something, and who is refused."""

from dataclasses import replace

import pytest
import torch

from cogvideo.clusters import automatic_clusters
from cogvideo.config import ModelConfig
from cogvideo.errors import UserError
from cogvideo.network import Network
from cogvideo.superres import levels
from cogvideo.superres.direct import DirectSuperResolution, Schedule

SMALL = ModelConfig(
    num_layers=2,
    hidden_size=16,
    num_attention_heads=2,
    num_image_tokens=24,
    text_pieces=6,
    vocab_size=36,
    frames=5,
    grid=4,
    text_len=4,
    spare_text_len=0,
    max_sequence_length=32,
    image_position_offset=12,
    extra_positions=64,
    window=2,
    patch=3,
    superres_text_len=7,
    iterative_text_len=3,
)
TEXTS = [[25, 26, 27], [28], [], [29, 25, 26, 27, 28], [25, 26, 27]]
FRAMES = torch.randint(24, (5, 16), generator=torch.Generator().manual_seed(1))
TABLE = automatic_clusters(SMALL, 5)


def network(kind="superres", config=SMALL, seed=0):
    """Random parameters large enough that every part of the network matters."""
    made = Network(config, kind).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    for parameter in made.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return made


@pytest.fixture(scope="module")
def direct():
    return DirectSuperResolution(network())


def cells(frames, seed=2):
    return torch.randint(24, (frames, SMALL.superres_grid**2), generator=torch.Generator().manual_seed(seed))


def hidden(direct, texts=TEXTS, width=1):
    prefix = direct.read(direct.text(texts, width), FRAMES[: len(texts)])
    return direct.hidden(prefix, direct.inputs(cells(len(texts))))


@pytest.mark.parametrize("tile", [3, 6])
def test_tile_size_changes_nothing(direct, tile):
    other = DirectSuperResolution(direct.network, tile=tile)
    assert other.neighbourhood.tile_side == tile != direct.neighbourhood.tile_side
    assert (hidden(other) - hidden(direct)).abs().max() < 1e-5


def test_text_padding_changes_nothing(direct):
    """Padded to the longest, to every slot, or each text alone."""
    found = hidden(direct)
    assert (hidden(direct, width=SMALL.superres_text_len) - found).abs().max() < 1e-5
    for index, text in enumerate(TEXTS):
        prefix = direct.read(direct.text([text]), FRAMES[index : index + 1])
        alone = direct.hidden(prefix, direct.inputs(cells(len(TEXTS)))[index : index + 1])
        assert (alone - found[index]).abs().max() < 1e-5


def test_the_parts_are_the_whole(direct):
    whole = direct.forward(TEXTS, FRAMES, cells(5))
    assert whole.shape == (5, 7 + 16 + 144, 16)
    assert (whole[:, 23:] - hidden(direct)).abs().max() < 1e-5


def test_chosen_cells_are_those_of_all_cells(direct):
    prefix = direct.read(direct.text(TEXTS), FRAMES)
    chosen = torch.tensor([0, 17, 143, 60])
    some = direct.hidden(prefix, direct.inputs(cells(5)), chosen)
    assert torch.equal(some, hidden(direct)[:, chosen])


def test_text_and_low_resolution_reach_the_cells(direct):
    """Text only through the low-resolution tokens; a cell far from a changed one stays as it was."""
    found = hidden(direct)
    assert (hidden(direct, [[25, 26, 28], *TEXTS[1:]])[0] - found[0]).abs().max() > 1e-3
    changed = cells(5)
    changed[:, 143] = (changed[:, 143] + 1) % 24
    changed[:, 60] = (changed[:, 60] + 1) % 24
    prefix = direct.read(direct.text(TEXTS), FRAMES)
    moved = (direct.hidden(prefix, direct.inputs(changed)) - found).abs().amax((0, 2)).view(12, 12) > 1e-6
    # The token of cell 60 (5, 0) is fed one slot later, at (5, 1); two layers of 5 x 3 cells carry it so far.
    expected = torch.zeros(12, 12, dtype=torch.bool)
    expected[1:10, 0:4] = True
    assert torch.equal(moved, expected)


def test_draws_do_not_depend_on_the_batch(direct):
    seeds = torch.tensor([7, 7, 8, 2**40, -3])
    items = torch.tensor([0, 1, 0, 3, 4])
    schedule = Schedule(1, (2, 2))

    def draw(order, batch):
        return direct.upscale(
            [TEXTS[index] for index in order],
            FRAMES[order],
            TABLE,
            seeds=seeds[order],
            items=items[order],
            schedule=schedule,
            batch_frames=batch,
        )

    whole = draw([0, 1, 2, 3, 4], 12)
    assert torch.equal(draw([0, 1, 2, 3, 4], 1), whole)
    assert torch.equal(draw([0, 1, 2, 3, 4], 3), whole)
    assert torch.equal(draw([3, 0, 4], 2), whole[[3, 0, 4]])
    assert int(whole.min()) >= 0
    assert int(whole.max()) < 24
    assert len(whole.unique()) > 12


def test_seed_and_frame_number_decide_the_draw(direct):
    def draw(seed, item):
        return direct.upscale(TEXTS[:1], FRAMES[:1], TABLE, seeds=torch.tensor([seed]), items=torch.tensor([item]))

    assert torch.equal(draw(1, 1), draw(1, 1))
    for other in (draw(2, 1), draw(1, 2)):
        assert 0.1 < (other != draw(1, 1)).double().mean() < 1


def test_groups_share_text_and_seed(direct):
    """Two groups of two frames: frames of a group have numbers of their own."""
    grouped = direct.upscale(TEXTS[:2], FRAMES[[0, 0, 1, 1]], TABLE, seeds=torch.tensor([5, 6]))
    single = direct.upscale(
        [TEXTS[0], TEXTS[0], TEXTS[1], TEXTS[1]],
        FRAMES[[0, 0, 1, 1]],
        TABLE,
        seeds=torch.tensor([5, 5, 6, 6]),
        items=torch.tensor([0, 1, 0, 1]),
    )
    assert torch.equal(grouped, single)
    assert not torch.equal(grouped[0], grouped[1])


def test_one_step_is_the_logits_of_the_empty_grid(direct):
    """Greedy with one token a cluster is argmax, so the whole path can be said in one line."""
    empty = torch.full((5, 144), SMALL.boi_id)
    logits = direct.network.image_logits(direct.forward(TEXTS, FRAMES, empty)[:, 23:])
    found = direct.upscale(TEXTS, FRAMES, automatic_clusters(SMALL, 24), is_greedy=True)
    assert torch.equal(found, logits.argmax(-1))


def test_every_step_is_kept_and_diagonals_are_frozen(direct):
    schedule = Schedule(2, (2, 3))
    states = direct.upscale(TEXTS[:2], FRAMES[:2], TABLE, schedule=schedule, every_step=True, batch_frames=1)
    assert states.shape == (7, 2, 144)
    assert bool((states[0] == SMALL.boi_id).all())
    steps = schedule.steps(12)
    for before, after, drawn in zip(states[2:], states[3:], steps[2:], strict=False):
        kept = torch.ones(144, dtype=torch.bool)
        kept[drawn] = False
        assert torch.equal(before[:, kept], after[:, kept])


@pytest.mark.parametrize(("warmup", "block", "count"), [(1, (1, 0), 1), (0, (1, 1), 1), (2, (3, 3), 7), (1, (2, 5), 7)])
def test_schedules(warmup, block, count):
    steps = Schedule(warmup, block).steps(10)
    assert len(steps) == count
    if block != (1, 0):
        assert torch.cat(steps[warmup:]).sort().values.tolist() == list(range(100))


@pytest.mark.parametrize(("warmup", "block"), [(0, (1, 0)), (-1, (2, 2)), (1, (2, 0)), (1, (0, 0)), (0, (0, 3))])
def test_schedules_without_every_cell_are_refused(warmup, block):
    with pytest.raises(UserError, match="expected a warm-up"):
        Schedule(warmup, block)


def test_level_0_is_read_once_for_all_steps(direct, monkeypatch):
    reads = []
    monkeypatch.setattr(direct, "read", lambda *args: reads.append(1) or DirectSuperResolution.read(direct, *args))
    direct.upscale(TEXTS, FRAMES, TABLE, schedule=Schedule(2, (2, 2)), batch_frames=3)
    assert len(reads) == 2


def test_few_logits_are_alive_at_once(direct, monkeypatch):
    """The head sees a bounded number of cells, and only those that a step draws."""
    seen = []
    original = direct.network.image_logits
    monkeypatch.setattr(levels, "ROWS_OF_LOGITS", 50)
    monkeypatch.setattr(direct.network, "image_logits", lambda rows: seen.append(len(rows)) or original(rows))
    chunked = direct.upscale(TEXTS, FRAMES, TABLE, schedule=Schedule(1, (2, 2)))
    assert max(seen) == 50
    assert sum(seen) == 5 * (144 + 144)
    monkeypatch.undo()
    assert torch.equal(chunked, direct.upscale(TEXTS, FRAMES, TABLE, schedule=Schedule(1, (2, 2))))


def test_progress_counts_to_its_total(direct):
    calls = []
    direct.upscale(
        TEXTS, FRAMES, TABLE, schedule=Schedule(2, (1, 1)), batch_frames=2, progress=lambda *call: calls.append(call)
    )
    done = [call[0] for call in calls]
    assert done == sorted(set(done))
    assert calls[-1] == (15, 15)


def test_bfloat16(direct):
    half = DirectSuperResolution(network().to(torch.bfloat16))
    found, expected = hidden(half), hidden(direct)
    assert found.dtype == torch.bfloat16
    assert (found.float() - expected).abs().mean() < 0.02 * expected.abs().mean()
    assert half.upscale(TEXTS, FRAMES, TABLE).shape == (5, 144)


def test_gradients_reach_both_channels():
    """The forward serves training: level 0 through the base channel, level 1 through the second."""
    made = DirectSuperResolution(network().requires_grad_(True))
    made.forward(TEXTS, FRAMES, cells(5))[:, 23:].square().mean().backward()
    without = [name for name, parameter in made.network.named_parameters() if parameter.grad is None]
    assert without == []
    assert made.network.mixins.attention_plus.dense[0].weight.grad.abs().max() > 0
    assert made.network.layers[0].attention.query_key_value.weight.grad.abs().max() > 0


@pytest.mark.parametrize(
    ("texts", "frames", "message"),
    [
        ([[25] * 8], FRAMES, "up to 7 tokens, got 8"),
        ([[25], [26]], FRAMES, "the texts for each of 5 frames"),
        ([], FRAMES, "the texts for each of 5 frames"),
        ([[25]], FRAMES[:, :9], "frames of 16 low-resolution tokens"),
        ([[25]], FRAMES + 1, "below 24, got 1 to 24"),
        ([[25]], FRAMES - 1, "below 24, got -1 to 22"),
    ],
)
def test_bad_input_gets_one_line(direct, texts, frames, message):
    with pytest.raises(UserError, match=message):
        direct.upscale(texts, frames, TABLE)


def test_values_out_of_range_are_noticed():
    broken = network()
    broken.mixins.attention_plus.dense[0].weight.fill_(1e30)
    broken.transformer.layers[0].third_layernorm.weight.fill_(3e38)
    with pytest.raises(UserError, match="not finite in float32"):
        DirectSuperResolution(broken).upscale(TEXTS, FRAMES, TABLE)


def test_networks_that_cannot_are_refused():
    with pytest.raises(UserError, match="kind 'superres', got 'video'"):
        DirectSuperResolution(Network(SMALL, "video"))
    with pytest.raises(UserError, match="needs 29 base positions, got 28"):
        DirectSuperResolution(Network(replace(SMALL, max_sequence_length=28), "superres"))
